//! What the servers hold: the tables, and the index that each of them was last changed at.

use std::collections::BTreeMap;

use hax_core::base::time::Instant;

use super::rows::{Check, Entry, Grave, Node, Service, Session, SessionId};

/// The index at which each table was last changed, as the servers keep it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    pub(super) kvs: u64,
    pub(super) tombstones: u64,
    pub(super) nodes: u64,
    pub(super) services: u64,
    pub(super) checks: u64,
    /// When a check itself was last written or removed: this alone wakes who waits for checks.
    pub(super) check_rows: u64,
    pub(super) sessions: u64,
    /// When a service last lost its last instance: the index of every service that is not there.
    pub(super) extinction: u64,
}

/// Names a row of a node: the node's name and the row's id.
pub(super) type Row = (String, String);

/// The replicated state.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// The time of the call being worked on: lock delays and graves are made of it.
    pub(super) now: Instant,
    /// The log's index: each write takes the next one, whether it changes anything or not.
    pub(super) index: u64,
    pub(super) tables: Tables,
    /// The index of each service that has instances; its checks' and nodes' changes move it too.
    pub(super) service_index: BTreeMap<String, u64>,
    pub(super) kv: BTreeMap<String, Entry>,
    pub(super) graves: BTreeMap<String, Grave>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) services: BTreeMap<Row, Service>,
    pub(super) checks: BTreeMap<Row, Check>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Keys that may not be locked before a moment, and the moment.
    pub(super) lock_delays: BTreeMap<String, Instant>,
    /// Sessions that came, and those that went, since the host of the timers last looked.
    pub(super) session_changes: Vec<(SessionId, bool)>,
}

impl Store {
    /// Takes the next index of the log for a write.
    pub(super) fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }
}
