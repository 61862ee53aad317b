//! What a group's calls and timers are for.

use super::super::fact::Fact;
use crate::machine::{self, Kinds, Named, Output};
use crate::store::lease;

/// What a call to Consul is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Lease(lease::Call),
    /// Whether somebody asks for the lease that we hold.
    WatchAsk,
    /// The holder is asked for the lease.
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

/// A group's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Lease(lease::Timer),
    WatchAsk,
    Ask,
    /// A lease that was given up is wanted again.
    Stand,
    /// What was written as a new holder is read back.
    ReadBack(ReadBack),
}

/// A new holder reads back so often: a write of the last one may still be on its way.
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
