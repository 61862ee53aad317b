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

/// Whether it is that Consul refuses us. The way to Consul says that, once for all that has one cause.
fn is_refusal(fact: &Fact) -> bool {
    let Fact::ConsulFailed { why, .. } = fact else { return false };
    ["status 401:", "status 403:", "says 401:", "says 403:"].iter().any(|part| why.contains(part))
}

// A level is part of a log line's static description, hence five.
fn log(fact: &Fact) {
    let name = fact.kind().name();
    let level = fact.kind().level();
    match if is_refusal(fact) { Level::Debug } else { level } {
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
    fn f43_what_the_way_to_consul_says_is_not_said_again() {
        let call = hax_core::base::id::CallId(1);
        let failed = |why: &str| Fact::ConsulFailed { call, what: "bq", why: why.into() };
        assert!(is_refusal(&failed("status 403: ACL not found")));
        assert!(is_refusal(&failed("Consul says 403: Permission denied")));
        assert!(!is_refusal(&failed("status 500: no leader")));
        assert!(!is_refusal(&failed("no answer in time")));
    }

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
