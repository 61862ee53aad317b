//! Streaming responses: the data that the machine has sent and the client has not taken yet. The connection
//! takes the data from here. The held data is limited for each stream and for all together.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_channel::Sender;
use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::http::stream::{Begin, CHUNK_COST, Closed, HELD_MAX, Why};

/// The maximum number of open streams.
pub const STREAMS_MAX: usize = 1024;

/// The maximum of the data held for all clients, in bytes, counted as for [`HELD_MAX`]. Above it the client
/// with the most held data is treated as too slow.
const HELD_TOTAL_MAX: usize = 16 << 20;

/// The target size of one write, in bytes; the last chunk of a write is not split.
const WRITE_MAX: usize = 16 << 10;

/// All open streams.
#[derive(Debug)]
pub(super) struct Streams {
    inner: Mutex<Inner>,
    /// One notification for each stream that was begun. A machine begins at most one stream for each pending
    /// request, and pending requests are bounded.
    closed: Sender<Closed>,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<HttpId, Buffer>,
    /// The cost of the data held for all streams.
    held: usize,
}

/// One stream.
#[derive(Debug, Default)]
struct Buffer {
    chunks: VecDeque<Bytes>,
    /// The cost of `chunks`.
    queued: usize,
    /// The cost of the data that the connection is writing.
    in_write: usize,
    state: State,
    /// The waker of the connection while it waits.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The machine has ended the stream.
    Ended,
    /// The client is too slow.
    Slow,
}

/// The next action of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write these bytes.
    Write(Vec<u8>),
    /// End the response properly.
    End,
    /// Cut the response off.
    Slow,
}

/// The framing of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Chunked (RFC 9112, 7.1).
    Chunked,
    /// No framing: the end of the connection ends the body, as in HTTP/1.0.
    Plain,
}

impl Coding {
    fn put(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Chunked => {
                out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Plain => out.extend_from_slice(bytes),
        }
    }

    /// Returns the marker of the body's end.
    pub(super) fn end(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Plain => b"",
        }
    }
}

impl Streams {
    /// Creates an empty table. The end of each stream is sent to `closed`, which must be unbounded.
    #[must_use]
    pub(super) fn new(closed: Sender<Closed>) -> Self {
        Self { inner: Mutex::default(), closed }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the machine that a stream is closed.
    pub(super) fn notify_closed(&self, id: HttpId, why: Why) {
        // The send fails only after the machine's exit.
        let _ = self.closed.try_send(Closed { id, why });
    }

    /// Begins a stream; the connection holds the returned value.
    pub(super) fn begin(self: &Arc<Self>, begin: Begin) -> Open {
        self.inner().open.insert(begin.id, Buffer::default());
        Open { streams: Arc::clone(self), begin, why: Why::Client }
    }

    /// Adds data to a stream. Data for a closed or ended stream is ignored.
    pub(super) fn push(&self, id: HttpId, bytes: Bytes) {
        let cost = bytes.len().saturating_add(CHUNK_COST);
        let mut inner = self.inner();
        let Inner { open, held } = &mut *inner;
        let Some(answer) = open.get_mut(&id).filter(|answer| answer.state == State::Open) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        if cost > HELD_MAX.saturating_sub(answer.queued + answer.in_write) {
            return inner.cut_off(id);
        }
        answer.chunks.push_back(bytes);
        answer.queued += cost;
        *held += cost;
        answer.wake();
        if *held > HELD_TOTAL_MAX {
            let most = open.iter().max_by_key(|(_, answer)| answer.queued).map(|(id, _)| *id);
            most.into_iter().for_each(|id| inner.cut_off(id));
        }
    }

    /// Ends a stream, as the machine asks.
    pub(super) fn end(&self, id: HttpId) {
        if let Some(answer) = self.inner().open.get_mut(&id) {
            answer.end();
        }
    }

    /// Ends all streams after the machine's exit.
    pub(super) fn end_all(&self) {
        self.inner().open.values_mut().for_each(Buffer::end);
    }

    /// Returns the number of open streams, and the cost of their held data.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.open.len(), inner.held)
    }
}

impl Inner {
    /// Marks a client as too slow, and drops its held data at once.
    fn cut_off(&mut self, id: HttpId) {
        let Some(answer) = self.open.get_mut(&id) else { return };
        answer.state = State::Slow;
        answer.chunks = VecDeque::new();
        self.held -= std::mem::take(&mut answer.queued);
        answer.wake();
    }
}

impl Buffer {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
            self.wake();
        }
    }

    /// Takes the data of the next write, and records its cost.
    fn take(&mut self, coding: Coding) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < WRITE_MAX
            && let Some(bytes) = self.chunks.pop_front()
        {
            let cost = bytes.len() + CHUNK_COST;
            self.queued -= cost;
            self.in_write += cost;
            coding.put(&bytes, &mut out);
        }
        out
    }
}

/// An open stream at its client's connection. The stream is closed when this is dropped, and only here the
/// machine is told so.
#[derive(Debug)]
pub struct Open {
    streams: Arc<Streams>,
    begin: Begin,
    why: Why,
}

impl Open {
    /// Returns the status and the content type.
    pub(super) fn head(&self) -> Begin {
        self.begin
    }

    /// Closes the stream for this reason. A stream that is only dropped is closed because its client has
    /// gone.
    pub(super) fn close(mut self, why: Why) {
        self.why = why;
    }

    /// Confirms that the last data is written, and waits for the next action.
    pub(super) async fn next(&self, coding: Coding) -> Next {
        poll_fn(|cx| {
            let mut inner = self.streams.inner();
            let Inner { open, held } = &mut *inner;
            let Some(answer) = open.get_mut(&self.begin.id) else { return Poll::Ready(Next::End) };
            *held -= std::mem::take(&mut answer.in_write);
            if answer.state == State::Slow {
                return Poll::Ready(Next::Slow);
            }
            if !answer.chunks.is_empty() {
                return Poll::Ready(Next::Write(answer.take(coding)));
            }
            if answer.state == State::Ended {
                return Poll::Ready(Next::End);
            }
            answer.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the client is too slow, if ever.
    pub(super) async fn too_slow(&self) {
        poll_fn(|cx| {
            let mut inner = self.streams.inner();
            match inner.open.get_mut(&self.begin.id) {
                Some(answer) if answer.state == State::Slow => Poll::Ready(()),
                Some(answer) => {
                    answer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut inner = self.streams.inner();
        if let Some(answer) = inner.open.remove(&self.begin.id) {
            inner.held -= answer.queued + answer.in_write;
        }
        drop(inner);
        self.streams.notify_closed(self.begin.id, self.why);
    }
}

#[cfg(test)]
mod tests {
    use async_channel::Receiver;
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn streams() -> (Arc<Streams>, Receiver<Closed>) {
        let (closed, over) = async_channel::unbounded();
        (Arc::new(Streams::new(closed)), over)
    }

    fn begin(streams: &Arc<Streams>, id: u64) -> Open {
        streams.begin(Begin { id: HttpId(id), status: 200, content_type: "text/plain" })
    }

    fn next(open: &Open) -> Option<Next> {
        block_on(poll_once(open.next(Coding::Chunked)))
    }

    fn write(text: &str) -> Option<Next> {
        Some(Next::Write(text.into()))
    }

    #[test]
    fn what_is_said_is_taken_in_order_and_forgotten() {
        let (streams, over) = streams();
        let open = begin(&streams, 1);
        assert_eq!(next(&open), None);
        for text in ["a", "", "0123456789abcdef"] {
            streams.push(HttpId(1), text.into());
        }
        streams.end(HttpId(1));
        streams.push(HttpId(1), "after the end".into());
        assert_eq!(streams.held(), (1, 17 + 2 * CHUNK_COST));
        assert_eq!(next(&open), write("1\r\na\r\n10\r\n0123456789abcdef\r\n"));
        assert_eq!(streams.held(), (1, 17 + 2 * CHUNK_COST), "until it is written");
        assert_eq!(next(&open), Some(Next::End));
        assert_eq!(streams.held(), (1, 0));
        open.close(Why::Ended);
        streams.push(HttpId(1), "after all".into());
        assert_eq!(streams.held(), (0, 0));
        assert_eq!(over.try_recv(), Ok(Closed { id: HttpId(1), why: Why::Ended }));
        assert!(over.is_empty());
    }

    #[test]
    fn who_is_too_slow_is_cut_off_alone_and_keeps_nothing() {
        let (streams, over) = streams();
        let (slow, other) = (begin(&streams, 1), begin(&streams, 2));
        streams.push(HttpId(2), "other".into());
        let chunk = Bytes::from(vec![b'x'; HELD_MAX / 4]);
        (0..3).for_each(|_| streams.push(HttpId(1), chunk.clone()));
        assert!(matches!(next(&slow), Some(Next::Write(_))));
        assert!(block_on(poll_once(slow.too_slow())).is_none());
        // The data that is being written counts too.
        streams.push(HttpId(1), chunk);
        assert!(block_on(poll_once(slow.too_slow())).is_some());
        assert_eq!(streams.held().1, HELD_MAX / 4 + CHUNK_COST + 5 + CHUNK_COST);
        assert_eq!(next(&slow), Some(Next::Slow));
        slow.close(Why::Slow);
        assert_eq!(over.try_recv(), Ok(Closed { id: HttpId(1), why: Why::Slow }));
        assert_eq!(next(&other), write("5\r\nother\r\n"));
        drop(other);
        assert_eq!(over.try_recv(), Ok(Closed { id: HttpId(2), why: Why::Client }));
        assert_eq!(streams.held(), (0, 0));
    }

    #[test]
    fn of_all_together_who_has_most_is_cut_off() {
        let (streams, _over) = streams();
        let open: Vec<_> = (0..200).map(|id| begin(&streams, id)).collect();
        let chunk = Bytes::from_static(&[0; 100_000]);
        streams.push(HttpId(7), chunk.clone());
        for id in 0..200 {
            streams.push(HttpId(id), chunk.clone());
            assert!(streams.held().1 <= HELD_TOTAL_MAX);
        }
        assert_eq!(next(&open[7]), Some(Next::Slow));
        let slow = open.iter().filter_map(next).filter(|next| *next == Next::Slow).count();
        assert!((30..50).contains(&slow), "{slow}");
    }

    #[test]
    fn small_chunks_are_bounded_too() {
        let (streams, _over) = streams();
        let open = begin(&streams, 1);
        (0..=HELD_MAX / CHUNK_COST).for_each(|_| streams.push(HttpId(1), "x".into()));
        assert_eq!(next(&open), Some(Next::Slow));
    }
}
