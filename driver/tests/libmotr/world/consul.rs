//! The Consul double for the one hax.

use std::collections::BTreeMap;

use hax_core::base::fid::Fid;
use hax_core::base::id::CallId;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::consul::port::{Answer, Call, Command, Method, Reply, Unanswered};
use hax_sim::cluster::{Agents, Cluster, Shape};
use hax_sim::consul::{self, Consul};

/// The fault of a Consul call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Refuses,
    Fails,
    Hangs,
    /// The call is executed, and its reply is lost.
    Loses,
}

pub(super) struct ConsulHost {
    double: Consul,
    next: Next,
    pub(super) fault: Option<Fault>,
    requests: u64,
    asked: BTreeMap<u64, CallId>,
    /// The calls without a reply, with the timeout of each.
    hung: BTreeMap<CallId, Instant>,
}

impl ConsulHost {
    pub(super) fn new() -> Self {
        let cluster = Cluster::generate(&Shape::like_hare(3));
        let mut double = Consul::new("ssu1");
        for node in &cluster.catalog[1..] {
            let _agent = double.add_agent(&node.name, &node.ip);
        }
        cluster.load_double(Now::default(), &mut double, "ssu1", Agents::Each);
        Self {
            double,
            next: Next::Wait,
            fault: None,
            requests: 0,
            asked: BTreeMap::new(),
            hung: BTreeMap::new(),
        }
    }

    /// Executes a command; returns the immediate replies.
    pub(super) fn take(&mut self, now: Now, command: Command) -> Vec<Reply> {
        match command {
            Command::Call(call) => self.call(now, *call),
            Command::Cancel(id) => {
                self.hung.remove(&id);
                let found = self.asked.iter().find(|(_, asked)| **asked == id);
                if let Some(request) = found.map(|(request, _)| *request) {
                    self.asked.remove(&request);
                    self.double.cancel(request);
                }
                Vec::new()
            }
        }
    }

    fn call(&mut self, now: Now, call: Call) -> Vec<Reply> {
        let reply = |result| vec![Reply { id: call.id, result }];
        match self.fault {
            Some(Fault::Hangs) => {
                self.hung.insert(call.id, now.mono.after(call.within));
                return Vec::new();
            }
            Some(Fault::Refuses) => return reply(Err(Unanswered::Refused)),
            Some(Fault::Fails) => {
                let body = "No cluster leader".into();
                return reply(Ok(Answer { status: 500, index: 0, body }));
            }
            Some(Fault::Loses) | None => {}
        }
        self.requests += 1;
        let method = match call.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let request = consul::Request::new(self.requests, method, &call.target, call.body);
        if self.fault.is_none() {
            self.asked.insert(self.requests, call.id);
        }
        let mut out = Vec::new();
        self.next = self.double.handle(now, request, &mut out);
        let mut replies = self.replies(out);
        if self.fault.is_some() {
            replies.push(Reply { id: call.id, result: Err(Unanswered::TimedOut) });
        }
        replies
    }

    /// Returns the time of the next timeout or timer.
    pub(super) fn due(&self) -> Instant {
        let double = match self.next {
            Next::WaitUntil { at, .. } => at,
            Next::Wait | Next::Exit => Instant::MAX,
        };
        self.hung.values().copied().fold(double, Instant::min)
    }

    pub(super) fn tick(&mut self, now: Now) -> Vec<Reply> {
        let mut out = Vec::new();
        self.next = self.double.tick(now, &mut out);
        let mut replies = self.replies(out);
        self.hung.retain(|id, at| {
            let over = *at <= now.mono;
            if over {
                replies.push(Reply { id: *id, result: Err(Unanswered::TimedOut) });
            }
            !over
        });
        replies
    }

    fn replies(&mut self, out: Vec<consul::Output>) -> Vec<Reply> {
        let responses = out.into_iter().filter_map(|output| match output {
            consul::Output::Response(response) => Some(response),
            _ => None,
        });
        let reply = |response: consul::Response| {
            let id = self.asked.remove(&response.id)?;
            let (status, index) = (response.status, response.index().unwrap_or(0));
            Some(Reply { id, result: Ok(Answer { status, index, body: response.body }) })
        };
        responses.filter_map(reply).collect()
    }

    /// Returns the state in `processes/<fid>`, without its prefix.
    pub(super) fn state_of(&mut self, now: Now, process: Fid) -> String {
        self.requests += 1;
        let (id, target) = (self.requests, format!("/v1/kv/processes/{process}?raw"));
        let mut out = Vec::new();
        let request = consul::Request::new(id, "GET", &target, String::new());
        self.next = self.double.handle(now, request, &mut out);
        let body = out.into_iter().find_map(|output| match output {
            consul::Output::Response(response) if response.id == id => Some(response.body),
            _ => None,
        });
        let value: serde_json::Value = serde_json::from_slice(&body.expect("it does not block"))
            .expect("each process has a record");
        let state = value["state"].as_str().expect("a state");
        state.trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
    }
}
