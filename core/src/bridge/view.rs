//! The bridge's view: its state in numbers, for gauges, `/readyz`, systemd and tests.

use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::refusals::Refusals;

/// The state of the bridge in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The replicas are loaded and shown, and the configuration contains our own process.
    pub ready: bool,
    /// A stop has begun.
    pub stopping: bool,
    /// A message demanded the stop.
    pub unexpected: bool,
    /// The stop took too long. Unwritten events are left to their senders, which repeat them.
    pub timed_out: bool,
    /// The number of HA links.
    pub links: usize,
    /// The number of processes with unwritten events.
    pub lanes: usize,
    /// The number of waiting entrypoint requests.
    pub entries: usize,
    /// The number of waiting requests for states.
    pub questions: usize,
    /// The number of calls to Consul in flight.
    pub calls: usize,
    /// Whether this node leads.
    pub leads: bool,
    /// Whether Consul responds and permits the needed requests.
    pub consul: bool,
}

impl View {
    /// Returns whether hax serves requests.
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
