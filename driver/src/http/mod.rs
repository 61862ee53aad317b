//! The HTTP server of both programs: who has room, what is a request, who is let in, what the host answers
//! by itself, what the core is asked. Routes are the core's affair, save for `/metrics`, which are the
//! host's. A runtime brings the sockets, the time and TLS's part.
//!
//! It is our own, on hyper's parser, and not hyper's server: that one says nothing of what is going on on a
//! connection, by which it is decided who gives way, hides one of a length and chunks, keeps 64 KiB for
//! each connection, and ends with a reset what it refuses.

mod access;
mod bodies;
mod connection;
mod framing;
mod head;
mod room;
mod seats;
mod server;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::base::id::HttpId;
use hax_core::ha::fact::Fact;
use hax_core::http::port;
use hax_core::http::stream::{Closed, Command, Why};

use crate::observe::metrics::{self, Metrics};

pub use access::{CertFiles, Error, HttpAccess};
pub use connection::Stream;
pub use room::Origin;
pub use seats::Seat;
pub use server::{Server, Sleep};
pub use streams::{Open, STREAMS_MAX};

use bodies::Bodies;
use streams::Streams;

/// A client that does not finish its head in this time is cut off.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The longest head, in bytes; above it the answer is 431. What parts of heads take is at most this for
/// each connection.
pub const HEAD_MAX: usize = 16 << 10;

/// The longest target of a request, in bytes; above it the answer is 414.
pub const TARGET_MAX: usize = 8 << 10;

/// The most header lines; above it the answer is 431.
pub const HEADERS_MAX: usize = 64;

/// The longest body where none is wanted, or a short one; in bytes.
const SHORT_BODY_MAX: usize = 64 << 10;

/// The longest body of a hint, which names processes, in bytes. What they are is read from Consul.
const HINT_BODY_MAX: usize = 1 << 20;

/// Where Consul's watch of the broadcast queue posts.
const QUEUE_WATCH: &str = "/watcher/bq";

/// What a server may take and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest body, in bytes; less on routes that want less.
    pub body_max: usize,
    /// All bodies together, in bytes, until their requests are answered.
    pub bodies_max: usize,
    /// Connections at a time; above it some give way.
    pub connections_max: usize,
    /// Answers that stay open at a time, whose connections count no more; above it the answer is 503.
    pub streams_max: usize,
    /// How long a body may take to arrive.
    pub body_within: Duration,
}

impl Limits {
    /// The longest body of such a request, in bytes: whoever wants none has no use for 4 MiB.
    fn body_max(&self, method: &str, path: &str) -> usize {
        let most = match (method, path) {
            ("POST", "/" | QUEUE_WATCH) => usize::MAX,
            ("POST", "/watcher/processes") => HINT_BODY_MAX,
            _ => SHORT_BODY_MAX,
        };
        self.body_max.min(most)
    }
}

/// An answer, its length and date apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, as both servers write them.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body; left out by the server where the request was a HEAD.
    pub body: Bytes,
}

/// What the core answers.
#[derive(Debug)]
pub enum Reply {
    /// The whole of it.
    Whole(Answer),
    /// What stays open.
    Stream(Open),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Whole(answer)
    }
}

/// The head of a request that is known to be HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// As sent.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// Who asks.
    pub peer: IpAddr,
}

/// Where requests wait for the core's response.
pub struct PendingRequests<I> {
    waiting: Mutex<Waiting>,
    inbox: Sender<I>,
    wrap: fn(Box<port::Request>) -> I,
    metrics: Arc<Metrics>,
    bodies: Arc<Bodies>,
    streams: Arc<Streams>,
    closed: Receiver<Closed>,
    /// What its server may take.
    pub limits: Limits,
}

#[derive(Default)]
struct Waiting {
    next: HttpId,
    by_id: BTreeMap<HttpId, oneshot::Sender<Reply>>,
}

impl<I> PendingRequests<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let bodies = Arc::new(Bodies::new(limits.bodies_max));
        let (closes, closed) = async_channel::unbounded();
        let streams = Arc::new(Streams::new(closes));
        let waiting = Mutex::default();
        Self { waiting, inbox, wrap, metrics, bodies, streams, closed, limits }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted and timed.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The core's response to a request.
    pub fn respond(&self, response: port::Response) {
        // Its client may have gone away, then nobody waits.
        if let Some(client) = self.waiting().by_id.remove(&response.id) {
            let _ = client.send(from_core(response).into());
        }
    }

    /// Begins, continues or ends an answer that stays open.
    pub fn stream(&self, command: Command) {
        match command {
            Command::Begin(begin) => {
                let client = self.waiting().by_id.remove(&begin.id);
                match client {
                    // It may go away before it hears of it: then what is sent is dropped, and so is over.
                    Some(client) => drop(client.send(Reply::Stream(self.streams.begin(begin)))),
                    None => self.streams.tell(begin.id, Why::Client),
                }
            }
            Command::Chunk { id, bytes } => self.streams.push(id, bytes),
            Command::End { id } => self.streams.end(id),
        }
    }

    /// Tells of each answer that stayed open when it is over.
    #[must_use]
    pub fn closed(&self) -> Receiver<Closed> {
        self.closed.clone()
    }

    /// Answers all that still wait with 503, since the core will not, and ends the answers that are open.
    pub fn give_up(&self) {
        self.waiting().by_id.clear();
        self.streams.end_all();
    }

    /// What is answered without a look at the body: to who is not let in, and what only the host knows.
    pub fn admit(&self, access: &HttpAccess, head: Head<'_>) -> Option<Answer> {
        let Head { method, path, authorization, .. } = head;
        if !access.authorizes(method, path, authorization) {
            self.note(head, 401, ", without hax's token");
            let why =
                "this needs the header Authorization: Bearer TOKEN, with hax's --http-token-file";
            let mut refusal = refuse(401, why);
            refusal.headers.push(("www-authenticate", "Bearer realm=\"hax\""));
            return Some(refusal);
        }
        if path == "/metrics" && matches!(method, "GET" | "HEAD") {
            let headers = vec![("content-type", metrics::CONTENT_TYPE)];
            let body = self.metrics.render(self.inbox.len()).into();
            return Some(Answer { status: 200, headers, body });
        }
        None
    }

    /// The answer to what is no head, or none that is taken; there is no telling what was asked.
    pub fn no_head(&self, peer: IpAddr, status: u16) -> Answer {
        let begun = self.metrics.begin();
        let why = match status {
            414 => "the target is too long",
            417 => "nothing is expected here but 100-continue",
            431 => "the head is too long, or has too many lines",
            501 => "no coding is known here but chunks",
            _ => "this is no head of HTTP/1.1, or an ambiguous one",
        };
        let head = Head { method: "?", path: "?", authorization: None, peer };
        self.note(head, status, &format!(": {why}"));
        self.metrics.http_answered(head.method, status, begun);
        refuse(status, why)
    }

    /// The answer to a request whose body does not become complete.
    ///
    /// A post of the broadcast queue is heard all the same: Consul's watch does not repeat what is refused.
    pub async fn incomplete(&self, head: Head<'_>, refusal: Answer) -> Answer {
        let max = self.limits.body_max(head.method, head.path);
        let why = match refusal.status {
            413 if max == self.limits.body_max => {
                format!(": its body is longer than http_body_max = {max}")
            }
            413 => format!(": its body is longer than {max} bytes, which are enough for it"),
            503 => ": bodies take up all of http_bodies_max".into(),
            408 => ": its body came too slowly".into(),
            _ => ": its body is not complete".into(),
        };
        self.note(head, refusal.status, &why);
        if (head.method, head.path) == ("POST", QUEUE_WATCH) {
            self.hint().await;
        }
        refusal
    }

    /// Posts an empty queue, which has the core read what Consul has of it. Nobody waits for the answer.
    async fn hint(&self) {
        let id = self.waiting().next.mint();
        let (method, target) = ("POST".into(), QUEUE_WATCH.into());
        let body = Bytes::from_static(b"null");
        let request = port::Request { id, method, target, body, trusted: false };
        // After the core's end nothing is read any more.
        let _ended = self.inbox.send((self.wrap)(Box::new(request))).await;
    }

    /// Tells of a request that the core does not see.
    fn note(&self, Head { method, path, peer, .. }: Head<'_>, status: u16, why: &str) {
        let start: String = path.chars().take(100).collect();
        let why = format!("{method} {start} by {peer}{why}").into();
        let http = self.waiting().next.mint();
        self.metrics.record(&Fact::HttpRefused { http, status, why });
    }

    /// The core's answer to a complete request; `target` is as the core wants it, and `trusted` whether it is
    /// from this node or has shown the token. Dropping the future forgets the request.
    ///
    /// It waits for its turn where the inbox is full, as all do who fill it: peers on the wire that say
    /// much shall not have a client refused. A connection asks once at a time, so no more wait than
    /// there are connections.
    pub async fn ask(&self, method: &str, target: &str, body: Bytes, trusted: bool) -> Reply {
        let (respond, response) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            let id = waiting.next.mint();
            waiting.by_id.insert(id, respond);
            id
        };
        let _forget = Forget(self, id);
        // A HEAD is a GET whose body the server leaves out.
        let method = if method == "HEAD" { "GET" } else { method };
        let (method, target) = (method.into(), target.into());
        let request = port::Request { id, method, target, body, trusted };
        // After the core's end the request is dropped, and with it nobody has an answer for its client.
        let sent = self.inbox.send((self.wrap)(Box::new(request))).await;
        let answer = if sent.is_ok() { response.await.ok() } else { None };
        answer.unwrap_or_else(|| unavailable("stopping").into())
    }
}

struct Forget<'a, I>(&'a PendingRequests<I>, HttpId);

impl<I> Drop for Forget<'_, I> {
    fn drop(&mut self) {
        self.0.waiting().by_id.remove(&self.1);
    }
}

fn from_core(response: port::Response) -> Answer {
    let headers = [("content-type", response.content_type), ("allow", response.allow)];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Answer { status: response.status, headers, body: response.body }
}

fn unavailable(why: &str) -> Answer {
    let mut answer = refuse(503, why);
    answer.headers.push(("retry-after", "1"));
    answer
}

/// An answer that the host gives by itself, in the shape of the core's.
///
/// # Panics
///
/// If the host does not say such a status.
#[must_use]
pub(crate) fn refuse(status: u16, why: &str) -> Answer {
    let reason = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => panic!("the host never says {status}"),
    };
    let body = serde_json::json!({
        "status_code": status,
        "error_message": why,
        "error_type": reason,
        "reason": reason,
    });
    // What is left of the request is not worth reading.
    let headers =
        vec![("content-type", "application/json; charset=utf-8"), ("connection", "close")];
    Answer { status, headers, body: body.to_string().into() }
}

/// What a body that is too long is answered.
#[must_use]
pub(crate) fn too_large(max: usize) -> Answer {
    refuse(413, &format!("a body has at most {max} bytes here"))
}

/// What a body is answered that gave way to others.
#[must_use]
pub(crate) fn busy() -> Answer {
    unavailable("there is no room for the bodies of so many requests")
}

/// What a request is answered that the core has and that gave way to others.
#[must_use]
pub(crate) fn crowded() -> Answer {
    unavailable("there is no room for so many requests that wait")
}

/// What a request is answered for whose answer there is no room, since it is to stay open.
#[must_use]
pub(crate) fn crowded_streams() -> Answer {
    unavailable("there is no room for so many answers that stay open")
}

/// What a body that does not come to its end is answered.
#[must_use]
pub(crate) fn incomplete() -> Answer {
    refuse(400, "the body is not complete")
}

/// What a body that takes too long is answered.
#[must_use]
pub(crate) fn too_slow() -> Answer {
    refuse(408, "the body came too slowly")
}
