//! The writing of what the node has seen: one transaction at a time, with all that is ready.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::State;
use super::context::{Call, Cx, Timer};
use super::instance::Stage;
use super::names::Name;
use crate::base::mutant::{Mutant, mutant};
use crate::consul::json::OpResult;
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::keeper::name::{InstanceId, ServiceName};
use crate::services::fact::Fact;
use crate::services::model::keys::{self, Side};
use crate::services::model::name::{TypeName, parts_of};
use crate::services::model::record::{Event, NameRecord, NodeRecord, Observed, What};
use crate::services::model::{form, stored};
use crate::store::txn::{self, Limits, Outcome};

/// The time for which a state is not written that lasts shortly and that nobody waits for.
const LAZY: Duration = Duration::from_millis(100);
/// The delay after a conflict, before the records are read again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);
/// The operations that the last instance of a transaction may need.
const RESERVE: usize = 6;

/// The transaction in flight.
#[derive(Debug, Default)]
pub(super) struct Writing {
    record: Option<NodeRecord>,
    rows: Vec<(TypeName, Observed)>,
    names: Vec<(ServiceName, Option<NameRecord>)>,
}

impl Writing {
    /// Returns whether it changes what the watch shows.
    pub(super) fn has_observations(&self) -> bool {
        !self.rows.is_empty()
    }
}

impl State {
    /// Writes what Consul does not hold yet, if no transaction is in flight. What is not urgent is written
    /// with something else, or after a while (`all`).
    pub(super) fn write(&mut self, cx: &mut Cx<'_>, all: bool) {
        let is_begun = self.run.is_some() || self.is_reconciled;
        if self.writing.is_some() || !self.is_loaded || !is_begun {
            return;
        }
        let (mut writing, mut ops) = (Writing::default(), Vec::new());
        let Some(run) = self.describe(&mut writing, &mut ops) else { return };
        let mut taken = BTreeSet::new();
        let dirty: Vec<TypeName> = self
            .instances
            .iter()
            .filter(|(_, row)| row.is_dirty())
            .map(|(kind, _)| kind.clone())
            .collect();
        let mut size = 0;
        for kind in dirty {
            if ops.len() + RESERVE > Limits::CONSUL.ops || size > Limits::CONSUL.bytes / 2 {
                break;
            }
            let row = &self.instances[&kind];
            let is_naming = row.live.as_ref().is_some_and(|live| live.stage == Stage::Naming);
            if !all && !is_naming && !row.is_event() {
                cx.arm_no_later(Timer::Write, cx.now().mono.after(LAZY));
                continue;
            }
            let from = ops.len();
            self.add_row(cx, &kind, run, &mut ops);
            for (name, of) in self.names.dirty() {
                if of.wanted.as_ref().is_some_and(|record| record.kind == kind) {
                    taken.insert(name.clone());
                    self.add_name(name, of, &mut ops);
                    writing.names.push((name.clone(), of.wanted.clone()));
                }
            }
            let row = &self.instances[&kind];
            writing.rows.push((kind, row.seen.clone()));
            size += ops[from..].iter().map(Op::len).sum::<usize>();
        }
        // A name that is to be free, or that was lost. Those of restarts follow with their observations.
        let alone = |of: &Name| of.wanted.is_none() || of.stored.is_none();
        let alone: Vec<ServiceName> = self
            .names
            .dirty()
            .filter(|(name, of)| alone(of) && !taken.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in alone {
            if ops.len() + RESERVE > Limits::CONSUL.ops {
                break;
            }
            if let Some((_, of)) = self.names.dirty().find(|(dirty, _)| **dirty == name) {
                self.add_name(&name, of, &mut ops);
                let wanted = of.wanted.clone();
                writing.names.push((name, wanted));
            }
        }
        if !ops.is_empty() {
            txn::send(cx, Call::Write, &ops);
            self.writing = Some(writing);
        }
    }

    /// Adds the description of the node, if it has changed. Returns the number of this run.
    fn describe(&self, writing: &mut Writing, ops: &mut Vec<Op>) -> Option<u64> {
        let old = self.record.as_ref();
        if self.record_index > 0 && old.is_none() {
            // A later version of hax has described the node.
            return None;
        }
        let next = || {
            let least = old.map_or(0, |record| record.run + 1);
            least.max(self.config.generation)
        };
        let run = self.run.unwrap_or_else(next);
        let Some(keeper) = &self.keeper else { return self.run };
        let labels = self.config.labels.clone();
        let (boot, generation) = (keeper.boot.clone(), keeper.generation);
        let record = NodeRecord { v: form(), boot, generation, run, labels };
        if old != Some(&record) {
            let key = keys::node(&self.config.node);
            ops.push(Op::cas(&key, &stored::encode(&record), self.record_index));
            writing.record = Some(record);
        }
        Some(run)
    }

    /// Adds the observation of an instance, and the event of it.
    fn add_row(&mut self, cx: &Cx<'_>, kind: &TypeName, run: u64, ops: &mut Vec<Op>) {
        let node = self.config.node.clone();
        let at: Box<str> = format!("{}", cx.now().wall).into();
        let Some(row) = self.instances.get_mut(kind) else { return };
        row.seen.at = at.clone();
        let is_event = row.is_event();
        let (observed, index) = (row.seen.clone(), row.stored_index);
        let key = keys::instance(&node, kind, Side::Observed);
        ops.push(Op::cas(&key, &stored::encode(&observed), index));
        if is_event && !mutant(Mutant::EventUnwritten) {
            let what = What::Changed { kind: kind.clone(), observed: Box::new(observed) };
            let event = Event { v: form(), node: node.clone(), at, what };
            let key = keys::event(&node, run, self.mint_event());
            ops.push(Op::cas(&key, &stored::encode(&event), 0));
            let row = self.instances.get_mut(kind);
            row.into_iter().for_each(|row| row.event = Some(key.as_str().into()));
        }
    }

    fn add_name(&self, name: &ServiceName, of: &Name, ops: &mut Vec<Op>) {
        let key = keys::name(&self.config.node, name.as_str());
        match &of.wanted {
            Some(record) => ops.push(Op::cas(&key, &stored::encode(record), of.index)),
            None => ops.extend([Op::check_index(&key, of.index), Op::delete(&key)]),
        }
    }

    pub(super) fn on_written(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(writing) = self.writing.take() else { return };
        match Outcome::of(answer) {
            Outcome::Applied(results) => self.on_applied(cx, writing, &results),
            Outcome::Conflict(_) => {
                // Another number of the run makes sure that no event has the key of an older one.
                self.run = None;
                self.is_loaded = false;
                cx.emit(Fact::Rewritten { key: keys::instances(&self.config.node).into() });
                let pause = cx.around(AGAIN);
                cx.arm(Timer::Load, pause);
            }
            Outcome::Denied(why) => {
                self.is_loaded = false;
                cx.emit(Fact::ConsulFailed { what: "writing what the node has seen", why });
                cx.retry(Timer::Load, &mut self.backoff);
            }
            // The records tell whether it was applied.
            Outcome::Unknown(_) => {
                self.is_loaded = false;
                cx.retry(Timer::Load, &mut self.backoff);
            }
        }
    }

    fn on_applied(&mut self, cx: &mut Cx<'_>, writing: Writing, results: &[OpResult<'_>]) {
        let index_of = |key: &str| {
            let entries = results.iter().filter_map(|result| result.kv.as_ref());
            entries.filter(|entry| entry.key == key).map(|entry| entry.modify_index).max()
        };
        let node = self.config.node.clone();
        let all = results.iter().filter_map(|result| result.kv.as_ref());
        let latest = all.map(|entry| entry.modify_index).max().unwrap_or(0);
        if writing.has_observations() {
            self.written_index = self.written_index.max(latest);
        }
        if let Some(record) = writing.record {
            if self.run.is_none() {
                let (instances, run) = (self.instances.len(), record.run);
                let living = self.instances.values().filter(|row| row.live.is_some()).count();
                cx.emit(Fact::Manages { instances, living, run });
            }
            self.run = Some(record.run);
            self.record_index = index_of(&keys::node(&node)).unwrap_or(latest);
            self.record = Some(record);
        }
        for (kind, observed) in writing.rows {
            let key = keys::instance(&node, &kind, Side::Observed);
            if let Some(row) = self.instances.get_mut(&kind) {
                row.stored_index = index_of(&key).unwrap_or(latest);
                row.stored = observed;
            }
        }
        for (name, record) in writing.names {
            let index = record.as_ref().and_then(|_| index_of(&keys::name(&node, name.as_str())));
            self.names.on_written(&name, record, index.unwrap_or(0));
        }
        self.go_on_named(cx);
    }

    /// Starts the instances whose names are acquired.
    fn go_on_named(&mut self, cx: &mut Cx<'_>) {
        let named = self.instances.iter().filter(|(kind, row)| {
            let live = row.live.as_ref().filter(|live| live.stage == Stage::Naming);
            let launch = live.and_then(|live| live.launch.as_ref());
            launch.is_some_and(|launch| self.names.is_held(&launch.name, kind))
        });
        let named: Vec<TypeName> = named.map(|(kind, _)| kind.clone()).collect();
        for kind in named {
            if self.is_wanted(&kind) && self.is_ready() {
                self.ask_to_start(cx, &kind);
            } else if let Some(row) = self.instances.get_mut(&kind) {
                row.on_not_begun();
            }
        }
    }

    /// Asks the keeper to forget the instances whose ends Consul holds.
    pub(super) fn forget_ended(&mut self, cx: &mut Cx<'_>) {
        if self.to_forget.is_empty() || self.keeper.is_none() {
            return;
        }
        let instances = &self.instances;
        let is_held = |id: &InstanceId| {
            let kind = parts_of(id).map(|(kind, _)| kind);
            let row = kind.and_then(|kind| instances.get(&kind));
            row.is_none_or(|row| !row.is_event() && !row.is(id))
        };
        let (held, rest) = core::mem::take(&mut self.to_forget).into_iter().partition(is_held);
        self.to_forget = rest;
        self.forget(cx, held);
    }
}
