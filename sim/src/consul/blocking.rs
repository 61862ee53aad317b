//! Reads and their waiting: consistency modes, blocking queries, response headers.

use std::time::Duration;

use super::http::{AgentId, Answer, Request, Target, bad, duration, failed, number};
use super::read::Read;
use super::{Consul, Output, RequestId, Timer};

/// The wait of a query without a `wait` parameter, and the maximum wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// A read with its consistency mode and its wait.
#[derive(Clone, Debug)]
pub(super) struct Query {
    read: Read,
    consistency: &'static str,
    pretty: bool,
    /// The index that the client knows. Zero for a query that does not block.
    min: u64,
    wait: Duration,
}

/// A waiting blocking query.
#[derive(Clone, Debug)]
pub(super) struct BlockedQuery {
    pub(super) request: Request,
    pub(super) query: Query,
    /// The log's index at the last evaluation of the query.
    seen: u64,
}

impl Query {
    pub(super) fn parse(read: Read, target: &Target, pretty: bool) -> Result<Self, Answer> {
        let wait = match target.get("wait").filter(|text| !text.is_empty()) {
            Some(text) => duration(text).map_err(|_| bad("Invalid wait time"))?,
            None => Duration::ZERO,
        };
        let min = match target.get("index").filter(|text| !text.is_empty()) {
            Some(text) => number(text).map_err(|_| bad("Invalid index"))?,
            None => 0,
        };
        let consistency = match (target.has("stale"), target.has("consistent")) {
            (true, true) => {
                let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
                return Err(bad(text));
            }
            (true, false) => "stale",
            (false, true) => "consistent",
            (false, false) => "leader",
        };
        if !matches!(target.text("dc"), "" | "dc1") {
            return Err(failed("No path to datacenter"));
        }
        let wait = if wait.is_zero() { DEFAULT_WAIT } else { wait.min(MAX_WAIT) };
        Ok(Self { read, consistency, pretty: pretty || target.has("pretty"), min, wait })
    }

    /// Returns whether any server may answer the query.
    pub(super) fn is_stale(&self) -> bool {
        self.consistency == "stale"
    }
}

impl Consul {
    /// Answers a query, or parks it.
    pub(super) fn query(&mut self, request: &Request, query: Query) -> Option<Answer> {
        if let Some(turned) = self.check_access(request, query.is_stale()) {
            return turned;
        }
        let store = self.store_seen_by(request.agent, query.is_stale());
        if query.min > 0 && query.read.index(store) <= query.min {
            let (at, seen) = (self.store.now.after(query.wait), store.index);
            self.timers.arm(Timer::Wait(request.id), at);
            self.blocked.insert(request.id, BlockedQuery { request: request.clone(), query, seen });
            return None;
        }
        Some(self.result(request.agent, &query))
    }

    fn result(&self, agent: AgentId, query: &Query) -> Answer {
        let store = self.store_seen_by(agent, query.is_stale());
        let answer = query.read.answer(store, query.pretty);
        let answer = if query.read.tells_consistency() {
            answer.with("X-Consul-Effective-Consistency", query.consistency)
        } else {
            answer
        };
        let (known, contact) = self.last_contact(agent);
        answer
            .with("X-Consul-Index", query.read.index(store).to_string())
            .with("X-Consul-Knownleader", known.to_string())
            .with("X-Consul-Lastcontact", contact.to_string())
    }

    /// Answers the blocking queries whose index has been passed.
    pub(super) fn release_blocked(&mut self, out: &mut Vec<Output>) {
        let mut ready: Vec<RequestId> = Vec::new();
        let mut all = std::mem::take(&mut self.blocked);
        for (id, blocked) in &mut all {
            let query = &blocked.query;
            let store = self.store_seen_by(blocked.request.agent, query.is_stale());
            let touched = query.read.touched(store, blocked.seen);
            blocked.seen = store.index;
            if touched && query.read.index(store) > query.min {
                ready.push(*id);
            }
        }
        self.blocked = all;
        for id in ready {
            self.timers.disarm(Timer::Wait(id));
            self.answer_blocked(id, out);
        }
    }

    /// Answers a parked query with the present state, as its wait has expired.
    pub(super) fn answer_blocked(&mut self, id: RequestId, out: &mut Vec<Output>) {
        if let Some(blocked) = self.blocked.remove(&id) {
            out.push(Output::Response(self.result(blocked.request.agent, &blocked.query).to(id)));
        }
    }

    /// Answers or parks a read that may block. Returns `None` if the path is not one of a blocking read.
    pub(super) fn read(&mut self, request: &Request, target: &Target) -> Option<Option<Answer>> {
        let read = match Read::parse(target)? {
            Ok(read) => read,
            Err(refusal) => return Some(Some(refusal)),
        };
        Some(match Query::parse(read, target, self.pretty) {
            Ok(query) => self.query(request, query),
            Err(refusal) => Some(refusal),
        })
    }

    pub(super) fn has_agent(&self, agent: AgentId) -> bool {
        agent < self.agents.len()
    }
}
