//! What a machine is: one value that a host drives. The crate's root says what they owe each other.

mod cx;
mod pending;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fact::{Metric, Report};
use crate::base::time::{Next, Now};
use crate::ha::fact::Fact;
use crate::ha::spiel;
use crate::{consul, exec, fifo, file, http, net};

pub use cx::{Cx, Failure, FailureKind, Kept, Kinds, Limits, Named, Outcome};
pub use pending::Pending;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection.
    Net(net::Event),
    /// Consul answered, or will not.
    Consul(consul::port::Reply),
    /// Motr's library answered a call, or refuses it.
    Spiel(spiel::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// An answer that stayed open is over.
    HttpStream(http::stream::Closed),
    /// A helper program started, said something or ended.
    Exec(exec::Event),
    /// A file was written, read or removed, or could not be.
    File(file::Event),
    /// A request arrived over named pipes.
    Fifo(fifo::Request),
    /// Finish what was begun and exit.
    Stop,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<F = Fact> {
    /// With a TCP connection.
    Net(net::Command),
    /// At Consul.
    Consul(consul::port::Command),
    /// Ask Motr's library; not unless the configuration says that there is one.
    Spiel(spiel::Call),
    /// Answer an HTTP request.
    Http(Box<http::port::Response>),
    /// Begin, continue or end an answer that stays open.
    HttpStream(http::stream::Command),
    /// Start or end a helper program.
    Exec(exec::Command),
    /// Write, read or remove a file.
    File(file::Command),
    /// Answer a request that came over named pipes.
    Fifo(fifo::Response),
    /// Log and count.
    Fact(F),
}

impl<F> From<consul::port::Command> for Output<F> {
    fn from(command: consul::port::Command) -> Self {
        Self::Consul(command)
    }
}

impl<F> From<Box<http::port::Response>> for Output<F> {
    fn from(response: Box<http::port::Response>) -> Self {
        Self::Http(response)
    }
}

impl<F> From<http::stream::Command> for Output<F> {
    fn from(command: http::stream::Command) -> Self {
        Self::HttpStream(command)
    }
}

impl<F> From<exec::Command> for Output<F> {
    fn from(command: exec::Command) -> Self {
        Self::Exec(command)
    }
}

impl<F> From<file::Command> for Output<F> {
    fn from(command: file::Command) -> Self {
        Self::File(command)
    }
}

impl<F> From<fifo::Response> for Output<F> {
    fn from(response: fifo::Response) -> Self {
        Self::Fifo(response)
    }
}

impl<F: From<Failure>> From<Failure> for Output<F> {
    fn from(failure: Failure) -> Self {
        Self::Fact(failure.into())
    }
}

impl From<Failure> for Fact {
    fn from(Failure { call, what, why, kind }: Failure) -> Self {
        match kind {
            FailureKind::New => Self::ConsulFailed { call, what, why },
            FailureKind::Again => Self::ConsulFailsStill { call, what, why },
            FailureKind::Refused => Self::ConsulRefuses { call, what, why },
        }
    }
}

/// A value that takes inputs and emits outputs, and knows nothing of sockets, clocks and threads.
pub trait Machine {
    /// What it reports that it did or saw.
    type Fact: Report;

    /// Its gauges, in the order of [`gauges`](Self::gauges): none unless it says so.
    const GAUGES: &'static [Metric] = &[];

    /// Takes one input and appends, in order, all that follows from it. What is due fires in the same call,
    /// after the input, whatever the input is.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Self::Fact>>) -> Next;

    /// How many blocking queries it may have at Consul at once. A host with few connections keeps that many
    /// of them for these, so that no query waits behind another.
    fn blocking_queries(&self) -> usize;

    /// The values of [`GAUGES`](Self::GAUGES).
    fn gauges(&self) -> impl Iterator<Item = u64> {
        core::iter::empty()
    }

    /// How it does.
    fn status(&self) -> Status;

    /// Why it has exited, or would if it exited now.
    fn exit(&self) -> ExitReason;
}

/// How a machine does, for whoever supervises the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A few words, for `systemctl status`.
    pub text: &'static str,
    /// A stop has begun.
    pub stopping: bool,
}

/// Why a machine has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to, and has finished what was begun.
    Stopped,
    /// It was told to, and had to leave something undone.
    DrainTimedOut,
    /// Something happened on which the specification demands an exit.
    UnexpectedMessage,
}
