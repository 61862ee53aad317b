//! A few nodes. Each has an agent of Consul, a keeper with processes, and hax with its services.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hax_core::base::id::{CallId, ExecId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::consul::port::{self, Answer, Method, Reply, Unanswered};
use hax_core::exec::{self, Status};
use hax_core::http::port::Response;
use hax_core::http::stream;
use hax_core::keeper::port::Event;
use hax_core::machine::{Input, Machine as _, Output};
use hax_core::services::facts::ServicesFact;
use hax_core::services::model::name::NodeName;
use hax_core::services::{CapabilityKey, Config, InstanceSocket, Programs, Services};
use hax_sim::consul::{self, Consul};

use super::keeper::KeeperHost;

/// The latency of an answer of Consul.
const LAG: Duration = Duration::from_micros(500);

/// The latency of an event of the keeper.
const KEEPER_LAG: Duration = Duration::from_micros(300);

/// The nodes with their surroundings.
pub(crate) struct Field {
    pub(crate) now: Instant,
    pub(crate) consul: Consul,
    consul_next: Next,
    pub(crate) nodes: Vec<Node>,
    asked: BTreeMap<u64, (usize, u32, CallId, String)>,
    pub(crate) requests: u64,
    due: Vec<(Instant, usize, u32, Input)>,
    /// The committed transactions of the nodes: the time, the node and the body.
    pub(crate) commits: Vec<(Instant, usize, String)>,
    generations: u64,
    /// The rule programs of all nodes.
    pub(crate) programs: Programs,
    /// The exit code and the answer of rule programs, by the last part of their names. The default is success.
    pub(crate) answers: BTreeMap<String, (i32, String)>,
    /// Rule programs do not end.
    pub(crate) hold_programs: bool,
}

/// One node.
pub(crate) struct Node {
    pub(crate) name: String,
    labels: BTreeMap<Box<str>, Box<str>>,
    pub(crate) services: Option<Services>,
    /// The number of the life of hax.
    life: u32,
    next: Next,
    pub(crate) keeper: KeeperHost,
    pub(crate) facts: Vec<(Instant, ServicesFact)>,
    pub(crate) responses: BTreeMap<u64, Response>,
    pub(crate) streams: BTreeMap<u64, String>,
    pub(crate) clients: u64,
    pub(crate) helpers: BTreeMap<ExecId, Vec<String>>,
    /// The rule programs so far.
    pub(crate) spawned: Vec<exec::Spawn>,
    /// The exit code of each probe, by the last word of its command line. The default is 0.
    pub(crate) probes: BTreeMap<String, i32>,
    /// The resources of agents, and the units of systemd, that run.
    pub(crate) resources: BTreeSet<String>,
    /// The exit codes of actions: `start`, `monitor`, `stop`. The default is that of a healthy agent.
    pub(crate) codes: BTreeMap<String, i32>,
    /// The actions so far.
    pub(crate) actions: Vec<String>,
    /// The units that systemd restarts.
    pub(crate) is_restarting: bool,
    /// hax gets no answer from its agent.
    pub(crate) is_cut: bool,
    boots: u32,
}

impl Field {
    /// Creates nodes whose services have come to rest.
    pub(crate) fn new(count: usize) -> Self {
        let mut field = Self::cold(count);
        for nth in 0..count {
            field.start(nth);
        }
        field.until(10_000, |field| (0..count).all(|nth| field.is_ready(nth)));
        field.until(10_000, |field| field.coordinator().is_some());
        field
    }

    /// Creates nodes on which no hax runs.
    pub(crate) fn cold(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|nth| format!("n{nth}")).collect();
        let agents: Vec<&str> = names.iter().map(String::as_str).collect();
        Self {
            now: Instant::from_micros(1_000_000),
            consul: Consul::cluster(&agents),
            consul_next: Next::Wait,
            nodes: names.iter().map(|name| Node::new(name)).collect(),
            asked: BTreeMap::new(),
            requests: 0,
            due: Vec::new(),
            commits: Vec::new(),
            generations: 0,
            programs: Programs::new(),
            answers: BTreeMap::new(),
            hold_programs: false,
        }
    }

    /// Starts hax on a node.
    pub(crate) fn start(&mut self, nth: usize) {
        self.generations += 1;
        let node = &mut self.nodes[nth];
        node.services = Some(Services::new(Config {
            node: NodeName::new(&node.name).unwrap(),
            labels: node.labels.clone(),
            program: "/usr/bin/hax".into(),
            generation: 1_000 + self.generations,
            ttl: Duration::from_secs(1),
            hold: Duration::from_secs(1),
            instances: Some(InstanceSocket {
                path: "/run/hax/instance/socket".into(),
                key: CapabilityKey(u128::from(self.generations).to_le_bytes()),
            }),
            programs: self.programs.clone(),
            machine: 0,
            seed: self.generations,
        }));
        node.life += 1;
        node.helpers.clear();
        self.hand(nth, Input::Tick);
        let events = self.nodes[nth].keeper.connect(self.now);
        self.tell(nth, events);
    }

    /// Kills hax on a node. Its agent, its keeper and its processes live.
    pub(crate) fn kill(&mut self, nth: usize) {
        let node = &mut self.nodes[nth];
        (node.services, node.next) = (None, Next::Wait);
        node.life += 1;
        let now = self.now;
        node.keeper.disconnect(now);
        let gone = self.asked.iter().filter(|(_, (of, ..))| *of == nth).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.asked.remove(&id);
            self.consul.cancel(id);
        }
        self.due.retain(|(_, of, ..)| *of != nth);
    }

    pub(crate) fn restart(&mut self, nth: usize) {
        self.kill(nth);
        self.start(nth);
    }

    /// Restarts a node's keeper, whose processes live.
    pub(crate) fn restart_keeper(&mut self, nth: usize) {
        let now = self.now;
        let down = self.nodes[nth].keeper.disconnect(now);
        self.tell(nth, down);
        self.nodes[nth].keeper.restart(now);
        let up = self.nodes[nth].keeper.connect(now);
        self.tell(nth, up);
    }

    /// Reboots a node. hax is not started.
    pub(crate) fn reboot(&mut self, nth: usize) {
        self.kill(nth);
        let node = &mut self.nodes[nth];
        node.boots += 1;
        let boot = format!("boot-{}", node.boots);
        node.keeper.reboot(&boot);
    }

    pub(crate) fn set_label(&mut self, nth: usize, name: &str, value: &str) {
        self.nodes[nth].labels.insert(name.into(), value.into());
    }

    // ---- processes --------------------------------------------------------------------------------

    /// Ends the process of a type's instance.
    pub(crate) fn end(&mut self, nth: usize, kind: &str, status: Status) {
        let id = self.living(nth, kind).expect("it lives");
        let events = self.nodes[nth].keeper.end(self.now, &id, status);
        self.tell(nth, events);
    }

    pub(crate) fn kill_9(&mut self, nth: usize, kind: &str) {
        self.end(nth, kind, Status::Signal(9));
    }

    fn tell(&mut self, nth: usize, events: Vec<Event>) {
        for event in events {
            self.later(nth, KEEPER_LAG, Input::Keeper(event));
        }
    }

    // ---- the course of events ---------------------------------------------------------------------

    fn clocks(&self) -> Now {
        let wall = WallClock(1_795_243_244_000_000_000 + self.now.as_micros() * 1_000);
        Now { mono: self.now, wall }
    }

    fn later(&mut self, nth: usize, after: Duration, input: Input) {
        let life = self.nodes[nth].life;
        self.due.push((self.now.after(after), nth, life, input));
    }

    pub(crate) fn hand(&mut self, nth: usize, input: Input) {
        let (now, mut out) = (self.clocks(), Vec::new());
        let node = &mut self.nodes[nth];
        let Some(services) = &mut node.services else { return };
        node.next = services.handle(now, input, &mut out);
        if let Next::WaitUntil { at, why } = node.next {
            assert!(at > now.mono, "{why} is overdue");
        }
        if node.next == Next::Exit {
            (node.services, node.next) = (None, Next::Wait);
        }
        for output in out {
            self.carry_out(nth, output);
        }
    }

    fn carry_out(&mut self, nth: usize, output: Output<ServicesFact>) {
        match output {
            Output::Consul(port::Command::Call(call)) => self.call_consul(nth, *call),
            Output::Consul(port::Command::Cancel(id)) => self.cancel(nth, id),
            Output::Keeper(command) => {
                let events = self.nodes[nth].keeper.ask(self.now, *command);
                self.tell(nth, events);
            }
            Output::Exec(exec::Command::Spawn(spawn)) if spawn.argv[0].contains("/rules/") => {
                self.run_program(nth, *spawn);
            }
            Output::Exec(exec::Command::Spawn(spawn)) => {
                let id = spawn.id;
                let argv: Vec<String> = spawn.argv.iter().map(|word| (&**word).into()).collect();
                let (code, said) = self.nodes[nth].act(&argv);
                self.nodes[nth].helpers.insert(id, argv);
                let (cause, unheard) = (exec::Cause::Itself, exec::Unheard::default());
                let status = Status::Code(code);
                self.later(nth, KEEPER_LAG, Input::Exec(exec::Event::Started { id }));
                for (stream, text) in said {
                    let said = exec::Event::Output { id, stream, bytes: text.into() };
                    self.later(nth, KEEPER_LAG * 2, Input::Exec(said));
                }
                let exited = exec::Event::Exited { id, status, cause, unheard };
                self.later(nth, KEEPER_LAG * 2, Input::Exec(exited));
            }
            Output::Exec(exec::Command::Kill { .. }) => {}
            Output::Http(response) => {
                let old = self.nodes[nth].responses.insert(response.id.0, *response);
                assert_eq!(old, None, "a request is answered twice");
            }
            Output::HttpStream(stream::Command::Begin(begin)) => {
                self.nodes[nth].streams.insert(begin.id.0, String::new());
            }
            Output::HttpStream(stream::Command::Chunk { id, bytes }) => {
                let text = self.nodes[nth].streams.get_mut(&id.0).unwrap();
                text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Output::HttpStream(stream::Command::End { .. }) => {}
            Output::Fact(fact) => self.nodes[nth].facts.push((self.now, fact)),
            Output::Net(_)
            | Output::Spiel(_)
            | Output::State(_)
            | Output::File(_)
            | Output::Fifo(_) => {
                panic!("{output:?}")
            }
        }
    }

    /// Runs a rule program.
    fn run_program(&mut self, nth: usize, spawn: exec::Spawn) {
        let id = spawn.id;
        let name = spawn.argv[0].rsplit('/').next().unwrap().to_owned();
        self.nodes[nth].spawned.push(spawn);
        if self.hold_programs {
            return;
        }
        let (code, answer) = self.answers.get(&name).cloned().unwrap_or_default();
        if !answer.is_empty() {
            let (stream, bytes) = (exec::Stream::Stdout, answer.into());
            let said = exec::Event::Output { id, stream, bytes };
            self.later(nth, KEEPER_LAG, Input::Exec(said));
        }
        let (status, cause) = (Status::Code(code), exec::Cause::Itself);
        let exited = exec::Event::Exited { id, status, cause, unheard: exec::Unheard::default() };
        self.later(nth, KEEPER_LAG * 2, Input::Exec(exited));
    }

    // ---- Consul -----------------------------------------------------------------------------------

    fn call_consul(&mut self, nth: usize, call: port::Call) {
        let reply = Reply { id: call.id, result: Err(Unanswered::TimedOut) };
        self.later(nth, call.within, Input::Consul(reply));
        if self.nodes[nth].is_cut {
            return;
        }
        self.requests += 1;
        let body = match &*call.target {
            "/v1/txn" => String::from_utf8(call.body.to_vec()).unwrap(),
            _ => String::new(),
        };
        self.asked.insert(self.requests, (nth, self.nodes[nth].life, call.id, body));
        let method = match call.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let mut request = consul::Request::new(self.requests, method, &call.target, call.body);
        request.agent = nth;
        self.at_consul(|consul, now, out| consul.handle(now, request, out));
    }

    fn cancel(&mut self, nth: usize, call: CallId) {
        let found = self.asked.iter().find(|(_, (of, _, id, _))| (*of, *id) == (nth, call));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.asked.remove(&id);
            self.consul.cancel(id);
        }
    }

    /// Applies an operation to Consul, and delivers its results.
    pub(crate) fn at_consul(
        &mut self,
        work: impl FnOnce(&mut Consul, Now, &mut Vec<consul::Output>) -> Next,
    ) {
        let (now, mut out) = (self.clocks(), Vec::new());
        self.consul_next = work(&mut self.consul, now, &mut out);
        let mut outputs = VecDeque::from(out);
        while let Some(output) = outputs.pop_front() {
            match output {
                consul::Output::Response(response) => self.respond(response),
                consul::Output::Retry(request) => {
                    let mut out = Vec::new();
                    self.consul_next = self.consul.handle(now, request, &mut out);
                    outputs.extend(out);
                }
                consul::Output::Post(_) => {}
            }
        }
    }

    fn respond(&mut self, response: consul::Response) {
        let Some((nth, _, id, body)) = self.asked.remove(&response.id) else { return };
        let writes = ["\"cas\"", "\"delete\""];
        if response.status == 200 && writes.iter().any(|verb| body.contains(verb)) {
            self.commits.push((self.now, nth, body));
        }
        if self.nodes[nth].is_cut {
            return;
        }
        let index = response.index().unwrap_or(0);
        let answer = Answer { status: response.status, index, body: response.body };
        self.later(nth, LAG, Input::Consul(Reply { id, result: Ok(answer) }));
    }

    // ---- time -------------------------------------------------------------------------------------

    /// Lets `ms` milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now.after(Duration::from_millis(ms));
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until a condition holds, but at most `ms` milliseconds. Returns the time that has
    /// passed.
    pub(crate) fn until(&mut self, ms: u64, is_so: impl Fn(&Self) -> bool) -> Duration {
        let (began, end) = (self.now, self.now.after(Duration::from_millis(ms)));
        while !is_so(self) {
            if !self.step(end) {
                let facts: Vec<String> = self
                    .nodes
                    .iter()
                    .flat_map(|node| {
                        node.facts.iter().map(|(at, said)| format!("{at} {}: {said}", node.name))
                    })
                    .collect();
                panic!("not within {ms} ms\n{}", facts.join("\n"));
            }
        }
        self.now.since(began)
    }

    /// Lets the next thing happen. Returns whether there was one before `end`.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        let due = |next: &Next| match next {
            Next::WaitUntil { at, .. } => *at,
            Next::Wait | Next::Exit => Instant::MAX,
        };
        let ticks = self.nodes.iter().map(|node| due(&node.next).min(due(&node.keeper.next)));
        let first = ticks.min().unwrap_or(Instant::MAX);
        let later = self.due.iter().enumerate().map(|(at, due)| (due.0, at)).min();
        let at = first.min(due(&self.consul_next)).min(later.map_or(Instant::MAX, |due| due.0));
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        let now = self.now;
        if due(&self.consul_next) <= now {
            self.at_consul(Consul::tick);
        } else if let Some((_, place)) = later.filter(|(at, _)| *at <= now) {
            let (_, nth, life, input) = self.due.remove(place);
            if life == self.nodes[nth].life {
                self.happen(nth, input);
            }
        } else if let Some(nth) = self.nodes.iter().position(|node| due(&node.keeper.next) <= now) {
            let events = self.nodes[nth].keeper.tick(now);
            self.tell(nth, events);
        } else if let Some(nth) = self.nodes.iter().position(|node| due(&node.next) <= now) {
            self.hand(nth, Input::Tick);
        }
        true
    }

    fn happen(&mut self, nth: usize, input: Input) {
        if let Input::Consul(reply) = &input {
            let id = reply.id;
            let is_about = |input: &Input| matches!(input, Input::Consul(reply) if reply.id == id);
            self.due.retain(|(_, of, _, due)| *of != nth || !is_about(due));
            self.cancel(nth, id);
        }
        self.hand(nth, input);
    }
}

impl Node {
    /// Runs a helper program. Returns its exit code and its outputs.
    fn act(&mut self, argv: &[String]) -> (i32, Vec<(exec::Stream, String)>) {
        let (action, resource) = match &*argv[0] {
            path if path.starts_with("/usr/lib/ocf/") => (argv[1].clone(), path.to_owned()),
            "/usr/bin/systemctl" => (argv[1].clone(), argv.last().unwrap().clone()),
            _ => return (self.probes.get(argv.last().unwrap()).copied().unwrap_or(0), Vec::new()),
        };
        self.actions.push(action.clone());
        if let Some(code) = self.codes.get(&action) {
            let said = "ocf-exit-reason:it is broken\n".to_owned();
            return (*code, vec![(exec::Stream::Stderr, said)]);
        }
        let runs = self.resources.contains(&resource);
        match &*action {
            "start" => drop(self.resources.insert(resource)),
            "stop" => drop(self.resources.remove(&resource)),
            "show" => {
                let (state, pid) = if runs { ("active", 77) } else { ("inactive", 0) };
                let restart = if self.is_restarting { "always" } else { "no" };
                let said = format!(
                    "ActiveState={state}\nMainPID={pid}\nRestart={restart}\nResult=success\nLoadState=loaded\n"
                );
                return (0, vec![(exec::Stream::Stdout, said)]);
            }
            _ if !runs => return (7, Vec::new()),
            _ => {}
        }
        (0, Vec::new())
    }

    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            services: None,
            life: 0,
            next: Next::Wait,
            keeper: KeeperHost::new("boot-0"),
            facts: Vec::new(),
            responses: BTreeMap::new(),
            streams: BTreeMap::new(),
            clients: 0,
            helpers: BTreeMap::new(),
            spawned: Vec::new(),
            probes: BTreeMap::new(),
            resources: BTreeSet::new(),
            codes: BTreeMap::new(),
            actions: Vec::new(),
            is_restarting: false,
            is_cut: false,
            boots: 0,
        }
    }
}
