//! The three replicas: their watches, probes and reads, and the decoding of responses in slices.

pub(crate) mod decoding;
pub(crate) mod hidden;
pub(crate) mod kv_index;
pub(crate) mod loading;
pub(crate) mod lookout;

use alloc::collections::VecDeque;
use alloc::format;
use core::time::Duration;

use crate::base::id::CallId;
use crate::base::retry::Backoff;
use crate::base::time::CallSeq;
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::replicas::decoding::Decoding;
use crate::bridge::replicas::kv_index::KvIndexProbes;
use crate::bridge::replicas::loading::Reading;
use crate::cluster::Cluster;
use crate::cluster::replica::{KV_INDEX_PROBES_MAX, Probe, Probed, Read, Replica, Table, Watch};
use crate::consul::port::Answer;
use crate::ha::fact::Fact;
use crate::store::watch;

/// The maximum age of Consul's last response: after a longer silence, a failed call means that Consul is
/// away.
const SILENT: Duration = Duration::from_secs(1);
/// The time limit of a posted check unknown to Consul.
const RECHECK_AFTER: Duration = Duration::from_secs(5);

/// The time limit of a watch of a hidden table, before the table is read without an index.
const HIDDEN_WATCH: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) replicas: [Replica; 3],
    pub(crate) backoffs: [Backoff; 3],
    pub(crate) decoding: VecDeque<Decoding>,
    /// Whether the last call for a replica got a response from Consul.
    replicas_reachable: bool,
    /// The time of the last response to a call of any kind.
    pub(crate) contact: Option<Instant>,
    /// Calls have failed since then.
    unanswered: bool,
    /// Posted checks are newer than the replica.
    posted: bool,
    /// The tables to read, whatever a probe says.
    pub(crate) wants_read: [bool; 3],
    kv_index_probes: KvIndexProbes,
    /// The reads with an empty result, until it is verified that the table is not just hidden.
    pub(crate) emptied: [Option<Reading>; 3],
    /// The tables with a verified permission of the token to read a key, and since when.
    pub(crate) readable: [Option<CallSeq>; 3],
    /// Consul's indexes have restarted.
    was_reset: bool,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let replicas = core::array::from_fn(|_| Replica::default());
        let decoding = VecDeque::new();
        Self {
            replicas,
            backoffs: [Backoff::default(); 3],
            decoding,
            replicas_reachable: false,
            contact: None,
            unanswered: false,
            posted: false,
            wants_read: [false; 3],
            kv_index_probes: KvIndexProbes::default(),
            emptied: [None; 3],
            readable: [None; 3],
            was_reset: false,
        }
    }

    pub(crate) fn replica(&self, table: Table) -> &Replica {
        &self.replicas[table as usize]
    }

    pub(crate) fn all_loaded(&self) -> bool {
        self.replicas.iter().all(Replica::is_loaded)
    }

    /// Sends the first read of each table. The watches follow from the responses.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_>) {
        Table::ALL.into_iter().for_each(|table| self.read(cx, table));
    }

    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        for replica in &mut self.replicas {
            replica.calls().for_each(|call| cx.cancel(call));
        }
    }

    /// Requests a proof of freshness of every table for an arrived request.
    pub(crate) fn request_proofs(&mut self, cx: &mut Cx<'_>) {
        for table in Table::ALL {
            self.replicas[table as usize].asked = cx.call_seq();
            self.prove(cx, table);
        }
    }

    /// Handles a post about a table. The newest posted entry has the index `newest`. Consul must have an
    /// entry that is newer than the replica too, which is checked at once.
    pub(crate) fn on_posted(&mut self, cx: &mut Cx<'_>, table: Table, newest: u64) {
        let replica = &mut self.replicas[table as usize];
        if newest > replica.index {
            self.posted |= table == Table::Health;
            replica.asked = cx.call_seq();
            self.prove(cx, table);
        }
    }

    /// Schedules a read of the whole table after a post unknown to the replica but not newer. The posted
    /// check counts until then, since there is no better information.
    pub(crate) fn schedule_recheck(cx: &mut Cx<'_>) {
        let until = cx.now().mono.after(RECHECK_AFTER);
        cx.arm_no_later(Timer::Recheck, until);
    }

    /// Schedules a probe of health after a post of an unknown sender. If the change is real, the watch will
    /// usually have delivered it by then.
    pub(crate) fn on_hint(cx: &mut Cx<'_>) {
        let until = cx.now().mono.after(cx.config().time.watch_interval_min);
        cx.arm_no_later(Timer::HealthHint, until);
    }

    /// Returns whether health is proved to be at least as new as this call.
    pub(crate) fn is_health_fresh(&self, since: CallSeq) -> bool {
        self.replica(Table::Health).is_fresh(since)
    }

    /// Requests a proof of health.
    pub(crate) fn prove_health(&mut self, cx: &mut Cx<'_>) {
        self.replicas[Table::Health as usize].asked = cx.call_seq();
        self.prove(cx, Table::Health);
    }

    /// Schedules a read of a table as soon as possible.
    pub(crate) fn reread(&mut self, cx: &mut Cx<'_>, table: Table) {
        self.wants_read[table as usize] = true;
        self.prove(cx, table);
    }

    /// Drops false posts after health was proved: checks that claim a larger index than Consul's.
    pub(crate) fn check_posted(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster, table: Table) {
        if table == Table::Health && core::mem::take(&mut self.posted) {
            let index = self.replicas[table as usize].index;
            if cluster.invalidate_posted(index) {
                cx.fact(Fact::PostDistrusted { table: table.name(), index });
                self.reread(cx, table);
            }
        }
    }

    /// Returns whether Consul's indexes have restarted since the last call of this function.
    pub(crate) fn take_reset(&mut self) -> bool {
        core::mem::take(&mut self.was_reset)
    }

    pub(crate) fn is_fresh(&self, asked: CallSeq) -> bool {
        self.replicas.iter().all(|replica| replica.is_fresh(asked))
    }

    /// Sends the probe or read for the newest request, unless one is in flight or must wait.
    pub(crate) fn prove(&mut self, cx: &mut Cx<'_>, table: Table) {
        if self.replicas[table as usize].leader_is_back() {
            self.watch_leader(cx, table);
        }
        let replica = &self.replicas[table as usize];
        let busy = replica.read.is_some()
            || replica.probes.len() >= table.probes_max()
            || replica.decoding
            || cx.is_armed(Timer::Prove(table));
        let wants_read = self.wants_read[table as usize];
        if busy || (replica.is_fresh(replica.asked) && !wants_read) {
            return;
        }
        if !replica.is_loaded() || replica.hidden.is_some() || wants_read {
            self.read(cx, table);
            return;
        }
        let asked = replica.asked;
        if replica.probes.back().is_some_and(|last| last.sent >= asked) {
            return;
        }
        if Table::KV.contains(&table) {
            let (last_kv_index, proved_kv_index) =
                (self.kv_index_probes.seen, replica.kv_index_proved);
            if last_kv_index == 0 || last_kv_index == proved_kv_index {
                let minimums = Table::KV.map(|table| self.minimum_index(cx, table));
                self.kv_index_probes.send(
                    cx,
                    asked,
                    minimums[0].max(minimums[1]),
                    KV_INDEX_PROBES_MAX,
                );
            }
            if last_kv_index != 0 && last_kv_index == proved_kv_index {
                return;
            }
        }
        let call = cx.get(Continuation::Probe(table), table.probe().into());
        let (sent, index_then) = (cx.call_seq(), self.minimum_index(cx, table));
        let replica = &mut self.replicas[table as usize];
        replica.probes.push_back(Probe { call, sent, index_then });
        replica.kv_index_sent = self.kv_index_probes.seen;
    }

    pub(crate) fn on_kv_index(&mut self, cx: &mut Cx<'_>, call: CallId, answer: Option<&Answer>) {
        let Some(answer) = answer.filter(|answer| is_reading(answer)) else {
            self.kv_index_probes.on_failed(call);
            Table::KV.into_iter().for_each(|table| self.on_failed(cx, table, Timer::Prove(table)));
            return;
        };
        let Some(sent) = self.kv_index_probes.on_answer(call, answer) else { return };
        self.on_success(cx);
        for table in Table::KV {
            if self.replicas[table as usize].on_kv_index(self.kv_index_probes.seen, sent) {
                self.backoffs[table as usize].reset();
            }
            self.prove(cx, table);
        }
    }

    /// Returns the least possible index of a consistent read sent now.
    ///
    /// Our own writes that the watch has not delivered yet count too. A restored snapshot may have exactly
    /// the replica's index; without this rule the entries written after it would be kept for ever.
    fn minimum_index(&self, cx: &Cx<'_>, table: Table) -> u64 {
        self.replicas[table as usize].least(cx.newest_written(table))
    }

    fn read(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &mut self.replicas[table as usize];
        if replica.read.is_some() || replica.decoding {
            return;
        }
        self.wants_read[table as usize] = false;
        let call = cx.get(Continuation::Read(table), format!("{}&consistent", table.target()));
        let (sent, at, index_then) = (cx.call_seq(), cx.now().mono, self.minimum_index(cx, table));
        let replica = &mut self.replicas[table as usize];
        replica.read = Some(Read { call, sent, at, index_then });
        replica.kv_index_sent = self.kv_index_probes.seen;
    }

    pub(crate) fn watch(&mut self, cx: &mut Cx<'_>, table: Table) {
        self.send_lookout(cx, table);
        let replica = &mut self.replicas[table as usize];
        let pauses = cx.is_armed(Timer::Watch(table));
        // A watch would return the table that is being decoded once more, and replace a nearly finished
        // decoding.
        let nothing = replica.hidden.is_some() && !replica.is_loaded();
        if replica.watch.is_some() || replica.decoding || pauses || nothing {
            return;
        }
        let behind = replica.index.max(1);
        let target = match replica.stale_since {
            Some(_) => format!("{}&stale", table.target()),
            None => table.target().into(),
        };
        let most = cx.config().time.watch;
        let within = if replica.hidden.is_some() { HIDDEN_WATCH.min(most) } else { most };
        let call = watch::send(cx, Continuation::Watch(table), &target, behind, within);
        replica.watch = Some(Watch { call, behind, ends: cx.now().mono.after(within) });
        self.expect_watch(cx, table);
    }

    pub(crate) fn on_watch(&mut self, cx: &mut Cx<'_>, table: Table, answer: Option<&Answer>) {
        let replica = &mut self.replicas[table as usize];
        let Some(Watch { behind, ends, .. }) = replica.watch.take() else { return };
        cx.disarm(Timer::Overdue(table));
        let Some(answer) = answer.filter(|answer| is_reading(answer)) else {
            if replica.stale_since.is_some() || table.lookout().is_none() {
                self.on_failed(cx, table, Timer::Watch(table));
            } else {
                self.watch_stale(cx, table);
            }
            return;
        };
        let (current, hidden) = (replica.index, replica.hidden.is_some());
        self.on_success(cx);
        let pause = cx.config().time.watch_interval_min;
        // The watch should contain our own write; otherwise the servers have gone back to an earlier state.
        let lacks_ours = cx.newest_written(table) > answer.index;
        if answer.index < behind {
            // Consul's index has restarted, or the responding server is behind: a read tells which.
            self.reread(cx, table);
        } else if answer.index > current {
            self.decode(cx, table, answer, None);
        } else if answer.index == behind && (hidden || is_empty(answer)) {
            // A change of the token's permissions changes no index.
            self.reread(cx, table);
        } else if answer.index == behind && (lacks_ours || cx.now().mono < ends) {
            // A restored snapshot ends the waiting queries with the former data. A query that starts after
            // that is not ended by it.
            self.replicas[table as usize].asked = cx.call_seq();
            self.prove(cx, table);
        }
        cx.arm(Timer::Watch(table), pause);
    }

    pub(crate) fn on_probe(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        call: CallId,
        answer: Option<&Answer>,
    ) {
        let probes = &mut self.replicas[table as usize].probes;
        let probe = probes.iter().position(|probe| probe.call == call);
        let probe = probe.and_then(|place| probes.remove(place));
        let Some(Probe { sent, index_then, .. }) = probe else { return };
        let Some(answer) = answer.filter(|answer| is_reading(answer)) else {
            self.on_failed(cx, table, Timer::Prove(table));
            return;
        };
        self.on_success(cx);
        let held = cluster.entries()[table as usize];
        let replica = &mut self.replicas[table as usize];
        // The keys of a prefix are shown or hidden as the prefix is.
        let (kv, nothing) = (Table::KV.contains(&table), is_empty(answer));
        let emptiness_differs = answer.index == replica.index && nothing != (held == 0);
        if kv && (emptiness_differs || nothing && replica.hidden.is_some()) {
            self.read(cx, table);
            return;
        }
        match replica.on_probe(answer.index.max(1), sent, index_then) {
            Probed::Fresh => {
                self.backoffs[table as usize].reset();
                self.check_posted(cx, cluster, table);
                self.prove(cx, table);
            }
            Probed::Behind => self.read(cx, table),
            Probed::Backwards => {
                cx.fact(Fact::ReplicaReset {
                    table: table.name(),
                    from: index_then,
                    to: answer.index,
                });
                self.reset(cx, cluster, table);
                self.read(cx, table);
            }
        }
    }

    pub(crate) fn on_read(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        table: Table,
        answer: Option<&Answer>,
    ) {
        let read = self.replicas[table as usize].read.take();
        let Some(Read { sent, at, index_then, .. }) = read else { return };
        match answer.filter(|answer| is_reading(answer)) {
            None => {
                self.wants_read[table as usize] = true;
                self.on_failed(cx, table, Timer::Prove(table));
            }
            Some(answer) => {
                self.on_success(cx);
                let took = Duration::from_micros(cx.now().mono.micros_since(at));
                self.replicas[table as usize].read_time = took;
                if answer.index < index_then {
                    let (from, to) = (index_then, answer.index);
                    cx.fact(Fact::ReplicaReset { table: table.name(), from, to });
                    self.reset(cx, cluster, table);
                }
                self.decode(cx, table, answer, Some(sent));
            }
        }
    }

    /// Discards a copy from an earlier history of Consul, and the watch's index.
    fn reset(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster, table: Table) {
        let replica = &mut self.replicas[table as usize];
        replica.calls().for_each(|call| cx.cancel(call));
        (replica.index, replica.kv_index_proved, replica.seen, replica.due) = (0, 0, 0, 0);
        cx.forget_written(table);
        self.was_reset = true;
        match table {
            Table::Conf => cluster.invalidate_conf(),
            Table::Processes => cluster.clear_records(),
            Table::Health => cluster.clear_checks(),
        }
    }

    pub(crate) fn on_failed(&mut self, cx: &mut Cx<'_>, table: Table, timer: Timer) {
        self.replicas_reachable = false;
        cx.retry(timer, &mut self.backoffs[table as usize]);
    }

    fn on_success(&mut self, cx: &mut Cx<'_>) {
        if !self.replicas_reachable {
            self.replicas_reachable = true;
            cx.fact(Fact::ConsulBack {});
        }
    }

    /// Returns whether Consul responds, as far as hax knows.
    pub(crate) fn consul_answers(&self) -> bool {
        self.replicas_reachable && !self.unanswered
    }

    /// Handles the end of a call of any kind, with or without a response.
    ///
    /// A Consul that hangs holds the blocking queries, so only the other calls detect it. A single slow call
    /// does not count while other calls get responses.
    pub(crate) fn on_call_done(&mut self, cx: &mut Cx<'_>, answered: bool) {
        if answered {
            self.contact = Some(cx.now().mono);
            if core::mem::take(&mut self.unanswered) && self.replicas_reachable {
                cx.fact(Fact::ConsulBack {});
            }
        } else if self.contact.is_none_or(|at| cx.now().mono >= at.after(SILENT)) {
            self.unanswered = true;
        }
    }
}

/// Returns whether a response is a read of a table. A 404 is a table without entries; it has an index too.
pub(crate) fn is_reading(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 404)
}

/// Returns whether a response has no entries.
fn is_empty(answer: &Answer) -> bool {
    answer.status == 404 || matches!(answer.body.trim_ascii(), b"" | b"null" | b"[]")
}
