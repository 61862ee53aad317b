//! Redundancy nodes and their events: which router of a pair is the next hop of a route.
//!
//! The [`Server`] is a machine. Its *node manager* keeps the redundancy nodes and their file, its *event manager*
//! responds to events on them with event handlers. Clients are the scripts, over named pipes, and whoever reads
//! its state over HTTP.

mod context;
pub mod decide;
mod events;
pub mod fact;
mod group;
mod groups;
pub mod job;
pub mod kv;
pub mod node;
mod nodes;
pub mod parameters;
mod peer;
pub mod provider;
pub mod request;
pub mod scripts;
pub mod stored;
pub mod table;
mod view;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::fact::Metric;
use crate::base::id::{CallId, FifoId};
use crate::base::time::{Next, Now};
use crate::consul::port::Reply;
use crate::fifo;
use crate::http::answer;
use crate::http::port;
use crate::http::router::{self, Route, get};
use crate::machine::{ExitReason, Input, Kept, Limits, Machine, Output, Status};
use context::{Cx, RouteKinds, Timer};
use decide::{Event, Trigger, taking};
use events::EventManager;
use fact::Fact;
use groups::Groups;
use node::{Index, Mode};
use nodes::{NodeManager, Progress};
use peer::Peer;
use provider::Provider;
use request::{Answer, Request, exit};

pub use group::Config as ConsulConfig;
pub use groups::{GROUPS_MAX, Rules, WithoutConsul};

/// How long a stop waits for the event handlers that run.
const DRAIN: Duration = Duration::from_secs(5);

/// How long it waits, once all is done, for Consul to take back the leases.
const LEAVE: Duration = Duration::from_secs(1);

/// How many requests may come before the file is read.
const EARLY_MAX: usize = 1024;

/// What the server is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's folder: an absolute path.
    pub dir: Box<str>,
    /// The program that is run as event handler: an absolute path.
    pub program: Box<str>,
    /// Variables that event handlers have.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// Whose a redundancy node is that is created without a provider.
    pub default_provider: Option<Provider>,
    /// How it works with Consul; nothing is asked of that without this.
    pub consul: Option<ConsulConfig>,
    /// What it does without.
    pub rules: Rules,
    /// How often it sees to it that routes lead where they should; zero: never.
    pub sweep: Duration,
    /// For jitter.
    pub seed: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Server {
    kept: Kept<RouteKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    default_provider: Option<Provider>,
    nodes: NodeManager,
    events: EventManager,
    groups: Groups,
    peer: Option<Peer>,
    sweep: Duration,
    phase: Phase,
    /// The host has told it to end.
    is_told_to_stop: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing has been done.
    New,
    /// The file is being read; who comes meanwhile waits.
    Loading(VecDeque<fifo::Request>),
    Serving,
    /// A client has asked to delete all state; all who did are answered then.
    Erasing(Vec<FifoId>),
    /// What was begun is finished.
    Stopping,
    /// The leases are given up.
    Leaving,
    /// The file cannot be used.
    Unusable,
    /// All is done.
    Over,
}

type Handler = fn(&State) -> answer::Answer;

const ROUTES: [Route<Handler>; 3] = [
    get("/v1/route", |state| {
        answer::Answer::new(200, view::all(state.nodes.held(), &state.events, &state.groups))
    }),
    get("/healthz", |_| answer::Answer::new(200, r#"{"alive": true}"#)),
    get("/readyz", |state| {
        let is_ready = matches!(state.phase, Phase::Serving);
        let status = if is_ready { 200 } else { 503 };
        answer::Answer::new(status, format!(r#"{{"ready": {is_ready}}}"#))
    }),
];

impl Server {
    /// A server that has read nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: 1 << 20 };
        let Config { seed, sweep, .. } = config;
        let peer = config.consul.as_ref().and_then(|consul| {
            let service = consul.peer.as_deref()?;
            Some(Peer::new(service, consul.revert_after, seed))
        });
        let state = State {
            default_provider: config.default_provider,
            nodes: NodeManager::new(&config.dir),
            events: EventManager::new(config.program, config.env, sweep),
            groups: Groups::new(config.consul, config.rules, seed),
            peer,
            sweep,
            phase: Phase::New,
            is_told_to_stop: false,
        };
        Self { kept: Kept::new(CallId::first(0), seed, limits, ()), state }
    }

    /// Whether it has ended because its file cannot be used.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        matches!(self.state.phase, Phase::Unusable)
    }
}

impl State {
    // ---- requests ---------------------------------------------------------------------------------

    fn on_request(&mut self, cx: &mut Cx<'_>, request: fifo::Request) {
        let client = request.id;
        match &mut self.phase {
            Phase::Serving => self.serve(cx, &request),
            Phase::Loading(early) if early.len() < EARLY_MAX => early.push_back(request),
            Phase::Erasing(clients) if is_stop(&request) => clients.push(client),
            Phase::New
            | Phase::Loading(_)
            | Phase::Erasing(_)
            | Phase::Stopping
            | Phase::Leaving
            | Phase::Unusable
            | Phase::Over => {
                let parsed = serde_json::from_slice(&request.body);
                let failure = parsed.map_or(exit::SERVER, |of: Request| of.failure());
                cx.answer(client, &Answer::failed(failure, "the server stops"));
            }
        }
    }

    fn serve(&mut self, cx: &mut Cx<'_>, request: &fifo::Request) {
        let client = request.id;
        let request: Request = match serde_json::from_slice(&request.body) {
            Ok(request) => request,
            Err(why) => {
                let text = format!("the request is none: {why}");
                return cx.answer(client, &Answer::failed(exit::USAGE, text));
            }
        };
        let failure = request.failure();
        let (nodes, events) = (&mut self.nodes, &mut self.events);
        match request {
            Request::CreateNode { index, set } => {
                let default = self.default_provider;
                let create = |table: &mut table::Table| table.create(index, &set, default);
                nodes.change(cx, (client, index, failure), create);
            }
            Request::SetParams { index, set } => {
                nodes.change(cx, (client, index, failure), |table| table.set(index, &set));
            }
            Request::ClearParams { index, clear } => {
                nodes.change(cx, (client, index, failure), |table| table.clear(index, &clear));
            }
            Request::DeleteNode { index } => {
                events.forget(index);
                nodes.change(cx, (client, index, failure), |table| Ok(table.delete(index)));
            }
            Request::ShowNode { index } => cx.answer(client, &self.show(index)),
            Request::NodeEvent { nodes: meant, event, wait } => {
                events.on_event(cx, nodes.held(), (client, wait), (meant, event));
            }
            Request::Ping => cx.answer(client, &Answer::ok("the server answers")),
            Request::Status => {
                let text = view::all(nodes.held(), events, &self.groups);
                cx.answer(client, &Answer::ok(text));
            }
            Request::Stop => {
                self.phase = Phase::Erasing([client].into());
                self.events.end(cx);
                self.nodes.erase(cx);
            }
        }
    }

    fn show(&self, index: Option<Index>) -> Answer {
        match view::lines(self.nodes.held(), index, &self.events) {
            Some(text) => Answer::ok(text),
            None => {
                let index = index.map_or(0, Index::number);
                Answer::failed(exit::NODE, format!("there is no node {index}"))
            }
        }
    }

    fn on_http(&self, cx: &mut Cx<'_>, request: &port::Request) {
        let found = router::find(&ROUTES, &request.method, &request.target);
        cx.http(request.id, found.map_or_else(|answer| answer, |handler| handler(self)));
    }

    // ---- the file ---------------------------------------------------------------------------------

    fn on_progress(&mut self, cx: &mut Cx<'_>, progress: Progress) {
        let phase = core::mem::replace(&mut self.phase, Phase::Serving);
        match (progress, phase) {
            (Progress::Loaded, Phase::Loading(early)) => {
                self.begin(cx);
                early.into_iter().for_each(|request| self.on_request(cx, request));
            }
            (Progress::Unusable, phase) => {
                if let Phase::Loading(early) = phase {
                    let answer = Answer::failed(exit::SERVER, "the server cannot use its file");
                    early.iter().for_each(|request| cx.answer(request.id, &answer));
                }
                self.phase = Phase::Unusable;
            }
            (Progress::Erased, Phase::Erasing(clients)) => {
                let answer = Answer::ok("the server has deleted its state and stops");
                clients.into_iter().for_each(|client| cx.answer(client, &answer));
                self.phase = Phase::Stopping;
            }
            (Progress::NotErased(why), Phase::Erasing(clients)) => {
                let answer = Answer::failed(exit::SERVER, format!("not stopped: {why}"));
                clients.into_iter().for_each(|client| cx.answer(client, &answer));
                if self.is_told_to_stop {
                    self.phase = Phase::Stopping;
                }
            }
            (_, phase) => self.phase = phase,
        }
    }

    /// The redundancy nodes are there: what is done with them unasked begins.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        if let Some(peer) = &mut self.peer {
            peer.begin(cx);
        }
        if !self.sweep.is_zero() {
            cx.arm(Timer::Sweep, self.sweep);
        }
    }

    // ---- Consul -----------------------------------------------------------------------------------

    fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        if let Some((group, change)) = self.groups.on_reply(cx, reply) {
            return self.on_group(cx, &group, change);
        }
        let change = self.peer.as_mut().and_then(|peer| peer.on_reply(cx, reply));
        self.on_peer(cx, change);
    }

    /// Something of a group has changed.
    fn on_group(&mut self, cx: &mut Cx<'_>, group: &str, change: group::Change) {
        let trigger = match change {
            group::Change::Gained => Trigger::Lease,
            group::Change::ReadBack => Trigger::Sweep,
            group::Change::Gone => {
                self.events.end_group(cx, group);
                return self.events.unpark();
            }
            group::Change::Seen => return self.events.unpark(),
        };
        self.events.unpark();
        for (index, node) in
            self.nodes.held().iter().filter(|(_, node)| node.group() == Some(group))
        {
            self.events.occur(cx, index, taking(node.mode()), trigger);
        }
    }

    fn on_peer(&mut self, cx: &mut Cx<'_>, change: Option<peer::Change>) {
        let Some(change) = change else { return };
        for (index, node) in self.nodes.held().iter() {
            let event = match (change, node.mode()) {
                (peer::Change::Failed, _) => Event::PeerFail,
                // The lease brings the others back.
                (peer::Change::Returned, Mode::Primary) if node.group().is_none() => Event::Revert,
                (peer::Change::Returned, _) => continue,
            };
            self.events.occur(cx, index, event, Trigger::Peer);
        }
    }

    // ---- time, and the end ------------------------------------------------------------------------

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Rewrite => self.nodes.go_on(cx),
            Timer::Drain => self.events.end(cx),
            Timer::Leave => self.phase = Phase::Over,
            Timer::Parked => self.events.unpark(),
            Timer::Sweep => {
                cx.arm(Timer::Sweep, self.sweep);
                self.look_over(cx);
            }
        }
    }

    /// Sees to it that all routes lead where they should, whatever was missed.
    fn look_over(&mut self, cx: &mut Cx<'_>) {
        for (index, node) in self.nodes.held().iter() {
            let event = match (node.group(), node.mode()) {
                (Some(_), mode) => taking(mode),
                (None, Mode::Primary) => Event::Revert,
                (None, Mode::Secondary) => continue,
            };
            self.events.occur(cx, index, event, Trigger::Sweep);
        }
    }

    /// Works what is due, and what follows from all that has happened in this call.
    fn go_on(&mut self, cx: &mut Cx<'_>) {
        while let Some(timer) = cx.next_due() {
            self.on_timer(cx, timer);
        }
        while let Some((group, change)) = self.groups.on_due(cx) {
            change.into_iter().for_each(|change| self.on_group(cx, &group, change));
        }
        while let Some(change) = self.peer.as_mut().and_then(|peer| peer.on_due(cx)) {
            self.on_peer(cx, change);
        }
        self.events.go_on(cx, self.nodes.held(), &mut self.groups);
        let events = &self.events;
        self.groups.settle(cx, |group| events.is_idle(group));
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        self.is_told_to_stop = true;
        match core::mem::replace(&mut self.phase, Phase::Stopping) {
            Phase::Loading(early) => {
                let answer = Answer::failed(exit::SERVER, "the server stops");
                early.iter().for_each(|request| cx.answer(request.id, &answer));
            }
            // What was asked for first is done.
            erasing @ Phase::Erasing(_) => self.phase = erasing,
            unusable @ Phase::Unusable => self.phase = unusable,
            Phase::New | Phase::Serving | Phase::Stopping | Phase::Leaving | Phase::Over => {}
        }
        cx.emit(Fact::Stopping {});
        cx.arm(Timer::Drain, DRAIN);
    }

    /// Whether nothing is left to be done of a stop. What was begun is finished first, then the leases are given
    /// up, so that the other router need not wait.
    fn is_over(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Phase::Stopping = self.phase
            && self.nodes.is_settled()
            && self.events.is_settled()
        {
            cx.disarm(Timer::Sweep);
            self.groups.resign(cx);
            self.peer.iter_mut().for_each(|peer| peer.end(cx));
            cx.arm(Timer::Leave, LEAVE);
            self.phase = Phase::Leaving;
        }
        if let Phase::Leaving = self.phase
            && !self.groups.has_calls()
        {
            self.phase = Phase::Over;
        }
        if let Phase::Over = self.phase {
            cx.emit(Fact::Stopped {});
        }
        self.has_exited()
    }

    fn has_exited(&self) -> bool {
        matches!(self.phase, Phase::Unusable | Phase::Over)
    }
}

/// Whether a request is that of a stop.
fn is_stop(request: &fifo::Request) -> bool {
    matches!(serde_json::from_slice(&request.body), Ok(Request::Stop))
}

impl Machine for Server {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = &[
        Metric { name: "hax_route_nodes", help: "Redundancy nodes." },
        Metric { name: "hax_route_handlers_running", help: "Event handlers that run." },
    ];

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Fact>>) -> Next {
        let Self { kept, state } = self;
        if state.has_exited() {
            return Next::Exit;
        }
        let mut cx = kept.cx(now, out);
        if let Phase::New = state.phase {
            state.phase = Phase::Loading(VecDeque::new());
            state.nodes.load(&mut cx);
        }
        match input {
            Input::Fifo(request) => state.on_request(&mut cx, request),
            Input::Http(request) => state.on_http(&mut cx, &request),
            Input::File(event) => {
                if let Some(progress) = state.nodes.on_file(&mut cx, event) {
                    state.on_progress(&mut cx, progress);
                }
                if let Phase::Serving = state.phase {
                    state.groups.follow(&mut cx, state.nodes.held());
                }
            }
            Input::Exec(event) => state.events.on_exec(&mut cx, &mut state.groups, event),
            Input::Consul(reply) => state.on_reply(&mut cx, &reply),
            Input::Stop => state.stop(&mut cx),
            Input::Tick | Input::Net(_) | Input::Spiel(_) | Input::HttpStream(_) => {}
        }
        state.go_on(&mut cx);
        if state.is_over(&mut cx) {
            return Next::Exit;
        }
        let peer = state.peer.as_ref().map_or(Next::Wait, Peer::next);
        kept.next().earlier(state.groups.next()).earlier(peer)
    }

    fn blocking_queries(&self) -> usize {
        self.state.groups.blocking_queries() + usize::from(self.state.peer.is_some())
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        let (nodes, running) = (self.state.nodes.held().len(), self.state.events.running());
        [nodes as u64, running as u64].into_iter()
    }

    fn status(&self) -> Status {
        let (words, stopping) = match self.state.phase {
            Phase::New | Phase::Loading(_) => ("Reading the redundancy nodes", false),
            Phase::Serving => ("Serving", false),
            Phase::Erasing(_) | Phase::Stopping | Phase::Leaving | Phase::Over => {
                ("Stopping", true)
            }
            Phase::Unusable => ("The file of the redundancy nodes cannot be used", true),
        };
        Status { text: words, stopping }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

#[cfg(test)]
mod tests;
