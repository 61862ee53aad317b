//! Redundancy nodes and their events: which router of a pair is the next hop of a route.
//!
//! The [`Server`] is a state machine. Its *node manager* keeps the redundancy nodes and their file. Its
//! *event manager* responds to events on them with event handlers. The clients are the scripts, over named
//! pipes, and the readers of its state over HTTP.

pub mod cloud;
mod consul;
mod context;
pub mod decide;
mod events;
pub mod fact;
mod group;
mod groups;
pub mod job;
pub mod kv;
mod logins;
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
use crate::fifo;
use crate::http::answer;
use crate::http::port;
use crate::http::router::{self, Route, get};
use crate::machine::{ExitReason, Input, Kept, Limits, Machine, Output, Status};
use context::{Cx, RouteKinds, Timer};
use decide::{Event, Trigger, taking};
use events::{EventManager, EventReport};
use fact::Fact;
use groups::Groups;
use node::{Index, Mode};
use nodes::{ChangeRequest, NodeManager, Progress};
use peer::Peer;
use provider::Provider;
use request::{Answer, Request, exit};

pub use group::Config as ConsulConfig;
pub use groups::{GROUPS_MAX, Rules, WithoutConsul};

/// The time for which a stop waits for running event handlers.
const DRAIN: Duration = Duration::from_secs(5);

/// The time for which a stop then waits for Consul to release the leases.
const LEAVE: Duration = Duration::from_secs(1);

/// The maximum number of requests that wait while the file is read.
const EARLY_MAX: usize = 1024;

/// The server's configuration, passed in once at the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's folder: an absolute path.
    pub dir: Box<str>,
    /// The program of event handlers: an absolute path.
    pub program: Box<str>,
    /// The server's environment variables. An event handler gets those of its provider.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// The provider of a redundancy node that is created without one.
    pub default_provider: Option<Provider>,
    /// The configuration of the work with Consul. Without it the server sends no requests to Consul.
    pub consul: Option<ConsulConfig>,
    /// The behaviour without Consul.
    pub rules: Rules,
    /// The period of sweeps, which check whether routes lead to the right router. Zero means no sweeps.
    pub sweep: Duration,
    /// The seed for jitter.
    pub seed: u64,
}

/// The server's state machine.
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
    /// Whether the host has asked the server to end.
    is_told_to_stop: bool,
}

#[derive(Debug)]
enum Phase {
    /// No input has been handled yet.
    New,
    /// The file is being read. Requests wait in the meantime.
    Loading(VecDeque<fifo::Request>),
    Serving,
    /// All state is being deleted at a client's request. All clients that sent the request get the reply at
    /// the end.
    Erasing(Vec<FifoId>),
    /// The server finishes the work in progress before it stops.
    Stopping,
    /// The server gives up its leases.
    Leaving,
    /// The file cannot be used.
    Unusable,
    /// The server has stopped.
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
    /// Creates a server that has not read its file yet.
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

    /// Returns whether the server has ended because its file cannot be used.
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
        let change = |index| ChangeRequest { client, index, failure };
        let (nodes, events) = (&mut self.nodes, &mut self.events);
        match request {
            Request::CreateNode { index, set } => {
                let default = self.default_provider;
                let create = |table: &mut table::Table| table.create(index, &set, default);
                nodes.change(cx, change(index), create);
            }
            Request::SetParams { index, set } => {
                nodes.change(cx, change(index), |table| table.set(index, &set));
            }
            Request::ClearParams { index, clear } => {
                nodes.change(cx, change(index), |table| table.clear(index, &clear));
            }
            Request::DeleteNode { index } => {
                events.forget(index);
                nodes.change(cx, change(index), |table| Ok(table.delete(index)));
            }
            Request::ShowNode { index } => cx.answer(client, &self.show(index)),
            Request::NodeEvent { nodes: meant, event, wait } => {
                let report = EventReport { client, nodes: meant, event, wait };
                events.on_event(cx, nodes.held(), report);
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

    /// Begins the server's own work once the redundancy nodes are loaded.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        if let Some(peer) = &mut self.peer {
            peer.begin(cx);
        }
        if !self.sweep.is_zero() {
            cx.arm(Timer::Sweep, self.sweep);
        }
    }

    // ---- time and stop ----------------------------------------------------------------------------

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

    /// Begins a sweep: checks for all routes whether they lead to the right router, in case an event was
    /// missed.
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

    /// Handles the timers that are due, and begins all work that follows from this call's inputs.
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
            // The deletion that was requested first is completed.
            erasing @ Phase::Erasing(_) => self.phase = erasing,
            unusable @ Phase::Unusable => self.phase = unusable,
            Phase::New | Phase::Serving | Phase::Stopping | Phase::Leaving | Phase::Over => {}
        }
        cx.emit(Fact::Stopping {});
        cx.arm(Timer::Drain, DRAIN);
    }

    /// Returns whether the stop is complete. The work in progress is finished first. Then the leases are
    /// given up, so that the other router need not wait.
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

/// Returns whether a request is a stop request.
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
            Input::Tick
            | Input::Net(_)
            | Input::Spiel(_)
            | Input::HttpStream(_)
            | Input::Keeper(_) => {}
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
