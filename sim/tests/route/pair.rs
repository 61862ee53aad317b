//! A pair of routers. Each has an agent of its own, and both write one route table.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::{CallId, ExecId, FifoId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::consul::port::{self, Answer, Method, Reply, Unanswered};
use hax_core::exec::{self, Cause, Status, Stream, Unheard};
use hax_core::fifo;
use hax_core::file;
use hax_core::machine::{Input, Machine as _, Output};
use hax_core::route::decide::Response;
use hax_core::route::fact::{Fact, FactKind};
use hax_core::route::job::{Done, Job, Outcome};
use hax_core::route::request;
use hax_core::route::scripts::{self, Action};
use hax_core::route::{Config, ConsulConfig, Rules, Server};
use hax_sim::consul::{self, Consul};

use crate::due::Due;

/// The names of the routers.
pub(crate) const NAMES: [&str; 2] = ["router-a", "router-b"];

/// The next hops: the addresses of the routers.
pub(crate) const HOPS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

/// The latency of an answer of Consul.
const LAG: Duration = Duration::from_micros(500);

/// The duration of each phase of a handler: its start, its write, and its end.
const STEP: Duration = Duration::from_millis(2);

/// A pair of routers with their surroundings.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) consul: Consul,
    consul_next: Next,
    pub(crate) routers: [Router; 2],
    /// The next hop of each route.
    pub(crate) table: BTreeMap<Box<str>, Box<str>>,
    /// The writes to the table: the time and the router.
    pub(crate) writes: Vec<(Instant, usize)>,
    asked: BTreeMap<u64, (usize, u32, CallId)>,
    requests: u64,
    due: Vec<(Instant, usize, u32, Due)>,
}

/// One router.
pub(crate) struct Router {
    config: Config,
    server: Option<Server>,
    /// The number of its life.
    life: u32,
    next: Next,
    files: BTreeMap<Box<str>, Bytes>,
    pub(crate) facts: Vec<(Instant, Fact)>,
    answers: BTreeMap<FifoId, request::Answer>,
    clients: u64,
    jobs: BTreeMap<ExecId, Job>,
    /// The router is frozen.
    pub(crate) is_frozen: bool,
    /// The router gets no answer from its agent.
    pub(crate) is_disconnected: bool,
    /// The router's agent answers, and has no servers.
    pub(crate) is_without_servers: bool,
    /// The additional time until its handlers write.
    pub(crate) slow: Duration,
    /// The number of its calls to Consul.
    pub(crate) calls: usize,
}

impl Pair {
    /// Creates two serving routers, with these changes of their settings.
    pub(crate) fn with(change: impl Fn(&mut Config)) -> Self {
        let router = |nth: usize| {
            let mut config = Config {
                dir: "/dir".into(),
                program: "/usr/bin/hax".into(),
                env: Box::default(),
                default_provider: None,
                consul: Some(ConsulConfig {
                    name: NAMES[nth].into(),
                    hold: Duration::from_secs(3),
                    revert_after: Duration::from_secs(60),
                    preempt: true,
                    peer: None,
                }),
                rules: Rules::default(),
                sweep: Duration::from_secs(300),
                seed: nth as u64,
            };
            change(&mut config);
            Router::new(config)
        };
        let mut pair = Self {
            now: Instant::from_micros(1_000_000),
            consul: Consul::cluster(&NAMES),
            consul_next: Next::Wait,
            routers: [router(0), router(1)],
            table: BTreeMap::new(),
            writes: Vec::new(),
            asked: BTreeMap::new(),
            requests: 0,
            due: Vec::new(),
        };
        [0, 1].into_iter().for_each(|nth| pair.start(nth));
        pair
    }

    /// The same with one redundancy node of a group on each router. The primary is the holder.
    pub(crate) fn group(change: impl Fn(&mut Config)) -> Self {
        let mut pair = Self::with(change);
        pair.create(0, "-m primary -group edge");
        pair.run(1_000);
        pair.create(1, "-group edge");
        pair.run(1_000);
        assert_eq!((pair.leads(), pair.holder()), (Some(HOPS[0]), Some(0)));
        pair
    }

    /// Creates a redundancy node of the same route on a router.
    pub(crate) fn create(&mut self, nth: usize, more: &str) {
        let hop = HOPS[nth];
        let line = format!("create_node -i 7 -p linux -t 100 -r 192.0.2.0/24 -n {hop} {more}");
        assert_eq!(self.ask_and_wait(nth, &line, 100).unwrap().exit, 0);
    }

    pub(crate) fn start(&mut self, nth: usize) {
        let router = &mut self.routers[nth];
        router.server = Some(Server::new(router.config.clone()));
        router.life += 1;
        router.jobs.clear();
        self.hand(nth, Input::Tick);
    }

    /// Kills a router with all its pending actions. Its agent lives.
    pub(crate) fn kill(&mut self, nth: usize) {
        let router = &mut self.routers[nth];
        (router.server, router.next) = (None, Next::Wait);
        router.life += 1;
        let gone: Vec<u64> =
            self.asked.iter().filter(|(_, (of, ..))| *of == nth).map(|(id, _)| *id).collect();
        for id in gone {
            self.asked.remove(&id);
            self.consul.cancel(id);
        }
        self.due.retain(|(_, of, ..)| *of != nth);
    }

    pub(crate) fn stop(&mut self, nth: usize) {
        self.hand(nth, Input::Stop);
    }

    /// Returns whether a router still serves.
    pub(crate) fn is_up(&self, nth: usize) -> bool {
        self.routers[nth].server.is_some()
    }

    // ---- observations -----------------------------------------------------------------------------

    /// Returns the next hop of the route.
    pub(crate) fn leads(&self) -> Option<&str> {
        self.table.get("192.0.2.0/24").map(|hop| &**hop)
    }

    /// Returns the holder of the lease according to Consul.
    pub(crate) fn holder(&self) -> Option<usize> {
        let held = self.consul.entry("ha/route/edge").filter(|held| !held.session.is_empty())?;
        let value = String::from_utf8_lossy(held.value);
        NAMES.iter().position(|name| value.contains(name))
    }

    pub(crate) fn saw(&self, nth: usize, kind: FactKind) -> usize {
        self.routers[nth].facts.iter().filter(|(_, fact)| fact.kind() == kind).count()
    }

    // ---- clients ----------------------------------------------------------------------------------

    pub(crate) fn ask(&mut self, nth: usize, line: &str) -> FifoId {
        let mut words = line.split(' ').filter(|word| !word.is_empty()).map(String::from);
        let script = scripts::named(&words.next().unwrap()).unwrap();
        let Ok(Action::Ask(request)) = script.parse(&words.collect::<Vec<_>>()) else {
            panic!("{line}")
        };
        let router = &mut self.routers[nth];
        router.clients += 1;
        let id = FifoId(router.clients);
        let body = request.encode().into_bytes().into();
        self.hand(nth, Input::Fifo(fifo::Request { id, body }));
        id
    }

    pub(crate) fn answer(&self, nth: usize, client: FifoId) -> Option<&request::Answer> {
        self.routers[nth].answers.get(&client)
    }

    /// Sends a request and lets `ms` milliseconds pass. Returns the answer, if there is one by then.
    pub(crate) fn ask_and_wait(
        &mut self,
        nth: usize,
        line: &str,
        ms: u64,
    ) -> Option<request::Answer> {
        let client = self.ask(nth, line);
        self.run(ms);
        self.answer(nth, client).cloned()
    }

    // ---- the course of events ---------------------------------------------------------------------

    fn clocks(&self) -> Now {
        let wall = WallClock(1_795_243_244_000_000_000 + self.now.as_micros() * 1_000);
        Now { mono: self.now, wall }
    }

    fn later(&mut self, nth: usize, after: Duration, due: Due) {
        let life = self.routers[nth].life;
        self.due.push((self.now.after(after), nth, life, due));
    }

    fn hand(&mut self, nth: usize, input: Input) {
        let (now, mut out) = (self.clocks(), Vec::new());
        let router = &mut self.routers[nth];
        let Some(server) = &mut router.server else { return };
        router.next = server.handle(now, input, &mut out);
        if router.next == Next::Exit {
            (router.server, router.next) = (None, Next::Wait);
        }
        for output in out {
            match output {
                Output::Consul(port::Command::Call(call)) => self.call(nth, *call),
                Output::Consul(port::Command::Cancel(id)) => self.cancel(nth, id),
                Output::File(command) => self.file(nth, command),
                Output::Exec(command) => self.exec(nth, command),
                Output::Fifo(fifo::Response { id, body }) => {
                    let answer = serde_json::from_slice(&body).unwrap();
                    self.routers[nth].answers.insert(id, answer);
                }
                Output::Fact(fact) => self.routers[nth].facts.push((self.now, fact)),
                Output::Net(_)
                | Output::Spiel(_)
                | Output::Http(_)
                | Output::HttpStream(_)
                | Output::State(_)
                | Output::Keeper(_) => panic!("{output:?}"),
            }
        }
    }

    fn file(&mut self, nth: usize, command: file::Command) {
        let (id, files) = (command.id(), &mut self.routers[nth].files);
        let event = match command {
            file::Command::Write(write) => {
                files.insert(write.path, write.content);
                file::Event::Done { id }
            }
            file::Command::Read { path, .. } => match files.get(&path) {
                Some(content) => file::Event::Content { id, content: content.clone() },
                None => file::Event::Missing { id },
            },
            file::Command::Remove { path, .. } => {
                files.remove(&path);
                file::Event::Done { id }
            }
        };
        self.later(nth, Duration::ZERO, Due::Input(Input::File(event)));
    }

    // ---- handlers ---------------------------------------------------------------------------------

    fn exec(&mut self, nth: usize, command: exec::Command) {
        match command {
            exec::Command::Spawn(spawn) => {
                let id = spawn.id;
                self.routers[nth].jobs.insert(id, serde_json::from_slice(&spawn.stdin).unwrap());
                let slow = self.routers[nth].slow;
                self.later(nth, STEP, Due::Input(Input::Exec(exec::Event::Started { id })));
                self.later(nth, 2 * STEP + slow, Due::Write(id));
                let (cause, status) = (Cause::Deadline, Status::Signal(15));
                let unheard = Unheard::default();
                let exited = exec::Event::Exited { id, status, cause, unheard };
                self.later(nth, STEP + spawn.deadline, Due::Input(Input::Exec(exited)));
            }
            exec::Command::Kill { id } => {
                let (cause, status) = (Cause::Killed, Status::Signal(15));
                let unheard = Unheard::default();
                self.routers[nth].jobs.remove(&id);
                let exited = exec::Event::Exited { id, status, cause, unheard };
                self.later(nth, STEP, Due::Input(Input::Exec(exited)));
            }
        }
    }

    /// Performs the write of a handler.
    fn write(&mut self, nth: usize, id: ExecId) {
        let Some(job) = self.routers[nth].jobs.get(&id) else { return };
        let (route, hop) = (job.parameters["route"].clone(), job.parameters["nextHop"].clone());
        let found = self.table.get(&route) == Some(&hop);
        let outcome = match job.response {
            Response::WriteBack => Outcome::WrittenBack,
            Response::UpdateIfDifferent if found => Outcome::Unchanged,
            Response::Update | Response::UpdateIfDifferent | Response::Nothing => {
                self.table.insert(route, hop);
                Outcome::Updated
            }
        };
        if outcome == Outcome::Updated {
            self.writes.push((self.now, nth));
        }
        let bytes = serde_json::to_vec(&Done::new(outcome, "done")).unwrap().into();
        let said = exec::Event::Output { id, stream: Stream::Stdout, bytes };
        self.later(nth, STEP, Due::Input(Input::Exec(said)));
        self.later(nth, STEP, Due::End(id));
    }

    // ---- Consul -----------------------------------------------------------------------------------

    fn call(&mut self, nth: usize, call: port::Call) {
        self.routers[nth].calls += 1;
        let reply = Reply { id: call.id, result: Err(Unanswered::TimedOut) };
        self.later(nth, call.within, Due::Input(Input::Consul(reply)));
        if self.routers[nth].is_disconnected {
            return;
        }
        if self.routers[nth].is_without_servers && !call.target.starts_with("/v1/agent/") {
            let body = Bytes::from_static(b"No cluster leader");
            let result = Ok(Answer { status: 500, index: 0, body });
            return self.later(nth, LAG, Due::Input(Input::Consul(Reply { id: call.id, result })));
        }
        self.requests += 1;
        self.asked.insert(self.requests, (nth, self.routers[nth].life, call.id));
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
        let found = self.asked.iter().find(|(_, (of, _, id))| (*of, *id) == (nth, call));
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
        let Some((nth, _, id)) = self.asked.remove(&response.id) else { return };
        if self.routers[nth].is_disconnected {
            return;
        }
        let index = response.index().unwrap_or(0);
        let answer = Answer { status: response.status, index, body: response.body };
        self.later(nth, LAG, Due::Input(Input::Consul(Reply { id, result: Ok(answer) })));
    }

    /// Sends a request of another writer to Consul.
    pub(crate) fn tell_consul(&mut self, method: &str, target: &str, body: &str) {
        self.requests += 1;
        let request = consul::Request::new(self.requests, method, target, body.to_owned());
        self.at_consul(|consul, now, out| consul.handle(now, request, out));
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
            assert!(self.step(end), "within {ms} ms");
        }
        self.now.since(began)
    }

    fn step(&mut self, end: Instant) -> bool {
        let due = |next: &Next| match next {
            Next::WaitUntil { at, .. } => *at,
            Next::Wait | Next::Exit => Instant::MAX,
        };
        let awake = |nth: usize| !self.routers[nth].is_frozen;
        let ticks = (0..2).filter(|nth| awake(*nth)).map(|nth| due(&self.routers[nth].next));
        let first = ticks.min().unwrap_or(Instant::MAX);
        let dues = self.due.iter().enumerate().filter(|(_, (_, nth, ..))| awake(*nth));
        let later = dues.map(|(at, due)| (due.0, at)).min();
        let at = first.min(due(&self.consul_next)).min(later.map_or(Instant::MAX, |due| due.0));
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        if due(&self.consul_next) <= self.now {
            self.at_consul(Consul::tick);
        } else if let Some((_, place)) = later.filter(|(at, _)| *at <= self.now) {
            let (_, nth, life, due) = self.due.remove(place);
            if life == self.routers[nth].life {
                self.happen(nth, due);
            }
        } else if let Some(nth) = (0..2).find(|nth| awake_and_due(&self.routers[*nth], self.now)) {
            self.hand(nth, Input::Tick);
        }
        true
    }

    fn happen(&mut self, nth: usize, due: Due) {
        match due {
            // A handler that has ended does not end again.
            Due::Input(Input::Exec(event @ exec::Event::Exited { id, .. })) => {
                self.routers[nth].jobs.remove(&id);
                self.due.retain(|(_, of, _, due)| *of != nth || !due.is_of(id));
                self.hand(nth, Input::Exec(event));
            }
            Due::Input(Input::Consul(reply)) => {
                let id = reply.id;
                self.due.retain(|(_, of, _, due)| *of != nth || !due.is_about(id));
                self.cancel(nth, id);
                self.hand(nth, Input::Consul(reply));
            }
            Due::Input(input) => self.hand(nth, input),
            Due::Write(id) => self.write(nth, id),
            Due::End(id) => {
                let (status, cause, unheard) = (Status::Code(0), Cause::Itself, Unheard::default());
                let exited = exec::Event::Exited { id, status, cause, unheard };
                self.happen(nth, Due::Input(Input::Exec(exited)));
            }
        }
    }
}

fn awake_and_due(router: &Router, now: Instant) -> bool {
    let is_due = matches!(router.next, Next::WaitUntil { at, .. } if at <= now);
    !router.is_frozen && is_due
}

impl Router {
    fn new(config: Config) -> Self {
        Self {
            config,
            server: None,
            life: 0,
            next: Next::Wait,
            files: BTreeMap::new(),
            facts: Vec::new(),
            answers: BTreeMap::new(),
            clients: 0,
            jobs: BTreeMap::new(),
            is_frozen: false,
            is_disconnected: false,
            is_without_servers: false,
            slow: Duration::ZERO,
            calls: 0,
        }
    }
}
