//! The state of a replica: how it is kept current and proved fresh.
//!
//! A *watch* (a blocking query) follows the prefix, and a *lookout* (a small blocking query) detects a
//! hanging watch. A *probe* (a small read whose `X-Consul-Index` changes with the prefix) proves the replica
//! fresh for the requests that arrived before it. A *read* fetches the prefix at once if the replica is
//! behind. An index that goes backwards or is 0 means a restart from scratch (Consul API, "Blocking
//! queries").

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::base::id::CallId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{CallSeq, Instant};

/// The replicated tables.
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
    /// All tables.
    pub const ALL: [Self; 3] = [Self::Conf, Self::Processes, Self::Health];
    /// The tables in the KV store.
    pub const KV: [Self; 2] = [Self::Conf, Self::Processes];

    /// Returns the name for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conf => "m0conf",
            Self::Processes => "processes",
            Self::Health => "health",
        }
    }

    /// Returns the request target for reading the whole table.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Conf => "/v1/kv/m0conf/?recurse",
            Self::Processes => "/v1/kv/processes/?recurse",
            Self::Health => "/v1/health/state/any?",
        }
    }

    /// Returns the target of the table's lookout, if it has one.
    ///
    /// The response consists of little more than the index, and the receiving server answers by itself. The
    /// configuration is not urgent and has no lookout. Its watch tells when the servers have no leader.
    #[must_use]
    pub const fn lookout(self) -> Option<&'static str> {
        match self {
            Self::Conf => None,
            Self::Processes => Some("/v1/kv/processes?keys&separator=/&stale"),
            Self::Health => Some("/v1/health/state/none?stale"),
        }
    }

    /// Returns the maximum number of probes in flight. A probe that makes Consul walk a prefix is not sent
    /// again before its reply.
    #[must_use]
    pub const fn probes_max(self) -> usize {
        match self {
            Self::Conf | Self::Processes => 1,
            Self::Health => KV_INDEX_PROBES_MAX,
        }
    }

    /// Returns the target of the table's probe.
    ///
    /// The response consists of little more than the index. For health it is the list of checks in a state
    /// that no check is ever in; its index is that of the whole table.
    #[must_use]
    pub const fn probe(self) -> &'static str {
        match self {
            Self::Conf => "/v1/kv/m0conf/?keys&separator=/&consistent",
            Self::Processes => "/v1/kv/processes?keys&separator=/&consistent",
            Self::Health => "/v1/health/state/none?consistent",
        }
    }
}

/// The maximum number of concurrent probes with a cost independent of Consul's data. Requests that arrive
/// during a probe get a probe of their own, so they do not wait for the first one.
pub const KV_INDEX_PROBES_MAX: usize = 4;

/// The state of one replica.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The index of the copy; 0 if nothing is loaded.
    pub index: u64,
    /// The latest proved call of `handle`: the copy is at least as new as Consul was then.
    pub proved: CallSeq,
    /// The call of the newest request.
    pub asked: CallSeq,
    /// The blocking query in flight.
    pub watch: Option<Watch>,
    /// The probes in flight, the oldest first.
    pub probes: VecDeque<Probe>,
    /// The read in flight.
    pub read: Option<Read>,
    /// The duration of the last read.
    pub read_time: Duration,
    /// The lookout in flight.
    pub lookout: Option<CallId>,
    /// The index in the last response to a lookout.
    pub seen: u64,
    /// The index seen by a lookout and not yet delivered by the watch; 0 for none.
    pub due: u64,
    /// The `handle` call of the switch to a stale watch, after the servers' leader did not respond.
    pub stale_since: Option<CallSeq>,
    /// The reason why Consul shows no entries although there must be some. The copy is kept.
    pub hidden: Option<Hidden>,
    /// A response is being decoded.
    pub decoding: bool,
    /// The index of the whole KV table when the newest probe or read was sent, as far as it was known.
    pub kv_index_sent: u64,
    /// The last index of the whole KV table with a copy proved current; 0 if unknown.
    pub kv_index_proved: u64,
}

/// The reason why Consul shows no entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The token may not read the table.
    Unreadable,
    /// The table is empty.
    Empty,
}

/// A blocking query in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The id of the call.
    pub call: CallId,
    /// The index of the query.
    pub behind: u64,
    /// The earliest end of the query if nothing changes.
    pub ends: Instant,
}

/// A probe in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The id of the call.
    pub call: CallId,
    /// The `handle` call at the time of sending.
    pub sent: CallSeq,
    /// The least index of its response, unless Consul's indexes have restarted.
    pub index_then: u64,
}

/// A read in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The id of the call.
    pub call: CallId,
    /// The `handle` call at the time of sending.
    pub sent: CallSeq,
    /// The time of sending.
    pub at: Instant,
    /// The least index of its response, unless Consul's indexes have restarted.
    pub index_then: u64,
}

/// The meaning of a probe's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The copy is current.
    Fresh,
    /// The copy is behind.
    Behind,
    /// Consul's index has restarted.
    Backwards,
}

impl Replica {
    /// Removes and returns the blocking queries in flight, so that they can be cancelled.
    pub fn calls(&mut self) -> impl Iterator<Item = CallId> + use<> {
        let calls = [self.watch.take().map(|watch| watch.call), self.lookout.take()];
        calls.into_iter().flatten()
    }

    /// Returns whether a copy is loaded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.index != 0
    }

    /// Returns the least index of a consistent read sent now, unless Consul's indexes have restarted.
    ///
    /// `written` is the index of an entry known from our own write or from a read of its key. Responses
    /// without an index count as index 1.
    #[must_use]
    pub fn least(&self, written: u64) -> u64 {
        if self.index > 1 { self.index.max(written) } else { self.index }
    }

    /// Returns whether the copy is fresh for a request of this call.
    #[must_use]
    pub fn is_fresh(&self, question: CallSeq) -> bool {
        self.is_loaded() && (self.proved >= question || mutant(Mutant::StaleReplica))
    }

    /// Returns whether the watch has not delivered yet what a lookout saw.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.due > self.index
    }

    /// Returns whether the servers' leader has responded since the watch became stale.
    #[must_use]
    pub fn leader_is_back(&self) -> bool {
        self.stale_since.is_some_and(|since| self.proved >= since)
    }

    /// Handles a probe's response.
    pub fn on_probe(&mut self, index: u64, sent: CallSeq, index_then: u64) -> Probed {
        if index < index_then {
            return Probed::Backwards;
        }
        if index > self.index {
            return Probed::Behind;
        }
        // The watch has overtaken the probe in the meantime, so the copy is newer than required.
        self.proved = self.proved.max(sent);
        self.kv_index_proved = self.kv_index_sent;
        Probed::Fresh
    }

    /// Handles a response with the index of the whole KV table at some time after `sent`. Returns whether it
    /// proves the copy.
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
