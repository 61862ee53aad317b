//! The life of one connection.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use async_channel::Receiver;
use async_io::{Async, Timer};
use bytes::{Buf as _, Bytes};
use futures_lite::future::{or, zip};
use hax_core::base::id::ConnId;
use hax_core::wire::net;

use super::{Inner, Task};
use crate::tasks::Turn;

/// What one read takes at most. What a peer says is a few hundred bytes, save for NVEC messages.
pub(super) const SCRATCH: usize = 64 << 10;

/// Segments that go into one system call.
const SEGMENTS_MAX: usize = 64;

/// How long a peer has to take what is left and to close its side too.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Says `first`, carries bytes until the end, says [`net::Event::Closed`] and closes.
pub(super) async fn run<I>(
    inner: Rc<Inner<I>>,
    conn: ConnId,
    task: Task,
    stream: Async<TcpStream>,
    first: net::Event,
) {
    // Only a delay is lost if the system does not know the option.
    let _ = stream.get_ref().set_nodelay(true);
    inner.tell(first).await;
    let Task { writes, open, _alive: alive } = task;
    let connection = Connection { inner, conn, writes, told: Cell::new(false) };
    // The reader ends with the connection; the writer's end alone does not end it, since the peer may
    // have said something before it broke off.
    let carry = async {
        zip(connection.read(&stream), connection.write(&stream)).await;
    };
    or(carry, too_slow(open)).await;
    connection.closed().await;
    discard(stream.get_ref());
    drop((stream, alive));
}

struct Connection<I> {
    inner: Rc<Inner<I>>,
    conn: ConnId,
    writes: Receiver<Box<[Bytes]>>,
    /// The core has heard that it is closed: nothing more is said of it.
    told: Cell<bool>,
}

impl<I> Connection<I> {
    async fn closed(&self) {
        self.inner.leave(self.conn);
        if !self.told.replace(true) {
            self.inner.tell(net::Event::Closed { conn: self.conn }).await;
        }
    }

    async fn read(&self, from: &Async<TcpStream>) {
        let (conn, mut turn) = (self.conn, Turn::default());
        loop {
            turn.done().await;
            let read = from.read_with(|mut stream| {
                let mut scratch = self.inner.scratch.borrow_mut();
                let n = stream.read(&mut scratch)?;
                Ok(Bytes::copy_from_slice(&scratch[..n]))
            });
            match read.await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(_) if self.closing() => {}
                Ok(bytes) => self.inner.tell(net::Event::Received { conn, bytes }).await,
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

    async fn write(&self, to: &Async<TcpStream>) {
        let (mut queue, mut turn) = (Queue::default(), Turn::default());
        while let Ok(segments) = self.writes.recv().await {
            queue.push(segments);
            while queue.has_room() {
                let Ok(segments) = self.writes.try_recv() else { break };
                queue.push(segments);
            }
            while !queue.is_empty() {
                turn.done().await;
                match queue.write(to).await {
                    Ok(bytes) if !self.told.get() => {
                        let conn = self.conn;
                        self.inner.tell(net::Event::Written { conn, bytes }).await;
                    }
                    Ok(_) => return,
                    Err(why) => {
                        tracing::debug!(target: "hax", conn = %self.conn, %why, "writing ended");
                        return;
                    }
                }
            }
        }
        let _ = to.get_ref().shutdown(Shutdown::Write);
    }
}

/// What is to be written, in order.
#[derive(Default)]
struct Queue {
    segments: VecDeque<Bytes>,
}

impl Queue {
    fn push(&mut self, segments: Box<[Bytes]>) {
        self.segments.extend(segments.into_iter().filter(|segment| !segment.is_empty()));
    }

    fn has_room(&self) -> bool {
        self.segments.len() < SEGMENTS_MAX
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Writes as much as the system takes at once, and says how much that was.
    async fn write(&mut self, to: &Async<TcpStream>) -> io::Result<u32> {
        let written = {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
            let mut n = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(segment);
                n += 1;
            }
            to.write_with(|mut stream| stream.write_vectored(&slices[..n])).await?
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

/// Completes a while after the close began.
async fn too_slow(open: impl Future) {
    open.await;
    Timer::after(CLOSE_WITHIN).await;
}

/// Takes what has arrived and was not read out of the system's hands, so that closing the socket says
/// "end" and not "reset".
fn discard(mut stream: &TcpStream) {
    let mut bytes = [0; 4096];
    while matches!(stream.read(&mut bytes), Ok(n) if n > 0) {}
}
