//! TCP connections of the wire: [`net::Command`] in, [`net::Event`] out.
//!
//! A connection is one task that owns the socket. Its entry in the table holds the bounded queue of
//! what it is to write; taking the entry out of the table *is* the close: the task writes what is
//! left, shuts its side down, reads to the end and only then lets go of the socket, since closing
//! with unread bytes sends a reset, on which a real peer may crash.

mod connection;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::{Async, Timer};
use async_lock::Semaphore;
use bytes::Bytes;
use futures_channel::oneshot;
use futures_lite::future::or;
use hax_core::base::id::ConnId;
use hax_core::wire::net;
use hax_driver::platform;

use crate::tasks::{self, Turn, try_within, within};

/// What has not been connected to after this time will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How many writes one connection may be behind with. The wire has one message in flight for each
/// link, so this is reached only by a peer that answers nothing and still asks for more.
const WRITES_MAX: usize = 1024;

type Segments = Box<[Bytes]>;

/// All connections of one endpoint.
pub struct Net<I> {
    inner: Rc<Inner<I>>,
    /// Gets an error as soon as the last connection's task has ended.
    ended: Receiver<()>,
}

struct Inner<I> {
    table: RefCell<Option<Table>>,
    /// What is read goes through here; only its bytes are kept.
    scratch: RefCell<Box<[u8]>>,
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

impl<I: Send + 'static> platform::Net<I> for Net<I> {
    type Listener = Async<TcpListener>;

    fn new(inbox: Sender<I>, wrap: fn(net::Event) -> I) -> Self {
        let (alive, ended) = async_channel::bounded(1);
        let table = RefCell::new(Some(Table { entries: BTreeMap::new(), alive }));
        let scratch = RefCell::new(vec![0; connection::SCRATCH].into());
        Self { inner: Rc::new(Inner { table, scratch, inbox, wrap }), ended }
    }

    fn execute(&self, command: net::Command) {
        match command {
            net::Command::Connect { conn, to } => {
                if let Some(task) = self.inner.enter(conn) {
                    tasks::spawn(connect(Rc::clone(&self.inner), conn, to, task)).detach();
                }
            }
            net::Command::Write { conn, segments } => self.inner.write(conn, segments),
            net::Command::Close { conn } => self.inner.leave(conn),
        }
    }

    async fn listen(&self, listener: Async<TcpListener>, max: usize) {
        let room = Arc::new(Semaphore::new(max));
        let (mut accepted, mut turn) = (0, Turn::default());
        loop {
            turn.done().await;
            let permit = room.acquire_arc().await;
            let (stream, peer) = match listener.accept().await {
                Ok(pair) => pair,
                Err(why) => {
                    // Out of descriptors, most likely: others must end first.
                    tracing::warn!(target: "hax", %why, "cannot accept a connection of Motr");
                    Timer::after(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let conn = ConnId::accepted(accepted);
            accepted += 1;
            let Some(task) = self.inner.enter(conn) else { return };
            let inner = Rc::clone(&self.inner);
            let life = async move {
                let first = net::Event::Accepted { conn, peer };
                connection::run(inner, conn, task, stream, first).await;
                drop(permit);
            };
            tasks::spawn(life).detach();
        }
    }

    async fn shut_down(&self, time: Duration) {
        self.inner.table().take();
        within(time, self.ended.recv()).await;
    }
}

impl<I> Inner<I> {
    fn table(&self) -> RefMut<'_, Option<Table>> {
        self.table.borrow_mut()
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

async fn connect<I: 'static>(inner: Rc<Inner<I>>, conn: ConnId, to: SocketAddr, mut task: Task) {
    let given_up = async {
        let _ = (&mut task.open).await;
        None
    };
    let attempt = async {
        let connected = Async::<TcpStream>::connect(to);
        match try_within(CONNECT_WITHIN, "no connection in time", connected).await {
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
