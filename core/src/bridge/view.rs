//! What the bridge believes, in numbers: for gauges, `/readyz`, systemd and tests.

use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::refusals::Refusals;

/// What the bridge believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// All that it needs is there.
    pub ready: bool,
    /// It stops.
    pub stopping: bool,
    /// A message demanded the stop.
    pub unexpected: bool,
    /// The stop took too long; what was not written is left to its senders.
    pub timed_out: bool,
    /// HA links.
    pub links: usize,
    /// Processes with events that Consul does not hold yet.
    pub lanes: usize,
    /// Entrypoint requests that wait.
    pub entries: usize,
    /// Questions for states that wait.
    pub questions: usize,
    /// Calls to Consul in flight.
    pub calls: usize,
    /// This node leads.
    pub leads: bool,
    /// Consul answers, and refuses nothing that is needed.
    pub consul: bool,
}

impl View {
    /// Whether whoever asks is served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.consul && !self.stopping
    }
}

impl State {
    pub(crate) fn view(&self, calls: usize, refusals: &Refusals, now: Instant) -> View {
        View {
            calls,
            leads: self.leader.session(now).is_some(),
            consul: self.is_served(refusals, now),
            ready: self.has_all(),
            stopping: self.stopping(),
            unexpected: self.fatal.is_some(),
            timed_out: self.timed_out,
            links: self.links.len(),
            lanes: self.lanes.len(),
            entries: self.entrypoints.len(),
            questions: self.questions.len(),
        }
    }
}
