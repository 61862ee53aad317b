//! The node's part: it starts and stops the instances that the coordinator wants here, and reports what
//! becomes of them.
//!
//! It makes no decisions. It starts an instance once for each serial number that the coordinator writes, and
//! never again by itself. What it has seen and the event about it are in one transaction.

mod context;
mod instance;
mod keeper;
mod message;
mod names;
mod probes;
mod records;
mod scripted;
mod strangers;
mod tell;
mod writing;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::fact::Fact;
use super::facts::ServicesFact;
use super::model::keys;
use super::model::name::{NodeName, TypeName};
use super::model::place::Labels;
use super::model::record::NodeRecord;
use super::voice::{InstanceSocket, TELL_PATH};
use crate::base::id::{AskId, CallId, ExecId, HttpId};
use crate::base::retry::Backoff;
use crate::base::time::{Next, Now};
use crate::consul::port::{Answer, Reply};
use crate::consul::url;
use crate::exec;
use crate::http;
use crate::http::port::Request;
use crate::http::router;
use crate::keeper::answer::KeeperView;
use crate::keeper::answer::View;
use crate::keeper::name::InstanceId;
use crate::keeper::port as keeper_port;
use crate::machine::{Kept, Limits, Output};
use crate::store::lease::{self, Lease};
use crate::store::watch::Watch;
use context::{Call, Cx, NodeKinds, Slot, Timer};
use instance::Instance;
use keeper::Asked;
use message::Message;
use names::Names;
pub(super) use tell::QUESTIONS_MAX;
use tell::Waiting;
use writing::Writing;

/// The duration of a blocking query.
const WATCH: Duration = Duration::from_secs(60);
/// The maximum size of Consul's answers.
const ANSWER_MAX: usize = 32 << 20;
/// The time for which a stop waits for Consul.
const LEAVE: Duration = Duration::from_secs(1);

/// The configuration of the node's part.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The name of the node.
    pub node: NodeName,
    /// The labels of the node.
    pub labels: Labels,
    /// The path of the program hax, for probes.
    pub program: Box<str>,
    /// A number that is higher than in earlier runs, as far as the host knows: the wall clock at the start.
    pub generation: u64,
    /// The time after which a node without heartbeats counts as down.
    pub ttl: Duration,
    /// The lock delay of the node's lease.
    pub hold: Duration,
    /// The socket for instances, if there is one.
    pub instances: Option<InstanceSocket>,
}

/// The node's part.
#[derive(Debug)]
pub(super) struct Node {
    kept: Kept<NodeKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    config: Config,
    lease: Lease,
    watch: Watch,
    backoff: Backoff,
    /// The keeper, while it can be reached.
    keeper: Option<Box<KeeperView>>,
    /// Whether the records are read, and no read has been demanded since.
    is_loaded: bool,
    is_loading: bool,
    /// Whether the keeper's list and the records have been compared since both are there.
    is_reconciled: bool,
    /// The keeper's instances as of its last list.
    listed: Vec<View>,
    /// The living ones of hax that Consul does not know.
    strangers: Vec<View>,
    /// The types whose observations were found since the list and the records were compared.
    found: Vec<TypeName>,
    /// The number of this run, once it is written.
    run: Option<u64>,
    record_index: u64,
    /// The last written description of the node.
    record: Option<NodeRecord>,
    instances: BTreeMap<TypeName, Instance>,
    by_slot: BTreeMap<Slot, TypeName>,
    names: Names,
    asked: BTreeMap<AskId, Asked>,
    next_ask: AskId,
    /// The instances that wait for the answer to what they have told.
    tells: BTreeMap<HttpId, Waiting>,
    /// The messages whose programs run.
    messages: BTreeMap<ExecId, Message>,
    helpers: BTreeMap<ExecId, TypeName>,
    next_helper: ExecId,
    /// The number of the next event, and of the next instance id.
    next_event: u64,
    next_start: u32,
    writing: Option<Writing>,
    /// The highest index of this node's own writes. Older answers say nothing of them.
    written_index: u64,
    /// The index of the last answer of the watch.
    watched_index: u64,
    /// The ended instances that the keeper may forget once Consul holds their ends.
    to_forget: Vec<InstanceId>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Serving,
    Leaving,
    Over,
}

impl Node {
    pub(super) fn new(config: Config, first: CallId, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: ANSWER_MAX };
        let lease = Lease::new(lease::Config {
            key: keys::lease(&config.node).into(),
            holder: config.node.as_str().into(),
            check: "hax-node".into(),
            ttl: config.ttl,
            belief: config.hold,
            watch: WATCH,
        });
        let watch = Watch::new(url::tree(&keys::instances(&config.node)));
        let state = State {
            lease,
            watch,
            backoff: Backoff::default(),
            keeper: None,
            is_loaded: false,
            is_loading: false,
            is_reconciled: false,
            listed: Vec::new(),
            strangers: Vec::new(),
            found: Vec::new(),
            run: None,
            record_index: 0,
            record: None,
            instances: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            names: Names::default(),
            asked: BTreeMap::new(),
            next_ask: AskId(1),
            tells: BTreeMap::new(),
            messages: BTreeMap::new(),
            helpers: BTreeMap::new(),
            next_helper: ExecId(1),
            next_event: 0,
            next_start: 0,
            writing: None,
            written_index: 0,
            watched_index: 0,
            to_forget: Vec::new(),
            phase: Phase::New,
            config,
        };
        Self { kept: Kept::new(first, seed, limits, ()), state }
    }

    /// Begins the work with the first input, and fires the timers that are due.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) -> Next {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        if state.phase == Phase::New {
            state.phase = Phase::Serving;
            state.lease.stand(&mut cx);
            state.load(&mut cx);
        }
        while let Some(timer) = cx.next_due() {
            state.on_timer(&mut cx, timer);
        }
        state.pursue(&mut cx);
        // A probe of an instance that was found is due at once.
        while let Some(timer) = cx.next_due() {
            state.on_timer(&mut cx, timer);
        }
        if state.phase == Phase::Leaving && cx.in_flight().next().is_none() {
            state.phase = Phase::Over;
        }
        match state.phase {
            Phase::Over => Next::Exit,
            Phase::New | Phase::Serving | Phase::Leaving => kept.next(),
        }
    }

    pub(super) fn on_reply(
        &mut self,
        now: Now,
        reply: &Reply,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        let Some(call) = cx.take(reply.id) else { return };
        let outcome = cx.outcome(call, reply);
        state.on_answer(&mut cx, call, outcome.answer());
    }

    pub(super) fn on_keeper(
        &mut self,
        now: Now,
        event: keeper_port::Event,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        state.on_keeper(&mut kept.cx(now, out), event);
    }

    /// Takes a request that is of this node's instances: what one tells, or a message to one. Returns whether it is
    /// such a request.
    pub(super) fn on_http(
        &mut self,
        now: Now,
        request: &Request,
        out: &mut Vec<Output<ServicesFact>>,
    ) -> bool {
        let Self { kept, state } = self;
        let path = router::path(&request.target);
        if path == TELL_PATH {
            state.on_tell(&mut kept.cx(now, out), request);
        } else if message::route(path).is_some() {
            state.on_message(&mut kept.cx(now, out), request);
        } else {
            return false;
        }
        true
    }

    pub(super) fn on_exec(
        &mut self,
        now: Now,
        event: exec::Event,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        if let Some(event) = state.take_message(&mut cx, event) {
            state.on_exec(&mut cx, event);
        }
    }

    /// Begins to leave: the instances continue to run.
    pub(super) fn stop(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) {
        let Self { kept, state } = self;
        state.stop(&mut kept.cx(now, out));
    }

    /// Returns the name of the node.
    pub(super) fn name(&self) -> &NodeName {
        &self.state.config.node
    }

    /// Returns the keeper's description, while it can be reached.
    pub(super) fn keeper(&self) -> Option<&KeeperView> {
        self.state.keeper.as_deref()
    }

    /// Returns the reason why instances can be neither started nor stopped now.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        let state = &self.state;
        if state.keeper.is_none() {
            return Some("the keeper of this node cannot be reached");
        }
        if !state.is_loaded {
            return Some("the records of this node are not read yet");
        }
        let is_ready = state.is_reconciled && state.run.is_some();
        (!is_ready).then_some("this run of hax is not written to Consul yet")
    }

    /// Returns the number of instances, and of the living ones.
    pub(super) fn counts(&self) -> (usize, usize) {
        let instances = &self.state.instances;
        (instances.len(), instances.values().filter(|row| row.live.is_some()).count())
    }
}

/// Answers a request about an instance at once. A refusal is logged.
fn answer_now(cx: &mut Cx<'_>, id: HttpId, answer: http::answer::Answer) {
    if answer.status >= 400 {
        cx.emit(Fact::Refused { why: answer.reason.clone() });
    }
    cx.http(id, answer);
}

impl State {
    fn on_answer(&mut self, cx: &mut Cx<'_>, call: Call, answer: Option<&Answer>) {
        match call {
            Call::Lease(call) => drop(self.lease.on_answer(cx, call, answer)),
            Call::Load => self.on_loaded(cx, answer),
            Call::Watch => self.on_watched(cx, answer),
            Call::Write => self.on_written(cx, answer),
            Call::Worked(id) => self.on_worked(cx, id, answer),
            Call::Decision(id) => self.on_decision(cx, id, answer),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Lease(timer) => drop(self.lease.on_timer(cx, timer)),
            Timer::Load => self.load(cx),
            Timer::Watch => self.watch.send(cx, Call::Watch, WATCH),
            Timer::Write => self.write(cx, true),
            Timer::Probe(slot) => self.probe(cx, slot),
            Timer::Ready(slot) => self.on_ready_over(cx, slot),
            Timer::Tell(id) => self.on_tell_over(cx, id),
            Timer::AskAgain(id) => self.ask_again(cx, id),
            Timer::Leave => self.phase = Phase::Over,
        }
    }

    /// Returns whether instances may be started and stopped: the keeper's list, the records and Consul agree.
    fn is_ready(&self) -> bool {
        self.is_reconciled && self.run.is_some() && self.phase == Phase::Serving
    }

    /// Begins everything that is possible now.
    fn pursue(&mut self, cx: &mut Cx<'_>) {
        if self.phase != Phase::Serving {
            return;
        }
        if self.is_loaded && self.keeper.is_some() && !self.is_reconciled {
            self.reconcile(cx);
        }
        if self.is_ready() {
            self.drive(cx);
        }
        self.write(cx, false);
        self.answer_told(cx);
        self.forget_ended(cx);
    }

    fn mint_event(&mut self) -> u64 {
        self.next_event += 1;
        self.next_event
    }

    /// Returns the row of a type, which is created if there is none.
    fn row(&mut self, kind: &TypeName) -> &mut Instance {
        let slot = Slot(u32::try_from(self.by_slot.len()).unwrap_or(u32::MAX));
        if !self.instances.contains_key(kind) {
            self.by_slot.insert(slot, kind.clone());
        }
        self.instances.entry(kind.clone()).or_insert_with(|| Instance::new(slot))
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Serving || self.phase == Phase::New {
            cx.emit(Fact::Leaving {});
            self.phase = Phase::Leaving;
            cx.cancel_where(|call| matches!(call, Call::Watch | Call::Load));
            self.refuse_told(cx);
            self.refuse_messages(cx);
            self.lease.resign(cx);
            cx.arm(Timer::Leave, LEAVE);
        }
    }
}
