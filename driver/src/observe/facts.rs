//! Facts as log lines and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use hax_core::base::fact::{Kind, Level, Report};

/// The count of each kind of one machine's facts since the start.
#[derive(Debug)]
pub(crate) struct Counters {
    kinds: &'static [Kind],
    seen: Box<[AtomicU64]>,
}

impl Counters {
    /// Creates counters for the facts `F`.
    pub(crate) fn of<F: Report>() -> Self {
        Self { kinds: F::KINDS, seen: F::KINDS.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a fact of the nth kind.
    pub(crate) fn count(&self, nth: usize) {
        self.seen[nth].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the count of the nth kind.
    pub(crate) fn get(&self, nth: usize) -> u64 {
        self.seen[nth].load(Ordering::Relaxed)
    }

    /// Returns all kinds with their counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.kinds.iter().enumerate().map(|(nth, kind)| (*kind, self.get(nth)))
    }
}

/// Returns the name of a level in log lines.
#[must_use]
pub(crate) fn word(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Writes the log line of a fact. The level is part of the static description of a line, so there are five
/// calls. A fact of another machine than the node has its name as a field.
pub(crate) fn log<F: Report>(fact: &F) {
    let Kind { name, level, machine } = F::KINDS[fact.nth()];
    let machine = (!machine.is_empty()).then_some(machine);
    match level {
        Level::Trace => tracing::trace!(target: "hax", fact = name, machine, "{fact}"),
        Level::Debug => tracing::debug!(target: "hax", fact = name, machine, "{fact}"),
        Level::Info => tracing::info!(target: "hax", fact = name, machine, "{fact}"),
        Level::Warn => tracing::warn!(target: "hax", fact = name, machine, "{fact}"),
        Level::Error => tracing::error!(target: "hax", fact = name, machine, "{fact}"),
    }
}

#[cfg(test)]
mod tests {
    use hax_core::ha::fact::Fact;

    use super::*;

    #[test]
    fn facts_are_counted_by_kind() {
        let counters = Counters::of::<Fact>();
        let (ready, stopped) = (Fact::Ready {}.nth(), Fact::Stopped {}.nth());
        [ready, ready, stopped].into_iter().for_each(|nth| counters.count(nth));
        assert_eq!((counters.get(ready), counters.get(stopped)), (2, 1));
        assert_eq!(counters.iter().map(|(_, n)| n).sum::<u64>(), 3);
        let names = counters.iter().filter(|(_, n)| *n > 0).map(|(kind, _)| kind.name);
        assert_eq!(names.collect::<Vec<_>>(), ["Ready", "Stopped"]);
    }
}
