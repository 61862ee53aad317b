//! TCP connections of the wire on the sockets of any runtime: [`net::Command`] in, [`net::Event`] out.
//!
//! A connection is one task that owns the socket. Its entry in the table holds the bounded queue of pending
//! writes. Removing the entry from the table *is* the close: the task writes the rest of the queue, shuts
//! down its side, reads to the end, and only then closes the socket. Closing a socket with unread bytes sends
//! a reset, on which a real peer may crash. A connection that is being closed does not count against the
//! limit, and is cut short if the core demands it.

mod accept;
mod backlog;
mod connection;
mod late_port;
pub mod listen;
#[cfg(feature = "services")]
pub mod local;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::base::id::ConnId;
use hax_core::net;

use crate::host::timer::{Timer, within};

pub use accept::{AcceptLimit, Permit};
pub use backlog::drain_backlog;
pub use connection::{Socket, connect, dial, run};

/// The maximum number of pending writes of one connection. The wire has one message in flight for each link.
/// So only a peer that sends requests and reads no replies reaches the limit.
const WRITES_MAX: usize = 1024;

/// The time for tasks to close their sockets after the peers' time is over.
const TASKS_END_WITHIN: Duration = Duration::from_millis(200);

type Segments = Arc<[Bytes]>;

/// The table of all connections of one endpoint.
pub struct Connections<I> {
    table: Mutex<Option<Table>>,
    inbox: Sender<I>,
    wrap: fn(net::Event) -> I,
    /// The number of accepted connections.
    accepted: AtomicU64,
    /// Returns an error as soon as the last connection's task has ended.
    ended: Receiver<()>,
    /// Closed when the peers' time is over.
    peers_timeout: (Sender<Infallible>, Receiver<Infallible>),
}

struct Table {
    entries: BTreeMap<ConnId, Entry>,
    /// The connections that are being closed; a message cuts one short.
    closing: BTreeMap<ConnId, oneshot::Sender<()>>,
    /// Each task holds a clone during its lifetime.
    alive: Sender<()>,
}

/// The table's side of a connection; dropped to close it.
struct Entry {
    writes: Sender<Segments>,
    _open: oneshot::Sender<()>,
    cut: oneshot::Sender<()>,
    /// The permit of an accepted connection; `None` for one that hax opened.
    _permit: Option<Permit>,
}

/// The task's side of a connection.
pub struct Task {
    writes: Receiver<Segments>,
    /// Completes when the connection has to be closed.
    open: oneshot::Receiver<()>,
    /// Receives a message when the close has to be cut short.
    cut: oneshot::Receiver<()>,
    alive: Sender<()>,
}

impl<I> Connections<I> {
    /// Creates a table without connections. `wrap` converts the events into inputs, which are put in `inbox`.
    #[must_use]
    pub fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Arc<Self> {
        let (alive, ended) = async_channel::bounded(1);
        let peers_timeout = async_channel::bounded(1);
        let table =
            Mutex::new(Some(Table { entries: BTreeMap::new(), closing: BTreeMap::new(), alive }));
        Arc::new(Self { table, inbox, wrap, accepted: AtomicU64::new(0), ended, peers_timeout })
    }

    /// Mints the id of an accepted connection and makes its entry, as [`add_opened`](Self::add_opened) does.
    #[must_use]
    pub fn add_accepted(&self, permit: Option<Permit>) -> Option<(ConnId, Task)> {
        let conn = ConnId::accepted(self.accepted.fetch_add(1, Ordering::Relaxed));
        Some((conn, self.add(conn, permit)?))
    }

    /// Makes an entry, whose task has to be [run]; returns `None` after the shutdown.
    ///
    /// # Panics
    ///
    /// If there is an entry with this id: the core never uses an id twice.
    #[must_use]
    pub fn add_opened(&self, conn: ConnId) -> Option<Task> {
        self.add(conn, None)
    }

    fn add(&self, conn: ConnId, permit: Option<Permit>) -> Option<Task> {
        // `write` bounds the queue. A bounded channel would allocate its whole memory at once, also for the
        // many connections on which only the peer writes.
        let (write, writes) = async_channel::unbounded();
        let ((hold, open), (cut, be_cut)) = (oneshot::channel(), oneshot::channel());
        let mut table = self.table();
        let table = table.as_mut()?;
        let entry = Entry { writes: write, _open: hold, cut, _permit: permit };
        let old = table.entries.insert(conn, entry);
        assert!(old.is_none(), "{conn} is used twice");
        Some(Task { writes, open, cut: be_cut, alive: table.alive.clone() })
    }

    /// Starts to close a connection, if it is not closed yet.
    pub fn close(&self, conn: ConnId) {
        if let Some(table) = self.table().as_mut() {
            table.close(conn);
        }
    }

    /// Cuts the close of a connection short: its socket is closed at once.
    pub fn cut(&self, conn: ConnId) {
        if let Some(cut) = self.table().as_mut().and_then(|table| table.closing.remove(&conn)) {
            // The task may have ended by itself.
            let _ = cut.send(());
        }
    }

    /// Forgets a connection whose task has ended.
    fn on_task_ended(&self, conn: ConnId) {
        if let Some(table) = self.table().as_mut() {
            table.closing.remove(&conn);
        }
    }

    /// Queues data to be written on a connection. A connection with too many pending writes is closed.
    pub fn write(&self, conn: ConnId, segments: Segments) {
        let mut table = self.table();
        let Some(table) = table.as_mut() else { return };
        // The connection may have failed a moment ago, before the core was told.
        let Some(entry) = table.entries.get(&conn) else { return };
        if entry.writes.len() >= WRITES_MAX || entry.writes.try_send(segments).is_err() {
            tracing::warn!(target: "hax", %conn, "closing: the peer does not read, {WRITES_MAX} writes are pending");
            table.close(conn);
        }
    }

    /// Closes all connections and accepts no new ones; waits at most `time` for the peers to close their
    /// sides.
    pub async fn shut_down<T: Timer>(&self, time: Duration) {
        self.table().take();
        if within::<T, _>(time, self.ended.recv()).await.is_none() {
            self.peers_timeout.0.close();
            within::<T, _>(TASKS_END_WITHIN, self.ended.recv()).await;
        }
    }

    /// Puts an event in the inbox. It waits while the inbox is full: that is the backpressure on peers. After
    /// the machine's exit events are dropped, which is harmless.
    async fn send_event(&self, event: net::Event) {
        let _ = self.inbox.send((self.wrap)(event)).await;
    }

    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn close(&mut self, conn: ConnId) {
        if let Some(entry) = self.entries.remove(&conn) {
            self.closing.insert(conn, entry.cut);
        }
    }
}
