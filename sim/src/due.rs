//! The future events of a double.

use std::collections::BTreeMap;

use hax_core::base::time::Instant;

/// Future events by time, each with the id of the party that it concerns. Events of the same time keep the
/// order in which they were queued.
#[derive(Debug)]
pub(crate) struct DueQueue<I, E> {
    events: BTreeMap<(Instant, u64), (I, E)>,
    seq: u64,
}

impl<I, E> Default for DueQueue<I, E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), seq: 0 }
    }
}

impl<I, E> DueQueue<I, E> {
    pub(crate) fn push(&mut self, at: Instant, id: I, event: E) {
        self.seq += 1;
        self.events.insert((at, self.seq), (id, event));
    }

    /// Returns the time of the next event.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event that is due by `now`, with its time.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, I, E)> {
        self.next_at().filter(|at| *at <= now)?;
        let ((at, _), (id, event)) = self.events.pop_first()?;
        Some((at, id, event))
    }

    /// Removes the events that do not match.
    pub(crate) fn retain(&mut self, matches: impl Fn(&I, &E) -> bool) {
        self.events.retain(|_, (id, event)| matches(id, event));
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }
}
