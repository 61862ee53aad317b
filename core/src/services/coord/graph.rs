//! The coordinator's memory of all types, instances, nodes and jobs.
//!
//! Rules change it, and the changes become operations of a transaction. If a transaction is not committed, the
//! whole memory is read again.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::base::time::Instant;
use crate::consul::op::Op;
use crate::services::model::class::Class;
use crate::services::model::keys::{self, Side};
use crate::services::model::kind::TypeRecord;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::parameters::Given;
use crate::services::model::place::Labels;
use crate::services::model::record::{
    Event, Goal, Job, Notice, Observed, State, Want, Wanted, What,
};
use crate::services::model::stored;
use crate::services::model::supervision::Supervision;

/// The place of an instance: a node and a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placement {
    pub(super) node: NodeName,
    pub(super) kind: TypeName,
}

/// A record of the coordinator, and its index in Consul. Zero means that Consul has none.
#[derive(Clone, Debug)]
pub(super) struct Tracked<T> {
    pub(super) value: Option<T>,
    pub(super) index: u64,
    /// A record of a later version, which is left as it is.
    pub(super) is_frozen: bool,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self { value: None, index: 0, is_frozen: false }
    }
}

/// An instance as the coordinator knows it.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) wanted: Tracked<Wanted>,
    pub(super) job: Tracked<Job>,
    pub(super) observed: Observed,
    due: Option<Instant>,
}

impl Row {
    /// Returns whether the instance is wanted to run.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.value.as_ref().is_some_and(|wanted| wanted.want == Want::Running)
    }

    /// Returns the serial number of the last wanted start.
    pub(super) fn serial(&self) -> u64 {
        self.wanted.value.as_ref().map_or(0, |wanted| wanted.serial)
    }

    /// Returns whether the last wanted start runs and is ready.
    pub(super) fn runs(&self) -> bool {
        let is_up = matches!(self.observed.state, State::Running | State::Degraded);
        is_up && self.is_wanted() && self.observed.serial >= self.serial()
    }

    /// Returns the job, and its deadline unless that is over.
    pub(super) fn known_job(&self) -> Option<(&Job, Option<Instant>)> {
        Some((self.job.value.as_ref()?, self.due))
    }

    /// Returns whether no process of it lives, and none is about to: its node has worked the last wanted start.
    pub(super) fn is_down(&self) -> bool {
        let is_over = matches!(self.observed.state, State::Absent | State::Failed)
            && self.observed.serial >= self.serial();
        let class = self.observed.reason.as_ref().map(|reason| reason.class);
        is_over && self.observed.pid.is_none() && class != Some(Class::NotStopped)
    }
}

/// A node as the coordinator knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeView {
    pub(super) is_up: bool,
    /// None while its record is missing or cannot be read.
    pub(super) labels: Option<Labels>,
}

/// The name of a record that the coordinator writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordKey {
    Goal(TypeName),
    Wanted(Placement),
    Job(Placement),
    Supervision(NodeName),
    /// The notice with this key.
    Notice(Box<str>),
}

impl RecordKey {
    /// Returns the record's key in Consul.
    pub(super) fn key(&self) -> Box<str> {
        match self {
            Self::Goal(kind) => alloc::format!("{}{kind}", keys::GOALS),
            Self::Wanted(Placement { node, kind }) => keys::instance(node, kind, Side::Wanted),
            Self::Job(Placement { node, kind }) => keys::job(node, kind),
            Self::Supervision(node) => alloc::format!("{}{node}", keys::SUPERVISION),
            Self::Notice(key) => return key.clone(),
        }
        .into()
    }
}

/// The memory of everything.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) types: BTreeMap<TypeName, TypeRecord>,
    /// The stored parameters of types; none if their record cannot be read.
    pub(super) stored: BTreeMap<TypeName, Option<Given>>,
    pub(super) nodes: BTreeMap<NodeName, NodeView>,
    pub(super) goals: BTreeMap<TypeName, Tracked<Goal>>,
    pub(super) rows: BTreeMap<Placement, Row>,
    pub(super) supervision: BTreeMap<NodeName, Tracked<Supervision>>,
    /// The notices by their keys. One that is to be deleted has no value.
    pub(super) notices: BTreeMap<Box<str>, Tracked<Notice>>,
    dues: BTreeSet<(Instant, Placement)>,
    /// The records that were changed since the last look.
    changed: Vec<RecordKey>,
}

impl Graph {
    /// Returns the row of a placement, which is created if there is none.
    pub(super) fn row(&mut self, placement: &Placement) -> &mut Row {
        self.rows.entry(placement.clone()).or_default()
    }

    /// Drops the types whose stored parameters cannot be read: nothing is decided of their instances.
    pub(super) fn drop_unreadable(&mut self) {
        let Self { types, stored, .. } = self;
        types.retain(|kind, _| stored.get(kind).is_none_or(Option::is_some));
    }

    pub(super) fn set_goal(&mut self, kind: &TypeName, goal: Goal) {
        let record = self.goals.entry(kind.clone()).or_default();
        if record.value.as_ref() != Some(&goal) {
            record.value = Some(goal);
            self.changed.push(RecordKey::Goal(kind.clone()));
        }
    }

    pub(super) fn set_wanted(&mut self, placement: &Placement, wanted: Wanted) {
        self.row(placement).wanted.value = Some(wanted);
        self.changed.push(RecordKey::Wanted(placement.clone()));
    }

    /// Drops all that is known of a node. Its records are deleted already.
    pub(super) fn forget(&mut self, node: &NodeName) {
        self.rows.retain(|placement, _| placement.node != *node);
        self.dues.retain(|(_, placement)| placement.node != *node);
        self.nodes.remove(node);
        self.supervision.remove(node);
    }

    /// Sets what a node's supervisor watches, or removes it.
    pub(super) fn set_supervision(&mut self, node: &NodeName, set: Option<Supervision>) {
        let record = self.supervision.entry(node.clone()).or_default();
        if record.value != set {
            record.value = set;
            self.changed.push(RecordKey::Supervision(node.clone()));
        }
    }

    /// Sets or deletes a notice.
    pub(super) fn set_notice(&mut self, key: &str, notice: Option<Notice>) {
        let record = self.notices.entry(key.into()).or_default();
        record.value = notice;
        self.changed.push(RecordKey::Notice(key.into()));
    }

    /// Sets or ends the job of an instance, with the deadline of its phase.
    pub(super) fn set_job(&mut self, now: Instant, placement: &Placement, job: Option<Job>) {
        let due = job.as_ref().and_then(Job::wait).map(|wait| now.after(wait));
        self.set_due(placement, due);
        let row = self.row(placement);
        if row.job.value.is_some() || job.is_some() {
            row.job.value = job;
            self.changed.push(RecordKey::Job(placement.clone()));
        }
    }

    /// Arms the deadline of an instance's job, or disarms it.
    pub(super) fn set_due(&mut self, placement: &Placement, due: Option<Instant>) {
        let row = self.rows.entry(placement.clone()).or_default();
        if let Some(old) = core::mem::replace(&mut row.due, due) {
            self.dues.remove(&(old, placement.clone()));
        }
        self.dues.extend(due.map(|at| (at, placement.clone())));
    }

    /// Returns the first deadline.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.dues.first().map(|(at, _)| *at)
    }

    /// Removes and returns the next deadline that is over.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Placement> {
        let (_, placement) = self.dues.first().filter(|(at, _)| *at <= now)?.clone();
        self.set_due(&placement, None);
        Some(placement)
    }

    /// Returns the records that were changed since the last look.
    pub(super) fn take_changed(&mut self) -> Vec<RecordKey> {
        core::mem::take(&mut self.changed)
    }

    /// Returns the operations that write a record as it is now. There are none if Consul has it already, or if
    /// the record is of a later version.
    pub(super) fn ops(&self, record: &RecordKey) -> Vec<Op> {
        fn of<T: serde::Serialize>(key: &str, record: Option<&Tracked<T>>) -> Vec<Op> {
            let Some(record) = record.filter(|record| !record.is_frozen) else { return Vec::new() };
            match &record.value {
                Some(value) => [Op::cas(key, &stored::encode(value), record.index)].into(),
                None if record.index > 0 => {
                    [Op::check_index(key, record.index), Op::delete(key)].into()
                }
                None => Vec::new(),
            }
        }
        let key = record.key();
        match record {
            RecordKey::Goal(kind) => of(&key, self.goals.get(kind)),
            RecordKey::Wanted(placement) => {
                of(&key, self.rows.get(placement).map(|row| &row.wanted))
            }
            RecordKey::Job(placement) => of(&key, self.rows.get(placement).map(|row| &row.job)),
            RecordKey::Supervision(node) => of(&key, self.supervision.get(node)),
            RecordKey::Notice(key) => of(key, self.notices.get(key)),
        }
    }

    /// Records the index of a record that was written. Zero means that it was deleted.
    pub(super) fn on_written(&mut self, record: &RecordKey, index: u64) {
        match record {
            RecordKey::Goal(kind) => {
                self.goals.entry(kind.clone()).or_default().index = index;
            }
            RecordKey::Wanted(placement) => self.row(placement).wanted.index = index,
            RecordKey::Job(placement) => self.row(placement).job.index = index,
            RecordKey::Supervision(node) => {
                self.supervision.entry(node.clone()).or_default().index = index;
            }
            RecordKey::Notice(key) if index == 0 => drop(self.notices.remove(key)),
            RecordKey::Notice(key) => {
                self.notices.entry(key.clone()).or_default().index = index;
            }
        }
    }

    // ---- queries ----------------------------------------------------------------------------------

    /// Returns all places of a type: the nodes that are known and belong to it.
    pub(super) fn places(&self, kind: &TypeName) -> Vec<Placement> {
        let nodes = self.nodes.keys().filter(|node| self.is_place(node, kind));
        nodes.map(|node| Placement { node: node.clone(), kind: kind.clone() }).collect()
    }

    /// Returns whether an event asks for an instance on a node that is not known as a place of its type.
    pub(super) fn lacks_place_of(&self, event: &Event) -> bool {
        let What::Asked(ask) = &event.what else { return false };
        ask.node.as_ref().is_some_and(|node| !self.is_place(node, &ask.kind))
    }

    /// Returns whether a node is known, and is a place of a type.
    pub(super) fn is_place(&self, node: &NodeName, kind: &TypeName) -> bool {
        let of = self.types.get(kind).zip(self.nodes.get(node));
        let none = Labels::default();
        of.is_some_and(|(of, view)| {
            of.place.has(node.as_str(), view.labels.as_ref().unwrap_or(&none))
        })
    }

    /// Returns whether a node is certainly no place of a type: the type and the node's labels are known.
    pub(super) fn is_no_place(&self, node: &NodeName, kind: &TypeName) -> bool {
        let has_labels = self.nodes.get(node).is_some_and(|view| view.labels.is_some());
        has_labels && self.types.contains_key(kind) && !self.is_place(node, kind)
    }

    /// Returns all instances of a type.
    pub(super) fn placements_of(&self, kind: &TypeName) -> Vec<Placement> {
        self.rows.keys().filter(|placement| placement.kind == *kind).cloned().collect()
    }

    /// Returns the instances on the same node whose types need this one's.
    pub(super) fn dependents(&self, placement: &Placement) -> Vec<Placement> {
        // Where a type cannot be read, the instance tells by its launch what it needs.
        let needs = |kind: &TypeName, row: &Row| {
            let launch = row.wanted.value.as_ref().map(|wanted| &*wanted.launch.needs);
            let needs = self.types.get(kind).map(|of| &*of.needs).or(launch).unwrap_or_default();
            needs.contains(&placement.kind)
        };
        let here = self.rows.iter().filter(|(other, _)| other.node == placement.node);
        here.filter(|(other, row)| needs(&other.kind, row))
            .map(|(other, _)| other.clone())
            .collect()
    }
}
