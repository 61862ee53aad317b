//! The path between the machines under test and Consul: the calls in transit and their faults.

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::base::time::Next;
use hax_core::consul::port::{self, Command, Method, Unanswered};
use hax_core::machine::Input;

use super::World;
use super::cast::Cast;
use super::event::{Ev, MS, S, SentCall};
use super::fault::Fault;
use super::sim::EvOf;
use super::swarm;
use crate::consul::{Consul, Output, Request, RequestId, Response, Snapshot, Token, Watch};

/// The latency of a call from end to end, in µs.
const LATENCY: u64 = 300;
/// The time limit of a watch for the response to its post.
const POST_TIMEOUT: u64 = 10 * S;

/// A call without a reply.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) request: RequestId,
    /// The reply is in transit.
    answered: bool,
}

/// The origin of a request in Consul's double.
#[derive(Debug)]
struct RequestOrigin {
    node: usize,
    life: u32,
    call: CallId,
    target: String,
    fault: Option<Fault>,
}

/// Consul's double and all messages in transit to and from it.
pub(crate) struct ConsulHost {
    pub(crate) double: Consul,
    origins: BTreeMap<RequestId, RequestOrigin>,
    pub(super) last_request: RequestId,
    wake: u64,
    out: Vec<Output>,
    /// An earlier state of the double.
    pub(crate) stale_copy: Option<Box<Consul>>,
    /// Until this time every call is refused.
    pub(crate) down_until: u64,
    /// For each node the time until which no message passes between it and its agent.
    pub(super) apart_until: BTreeMap<usize, u64>,
    /// Until this time there is no leader.
    pub(super) leaderless_until: u64,
    /// The permissions of each node's token.
    tokens: Vec<Token>,
    /// The snapshot for a later restore.
    pub(crate) snapshot: Option<Snapshot>,
    /// Until this time Consul may still carry out an abandoned write.
    late_writes_until: u64,
}

impl ConsulHost {
    pub(super) fn new(double: Consul) -> Self {
        Self {
            double,
            origins: BTreeMap::new(),
            last_request: 0,
            wake: u64::MAX,
            out: Vec::new(),
            stale_copy: None,
            down_until: 0,
            apart_until: BTreeMap::new(),
            leaderless_until: 0,
            tokens: Vec::new(),
            snapshot: None,
            late_writes_until: 0,
        }
    }
}

impl<C: Cast> World<'_, C> {
    /// Adds a watch to an agent. The watch posts to the agent's machine.
    pub(crate) fn add_watch(&mut self, node: usize, watch: &Watch, path: &str) {
        let now = self.sim.clocks();
        let mut out = std::mem::take(&mut self.consul.out);
        let url = format!("{node}{path}");
        let (_, next) = self.consul.double.add_watch(now, watch, &url, &mut out);
        self.after_consul(out, next);
    }

    // ---- calls ------------------------------------------------------------------------------------

    pub(super) fn on_consul(&mut self, node: usize, command: Command) {
        match command {
            Command::Call(call) => self.on_call(node, *call),
            Command::Cancel(call) => {
                let Some(flight) = self.hosts[node].calls.remove(&call) else { return };
                self.consul.double.cancel(flight.request);
                if flight.answered && self.odds.consul > 0 && self.sim.choose(2) == 1 {
                    self.hosts[node].abandoned_calls.insert(call);
                }
            }
        }
    }

    fn on_call(&mut self, node: usize, call: port::Call) {
        self.consul.last_request += 1;
        let port::Call { id, method, target, body, within, .. } = call;
        let method = match method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let mut request = Request::new(self.consul.last_request, method, &target, body);
        request.agent = node;
        let life = self.hosts[node].life;
        self.hosts[node].calls.insert(id, PendingCall { request: request.id, answered: false });
        let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX / 4);
        self.sim.push(self.sim.now() + within, Ev::CallTimeout(node, life, id));
        if self.is_apart(node) {
            return;
        }
        let mut fault = self.draw_fault();
        if self.sim.now() < self.consul.down_until || self.consul.double.has_left(node) {
            fault = Some(Fault::Refused);
        }
        if let Some((status, text)) = self.token(node).refusal(&request.method, &request.target) {
            let answer = answer_with(status, 0, Bytes::from_static(text.as_bytes()));
            return self.reply_after(LATENCY, node, life, id, Ok(answer));
        }
        let delay = match fault {
            Some(Fault::Refused) => {
                return self.reply_after(LATENCY, node, life, id, Err(Unanswered::Refused));
            }
            Some(Fault::NoLeader) => {
                let answer = answer_with(500, 0, Bytes::from_static(b"No cluster leader"));
                return self.reply_after(LATENCY, node, life, id, Ok(answer));
            }
            Some(Fault::TooMany) => {
                let answer =
                    answer_with(429, 0, Bytes::from_static(b"Your IP is issuing too many"));
                return self.reply_after(LATENCY, node, life, id, Ok(answer));
            }
            Some(Fault::Lost) => return,
            Some(Fault::Slow) => LATENCY + self.sim.choose(6_000) * MS,
            Some(Fault::DoneLate) => within + self.sim.choose(10_000) * MS,
            _ => LATENCY,
        };
        // A TTL update is followed by the next one, and it changes nothing that another call waits for.
        let is_heartbeat = request.target.starts_with("/v1/agent/check/pass/");
        if request.method != "GET" && !is_heartbeat {
            self.consul.late_writes_until =
                self.consul.late_writes_until.max(self.sim.now() + delay);
        }
        let sent = SentCall { node, life, call: id, request, fault };
        self.sim.push(self.sim.now() + delay, Ev::Call(Box::new(sent)));
    }

    /// Returns the permissions of a node's token.
    pub(crate) fn token(&mut self, node: usize) -> &mut Token {
        let tokens = &mut self.consul.tokens;
        tokens.resize_with(tokens.len().max(node + 1), Token::default);
        &mut tokens[node]
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let weights = self.odds.consul_faults;
        let all = swarm::sum(&weights);
        if self.odds.consul == 0 || all == 0 || !self.sim.chance(self.odds.consul) {
            return None;
        }
        let at = self.sim.choose(all + 1).checked_sub(1)?;
        swarm::weighted(&weights, at).map(|place| Fault::ALL[place])
    }

    /// Delivers a call to Consul. The call is carried out even if its caller has abandoned it.
    pub(super) fn on_call_arrived(&mut self, sent: SentCall) {
        let SentCall { node, life, call, request, fault } = sent;
        if fault == Some(Fault::OtherWriter) {
            C::write_concurrently(self);
        }
        if fault == Some(Fault::Stale)
            && request.method == "GET"
            && self.reply_from_stale_copy(node, life, call, &request)
        {
            return;
        }
        if self.consul.double.has_left(node) {
            return self.reply_after(LATENCY, node, life, call, Err(Unanswered::Broken));
        }
        let id = request.id;
        let waits = self.hosts[node].life == life && self.hosts[node].calls.contains_key(&call);
        let target = request.target.clone();
        self.consul.origins.insert(id, RequestOrigin { node, life, call, target, fault });
        self.submit(Some(node), request);
        if !waits {
            // The connection is closed, so no reply can be delivered.
            self.consul.double.cancel(id);
        }
    }

    /// Replies from an older state, if there is one and the reply need not wait.
    fn reply_from_stale_copy(
        &mut self,
        node: usize,
        life: u32,
        call: CallId,
        request: &Request,
    ) -> bool {
        if request.target.contains("consistent") {
            return false;
        }
        let (now, mut out) = (self.sim.clocks(), Vec::new());
        let Some(old) = self.consul.stale_copy.as_deref_mut() else { return false };
        // A blocking query to a server that lags behind does not block.
        let target = request.target.split("&index").next().unwrap_or_default();
        let mut asked = Request::new(request.id, &request.method, target, Bytes::new());
        asked.agent = request.agent;
        let _ = old.handle(now, asked, &mut out);
        let found = out.into_iter().find_map(|output| match output {
            Output::Response(response) if response.id == request.id => Some(response),
            _ => None,
        });
        let Some(response) = found else { return false };
        self.reply_after(LATENCY, node, life, call, Ok(answer_of(&response)));
        true
    }

    pub(super) fn after_consul(&mut self, mut out: Vec<Output>, next: Next) {
        let mut again = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Response(response) => self.on_response(response),
                Output::Retry(request) => again.push(request),
                Output::Post(post) => {
                    let (node, path) = post.url.split_once('/').unwrap_or_default();
                    let node = node.parse().unwrap_or(0);
                    self.post_later(node, format!("/{path}"), post.watch, post.body);
                }
            }
        }
        self.consul.out = out;
        if let Next::WaitUntil { at, .. } = next {
            let at = at.as_micros();
            if at < self.consul.wake || self.consul.wake <= self.sim.now() {
                self.consul.wake = at;
                self.sim.push(at.max(self.sim.now()), Ev::ConsulTick);
            }
        }
        for request in again {
            let node = self.consul.origins.get(&request.id).map(|origin| origin.node);
            self.submit(node, request);
        }
    }

    /// Hands a request to Consul for execution.
    fn submit(&mut self, node: Option<usize>, request: Request) {
        let write = (request.method != "GET").then(|| request.body.clone());
        let now = self.sim.clocks();
        let mut out = std::mem::take(&mut self.consul.out);
        let before = self.consul.double.index();
        let next = self.consul.double.handle(now, request, &mut out);
        if let Some(body) = write {
            // A refused request has written nothing, so it is not the last writer.
            let by = node.filter(|_| self.consul.double.index() != before);
            C::on_consul_write(self, by, &body);
        }
        self.after_consul(out, next);
    }

    pub(super) fn tick_consul(&mut self) {
        if self.consul.wake > self.sim.now() {
            return;
        }
        self.consul.wake = u64::MAX;
        let now = self.sim.clocks();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = self.consul.double.tick(now, &mut out);
        self.after_consul(out, next);
    }

    fn on_response(&mut self, response: Response) {
        let Some(origin) = self.consul.origins.remove(&response.id) else { return };
        let RequestOrigin { node, life, call, target, fault } = origin;
        if self.is_apart(node) {
            return;
        }
        let mut answer = answer_of(&self.token(node).filter(&target, response));
        let result = match fault {
            Some(Fault::AnswerLost) => return,
            Some(Fault::Broken) => Err(Unanswered::Broken),
            Some(Fault::TooLarge) => Err(Unanswered::TooLarge),
            Some(Fault::Truncated) => {
                // A part of the body arrives: a host distinguishes an empty answer from a broken one.
                let keep = 1 + self.sim.index(answer.body.len().saturating_sub(1));
                answer.body.truncate(keep);
                Ok(answer)
            }
            Some(Fault::Junk) => {
                answer.body = Bytes::from_static(b"<html>502 Bad Gateway</html>");
                Ok(answer)
            }
            Some(Fault::LeadLost) => {
                Ok(answer_with(500, 0, Bytes::from_static(b"leadership lost while committing log")))
            }
            Some(Fault::IndexZero) => Ok(port::Answer { index: 0, ..answer }),
            Some(Fault::IndexBack) => Ok(port::Answer { index: answer.index / 2, ..answer }),
            _ => Ok(answer),
        };
        self.reply_after(LATENCY, node, life, call, result);
    }

    fn reply_after(
        &mut self,
        delay: u64,
        node: usize,
        life: u32,
        id: CallId,
        result: Result<port::Answer, Unanswered>,
    ) {
        if self.hosts[node].life != life {
            return;
        }
        if let Some(flight) = self.hosts[node].calls.get_mut(&id) {
            flight.answered = true;
        }
        let reply = Box::new(port::Reply { id, result });
        self.sim.push(self.sim.now() + delay, Ev::Reply(node, life, reply));
    }

    pub(super) fn on_reply(&mut self, node: usize, life: u32, reply: port::Reply) {
        if self.hosts[node].life != life {
            return;
        }
        let waits = self.hosts[node].calls.remove(&reply.id).is_some();
        if waits || self.hosts[node].abandoned_calls.remove(&reply.id) {
            C::on_reply(self, node, reply.id);
            self.feed(node, Input::Consul(reply));
        }
    }

    pub(super) fn on_call_timeout(&mut self, node: usize, life: u32, id: CallId) {
        if self.hosts[node].life != life {
            return;
        }
        if let Some(flight) = self.hosts[node].calls.remove(&id) {
            self.consul.double.cancel(flight.request);
            C::on_reply(self, node, id);
            let result = Err(Unanswered::TimedOut);
            self.feed(node, Input::Consul(port::Reply { id, result }));
        }
    }

    /// Breaks the connections of calls with a lost message.
    pub(super) fn break_calls(&mut self) {
        for node in 0..self.hosts.len() {
            self.break_calls_of(node);
        }
    }

    pub(crate) fn break_calls_of(&mut self, node: usize) {
        let (life, calls) = (self.hosts[node].life, &self.hosts[node].calls);
        let lost = calls.iter().filter(|(_, flight)| !flight.answered);
        let lost: Vec<_> = lost.map(|(id, flight)| (*id, flight.request)).collect();
        for (id, request) in lost {
            self.consul.double.cancel(request);
            self.reply_after(LATENCY, node, life, id, Err(Unanswered::Broken));
        }
    }

    /// Makes Consul reachable, with a leader and with current answers.
    pub(super) fn heal_consul(&mut self) {
        self.consul.stale_copy = None;
        self.consul.down_until = 0;
        self.consul.apart_until.clear();
        self.consul.leaderless_until = 0;
        self.with_consul(|double, now, out| double.set_leader(now, true, out));
    }

    /// Returns whether an abandoned write may still be carried out.
    pub(super) fn has_late_writes(&self) -> bool {
        self.sim.now() < self.consul.late_writes_until
    }

    // ---- watches ----------------------------------------------------------------------------------

    fn post_later(&mut self, node: usize, path: String, watch: u64, body: Bytes) {
        let late = match self.draw_post_fault() {
            0 => 0,
            1 => {
                // The post is sent twice. No watch waits for the response to the second one.
                let later = self.sim.now() + 2 * LATENCY + self.sim.choose(5_000) * MS;
                self.post_at(
                    later,
                    Ev::Post { node, path: path.clone(), watch: None, body: body.clone() },
                );
                0
            }
            2 => {
                // The post is so late that the watch has given up before. The next post of the watch
                // overtakes it.
                let late = self.sim.now() + POST_TIMEOUT + self.sim.choose(5_000) * MS;
                self.post_at(late, Ev::Post { node, path, watch: None, body });
                return self.sim.push(self.sim.now() + POST_TIMEOUT, Ev::PostDone(watch));
            }
            _ => self.sim.choose(5_000) * MS,
        };
        self.post_at(
            self.sim.now() + LATENCY + late,
            Ev::Post { node, path, watch: Some(watch), body },
        );
    }

    /// Draws the fault of a watch's post; 0 means no fault.
    fn draw_post_fault(&mut self) -> u64 {
        let posts = self.odds.posts;
        if posts == 0 || !self.sim.chance(posts) { 0 } else { self.sim.choose(4) }
    }

    fn post_at(&mut self, at: u64, post: EvOf<C>) {
        self.posts += 1;
        self.sim.push(at, post);
    }

    pub(super) fn on_post_done(&mut self, watch: u64) {
        let now = self.sim.clocks();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = self.consul.double.on_post_done(now, watch, &mut out);
        self.after_consul(out, next);
    }

    // ---- events at Consul -------------------------------------------------------------------------

    /// Sends a request from a writer other than the nodes. Its response is discarded.
    pub(crate) fn request_as_other(
        &mut self,
        agent: usize,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Bytes {
        self.consul.last_request += 1;
        let mut request = Request::new(self.consul.last_request, method, target, body);
        request.agent = agent;
        let id = request.id;
        let (now, mut out) = (self.sim.clocks(), Vec::new());
        let next = self.consul.double.handle(now, request, &mut out);
        let mut body = Bytes::new();
        out.retain(|output| match output {
            Output::Response(response) if response.id == id => {
                body = response.body.clone();
                false
            }
            _ => true,
        });
        C::on_consul_write(self, None, &[]);
        self.after_consul(out, next);
        body
    }

    /// Applies an operation to the double itself.
    pub(crate) fn with_consul(
        &mut self,
        change: impl FnOnce(&mut Consul, hax_core::base::time::Now, &mut Vec<Output>) -> Next,
    ) {
        let now = self.sim.clocks();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = change(&mut self.consul.double, now, &mut out);
        self.after_consul(out, next);
    }
}

fn answer_with(status: u16, index: u64, body: Bytes) -> port::Answer {
    port::Answer { status, index, body }
}

pub(super) fn answer_of(response: &Response) -> port::Answer {
    answer_with(response.status, response.index().unwrap_or(0), response.body.clone())
}
