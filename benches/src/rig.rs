//! One bridge and the Consul double. Only the bridge is measured: the double works in between.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, EntryId, LinkId, MsgId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::bridge::Bridge;
use hax_core::bridge::config::Config;
use hax_core::bridge::io::{Input, Output};
use hax_core::consul::port::{Answer, Call, Command as ConsulCommand, Method, Reply};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event};
use hax_sim::cluster::{Agents, Cluster, Shape};
use hax_sim::consul::{self, Consul};

/// Returns the time.
#[must_use]
pub fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

/// A ready bridge, with its Consul.
pub struct Rig {
    /// The bridge.
    pub bridge: Bridge,
    /// The double. The bridge learns of changes to it at the next [`Rig::rest`].
    pub consul: Consul,
    /// The configuration of both.
    pub cluster: Cluster,
    /// The outputs of the bridge that are not taken yet.
    pub out: Vec<Output>,
    next: Next,
    now: Instant,
    asked: BTreeMap<u64, CallId>,
    /// The responses that arrived during other requests: those of watches.
    late: Vec<Reply>,
    requests: u64,
    ids: u64,
    /// The time spent in the bridge since [`Rig::take_spent`].
    spent: Duration,
}

impl Rig {
    /// Creates the first node's bridge, and makes it ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let cluster = Cluster::generate(shape);
        let mut consul = Consul::new("ssu1");
        for node in &cluster.catalog[1..] {
            let _agent = consul.add_agent(&node.name, &node.ip);
        }
        cluster.load_double(Now::default(), &mut consul, "ssu1", Agents::Each);
        let node = &cluster.catalog[0];
        let own = node.services.iter().find(|service| service.name == "hax").expect("hax is there");
        let own = Fid::process(own.id.parse().expect("a key"));
        let mut config = Config::new(own, &node.name, 1);
        config.elect = false;
        let mut rig = Self {
            bridge: Bridge::new(config),
            consul,
            cluster,
            out: Vec::new(),
            next: Next::Wait,
            now: Instant::from_micros(1_000_000),
            asked: BTreeMap::new(),
            late: Vec::new(),
            requests: 0,
            ids: 0,
            spent: Duration::ZERO,
        };
        rig.give(Input::Tick);
        rig.rest();
        assert!(rig.bridge.view().ready, "{:?}", rig.bridge.view());
        rig
    }

    /// Returns the processes of a node, without hax's own.
    #[must_use]
    pub fn processes(&self, node: usize) -> Vec<Fid> {
        let services = self.cluster.catalog[node].services.iter();
        let others = services.filter(|service| service.name != "hax");
        others.map(|service| Fid::process(service.id.parse().expect("a key"))).collect()
    }

    /// Returns the processes of all nodes, without hax's own.
    #[must_use]
    pub fn all_processes(&self) -> Vec<Fid> {
        (0..self.cluster.catalog.len()).flat_map(|node| self.processes(node)).collect()
    }

    fn at(&self) -> Now {
        let wall = WallClock(1_795_243_244_000_000_000 + self.now.as_micros() * 1_000);
        Now { mono: self.now, wall }
    }

    /// Advances the time, and fires the due timers.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.give(Input::Tick);
    }

    /// Gives the bridge one input, in measured time.
    pub fn give(&mut self, input: Input) {
        let now = self.at();
        let before = clock();
        self.next = self.bridge.handle(now, input, &mut self.out);
        self.spent += before.elapsed();
    }

    /// Gives the bridge several inputs; the clock is read once.
    pub fn give_all(&mut self, inputs: Vec<Input>) {
        let now = self.at();
        let before = clock();
        for input in inputs {
            self.next = self.bridge.handle(now, input, &mut self.out);
        }
        self.spent += before.elapsed();
    }

    /// Returns the time spent in the bridge since the last call.
    pub fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }

    /// Mints an id.
    pub fn mint(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Sends a call to the double; returns its response unless the call blocks.
    pub fn ask(&mut self, call: Call) -> Option<Reply> {
        self.requests += 1;
        let method = match call.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let request = consul::Request::new(self.requests, method, &call.target, call.body);
        self.asked.insert(self.requests, call.id);
        let mut out = Vec::new();
        let _ = self.consul.handle(self.at(), request, &mut out);
        let (own, late) = self.replies(out).into_iter().partition(|reply| reply.id == call.id);
        self.late.extend::<Vec<Reply>>(late);
        let mut own: Vec<Reply> = own;
        own.pop()
    }

    fn replies(&mut self, out: Vec<consul::Output>) -> Vec<Reply> {
        let mut replies = Vec::new();
        for output in out {
            let consul::Output::Response(response) = output else { continue };
            let Some(id) = self.asked.remove(&response.id) else { continue };
            let index = response.index().unwrap_or(0);
            let answer = Answer { status: response.status, index, body: response.body };
            replies.push(Reply { id, result: Ok(answer) });
        }
        replies
    }

    /// Takes the calls out of the bridge's outputs.
    pub fn take_calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        self.out.retain_mut(|output| match output {
            Output::Consul(ConsulCommand::Call(call)) => {
                calls.push((**call).clone());
                false
            }
            _ => true,
        });
        calls
    }

    /// Answers the bridge's calls, delivers its messages and reads its replicas, until there is nothing left
    /// to do. Other outputs are dropped.
    pub fn rest(&mut self) {
        loop {
            self.deliver();
            if !self.step() {
                return;
            }
        }
    }

    /// Delivers all messages of the bridge, and drops its other outputs except for calls.
    fn deliver(&mut self) {
        let mut delivered = Vec::new();
        self.out.retain(|output| {
            if let Output::Motr(Command::Send { send, to, .. }) = output {
                delivered.extend(to.iter().map(|link| (*link, *send)));
            }
            matches!(output, Output::Consul(_))
        });
        for (link, send) in delivered {
            self.give(Input::Motr(Event::Delivered { link, send }));
        }
    }

    /// Does one step towards rest: the response to one call, or one tick. Returns whether there was a step to
    /// do.
    pub fn step(&mut self) -> bool {
        let mut out = Vec::new();
        let _ = self.consul.tick(self.at(), &mut out);
        let late = self.replies(out);
        self.late.extend(late);
        for call in self.take_calls() {
            let own = self.ask(call);
            self.late.extend(own);
        }
        if !self.late.is_empty() {
            let reply = self.late.remove(0);
            self.give(Input::Consul(reply));
            return true;
        }
        match self.next {
            Next::WaitUntil { at, why: "slice" | "watch" | "lookout" } => {
                self.now = self.now.max(at);
                self.give(Input::Tick);
                true
            }
            _ => false,
        }
    }

    /// Sends a request to Consul from outside.
    ///
    /// # Panics
    ///
    /// If the request is refused.
    pub fn consul(&mut self, method: &str, target: &str, body: &str) -> String {
        self.requests += 1;
        let id = self.requests;
        let request = consul::Request::new(id, method, target, body.to_owned());
        let mut out = Vec::new();
        let _ = self.consul.handle(self.at(), request, &mut out);
        let own = out.iter().find_map(|output| match output {
            consul::Output::Response(response) if response.id == id => Some(response.clone()),
            _ => None,
        });
        let others = self.replies(out);
        self.late.extend(others);
        let own = own.expect("it does not block");
        assert_eq!(own.status, 200, "{target}");
        String::from_utf8_lossy(&own.body).into_owned()
    }

    /// Makes a node dead or alive for Consul.
    pub fn set_alive(&mut self, node: usize, alive: bool) {
        let mut out = Vec::new();
        let _ = self.consul.set_alive(self.at(), node, alive, &mut out);
        let replies = self.replies(out);
        self.late.extend(replies);
    }

    /// Creates a link to a process.
    pub fn link(&mut self, process: Fid) -> LinkId {
        let (link, entry) = (LinkId(self.mint()), EntryId(self.mint()));
        self.give(Input::Motr(Event::LinkUp { link, entry, process, reconnected: false }));
        link
    }

    /// Creates a message of a process.
    pub fn message(&mut self, link: LinkId, process: Fid, body: Body) -> Input {
        let msg = MsgId(self.mint());
        let message = Box::new(Message { fid: process, ..Message::new(self.at().wall, body) });
        Input::Motr(Event::Received { link, msg, message })
    }
}
