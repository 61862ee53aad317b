//! The lifetime of one HTTP connection: request, response, and next request, until one side closes.

mod streaming;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use async_channel::Receiver;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_lite::future::{or, yield_now};
use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use http::StatusCode;
use httpdate::HttpDate;

use super::bodies::{Body, Full};
use super::framing::Decoder;
use super::head::{self, Head, HeadError, Length};
use super::slot_table::SlotState;
use super::slots::Slot;
use super::{
    Answer, HEAD_MAX, HEAD_WITHIN, Head as Known, HttpAccess, PendingRequests, Reply, Sleep,
    TARGET_MAX,
};
use super::{bodies_full, incomplete, refuse, requests_full, too_large, too_slow};
use crate::host::clock;
use crate::host::step_budget::StepBudget;

/// The maximum size of one read, in bytes.
const READ_MAX: usize = 16 << 10;

/// The timeout for a client that reads nothing of its response.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The time in which a refused client may go on sending before it reads the response.
const LINGER_WITHIN: Duration = Duration::from_secs(5);

/// The number of bytes that it may send in that time.
const LINGER_MAX: usize = 16 << 20;

thread_local! {
    /// The shared buffer for reads; only the bytes read are copied out.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    pub(super) slot: Slot,
    /// Closed when the server stops.
    stop: Receiver<Infallible>,
    sleep: Sleep,
    /// The received bytes that are not parsed yet.
    pub(super) input: BytesMut,
    budget: StepBudget,
}

/// The result of the wait for a request.
enum Next {
    Request(Box<Head>),
    Refuse(u16),
    End,
}

/// An event while the core has a request.
enum Waited {
    Answer(Reply),
    Evicted,
    /// The number of bytes that the client has sent; 0 is the end of its side.
    Received(usize),
}

/// The next step after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    NextRequest,
    /// Close the connection, once the client has read the response.
    Close,
}

/// Returns the error of an evicted connection.
fn eviction_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "it gave way to others")
}

/// Returns the result of `done`, or `None` after the timeout.
async fn within<T>(sleep: Sleep, time: Duration, done: impl Future<Output = T>) -> Option<T> {
    or(async { Some(done.await) }, async {
        sleep(time).await;
        None
    })
    .await
}

/// Begins a connection with `begin`, which may be the TLS handshake, within the timeout of a head; returns
/// `None` if the connection is evicted meanwhile.
pub(super) async fn begin(
    slot: &mut Slot,
    sleep: Sleep,
    begin: impl Future<Output = io::Result<Box<dyn Stream>>>,
) -> io::Result<Box<dyn Stream>> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"));
    let begin = async { within(sleep, HEAD_WITHIN, begin).await.unwrap_or_else(late) };
    let evicted = async {
        slot.evicted().await;
        Err(eviction_error())
    };
    or(evicted, begin).await
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        slot: Slot,
        stop: Receiver<Infallible>,
        sleep: Sleep,
    ) -> Self {
        Self { stream, slot, stop, sleep, input: BytesMut::new(), budget: StepBudget::default() }
    }

    /// Serves the connection to its end.
    pub(super) async fn serve<I>(
        mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
    ) -> io::Result<()> {
        loop {
            let next =
                within(self.sleep, HEAD_WITHIN, self.next()).await.unwrap_or(Ok(Next::End))?;
            let after = match next {
                Next::Request(head) => self.serve_request(pending, access, &head).await?,
                Next::Refuse(status) => {
                    let answer = pending.refuse_head(self.slot.peer(), status);
                    self.respond(None, answer, false).await?;
                    NextStep::Close
                }
                Next::End => return self.close().await,
            };
            if after == NextStep::Close {
                return self.linger().await;
            }
        }
    }

    /// Waits for the head of the next request. A connection between requests ends when the server stops.
    async fn next(&mut self) -> io::Result<Next> {
        let stop = self.stop.clone();
        let mut before = 0;
        loop {
            let new = before == 0 || head::may_be_complete(&self.input, before);
            let long = self.input.len() > TARGET_MAX.min(HEAD_MAX);
            if (new || long) && !self.input.is_empty() {
                match head::parse(&self.input) {
                    Ok(Some((head, length))) => {
                        self.input.advance(length);
                        return Ok(Next::Request(Box::new(head)));
                    }
                    Ok(None) => {}
                    Err(HeadError::Status(status)) => return Ok(Next::Refuse(status)),
                    Err(HeadError::Close) => return Ok(Next::End),
                }
            }
            before = self.input.len();
            let read = if before == 0 {
                let stopped = async {
                    let Err(_closed) = stop.recv().await;
                    Ok(0)
                };
                or(self.read_more(), stopped).await?
            } else {
                self.read_more().await?
            };
            if read == 0 {
                return Ok(Next::End);
            }
        }
    }

    /// Reads available bytes, or waits for some; returns 0 at the end of the stream.
    pub(super) async fn read_more(&mut self) -> io::Result<usize> {
        self.budget.step().await;
        let Self { stream, slot, input, .. } = self;
        let evicted = async {
            slot.evicted().await;
            Err(eviction_error())
        };
        or(evicted, read(stream, |bytes| input.extend_from_slice(bytes))).await
    }

    /// Serves one request.
    async fn serve_request<I>(
        &mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
        head: &Head,
    ) -> io::Result<NextStep> {
        self.budget.step().await;
        let begun = pending.metrics().begin();
        let mut body = Decoder::new(head.length);
        let answer = match self.answer(pending, access, head, &mut body).await? {
            Reply::Whole(answer) => answer,
            Reply::Stream(open) => {
                pending.metrics().http_answered(&head.method, open.head().status, begun);
                return self.stream(head, open).await;
            }
        };
        pending.metrics().http_answered(&head.method, answer.status, begun);
        self.slot.set_state(SlotState::Idle);
        let closes = answer.headers.contains(&("connection", "close"));
        let stays = !closes && !self.stop.is_closed() && !self.slot.is_evicted();
        let again = head.keep_alive && stays && self.skip_body(&mut body);
        if !stays {
            self.slot.begin_last_response();
        }
        self.respond(Some(head), answer, again).await?;
        if self.input.is_empty() {
            // An idle connection keeps no buffer.
            self.input = BytesMut::new();
        }
        Ok(if again { NextStep::NextRequest } else { NextStep::Close })
    }

    async fn answer<I>(
        &mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
        head: &Head,
        body: &mut Decoder,
    ) -> io::Result<Reply> {
        let (method, path) = (&*head.method, head.uri.path());
        let (authorization, peer) = (head.authorization.as_deref(), self.slot.peer());
        if access.has_token(authorization) {
            self.slot.mark_authenticated();
        }
        if !self.slot.may_ask(path) {
            return Ok(refuse(404, "instances find nothing but /v1/tell at this socket").into());
        }
        let known = Known { method, path, authorization, peer };
        if let Some(answer) = pending.admit(access, known) {
            return Ok(answer.into());
        }
        let max = pending.limits.body_max(method, path);
        let announced = match head.length {
            Length::Known(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Length::Chunked => 0,
        };
        if announced > max {
            return Ok(pending.incomplete(known, too_large(max)).await.into());
        }
        let most = if head.length == Length::Chunked { max } else { announced };
        let mut held = pending.bodies.begin(self.slot.origin(), most);
        let sleep = self.sleep;
        let arriving = self.body(&mut held, head, body, max);
        let whole = match within(sleep, pending.limits.body_within, arriving).await {
            Some(Ok(whole)) => whole,
            Some(Err(refusal)) => return Ok(pending.incomplete(known, refusal).await.into()),
            None => return Ok(pending.incomplete(known, too_slow()).await.into()),
        };
        let trust = self.slot.trust(access.has_token(authorization));
        match head.uri.path_and_query() {
            Some(target) => {
                self.await_response(pending.request(method, target.as_str(), whole, trust)).await
            }
            // A target with a host and without a path is not the root.
            None => {
                self.await_response(pending.request(method, &head.uri.to_string(), whole, trust))
                    .await
            }
        }
    }

    /// Waits for the core's response, unless the connection is evicted.
    ///
    /// A client that has gone must not keep its slot for that long. A reset ends the request. If the client
    /// closes its side, the connection is the first to be evicted.
    async fn await_response(&mut self, asked: impl Future<Output = Reply>) -> io::Result<Reply> {
        let mut asked = pin!(async { Ok(Waited::Answer(asked.await)) });
        self.slot.set_state(SlotState::Answering);
        let mut ended = false;
        loop {
            let Self { stream, slot, input, budget, .. } = self;
            let evicted = async {
                slot.evicted().await;
                Ok(Waited::Evicted)
            };
            let said = async {
                if ended || input.len() >= HEAD_MAX {
                    return std::future::pending().await;
                }
                budget.step().await;
                match read(stream, |bytes| input.extend_from_slice(bytes)).await {
                    Ok(n) => Ok(Waited::Received(n)),
                    // The client closed TLS without close_notify.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
                        Ok(Waited::Received(0))
                    }
                    Err(why) => Err(why),
                }
            };
            match or(asked.as_mut(), or(evicted, said)).await? {
                Waited::Answer(answer) => return Ok(answer),
                Waited::Evicted => {
                    self.slot.begin_last_response();
                    return Ok(requests_full().into());
                }
                Waited::Received(0) => {
                    ended = true;
                    self.slot.set_state(SlotState::HalfClosed);
                }
                Waited::Received(_) => {}
            }
        }
    }

    async fn body(
        &mut self,
        whole: &mut Body,
        head: &Head,
        body: &mut Decoder,
        max: usize,
    ) -> Result<Bytes, Answer> {
        if !body.is_done() {
            self.slot.set_state(SlotState::Receiving);
        }
        if head.expects_continue {
            let leave = self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            leave.await.map_err(|_| incomplete())?;
        }
        while !body.is_done() {
            if self.input.is_empty() {
                let evicted = async {
                    whole.evicted().await;
                    Err(eviction_error())
                };
                match or(evicted, self.read_more()).await {
                    Ok(n) if n > 0 => {}
                    Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => {
                        self.slot.begin_last_response();
                        return Err(bodies_full());
                    }
                    _ => return Err(incomplete()),
                }
            }
            let (taken, data) = body.decode_some(&self.input).map_err(|_| incomplete())?;
            if whole.exceeds(data.len()) {
                return Err(too_large(max));
            }
            whole.push(&data).map_err(|Full| bodies_full())?;
            drop(data);
            self.input.advance(taken);
            if head.length == Length::Chunked {
                // One step decodes many of the smallest chunks, which is enough work for one turn.
                yield_now().await;
            }
        }
        whole.finish().map_err(|Full| bodies_full())
    }

    /// Skips an unneeded body, if all of it has arrived. Otherwise the connection cannot be used again.
    fn skip_body(&mut self, body: &mut Decoder) -> bool {
        while !body.is_done() && !self.input.is_empty() {
            let Ok((taken, _)) = body.decode_some(&self.input) else { return false };
            self.input.advance(taken);
        }
        body.is_done()
    }

    /// Closes the connection. TLS sends a close_notify, which a client that does not read never takes.
    async fn close(self) -> io::Result<()> {
        let Self { mut stream, mut slot, sleep, .. } = self;
        let evicted = async {
            slot.evicted().await;
            Err(eviction_error())
        };
        within(sleep, LINGER_WITHIN, or(evicted, stream.close())).await.unwrap_or(Ok(()))
    }

    /// Closes the connection so that its client can read the response. For a while the rest of the request is
    /// read and dropped, since closing with unread bytes sends a reset, which discards the response.
    async fn linger(mut self) -> io::Result<()> {
        self.input = BytesMut::new();
        let Self { mut stream, mut slot, sleep, mut budget, .. } = self;
        let drop_rest = async {
            stream.close().await?;
            let mut dropped = 0;
            while dropped < LINGER_MAX {
                budget.step().await;
                match read(&mut stream, |_| {}).await? {
                    0 => break,
                    n => dropped += n,
                }
            }
            Ok(())
        };
        let evicted = async {
            slot.evicted().await;
            Err(eviction_error())
        };
        within(sleep, LINGER_WITHIN, or(evicted, drop_rest)).await.unwrap_or(Ok(()))
    }

    pub(super) async fn respond(
        &mut self,
        head: Option<&Head>,
        answer: Answer,
        keep_alive: bool,
    ) -> io::Result<()> {
        let (is_1_0, is_head) =
            head.map_or((false, false), |head| (head.is_1_0, head.method == "HEAD"));
        let mut text = String::with_capacity(256);
        let version = if is_1_0 { "HTTP/1.0" } else { "HTTP/1.1" };
        let status = answer.status;
        let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
        // Writing to a string does not fail, here and below.
        let _ = write!(text, "{version} {status} {}\r\n", reason.unwrap_or("<none>"));
        for (name, value) in &answer.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let says = answer.headers.iter().any(|(name, _)| *name == "connection");
        match (is_1_0, keep_alive) {
            (true, true) => text.push_str("connection: keep-alive\r\n"),
            (false, false) if !says => text.push_str("connection: close\r\n"),
            _ => {}
        }
        if !(is_head && answer.body.is_empty()) {
            let _ = write!(text, "content-length: {}\r\n", answer.body.len());
        }
        let now = HttpDate::from(UNIX_EPOCH + Duration::from_nanos(clock::wall().0));
        let _ = write!(text, "date: {now}\r\n\r\n");
        let mut bytes = text.into_bytes();
        if is_head {
            return self.write(&bytes).await;
        }
        if answer.body.len() <= READ_MAX {
            bytes.extend_from_slice(&answer.body);
            return self.write(&bytes).await;
        }
        // A long body is written separately, to avoid a second copy.
        self.write(&bytes).await?;
        self.write(&answer.body).await
    }

    /// Writes the bytes as fast as the client reads them.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "its client does not read");
        let Self { stream, slot, sleep, .. } = self;
        while !bytes.is_empty() {
            let evicted = async {
                slot.evicted().await;
                Err(eviction_error())
            };
            let write = or(stream.write(bytes), evicted);
            match within(*sleep, WRITE_WITHIN, write).await.ok_or_else(late)?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        within(*sleep, WRITE_WITHIN, stream.flush()).await.ok_or_else(late)?
    }
}

/// Does one read; returns 0 at the end of the stream.
async fn read(stream: &mut Box<dyn Stream>, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let n = ready!(Pin::new(&mut *stream).poll_read(cx, scratch))?;
            take(&scratch[..n]);
            Poll::Ready(Ok(n))
        })
    })
    .await
}
