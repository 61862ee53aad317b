//! Between the haxes and Consul: what is carried, and what becomes of it on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::base::time::Next;
use hax_core::consul::port::{self, Command, Method, Unanswered};
use hax_core::node::Input;

use super::World;
use super::fault::Fault;
use super::queue::{Ev, MS, S, Sent};
use crate::consul::{Consul, Output, Request, RequestId, Response, Snapshot, Token, Watch};

/// What a call takes from end to end, in µs.
const LATENCY: u64 = 300;
/// How long a watch waits for a response to its post.
const POST_FOR: u64 = 10 * S;
/// The services whose health is watched (`hax.md` 1.5).
const WATCHED: [&str; 4] = ["hax", "confd", "ios", "s3service"];

/// A call without a reply.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) request: RequestId,
    /// The reply is on its way.
    answered: bool,
}

/// Whose a response is.
#[derive(Debug)]
struct Asker {
    hax: usize,
    life: u32,
    call: CallId,
    target: String,
    fault: Option<Fault>,
}

/// Consul and what is on its way to and from it.
pub(super) struct Side {
    pub(super) double: Consul,
    askers: BTreeMap<RequestId, Asker>,
    last: RequestId,
    wake: u64,
    out: Vec<Output>,
    /// As it was some time ago.
    pub(super) old: Option<Box<Consul>>,
    /// Until then every call is refused.
    pub(super) down_until: u64,
    /// Until then there is no leader.
    pub(super) headless_until: u64,
    /// What each hax may do.
    pub(super) tokens: Vec<Token>,
    /// What was saved, to be restored.
    pub(super) saved: Option<Snapshot>,
    /// Until then a write that was given up may still be done.
    pub(super) late_until: u64,
}

impl Side {
    pub(super) fn new(double: Consul) -> Self {
        Self {
            double,
            askers: BTreeMap::new(),
            last: 0,
            wake: u64::MAX,
            out: Vec::new(),
            old: None,
            down_until: 0,
            headless_until: 0,
            tokens: Vec::new(),
            saved: None,
            late_until: 0,
        }
    }
}

impl World<'_> {
    pub(super) fn watch_services(&mut self) {
        let now = self.now_both();
        for hax in 0..self.hax.len() {
            let services = WATCHED.map(|service| (Watch::Service(service.to_owned()), "/"));
            let queue = (Watch::KeyPrefix("bq/".to_owned()), "/watcher/bq");
            let queue = self.swarm.bq.then_some(queue);
            for (watch, path) in services.into_iter().chain(queue) {
                let mut out = std::mem::take(&mut self.consul.out);
                let url = format!("{hax}{path}");
                let (_, next) = self.consul.double.add_watch(now, &watch, &url, &mut out);
                self.after_consul(out, next);
            }
        }
    }

    // ---- calls ------------------------------------------------------------------------------------

    pub(super) fn on_consul(&mut self, hax: usize, command: Command) {
        match command {
            Command::Call(call) => self.on_call(hax, *call),
            Command::Cancel(call) => {
                let Some(flight) = self.hax[hax].calls.remove(&call) else { return };
                self.consul.double.forget(flight.request);
                if flight.answered && self.swarm.consul > 0 && self.choose(2) == 1 {
                    self.hax[hax].late.insert(call);
                }
            }
        }
    }

    fn on_call(&mut self, hax: usize, call: port::Call) {
        self.consul.last += 1;
        let port::Call { id, method, target, body, within, .. } = call;
        let method = match method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let mut request = Request::new(self.consul.last, method, &target, body);
        request.agent = hax;
        let life = self.hax[hax].life;
        self.hax[hax].calls.insert(id, Flight { request: request.id, answered: false });
        let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX / 4);
        self.queue.push(self.now + within, Ev::Overdue(hax, life, id));
        let mut fault = self.draw_fault();
        if self.now < self.consul.down_until || self.consul.double.has_left(hax) {
            fault = Some(Fault::Refused);
        }
        if let Some((status, text)) = self.token(hax).refuses(&request.method, &request.target) {
            let answer = answer_with(status, 0, Bytes::from_static(text.as_bytes()));
            return self.reply_after(LATENCY, hax, life, id, Ok(answer));
        }
        let delay = match fault {
            Some(Fault::Refused) => {
                return self.reply_after(LATENCY, hax, life, id, Err(Unanswered::Refused));
            }
            Some(Fault::NoLeader) => {
                let answer = answer_with(500, 0, Bytes::from_static(b"No cluster leader"));
                return self.reply_after(LATENCY, hax, life, id, Ok(answer));
            }
            Some(Fault::TooMany) => {
                let answer =
                    answer_with(429, 0, Bytes::from_static(b"Your IP is issuing too many"));
                return self.reply_after(LATENCY, hax, life, id, Ok(answer));
            }
            Some(Fault::Lost) => return,
            Some(Fault::Slow) => LATENCY + self.choose(6_000) * MS,
            Some(Fault::DoneLate) => within + self.choose(10_000) * MS,
            _ => LATENCY,
        };
        if request.method != "GET" {
            self.consul.late_until = self.consul.late_until.max(self.now + delay);
        }
        let sent = Sent { hax, life, call: id, request, fault };
        self.queue.push(self.now + delay, Ev::Call(Box::new(sent)));
    }

    /// What a hax may do.
    pub(super) fn token(&mut self, hax: usize) -> &mut Token {
        let tokens = &mut self.consul.tokens;
        tokens.resize_with(tokens.len().max(hax + 1), Token::default);
        &mut tokens[hax]
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let weights = self.swarm.consul_faults;
        let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if self.swarm.consul == 0 || all == 0 || !self.chance(self.swarm.consul) {
            return None;
        }
        let mut at = self.choose(all + 1);
        for (fault, weight) in Fault::ALL.iter().zip(weights) {
            if (1..=u64::from(weight)).contains(&at) {
                return Some(*fault);
            }
            at = at.saturating_sub(u64::from(weight));
        }
        None
    }

    /// A call reaches Consul. Its caller may have given it up: that does not stop it.
    pub(super) fn on_call_arrived(&mut self, sent: Sent) {
        let Sent { hax, life, call, request, fault } = sent;
        if fault == Some(Fault::OtherWriter) {
            self.write_beside();
        }
        if fault == Some(Fault::Stale)
            && request.method == "GET"
            && self.stale(hax, life, call, &request)
        {
            return;
        }
        if self.consul.double.has_left(hax) {
            return self.reply_after(LATENCY, hax, life, call, Err(Unanswered::Broken));
        }
        let id = request.id;
        let waits = self.hax[hax].life == life && self.hax[hax].calls.contains_key(&call);
        let target = request.target.clone();
        self.consul.askers.insert(id, Asker { hax, life, call, target, fault });
        self.hand_in(Some(hax), request);
        if !waits {
            // The connection is closed: nobody is there any more.
            self.consul.double.forget(id);
        }
    }

    /// Answers from an older state, if there is one and it need not wait.
    fn stale(&mut self, hax: usize, life: u32, call: CallId, request: &Request) -> bool {
        if request.target.contains("consistent") {
            return false;
        }
        let (now, mut out) = (self.now_both(), Vec::new());
        let Some(old) = self.consul.old.as_deref_mut() else { return false };
        // A blocking query of a server that is behind is one that does not block.
        let target = request.target.split("&index").next().unwrap_or_default();
        let mut asked = Request::new(request.id, &request.method, target, Bytes::new());
        asked.agent = request.agent;
        let _ = old.handle(now, asked, &mut out);
        let found = out.into_iter().find_map(|output| match output {
            Output::Response(response) if response.id == request.id => Some(response),
            _ => None,
        });
        let Some(response) = found else { return false };
        self.reply_after(LATENCY, hax, life, call, Ok(answer_of(&response)));
        true
    }

    pub(super) fn after_consul(&mut self, mut out: Vec<Output>, next: Next) {
        let mut again = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Response(response) => self.on_response(response),
                Output::Again(request) => again.push(request),
                Output::Post(post) => {
                    let (hax, path) = post.url.split_once('/').unwrap_or_default();
                    let path = if path.is_empty() { "/" } else { "/watcher/bq" };
                    self.on_post(hax.parse().unwrap_or(0), path, post.watch, post.body);
                }
            }
        }
        self.consul.out = out;
        if let Next::WaitUntil { at, .. } = next {
            let at = at.as_micros();
            if at < self.consul.wake || self.consul.wake <= self.now {
                self.consul.wake = at;
                self.queue.push(at.max(self.now), Ev::Consul);
            }
        }
        for request in again {
            let hax = self.consul.askers.get(&request.id).map(|asker| asker.hax);
            self.hand_in(hax, request);
        }
    }

    /// Consul works a request.
    fn hand_in(&mut self, hax: Option<usize>, request: Request) {
        let write = (request.method != "GET").then(|| request.body.clone());
        let now = self.now_both();
        let mut out = std::mem::take(&mut self.consul.out);
        let before = self.consul.double.index();
        let next = self.consul.double.handle(now, request, &mut out);
        if let Some(body) = write {
            // One that was refused has written nothing, whoever wrote last.
            let by = hax.filter(|_| self.consul.double.index() != before);
            self.oracle.consul_wrote(by, &body, &self.consul.double);
        }
        self.after_consul(out, next);
    }

    pub(super) fn tick_consul(&mut self) {
        if self.consul.wake > self.now {
            return;
        }
        self.consul.wake = u64::MAX;
        let now = self.now_both();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = self.consul.double.tick(now, &mut out);
        self.after_consul(out, next);
    }

    fn on_response(&mut self, response: Response) {
        let Some(asker) = self.consul.askers.remove(&response.id) else { return };
        let Asker { hax, life, call, target, fault } = asker;
        let mut answer = answer_of(&self.token(hax).shown(&target, response));
        let result = match fault {
            Some(Fault::AnswerLost) => return,
            Some(Fault::Broken) => Err(Unanswered::Broken),
            Some(Fault::TooLarge) => Err(Unanswered::TooLarge),
            Some(Fault::Truncated) => {
                // Something of it arrives: a host tells an empty answer from a broken one.
                let keep = 1 + self.index(answer.body.len().saturating_sub(1));
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
        self.reply_after(LATENCY, hax, life, call, result);
    }

    fn reply_after(
        &mut self,
        delay: u64,
        hax: usize,
        life: u32,
        id: CallId,
        result: Result<port::Answer, Unanswered>,
    ) {
        if self.hax[hax].life != life {
            return;
        }
        if let Some(flight) = self.hax[hax].calls.get_mut(&id) {
            flight.answered = true;
        }
        let reply = Box::new(port::Reply { id, result });
        self.queue.push(self.now + delay, Ev::Reply(hax, life, reply));
    }

    pub(super) fn on_reply(&mut self, hax: usize, life: u32, reply: port::Reply) {
        if self.hax[hax].life != life {
            return;
        }
        let waits = self.hax[hax].calls.remove(&reply.id).is_some();
        if waits || self.hax[hax].late.remove(&reply.id) {
            self.oracle.replied(hax, reply.id);
            self.feed(hax, Input::Consul(reply));
        }
    }

    pub(super) fn on_overdue(&mut self, hax: usize, life: u32, id: CallId) {
        if self.hax[hax].life != life {
            return;
        }
        if let Some(flight) = self.hax[hax].calls.remove(&id) {
            self.consul.double.forget(flight.request);
            self.oracle.replied(hax, id);
            let result = Err(Unanswered::TimedOut);
            self.feed(hax, Input::Consul(port::Reply { id, result }));
        }
    }

    /// Connections that wait for what is lost break.
    pub(super) fn break_calls(&mut self) {
        for hax in 0..self.hax.len() {
            self.break_calls_of(hax);
        }
    }

    pub(super) fn break_calls_of(&mut self, hax: usize) {
        let (life, calls) = (self.hax[hax].life, &self.hax[hax].calls);
        let lost = calls.iter().filter(|(_, flight)| !flight.answered);
        let lost: Vec<_> = lost.map(|(id, flight)| (*id, flight.request)).collect();
        for (id, request) in lost {
            self.consul.double.forget(request);
            self.reply_after(LATENCY, hax, life, id, Err(Unanswered::Broken));
        }
    }

    // ---- watches ----------------------------------------------------------------------------------

    fn on_post(&mut self, hax: usize, path: &'static str, watch: u64, body: Bytes) {
        let late = match self.posts_go_wrong() {
            0 => 0,
            1 => {
                // Twice: the second one is waited for by nobody.
                let later = self.now + 2 * LATENCY + self.choose(5_000) * MS;
                self.post_at(later, Ev::Post { hax, path, watch: None, body: body.clone() });
                0
            }
            2 => {
                // So late that the watch has given up before, and what it posts next overtakes it.
                let late = self.now + POST_FOR + self.choose(5_000) * MS;
                self.post_at(late, Ev::Post { hax, path, watch: None, body });
                return self.queue.push(self.now + POST_FOR, Ev::Posted(watch));
            }
            _ => self.choose(5_000) * MS,
        };
        self.post_at(self.now + LATENCY + late, Ev::Post { hax, path, watch: Some(watch), body });
    }

    fn post_at(&mut self, at: u64, post: Ev) {
        self.posts += 1;
        self.queue.push(at, post);
    }

    pub(super) fn on_posted(&mut self, watch: u64) {
        let now = self.now_both();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = self.consul.double.posted(now, watch, &mut out);
        self.after_consul(out, next);
    }

    // ---- what happens at Consul -------------------------------------------------------------------

    /// A request of somebody else than a hax, whose response nobody reads.
    pub(super) fn tell_consul(
        &mut self,
        agent: usize,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Bytes {
        self.consul.last += 1;
        let mut request = Request::new(self.consul.last, method, target, body);
        request.agent = agent;
        let id = request.id;
        let (now, mut out) = (self.now_both(), Vec::new());
        let next = self.consul.double.handle(now, request, &mut out);
        let mut body = Bytes::new();
        out.retain(|output| match output {
            Output::Response(response) if response.id == id => {
                body = response.body.clone();
                false
            }
            _ => true,
        });
        self.oracle.consul_wrote(None, &[], &self.consul.double);
        self.after_consul(out, next);
        body
    }

    /// Does something to the double itself.
    pub(super) fn at_consul(
        &mut self,
        change: impl FnOnce(&mut Consul, hax_core::base::time::Now, &mut Vec<Output>) -> Next,
    ) {
        let now = self.now_both();
        let mut out = std::mem::take(&mut self.consul.out);
        let next = change(&mut self.consul.double, now, &mut out);
        self.after_consul(out, next);
    }
}

fn answer_with(status: u16, index: u64, body: Bytes) -> port::Answer {
    port::Answer { status, index, body }
}

fn answer_of(response: &Response) -> port::Answer {
    answer_with(response.status, response.index().unwrap_or(0), response.body.clone())
}
