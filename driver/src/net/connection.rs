//! The life of one connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, IoSlice, Read as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_channel::Receiver;
use bytes::{Buf as _, Bytes};
use futures_lite::future::{or, zip};
use hax_core::base::id::ConnId;
use hax_core::net;
use socket2::{Domain, Protocol, SockRef, Socket as Socket2, Type};

use super::{Connections, Segments, Task};
use crate::host::timer::{Timer, within};
use crate::host::turn::Turn;

/// What `connect` says of a socket that does not block (Linux, `asm-generic/errno.h`).
const EINPROGRESS: i32 = 115;

/// What has not been connected to after this time will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Segments that go into one system call.
const SEGMENTS_MAX: usize = 64;

/// How long a peer has to take what is left and to close its side too.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What one read takes at most. What a peer says is a few hundred bytes, save for NVEC messages.
const READ_MAX: usize = 64 << 10;

thread_local! {
    /// What is read goes through here; only its bytes are kept. A buffer for each connection would be
    /// memory that any peer can have hax take.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

/// A connected socket that does not block, as one runtime has it.
pub trait Socket: AsFd {
    /// Completes when there may be something to be read.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Completes when something may be written, or a connection that was being made is there or failed.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// Reads what has arrived; none at the end.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has.
    fn try_read(&self, to: &mut [u8]) -> io::Result<usize>;

    /// Writes as much of these as the system takes at once, and says how many bytes that was.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if it takes none.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The next bytes, as soon as there are any; none at the end.
async fn read(socket: &impl Socket) -> io::Result<Bytes> {
    loop {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let n = socket.try_read(scratch)?;
            Ok(Bytes::copy_from_slice(&scratch[..n]))
        });
        match read {
            Err(why) if is_blocked(&why) => socket.readable().await?,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Writes something of these, as soon as the system takes any, and says how many bytes that was.
async fn write(socket: &impl Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match socket.try_write(slices) {
            Err(why) if is_blocked(&why) => socket.writable().await?,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

fn is_blocked(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::WouldBlock
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
pub async fn connect<T: Timer, I, S: Socket>(
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
        match within::<T, _>(CONNECT_WITHIN, attempt).await.unwrap_or_else(late) {
            Ok(socket) => Some(socket),
            Err(why) => {
                tracing::debug!(target: "hax", %conn, %to, %why, "not connected");
                None
            }
        }
    };
    let socket = or(given_up, attempt).await;
    if let Some(socket) = socket {
        run::<T, I, S>(all, conn, task, socket, net::Event::Connected { conn }).await;
    } else {
        all.leave(conn);
        all.left(conn);
        all.tell(net::Event::Closed { conn }).await;
    }
}

/// Says `first`, carries bytes until the end, says [`net::Event::Closed`] and closes.
pub async fn run<T: Timer, I, S: Socket>(
    all: Arc<Connections<I>>,
    conn: ConnId,
    task: Task,
    socket: S,
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
        let carry = zip(connection.read(&socket), connection.write(&socket));
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
            or(or(T::sleep(CLOSE_WITHIN), out_of_patience), cut).await;
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

    async fn read(&self, socket: &impl Socket) {
        let (conn, mut turn) = (self.conn, Turn::default());
        loop {
            turn.done().await;
            match read(socket).await {
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

    async fn write(&self, socket: &impl Socket) {
        let (mut queue, mut turn) = (Queue::default(), Turn::default());
        while let Ok(segments) = self.writes.recv().await {
            queue.push(&segments);
            while queue.has_room() {
                let Ok(segments) = self.writes.try_recv() else { break };
                queue.push(&segments);
            }
            while !queue.is_empty() {
                turn.done().await;
                match queue.write(socket).await {
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
        // The peer may have gone already.
        let _ = SockRef::from(socket).shutdown(Shutdown::Write);
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
    async fn write(&mut self, socket: &impl Socket) -> io::Result<u32> {
        let written = {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
            let mut n = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(segment);
                n += 1;
            }
            write(socket, &slices[..n]).await?
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
