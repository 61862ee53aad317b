//! The HTTP server of both programs.
//!
//! It limits connections, parses requests, controls access, and answers some requests itself. It passes the
//! others to the core. The core has the routes, except for `/metrics`, which belongs to the host. A
//! runtime brings the sockets, the time and the TLS handshake.
//!
//! The server is our own, on hyper's parser. hyper's server has four limits. It does not report the state of
//! a connection, which decides about evictions. It hides a request that has both a length and chunks. It
//! keeps 64 KiB for each connection. And it resets the connection of a request that it refuses.

mod access;
mod bodies;
mod connection;
mod framing;
mod head;
mod server;
mod slot_table;
mod slots;
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
use hax_core::bridge::{BQ_WATCH_PATH, PROCESS_WATCH_PATH};
use hax_core::ha::fact::Fact;
use hax_core::http::port::{self, Trust};
use hax_core::http::stream::{Closed, Command, Why};

use crate::observe::metrics::{self, Metrics};

pub use access::{CertFiles, Error, HttpAccess};
pub use connection::Stream;
pub use server::{Server, Sleep};
pub use slot_table::Origin;
pub use slots::Slot;
pub use streams::{Open, STREAMS_MAX};

use bodies::Bodies;
use streams::Streams;

/// The timeout for a request's head; the client is disconnected then.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The maximum length of a head, in bytes; the response to a longer one is 431. It also bounds the memory
/// that incomplete heads take for each connection.
pub const HEAD_MAX: usize = 16 << 10;

/// The maximum length of a request's target, in bytes; the response to a longer one is 414.
pub const TARGET_MAX: usize = 8 << 10;

/// The maximum number of header lines; the response to more is 431.
pub const HEADERS_MAX: usize = 64;

/// The maximum length of a body on routes that expect none or a short one, in bytes.
const SHORT_BODY_MAX: usize = 64 << 10;

/// The maximum length of the body of a hint, in bytes. A hint names processes; their states are read from
/// Consul.
const HINT_BODY_MAX: usize = 1 << 20;

/// The limits and timeouts of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum length of a body, in bytes; lower on routes that expect less.
    pub body_max: usize,
    /// The maximum length of all bodies together, in bytes, until their requests are answered.
    pub bodies_max: usize,
    /// The maximum number of connections; above it some are evicted.
    pub connections_max: usize,
    /// The maximum number of streaming responses. Their connections do not count as connections. Above the
    /// maximum the response is 503.
    pub streams_max: usize,
    /// The timeout for a body.
    pub body_within: Duration,
}

impl Limits {
    /// Returns the maximum length of the body of such a request, in bytes. A route without a body does not
    /// need 4 MiB.
    fn body_max(&self, method: &str, path: &str) -> usize {
        let most = match (method, path) {
            ("POST", "/" | BQ_WATCH_PATH) => usize::MAX,
            ("POST", PROCESS_WATCH_PATH) => HINT_BODY_MAX,
            _ => SHORT_BODY_MAX,
        };
        self.body_max.min(most)
    }
}

/// A response, without its length and date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, with names in lower case, as both servers write them.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body; the server omits it in the response to a HEAD request.
    pub body: Bytes,
}

/// A response of the core.
#[derive(Debug)]
pub enum Reply {
    /// A complete response.
    Whole(Answer),
    /// A streaming response, which stays open.
    Stream(Open),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Whole(answer)
    }
}

/// The head of a valid HTTP request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The client's address.
    pub peer: IpAddr,
}

/// The requests that wait for the core's response.
pub struct PendingRequests<I> {
    waiting: Mutex<Waiting>,
    inbox: Sender<I>,
    wrap: fn(Box<port::Request>) -> I,
    metrics: Arc<Metrics>,
    bodies: Arc<Bodies>,
    streams: Arc<Streams>,
    closed: Receiver<Closed>,
    /// The limits of the server.
    pub limits: Limits,
}

#[derive(Default)]
struct Waiting {
    next: HttpId,
    by_id: BTreeMap<HttpId, oneshot::Sender<Reply>>,
}

impl<I> PendingRequests<I> {
    /// Creates an empty table. `wrap` converts requests into inputs, which are put in `inbox`.
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

    /// Returns the counters and timings.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Delivers the core's response to a request.
    pub fn respond(&self, response: port::Response) {
        // The client may have gone away; then no task waits.
        if let Some(client) = self.waiting().by_id.remove(&response.id) {
            let _ = client.send(from_core(response).into());
        }
    }

    /// Begins, continues or ends a streaming response.
    pub fn stream(&self, command: Command) {
        match command {
            Command::Begin(begin) => {
                let client = self.waiting().by_id.remove(&begin.id);
                match client {
                    // If the client goes away before the stream reaches it, the stream is dropped and thus
                    // closed.
                    Some(client) => drop(client.send(Reply::Stream(self.streams.begin(begin)))),
                    None => self.streams.notify_closed(begin.id, Why::Client),
                }
            }
            Command::Chunk { id, bytes } => self.streams.push(id, bytes),
            Command::End { id } => self.streams.end(id),
        }
    }

    /// Returns the receiver of the notifications that a stream has been closed.
    #[must_use]
    pub fn closed(&self) -> Receiver<Closed> {
        self.closed.clone()
    }

    /// Answers all pending requests with 503, since the core will not, and ends the open streams.
    pub fn refuse_pending(&self) {
        self.waiting().by_id.clear();
        self.streams.end_all();
    }

    /// Returns the response to a request if its body does not matter. These are requests without access, and
    /// requests that only the host can answer.
    pub fn admit(&self, access: &HttpAccess, head: Head<'_>) -> Option<Answer> {
        let Head { method, path, authorization, .. } = head;
        if !access.authorizes(method, path, authorization) {
            self.record_refusal(head, 401, ", without hax's token");
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

    /// Returns the response to an invalid or rejected head, of which method and path are unknown.
    pub fn refuse_head(&self, peer: IpAddr, status: u16) -> Answer {
        let begun = self.metrics.begin();
        let why = match status {
            414 => "the target is too long",
            417 => "nothing is expected here but 100-continue",
            431 => "the head is too long, or has too many lines",
            501 => "no coding is known here but chunks",
            _ => "this is no head of HTTP/1.1, or an ambiguous one",
        };
        let head = Head { method: "?", path: "?", authorization: None, peer };
        self.record_refusal(head, status, &format!(": {why}"));
        self.metrics.http_answered(head.method, status, begun);
        refuse(status, why)
    }

    /// Returns the response to a request whose body does not become complete.
    ///
    /// A post of the broadcast queue has its effect nevertheless: Consul's watch does not repeat a refused
    /// post.
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
        self.record_refusal(head, refusal.status, &why);
        if (head.method, head.path) == ("POST", BQ_WATCH_PATH) {
            self.post_empty_queue().await;
        }
        refusal
    }

    /// Posts an empty queue, so that the core reads the queue from Consul. The response is dropped.
    async fn post_empty_queue(&self) {
        let id = self.waiting().next.mint();
        let (method, target) = ("POST".into(), BQ_WATCH_PATH.into());
        let body = Bytes::from_static(b"null");
        let request = port::Request { id, method, target, body, trust: Trust::None };
        // After the core's end the inbox is not read any more.
        let _ended = self.inbox.send((self.wrap)(Box::new(request))).await;
    }

    /// Logs a request that the core does not get.
    fn record_refusal(&self, Head { method, path, peer, .. }: Head<'_>, status: u16, why: &str) {
        let start: String = path.chars().take(100).collect();
        let why = format!("{method} {start} by {peer}{why}").into();
        let http = self.waiting().next.mint();
        self.metrics.record(&Fact::HttpRefused { http, status, why });
    }

    /// Returns the core's response to a complete request. `target` has the form that the core expects.
    /// Dropping the future forgets the request.
    ///
    /// It waits while the inbox is full, as all senders do: busy peers on the wire must not cause refused
    /// HTTP requests. A connection has one request at a time, so the number of waiting requests is bounded by
    /// the number of connections.
    pub async fn request(&self, method: &str, target: &str, body: Bytes, trust: Trust) -> Reply {
        let (respond, response) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            let id = waiting.next.mint();
            waiting.by_id.insert(id, respond);
            id
        };
        let _forget = ForgetOnDrop(self, id);
        // A HEAD is a GET whose body the server omits.
        let method = if method == "HEAD" { "GET" } else { method };
        let (method, target) = (method.into(), target.into());
        let request = port::Request { id, method, target, body, trust };
        // After the core's end the request is dropped, so no response comes.
        let sent = self.inbox.send((self.wrap)(Box::new(request))).await;
        let answer = if sent.is_ok() { response.await.ok() } else { None };
        answer.unwrap_or_else(|| unavailable("stopping").into())
    }
}

struct ForgetOnDrop<'a, I>(&'a PendingRequests<I>, HttpId);

impl<I> Drop for ForgetOnDrop<'_, I> {
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

/// Returns a response of the host itself, in the format of the core's responses.
///
/// # Panics
///
/// If the host does not use such a status.
#[must_use]
pub(crate) fn refuse(status: u16, why: &str) -> Answer {
    let reason = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
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
    // The rest of the request is not read.
    let headers =
        vec![("content-type", "application/json; charset=utf-8"), ("connection", "close")];
    Answer { status, headers, body: body.to_string().into() }
}

/// Returns the response to a body that is too long.
#[must_use]
pub(crate) fn too_large(max: usize) -> Answer {
    refuse(413, &format!("a body has at most {max} bytes here"))
}

/// Returns the response to a request whose body was evicted.
#[must_use]
pub(crate) fn bodies_full() -> Answer {
    unavailable("there is no room for the bodies of so many requests")
}

/// Returns the response to a request at the core whose connection was evicted.
#[must_use]
pub(crate) fn requests_full() -> Answer {
    unavailable("there is no room for so many requests that wait")
}

/// Returns the response to a request for a stream if there is no room for one more.
#[must_use]
pub(crate) fn streams_full() -> Answer {
    unavailable("there is no room for so many answers that stay open")
}

/// Returns the response to an incomplete body.
#[must_use]
pub(crate) fn incomplete() -> Answer {
    refuse(400, "the body is not complete")
}

/// Returns the response to a body that takes too long.
#[must_use]
pub(crate) fn too_slow() -> Answer {
    refuse(408, "the body came too slowly")
}
