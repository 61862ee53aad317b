//! The rules for calls to Consul and for HTTP requests.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::id::{CallId, HttpId};
use hax_core::consul::port::{Call, Method};
use hax_core::node;
use serde_json::Value;

use super::broken;
use crate::engine::Violation;

/// The maximum number of calls in flight besides transactions and the calls of each process.
///
/// A round has four. Each of three tables has a watch, a probe and a read. The rest is for a leader's session
/// and the queues.
const OTHER_CALLS: usize = 32;
/// The transactions besides those for processes: the broadcast queue's offset, its purge, and statistics.
const OTHER_WRITES: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    /// The calls in flight, with the processes whose records each one writes.
    in_flight: BTreeMap<CallId, Vec<String>>,
    transactions: BTreeSet<CallId>,
    requests: BTreeSet<HttpId>,
}

impl Calls {
    pub(super) fn on_call(&mut self, config: &node::Config, call: &Call) -> Result<(), Violation> {
        if call.id.0 <= self.last {
            return broken("each call has a name of its own", format!("{} again", call.id));
        }
        self.last = call.id.0;
        let limit = &config.bridge.limit;
        if call.within.is_zero() || call.body_max == 0 || call.body_max > limit.answer_bytes {
            return broken("each call has limits", format!("{}: {:?}", call.id, call.within));
        }
        let mut processes = Vec::new();
        if call.method != Method::Get && call.target.starts_with("/v1/txn") {
            processes = self.transaction(config, call)?;
            self.transactions.insert(call.id);
        }
        self.in_flight.insert(call.id, processes);
        let max = OTHER_CALLS + limit.transactions + limit.entries.min(64);
        if self.in_flight.len() > max || self.transactions.len() > limit.transactions + OTHER_WRITES
        {
            let text = format!(
                "{} calls, {} of them writes",
                self.in_flight.len(),
                self.transactions.len()
            );
            return broken("calls in flight are bounded", text);
        }
        Ok(())
    }

    /// Checks a transaction and returns its processes. Each is written by compare-and-set, and by no other
    /// transaction in flight.
    fn transaction(&self, config: &node::Config, call: &Call) -> Result<Vec<String>, Violation> {
        let limit = &config.bridge.limit;
        let ops: Vec<Value> = serde_json::from_slice(&call.body).unwrap_or_default();
        if ops.is_empty() || ops.len() > limit.transaction_ops.max(64) {
            return broken("a transaction is one for Consul", format!("{} operations", ops.len()))
                .map(|()| Vec::new());
        }
        if call.body.len() > limit.transaction_bytes {
            return broken("a transaction is one for Consul", format!("{} bytes", call.body.len()))
                .map(|()| Vec::new());
        }
        let mut processes = Vec::new();
        for op in &ops {
            let (verb, key) = (&op["KV"]["Verb"], op["KV"]["Key"].as_str().unwrap_or_default());
            let Some(process) = key.strip_prefix("processes/") else { continue };
            if verb != "cas" {
                return broken("what a process said is written by compare-and-set", key)
                    .map(|()| Vec::new());
            }
            let process = process.to_owned();
            let twice = processes.contains(&process);
            if twice || self.in_flight.values().flatten().any(|other| *other == process) {
                return broken("writes for one process do not overlap", process)
                    .map(|()| Vec::new());
            }
            processes.push(process);
        }
        Ok(processes)
    }

    pub(super) fn on_cancel(&mut self, id: CallId) -> Result<(), Violation> {
        self.transactions.remove(&id);
        match self.in_flight.remove(&id) {
            Some(_) => Ok(()),
            None => broken("only what is in flight is cancelled", format!("{id}")),
        }
    }

    pub(super) fn on_reply(&mut self, id: CallId) {
        self.in_flight.remove(&id);
        self.transactions.remove(&id);
    }

    pub(super) fn on_request(&mut self, id: HttpId) {
        self.requests.insert(id);
    }

    pub(super) fn on_response(&mut self, id: HttpId) -> Result<(), Violation> {
        if self.requests.remove(&id) {
            return Ok(());
        }
        broken("each HTTP request has one response", format!("{id} has another"))
    }

    pub(super) fn unanswered(&self) -> Option<String> {
        self.requests.first().map(|id| format!("{id} has no response"))
    }
}
