//! The machine: one value driven by a host. The crate's root documents the contract between the two.

mod cx;
mod pending;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fact::{Metric, Report};
use crate::base::time::{Next, Now};
use crate::ha::fact::Fact;
use crate::ha::spiel;
use crate::{consul, exec, fifo, file, http, keeper, net, state};

pub use cx::{Cx, Failure, FailureKind, Kept, Kinds, Limits, Named, Outcome};
pub use pending::Pending;

/// One input of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline returned last has been reached.
    Tick,
    /// An event of a TCP connection.
    Net(net::Event),
    /// Consul responded, or no response will come.
    Consul(consul::port::Reply),
    /// Motr's library answered or refused a call.
    Spiel(spiel::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// An open HTTP response has ended.
    HttpStream(http::stream::Closed),
    /// A helper program started, produced output or ended.
    Exec(exec::Event),
    /// A file operation succeeded or failed.
    File(file::Event),
    /// A request arrived over named pipes.
    Fifo(fifo::Request),
    /// The node's keeper answered or reported an event, or it can no longer be reached.
    Keeper(keeper::port::Event),
    /// The machine is to finish the work in progress and exit.
    Stop,
}

/// One output of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<F = Fact> {
    /// A command for a TCP connection.
    Net(net::Command),
    /// A request to Consul.
    Consul(consul::port::Command),
    /// A call to Motr's library; emitted only if the configuration says that the library is there.
    Spiel(spiel::Call),
    /// The response to an HTTP request.
    Http(Box<http::port::Response>),
    /// The beginning, continuation or end of an open HTTP response.
    HttpStream(http::stream::Command),
    /// The start or end of a helper program.
    Exec(exec::Command),
    /// A write, read or removal of a file.
    File(file::Command),
    /// The response to a request over named pipes.
    Fifo(fifo::Response),
    /// A request to the node's keeper.
    Keeper(Box<keeper::port::Command>),
    /// State to be kept for the next life, before any output that follows.
    State(state::Command),
    /// A fact to log and count.
    Fact(F),
}

impl<F> Output<F> {
    /// Converts the fact, if the output is one.
    #[must_use]
    pub fn map_fact<G>(self, convert: impl FnOnce(F) -> G) -> Output<G> {
        match self {
            Self::Net(command) => Output::Net(command),
            Self::Consul(command) => Output::Consul(command),
            Self::Spiel(call) => Output::Spiel(call),
            Self::Http(response) => Output::Http(response),
            Self::HttpStream(command) => Output::HttpStream(command),
            Self::Exec(command) => Output::Exec(command),
            Self::File(command) => Output::File(command),
            Self::Fifo(response) => Output::Fifo(response),
            Self::Keeper(command) => Output::Keeper(command),
            Self::State(command) => Output::State(command),
            Self::Fact(fact) => Output::Fact(convert(fact)),
        }
    }
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

impl<F> From<keeper::port::Command> for Output<F> {
    fn from(command: keeper::port::Command) -> Self {
        Self::Keeper(Box::new(command))
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

/// A state machine with inputs and outputs. It has no access to sockets, clocks and threads.
pub trait Machine {
    /// The machine's facts.
    type Fact: Report;

    /// The machine's gauges, in the order of [`gauges`](Self::gauges). The default is none.
    const GAUGES: &'static [Metric] = &[];

    /// Takes one input and appends the resulting outputs in order.
    ///
    /// Due timers fire in the same call, after the input, whatever the input is.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Self::Fact>>) -> Next;

    /// Returns the maximum number of concurrent blocking queries at Consul.
    ///
    /// A host with few connections reserves that many of them for these queries, so that no query waits
    /// behind another.
    fn blocking_queries(&self) -> usize;

    /// Returns the values of [`GAUGES`](Self::GAUGES).
    fn gauges(&self) -> impl Iterator<Item = u64> {
        core::iter::empty()
    }

    /// Returns the machine's status.
    fn status(&self) -> Status;

    /// Returns the reason of the exit, or that of an exit now.
    fn exit(&self) -> ExitReason;
}

/// A machine's status, for the supervisor of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// A short text for `systemctl status`.
    pub text: &'static str,
    /// A stop has begun.
    pub stopping: bool,
}

/// The reason of a machine's exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to stop and has finished the work in progress.
    Stopped,
    /// It was told to stop and had to leave work unfinished.
    DrainTimedOut,
    /// An unexpected message arrived: the specification demands an exit.
    UnexpectedMessage,
}
