//! The purposes of a counter's calls and timers, and the context of its handlers.

use hax_core::machine::{self, Kinds, Named, Output};
use hax_core::store::lease;

use super::fact::Fact;

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CounterCall {
    /// The check whether the name of the increment at the front is written.
    FindName,
    /// The read of the count.
    Read,
    /// The write.
    Write,
    Lease(lease::Call),
}

impl Named for CounterCall {
    fn name(&self) -> &'static str {
        match self {
            Self::FindName | Self::Read | Self::Write => "counting",
            Self::Lease(call) => call.name(),
        }
    }
}

impl From<lease::Call> for CounterCall {
    fn from(call: lease::Call) -> Self {
        Self::Lease(call)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Retry,
    /// The next step.
    Step,
    /// The next attempt to read or write the tally.
    Tally,
    Drain,
    Lease(lease::Timer),
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Step => "step",
            Self::Tally => "tally",
            Self::Drain => "drain",
            Self::Lease(timer) => timer.name(),
        }
    }
}

impl From<lease::Timer> for Timer {
    fn from(timer: lease::Timer) -> Self {
        Self::Lease(timer)
    }
}

#[derive(Debug)]
pub(super) struct CounterKinds;

impl Kinds for CounterKinds {
    type Continuation = CounterCall;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

pub(super) type Cx<'a> = machine::Cx<'a, CounterKinds>;
