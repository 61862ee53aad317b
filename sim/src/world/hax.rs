//! The hosts of the nodes under test: each feeds its node, does what it wants, and may die at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::config;
use hax_core::base::fact::{Fact, FactKind};
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::time::Next;
use hax_core::http;
use hax_core::machine::Machine as _;
use hax_core::node::{self, Input, Node, Output};
use hax_core::wire;

use super::World;
use super::consul::Flight;
use super::queue::{Ev, S, Who};

/// One hax and its host.
pub(super) struct Hax {
    /// Nothing while it is down.
    pub(super) node: Option<Box<Node>>,
    pub(super) config: Option<node::Config>,
    pub(super) fid: Fid,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) life: u32,
    wake: u64,
    /// Calls to Consul without a reply.
    pub(super) calls: BTreeMap<CallId, Flight>,
    /// Calls that were given up, whose reply comes all the same.
    pub(super) late: BTreeSet<CallId>,
    /// HTTP requests without a response, and the watch that waits for it.
    pub(super) https: BTreeMap<HttpId, Option<u64>>,
    next_http: HttpId,
    /// When checks were posted to it last.
    pub(super) posted: Option<u64>,
    /// It dies after so many more outputs.
    pub(super) dies_after: Option<u64>,
    /// It was told to stop.
    pub(super) stopping: bool,
    /// It is not started again.
    pub(super) retired: bool,
    /// When it was told to stop, and when it exited.
    pub(super) stop_took: Option<(u64, Option<u64>)>,
}

impl Hax {
    pub(super) fn new(fid: Fid, name: &str, addr: SocketAddr) -> Self {
        Self {
            node: None,
            config: None,
            fid,
            name: name.to_owned(),
            addr,
            life: 0,
            wake: u64::MAX,
            calls: BTreeMap::new(),
            late: BTreeSet::new(),
            https: BTreeMap::new(),
            next_http: HttpId(1),
            posted: None,
            dies_after: None,
            stopping: false,
            retired: false,
            stop_took: None,
        }
    }
}

/// Who makes an HTTP request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    /// A watch of the node's own agent, by its number while it waits for the response.
    Watch(Option<u64>),
    /// Anybody.
    Stranger,
}

impl World<'_> {
    pub(super) fn start_hax(&mut self, i: usize) {
        if self.hax[i].node.is_some() || self.hax[i].retired {
            return;
        }
        let hax = &self.hax[i];
        let generation = self.now_both().wall.0;
        let mut config = node::Config {
            bridge: config::Config::new(hax.fid, &hax.name, generation),
            wire: wire::Config::new(hax.addr, generation, generation),
        };
        self.swarm.tighten(&mut config);
        self.oracle.born(i, &config);
        if self.keep_journals {
            self.journals[i] = hax_core::journal::begin(&config);
        }
        let hax = &mut self.hax[i];
        hax.node = Some(Box::new(Node::new(config.clone())));
        hax.config = Some(config);
        hax.wake = u64::MAX;
        hax.stopping = false;
        hax.dies_after = None;
        hax.stop_took = None;
        let addr = hax.addr;
        self.net.listening.insert(addr, Who::Hax(i));
        self.say(|| format!("hax {i} starts"));
        self.feed(i, Input::Tick);
    }

    /// A hax dies: nothing of what it was about to do is done.
    pub(super) fn kill_hax(&mut self, i: usize) {
        if self.hax[i].node.take().is_none() {
            return;
        }
        self.say(|| format!("hax {i} is dead"));
        self.net.listening.remove(&self.hax[i].addr);
        self.hax[i].life += 1;
        self.hang_up(Who::Hax(i));
        let hax = &mut self.hax[i];
        hax.late.clear();
        let calls = std::mem::take(&mut hax.calls);
        let watches: Vec<u64> = std::mem::take(&mut hax.https).into_values().flatten().collect();
        for flight in calls.into_values() {
            self.consul.double.forget(flight.request);
        }
        for watch in watches {
            self.queue.push(self.now, Ev::Posted(watch));
        }
        self.oracle.died(i);
    }

    pub(super) fn tick(&mut self, who: Who) {
        match who {
            Who::Hax(i) if self.hax[i].wake <= self.now && self.hax[i].node.is_some() => {
                self.hax[i].wake = u64::MAX;
                self.feed(i, Input::Tick);
            }
            Who::Motr(i) => self.tick_process(i),
            Who::Hax(_) | Who::Stranger => {}
        }
    }

    pub(super) fn stop_hax(&mut self, i: usize) {
        if self.hax[i].node.is_some() && !self.hax[i].stopping {
            self.hax[i].stopping = true;
            self.hax[i].stop_took = Some((self.now, None));
            self.feed(i, Input::Stop);
        }
    }

    /// Gives one input to a hax and does what follows.
    pub(super) fn feed(&mut self, i: usize, input: Input) {
        let now = self.now_both();
        let Some(mut machine) = self.hax[i].node.take() else { return };
        self.trace.input(self.now, i, &input);
        if self.keep_journals {
            hax_core::journal::put(&mut self.journals[i], now, &input);
        }
        let http = match &input {
            Input::Http(request) => Some(request.id),
            _ => None,
        };
        let mut out = std::mem::take(&mut self.out);
        let next = machine.handle(now, input, &mut out);
        let next = self.mutate(&mut out, next);
        self.oracle.step(self.now, i, http, &out, next, &machine);
        self.hax[i].node = Some(machine);
        for output in out.drain(..) {
            if self.hax[i].node.is_none() {
                continue;
            }
            self.trace.output(self.now, i, &output);
            self.execute(i, output);
            if let Some(left) = &mut self.hax[i].dies_after {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.kill_hax(i);
                    let down = 1 + self.choose(30);
                    self.queue.push(self.now + down * S, Ev::StartHax(i));
                }
            }
        }
        self.out = out;
        self.rearm(i, next);
    }

    fn execute(&mut self, i: usize, output: Output) {
        match output {
            Output::Net(command) => self.on_net(Who::Hax(i), command),
            Output::Consul(command) => self.on_consul(i, command),
            Output::Spiel(call) => self.on_spiel(i, &call),
            Output::Http(response) => {
                if let Some(Some(watch)) = self.hax[i].https.remove(&response.id) {
                    self.queue.push(self.now, Ev::Posted(watch));
                }
            }
            Output::Fact(fact) => self.on_fact(i, &fact),
        }
    }

    fn on_fact(&mut self, i: usize, fact: &Fact) {
        self.facts[fact.kind() as usize] += 1;
        self.oracle.fact(self.now, i, fact);
        self.on_verdict(fact);
        if fact.kind() == FactKind::Stopping {
            // It may stop of itself, on a message that demands it.
            self.hax[i].stopping = true;
            self.hax[i].stop_took.get_or_insert((self.now, None));
        }
    }

    fn rearm(&mut self, i: usize, next: Next) {
        let hax = &mut self.hax[i];
        if hax.node.is_none() {
            return;
        }
        match next {
            Next::Wait => hax.wake = u64::MAX,
            Next::WaitUntil { at, .. } => {
                let at = at.as_micros();
                if at != hax.wake {
                    hax.wake = at;
                    self.queue.push(at.max(self.now), Ev::Tick(Who::Hax(i)));
                }
            }
            Next::Exit => self.exited(i),
        }
    }

    /// Nothing more is to come from it, whatever it is given.
    fn exited(&mut self, i: usize) {
        let now = self.now_both();
        let hax = &mut self.hax[i];
        if let Some((_, end)) = &mut hax.stop_took {
            end.get_or_insert(self.now);
        }
        if let Some(machine) = &mut hax.node {
            let mut out = Vec::new();
            let again = machine.handle(now, Input::Tick, &mut out);
            let again = if self.mutant == Some(super::mutant::Mutant::SpeaksAfterExit) {
                Next::Wait
            } else {
                again
            };
            self.oracle.after_exit(again, &out);
        }
        self.say(|| format!("hax {i} has exited"));
        self.kill_hax(i);
        if !self.hax[i].retired {
            self.queue.push(self.now + 3 * S, Ev::StartHax(i));
        }
    }

    /// An HTTP request reaches a hax, or nobody.
    pub(super) fn request(
        &mut self,
        i: usize,
        method: &str,
        target: &str,
        body: Bytes,
        client: Client,
    ) {
        let (watch, trusted) = match client {
            Client::Watch(watch) => (watch, true),
            Client::Stranger => (None, false),
        };
        if self.hax[i].node.is_none() {
            if let Some(watch) = watch {
                self.queue.push(self.now, Ev::Posted(watch));
            }
            return;
        }
        let id = self.hax[i].next_http.mint();
        self.hax[i].https.insert(id, watch);
        let (method, target) = (method.into(), target.into());
        let request = http::port::Request { id, method, target, body, trusted };
        self.feed(i, Input::Http(Box::new(request)));
    }
}
