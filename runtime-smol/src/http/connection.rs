//! The life of one HTTP connection: request, answer, request, until one side has enough.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use async_channel::Receiver;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_lite::future::or;
use futures_lite::{AsyncRead as _, AsyncWriteExt as _};
use hax_driver::clock;
use hax_driver::http::{
    Answer, Body, Desk, Door, HEAD_WITHIN, Head as Known, incomplete, too_slow,
};
use http::StatusCode;
use httpdate::HttpDate;

use super::Stream;
use super::body::Decoder;
use super::head::{self, Bad, Head, Length};
use crate::tasks::{Turn, within};

/// What one read takes at most.
const READ_MAX: usize = 16 << 10;

thread_local! {
    /// What is read goes through here; only its bytes are kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// A connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    peer: IpAddr,
    /// Closed when the server stops.
    stop: Receiver<Infallible>,
    /// What has come and is not worked.
    input: BytesMut,
    turn: Turn,
}

/// What the wait for a request ends with.
enum Next {
    Request(Box<Head>),
    Refuse(u16),
    End,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, peer: IpAddr, stop: Receiver<Infallible>) -> Self {
        Self { stream, peer, stop, input: BytesMut::new(), turn: Turn::default() }
    }

    /// Serves it to its end.
    pub(super) async fn serve<I>(mut self, desk: &Desk<I>, door: &Door) -> io::Result<()> {
        loop {
            let next = within(HEAD_WITHIN, self.next()).await.unwrap_or(Ok(Next::End))?;
            let again = match next {
                Next::Request(head) => self.one(desk, door, &head).await?,
                Next::Refuse(status) => {
                    let answer = Answer { status, headers: Vec::new(), body: Bytes::new() };
                    self.respond(None, answer, false).await?;
                    false
                }
                Next::End => false,
            };
            if !again {
                return self.stream.close().await;
            }
        }
    }

    /// The next request's head. A connection without one ends when the server stops.
    async fn next(&mut self) -> io::Result<Next> {
        let stop = self.stop.clone();
        let mut before = 0;
        loop {
            let new = before == 0 || head::may_be_whole(&self.input, before);
            if new && !self.input.is_empty() {
                match head::parse(&self.input) {
                    Ok(Some((head, length))) => {
                        self.input.advance(length);
                        return Ok(Next::Request(Box::new(head)));
                    }
                    Ok(None) => {}
                    Err(Bad::Status(status)) => return Ok(Next::Refuse(status)),
                    Err(Bad::Mute) => return Ok(Next::End),
                }
            }
            if head::is_too_long(&self.input) {
                return Ok(Next::Refuse(431));
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
    async fn fill(&mut self) -> io::Result<usize> {
        self.turn.done().await;
        let (stream, input) = (&mut self.stream, &mut self.input);
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let n = ready!(Pin::new(&mut *stream).poll_read(cx, scratch))?;
                input.extend_from_slice(&scratch[..n]);
                Poll::Ready(Ok(n))
            })
        })
        .await
    }

    /// Answers one request; whether another may follow.
    async fn one<I>(&mut self, desk: &Desk<I>, door: &Door, head: &Head) -> io::Result<bool> {
        self.turn.done().await;
        let begun = desk.metrics().begin();
        let mut body = Decoder::new(head.length);
        let answer = self.answer(desk, door, head, &mut body).await;
        desk.metrics().http_answered(&head.method, answer.status, begun);
        let closes = answer.headers.contains(&("connection", "close"));
        let keep_alive = head.keep_alive && !closes && !self.stop.is_closed();
        self.respond(Some(head), answer, keep_alive).await?;
        Ok(keep_alive && self.pass_over(&mut body))
    }

    async fn answer<I>(
        &mut self,
        desk: &Desk<I>,
        door: &Door,
        head: &Head,
        body: &mut Decoder,
    ) -> Answer {
        let (method, path) = (&*head.method, head.uri.path());
        let known =
            Known { method, path, authorization: head.authorization.as_deref(), peer: self.peer };
        if let Some(answer) = desk.admit(door, known) {
            return answer;
        }
        let body = self.body(desk.limits.body_max, head, body);
        let body = match within(desk.limits.body_within, body).await {
            Some(Ok(body)) => body,
            Some(Err(refusal)) => return desk.incomplete(known, refusal),
            None => return desk.incomplete(known, too_slow()),
        };
        match head.uri.path_and_query() {
            Some(target) => desk.ask(method, target.as_str(), body).await,
            // What names a host and no path is not the root.
            None => desk.ask(method, &head.uri.to_string(), body).await,
        }
    }

    async fn body(&mut self, max: usize, head: &Head, body: &mut Decoder) -> Result<Bytes, Answer> {
        let announced = match head.length {
            Length::Known(length) => length,
            Length::Chunked => 0,
        };
        let mut whole = Body::new(max, announced, head.expects)?;
        if head.waits {
            let leave = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            leave.await.map_err(|_| incomplete())?;
        }
        while !body.is_done() {
            if self.input.is_empty() && !matches!(self.fill().await, Ok(n) if n > 0) {
                return Err(incomplete());
            }
            let (taken, data) = body.take(&self.input).map_err(|_| incomplete())?;
            let more = whole.push(&self.input[data]);
            self.input.advance(taken);
            if !more {
                break;
            }
        }
        whole.finish()
    }

    /// Passes over a body that nobody wanted, if it is all there. Else the connection is of no use.
    fn pass_over(&mut self, body: &mut Decoder) -> bool {
        while !body.is_done() && !self.input.is_empty() {
            let Ok((taken, _)) = body.take(&self.input) else { return false };
            self.input.advance(taken);
        }
        body.is_done()
    }

    async fn respond(
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
        if !is_head {
            bytes.extend_from_slice(&answer.body);
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }
}
