//! Questions and how long they wait: consistency, blocking queries, the headers of their answers.

use std::time::Duration;

use super::http::{AgentId, Answer, Request, Target, bad, duration, failed, number};
use super::read::Read;
use super::{Consul, Output, RequestId, Timer};

/// What a query waits if it does not say, and at most.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// A question with the ways in which it wants to be answered.
#[derive(Clone, Debug)]
pub(super) struct Query {
    read: Read,
    consistency: &'static str,
    pretty: bool,
    /// The index that the asker knows; zero if it does not wait.
    min: u64,
    wait: Duration,
}

/// A blocking query that waits.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    pub(super) agent: AgentId,
    query: Query,
    /// The log's index when it was last looked at.
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
}

impl Consul {
    /// Answers a question, or parks it.
    pub(super) fn ask(&mut self, request: &Request, query: Query) -> Option<Answer> {
        if !self.leader && query.consistency != "stale" {
            return Some(failed("No cluster leader"));
        }
        if query.min > 0 && query.read.index(&self.store) <= query.min {
            let at = self.store.now.after(query.wait);
            self.timers.arm(Timer::Wait(request.id), at);
            self.parked
                .insert(request.id, Parked { agent: request.agent, query, seen: self.store.index });
            return None;
        }
        Some(self.result(&query))
    }

    fn result(&self, query: &Query) -> Answer {
        let answer = query.read.answer(&self.store, query.pretty);
        let answer = if query.read.tells_consistency() {
            answer.with("X-Consul-Effective-Consistency", query.consistency)
        } else {
            answer
        };
        answer
            .with("X-Consul-Index", query.read.index(&self.store).to_string())
            .with("X-Consul-Knownleader", self.leader.to_string())
            .with("X-Consul-Lastcontact", "0")
    }

    /// Answers the blocking queries whose index has passed.
    pub(super) fn release_parked(&mut self, out: &mut Vec<Output>) {
        let log = self.store.index;
        let mut ready: Vec<RequestId> = Vec::new();
        for (id, parked) in &mut self.parked {
            let query = &parked.query;
            let touched = query.read.touched(&self.store, parked.seen);
            parked.seen = log;
            if touched && query.read.index(&self.store) > query.min {
                ready.push(*id);
            }
        }
        for id in ready {
            self.timers.disarm(Timer::Wait(id));
            self.give_up(id, out);
        }
    }

    /// Answers a parked query with what there is.
    pub(super) fn give_up(&mut self, id: RequestId, out: &mut Vec<Output>) {
        if let Some(parked) = self.parked.remove(&id) {
            out.push(Output::Response(self.result(&parked.query).to(id)));
        }
    }

    /// Reads what can wait, for an agent; `None` if the path is none of ours.
    pub(super) fn read(&mut self, request: &Request, target: &Target) -> Option<Option<Answer>> {
        let read = match Read::parse(target)? {
            Ok(read) => read,
            Err(refusal) => return Some(Some(refusal)),
        };
        Some(match Query::parse(read, target, self.pretty) {
            Ok(query) => self.ask(request, query),
            Err(refusal) => Some(refusal),
        })
    }

    /// Whether there is such an agent.
    pub(super) fn has_agent(&self, agent: AgentId) -> bool {
        agent < self.agents.len()
    }
}
