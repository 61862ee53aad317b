//! Bridges on the nodes of one cluster with the Consul double, without a wire and without real time.
//! Commands to Motr are recorded, links come up as the wire would make them, and messages are delivered at
//! once unless they are held back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, EntryId, HttpId, LinkId, MsgId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::bridge::View;
use hax_core::bridge::config::Config;
use hax_core::bridge::io::{Input, Output};
use hax_core::consul::port::{self, Answer, Method, Reply, Unanswered};
use hax_core::ha::entrypoint::{Entrypoint, EntrypointRequest};
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::http::port::{Request, Trust};
use hax_sim::cluster::{Agents, Cluster, Shape};
use hax_sim::consul::{self, Consul};

pub(crate) use crate::host::Fault;
use crate::host::{Asked, Host, LAG};

pub(crate) struct TestCluster {
    pub(crate) consul: Consul,
    pub(crate) nodes: Vec<Host>,
    pub(crate) now: Instant,
    consul_next: Next,
    cluster: Cluster,
    requests: u64,
    /// The inputs that the bridges have not received yet. The first one is being handled.
    pending: VecDeque<(usize, Input)>,
    /// The calls that wait for a response, by the id of their request.
    calls: BTreeMap<u64, Asked>,
    /// Delayed replies, with the times of their arrival.
    late: Vec<(Instant, usize, Reply)>,
}

impl TestCluster {
    /// Three nodes as hare leaves them. Bridges run on the first `bridges` of them.
    pub(crate) fn new(bridges: usize) -> Self {
        Self::with(bridges, |_| {})
    }

    pub(crate) fn with(bridges: usize, configure: impl Fn(&mut Config)) -> Self {
        Self::of(&Shape::like_hare(3), bridges, configure)
    }

    pub(crate) fn of(shape: &Shape, bridges: usize, configure: impl Fn(&mut Config)) -> Self {
        let cluster = Cluster::generate(shape);
        let mut consul = Consul::new("ssu1");
        for node in &cluster.catalog[1..] {
            let _agent = consul.add_agent(&node.name, &node.ip);
        }
        cluster.load_double(Now::default(), &mut consul, "ssu1", Agents::Each);
        let mut cluster = Self {
            consul,
            nodes: Vec::new(),
            now: Instant::from_micros(1_000_000),
            consul_next: Next::Wait,
            cluster,
            requests: 0,
            calls: BTreeMap::new(),
            late: Vec::new(),
            pending: VecDeque::new(),
        };
        for node in 0..bridges {
            let name = cluster.cluster.catalog[node].name.clone();
            let mut config = Config::new(cluster.fid(node, "hax"), &name, node as u64);
            config.elect = false;
            configure(&mut config);
            cluster.nodes.push(Host::new(config));
        }
        for node in 0..bridges {
            cluster.input(node, Input::Tick);
        }
        cluster.run(Duration::from_millis(50));
        cluster
    }

    /// Returns the first process of the service with this name on a node.
    pub(crate) fn fid(&self, node: usize, service: &str) -> Fid {
        let services = &self.cluster.catalog[node].services;
        let found = services.iter().find(|s| s.name == service).expect("it is there");
        Fid::process(found.id.parse().expect("a key"))
    }

    /// Replaces a bridge by a new one, with the same Consul.
    pub(crate) fn restart(&mut self, node: usize, configure: impl Fn(&mut Config)) {
        self.calls.retain(|_, asked| asked.node != node);
        let name = self.cluster.catalog[node].name.clone();
        let mut config = Config::new(self.fid(node, "hax"), &name, 100);
        config.elect = false;
        configure(&mut config);
        let before = core::mem::replace(&mut self.nodes[node], Host::new(config));
        (self.nodes[node].fault, self.nodes[node].token) = (before.fault, before.token);
        self.input(node, Input::Tick);
    }

    fn at(&self) -> Now {
        let wall = WallClock(1_795_243_244_000_000_000 + self.now.as_micros() * 1_000);
        Now { mono: self.now, wall }
    }

    /// Passes an input to a bridge, and all its consequences to their receivers, in order.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        self.pending.push_back((node, input));
        if self.pending.len() > 1 {
            return;
        }
        while let Some((node, input)) = self.pending.front().cloned() {
            self.feed(node, input);
            self.pending.pop_front();
        }
    }

    fn feed(&mut self, node: usize, input: Input) {
        let mut out = Vec::new();
        let now = self.at();
        let host = &mut self.nodes[node];
        if host.exited {
            return;
        }
        host.next = host.bridge.handle(now, input, &mut out);
        host.exited = host.next == Next::Exit;
        for output in out {
            match output {
                Output::Motr(command) => self.command(node, command),
                Output::Consul(port::Command::Call(call)) => self.call(node, *call),
                Output::Consul(port::Command::Cancel(id)) => self.cancel(node, id),
                Output::Spiel(call) => self.nodes[node].calls.push_back(call),
                Output::Http(response) => self.nodes[node].responses.push(*response),
                Output::Fact(fact) => self.nodes[node].facts.push(fact),
            }
        }
    }

    fn command(&mut self, node: usize, command: Command) {
        let host = &mut self.nodes[node];
        host.commands.push(command.clone());
        match command {
            Command::Reply { entry, reply } => {
                let process = host.asking.remove(&entry).expect("one reply to each request");
                let good = reply.is_ok();
                host.replies.push((entry, reply.map(|reply| (*reply).clone()), self.now));
                if good && !host.links.contains_key(&process) {
                    let link = LinkId(host.mint());
                    host.links.insert(process, link);
                    let up = Event::LinkUp { link, entry, process, reconnected: false };
                    self.input(node, Input::Motr(up));
                }
            }
            Command::Send { send, to, message, .. } => {
                for link in to {
                    let host = &mut self.nodes[node];
                    if let Body::Nvec(nvec) = &message.body {
                        host.told.entry(link).or_default().extend(nvec.notes.iter().copied());
                    }
                    host.sent.push((link, send, message.body.clone()));
                    if host.delivers {
                        self.input(node, Input::Motr(Event::Delivered { link, send }));
                    }
                }
            }
            Command::Ack { msg, .. } => host.acks.push(msg),
            _ => {}
        }
    }

    fn call(&mut self, node: usize, call: port::Call) {
        let host = &mut self.nodes[node];
        host.targets.push((call.method, call.target.clone()));
        let stale = call.target.contains("stale");
        let unanswered = |why| Reply { id: call.id, result: Err(why) };
        let left = host.transactions.as_mut().filter(|_| call.target == "/v1/txn");
        let fault = match left {
            Some(0) => Some(Fault::Refuses),
            left => {
                left.into_iter().for_each(|left| *left -= 1);
                host.fault
            }
        };
        match fault {
            Some(Fault::Hangs) => return,
            Some(Fault::Leaderless) if !stale => {
                let limit = self.now.after(call.within);
                self.late.push((limit, node, unanswered(Unanswered::TimedOut)));
                return;
            }
            Some(Fault::Refuses) => {
                self.input(node, Input::Consul(unanswered(Unanswered::Refused)));
                return;
            }
            Some(fault @ (Fault::Fails | Fault::Headless)) if fault == Fault::Fails || !stale => {
                let answer = Answer { status: 500, index: 0, body: "No cluster leader".into() };
                self.input(node, Input::Consul(Reply { id: call.id, result: Ok(answer) }));
                return;
            }
            Some(_) | None => {}
        }
        let loses = host.fault == Some(Fault::Loses);
        let target = match host.fault {
            Some(Fault::NoIndex) => call.target.replace("index=", "x="),
            _ => call.target,
        };
        self.requests += 1;
        let method = match call.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        if let Some((status, text)) = host.token.refusal(method, &target) {
            let answer = Answer { status, index: 0, body: text.into() };
            return self.input(node, Input::Consul(Reply { id: call.id, result: Ok(answer) }));
        }
        let mut request = consul::Request::new(self.requests, method, &target, call.body);
        request.agent = node;
        if !loses {
            let asked = Asked { node, call: call.id, stale, target: target.clone() };
            self.calls.insert(self.requests, asked);
        }
        let mut out = Vec::new();
        self.consul_next = self.consul.handle(self.at(), request, &mut out);
        self.respond(out);
        if loses {
            self.input(
                node,
                Input::Consul(Reply { id: call.id, result: Err(Unanswered::TimedOut) }),
            );
        }
    }

    fn cancel(&mut self, node: usize, call: CallId) {
        self.late.retain(|(_, other, reply)| (*other, reply.id) != (node, call));
        let found = self.calls.iter().find(|(_, asked)| (asked.node, asked.call) == (node, call));
        if let Some(request) = found.map(|(request, _)| *request) {
            self.calls.remove(&request);
            self.consul.cancel(request);
        }
    }

    /// Drops the calls that wait for Consul's leader, and returns them.
    pub(crate) fn drop_blocked_queries(&mut self, node: usize) -> Vec<CallId> {
        let asked = core::mem::take(&mut self.calls).into_iter();
        let (lost, kept) = asked.partition(|(_, asked)| asked.node == node && !asked.stale);
        self.calls = kept;
        let lost: BTreeMap<u64, Asked> = lost;
        lost.into_values().map(|asked| asked.call).collect()
    }

    fn respond(&mut self, out: Vec<consul::Output>) {
        for output in out {
            let consul::Output::Response(response) = output else { continue };
            let Some(asked) = self.calls.remove(&response.id) else { continue };
            let Asked { node, call: id, stale, target } = asked;
            let response = self.nodes[node].token.filter(&target, response);
            let fault = self.nodes[node].fault;
            let hidden = fault == Some(Fault::NoIndex);
            let index = response.index().filter(|_| !hidden).unwrap_or(0);
            let answer = Answer { status: response.status, index, body: response.body };
            let reply = Reply { id, result: Ok(answer) };
            match fault {
                Some(Fault::Leaderless) if !stale => {}
                Some(Fault::Leaderless | Fault::Headless | Fault::Follows) if stale => {
                    self.late.push((self.now.after(LAG), node, reply));
                }
                _ => self.input(node, Input::Consul(reply)),
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let due = |next: &Next| match next {
                Next::WaitUntil { at, .. } => *at,
                Next::Wait | Next::Exit => Instant::MAX,
            };
            let first = self.nodes.iter().map(|host| due(&host.next)).min().unwrap_or(Instant::MAX);
            let late = self.late.iter().map(|(at, ..)| *at).min().unwrap_or(Instant::MAX);
            let at = first.min(due(&self.consul_next)).min(late).max(self.now);
            if at > end {
                break;
            }
            self.now = at;
            for node in 0..self.nodes.len() {
                if due(&self.nodes[node].next) <= at {
                    self.input(node, Input::Tick);
                }
            }
            if let Some(due) = self.late.iter().position(|(due, ..)| *due <= at) {
                let (_, node, reply) = self.late.remove(due);
                self.input(node, Input::Consul(reply));
            }
            if due(&self.consul_next) <= at {
                let mut out = Vec::new();
                self.consul_next = self.consul.tick(self.at(), &mut out);
                self.respond(out);
            }
        }
        self.now = end;
    }

    /// Sends a request to Consul, as another client does. Returns the status and the body.
    pub(crate) fn consul(&mut self, method: &str, target: &str, body: &str) -> (u16, String) {
        self.consul_at(0, method, target, body)
    }

    pub(crate) fn consul_at(
        &mut self,
        agent: usize,
        method: &str,
        target: &str,
        body: &str,
    ) -> (u16, String) {
        self.requests += 1;
        let id = self.requests;
        let mut request = consul::Request::new(id, method, target, body.to_owned());
        request.agent = agent;
        let mut out = Vec::new();
        self.consul_next = self.consul.handle(self.at(), request, &mut out);
        let own = |output: &consul::Output| matches!(output, consul::Output::Response(response) if response.id == id);
        let at = out.iter().position(own).expect("it does not block");
        let consul::Output::Response(response) = out.remove(at) else { unreachable!() };
        self.respond(out);
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Returns the value of a key.
    pub(crate) fn kv(&mut self, key: &str) -> Option<String> {
        let (status, body) = self.consul("GET", &format!("/v1/kv/{key}?raw"), "");
        (status == 200).then_some(body)
    }

    /// Returns the state in the value of a key.
    pub(crate) fn state_in(&mut self, key: &str) -> String {
        let value = self.kv(key).unwrap_or_else(|| panic!("no key {key}"));
        let value: serde_json::Value = serde_json::from_str(&value).expect("JSON");
        value["state"].as_str().expect("a state").to_owned()
    }

    /// Returns the state in `processes/<fid>`, without its prefix.
    pub(crate) fn record(&mut self, process: Fid) -> String {
        let state = self.state_in(&format!("processes/{process}"));
        state.trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
    }

    /// Changes a process's check at its node's agent.
    pub(crate) fn set_check(&mut self, node: usize, process: Fid, status: &str) {
        let mut out = Vec::new();
        let id = format!("service:{}", process.key);
        self.consul_next = self.consul.set_check(self.at(), node, &id, status, "", &mut out);
        self.respond(out);
    }

    /// Makes a node die, or return.
    pub(crate) fn set_alive(&mut self, node: usize, alive: bool) {
        let mut out = Vec::new();
        self.consul_next = self.consul.set_alive(self.at(), node, alive, &mut out);
        self.respond(out);
    }

    /// Imports the configuration anew, as every node of hare does at its start.
    pub(crate) fn import(&mut self) {
        let kv = self.cluster.kv.iter().filter(|(key, _)| key.starts_with("m0conf/"));
        for (key, value) in kv.cloned().collect::<Vec<_>>() {
            self.consul("PUT", &format!("/v1/kv/{key}"), &value);
        }
    }

    /// Changes the Consul double itself.
    pub(crate) fn with_consul(
        &mut self,
        change: impl FnOnce(&mut Consul, Now, &mut Vec<consul::Output>) -> Next,
    ) {
        let (now, mut out) = (self.at(), Vec::new());
        self.consul_next = change(&mut self.consul, now, &mut out);
        self.respond(out);
    }

    /// Sends an entrypoint request of a process.
    pub(crate) fn ask(&mut self, node: usize, process: Fid, first: bool, pid: u64) -> EntryId {
        let host = &mut self.nodes[node];
        let entry = EntryId(host.mint());
        host.asking.insert(entry, process);
        let (endpoint, git_rev) = ("inet:stream:127.0.0.1@1".into(), "".into());
        let request = EntrypointRequest { entry, process, endpoint, pid, first, git_rev };
        self.input(node, Input::Motr(Event::Asked(Box::new(request))));
        entry
    }

    /// Returns the reply to a request, if there is one.
    pub(crate) fn reply(&self, node: usize, entry: EntryId) -> Option<&Result<Entrypoint, Errno>> {
        let mut replies = self.nodes[node].replies.iter();
        replies.find(|(e, ..)| *e == entry).map(|(_, reply, _)| reply)
    }

    /// Makes a link to a process with a request that is not its first one.
    pub(crate) fn link(&mut self, node: usize, process: Fid) -> LinkId {
        let entry = self.ask(node, process, false, 1);
        self.run(Duration::from_millis(5));
        assert!(matches!(self.reply(node, entry), Some(Ok(_))), "it has its entrypoint");
        self.nodes[node].links[&process]
    }

    /// Sends a message of a process over its link.
    pub(crate) fn send(&mut self, node: usize, process: Fid, body: Body) -> MsgId {
        let now = self.at();
        let host = &mut self.nodes[node];
        let msg = MsgId(host.mint());
        let link = host.links[&process];
        let message = Message { fid: process, ..Message::new(now.wall, body) };
        let message = Box::new(message);
        self.input(node, Input::Motr(Event::Received { link, msg, message }));
        msg
    }

    pub(crate) fn event(&mut self, node: usize, process: Fid, event: ProcessEventKind) -> MsgId {
        let kind = ProcessType::M0d;
        self.send(node, process, Body::Process(ProcessEvent { event, kind, pid: 1 }))
    }

    /// Posts a body to a bridge.
    pub(crate) fn post(&mut self, node: usize, target: &str, body: &str) -> HttpId {
        self.http(node, "POST", target, body)
    }

    /// Posts a body from an untrusted address.
    pub(crate) fn post_untrusted(&mut self, node: usize, target: &str, body: &str) -> HttpId {
        self.request(node, ("POST", target, body), Trust::None)
    }

    pub(crate) fn http(&mut self, node: usize, method: &str, target: &str, body: &str) -> HttpId {
        self.request(node, (method, target, body), Trust::Local)
    }

    fn request(
        &mut self,
        node: usize,
        (method, target, body): (&str, &str, &str),
        trust: Trust,
    ) -> HttpId {
        let id = HttpId(self.nodes[node].mint());
        let (method, target, body) = (method.into(), target.into(), body.to_owned().into());
        self.input(node, Input::Http(Request { id, method, target, body, trust }.into()));
        id
    }

    pub(crate) fn response(&self, node: usize, id: HttpId) -> Option<(u16, String)> {
        let found = self.nodes[node].responses.iter().find(|response| response.id == id)?;
        Some((found.status, String::from_utf8_lossy(&found.body).into_owned()))
    }

    /// Returns the last state of an object that was sent to a link.
    pub(crate) fn last_state(&self, node: usize, link: LinkId, object: Fid) -> Option<ObjectState> {
        let told = self.nodes[node].told.get(&link)?;
        told.iter().rev().find(|note| note.fid == object).map(|note| note.state)
    }

    /// Takes the states of an object that were sent to a link, in order.
    pub(crate) fn take_sent(&mut self, node: usize, link: LinkId, object: Fid) -> Vec<ObjectState> {
        let told = self.nodes[node].told.entry(link).or_default();
        let states = told.iter().filter(|n| n.fid == object).map(|n| n.state).collect();
        told.retain(|note| note.fid != object);
        states
    }

    /// Returns a request for the states of objects.
    pub(crate) fn question(&self, objects: &[Fid]) -> Nvec {
        let none = |fid: &Fid| Note { fid: *fid, state: ObjectState::Unknown };
        let notes = objects.iter().map(none).collect();
        Nvec { kind: NvecKind::Get, id_of_get: 77, ignore_same_state: 0, notes }
    }

    /// Requests the states of objects for a process, and returns the response.
    pub(crate) fn states(&mut self, node: usize, process: Fid, objects: &[Fid]) -> Vec<Note> {
        let question = self.question(objects);
        self.send(node, process, Body::Nvec(Box::new(question)));
        self.run(Duration::from_millis(5));
        let answer = self.nodes[node].sent.iter().rev().find_map(|(_, _, body)| match body {
            Body::Nvec(nvec) if nvec.id_of_get == 77 => Some(nvec.notes.clone()),
            _ => None,
        });
        answer.expect("a question has its answer")
    }

    pub(crate) fn count_facts(&self, node: usize, kind: FactKind) -> usize {
        self.nodes[node].facts.iter().filter(|fact| fact.kind() == kind).count()
    }

    pub(crate) fn view(&self, node: usize) -> View {
        self.nodes[node].bridge.view()
    }
}
