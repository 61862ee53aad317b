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
use crate::services::model::record::{Goal, Job, Observed, State, Want, Wanted};
use crate::services::model::stored;

/// The place of an instance: a node and a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) node: NodeName,
    pub(super) kind: TypeName,
}

/// A record of the coordinator, and its index in Consul. Zero means that Consul has none.
#[derive(Clone, Debug)]
pub(super) struct Cell<T> {
    pub(super) value: Option<T>,
    pub(super) index: u64,
    /// A record of a later version, which is left as it is.
    pub(super) is_frozen: bool,
}

impl<T> Default for Cell<T> {
    fn default() -> Self {
        Self { value: None, index: 0, is_frozen: false }
    }
}

/// An instance as the coordinator knows it.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) wanted: Cell<Wanted>,
    pub(super) job: Cell<Job>,
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

    /// Returns whether no process of it lives.
    pub(super) fn is_down(&self) -> bool {
        let is_over = matches!(self.observed.state, State::Absent | State::Failed);
        let class = self.observed.reason.as_ref().map(|reason| reason.class);
        is_over && self.observed.pid.is_none() && class != Some(Class::NotStopped)
    }
}

/// A node as the coordinator knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeView {
    pub(super) is_up: bool,
    pub(super) labels: Labels,
}

/// The name of a record that the coordinator writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CellKey {
    Goal(TypeName),
    Wanted(Spot),
    Job(Spot),
}

impl CellKey {
    /// Returns the record's key in Consul.
    pub(super) fn key(&self) -> Box<str> {
        match self {
            Self::Goal(kind) => alloc::format!("{}{kind}", keys::GOALS),
            Self::Wanted(Spot { node, kind }) => keys::instance(node, kind, Side::Wanted),
            Self::Job(Spot { node, kind }) => keys::job(node, kind),
        }
        .into()
    }
}

/// The memory of everything.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) types: BTreeMap<TypeName, TypeRecord>,
    pub(super) stored: BTreeMap<TypeName, Given>,
    pub(super) nodes: BTreeMap<NodeName, NodeView>,
    pub(super) goals: BTreeMap<TypeName, Cell<Goal>>,
    pub(super) rows: BTreeMap<Spot, Row>,
    dues: BTreeSet<(Instant, Spot)>,
    /// The records that were changed since the last look.
    changed: Vec<CellKey>,
}

impl Graph {
    /// Returns the row of a spot, which is created if there is none.
    pub(super) fn row(&mut self, spot: &Spot) -> &mut Row {
        self.rows.entry(spot.clone()).or_default()
    }

    pub(super) fn set_goal(&mut self, kind: &TypeName, goal: Goal) {
        let cell = self.goals.entry(kind.clone()).or_default();
        if cell.value.as_ref() != Some(&goal) {
            cell.value = Some(goal);
            self.changed.push(CellKey::Goal(kind.clone()));
        }
    }

    pub(super) fn set_wanted(&mut self, spot: &Spot, wanted: Wanted) {
        self.row(spot).wanted.value = Some(wanted);
        self.changed.push(CellKey::Wanted(spot.clone()));
    }

    /// Sets or ends the job of an instance, with the deadline of its phase.
    pub(super) fn set_job(&mut self, now: Instant, spot: &Spot, job: Option<Job>) {
        let due = job.as_ref().and_then(Job::wait).map(|wait| now.after(wait));
        self.set_due(spot, due);
        let row = self.row(spot);
        if row.job.value.is_some() || job.is_some() {
            row.job.value = job;
            self.changed.push(CellKey::Job(spot.clone()));
        }
    }

    /// Arms the deadline of an instance's job, or disarms it.
    pub(super) fn set_due(&mut self, spot: &Spot, due: Option<Instant>) {
        let row = self.rows.entry(spot.clone()).or_default();
        if let Some(old) = core::mem::replace(&mut row.due, due) {
            self.dues.remove(&(old, spot.clone()));
        }
        self.dues.extend(due.map(|at| (at, spot.clone())));
    }

    /// Returns the first deadline.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.dues.first().map(|(at, _)| *at)
    }

    /// Removes and returns the next deadline that is over.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Spot> {
        let (_, spot) = self.dues.first().filter(|(at, _)| *at <= now)?.clone();
        self.set_due(&spot, None);
        Some(spot)
    }

    /// Returns the records that were changed since the last look.
    pub(super) fn take_changed(&mut self) -> Vec<CellKey> {
        core::mem::take(&mut self.changed)
    }

    /// Returns the operations that write a record as it is now. There are none if Consul has it already, or if
    /// the record is of a later version.
    pub(super) fn ops(&self, cell: &CellKey) -> Vec<Op> {
        fn of<T: serde::Serialize>(key: &str, cell: Option<&Cell<T>>) -> Vec<Op> {
            let Some(cell) = cell.filter(|cell| !cell.is_frozen) else { return Vec::new() };
            match &cell.value {
                Some(value) => [Op::cas(key, &stored::encode(value), cell.index)].into(),
                None if cell.index > 0 => {
                    [Op::check_index(key, cell.index), Op::delete(key)].into()
                }
                None => Vec::new(),
            }
        }
        let key = cell.key();
        match cell {
            CellKey::Goal(kind) => of(&key, self.goals.get(kind)),
            CellKey::Wanted(spot) => of(&key, self.rows.get(spot).map(|row| &row.wanted)),
            CellKey::Job(spot) => of(&key, self.rows.get(spot).map(|row| &row.job)),
        }
    }

    /// Records the index of a record that was written. Zero means that it was deleted.
    pub(super) fn on_written(&mut self, cell: &CellKey, index: u64) {
        match cell {
            CellKey::Goal(kind) => {
                self.goals.entry(kind.clone()).or_default().index = index;
            }
            CellKey::Wanted(spot) => self.row(spot).wanted.index = index,
            CellKey::Job(spot) => self.row(spot).job.index = index,
        }
    }

    // ---- queries ----------------------------------------------------------------------------------

    /// Returns all places of a type: the nodes that are known and belong to it.
    pub(super) fn places(&self, kind: &TypeName) -> Vec<Spot> {
        let Some(of) = self.types.get(kind) else { return Vec::new() };
        let nodes =
            self.nodes.iter().filter(|(name, node)| of.place.has(name.as_str(), &node.labels));
        nodes.map(|(node, _)| Spot { node: node.clone(), kind: kind.clone() }).collect()
    }

    /// Returns all instances of a type.
    pub(super) fn spots_of(&self, kind: &TypeName) -> Vec<Spot> {
        self.rows.keys().filter(|spot| spot.kind == *kind).cloned().collect()
    }

    /// Returns the instances on the same node whose types need this one's.
    pub(super) fn dependents(&self, spot: &Spot) -> Vec<Spot> {
        let needs =
            |kind: &TypeName| self.types.get(kind).is_some_and(|of| of.needs.contains(&spot.kind));
        let here = self.rows.keys().filter(|other| other.node == spot.node && needs(&other.kind));
        here.cloned().collect()
    }
}
