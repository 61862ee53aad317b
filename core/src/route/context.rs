//! What a handler of the server may do.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fact::Fact;
use super::request::Answer;
use crate::base::id::{FifoId, FileId};
use crate::fifo::Response;
use crate::file::{Command, PRIVATE, Write};
use crate::machine::{self, Kinds, Named, Output};

/// What a call to Consul is for: groups and the peer's watch make their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {}

impl Named for Call {
    fn name(&self) -> &'static str {
        match *self {}
    }
}

/// The server's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The file could not be written.
    Rewrite,
    /// A stop waits no longer.
    Drain,
    /// A stop waits no longer for Consul.
    Leave,
    /// What may not act yet may by now, or never.
    Parked,
    /// It is seen whether routes lead where they should.
    Sweep,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Rewrite => "rewrite",
            Self::Drain => "drain",
            Self::Leave => "leave",
            Self::Parked => "parked",
            Self::Sweep => "sweep",
        }
    }
}

#[derive(Debug)]
pub(super) struct RouteKinds;

impl Kinds for RouteKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

pub(super) type Cx<'a> = machine::Cx<'a, RouteKinds>;

impl machine::Cx<'_, RouteKinds> {
    /// Answers a client.
    pub(super) fn answer(&mut self, client: FifoId, answer: &Answer) {
        if answer.exit != 0 {
            self.emit(Fact::Refused { why: answer.text.as_str().into() });
        }
        self.emit(Response { id: client, body: answer.encode().into_bytes().into() });
    }

    /// Writes a file that only its owner may read.
    pub(super) fn write(&mut self, id: FileId, path: Box<str>, content: Vec<u8>) {
        let write = Write { id, path, mode: PRIVATE, content: content.into() };
        self.emit(Command::Write(Box::new(write)));
    }
}
