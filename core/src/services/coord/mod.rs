//! The recovery coordinator: one for the cluster, under the lease `ha/coord`.
//!
//! It reads all records once when it gains the lease, then it follows events. Rules work the events. Their
//! effects and the deletion of the event are in one transaction under the lease. So an event is worked once,
//! whenever a coordinator dies, and without a coordinator it waits.

mod context;
mod effects;
pub mod fact;
mod graph;
pub(super) mod programs;
mod reading;
mod rules;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::id::CallId;
use crate::base::retry::Backoff;
use crate::base::time::{Next, Now};
use crate::consul::port::{Answer, Reply};
use crate::consul::url;
use crate::exec;
use crate::machine::{Kept, Limits, Output};
use crate::services::facts::ServicesFact;
use crate::services::model::keys;
use crate::services::model::record::{Event, What};
use crate::store::lease::{self, Lease};
use crate::store::watch::Watch;
use context::{Call, CoordKinds, Cx, Timer};
use effects::{Committing, Entry};
use fact::Fact;
use graph::{Graph, Placement};
use programs::{Programs, Rules};
use rules::RuleCx;

/// The duration of a blocking query.
const WATCH: Duration = Duration::from_secs(60);
/// The maximum size of Consul's answers.
const ANSWER_MAX: usize = 64 << 20;
/// The time for which a stop waits for Consul.
const LEAVE: Duration = Duration::from_secs(1);
/// The maximum number of events that are worked in one call.
const EVENTS_MAX: usize = 256;

/// The configuration of the coordinator.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The name of this coordinator: that of its node.
    pub holder: Box<str>,
    /// The time after which a coordinator without heartbeats loses the lease.
    pub ttl: Duration,
    /// The lock delay of the lease.
    pub hold: Duration,
    /// The rule programs of this node.
    pub programs: Programs,
}

/// The coordinator.
#[derive(Debug)]
pub(super) struct Coordinator {
    kept: Kept<CoordKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    events: Watch,
    nodes: Watch,
    backoff: Backoff,
    graph: Graph,
    /// Whether the memory is that of Consul, with the effects that are not committed yet.
    is_listed: bool,
    is_listing: bool,
    /// Whether the read in flight may be from before something that makes it worthless.
    lists_again: bool,
    /// Whether a record cannot be used.
    has_unreadable: bool,
    /// Whether a node has not done what is wanted. The records may have gone back with a restored snapshot.
    is_overdue: bool,
    /// The events that are not worked yet, in order of their commits.
    pending: BTreeMap<(u64, Box<str>), Event>,
    /// The keys of events that are pending or worked.
    known: BTreeSet<Box<str>>,
    /// The keys of pending events that came after all records were read.
    later: BTreeSet<Box<str>>,
    /// The keys of events that were deleted since the last answer of the watch.
    deleted: BTreeSet<Box<str>>,
    events_index: u64,
    /// The highest index of a commit of this coordinator.
    committed_index: u64,
    /// What was worked and is not committed yet, in order.
    entries: VecDeque<Entry>,
    /// The rule programs.
    rules: Rules,
    committing: Option<Committing>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Standing,
    /// A later version of hax has written records, so it has to coordinate. It may be gone later, and its
    /// records may have been replaced.
    Outdated,
    Leaving,
    Over,
}

impl Coordinator {
    pub(super) fn new(config: Config, first: CallId, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: ANSWER_MAX };
        let lease = Lease::new(lease::Config {
            key: keys::COORD.into(),
            holder: config.holder,
            check: "hax-coord".into(),
            ttl: config.ttl,
            belief: config.hold,
            watch: WATCH,
        });
        let state = State {
            lease,
            events: Watch::new(url::tree(keys::EVENTS)),
            nodes: Watch::new(url::tree(keys::NODES)),
            backoff: Backoff::default(),
            graph: Graph::default(),
            is_listed: false,
            is_listing: false,
            lists_again: false,
            has_unreadable: false,
            is_overdue: false,
            pending: BTreeMap::new(),
            known: BTreeSet::new(),
            later: BTreeSet::new(),
            deleted: BTreeSet::new(),
            events_index: 0,
            committed_index: 0,
            entries: VecDeque::new(),
            rules: Rules::new(config.programs),
            committing: None,
            phase: Phase::New,
        };
        Self { kept: Kept::new(first, seed, limits, ()), state }
    }

    /// Begins the work with the first input, fires the timers that are due, and commits what is ready.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) -> Next {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        if state.phase == Phase::New {
            state.phase = Phase::Standing;
            state.lease.stand(&mut cx);
        }
        while let Some(timer) = cx.next_due() {
            state.on_timer(&mut cx, timer);
        }
        state.yield_if_outdated(&mut cx);
        state.work(&mut cx);
        if state.phase == Phase::Leaving && cx.in_flight().next().is_none() {
            state.phase = Phase::Over;
        }
        match state.phase {
            Phase::Over => Next::Exit,
            Phase::New | Phase::Standing | Phase::Outdated | Phase::Leaving => kept.next(),
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

    pub(super) fn on_exec(
        &mut self,
        now: Now,
        event: exec::Event,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        state.on_exec(&mut kept.cx(now, out), event);
    }

    pub(super) fn stop(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        if state.phase != Phase::Leaving && state.phase != Phase::Over {
            state.drop_all(&mut cx);
            state.lease.resign(&mut cx);
            state.phase = Phase::Leaving;
            cx.disarm(Timer::Stand);
            cx.arm(Timer::Leave, LEAVE);
        }
    }

    /// Returns whether this is the recovery coordinator, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.state.lease.term().is_some()
    }
}

impl State {
    fn on_answer(&mut self, cx: &mut Cx<'_>, call: Call, answer: Option<&Answer>) {
        match call {
            Call::Lease(call) => {
                let change = self.lease.on_answer(cx, call, answer);
                self.on_lease(cx, change);
            }
            Call::List => self.on_listed(cx, answer),
            Call::Events => self.on_events(cx, answer),
            Call::Nodes => self.on_nodes(cx, answer),
            Call::Commit => self.on_committed(cx, answer),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Lease(timer) => {
                let change = self.lease.on_timer(cx, timer);
                self.on_lease(cx, change);
            }
            Timer::List => self.list(cx),
            Timer::Events => self.events.send(cx, Call::Events, WATCH),
            Timer::Nodes => self.nodes.send(cx, Call::Nodes, WATCH),
            Timer::Due => {}
            Timer::Stand => {
                self.phase = Phase::Standing;
                self.lease.stand(cx);
            }
            Timer::Leave => self.phase = Phase::Over,
        }
    }

    fn on_lease(&mut self, cx: &mut Cx<'_>, change: Option<lease::Change>) {
        match change {
            Some(lease::Change::Gained(term)) => {
                cx.emit(Fact::Leads { term });
                self.list(cx);
            }
            Some(lease::Change::Lost(why)) => {
                cx.emit(Fact::Yields { why: why.into() });
                self.drop_all(cx);
            }
            // What programs do is outside of Consul.
            Some(lease::Change::Lapsed) => self.kill_programs(cx),
            // All other acts are writes to Consul, which carry the lease's check.
            Some(lease::Change::Proved) | None => {}
        }
    }

    /// Forgets everything: the next coordinator reads it.
    fn drop_all(&mut self, cx: &mut Cx<'_>) {
        (self.is_listed, self.is_listing, self.lists_again) = (false, false, false);
        let own = [Call::List, Call::Events, Call::Nodes, Call::Commit];
        cx.cancel_where(|call| own.contains(&call));
        self.events.cancelled();
        self.nodes.cancelled();
        for timer in [Timer::List, Timer::Events, Timer::Nodes, Timer::Due] {
            cx.disarm(timer);
        }
        self.graph = Graph::default();
        self.pending.clear();
        self.known.clear();
        self.later.clear();
        self.deleted.clear();
        self.entries.clear();
        self.committing = None;
        self.kill_programs(cx);
    }

    /// Works the events and deadlines that are ready, and commits their effects.
    fn work(&mut self, cx: &mut Cx<'_>) {
        if !self.is_listed || self.lease.guard().is_none() {
            return;
        }
        for _ in 0..EVENTS_MAX {
            let Some(((_, key), event)) = self.pending.pop_first() else { break };
            if self.later.remove(&key) && self.graph.lacks_place_of(&event) {
                // The nodes come with another watch than the events, so their copy may be older than the event.
                return self.doubt(cx);
            }
            self.rule(cx, Some((key, &event)), |cx| rules::on_event(cx, &event));
        }
        while let Some(placement) = self.graph.next_due(cx.now().mono) {
            self.rule(cx, None, |cx| rules::on_due(cx, &placement));
        }
        match self.graph.first_due() {
            Some(at) => cx.arm_at(Timer::Due, at),
            None => cx.disarm(Timer::Due),
        }
        self.run_programs(cx);
        self.commit(cx);
        if self.is_overdue && self.committing.is_none() && self.entries.is_empty() {
            self.is_overdue = false;
            self.doubt(cx);
        }
    }

    /// Runs a rule and keeps its effects until they are committed.
    fn rule(
        &mut self,
        cx: &mut Cx<'_>,
        event: Option<(Box<str>, &Event)>,
        rule: impl FnOnce(&mut RuleCx<'_>),
    ) {
        let mut facts = Vec::new();
        rule(&mut RuleCx { graph: &mut self.graph, now: cx.now(), facts: &mut facts });
        self.is_overdue |= facts.iter().any(|fact| matches!(fact, Fact::Overdue { .. }));
        let unheard = self.note(event.as_ref().map(|(key, event)| (&**key, *event)), &facts);
        facts.extend(unheard);
        let records = self.graph.take_changed();
        let event = event.map(|(key, _)| key);
        if event.is_some() || !records.is_empty() {
            self.entries.push_back(Entry { event, records, facts });
        } else {
            facts.into_iter().for_each(|fact| cx.emit(fact));
        }
    }

    /// Returns the instances that pending events are about.
    fn placements_of_events(&self) -> Vec<Placement> {
        let placement = |event: &Event| match &event.what {
            What::Changed { kind, .. } => {
                Some(Placement { node: event.node.clone(), kind: kind.clone() })
            }
            What::Asked(_) | What::Defined { .. } | What::Forgotten { .. } => None,
        };
        self.pending.values().filter_map(placement).collect()
    }
}
