//! The reading of records: all of them at the beginning, then events and nodes as they come.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use serde::de::DeserializeOwned;

use super::context::{Call, Cx, Timer};
use super::effects::AGAIN;
use super::fact::Fact;
use super::graph::{Graph, NodeView, Placement, Tracked};
use super::{Phase, State, WATCH, rules};
use crate::consul::json::{self, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::services::model::keys::{self, Side};
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::record::{ConfigRecord, Event, NodeRecord};
use crate::services::model::stored::{self, Unusable};
use crate::store::txn;

/// The prefixes of all records.
const PREFIXES: [&str; 9] = [
    keys::TYPES,
    keys::CONFIGS,
    keys::GOALS,
    keys::INSTANCES,
    keys::JOBS,
    keys::NODES,
    keys::SUPERVISION,
    keys::NOTICES,
    keys::EVENTS,
];

/// The time after which a record that cannot be used is read again.
const UNREADABLE: Duration = Duration::from_secs(30);
/// The time after which a coordinator that has found records of a later version of hax stands again.
const OUTDATED: Duration = Duration::from_secs(60);

/// A record as it was read.
enum Read<T> {
    Record(T),
    /// It is damaged or of a later version, and is left as it is.
    Frozen,
}

impl<T> Read<T> {
    fn record(self) -> Option<T> {
        match self {
            Self::Record(record) => Some(record),
            Self::Frozen => None,
        }
    }
}

impl<T> From<(Read<T>, u64)> for Tracked<T> {
    fn from((read, index): (Read<T>, u64)) -> Self {
        let value = read.record();
        Self { is_frozen: value.is_none(), value, index }
    }
}

impl State {
    /// Reads all records.
    pub(super) fn list(&mut self, cx: &mut Cx<'_>) {
        if self.committing.is_some() {
            // What is read before its effects and written after them would be wrong.
            let pause = cx.around(AGAIN);
            return cx.arm(Timer::List, pause);
        }
        self.is_listed = false;
        if self.lease.term().is_none() {
            return;
        }
        if core::mem::replace(&mut self.is_listing, true) {
            self.lists_again = true;
        } else {
            txn::send(cx, Call::List, &PREFIXES.map(Op::get_tree));
        }
    }

    pub(super) fn on_listed(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        self.is_listing = false;
        if core::mem::take(&mut self.lists_again) {
            return self.list(cx);
        }
        let txn::Outcome::Applied(results) = txn::Outcome::of(answer) else {
            return cx.retry(Timer::List, &mut self.backoff);
        };
        self.backoff.reset();
        let entries: Vec<KvEntry<'_>> =
            results.into_iter().filter_map(|result| result.kv).collect();
        let before = core::mem::take(&mut self.graph);
        self.pending.clear();
        self.known.clear();
        self.later.clear();
        self.deleted.clear();
        self.entries.clear();
        for entry in &entries {
            self.take(cx, entry);
        }
        self.graph.nodes = self.nodes_of(cx, &entries);
        self.graph.drop_unreadable();
        if self.phase == Phase::Outdated {
            return;
        }
        let (types, instances) = (self.graph.types.len(), self.graph.rows.len());
        cx.emit(Fact::Listed { types, instances, events: self.pending.len() });
        self.is_listed = true;
        if core::mem::take(&mut self.has_unreadable) {
            // No watch tells when it is corrected.
            let pause = cx.around(UNREADABLE);
            cx.arm(Timer::List, pause);
        }
        self.resume(cx, &before);
        self.events.send(cx, Call::Events, WATCH);
        self.nodes.send(cx, Call::Nodes, WATCH);
    }

    /// Continues the jobs that were read, and looks at what no event tells. A job that was known before keeps
    /// its deadline.
    fn resume(&mut self, cx: &mut Cx<'_>, before: &Graph) {
        let now = cx.now().mono;
        let jobs: Vec<Placement> = self.graph.rows.keys().cloned().collect();
        for placement in jobs {
            let row = self.graph.row(&placement);
            let Some(job) = &mut row.job.value else { continue };
            let known = before.rows.get(&placement).and_then(|row| row.known_job());
            let due = match known.filter(|(old, _)| stored::encode(*old) == stored::encode(job)) {
                Some((old, due)) => {
                    *job = old.clone();
                    due
                }
                None => {
                    job.history.read_at(now);
                    job.wait().map(|wait| now.after(wait))
                }
            };
            self.graph.set_due(&placement, due);
        }
        let skip = self.placements_of_events();
        self.rule(cx, None, |cx| rules::look_over(cx, &skip));
        let up = self.graph.nodes.iter().filter(|(_, node)| node.is_up);
        let up: Vec<NodeName> = up.map(|(name, _)| name.clone()).collect();
        for node in up {
            self.rule(cx, None, |cx| rules::fill_all(cx, &node));
        }
        self.rule(cx, None, rules::supervise);
    }

    fn take(&mut self, cx: &mut Cx<'_>, entry: &KvEntry<'_>) {
        let (key, index) = (&*entry.key, entry.modify_index);
        if let Some((node, kind, side)) = keys::parse_instance(key) {
            let placement = Placement { node, kind };
            match side {
                Side::Wanted => {
                    let record = (self.read(cx, entry), index).into();
                    self.graph.row(&placement).wanted = record;
                }
                Side::Observed => {
                    if let Read::Record(observed) = self.read(cx, entry) {
                        self.graph.row(&placement).observed = observed;
                    }
                }
            }
        } else if let Some((node, kind)) = keys::parse_job(key) {
            let record = (self.read(cx, entry), index).into();
            self.graph.row(&Placement { node, kind }).job = record;
        } else if let Some(kind) = key.strip_prefix(keys::TYPES).and_then(TypeName::new) {
            let record = self.read(cx, entry).record();
            self.graph.types.extend(record.map(|record| (kind, record)));
        } else if let Some(kind) = key.strip_prefix(keys::CONFIGS).and_then(TypeName::new) {
            let record: Option<ConfigRecord> = self.read(cx, entry).record();
            let parameters = record.map(|record| record.parameters);
            self.graph.stored.insert(kind, parameters);
        } else if let Some(kind) = key.strip_prefix(keys::GOALS).and_then(TypeName::new) {
            let record = (self.read(cx, entry), index).into();
            self.graph.goals.insert(kind, record);
        } else if let Some(node) = key.strip_prefix(keys::SUPERVISION).and_then(NodeName::new) {
            let record = (self.read(cx, entry), index).into();
            self.graph.supervision.insert(node, record);
        } else if key.starts_with(keys::NOTICES) {
            let record = (self.read(cx, entry), index).into();
            self.graph.notices.insert(key.into(), record);
        } else if key.starts_with(keys::EVENTS) {
            self.take_event(cx, entry);
        }
    }

    fn take_event(&mut self, cx: &mut Cx<'_>, entry: &KvEntry<'_>) {
        if self.known.insert((&*entry.key).into()) {
            let event: Option<Event> = self.read(cx, entry).record();
            if self.is_listed {
                self.later.insert((&*entry.key).into());
            }
            let place = (entry.modify_index, (&*entry.key).into());
            self.pending.extend(event.map(|event| (place, event)));
        }
    }

    /// Reads a record. One that cannot be used is reported, and one of a later version ends the coordination.
    fn read<T: DeserializeOwned>(&mut self, cx: &mut Cx<'_>, entry: &KvEntry<'_>) -> Read<T> {
        let bytes = entry.bytes().ok_or_else(|| Unusable::Damaged("the value is no base64".into()));
        match bytes.and_then(|bytes| stored::decode(&bytes)) {
            Ok(record) => Read::Record(record),
            Err(why) => {
                let key = (&*entry.key).into();
                self.has_unreadable = true;
                cx.emit(Fact::Unreadable { key, why: format!("{why}").into() });
                if let Unusable::Newer(_) = why
                    && self.phase == Phase::Standing
                {
                    self.phase = Phase::Outdated;
                }
                Read::Frozen
            }
        }
    }

    /// Gives the lease up if a later version of hax has written a record.
    pub(super) fn yield_if_outdated(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Outdated && self.lease.term().is_some() {
            cx.emit(Fact::Yields { why: "a later version of hax has written records".into() });
            self.drop_all(cx);
            self.lease.resign(cx);
            let pause = cx.around(OUTDATED);
            cx.arm(Timer::Stand, pause);
        }
    }

    // ---- watches ----------------------------------------------------------------------------------

    pub(super) fn on_events(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(answer) = self.events.on_answer(cx, Timer::Events, answer) else { return };
        match entries_of(answer) {
            Err(why) => cx.emit(Fact::Unreadable { key: keys::EVENTS.into(), why }),
            Ok(_) if answer.index < self.events_index || self.events.has_nothing_new() => {
                // Consul's history has begun anew: a snapshot was restored. Or it may have, without a trace.
                self.events_index = 0;
                self.doubt(cx);
            }
            Ok(entries) if self.is_listed && self.have_returned(&entries, answer.index) => {
                // The same, with a later write.
                self.doubt(cx);
            }
            Ok(entries) if self.is_listed => {
                self.events_index = answer.index;
                for entry in &entries {
                    self.take_event(cx, entry);
                }
                if answer.index >= self.committed_index {
                    // What is not in the answer is deleted and never comes again.
                    let there: BTreeSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
                    self.known.retain(|key| there.contains(&**key));
                    self.deleted.clear();
                }
            }
            Ok(_) => {
                // The list that is on its way may be older than this answer. The watch goes on from scratch
                // once the list is there.
                self.events.restart();
                return;
            }
        }
        self.events.send(cx, Call::Events, WATCH);
    }

    /// Returns whether an answer has an event that was deleted before.
    fn have_returned(&self, entries: &[KvEntry<'_>], index: u64) -> bool {
        entries.iter().any(|entry| {
            if self.known.contains(&*entry.key) {
                index >= self.committed_index && self.deleted.contains(&*entry.key)
            } else {
                entry.modify_index <= self.events_index
            }
        })
    }

    pub(super) fn on_nodes(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(answer) = self.nodes.on_answer(cx, Timer::Nodes, answer) else { return };
        match entries_of(answer) {
            Ok(entries) if self.is_listed => {
                let nodes = self.nodes_of(cx, &entries);
                let before = core::mem::replace(&mut self.graph.nodes, nodes.clone());
                for (name, node) in nodes {
                    if node.is_up && before.get(&name) != Some(&node) {
                        self.rule(cx, None, |cx| rules::fill_all(cx, &name));
                    }
                }
                self.rule(cx, None, rules::supervise);
            }
            // The same as for events.
            Ok(_) => return self.nodes.restart(),
            Err(why) => cx.emit(Fact::Unreadable { key: keys::NODES.into(), why }),
        }
        self.nodes.send(cx, Call::Nodes, WATCH);
    }

    fn nodes_of(
        &mut self,
        cx: &mut Cx<'_>,
        entries: &[KvEntry<'_>],
    ) -> BTreeMap<NodeName, NodeView> {
        let mut nodes: BTreeMap<NodeName, NodeView> = BTreeMap::new();
        for entry in entries {
            match keys::parse_node(&entry.key) {
                Some((node, "lease")) => {
                    let is_up = entry.session.as_ref().is_some_and(|session| !session.is_empty());
                    nodes.entry(node).or_default().is_up = is_up;
                }
                Some((node, "record")) => {
                    let record: Option<NodeRecord> = self.read(cx, entry).record();
                    nodes.entry(node).or_default().labels = record.map(|record| record.labels);
                }
                Some(_) | None => {}
            }
        }
        nodes
    }
}

fn entries_of(answer: &Answer) -> Result<Vec<KvEntry<'_>>, Box<str>> {
    if answer.status == 404 { Ok(Vec::new()) } else { json::parse(&answer.body) }
}
