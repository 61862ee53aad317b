//! A counter that several machines keep in Consul together: each increment has a name, and counts once
//! however often it is asked for. One of them holds the [lease](super::lease).
//!
//! One transaction writes the count and the increment's name, so a write of which nobody knows whether it
//! was done is looked up by that name. One increment is worked at a time.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hax_core::base::fact::Metric;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::retry::{Backoff, Jitter};
use hax_core::base::time::{Instant, Next, Now};
use hax_core::consul::port::{Call, Command, Method, Reply};
use hax_core::http::port::{Request, Response};
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use serde_json::{Value, json};

use super::bug::Bug;
use super::fact::Fact;
use super::lease::Lease;

/// Increments that may wait.
pub(super) const WAITING: usize = 8;
/// How long a stop may take over what was begun.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// The key of the count.
pub(super) const COUNT: &str = "count";
/// Where increments are written down by their names.
pub(super) const NAMES: &str = "names/";
/// The time limit of a call.
const WITHIN: Duration = Duration::from_secs(2);
/// The longest answer.
const BODY_MAX: usize = 64 * 1024;

/// What the increment at the front waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Whether its name is written down.
    Look,
    /// The count.
    Read,
    /// The write.
    Write,
}

/// An increment that was asked for.
#[derive(Clone, Debug)]
struct Increment {
    request: HttpId,
    name: Box<str>,
}

/// The machine.
#[derive(Debug)]
pub struct Counter {
    jitter: Jitter,
    backoff: Backoff,
    waiting: VecDeque<Increment>,
    step: Step,
    last_call: u64,
    in_flight: Option<CallId>,
    retry_at: Option<Instant>,
    stops_by: Option<Instant>,
    lease: Lease,
    bug: Option<Bug>,
}

impl Counter {
    /// A counter on this node that knows nothing; the seed is its jitter's.
    #[must_use]
    pub fn new(node: &str, seed: u64, bug: Option<Bug>) -> Self {
        Self {
            jitter: Jitter::new(seed),
            backoff: Backoff::default(),
            waiting: VecDeque::new(),
            step: Step::Look,
            last_call: 0,
            in_flight: None,
            retry_at: None,
            stops_by: None,
            lease: Lease::new(node, seed, bug),
            bug,
        }
    }

    /// Increments that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The term in which it holds the lease, if it believes that it does now.
    #[must_use]
    pub fn term(&self, now: Instant) -> Option<u64> {
        self.lease.term(now)
    }

    // ---- requests ---------------------------------------------------------------------------------

    fn on_request(&mut self, now: Instant, request: &Request, out: &mut Vec<Output<Fact>>) {
        let name = std::str::from_utf8(&request.body).unwrap_or_default();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let status = match (&*request.method, &*request.target) {
            ("POST", "/increment") if !is_name => 400,
            ("POST", "/increment") if self.stops_by.is_some() => 503,
            ("POST", "/increment") if self.waiting.len() == WAITING => {
                out.push(Output::Fact(Fact::Refused));
                503
            }
            ("POST", "/increment") => {
                out.push(Output::Fact(Fact::Asked));
                self.waiting.push_back(Increment { request: request.id, name: name.into() });
                if self.bug == Some(Bug::AcknowledgedEarly) {
                    out.push(answer(request.id, 200));
                }
                if self.waiting.len() == 1 {
                    self.take(Step::Look, None, out);
                }
                return;
            }
            (_, "/increment") => 405,
            ("GET", "/lease") if self.term(now).is_some() => 200,
            ("GET", "/lease") => 409,
            _ => {
                out.push(Output::Fact(Fact::NotFound));
                404
            }
        };
        out.push(answer(request.id, status));
    }

    /// The increment at the front has come to its end.
    fn finish(&mut self, fact: Fact, out: &mut Vec<Output<Fact>>) {
        out.push(Output::Fact(fact));
        self.backoff = Backoff::default();
        let done = self.waiting.pop_front();
        if self.bug != Some(Bug::AcknowledgedEarly) {
            out.extend(done.map(|done| answer(done.request, 200)));
        }
        if !self.waiting.is_empty() {
            self.take(Step::Look, None, out);
        }
    }

    // ---- Consul -----------------------------------------------------------------------------------

    /// Takes a step of the increment at the front; `count` is the last one read, and its index.
    fn take(&mut self, step: Step, count: Option<(u64, u64)>, out: &mut Vec<Output<Fact>>) {
        let Some(Increment { name, .. }) = self.waiting.front() else { return };
        let (method, target, body) = match step {
            Step::Look => (Method::Get, format!("/v1/kv/{NAMES}{name}?consistent"), Bytes::new()),
            Step::Read => (Method::Get, format!("/v1/kv/{COUNT}?consistent"), Bytes::new()),
            Step::Write => {
                let (count, index) = count.unwrap_or_default();
                let body = transaction(name, count + 1, index, self.bug);
                (Method::Put, "/v1/txn".to_owned(), Bytes::from(body.to_string()))
            }
        };
        self.last_call += 1;
        let id = CallId(self.last_call);
        (self.step, self.in_flight, self.retry_at) = (step, Some(id), None);
        let call = Call { id, method, target, body, within: WITHIN, body_max: BODY_MAX };
        out.push(Output::Consul(Command::Call(Box::new(call))));
    }

    fn on_reply(&mut self, now: Now, reply: Reply, out: &mut Vec<Output<Fact>>) {
        if self.lease.on_reply(now, &reply, out) || self.in_flight != Some(reply.id) {
            return;
        }
        let now = now.mono;
        self.in_flight = None;
        let Ok(answer) = reply.result else { return self.retry(now, out) };
        match (self.step, answer.status) {
            (Step::Look, 200) => self.finish(Fact::Found, out),
            (Step::Look, 404) => self.take(Step::Read, None, out),
            (Step::Read, 404) => self.take(Step::Write, Some((0, 0)), out),
            (Step::Read, 200) => match count_in(&answer.body) {
                Some(count) => self.take(Step::Write, Some(count), out),
                None => self.retry(now, out),
            },
            (Step::Write, 200) if is_applied(&answer.body) => self.finish(Fact::Committed, out),
            (Step::Write, 409) => {
                out.push(Output::Fact(Fact::Conflict));
                self.take(Step::Look, None, out);
            }
            _ => self.retry(now, out),
        }
    }

    /// Begins with the increment at the front again in a while: whether it was written is not known.
    fn retry(&mut self, now: Instant, out: &mut Vec<Output<Fact>>) {
        out.push(Output::Fact(Fact::Retried));
        let pause = self.backoff.failed(&mut self.jitter);
        if self.bug != Some(Bug::RetryLost) {
            self.retry_at = Some(now.after(pause));
        }
    }

    // ---- time -------------------------------------------------------------------------------------

    fn on_time(&mut self, now: Now, out: &mut Vec<Output<Fact>>) {
        if self.stops_by.is_none() {
            self.lease.on_time(now, out);
        }
        let now = now.mono;
        if self.retry_at.is_some_and(|at| at <= now) {
            self.take(Step::Look, None, out);
        }
        if self.stops_by.is_some_and(|at| at <= now) && !self.waiting.is_empty() {
            out.push(Output::Fact(Fact::Left));
            out.extend(self.waiting.drain(..).map(|left| answer(left.request, 503)));
            let in_flight = self.in_flight.take();
            out.extend(in_flight.map(|id| Output::Consul(Command::Cancel(id))));
            self.retry_at = None;
        }
    }
}

impl Machine for Counter {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = &[];

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Fact>>) -> Next {
        match input {
            Input::Http(request) => self.on_request(now.mono, &request, out),
            Input::Consul(reply) => self.on_reply(now, reply, out),
            Input::Stop => {
                out.push(Output::Fact(Fact::Stopping));
                self.stops_by = Some(now.mono.after(DRAIN));
                self.lease.leave(now, out);
            }
            Input::Tick | Input::Net(_) | Input::Spiel(_) | Input::Exec(_) | Input::File(_) => {}
        }
        self.on_time(now, out);
        if self.stops_by.is_some() && self.waiting.is_empty() {
            return Next::Exit;
        }
        let retry = self.retry_at.map(|at| Next::WaitUntil { at, why: "retry" });
        let stop = self.stops_by.map(|at| Next::WaitUntil { at, why: "drain" });
        let own = retry.into_iter().chain(stop);
        own.fold(self.lease.next(), Next::earlier)
    }

    fn blocking_queries(&self) -> usize {
        0
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }

    fn status(&self) -> Status {
        Status { words: "counts", stopping: self.stops_by.is_some() }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

/// The transaction that writes a count and an increment's name, if the count has still this index.
pub(super) fn transaction(name: &str, count: u64, index: u64, bug: Option<Bug>) -> Value {
    let verb = if bug == Some(Bug::CountSet) { "set" } else { "cas" };
    let count = STANDARD.encode(count.to_string());
    let count = json!({"KV": {"Verb": verb, "Key": COUNT, "Value": count, "Index": index}});
    let key = format!("{NAMES}{name}");
    let name = json!({"KV": {"Verb": "cas", "Key": key, "Value": "eA==", "Index": 0}});
    if bug == Some(Bug::NameLost) { json!([count]) } else { json!([count, name]) }
}

/// The count that Consul shows, and its index.
fn count_in(body: &[u8]) -> Option<(u64, u64)> {
    let entries: Vec<Value> = serde_json::from_slice(body).ok()?;
    let entry = entries.first()?;
    let value = STANDARD.decode(entry["Value"].as_str()?).ok()?;
    let count = std::str::from_utf8(&value).ok()?.parse().ok()?;
    Some((count, entry["ModifyIndex"].as_u64()?))
}

/// Whether an answer to a transaction says that it was done: what is cut short or is no JSON says nothing.
fn is_applied(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer["Results"].is_array())
}

fn answer(id: HttpId, status: u16) -> Output<Fact> {
    let response = Response { id, status, content_type: "", allow: "", body: Bytes::new() };
    Output::Http(Box::new(response))
}
