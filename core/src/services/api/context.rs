//! The context of the handlers of HTTP requests.

use crate::base::id::HttpId;
use crate::machine::{self, Kinds, Named, Output};
use crate::services::facts::ServicesFact;

/// The calls to Consul, each with the request that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The read of all records.
    Read(HttpId),
    /// The transaction of a changing request.
    Write(HttpId),
    /// The wait until the coordinator has worked the request's event.
    Worked(HttpId),
    /// The wait until the instances have changed.
    Settled(HttpId),
    /// The watch of all instances, for open responses.
    Watch,
}

impl Named for Call {
    fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "reading all services for a request",
            Self::Write(_) => "writing a request",
            Self::Worked(_) => "waiting for the coordinator",
            Self::Settled(_) => "waiting for instances",
            Self::Watch => "watching all instances",
        }
    }
}

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ends the wait of a request.
    Over(HttpId),
    /// Sends the watch again.
    Watch,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Over(_) => "services-request",
            Self::Watch => "services-stream",
        }
    }
}

#[derive(Debug)]
pub(super) struct ApiKinds;

impl Kinds for ApiKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<ServicesFact>;
    type Shared = ();
}

pub(super) type Cx<'a> = machine::Cx<'a, ApiKinds>;
