//! Lanes: the writes for each process, one after another.
//!
//! A lane is the queue of one process's work; no lane waits for another. Lanes that are ready at the same
//! time share a transaction. Every write is a compare-and-set, so a cancelled write that arrives late changes
//! nothing. The operations of a work item are planned anew for each try. If they exceed a transaction, the
//! derived changes are written first, and the operations that complete the item are written last.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{CallId, LinkId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, LaneKey, Timer};
use crate::bridge::process::batch::{Batch, BatchEntry};
use crate::bridge::process::lane_cx::LaneCx;
use crate::bridge::process::ops::Target;
use crate::bridge::process::work::{Operation, WorkItem, shrink};
use crate::cluster::Cluster;
use crate::cluster::states::ProcessRecord;
use crate::consul::json::{self, KvEntry, OpResult};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::store::txn::{self, Outcome};

/// The number of consecutive conflicts before a lane pauses.
const CONFLICTS_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<LaneKey, Lane>,
    transactions: BTreeMap<CallId, Batch>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Lane {
    work: VecDeque<WorkItem>,
    state: LaneState,
    /// The number of consecutive conflicts.
    conflicts: u32,
}

impl Lane {
    /// Returns whether the next work item declares the process dead.
    fn declares_death(&self) -> bool {
        self.work.front().is_some_and(|work| matches!(work.what, Operation::DeclaredDead { .. }))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaneState {
    /// The lane may join the next transaction.
    Ready,
    /// The lane is part of a transaction in flight.
    Writing,
    /// These keys are being read again.
    Rereading(BTreeSet<Target>),
    /// The lane waits for its next try; these keys must be read again before it.
    Waiting(BTreeSet<Target>),
}

/// A completed work item: Consul holds its result, or it needed no write.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) key: LaneKey,
    pub(crate) work: WorkItem,
    pub(crate) restart: bool,
}

impl Lanes {
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Returns each lane with the number of its work items and its stage.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneKey, usize, &LaneState)> {
        self.lanes.iter().map(|(key, lane)| (*key, lane.work.len(), &lane.state))
    }

    pub(crate) fn push(&mut self, key: LaneKey, work: WorkItem) {
        let none = || Lane { work: VecDeque::new(), state: LaneState::Ready, conflicts: 0 };
        self.lanes.entry(key).or_insert_with(none).work.push_back(work);
    }

    /// Queues the begin of a process's new life. If several begin before the first is counted, only the last
    /// one counts.
    pub(crate) fn queue_start(&mut self, process: Fid, now: Instant) {
        let key = LaneKey::Process(process);
        let last = self.lanes.get(&key).and_then(|lane| lane.work.back());
        if !last.is_some_and(|work| matches!(work.what, Operation::Started(None))) {
            self.push(key, WorkItem::new(now, Operation::Started(None)));
        }
    }

    /// Returns whether a process has a matching work item.
    pub(crate) fn has(&self, process: Fid, like: impl Fn(&Operation) -> bool) -> bool {
        let lane = self.lanes.get(&LaneKey::Process(process));
        lane.is_some_and(|lane| lane.work.iter().any(|work| like(&work.what)))
    }

    /// Drops the acknowledgements of a closed link. Its events are written nevertheless, within the limit on
    /// queued events. They were not acknowledged, so a process that lives repeats them.
    pub(crate) fn on_link_closed(&mut self, link: LinkId, most: usize) {
        for lane in self.lanes.values_mut() {
            for work in &mut lane.work {
                if let Operation::Reported { ack, .. } | Operation::Devices { ack, .. } =
                    &mut work.what
                    && ack.is_some_and(|(l, _)| l == link)
                {
                    *ack = None;
                }
            }
            shrink(&mut lane.work, most);
        }
    }

    /// Drops the repeatable events, except the first work item of each lane. It is called near the end of a
    /// stop.
    pub(crate) fn drop_reports(&mut self) {
        for lane in self.lanes.values_mut() {
            let mut first = true;
            lane.work.retain(|work| core::mem::take(&mut first) || !work.is_repeated());
        }
    }

    /// Drops the leader's work after the lead was lost; it is left to the next leader. Consul rejects the
    /// leader's transactions in flight.
    pub(crate) fn lost_lead(&mut self) {
        self.lanes.retain(|_, lane| {
            let writing = lane.state == LaneState::Writing;
            let mut front = true;
            lane.work.retain(|work| {
                let in_flight = core::mem::take(&mut front) && writing;
                in_flight || !work.what.is_leaders()
            });
            !lane.work.is_empty()
        });
    }

    /// Writes the ready lanes' work, within Consul's limits on a transaction. Returns the items that need no
    /// write.
    pub(crate) fn write(&mut self, cx: &mut Cx<'_>, lane_cx: &mut LaneCx<'_>) -> Vec<Completed> {
        let mut done = Vec::new();
        if self.lanes.is_empty() {
            return done;
        }
        // Two concurrent transactions that append to the queue would conflict with each other.
        let most = if lane_cx.queue.is_on() { 1 } else { cx.config().limit.transactions };
        while self.transactions.len() < most && lane_cx.queue.is_ready(cx) {
            let Some(batch) = self.batch(cx, lane_cx, &mut done) else { break };
            let ops = batch.ops.iter().map(|(op, _)| &op.op);
            let call = txn::send(cx, Continuation::Transaction, ops);
            self.transactions.insert(call, batch);
        }
        done
    }

    /// Returns the next transaction: all ready work that fits. Items that need no write are added to `done`.
    fn batch(
        &mut self,
        cx: &Cx<'_>,
        lane_cx: &LaneCx<'_>,
        done: &mut Vec<Completed>,
    ) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut finished = Vec::new();
        let mut dropped = Vec::new();
        for (key, lane) in &mut self.lanes {
            if lane.state != LaneState::Ready {
                continue;
            }
            let process = key.process();
            let Some(work) = lane.work.front_mut() else { continue };
            if let Operation::Started(start) = &mut work.what {
                if !lane_cx.restarts.is_loaded() {
                    continue;
                }
                *start = start.or_else(|| lane_cx.restarts.start(process, lane_cx.cluster));
            }
            if work.what.is_leaders() && lane_cx.lock_session.is_none() {
                if !lane_cx.holds_lock {
                    dropped.push(*key);
                }
                continue;
            }
            let plan = work.plan(process, lane_cx.cluster, lane_cx.restarts, &cx.config().node);
            if plan.is_empty() || mutant(Mutant::LaneSkipped) {
                finished.push((*key, plan.restart));
            } else if batch.take(&cx.config().limit, *key, work, plan) {
                lane.state = LaneState::Writing;
            }
        }
        // These items were part of a transaction when the lock was lost, and were not completed by it.
        dropped.into_iter().for_each(|key| self.drop_leaders(key));
        for (key, restart) in finished {
            done.extend(self.finish(key, restart));
        }
        if batch.entries.is_empty() {
            return None;
        }
        batch.close(lane_cx.lock_session, lane_cx.queue, cx.now().wall);
        Some(batch)
    }

    /// Handles the reply to a transaction.
    pub(crate) fn on_written(
        &mut self,
        cx: &mut Cx<'_>,
        lane_cx: &mut LaneCx<'_>,
        call: CallId,
        answer: Option<&Answer>,
    ) -> Vec<Completed> {
        let Some(batch) = self.transactions.remove(&call) else { return Vec::new() };
        match Outcome::of(answer) {
            Outcome::Applied(results) if results.len() == batch.ops.len() => {
                self.backoff.reset();
                self.on_applied(cx, lane_cx, &batch, &results)
            }
            Outcome::Denied(why) => {
                cx.fact(Fact::ConsulBadAnswer { what: "transaction", why });
                batch.entries.iter().for_each(|part| self.wait(cx, part.key, BTreeSet::new()));
                Vec::new()
            }
            Outcome::Conflict(places) => {
                let about = places.into_iter().filter_map(|place| batch.ops.get(place));
                let about: Vec<_> = about.map(|(op, key)| (op.target, *key)).collect();
                self.on_conflict(cx, lane_cx, &batch, &about);
                Vec::new()
            }
            Outcome::Applied(_) => {
                self.on_unknown(cx, &batch, Some("not about what was asked".into()));
                Vec::new()
            }
            Outcome::Unknown(why) => {
                self.on_unknown(cx, &batch, why);
                Vec::new()
            }
        }
    }

    /// Handles a committed transaction.
    fn on_applied(
        &mut self,
        cx: &mut Cx<'_>,
        lane_cx: &mut LaneCx<'_>,
        batch: &Batch,
        results: &[OpResult<'_>],
    ) -> Vec<Completed> {
        for ((op, _), result) in batch.ops.iter().zip(results) {
            let index = result.kv.as_ref().map_or(0, |entry| entry.modify_index);
            op.target.table().into_iter().for_each(|table| cx.record_written_index(table, index));
            lane_cx.apply_committed(op, batch.appended(), index);
        }
        let split = |key: Option<LaneKey>| {
            batch.entries.iter().any(|part| !part.last && Some(part.key) == key)
        };
        for (op, key) in batch.ops.iter().filter(|(_, key)| split(*key)) {
            self.proved(op.target, *key);
        }
        let mut done = Vec::new();
        for part in &batch.entries {
            if part.last {
                done.extend(self.finish(part.key, part.restart));
            } else {
                self.set_state(part.key, LaneState::Ready);
            }
        }
        done
    }

    /// Schedules a retry when it is unknown whether Consul committed the transaction. The retry will find
    /// what it wrote.
    fn on_unknown(&mut self, cx: &mut Cx<'_>, batch: &Batch, why: Option<Box<str>>) {
        if let Some(why) = why {
            cx.fact(Fact::ConsulBadAnswer { what: "transaction", why });
        }
        for part in &batch.entries {
            self.wait(cx, part.key, BTreeSet::new());
            let work = self.lanes.get_mut(&part.key).and_then(|lane| lane.work.front_mut());
            work.into_iter().for_each(|work| work.unsure = true);
        }
    }

    /// Handles a transaction rejected by Consul because of these operations.
    fn on_conflict(
        &mut self,
        cx: &mut Cx<'_>,
        lane_cx: &mut LaneCx<'_>,
        batch: &Batch,
        about: &[(Target, Option<LaneKey>)],
    ) {
        for (target, _) in about {
            match target {
                Target::Epoch => lane_cx.queue.invalidate(),
                Target::Restarts(_) => lane_cx.restarts.invalidate(cx),
                Target::Record(_) | Target::Entry(_) | Target::Leader | Target::Queued => {}
            }
        }
        for BatchEntry { key, .. } in &batch.entries {
            let own = about.iter().filter(|(_, whose)| *whose == Some(*key));
            let reread: BTreeSet<Target> = own
                .map(|(target, _)| *target)
                .filter(|target| matches!(target, Target::Record(_) | Target::Entry(_)))
                .collect();
            // Consul knows the loss of the lock before hax does. The leader's work is dropped when hax learns
            // of the loss, and is tried again if the lock was not lost.
            let lock_check_failed = about.contains(&(Target::Leader, None));
            match (lock_check_failed || self.conflicts_too_often(*key), reread.is_empty()) {
                (true, _) => self.wait(cx, *key, reread),
                (false, true) => self.set_state(*key, LaneState::Ready),
                (false, false) => self.reread_keys(cx, lane_cx.cluster, *key, reread),
            }
        }
        if about.is_empty() {
            let why = "refused, and not because of any of its operations".into();
            cx.fact(Fact::ConsulBadAnswer { what: "transaction", why });
            // The reason is unknown, so the retry is delayed.
            batch.entries.iter().for_each(|part| self.wait(cx, part.key, BTreeSet::new()));
        }
    }

    /// Records that Consul holds the entry of an object as the lane's first work item requires it.
    fn proved(&mut self, target: Target, key: Option<LaneKey>) {
        let lane = key.and_then(|key| self.lanes.get_mut(&key));
        let work = lane.and_then(|lane| lane.work.front_mut());
        if let (Target::Entry(object), Some(work)) = (target, work) {
            work.proved.insert(object);
        }
    }

    /// Counts a conflict. If writers keep conflicting, a pause lets them pass each other.
    fn conflicts_too_often(&mut self, key: LaneKey) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.conflicts += 1;
        lane.conflicts > CONFLICTS_MAX
    }

    fn drop_leaders(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.work.retain(|work| !work.what.is_leaders());
        lane.state = LaneState::Ready;
        if lane.work.is_empty() {
            self.lanes.remove(&key);
        }
    }

    fn reread_keys(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        key: LaneKey,
        targets: BTreeSet<Target>,
    ) {
        let mut reading = BTreeSet::new();
        for target in targets {
            let path: Box<str> = match target {
                Target::Record(process) => alloc::format!("processes/{process}").into(),
                // An object that is not configured any more needs no read: nothing is written to it.
                Target::Entry(object) => match cluster.conf().entry(object) {
                    Some(entry) => entry.key.clone(),
                    None => continue,
                },
                Target::Restarts(_) | Target::Epoch | Target::Leader | Target::Queued => continue,
            };
            cx.get(Continuation::RereadKey(key, target), url::read(&path));
            cx.fact(Fact::WriteConflict { key: path });
            reading.insert(target);
        }
        let next =
            if reading.is_empty() { LaneState::Ready } else { LaneState::Rereading(reading) };
        self.set_state(key, next);
    }

    /// Handles the read of a key after a conflict.
    pub(crate) fn on_reread(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        key: LaneKey,
        target: Target,
        answer: Option<&Answer>,
    ) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let LaneState::Rereading(left) = &mut lane.state else { return };
        if !answer.is_some_and(|answer| apply_reread(cx, cluster, target, answer)) {
            if answer.is_some() {
                let why = "not the key that was asked for".into();
                cx.fact(Fact::ConsulBadAnswer { what: "a key", why });
            }
            let left = left.clone();
            self.wait(cx, key, left);
            return;
        }
        left.remove(&target);
        if left.is_empty() {
            lane.state = LaneState::Ready;
        }
        if let (Target::Record(_), Some(work)) = (target, lane.work.front_mut()) {
            work.checked = true;
        }
    }

    /// Retries the waiting lanes after the pause. Returns whether deaths wait for
    /// [`retry_deaths`](Self::retry_deaths).
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) -> bool {
        let waiting = self.lanes.iter().filter_map(|(key, lane)| {
            let LaneState::Waiting(targets) = &lane.state else { return None };
            Some((*key, targets.clone()))
        });
        let mut deaths = false;
        for (key, targets) in waiting.collect::<Vec<_>>() {
            if !targets.is_empty() {
                self.reread_keys(cx, cluster, key, targets);
            } else if self.lanes.get(&key).is_some_and(Lane::declares_death) {
                deaths = true;
            } else {
                self.set_state(key, LaneState::Ready);
            }
        }
        deaths
    }

    /// Retries the declarations of death after health was proved.
    pub(crate) fn retry_deaths(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.declares_death()) {
            if lane.state == LaneState::Waiting(BTreeSet::new()) {
                lane.state = LaneState::Ready;
            }
        }
    }

    fn set_state(&mut self, key: LaneKey, stage: LaneState) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = stage;
        }
    }

    fn wait(&mut self, cx: &mut Cx<'_>, key: LaneKey, reread: BTreeSet<Target>) {
        self.set_state(key, LaneState::Waiting(reread));
        if !cx.is_armed(Timer::Lanes) && !mutant(Mutant::RetryLost) {
            cx.retry(Timer::Lanes, &mut self.backoff);
        }
    }

    /// Completes the first work item of a lane.
    fn finish(&mut self, key: LaneKey, restart: bool) -> Option<Completed> {
        let lane = self.lanes.get_mut(&key)?;
        (lane.state, lane.conflicts) = (LaneState::Ready, 0);
        let work = lane.work.pop_front()?;
        if lane.work.is_empty() {
            self.lanes.remove(&key);
        }
        Some(Completed { key, work, restart })
    }
}

/// Applies the value of a key after another read. Returns `false` if the response is invalid.
fn apply_reread(cx: &mut Cx<'_>, cluster: &mut Cluster, target: Target, answer: &Answer) -> bool {
    match (answer.status, target) {
        (404, Target::Record(process)) => cluster.remove_record(process),
        // An object that is not configured any more cannot be changed either.
        (404, Target::Entry(object)) => cluster.remove_entry(object),
        (200, _) => {
            let Ok([entry]) = json::parse::<[KvEntry<'_>; 1]>(&answer.body) else { return false };
            let Some(value) = entry.bytes() else { return false };
            if let Some(table) = target.table() {
                cx.record_written_index(table, entry.modify_index);
            }
            match target {
                Target::Record(process) => {
                    let record = ProcessRecord::from_kv(&value, entry.flags);
                    cluster.overwrite_record(process, record, entry.modify_index);
                }
                Target::Entry(object) => {
                    cluster.overwrite_entry(object, &entry.key, &value, entry.modify_index);
                }
                Target::Restarts(_) | Target::Epoch | Target::Leader | Target::Queued => {}
            }
        }
        _ => return false,
    }
    true
}
