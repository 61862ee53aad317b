//! The facts of a counter.

use std::time::Duration;

use hax_core::base::fact::{Kind, Metric, Report};
use hax_core::machine::Failure;

hax_core::facts! {
    /// An increment is requested.
    Debug Asked {} "an increment is asked for";
    /// An increment is written.
    Debug Committed {} "an increment is written";
    /// An increment had been written before.
    Debug Found {} "an increment had been written before";
    /// Another writer has changed the count meanwhile.
    Debug Conflict {} "somebody else has counted meanwhile";
    /// Consul gives no answer.
    Debug Failed {} "Consul gives no answer";
    /// An increment is tried again.
    Debug Retried {} "an increment is begun again";
    /// There are too many increments.
    Debug Refused {} "there are too many increments";
    /// The requested route does not exist.
    Debug NotFound {} "there is no such route";
    /// The counter now holds the lease.
    Debug Gained {} "the lease is held from now on";
    /// The counter has lost the lease.
    Debug Lost {} "the lease is held no more";
    /// The lease may be lost, because its proof is too old.
    Debug Lapsed {} "the lease may be held no more";
    /// The counter has renewed the proof of its lease.
    Debug Proved {} "the lease is held still";
    /// A step is complete.
    Debug Stepped {} "a step is taken";
    /// A step has failed.
    Debug StepFailed {} "a step has failed";
    /// A step is ended, because the lease may be lost.
    Debug StepEnded {} "a step is ended, as the lease may be held no more";
    /// A step is void, because the lease was lost meanwhile.
    Debug StepVoid {} "a step counts no more, as the lease was lost meanwhile";
    /// The tally cannot be read or written.
    Debug TallyFailed {} "the tally cannot be read or written";
    /// A client listens to the tally.
    Debug Listened {} "somebody listens to the tally";
    /// A client sends a request over named pipes.
    Debug Inquired {} "somebody asks over named pipes";
    /// There are too many listeners.
    Debug Crowded {} "too many listen";
    /// A listener has received the maximum of one response.
    Debug ListenerDone {} "somebody has heard as much as one may";
    /// A listener has disconnected.
    Debug ListenerGone {} "somebody who listened has gone";
    /// A listener was too slow.
    Debug ListenerSlow {} "somebody who listened was too slow";
    /// The host has no room for a listener.
    Debug ListenerRefused {} "the host has no room for a listener";
    /// A stop has begun.
    Debug Stopping {} "a stop has begun";
    /// A stop leaves increments incomplete.
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
