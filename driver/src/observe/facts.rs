//! Facts become log lines and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use hax_core::base::fact::{Fact, FactKind, Level};

/// How often each kind of fact was seen since the start.
#[derive(Debug)]
pub struct Counters([AtomicU64; FactKind::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; FactKind::ALL.len()])
    }
}

impl Counters {
    /// Logs a fact and counts it.
    pub fn record(&self, fact: &Fact) {
        self.0[fact.kind() as usize].fetch_add(1, Ordering::Relaxed);
        log(fact);
    }

    /// How often `kind` was seen.
    #[must_use]
    pub fn get(&self, kind: FactKind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    /// All kinds and how often each was seen.
    pub fn iter(&self) -> impl Iterator<Item = (FactKind, u64)> {
        FactKind::ALL.iter().map(|kind| (*kind, self.get(*kind)))
    }
}

/// The word for a kind's level, as log lines have it.
#[must_use]
pub(crate) fn level(kind: FactKind) -> &'static str {
    match kind.level() {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

// A level is part of a log line's static description, hence five.
fn log(fact: &Fact) {
    let name = fact.kind().name();
    match fact.kind().level() {
        Level::Trace => tracing::trace!(target: "hax", fact = name, "{fact}"),
        Level::Debug => tracing::debug!(target: "hax", fact = name, "{fact}"),
        Level::Info => tracing::info!(target: "hax", fact = name, "{fact}"),
        Level::Warn => tracing::warn!(target: "hax", fact = name, "{fact}"),
        Level::Error => tracing::error!(target: "hax", fact = name, "{fact}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_counted_by_kind() {
        let counters = Counters::default();
        counters.record(&Fact::Ready {});
        counters.record(&Fact::Ready {});
        counters.record(&Fact::Stopped {});
        assert_eq!(counters.get(FactKind::Ready), 2);
        assert_eq!(counters.iter().map(|(_, n)| n).sum::<u64>(), 3);
    }
}
