//! TCP connections of the wire: [`net::Command`] in, [`net::Event`] out.
//!
//! A connection is one task that owns the socket. Its entry in the table holds the bounded queue of
//! what it is to write; taking the entry out of the table *is* the close: the task writes what is
//! left, shuts its side down, reads to the end and only then lets go of the socket, since closing
//! with unread bytes sends a reset, on which a real peer may crash.

mod connection;
mod listener;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::or;
use hax_core::base::id::ConnId;
use hax_core::wire::net;
use tokio::sync::oneshot;

pub use listener::listen;

/// What has not been connected to after this time will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How many writes one connection may be behind with. The wire has one message in flight for each
/// link, so this is reached only by a peer that answers nothing and still asks for more.
const WRITES_MAX: usize = 1024;

type Segments = Box<[Bytes]>;

/// All connections of one endpoint.
pub struct Net<I> {
    inner: Arc<Inner<I>>,
    /// Gets an error as soon as the last connection's task has ended.
    ended: Receiver<()>,
}

struct Inner<I> {
    table: Mutex<Option<Table>>,
    inbox: Sender<I>,
    wrap: fn(net::Event) -> I,
}

struct Table {
    entries: BTreeMap<ConnId, Entry>,
    /// Every task holds a clone for as long as it lives.
    alive: Sender<()>,
}

/// The table's end of a connection; dropped to close it.
struct Entry {
    writes: Sender<Segments>,
    _open: oneshot::Sender<()>,
}

/// The task's end of a connection.
struct Task {
    writes: Receiver<Segments>,
    /// Ends when the connection is to be closed.
    open: oneshot::Receiver<()>,
    _alive: Sender<()>,
}

impl<I: Send + 'static> Net<I> {
    /// No connections. What happens is put in `inbox`, as `wrap` makes it an input.
    #[must_use]
    pub fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self {
        let (alive, ended) = async_channel::bounded(1);
        let table = Mutex::new(Some(Table { entries: BTreeMap::new(), alive }));
        Self { inner: Arc::new(Inner { table, inbox, wrap }), ended }
    }

    /// Starts what the core asks for.
    pub fn execute(&self, command: net::Command) {
        match command {
            net::Command::Connect { conn, to } => {
                if let Some(task) = self.inner.enter(conn) {
                    tokio::spawn(connect(Arc::clone(&self.inner), conn, to, task));
                }
            }
            net::Command::Write { conn, segments } => self.inner.write(conn, segments),
            net::Command::Close { conn } => self.inner.leave(conn),
        }
    }

    /// Closes all connections as [`net::Command::Close`] does and makes no new ones; waits for the
    /// peers' part of it for `within` at most.
    pub async fn shut_down(&self, within: Duration) {
        self.inner.table().take();
        let _ = tokio::time::timeout(within, self.ended.recv()).await;
    }
}

impl<I> Inner<I> {
    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an entry; `None` after the shutdown.
    fn enter(&self, conn: ConnId) -> Option<Task> {
        // Bounded in `write`: a bounded channel would take the memory for all of it at once, also for
        // the many connections on which only the peer writes.
        let (write, writes) = async_channel::unbounded();
        let (hold, open) = oneshot::channel();
        let mut table = self.table();
        let table = table.as_mut()?;
        let old = table.entries.insert(conn, Entry { writes: write, _open: hold });
        assert!(old.is_none(), "{conn} is used twice");
        Some(Task { writes, open, _alive: table.alive.clone() })
    }

    fn leave(&self, conn: ConnId) {
        if let Some(table) = self.table().as_mut() {
            table.entries.remove(&conn);
        }
    }

    fn write(&self, conn: ConnId, segments: Segments) {
        let mut table = self.table();
        let Some(table) = table.as_mut() else { return };
        // It may have broken a moment ago; the core has not heard yet.
        let Some(entry) = table.entries.get(&conn) else { return };
        if entry.writes.len() >= WRITES_MAX || entry.writes.try_send(segments).is_err() {
            tracing::warn!(target: "hax", %conn, "closing: the peer does not take {WRITES_MAX} writes");
            table.entries.remove(&conn);
        }
    }

    /// Waits while the inbox is full: that is the backpressure on peers. After the core's end nobody
    /// listens any more, which is as well.
    async fn tell(&self, event: net::Event) {
        let _ = self.inbox.send((self.wrap)(event)).await;
    }
}

async fn connect<I: Send + 'static>(
    inner: Arc<Inner<I>>,
    conn: ConnId,
    to: SocketAddr,
    mut task: Task,
) {
    let attempt = tokio::time::timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect(to));
    let given_up = async {
        let _ = (&mut task.open).await;
        None
    };
    let attempt = async {
        match attempt.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => Some(stream),
            Err(why) => {
                tracing::debug!(target: "hax", %conn, %to, %why, "not connected");
                None
            }
        }
    };
    let stream = or(given_up, attempt).await;
    if let Some(stream) = stream {
        connection::run(inner, conn, task, stream, net::Event::Connected { conn }).await;
    } else {
        inner.leave(conn);
        inner.tell(net::Event::Closed { conn }).await;
    }
}
