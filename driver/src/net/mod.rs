//! TCP connections of the wire: [`net::Command`] in, [`net::Event`] out, on the sockets of any runtime.
//!
//! A connection is one task that owns the socket. Its entry in the table holds the bounded queue of
//! what it is to write; taking the entry out of the table *is* the close: the task writes what is
//! left, shuts its side down, reads to the end and only then lets go of the socket, since closing
//! with unread bytes sends a reset, on which a real peer may crash. Meanwhile it takes no place from
//! others, and is cut short if the core says so.

mod accept;
mod backlog;
mod connection;
pub mod listen;

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

pub use accept::{Accepting, Permit};
pub use backlog::take_rest;
pub use connection::{Socket, connect, dial, run};

/// How many writes one connection may be behind with. The wire has one message in flight for each
/// link, so this is reached only by a peer that answers nothing and still asks for more.
const WRITES_MAX: usize = 1024;

/// How long tasks have to let go of their sockets once peers have had their time.
const LET_GO_WITHIN: Duration = Duration::from_millis(200);

type Segments = Arc<[Bytes]>;

/// The table of all connections of one endpoint.
pub struct Connections<I> {
    table: Mutex<Option<Table>>,
    inbox: Sender<I>,
    wrap: fn(net::Event) -> I,
    /// How many were accepted.
    accepted: AtomicU64,
    /// Gets an error as soon as the last connection's task has ended.
    ended: Receiver<()>,
    /// Closed when the peers' time is up.
    patience: (Sender<Infallible>, Receiver<Infallible>),
}

struct Table {
    entries: BTreeMap<ConnId, Entry>,
    /// Those that are being closed; used to cut them short.
    leaving: BTreeMap<ConnId, oneshot::Sender<()>>,
    /// Every task holds a clone for as long as it lives.
    alive: Sender<()>,
}

/// The table's end of a connection; dropped to close it.
struct Entry {
    writes: Sender<Segments>,
    _open: oneshot::Sender<()>,
    cut: oneshot::Sender<()>,
    /// Of one that was accepted while there are so many places.
    _place: Option<Permit>,
}

/// The task's end of a connection.
pub struct Task {
    writes: Receiver<Segments>,
    /// Ends when the connection is to be closed.
    open: oneshot::Receiver<()>,
    /// Says something when it has been long enough about that.
    cut: oneshot::Receiver<()>,
    alive: Sender<()>,
}

impl<I> Connections<I> {
    /// No connections. What happens is put in `inbox`, as `wrap` makes it an input.
    #[must_use]
    pub fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Arc<Self> {
        let (alive, ended) = async_channel::bounded(1);
        let patience = async_channel::bounded(1);
        let table =
            Mutex::new(Some(Table { entries: BTreeMap::new(), leaving: BTreeMap::new(), alive }));
        Arc::new(Self { table, inbox, wrap, accepted: AtomicU64::new(0), ended, patience })
    }

    /// Names an accepted connection and makes its entry, as [`enter`](Self::enter) does.
    #[must_use]
    pub fn accept(&self, place: Option<Permit>) -> Option<(ConnId, Task)> {
        let conn = ConnId::accepted(self.accepted.fetch_add(1, Ordering::Relaxed));
        Some((conn, self.add(conn, place)?))
    }

    /// Makes an entry, whose task is to be [run]; `None` after the shutdown.
    ///
    /// # Panics
    ///
    /// If there is one by this number: the core uses none twice.
    #[must_use]
    pub fn enter(&self, conn: ConnId) -> Option<Task> {
        self.add(conn, None)
    }

    fn add(&self, conn: ConnId, place: Option<Permit>) -> Option<Task> {
        // Bounded in `write`: a bounded channel would take the memory for all of it at once, also for
        // the many connections on which only the peer writes.
        let (write, writes) = async_channel::unbounded();
        let ((hold, open), (cut, be_cut)) = (oneshot::channel(), oneshot::channel());
        let mut table = self.table();
        let table = table.as_mut()?;
        let entry = Entry { writes: write, _open: hold, cut, _place: place };
        let old = table.entries.insert(conn, entry);
        assert!(old.is_none(), "{conn} is used twice");
        Some(Task { writes, open, cut: be_cut, alive: table.alive.clone() })
    }

    /// Begins to close a connection, if it is not closed yet.
    pub fn leave(&self, conn: ConnId) {
        if let Some(table) = self.table().as_mut() {
            table.leave(conn);
        }
    }

    /// Lets go at once of a connection that is being closed.
    pub fn cut(&self, conn: ConnId) {
        if let Some(cut) = self.table().as_mut().and_then(|table| table.leaving.remove(&conn)) {
            // It may have ended by itself.
            let _ = cut.send(());
        }
    }

    /// The connection's task is at its end.
    fn left(&self, conn: ConnId) {
        if let Some(table) = self.table().as_mut() {
            table.leaving.remove(&conn);
        }
    }

    /// Queues what a connection is to write. One that is too far behind is closed.
    pub fn write(&self, conn: ConnId, segments: Segments) {
        let mut table = self.table();
        let Some(table) = table.as_mut() else { return };
        // It may have broken a moment ago; the core has not heard yet.
        let Some(entry) = table.entries.get(&conn) else { return };
        if entry.writes.len() >= WRITES_MAX || entry.writes.try_send(segments).is_err() {
            tracing::warn!(target: "hax", %conn, "closing: the peer does not read, {WRITES_MAX} writes are pending");
            table.leave(conn);
        }
    }

    /// Closes all connections and makes no new ones; waits for the peers' part of it for `time` at most.
    pub async fn shut_down<T: Timer>(&self, time: Duration) {
        self.table().take();
        if within::<T, _>(time, self.ended.recv()).await.is_none() {
            self.patience.0.close();
            within::<T, _>(LET_GO_WITHIN, self.ended.recv()).await;
        }
    }

    /// Waits while the inbox is full: that is the backpressure on peers. After the core's end nobody
    /// listens any more, which is as well.
    async fn tell(&self, event: net::Event) {
        let _ = self.inbox.send((self.wrap)(event)).await;
    }

    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn leave(&mut self, conn: ConnId) {
        if let Some(entry) = self.entries.remove(&conn) {
            self.leaving.insert(conn, entry.cut);
        }
    }
}
