//! Effects: transactions under the lease, with the deletion of the events that led to them.
//!
//! One transaction is in flight, and all that is ready goes into the next. Effects beyond Consul's limits are
//! split: the event is deleted in the last part. A coordinator that takes over works it again, and the rules
//! find what is done.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::State;
use super::context::{Call, Cx, Timer};
use super::fact::Fact;
use super::graph::RecordKey;
use crate::base::mutant::{Mutant, mutant};
use crate::consul::json::OpResult;
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::services::model::keys;
use crate::store::txn::{self, Limits, Outcome};

/// The delay after a conflict, before the records are read again.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// The result of one rule.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key of the event.
    pub(super) event: Option<Box<str>>,
    /// The records that the rule has changed.
    pub(super) records: Vec<RecordKey>,
    /// The facts, which are reported once the effects are committed.
    pub(super) facts: Vec<Fact>,
}

/// The transaction in flight.
#[derive(Debug, Default)]
pub(super) struct Committing {
    /// The records, and whether they are deleted.
    records: BTreeMap<RecordKey, bool>,
    facts: Vec<Fact>,
    /// The keys of the events.
    events: Vec<Box<str>>,
    ops: usize,
}

impl State {
    /// Sends what is ready, if no transaction is in flight.
    pub(super) fn commit(&mut self, cx: &mut Cx<'_>) {
        if self.committing.is_some() || self.entries.is_empty() {
            return;
        }
        let Some(guard) = self.lease.guard() else { return };
        let guard = if mutant(Mutant::Unguarded) { Op::get_tree(keys::COORD) } else { guard };
        let (mut sent, mut ops) = (Committing::default(), Vec::from([guard]));
        let mut size = ops[0].len();
        while let Some(entry) = self.entries.front_mut() {
            while let Some(record) = entry.records.last() {
                let is_in = sent.records.contains_key(record);
                let more = if is_in { Vec::new() } else { self.graph.ops(record) };
                let length: usize = more.iter().map(Op::len).sum();
                // One operation is left for the deletion of the event.
                let fits = ops.len() + more.len() < Limits::CONSUL.ops
                    && (size + length <= Limits::CONSUL.bytes / 2 || ops.len() == 1);
                if !fits {
                    return self.send(cx, sent, &ops);
                }
                size += length;
                let is_deleted = more.iter().any(Op::is_check);
                if let Some(record) = entry.records.pop().filter(|_| !more.is_empty()) {
                    sent.records.insert(record, is_deleted);
                }
                ops.extend(more);
            }
            if ops.len() == Limits::CONSUL.ops {
                return self.send(cx, sent, &ops);
            }
            let Some(entry) = self.entries.pop_front() else { break };
            sent.facts.extend(entry.facts);
            if let Some(key) = entry.event.filter(|_| !mutant(Mutant::EventKept)) {
                ops.push(Op::delete(&key));
                sent.events.push(key);
            }
        }
        self.send(cx, sent, &ops);
    }

    fn send(&mut self, cx: &mut Cx<'_>, sent: Committing, ops: &[Op]) {
        // The guard alone is nothing to send.
        if ops.len() == 1 {
            return sent.facts.into_iter().for_each(|fact| cx.emit(fact));
        }
        txn::send(cx, Call::Commit, ops);
        self.committing = Some(Committing { ops: ops.len(), ..sent });
    }

    pub(super) fn on_committed(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(sent) = self.committing.take() else { return };
        match Outcome::of(answer) {
            Outcome::Applied(results) => self.on_applied(cx, sent, &results),
            Outcome::Conflict(places) => {
                // The lease tells by itself whether it is lost.
                if !places.contains(&0) {
                    cx.emit(Fact::Overtaken {});
                }
                self.doubt(cx);
            }
            Outcome::Denied(_) | Outcome::Unknown(_) => self.doubt(cx),
        }
    }

    fn on_applied(&mut self, cx: &mut Cx<'_>, sent: Committing, results: &[OpResult<'_>]) {
        let all = || results.iter().filter_map(|result| result.kv.as_ref());
        // The result of the guard has the index of the lease's key, which is an old one.
        let latest = all().map(|entry| entry.modify_index).max().unwrap_or(0);
        self.committed_index = self.committed_index.max(latest);
        for (record, is_deleted) in &sent.records {
            let key = record.key();
            let found = all().filter(|entry| *entry.key == *key).map(|entry| entry.modify_index);
            let index = if *is_deleted { 0 } else { found.max().unwrap_or(latest) };
            self.graph.on_written(record, index);
        }
        sent.facts.into_iter().for_each(|fact| cx.emit(fact));
        cx.emit(Fact::Committed { events: sent.events.len(), ops: sent.ops });
        self.deleted.extend(sent.events);
    }

    /// The memory may not be that of Consul: everything is read again.
    pub(super) fn doubt(&mut self, cx: &mut Cx<'_>) {
        self.is_listed = false;
        self.entries.clear();
        let pause = cx.around(AGAIN);
        cx.arm(Timer::List, pause);
    }
}
