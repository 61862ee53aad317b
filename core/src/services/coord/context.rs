//! The context of the coordinator's handlers.

use crate::machine::{self, Kinds, Named, Output};
use crate::services::facts::ServicesFact;
use crate::store::lease;

/// The calls to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A call about the coordinator's lease.
    Lease(lease::Call),
    /// The read of all records.
    List,
    /// The watch of events.
    Events,
    /// The watch of nodes.
    Nodes,
    /// A transaction with effects.
    Commit,
}

impl Named for Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(call) => call.name(),
            Self::List => "reading all services",
            Self::Events => "watching events",
            Self::Nodes => "watching nodes",
            Self::Commit => "writing effects",
        }
    }
}

impl From<lease::Call> for Call {
    fn from(call: lease::Call) -> Self {
        Self::Lease(call)
    }
}

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A timer of the lease.
    Lease(lease::Timer),
    /// Reads all records again.
    List,
    /// Sends the watch of events again.
    Events,
    /// Sends the watch of nodes again.
    Nodes,
    /// The first deadline of a job.
    Due,
    /// Stands again after records of a later version of hax were found.
    Stand,
    /// Ends the wait of a stop for Consul.
    Leave,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(timer) => timer.name(),
            Self::List => "coordinator-list",
            Self::Events => "coordinator-events",
            Self::Nodes => "coordinator-nodes",
            Self::Due => "coordinator-due",
            Self::Stand => "coordinator-stand",
            Self::Leave => "coordinator-leave",
        }
    }
}

impl From<lease::Timer> for Timer {
    fn from(timer: lease::Timer) -> Self {
        Self::Lease(timer)
    }
}

#[derive(Debug)]
pub(super) struct CoordKinds;

impl Kinds for CoordKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<ServicesFact>;
    type Shared = ();
}

pub(super) type Cx<'a> = machine::Cx<'a, CoordKinds>;
