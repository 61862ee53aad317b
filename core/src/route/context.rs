//! The context of the server's handlers, and the actions it offers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fact::Fact;
use super::request::Answer;
use crate::base::id::{FifoId, FileId};
use crate::fifo::Response;
use crate::file::{Command, PRIVATE, Write};
use crate::machine::{self, Kinds, Named, Output};

/// The calls to Consul of the server itself: none. Groups and the watch of the other router have their own
/// calls.
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
    /// Retries a failed write of the file.
    Rewrite,
    /// Ends the wait of a stop for running event handlers.
    Drain,
    /// Ends the wait of a stop for Consul.
    Leave,
    /// Checks parked events again: whether they may be handled now, or are to be refused.
    Parked,
    /// Begins the next sweep, which checks whether the routes lead to the right router.
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
    /// Sends the reply to a client.
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
