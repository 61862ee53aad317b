//! The life of one HTTP connection: request, answer, request, until one side has enough.

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
use super::room::SeatState;
use super::seats::Seat;
use super::{
    Answer, HEAD_MAX, HEAD_WITHIN, Head as Known, HttpAccess, PendingRequests, Reply, Sleep,
    TARGET_MAX,
};
use super::{busy, crowded, incomplete, too_large, too_slow};
use crate::host::clock;
use crate::host::turn::Turn;

/// What one read takes at most.
const READ_MAX: usize = 16 << 10;

/// A client that takes nothing of its answer for this long is cut off.
const TAKE_WITHIN: Duration = Duration::from_secs(10);

/// How long a client that is refused may go on sending before it reads why.
const LINGER_WITHIN: Duration = Duration::from_secs(5);

/// How many bytes it may send meanwhile.
const LINGER_MAX: usize = 16 << 20;

thread_local! {
    /// What is read goes through here; only its bytes are kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    pub(super) seat: Seat,
    /// Closed when the server stops.
    stop: Receiver<Infallible>,
    sleep: Sleep,
    /// What has come and is not worked.
    pub(super) input: BytesMut,
    turn: Turn,
}

/// What the wait for a request ends with.
enum Next {
    Request(Box<Head>),
    Refuse(u16),
    End,
}

/// What comes while the core has a request.
enum Waited {
    Answer(Reply),
    GaveWay,
    /// So many bytes of the client, 0 being its end.
    Said(usize),
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Another,
    /// The end, once the client has read what it was told.
    Close,
}

/// What a connection that has to give way ends with.
fn called() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "it gave way to others")
}

/// What comes of `done`, if that is in time.
async fn within<T>(sleep: Sleep, time: Duration, done: impl Future<Output = T>) -> Option<T> {
    or(async { Some(done.await) }, async {
        sleep(time).await;
        None
    })
    .await
}

/// Begins a connection with `begin`, which may be TLS's part, within the time of a head; nothing of one
/// that gives way meanwhile.
pub(super) async fn begin(
    seat: &mut Seat,
    sleep: Sleep,
    begin: impl Future<Output = io::Result<Box<dyn Stream>>>,
) -> io::Result<Box<dyn Stream>> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"));
    let begin = async { within(sleep, HEAD_WITHIN, begin).await.unwrap_or_else(late) };
    let gave_way = async {
        seat.called().await;
        Err(called())
    };
    or(gave_way, begin).await
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        seat: Seat,
        stop: Receiver<Infallible>,
        sleep: Sleep,
    ) -> Self {
        Self { stream, seat, stop, sleep, input: BytesMut::new(), turn: Turn::default() }
    }

    /// Serves it to its end.
    pub(super) async fn serve<I>(
        mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
    ) -> io::Result<()> {
        loop {
            let next =
                within(self.sleep, HEAD_WITHIN, self.next()).await.unwrap_or(Ok(Next::End))?;
            let after = match next {
                Next::Request(head) => self.one(pending, access, &head).await?,
                Next::Refuse(status) => {
                    let answer = pending.no_head(self.seat.peer(), status);
                    self.respond(None, answer, false).await?;
                    After::Close
                }
                Next::End => return self.close().await,
            };
            if after == After::Close {
                return self.linger().await;
            }
        }
    }

    /// The next request's head. A connection without one ends when the server stops.
    async fn next(&mut self) -> io::Result<Next> {
        let stop = self.stop.clone();
        let mut before = 0;
        loop {
            let new = before == 0 || head::may_be_whole(&self.input, before);
            let long = self.input.len() > TARGET_MAX.min(HEAD_MAX);
            if (new || long) && !self.input.is_empty() {
                match head::parse(&self.input) {
                    Ok(Some((head, length))) => {
                        self.input.advance(length);
                        return Ok(Next::Request(Box::new(head)));
                    }
                    Ok(None) => {}
                    Err(HeadError::Status(status)) => return Ok(Next::Refuse(status)),
                    Err(HeadError::Mute) => return Ok(Next::End),
                }
            }
            before = self.input.len();
            let read = if before == 0 {
                let stopped = async {
                    let Err(_closed) = stop.recv().await;
                    Ok(0)
                };
                or(self.fill(), stopped).await?
            } else {
                self.fill().await?
            };
            if read == 0 {
                return Ok(Next::End);
            }
        }
    }

    /// Reads what has come, or waits for it; 0 is the end.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.turn.done().await;
        let Self { stream, seat, input, .. } = self;
        let gave_way = async {
            seat.called().await;
            Err(called())
        };
        or(gave_way, read(stream, |bytes| input.extend_from_slice(bytes))).await
    }

    /// Answers one request.
    async fn one<I>(
        &mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
        head: &Head,
    ) -> io::Result<After> {
        self.turn.done().await;
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
        self.seat.set(SeatState::Idle);
        let closes = answer.headers.contains(&("connection", "close"));
        let stays = !closes && !self.stop.is_closed() && !self.seat.is_called();
        let again = head.keep_alive && stays && self.pass_over(&mut body);
        if !stays {
            self.seat.leave();
        }
        self.respond(Some(head), answer, again).await?;
        if self.input.is_empty() {
            // A connection that is kept keeps no memory.
            self.input = BytesMut::new();
        }
        Ok(if again { After::Another } else { After::Close })
    }

    async fn answer<I>(
        &mut self,
        pending: &PendingRequests<I>,
        access: &HttpAccess,
        head: &Head,
        body: &mut Decoder,
    ) -> io::Result<Reply> {
        let (method, path) = (&*head.method, head.uri.path());
        let (authorization, peer) = (head.authorization.as_deref(), self.seat.peer());
        if access.is_shown(authorization) {
            self.seat.prove();
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
        let mut held = pending.bodies.begin(self.seat.origin(), most);
        let sleep = self.sleep;
        let arriving = self.body(&mut held, head, body, max);
        let whole = match within(sleep, pending.limits.body_within, arriving).await {
            Some(Ok(whole)) => whole,
            Some(Err(refusal)) => return Ok(pending.incomplete(known, refusal).await.into()),
            None => return Ok(pending.incomplete(known, too_slow()).await.into()),
        };
        let trusted = self.seat.origin() == super::Origin::Own;
        match head.uri.path_and_query() {
            Some(target) => self.asked(pending.ask(method, target.as_str(), whole, trusted)).await,
            // What names a host and no path is not the root.
            None => self.asked(pending.ask(method, &head.uri.to_string(), whole, trusted)).await,
        }
    }

    /// Waits for the core's answer as long as there is room to wait in. Who has gone must not keep its seat
    /// for that long: a reset ends the request, and after an end of the client's side it is the first to
    /// give way.
    async fn asked(&mut self, asked: impl Future<Output = Reply>) -> io::Result<Reply> {
        let mut asked = pin!(async { Ok(Waited::Answer(asked.await)) });
        self.seat.set(SeatState::Answering);
        let mut ended = false;
        loop {
            let Self { stream, seat, input, turn, .. } = self;
            let gave_way = async {
                seat.called().await;
                Ok(Waited::GaveWay)
            };
            let said = async {
                if ended || input.len() >= HEAD_MAX {
                    return std::future::pending().await;
                }
                turn.done().await;
                match read(stream, |bytes| input.extend_from_slice(bytes)).await {
                    Ok(n) => Ok(Waited::Said(n)),
                    // TLS without its own end.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(Waited::Said(0)),
                    Err(why) => Err(why),
                }
            };
            match or(asked.as_mut(), or(gave_way, said)).await? {
                Waited::Answer(answer) => return Ok(answer),
                Waited::GaveWay => {
                    self.seat.leave();
                    return Ok(crowded().into());
                }
                Waited::Said(0) => {
                    ended = true;
                    self.seat.set(SeatState::Ended);
                }
                Waited::Said(_) => {}
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
            self.seat.set(SeatState::Receiving);
        }
        if head.waits {
            let leave = self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
            leave.await.map_err(|_| incomplete())?;
        }
        while !body.is_done() {
            if self.input.is_empty() {
                let gave_way = async {
                    whole.gave_way().await;
                    Err(called())
                };
                match or(gave_way, self.fill()).await {
                    Ok(n) if n > 0 => {}
                    Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => {
                        self.seat.leave();
                        return Err(busy());
                    }
                    _ => return Err(incomplete()),
                }
            }
            let (taken, data) = body.take_some(&self.input).map_err(|_| incomplete())?;
            if whole.exceeds(data.len()) {
                return Err(too_large(max));
            }
            whole.push(&data).map_err(|Full| busy())?;
            drop(data);
            self.input.advance(taken);
            if head.length == Length::Chunked {
                // So many of the smallest chunks are work enough for one turn.
                yield_now().await;
            }
        }
        whole.finish().map_err(|Full| busy())
    }

    /// Passes over a body that nobody wanted, if it is all there. Else the connection is of no use.
    fn pass_over(&mut self, body: &mut Decoder) -> bool {
        while !body.is_done() && !self.input.is_empty() {
            let Ok((taken, _)) = body.take_some(&self.input) else { return false };
            self.input.advance(taken);
        }
        body.is_done()
    }

    /// Ends the connection. TLS has a last word, which a client that does not read never takes.
    async fn close(self) -> io::Result<()> {
        let Self { mut stream, mut seat, sleep, .. } = self;
        let gave_way = async {
            seat.called().await;
            Err(called())
        };
        within(sleep, LINGER_WITHIN, or(gave_way, stream.close())).await.unwrap_or(Ok(()))
    }

    /// Ends the connection so that its client can read the answer: what it still sends is read and dropped
    /// for a while, since an end with something unread is a reset, which takes the answer away.
    async fn linger(mut self) -> io::Result<()> {
        self.input = BytesMut::new();
        let Self { mut stream, mut seat, sleep, mut turn, .. } = self;
        let drop_rest = async {
            stream.close().await?;
            let mut dropped = 0;
            while dropped < LINGER_MAX {
                turn.done().await;
                match read(&mut stream, |_| {}).await? {
                    0 => break,
                    n => dropped += n,
                }
            }
            Ok(())
        };
        let gave_way = async {
            seat.called().await;
            Err(called())
        };
        within(sleep, LINGER_WITHIN, or(gave_way, drop_rest)).await.unwrap_or(Ok(()))
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
        // One copy of a long answer is enough.
        self.write(&bytes).await?;
        self.write(&answer.body).await
    }

    /// Writes as fast as the client takes it.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "its client does not read");
        let Self { stream, seat, sleep, .. } = self;
        while !bytes.is_empty() {
            let gave_way = async {
                seat.called().await;
                Err(called())
            };
            let write = or(stream.write(bytes), gave_way);
            match within(*sleep, TAKE_WITHIN, write).await.ok_or_else(late)?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        within(*sleep, TAKE_WITHIN, stream.flush()).await.ok_or_else(late)?
    }
}

/// One read; 0 is the end.
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
