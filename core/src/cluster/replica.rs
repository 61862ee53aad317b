//! How a copy of a prefix is kept current, and how it is proved to be.
//!
//! A *watch* (a blocking query) follows the prefix, and a *lookout* (a tiny one) notices that it hangs; a
//! *probe* (a tiny read whose `X-Consul-Index` moves with the prefix) proves the copy fresh for a question
//! that has arrived before it; where the copy is behind, a *read* fetches it at once. Index rules:
//! backwards or 0 begins anew (Consul API, "Blocking queries").

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::base::id::CallId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{CallSeq, Instant};

/// The copies that the bridge keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `m0conf/`.
    Conf,
    /// `processes/`.
    Processes,
    /// `health/state/any`.
    Health,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Conf, Self::Processes, Self::Health];
    /// Those that are keys.
    pub const KV: [Self; 2] = [Self::Conf, Self::Processes];

    /// For logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conf => "m0conf",
            Self::Processes => "processes",
            Self::Health => "health",
        }
    }

    /// What reads the whole table.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Conf => "/v1/kv/m0conf/?recurse",
            Self::Processes => "/v1/kv/processes/?recurse",
            Self::Health => "/v1/health/state/any?",
        }
    }

    /// What tells that the table has moved, and next to nothing else: the server that is asked answers by
    /// itself. The configuration can wait, and has none: its watch tells when the servers have no leader.
    #[must_use]
    pub const fn lookout(self) -> Option<&'static str> {
        match self {
            Self::Conf => None,
            Self::Processes => Some("/v1/kv/processes?keys&separator=/&stale"),
            Self::Health => Some("/v1/health/state/none?stale"),
        }
    }

    /// How many probes may be in flight: one that makes Consul walk a prefix is not sent again before
    /// it is answered.
    #[must_use]
    pub const fn probes_max(self) -> usize {
        match self {
            Self::Conf | Self::Processes => 1,
            Self::Health => KV_INDEX_PROBES_MAX,
        }
    }

    /// What tells its index and next to nothing else. Of the health table that is the list of
    /// checks in a state which no check is ever in: the index is the whole table's.
    #[must_use]
    pub const fn probe(self) -> &'static str {
        match self {
            Self::Conf => "/v1/kv/m0conf/?keys&separator=/&consistent",
            Self::Processes => "/v1/kv/processes?keys&separator=/&consistent",
            Self::Health => "/v1/health/state/none?consistent",
        }
    }
}

/// Probes that cost Consul the same whatever it holds: how many may be in flight. Questions that come
/// while one is under way have their own, so that they need not wait for it first.
pub const KV_INDEX_PROBES_MAX: usize = 4;

/// Where one copy stands.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The index of what is held; 0: nothing is.
    pub index: u64,
    /// The copy is at least as new as Consul was then.
    pub proved: CallSeq,
    /// The newest question.
    pub asked: CallSeq,
    /// The blocking query in flight.
    pub watch: Option<Watch>,
    /// The probes in flight, the oldest first.
    pub probes: VecDeque<Probe>,
    /// The read in flight.
    pub read: Option<Read>,
    /// How long the last one took.
    pub read_time: Duration,
    /// The lookout in flight.
    pub lookout: Option<CallId>,
    /// The index that a lookout saw last.
    pub seen: u64,
    /// The index that the watch has to bring, since a lookout saw it; 0: none.
    pub due: u64,
    /// Since when the watch is a stale one, as the servers' leader did not answer.
    pub stale_since: Option<CallSeq>,
    /// Consul shows nothing of it, though something has to be there: what is held stays.
    pub hidden: Option<Hidden>,
    /// An answer is being decoded.
    pub decoding: bool,
    /// The index of the whole KV table when the newest probe or read was sent, as far as it was known.
    pub kv_index_sent: u64,
    /// The copy is current as long as the whole KV table has this index; 0: that is not known.
    pub kv_index_proved: u64,
}

/// Why Consul shows nothing of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Our token may not read it.
    Unreadable,
    /// There is nothing.
    Empty,
}

/// A blocking query in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its call.
    pub call: CallId,
    /// The index that it waits behind.
    pub behind: u64,
    /// When it ends by itself, at the soonest, if nothing changes.
    pub ends: Instant,
}

/// A probe in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its call.
    pub call: CallId,
    /// When it was sent.
    pub sent: CallSeq,
    /// The least index that its answer has, unless Consul's indexes have begun anew.
    pub index_then: u64,
}

/// A read in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its call.
    pub call: CallId,
    /// When it was sent.
    pub sent: CallSeq,
    /// The same by the clock.
    pub at: Instant,
    /// The least index that its answer has, unless Consul's indexes have begun anew.
    pub index_then: u64,
}

/// What a probe's answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The copy is current.
    Fresh,
    /// The copy is behind.
    Behind,
    /// Consul's index has begun anew.
    Backwards,
}

impl Replica {
    /// The blocking queries in flight, which are not waited for any more.
    pub fn calls(&mut self) -> impl Iterator<Item = CallId> + use<> {
        let calls = [self.watch.take().map(|watch| watch.call), self.lookout.take()];
        calls.into_iter().flatten()
    }

    /// Whether anything is held.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.index != 0
    }

    /// The least index of a consistent reading that is sent now, unless Consul's indexes have begun anew;
    /// an entry of the index `written` is known by itself. Answers without an index count as of index 1.
    #[must_use]
    pub fn least(&self, written: u64) -> u64 {
        if self.index > 1 { self.index.max(written) } else { self.index }
    }

    /// Whether what is held is fresh for a question of this moment.
    #[must_use]
    pub fn is_fresh(&self, question: CallSeq) -> bool {
        self.is_loaded() && (self.proved >= question || mutant(Mutant::StaleReplica))
    }

    /// Whether a lookout saw what the watch has not brought.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.due > self.index
    }

    /// Whether the servers' leader has answered since the watch is a stale one.
    #[must_use]
    pub fn leader_is_back(&self) -> bool {
        self.stale_since.is_some_and(|since| self.proved >= since)
    }

    /// Takes a probe's answer.
    pub fn on_probe(&mut self, index: u64, sent: CallSeq, index_then: u64) -> Probed {
        if index < index_then {
            return Probed::Backwards;
        }
        if index > self.index {
            return Probed::Behind;
        }
        // Between the two the watch has overtaken the probe, and the copy is newer than asked.
        self.proved = self.proved.max(sent);
        self.kv_index_proved = self.kv_index_sent;
        Probed::Fresh
    }

    /// The whole KV table had this index at some time after `sent`. Returns whether that proves the
    /// copy.
    pub fn on_kv_index(&mut self, index: u64, sent: CallSeq) -> bool {
        let stands_still = index != 0 && index == self.kv_index_proved;
        if stands_still {
            self.proved = self.proved.max(sent);
        }
        stands_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_proves_only_what_was_asked_before_it() {
        let mut replica = Replica { index: 10, ..Replica::default() };
        assert_eq!(replica.on_probe(10, CallSeq(5), 10), Probed::Fresh);
        assert!(replica.is_fresh(CallSeq(5)) && !replica.is_fresh(CallSeq(6)));
        assert_eq!(replica.on_probe(11, CallSeq(7), 10), Probed::Behind);
        assert_eq!(replica.on_probe(9, CallSeq(7), 10), Probed::Backwards);
        assert!(!replica.is_fresh(CallSeq(6)));
        replica.index = 12;
        assert_eq!(replica.on_probe(11, CallSeq(7), 10), Probed::Fresh, "overtaken by the watch");
    }

    #[test]
    fn a_table_that_stands_still_proves_a_copy_that_was_probed_since() {
        let mut replica = Replica { index: 10, kv_index_sent: 20, ..Replica::default() };
        assert!(
            !replica.on_kv_index(20, CallSeq(1)),
            "what was seen before a probe proves nothing yet"
        );
        assert!(!replica.on_kv_index(0, CallSeq(1)));
        assert_eq!(replica.on_probe(10, CallSeq(2), 10), Probed::Fresh);
        assert!(replica.on_kv_index(20, CallSeq(3)) && replica.is_fresh(CallSeq(3)));
        assert!(!replica.on_kv_index(21, CallSeq(4)) && !replica.is_fresh(CallSeq(4)));
    }
}
