//! The context of the node's handlers.

use crate::base::id::HttpId;
use crate::machine::{self, Kinds, Named, Output};
use crate::services::facts::ServicesFact;
use crate::store::lease;

/// The number of an instance in timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

/// The calls to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A call about the node's own lease.
    Lease(lease::Call),
    /// The read of all records of this node.
    Load,
    /// The watch of the node's instances.
    Watch,
    /// A transaction with what the node has seen.
    Write,
    /// The wait of an instance's question for the coordinator.
    Worked(HttpId),
    /// The read of the coordinator's answer to it.
    Decision(HttpId),
}

impl Named for Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(call) => call.name(),
            Self::Load => "reading the node's records",
            Self::Watch => "watching the node's instances",
            Self::Write => "writing what the node has seen",
            Self::Worked(_) => "waiting for the coordinator",
            Self::Decision(_) => "reading the coordinator's answer",
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
    /// A timer of the node's own lease.
    Lease(lease::Timer),
    /// Reads all records again.
    Load,
    /// Sends the watch again.
    Watch,
    /// Writes what is not urgent.
    Write,
    /// Begins the next probe of an instance.
    Probe(Slot),
    /// Ends the time within which an instance has to be ready.
    Ready(Slot),
    /// Ends the wait of an instance for the answer to what it has told.
    Tell(HttpId),
    /// Asks Consul again for the coordinator's answer to an instance.
    AskAgain(HttpId),
    /// Ends the wait of a stop for Consul.
    Leave,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease(timer) => timer.name(),
            Self::Load => "services-load",
            Self::Watch => "services-watch",
            Self::Write => "services-write",
            Self::Probe(_) => "services-probe",
            Self::Ready(_) => "services-ready",
            Self::Tell(_) => "services-tell",
            Self::AskAgain(_) => "services-ask-again",
            Self::Leave => "services-leave",
        }
    }
}

impl From<lease::Timer> for Timer {
    fn from(timer: lease::Timer) -> Self {
        Self::Lease(timer)
    }
}

#[derive(Debug)]
pub(super) struct NodeKinds;

impl Kinds for NodeKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<ServicesFact>;
    type Shared = ();
}

pub(super) type Cx<'a> = machine::Cx<'a, NodeKinds>;
