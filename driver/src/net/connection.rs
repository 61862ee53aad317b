//! The lifetime of one connection.

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

use super::late_port::late_port;
use super::{Connections, Segments, Task};
use crate::host::step_budget::StepBudget;
use crate::host::timer::{Timer, within};

/// The error of `connect` on a non-blocking socket (Linux, `asm-generic/errno.h`).
const EINPROGRESS: i32 = 115;

/// The timeout of connecting.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of segments for one system call.
const SEGMENTS_MAX: usize = 64;

/// The time for a peer to read the remaining data and to close its side.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The maximum size of one read, in bytes. Messages of a peer have a few hundred bytes, except for NVEC
/// messages.
const READ_MAX: usize = 64 << 10;

thread_local! {
    /// The shared buffer for reads; only the bytes read are copied out. With a buffer for each connection,
    /// any peer could make hax use memory by connecting.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

/// A connected, non-blocking socket of one runtime.
pub trait Socket: AsFd {
    /// Completes when the socket may be readable.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Completes when the socket may be writable. For a connecting socket, this means connected or failed.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// Reads the received bytes; returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has arrived.
    fn try_read(&self, to: &mut [u8]) -> io::Result<usize>;

    /// Writes as much of the slices as the system takes at once; returns the number of bytes.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the system takes nothing.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Waits for the next bytes; returns no bytes at the end of the stream.
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

/// Waits until the system takes some bytes of the slices; returns their number.
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

/// Starts to connect a socket. Once the socket is writable, it is connected or has an error.
///
/// # Errors
///
/// If there is no socket, or the machine does not have the address `from`.
pub fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket2::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Without the option, which old systems lack, it only takes longer.
    let _ = late_port(&socket);
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&to.into()) {
        Err(why) if why.raw_os_error() != Some(EINPROGRESS) => Err(why),
        _ => Ok(socket.into()),
    }
}

/// Connects and then [runs](run) the connection, unless it is closed or times out.
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
        all.close(conn);
        all.on_task_ended(conn);
        all.send_event(net::Event::Closed { conn }).await;
    }
}

/// Sends the event `first`, transfers bytes until the end, sends [`net::Event::Closed`], and closes the
/// socket.
pub async fn run<T: Timer, I, S: Socket>(
    all: Arc<Connections<I>>,
    conn: ConnId,
    task: Task,
    socket: S,
    first: net::Event,
) {
    // Without this option only latency is lost.
    let _ = SockRef::from(&socket).set_tcp_nodelay(true);
    all.send_event(first).await;
    let Task { writes, open, cut, alive } = task;
    let peers_timeout = all.peers_timeout.1.clone();
    let connection = Connection { all, conn, writes, is_closed_sent: AtomicBool::new(false) };
    // The connection ends when its reader ends. A failed writer does not end it, since the peer may have sent
    // data before it closed.
    {
        let carry = zip(connection.read(&socket), connection.write(&socket));
        let carry = async {
            carry.await;
        };
        let too_slow = async {
            let _ = open.await;
            let out_of_patience = async {
                let Err(_closed) = peers_timeout.recv().await;
            };
            let cut = async {
                if cut.await.is_err() {
                    // Nothing else can ask for the cut any more.
                    pending::<()>().await;
                }
            };
            or(or(T::sleep(CLOSE_WITHIN), out_of_patience), cut).await;
        };
        or(carry, too_slow).await;
    }
    connection.closed().await;
    discard(&socket);
    connection.all.on_task_ended(conn);
    drop((socket, alive));
}

struct Connection<I> {
    all: Arc<Connections<I>>,
    conn: ConnId,
    writes: Receiver<Segments>,
    /// The core has been sent the `Closed` event. No event of this connection may follow.
    is_closed_sent: AtomicBool,
}

impl<I> Connection<I> {
    async fn closed(&self) {
        self.all.close(self.conn);
        if !self.is_closed_sent.swap(true, Relaxed) {
            self.all.send_event(net::Event::Closed { conn: self.conn }).await;
        }
    }

    async fn read(&self, socket: &impl Socket) {
        let (conn, mut budget) = (self.conn, StepBudget::default());
        loop {
            budget.step().await;
            match read(socket).await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(_) if self.closing() => {}
                Ok(bytes) => self.all.send_event(net::Event::Received { conn, bytes }).await,
                Err(why) => {
                    tracing::debug!(target: "hax", %conn, %why, "reading ended");
                    break;
                }
            }
        }
        // The peer has stopped reading, so the rest is not written; this ends the writer too.
        self.closed().await;
    }

    fn closing(&self) -> bool {
        self.writes.is_closed()
    }

    async fn write(&self, socket: &impl Socket) {
        let (mut queue, mut budget) = (Queue::default(), StepBudget::default());
        while let Ok(segments) = self.writes.recv().await {
            queue.push(&segments);
            while queue.has_room() {
                let Ok(segments) = self.writes.try_recv() else { break };
                queue.push(&segments);
            }
            while !queue.is_empty() {
                budget.step().await;
                match queue.write(socket).await {
                    Ok(bytes) if !self.is_closed_sent.load(Relaxed) => {
                        let conn = self.conn;
                        self.all.send_event(net::Event::Written { conn, bytes }).await;
                    }
                    Ok(_) => return,
                    Err(why) => {
                        tracing::debug!(target: "hax", conn = %self.conn, %why, "writing ended");
                        return;
                    }
                }
            }
        }
        // The peer may have closed the connection already.
        let _ = SockRef::from(socket).shutdown(Shutdown::Write);
    }
}

/// The data to be written, in order.
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

    /// Writes as much as the system takes at once; returns the number of bytes.
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
        // One system call writes 2 GiB at most.
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }
}

/// Discards received data that was not read. Closing a socket with unread data would send a reset (RST)
/// instead of an end (FIN).
fn discard(socket: &impl AsFd) {
    let mut bytes = [0; 4096];
    while matches!((&*SockRef::from(socket)).read(&mut bytes), Ok(n) if n > 0) {}
}
