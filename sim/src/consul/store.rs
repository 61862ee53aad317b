//! The state of the servers: the tables, and the index of the last change of each table.

use std::collections::BTreeMap;

use hax_core::base::time::Instant;

use super::rows::{Check, Entry, Node, Service, Session, SessionId, Tombstone};

/// The index of the last change of each table, as the servers keep it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    pub(super) kvs: u64,
    pub(super) tombstones: u64,
    pub(super) nodes: u64,
    pub(super) services: u64,
    pub(super) checks: u64,
    /// The index of the last write or removal of a check itself: only that wakes the queries for checks.
    pub(super) check_rows: u64,
    pub(super) sessions: u64,
    /// The index at which any service last lost its last instance: the index of every missing service.
    pub(super) extinction: u64,
}

/// The key of a node's row: the node's name and the row's id.
pub(super) type Row = (String, String);

/// The replicated state.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// The time of the present call. Lock delays and the end of tombstones are computed from it.
    pub(super) now: Instant,
    /// The log's index. Each write takes the next one, whether it changes anything or not.
    pub(super) index: u64,
    pub(super) tables: Tables,
    /// The index of each service that has instances. Changes of its checks and nodes move it too.
    pub(super) service_index: BTreeMap<String, u64>,
    pub(super) kv: BTreeMap<String, Entry>,
    pub(super) tombstones: BTreeMap<String, Tombstone>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) services: BTreeMap<Row, Service>,
    pub(super) checks: BTreeMap<Row, Check>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// The keys with a lock delay, and the end of the delay.
    pub(super) lock_delays: BTreeMap<String, Instant>,
    /// The ids of new (`true`) and ended (`false`) sessions since the timers were last updated.
    pub(super) session_changes: Vec<(SessionId, bool)>,
}

impl Store {
    /// Takes the next index of the log for a write.
    pub(super) fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }
}
