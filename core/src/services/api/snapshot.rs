//! All records of services at one moment, for the answer to a request.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::consul::json::KvEntry;
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::keeper::name::ServiceName;
use crate::services::model::keys::{self, Side};
use crate::services::model::kind::TypeRecord;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::parameters::Given;
use crate::services::model::place::Labels;
use crate::services::model::record::{
    ConfigRecord, Goal, Job, NameRecord, NodeRecord, Observed, State, Want, Wanted,
};
use crate::services::model::schema::SchemaRecord;
use crate::services::model::stored;
use crate::services::model::supervision::Supervision;
use crate::store::txn;

/// The prefixes of all records.
const PREFIXES: [&str; 11] = [
    keys::TYPES,
    keys::SCHEMAS,
    keys::CONFIGS,
    keys::GOALS,
    keys::INSTANCES,
    keys::JOBS,
    keys::NAMES,
    keys::NODES,
    keys::SUPERVISION,
    keys::EVENTS,
    keys::COORD,
];

/// A record with its index. A record that cannot be used has none.
#[derive(Debug)]
pub(super) struct Kept<T> {
    pub(super) record: Option<T>,
    pub(super) index: u64,
}

/// One instance.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) wanted: Option<Wanted>,
    pub(super) observed: Option<Observed>,
    pub(super) job: Option<Job>,
}

impl Row {
    /// Returns the serial number of the last wanted start.
    pub(super) fn serial(&self) -> u64 {
        self.wanted.as_ref().map_or(0, |wanted| wanted.serial)
    }

    /// Returns the state of the last observation.
    pub(super) fn state(&self) -> State {
        self.observed.as_ref().map_or(State::Absent, |observed| observed.state)
    }

    /// Returns whether its node has worked the last wanted start.
    pub(super) fn is_seen(&self) -> bool {
        self.observed.as_ref().map_or(0, |observed| observed.serial) >= self.serial()
    }

    /// Returns whether it runs, as is wanted.
    pub(super) fn runs(&self) -> bool {
        let is_wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.want == Want::Running);
        is_wanted && self.is_seen() && matches!(self.state(), State::Running | State::Degraded)
    }

    /// Returns whether it has failed, and is not about to be started.
    pub(super) fn has_failed(&self) -> bool {
        self.wanted.is_some() && self.is_seen() && self.state() == State::Failed
    }

    /// Returns whether it was ever wanted, or lives.
    pub(super) fn is_there(&self) -> bool {
        self.wanted.is_some() || self.job.is_some() || self.state() != State::Absent
    }

    /// Returns whether it is stopped.
    pub(super) fn is_stopped(&self) -> bool {
        let is_wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.want == Want::Running);
        !is_wanted && self.job.is_none() && self.state() == State::Absent
    }
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) is_up: bool,
    pub(super) labels: Labels,
    /// The index of its lease's key.
    pub(super) lease_index: u64,
}

/// All records.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) types: BTreeMap<TypeName, Kept<TypeRecord>>,
    pub(super) schemas: BTreeMap<Box<str>, Kept<SchemaRecord>>,
    pub(super) configs: BTreeMap<TypeName, Kept<ConfigRecord>>,
    pub(super) goals: BTreeMap<TypeName, Goal>,
    pub(super) rows: BTreeMap<(TypeName, NodeName), Row>,
    pub(super) names: BTreeMap<(NodeName, ServiceName), NameRecord>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    /// The keys of the events that wait for the coordinator.
    pub(super) event_keys: BTreeSet<Box<str>>,
    /// The highest index of all records.
    pub(super) index: u64,
    /// Whether there is a coordinator.
    pub(super) is_coordinated: bool,
    /// The node of the coordinator.
    pub(super) coordinator: Option<NodeName>,
    /// What each supervisor watches.
    pub(super) supervision: BTreeMap<NodeName, Supervision>,
}

/// The value of the coordinator's lease.
#[derive(Deserialize)]
struct Holder {
    holder: NodeName,
}

fn read<T: DeserializeOwned>(entry: &KvEntry<'_>) -> Option<T> {
    entry.bytes().and_then(|bytes| stored::decode(&bytes).ok())
}

fn kept<T: DeserializeOwned>(entry: &KvEntry<'_>) -> Kept<T> {
    Kept { record: read(entry), index: entry.modify_index }
}

impl Snapshot {
    /// Returns the operations that read everything.
    pub(super) fn ops() -> Vec<Op> {
        PREFIXES.map(Op::get_tree).into()
    }

    pub(super) fn of(answer: Option<&Answer>) -> Option<Self> {
        let txn::Outcome::Applied(results) = txn::Outcome::of(answer) else { return None };
        let mut all = Self::default();
        for entry in results.iter().filter_map(|result| result.kv.as_ref()) {
            all.take(entry);
        }
        Some(all)
    }

    fn take(&mut self, entry: &KvEntry<'_>) {
        let key = &*entry.key;
        self.index = self.index.max(entry.modify_index);
        let is_held = entry.session.as_ref().is_some_and(|session| !session.is_empty());
        if let Some((node, kind, side)) = keys::parse_instance(key) {
            let row = self.rows.entry((kind, node)).or_default();
            match side {
                Side::Wanted => row.wanted = read(entry),
                Side::Observed => row.observed = read(entry),
            }
        } else if let Some((node, kind)) = keys::parse_job(key) {
            self.rows.entry((kind, node)).or_default().job = read(entry);
        } else if let Some(kind) = key.strip_prefix(keys::TYPES).and_then(TypeName::new) {
            self.types.insert(kind, kept(entry));
        } else if let Some(id) = key.strip_prefix(keys::SCHEMAS) {
            self.schemas.insert(id.into(), kept(entry));
        } else if let Some(kind) = key.strip_prefix(keys::CONFIGS).and_then(TypeName::new) {
            self.configs.insert(kind, kept(entry));
        } else if let Some(kind) = key.strip_prefix(keys::GOALS).and_then(TypeName::new) {
            self.goals.extend(read(entry).map(|goal| (kind, goal)));
        } else if let Some((node, rest)) = keys::parse_node(key) {
            let node = self.nodes.entry(node).or_default();
            match rest {
                "lease" => {
                    (node.is_up, node.lease_index) = (is_held, entry.modify_index);
                }
                _ => {
                    node.labels =
                        read(entry).map(|record: NodeRecord| record.labels).unwrap_or_default()
                }
            }
        } else if let Some(rest) = key.strip_prefix(keys::NAMES) {
            let parts = rest.split_once('/');
            let parts = parts
                .and_then(|(node, name)| Some((NodeName::new(node)?, ServiceName::new(name)?)));
            self.names.extend(parts.and_then(|parts| Some((parts, read(entry)?))));
        } else if key.starts_with(keys::EVENTS) {
            self.event_keys.insert(key.into());
        } else if key == keys::COORD {
            self.is_coordinated = is_held;
            let holder = entry.bytes().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            self.coordinator = holder.filter(|_| is_held).map(|Holder { holder }| holder);
        } else if let Some(node) = key.strip_prefix(keys::SUPERVISION).and_then(NodeName::new) {
            self.supervision.extend(read(entry).map(|set| (node, set)));
        }
    }

    /// Returns a type that can be used.
    pub(super) fn kind(&self, kind: &TypeName) -> Option<&TypeRecord> {
        self.types.get(kind)?.record.as_ref()
    }

    /// Returns the stored parameters of a type.
    pub(super) fn stored(&self, kind: &TypeName) -> Given {
        let record = self.configs.get(kind).and_then(|of| of.record.as_ref());
        record.map(|record| record.parameters.clone()).unwrap_or_default()
    }

    /// Returns whether the stored parameters of a type cannot be read, so nothing can be said of its instances.
    pub(super) fn has_unreadable_config(&self, kind: &TypeName) -> bool {
        self.configs.get(kind).is_some_and(|of| of.record.is_none())
    }

    /// Returns the nodes of a type's place.
    pub(super) fn places(&self, kind: &TypeName) -> Vec<NodeName> {
        let Some(of) = self.kind(kind) else { return Vec::new() };
        let nodes =
            self.nodes.iter().filter(|(name, node)| of.place.has(name.as_str(), &node.labels));
        nodes.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn is_up(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_up)
    }
}
