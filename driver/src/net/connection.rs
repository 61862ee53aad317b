//! The life of one connection.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, IoSlice, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_channel::Receiver;
use bytes::{Buf as _, Bytes};
use futures_lite::future::{or, zip};
use hax_core::base::id::ConnId;
use hax_core::wire::net;
use socket2::{Domain, Protocol, SockRef, Socket as Socket2, Type};

use super::{Connections, Segments, Task};
use crate::host::platform::{Platform, within};

/// What `connect` says of a socket that does not block (Linux, `asm-generic/errno.h`).
const EINPROGRESS: i32 = 115;

/// What has not been connected to after this time will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Segments that go into one system call.
const SEGMENTS_MAX: usize = 64;

/// How long a peer has to take what is left and to close its side too.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A connected socket that does not block, as one runtime has it.
pub trait Socket: AsFd {
    /// What is read.
    type Reader<'a>: Read
    where
        Self: 'a;

    /// What is written.
    type Writer<'a>: Write
    where
        Self: 'a;

    /// Its two directions.
    fn split(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>);
}

/// What a peer says.
pub trait Read {
    /// The next bytes, as soon as there are any; none at the end.
    fn read(&mut self) -> impl Future<Output = io::Result<Bytes>>;
}

/// What a peer is told.
pub trait Write {
    /// Writes as much of these as the system takes at once, and says how many bytes that was.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>>;

    /// Shuts this direction down.
    fn end(&mut self) -> impl Future<Output = ()>;
}

/// A socket that is connecting: once it can be written to, it is connected or has an error.
///
/// # Errors
///
/// If there is no socket, or the machine does not have the address `from`.
pub fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket2::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&to.into()) {
        Err(why) if why.raw_os_error() != Some(EINPROGRESS) => Err(why),
        _ => Ok(socket.into()),
    }
}

/// Connects, unless that is given up or takes too long, and [runs](run) the connection.
pub async fn connect<P: Platform, I, S: Socket>(
    all: Arc<Connections<I>>,
    conn: ConnId,
    mut task: Task,
    to: SocketAddr,
    attempt: impl Future<Output = io::Result<S>>,
) {
    let given_up = async {
        let _ = (&mut task.open).await;
        None
    };
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"));
    let attempt = async {
        match within::<P, _>(CONNECT_WITHIN, attempt).await.unwrap_or_else(late) {
            Ok(socket) => Some(socket),
            Err(why) => {
                tracing::debug!(target: "hax", %conn, %to, %why, "not connected");
                None
            }
        }
    };
    let socket = or(given_up, attempt).await;
    if let Some(socket) = socket {
        run::<P, I, S>(all, conn, task, socket, net::Event::Connected { conn }).await;
    } else {
        all.leave(conn);
        all.left(conn);
        all.tell(net::Event::Closed { conn }).await;
    }
}

/// Says `first`, carries bytes until the end, says [`net::Event::Closed`] and closes.
pub async fn run<P: Platform, I, S: Socket>(
    all: Arc<Connections<I>>,
    conn: ConnId,
    task: Task,
    mut socket: S,
    first: net::Event,
) {
    // Only a delay is lost if the system does not know the option.
    let _ = SockRef::from(&socket).set_tcp_nodelay(true);
    all.tell(first).await;
    let Task { writes, open, cut, alive } = task;
    let patience = all.patience.1.clone();
    let connection = Connection { all, conn, writes, told: AtomicBool::new(false) };
    // The reader ends with the connection; the writer's end alone does not end it, since the peer may
    // have said something before it broke off.
    {
        let (read, write) = socket.split();
        let carry = zip(connection.read(read), connection.write(write));
        let carry = async {
            carry.await;
        };
        let too_slow = async {
            let _ = open.await;
            let out_of_patience = async {
                let Err(_closed) = patience.recv().await;
            };
            let cut = async {
                if cut.await.is_err() {
                    // Nobody is left who might say so.
                    pending::<()>().await;
                }
            };
            or(or(P::sleep(CLOSE_WITHIN), out_of_patience), cut).await;
        };
        or(carry, too_slow).await;
    }
    connection.closed().await;
    discard(&socket);
    connection.all.left(conn);
    drop((socket, alive));
}

struct Connection<I> {
    all: Arc<Connections<I>>,
    conn: ConnId,
    writes: Receiver<Segments>,
    /// The core has heard that it is closed: nothing more is said of it.
    told: AtomicBool,
}

impl<I> Connection<I> {
    async fn closed(&self) {
        self.all.leave(self.conn);
        if !self.told.swap(true, Relaxed) {
            self.all.tell(net::Event::Closed { conn: self.conn }).await;
        }
    }

    async fn read(&self, mut from: impl Read) {
        let conn = self.conn;
        loop {
            match from.read().await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(_) if self.closing() => {}
                Ok(bytes) => self.all.tell(net::Event::Received { conn, bytes }).await,
                Err(why) => {
                    tracing::debug!(target: "hax", %conn, %why, "reading ended");
                    break;
                }
            }
        }
        // What the peer does not read any more is not worth writing; this ends the writer too.
        self.closed().await;
    }

    fn closing(&self) -> bool {
        self.writes.is_closed()
    }

    async fn write(&self, mut to: impl Write) {
        let mut queue = Queue::default();
        while let Ok(segments) = self.writes.recv().await {
            queue.push(&segments);
            while queue.has_room() {
                let Ok(segments) = self.writes.try_recv() else { break };
                queue.push(&segments);
            }
            while !queue.is_empty() {
                match queue.write(&mut to).await {
                    Ok(bytes) if !self.told.load(Relaxed) => {
                        let conn = self.conn;
                        self.all.tell(net::Event::Written { conn, bytes }).await;
                    }
                    Ok(_) => return,
                    Err(why) => {
                        tracing::debug!(target: "hax", conn = %self.conn, %why, "writing ended");
                        return;
                    }
                }
            }
        }
        to.end().await;
    }
}

/// What is to be written, in order.
#[derive(Default)]
struct Queue {
    segments: VecDeque<Bytes>,
}

impl Queue {
    fn push(&mut self, segments: &[Bytes]) {
        self.segments.extend(segments.iter().filter(|segment| !segment.is_empty()).cloned());
    }

    fn has_room(&self) -> bool {
        self.segments.len() < SEGMENTS_MAX
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Writes as much as the system takes at once, and says how much that was.
    async fn write(&mut self, to: &mut impl Write) -> io::Result<u32> {
        let written = {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
            let mut n = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(segment);
                n += 1;
            }
            to.write(&slices[..n]).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut left = written;
        while let Some(first) = self.segments.front_mut() {
            if left < first.len() {
                first.advance(left);
                break;
            }
            left -= first.len();
            self.segments.pop_front();
        }
        // One system call takes 2 GiB at most.
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }
}

/// Takes what has arrived and was not read out of the system's hands, so that closing the socket says
/// "end" and not "reset".
fn discard(socket: &impl AsFd) {
    let mut bytes = [0; 4096];
    while matches!((&*SockRef::from(socket)).read(&mut bytes), Ok(n) if n > 0) {}
}
