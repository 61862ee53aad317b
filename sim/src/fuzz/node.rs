//! A node with the Consul double: its calls, their answers, and the rules for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::time::Next;
use hax_core::bridge::config;
use hax_core::consul::port::{Answer, Command, Method, Reply, Unanswered};
use hax_core::http::port::{Request, Response, Trust};
use hax_core::machine::Machine as _;
use hax_core::node::{self, Input, Node, Output};
use hax_core::wire;

use super::pair::holds;
use super::script::Clock;
use super::tcp::Party;
use crate::cluster::{Agents, Cluster, Shape};
use crate::consul::{self, Consul};
use crate::engine::rules;
use crate::worlds::bridge::oracle::NodeRules;

/// The maximum duration of a stop: the drain, and the leave.
const STOP_WITHIN: u64 = 16_000_000;

thread_local! {
    /// The loaded state is shared, because loading takes longer than many runs.
    static LOADED: Consul = load();
}

fn load() -> Consul {
    let mut consul = Consul::new("ssu1");
    let cluster = Cluster::generate(&Shape::like_hare(1));
    cluster.load_double(Clock::default().now(), &mut consul, "ssu1", Agents::One);
    consul
}

/// A call in flight.
struct PendingCall {
    method: &'static str,
    target: String,
    body: Bytes,
    /// The deadline of the call.
    due: u64,
    /// Consul has received the call and delays its answer.
    parked: bool,
}

/// A node and its Consul.
pub(super) struct Host {
    node: Node,
    next: Next,
    rules: NodeRules,
    pub(super) consul: Consul,
    consul_next: Next,
    clock: Clock,
    calls: BTreeMap<CallId, PendingCall>,
    requests: u64,
    responses: u64,
}

impl Host {
    pub(super) fn new() -> Self {
        let mut config = node::Config {
            bridge: config::Config::new(Fid::process(0), "ssu1", 3),
            wire: wire::Config::new(Party::Server.addr(), 7, 7),
        };
        config.bridge.limit.body_bytes = 20_000;
        let mut host = Self {
            rules: NodeRules::new(&config),
            node: Node::new(config),
            next: Next::Wait,
            consul: LOADED.with(Clone::clone),
            consul_next: Next::Wait,
            clock: Clock::default(),
            calls: BTreeMap::new(),
            requests: 0,
            responses: 0,
        };
        host.feed(Input::Tick);
        host
    }

    pub(super) fn has_exited(&self) -> bool {
        self.next == Next::Exit
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        if self.has_exited() {
            return out;
        }
        match &input {
            Input::Http(request) => self.rules.on_request(request.id),
            Input::Consul(Reply { id, .. }) => self.rules.on_reply(*id),
            _ => {}
        }
        self.next = self.node.handle(self.clock.now(), input, &mut out);
        holds(rules::deadline_is_later(self.clock.0, self.next));
        holds(self.rules.on_step(&out, &self.node));
        for output in &out {
            match output {
                Output::Consul(Command::Call(call)) => {
                    let method = match call.method {
                        Method::Get => "GET",
                        Method::Put => "PUT",
                        Method::Delete => "DELETE",
                    };
                    let within = u64::try_from(call.within.as_micros()).expect("it is short");
                    let (target, body) = (call.target.clone(), call.body.clone());
                    let due = self.clock.0 + within;
                    let flight = PendingCall { method, target, body, due, parked: false };
                    self.calls.insert(call.id, flight);
                }
                Output::Consul(Command::Cancel(id)) => {
                    self.calls.remove(id);
                    self.consul.cancel(id.0);
                }
                Output::Http(response) => {
                    is_http(response);
                    self.responses += 1;
                }
                Output::Fact(fact) => holds(self.rules.on_fact(self.clock.0, fact)),
                Output::Net(_)
                | Output::Spiel(_)
                | Output::HttpStream(_)
                | Output::Exec(_)
                | Output::File(_)
                | Output::Fifo(_)
                | Output::State(_)
                | Output::Keeper(_) => {}
            }
        }
        out
    }

    /// Sends a client's request. A refused request changes nothing. But a refused post to the broadcast queue
    /// may cause a read of the queue.
    pub(super) fn request(&mut self, method: &str, target: &str, body: &[u8]) {
        self.requests += 1;
        let is_hint = target.starts_with("/watcher/bq");
        let (method, target) = (method.into(), target.into());
        let body = Bytes::copy_from_slice(body);
        let id = HttpId(self.requests);
        let request = Request { id, method, target, body, trust: Trust::Local };
        let out = self.feed(Input::Http(Box::new(request)));
        let refused = out.iter().any(|output| match output {
            Output::Http(response) => response.id == id && (400..500).contains(&response.status),
            _ => false,
        });
        let inert = |output: &Output| match output {
            Output::Http(_) | Output::Fact(_) => true,
            Output::Consul(Command::Call(call)) => is_hint && call.method == Method::Get,
            _ => false,
        };
        assert!(!refused || out.iter().all(inert), "what is refused changes nothing");
    }

    // ---- Consul ---------------------------------------------------------------------------------------

    /// Returns the calls before their arrival at Consul.
    pub(super) fn calls(&self) -> Vec<CallId> {
        self.calls.iter().filter(|(_, flight)| !flight.parked).map(|(id, _)| *id).collect()
    }

    /// Returns Consul's true answer to a call, or none if the call waits.
    pub(super) fn truth(&mut self, id: CallId) -> Option<Answer> {
        let flight = self.calls.get_mut(&id)?;
        flight.parked = true;
        let request =
            consul::Request::new(id.0, flight.method, &flight.target, flight.body.clone());
        let mut out = Vec::new();
        self.consul_next = self.consul.handle(self.clock.now(), request, &mut out);
        let mut own = None;
        for (asked, answer) in answers(out) {
            if asked == id {
                own = Some(answer);
            } else {
                self.reply(asked, Ok(answer));
            }
        }
        own
    }

    /// Delivers the answer to a call.
    pub(super) fn reply(&mut self, id: CallId, result: Result<Answer, Unanswered>) {
        if self.calls.remove(&id).is_some() {
            self.consul.cancel(id.0);
            self.feed(Input::Consul(Reply { id, result }));
        }
    }

    /// Delivers all calls to Consul and all of Consul's answers.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            let calls = self.calls();
            if calls.is_empty() {
                break;
            }
            for id in calls {
                if let Some(answer) = self.truth(id) {
                    self.reply(id, Ok(answer));
                }
            }
        }
    }

    /// Writes a key as another writer.
    pub(super) fn write(&mut self, key: &str, value: &[u8]) {
        // No party waits for the answer to this request.
        let target = format!("/v1/kv/{key}");
        let body = Bytes::copy_from_slice(value);
        let request = consul::Request::new(u64::MAX, "PUT", &target, body);
        let mut out = Vec::new();
        self.consul_next = self.consul.handle(self.clock.now(), request, &mut out);
        self.on_outputs(out);
    }

    fn on_outputs(&mut self, out: Vec<consul::Output>) {
        for (id, answer) in answers(out) {
            self.reply(id, Ok(answer));
        }
    }

    // ---- time -----------------------------------------------------------------------------------------

    /// Lets time pass, and processes all due events.
    pub(super) fn advance(&mut self, us: u64) {
        let end = self.clock.0 + us;
        while !self.has_exited() {
            let at = |next| match next {
                Next::WaitUntil { at, .. } => at.as_micros(),
                Next::Wait | Next::Exit => u64::MAX,
            };
            let overdue = self.calls.iter().map(|(id, flight)| (flight.due, *id)).min();
            let due = overdue.map_or(u64::MAX, |(due, _)| due);
            let (own, consul) = (at(self.next), at(self.consul_next));
            let first = own.min(consul).min(due);
            if first > end {
                break;
            }
            self.clock.0 = self.clock.0.max(first);
            if own == first {
                self.feed(Input::Tick);
            } else if consul == first {
                let mut out = Vec::new();
                self.consul_next = self.consul.tick(self.clock.now(), &mut out);
                self.on_outputs(out);
            } else if let Some((_, id)) = overdue {
                self.reply(id, Err(Unanswered::TimedOut));
            }
        }
        self.clock.0 = end;
    }

    /// Stops the node. The stop must end in time, whatever Consul does, and every request must have a
    /// response.
    pub(super) fn stop(mut self) {
        self.feed(Input::Stop);
        self.advance(STOP_WITHIN);
        assert!(self.has_exited(), "a stop ends in time");
        assert_eq!(self.responses, self.requests, "each request has a response");
        let mut out = Vec::new();
        let again = self.node.handle(self.clock.now(), Input::Tick, &mut out);
        holds(rules::nothing_follows_exit(again, &out));
    }
}

fn answers(out: Vec<consul::Output>) -> Vec<(CallId, Answer)> {
    let answer = |output| match output {
        consul::Output::Response(response) => {
            let index = response.index().unwrap_or(0);
            let answer = Answer { status: response.status, index, body: response.body };
            Some((CallId(response.id), answer))
        }
        consul::Output::Post(_) | consul::Output::Retry(_) => None,
    };
    out.into_iter().filter_map(answer).collect()
}

/// Checks that a response has a documented status, and that an error is JSON in the old daemon's format.
fn is_http(response: &Response) {
    let Response { status, content_type, body, .. } = response;
    assert!([200, 400, 404, 405, 413, 501, 503].contains(status), "{response:?}");
    assert_eq!(body.is_empty(), content_type.is_empty(), "{response:?}");
    if *status >= 400 && !body.is_empty() {
        let value: serde_json::Value = serde_json::from_slice(body).expect("an error is JSON");
        assert!(value.is_object(), "{value}");
    }
}
