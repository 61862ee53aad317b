//! What both HTTP servers do with a complete request: who is let in, what the host answers by itself,
//! what the core is asked. Routes are the core's affair, save for `/metrics`, which are the host's.

mod door;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::Sender;
use bytes::Bytes;
use futures_channel::oneshot;
use hax_core::base::fact::Fact;
use hax_core::base::id::HttpId;
use hax_core::http::port;

use crate::metrics::{self, Metrics};

pub use door::{CertFiles, Door, Error};

/// A client that does not finish its head in this time is cut off.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The longest head; above it the answer is 431.
pub const HEAD_MAX: usize = 64 << 10;

/// The most header lines.
pub const HEADERS_MAX: usize = 64;

/// What a server may take and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest body, in bytes.
    pub body_max: usize,
    /// Connections at a time; the others wait in the system's backlog.
    pub connections_max: usize,
    /// How long a body may take to arrive.
    pub body_within: Duration,
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
pub struct Desk<I> {
    waiting: Mutex<Waiting>,
    inbox: Sender<I>,
    wrap: fn(Box<port::Request>) -> I,
    metrics: Arc<Metrics>,
    /// What its server may take.
    pub limits: Limits,
}

#[derive(Default)]
struct Waiting {
    next: HttpId,
    by_id: BTreeMap<HttpId, oneshot::Sender<port::Response>>,
}

impl<I> Desk<I> {
    /// No requests yet. They are put in `inbox`, as `wrap` makes them inputs.
    #[must_use]
    pub fn new(
        inbox: Sender<I>,
        wrap: fn(Box<port::Request>) -> I,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { waiting: Mutex::default(), inbox, wrap, metrics, limits }
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
            let _ = client.send(response);
        }
    }

    /// Answers all that still wait with 503, since the core will not.
    pub fn give_up(&self) {
        self.waiting().by_id.clear();
    }

    /// What is answered without a look at the body: to who is not let in, and what only the host knows.
    pub fn admit(&self, door: &Door, head: Head<'_>) -> Option<Answer> {
        let Head { method, path, authorization, .. } = head;
        if !door.lets_in(method, path, authorization) {
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

    /// The answer to a request whose body does not become complete.
    pub fn incomplete(&self, head: Head<'_>, refusal: Answer) -> Answer {
        let max = self.limits.body_max;
        let why = match refusal.status {
            413 => format!(": its body is longer than http_body_max = {max}"),
            408 => ": its body came too slowly".into(),
            _ => ": its body is not complete".into(),
        };
        self.note(head, refusal.status, &why);
        refusal
    }

    /// Tells of a request that the core does not see.
    fn note(&self, Head { method, path, peer, .. }: Head<'_>, status: u16, why: &str) {
        let start: String = path.chars().take(100).collect();
        let why = format!("{method} {start} by {peer}{why}").into();
        let http = self.waiting().next.mint();
        self.metrics.record(&Fact::HttpRefused { http, status, why });
    }

    /// The core's answer to a complete request; `target` is as the core wants it. Dropping the future
    /// forgets the request.
    ///
    /// It waits for its turn where the inbox is full, as all do who fill it: peers on the wire that say
    /// much shall not have a client refused. A connection asks once at a time, so no more wait than
    /// there are connections.
    pub async fn ask(&self, method: &str, target: &str, body: Bytes) -> Answer {
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
        let request = port::Request { id, method, target, body, trusted: true };
        // After the core's end the request is dropped, and with it nobody has an answer for its client.
        let sent = self.inbox.send((self.wrap)(Box::new(request))).await;
        let answer = if sent.is_ok() { response.await.ok() } else { None };
        answer.map_or_else(|| unavailable("stopping"), from_core)
    }
}

struct Forget<'a, I>(&'a Desk<I>, HttpId);

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
pub fn refuse(status: u16, why: &str) -> Answer {
    let reason = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        408 => "Request Timeout",
        413 => "Payload Too Large",
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

/// A body as it arrives. One that is too long is read on for a while and dropped: a client that is still
/// sending would see a reset instead of the answer.
#[derive(Debug)]
pub struct Body {
    bytes: bytes::BytesMut,
    length: usize,
    max: usize,
}

impl Body {
    /// An empty one of at most `max` bytes; `announced` is what the head says of its length, and
    /// `waits` whether the client waits for leave to send it.
    pub fn new(max: usize, announced: u64, waits: bool) -> Result<Self, Answer> {
        let body = Self { bytes: bytes::BytesMut::new(), length: 0, max };
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        if announced > if waits { max } else { body.read_on() } {
            return Err(body.too_large());
        }
        Ok(body)
    }

    fn read_on(&self) -> usize {
        self.max.saturating_mul(4)
    }

    fn too_large(&self) -> Answer {
        refuse(413, &format!("a body has at most {} bytes", self.max))
    }

    /// More of it. Whether it is worth reading on.
    pub fn push(&mut self, data: &[u8]) -> bool {
        self.length = self.length.saturating_add(data.len());
        if self.length <= self.max {
            self.bytes.extend_from_slice(data);
        }
        self.length <= self.read_on()
    }

    /// All of it.
    pub fn finish(self) -> Result<Bytes, Answer> {
        if self.length > self.max { Err(self.too_large()) } else { Ok(self.bytes.freeze()) }
    }
}

/// What a body that does not come to its end is answered.
#[must_use]
pub fn incomplete() -> Answer {
    refuse(400, "the body is not complete")
}

/// What a body that takes too long is answered.
#[must_use]
pub fn too_slow() -> Answer {
    refuse(408, "the body came too slowly")
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::clock::Clock;

    fn desk(inbox: Sender<Box<port::Request>>) -> Desk<Box<port::Request>> {
        let limits =
            Limits { body_max: 1, connections_max: 1, body_within: Duration::from_secs(1) };
        let metrics = Arc::new(Metrics::new(Clock::new()));
        Desk::new(inbox, |request| request, limits, metrics)
    }

    #[test]
    fn a_request_waits_for_room_in_the_inbox() {
        let (sender, inbox) = crate::inbox(1);
        let desk = desk(sender);
        block_on(async {
            let mut first = Box::pin(desk.ask("GET", "/first", Bytes::new()));
            let mut second = Box::pin(desk.ask("GET", "/second", Bytes::new()));
            for _ in 0..3 {
                assert_eq!(poll_once(&mut first).await, None);
                assert_eq!(poll_once(&mut second).await, None, "it was refused");
            }
            assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/first");
            assert_eq!(poll_once(&mut second).await, None);
            assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/second");
        });
    }

    #[test]
    fn who_waits_for_room_at_the_end_hears_of_it() {
        let (sender, inbox) = crate::inbox(1);
        let desk = desk(sender);
        block_on(async {
            let mut first = Box::pin(desk.ask("GET", "/first", Bytes::new()));
            let mut second = Box::pin(desk.ask("GET", "/second", Bytes::new()));
            assert_eq!(poll_once(&mut first).await, None);
            assert_eq!(poll_once(&mut second).await, None);
            inbox.close();
            desk.give_up();
            assert_eq!(first.await.status, 503);
            assert_eq!(second.await.status, 503);
        });
    }
}
