//! The purposes of a group's calls and timers.

use super::super::fact::Fact;
use crate::machine::{self, Kinds, Named, Output};
use crate::store::lease;

/// The purpose of a call to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Lease(lease::Call),
    /// Watches for another router's request for the lease that this router holds.
    WatchAsk,
    /// Asks the holder for the lease.
    Ask,
}

impl Named for Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(call) => call.name(),
            Self::WatchAsk => "watching who asks for a lease",
            Self::Ask => "asking for a lease",
        }
    }
}

impl From<lease::Call> for Call {
    fn from(call: lease::Call) -> Self {
        Self::Lease(call)
    }
}

/// The timers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Lease(lease::Timer),
    WatchAsk,
    Ask,
    /// Ends the delay after this router gave up a lease. Then it is a candidate again.
    Stand,
    /// Begins a read-back of the routes that a new holder has written.
    ReadBack(ReadBack),
}

/// The number of a read-back by a new holder. There are several because a write of the last holder may still
/// arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReadBack {
    First,
    Second,
    Last,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(timer) => timer.name(),
            Self::WatchAsk => "group-watch-ask",
            Self::Ask => "group-ask",
            Self::Stand => "group-stand",
            Self::ReadBack(_) => "group-read-back",
        }
    }
}

impl From<lease::Timer> for Timer {
    fn from(timer: lease::Timer) -> Self {
        Self::Lease(timer)
    }
}

#[derive(Debug)]
pub(super) struct GroupKinds;

impl Kinds for GroupKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

pub(super) type GroupCx<'a> = machine::Cx<'a, GroupKinds>;
