//! What a counter reports.

use std::time::Duration;

use hax_core::base::fact::{Kind, Metric, Report};
use hax_core::machine::Failure;

hax_core::facts! {
    /// An increment is asked for.
    Debug Asked {} "an increment is asked for";
    /// An increment is written.
    Debug Committed {} "an increment is written";
    /// An increment had been written before.
    Debug Found {} "an increment had been written before";
    /// Somebody else has counted meanwhile.
    Debug Conflict {} "somebody else has counted meanwhile";
    /// Consul gives no answer.
    Debug Failed {} "Consul gives no answer";
    /// An increment is begun again.
    Debug Retried {} "an increment is begun again";
    /// There are too many increments.
    Debug Refused {} "there are too many increments";
    /// There is no such route.
    Debug NotFound {} "there is no such route";
    /// The lease is held from now on.
    Debug Gained {} "the lease is held from now on";
    /// The lease is held no more.
    Debug Lost {} "the lease is held no more";
    /// The lease may be held no more.
    Debug Lapsed {} "the lease may be held no more";
    /// The lease is held still.
    Debug Proved {} "the lease is held still";
    /// A step is taken.
    Debug Stepped {} "a step is taken";
    /// A step has failed.
    Debug StepFailed {} "a step has failed";
    /// A step is ended, as the lease may be held no more.
    Debug StepEnded {} "a step is ended, as the lease may be held no more";
    /// A step counts no more, as the lease was lost meanwhile.
    Debug StepVoid {} "a step counts no more, as the lease was lost meanwhile";
    /// The tally cannot be read or written.
    Debug TallyFailed {} "the tally cannot be read or written";
    /// Somebody listens to the tally.
    Debug Listened {} "somebody listens to the tally";
    /// Somebody asks over named pipes.
    Debug Inquired {} "somebody asks over named pipes";
    /// There are too many who listen.
    Debug Crowded {} "too many listen";
    /// Somebody has heard as much as one may.
    Debug ListenerDone {} "somebody has heard as much as one may";
    /// Somebody who listened has gone.
    Debug ListenerGone {} "somebody who listened has gone";
    /// Somebody who listened was too slow.
    Debug ListenerSlow {} "somebody who listened was too slow";
    /// The host has no room for somebody who wants to listen.
    Debug ListenerRefused {} "the host has no room for a listener";
    /// A stop has begun.
    Debug Stopping {} "a stop has begun";
    /// A stop leaves increments undone.
    Debug Left {} "a stop leaves increments undone";
}

impl Report for Fact {
    const KINDS: &'static [Kind] = FactKind::KINDS;

    const LATENCIES: &'static [Metric] = &[];

    fn nth(&self) -> usize {
        self.kind() as usize
    }

    fn took(&self) -> Option<(usize, Duration)> {
        None
    }
}

impl From<Failure> for Fact {
    fn from(_: Failure) -> Self {
        Self::Failed {}
    }
}
