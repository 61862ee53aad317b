//! The bridge: the handling of all inputs of hax.

mod api;
mod bq;
mod commit;
pub mod config;
mod context;
mod continuation;
mod entrypoints;
pub mod io;
mod leader;
mod links;
mod messages;
mod own_node;
mod process;
mod readiness;
mod refusals;
mod replicas;
mod spiel;
mod view;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{CallId, LinkId, MsgId};
use crate::base::time::{Instant, Next, Now};
use crate::bridge::config::Config;
use crate::cluster::Cluster;
use crate::cluster::conf::Contradiction;
use crate::cluster::replica::Table;
use crate::cluster::states::ProcessRecord;
use crate::consul::port::{Answer, Reply};
use crate::ha::entrypoint::EntrypointRequest;
use crate::ha::fact::Fact;
use crate::ha::motr;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::machine::Limits;
use api::report;
use api::subscribe::Subscriptions;
use bq::appender::BqAppender;
use bq::purge::Purge;
use bq::receiver::BqReceiver;
use context::{Cx, Kept, Shared};
use continuation::{Continuation, LaneKey, Timer};
use entrypoints::Entrypoints;
use io::{Input, Output};
use leader::Leader;
use links::Links;
use messages::Question;
use own_node::OwnNode;
use process::deliveries::Deliveries;
use process::lane_cx::LaneCx;
use process::lanes::Lanes;
use process::restarts::Restarts;
use process::starting::{FirstRequest, Starting};
use process::verdicts::Verdicts;
use process::work::{Operation, WorkItem};
use replicas::Tables;
use spiel::Spiel;

pub use api::{BQ_WATCH_PATH, PROCESS_WATCH_PATH};
pub use view::View;

/// The whole bridge as a value.
#[derive(Debug)]
pub struct Bridge {
    kept: Kept,
    state: State,
    last: Instant,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    entrypoints: Entrypoints,
    tables: Tables,
    lanes: Lanes,
    links: Links,
    deliveries: Deliveries,
    leader: Leader,
    restarts: Restarts,
    bq_appender: BqAppender,
    bq_receiver: BqReceiver,
    purge: Purge,
    subscriptions: Subscriptions,
    spiel: Spiel,
    questions: VecDeque<Question>,
    starting: Starting,
    verdicts: Verdicts,
    /// The processes' endpoints, as sent to the wire.
    peers: Arc<[(Fid, Box<str>)]>,
    life: Life,
    /// The time of the first input.
    began: Instant,
    /// The message demanding a stop.
    fatal: Option<(LinkId, MsgId)>,
    /// The time limit of accepting messages, so that a stop ends.
    ignore_messages_from: Instant,
    timed_out: bool,
    ready: bool,
    /// The configuration does not contain our own process.
    not_configured: bool,
    was_leader: bool,
    /// The reported contradictions of the configuration.
    contradictions: Vec<Contradiction>,
    own_node: OwnNode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    New,
    Running,
    /// The bridge finishes the work in progress.
    Draining,
    Exited,
}

impl Bridge {
    /// The maximum number of concurrent blocking queries at Consul: a watch of each table, a lookout of two
    /// tables, and the lock's watch.
    pub const BLOCKING_QUERIES: usize = 6;

    /// Creates a bridge without any state. Its first input, preferably a `Tick`, starts it.
    ///
    /// # Panics
    ///
    /// If the transaction limits have no room for one event: that is the host's bug.
    #[must_use]
    pub fn new(config: Config) -> Self {
        assert!(config.limit.transaction_ops >= 8 && config.limit.transaction_bytes >= 16 * 1024);
        let cluster = Cluster::new(config.process, &config.node);
        let (leader, queue) = (Leader::new(config.elect), BqAppender::new(config.bq));
        let spiel = Spiel::new(config.spiel);
        let limits = Limits { call: config.time.call, answer_bytes: config.limit.answer_bytes };
        let kept = Kept::new(CallId::first(0), config.seed, limits, Shared::new(config));
        let state = State {
            cluster,
            entrypoints: Entrypoints::default(),
            tables: Tables::new(),
            lanes: Lanes::default(),
            links: Links::default(),
            deliveries: Deliveries::default(),
            leader,
            restarts: Restarts::default(),
            bq_appender: queue,
            bq_receiver: BqReceiver::default(),
            purge: Purge::default(),
            subscriptions: Subscriptions::default(),
            spiel,
            questions: VecDeque::new(),
            starting: Starting::default(),
            peers: Arc::new([]),
            verdicts: Verdicts::default(),
            life: Life::New,
            began: Instant::default(),
            fatal: None,
            ignore_messages_from: Instant::MAX,
            timed_out: false,
            ready: false,
            not_configured: false,
            was_leader: false,
            contradictions: Vec::new(),
            own_node: OwnNode::default(),
        };
        Self { kept, state, last: Instant::default() }
    }

    /// Takes one input and appends the resulting outputs in order.
    ///
    /// Never fails and never blocks. Due timers fire in the same call, after the input.
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in the call before: that is the host's bug.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        assert!(now.mono >= self.last, "time goes on");
        self.last = now.mono;
        if self.state.life == Life::Exited {
            return Next::Exit;
        }
        let mut cx = self.kept.cx(now, out);
        self.state.begin(&mut cx);
        self.state.on_input(&mut cx, input);
        while let Some(timer) = cx.next_due() {
            self.state.on_timer(&mut cx, timer);
        }
        self.state.commit(&mut cx);
        if self.state.life == Life::Exited {
            return Next::Exit;
        }
        self.kept.next()
    }

    /// Returns the bridge's view.
    #[must_use]
    pub fn view(&self) -> View {
        self.state.view(self.kept.in_flight(), self.kept.shared().refusals(), self.last)
    }
}

impl State {
    fn stopping(&self) -> bool {
        matches!(self.life, Life::Draining | Life::Exited)
    }

    fn ignores_messages(&self, cx: &Cx<'_>) -> bool {
        cx.now().mono >= self.ignore_messages_from
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.life == Life::New {
            self.life = Life::Running;
            self.began = cx.now().mono;
            self.tables.start(cx);
            self.restarts.read(cx);
            if self.bq_appender.is_on() {
                self.bq_receiver.begin(cx);
            }
            self.own_event(cx, ProcessEventKind::Starting);
        }
    }

    /// Queues an event of our own process. The wire has no link to ourselves, so the event is reported as by
    /// the old daemon's self link (`hax.md` 1.11).
    fn own_event(&mut self, cx: &Cx<'_>, state: ProcessEventKind) {
        let record = ProcessRecord::reported(state, ProcessType::Ha);
        let work = WorkItem::new(cx.now().mono, Operation::Reported { record, ack: None });
        self.lanes.push(LaneKey::Process(cx.config().process), work);
    }

    /// Dispatches an input.
    fn on_input(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Tick => {}
            Input::Motr(event) => self.on_motr(cx, event),
            Input::Consul(reply) => self.on_reply(cx, &reply),
            Input::Spiel(reply) => self.spiel.on_reply(cx, reply),
            Input::Http(request) => api::handle(self, cx, &request),
            Input::Stop => self.stop(cx),
        }
    }

    /// Dispatches a timer.
    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Round => {
                self.tables.on_call_done(cx, false);
                self.entrypoints.on_timeout(cx);
            }
            Timer::EntrypointReplies => self.entrypoints.send_due(cx),
            Timer::Watch(table) if !self.stopping() => self.tables.watch(cx, table),
            Timer::Lookout(table) if !self.stopping() => self.tables.send_lookout(cx, table),
            Timer::Overdue(table) if !self.stopping() => self.tables.on_overdue(cx, table),
            Timer::Watch(_) | Timer::Lookout(_) | Timer::Overdue(_) => {}
            Timer::Prove(table) => self.tables.prove(cx, table),
            Timer::Lanes => self.retry_lanes(cx),
            Timer::LinkGrace(link) => self.links.on_grace_over(cx, link),
            Timer::Deliveries(process) => {
                self.deliveries.give_up(process);
                self.release(cx, process);
            }
            Timer::Liveness => self.verdicts.liveness_dirty = true,
            Timer::Restarts => self.restarts.read(cx),
            Timer::Heartbeat => self.leader.heartbeat(cx),
            Timer::Acquire => self.leader.try_again(cx),
            Timer::LeaderWatch => self.leader.watch(cx),
            Timer::Unowned => self.leader.end_unowned(cx),
            Timer::Candidates => self.leader.look_for_others(cx),
            Timer::Purge if self.was_leader => Purge::begin(cx),
            // The work that these timers delay is retried in `commit`.
            Timer::Purge | Timer::Epoch | Timer::BqReceiver | Timer::ConfdGrace => {}
            Timer::Spiel | Timer::StatisticsSlice => {}
            Timer::Sns => self.spiel.operations.on_overdue(cx),
            Timer::Statistics(which) => self.spiel.statistics.is_due(cx, which),
            Timer::Recheck => self.tables.reread(cx, Table::Health),
            Timer::HealthHint => self.tables.prove_health(cx),
            Timer::BqPosts => self.bq_receiver.expire(cx),
            Timer::Slice => self.tables.slice(cx, &mut self.cluster),
            Timer::Drain => {
                self.timed_out = true;
                let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
                cx.fact(Fact::DrainTimedOut { lanes });
                self.exit(cx);
            }
        }
    }

    fn on_motr(&mut self, cx: &mut Cx<'_>, event: motr::Event) {
        match event {
            motr::Event::Asked(request) => {
                let held = self.on_first_request(cx, &request);
                let stopping = self.stopping();
                self.entrypoints.on_request(cx, &request, held, stopping);
            }
            motr::Event::LinkUp { link, process, reconnected, .. } => {
                self.starting.on_link_up(process);
                self.links.on_up(cx, link, process, reconnected);
                self.verdicts.liveness_dirty = true;
            }
            motr::Event::LinkKept { link, process, owed } => {
                self.links.on_kept(cx, link, process, &owed);
            }
            motr::Event::LinkReused { .. } => {}
            motr::Event::LinkDown { link } => {
                self.verdicts.liveness_dirty = true;
                self.links.on_down(cx, link);
                self.on_link_gone(cx, link);
            }
            motr::Event::LinkBack { link } => {
                self.links.on_back(cx, link);
                self.verdicts.liveness_dirty = true;
            }
            motr::Event::LinkClosed { link } => {
                cx.link_closed(link);
                self.questions.retain(|question| question.link != link);
                self.lanes.on_link_closed(link, cx.config().limit.queued_per_process);
                self.links.on_closed(cx, link);
                self.on_link_gone(cx, link);
            }
            motr::Event::Received { .. } if self.ignores_messages(cx) => {}
            motr::Event::Received { link, msg, message } => {
                cx.open(link, msg);
                messages::on_message(self, cx, link, msg, *message);
            }
            motr::Event::Delivered { link, send } => self.on_sent(cx, link, send, true),
            motr::Event::Undelivered { link, send } => self.on_sent(cx, link, send, false),
        }
    }

    /// Handles a process's request for the entrypoint.
    ///
    /// The first request of a life is counted once and ends the former life. Returns whether the entrypoint
    /// has to wait for that; `None` if too many processes wait already.
    fn on_first_request(&mut self, cx: &Cx<'_>, request: &EntrypointRequest) -> Option<bool> {
        let EntrypointRequest { process, first, pid, .. } = *request;
        // The process's node is known only once the configuration is loaded.
        let known = !self.ready || self.cluster.is_local(process);
        let known = known && process != cx.config().process;
        if first && known && !self.stopping() {
            // Once the configuration is loaded, only its processes are known.
            let max = if self.ready { usize::MAX } else { cx.config().limit.starts };
            match self.starting.on_first_request(process, pid, max) {
                FirstRequest::NewLife => self.lanes.queue_start(process, cx.now().mono),
                FirstRequest::Repeated => {}
                FirstRequest::TooMany => return None,
            }
        }
        Some(self.is_held(process))
    }

    fn is_held(&self, process: Fid) -> bool {
        let begins = |what: &Operation| matches!(what, Operation::Started(_));
        self.deliveries.waits(process) || self.lanes.has(process, begins)
    }

    fn release(&mut self, cx: &mut Cx<'_>, process: Fid) {
        if !self.is_held(process) {
            self.entrypoints.release(cx, process);
        }
    }

    fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let call = reply.id;
        let Some(job) = cx.take(call) else {
            cx.fact(Fact::LateAnswer { call });
            return;
        };
        let refused = reply.result.as_ref().is_ok_and(Answer::is_refusal);
        self.tables.on_call_done(cx, reply.result.is_ok() && !refused);
        let answer = cx.answer(job, reply);
        match job {
            Continuation::Round(_) => self.entrypoints.on_answer(cx, call, answer),
            Continuation::Watch(table) => self.tables.on_watch(cx, table, answer),
            Continuation::Lookout(table) => self.tables.on_lookout(cx, table, answer),
            Continuation::Probe(table) => {
                self.tables.on_probe(cx, &mut self.cluster, table, call, answer);
            }
            Continuation::KvIndex => self.tables.on_kv_index(cx, call, answer),
            Continuation::Read(table) => self.tables.on_read(cx, &mut self.cluster, table, answer),
            Continuation::ReadCheck(table) => {
                self.tables.on_named(cx, &self.cluster, table, answer, refused);
            }
            Continuation::Transaction => {
                let (lanes, mut lane_cx) = self.lane_cx(cx.now().mono);
                let done = lanes.on_written(cx, &mut lane_cx, call, answer);
                self.on_completed(cx, done);
            }
            Continuation::RereadKey(key, target) => {
                self.lanes.on_reread(cx, &mut self.cluster, key, target, answer);
            }
            Continuation::Restarts => self.restarts.on_read(cx, answer),
            Continuation::Epoch => self.bq_appender.on_read(cx, answer),
            Continuation::Leader(part) => self.leader.on_answer(cx, part, answer),
            Continuation::BqReceiver(part) => self.bq_receiver.on_answer(cx, part, answer),
            Continuation::Purge(part) => {
                let leads = self.leader.session(cx.now().mono);
                self.purge.on_answer(cx, part, answer, &self.cluster, leads);
            }
            Continuation::Report(which, http) => {
                report::on_answer(cx, which, http, answer, &self.cluster);
            }
            Continuation::Subscribe(part, http) => {
                self.subscriptions.on_answer(cx, part, http, answer)
            }
            Continuation::Statistics(part) => self.spiel.statistics.on_answer(cx, part, answer),
        }
        if self.tables.take_reset() {
            self.bq_receiver.indexes_begin_anew();
        }
    }

    fn lane_cx(&mut self, now: Instant) -> (&mut Lanes, LaneCx<'_>) {
        let lane_cx = LaneCx {
            cluster: &mut self.cluster,
            restarts: &mut self.restarts,
            queue: &mut self.bq_appender,
            lock_session: self.leader.session(now),
            holds_lock: self.leader.holds(),
        };
        (&mut self.lanes, lane_cx)
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        if self.life != Life::Running {
            return;
        }
        self.life = Life::Draining;
        self.ignore_messages_from = cx.now().mono.after(commit::LISTEN_AFTER_STOP);
        cx.fact(Fact::Stopping {});
        self.entrypoints.stop(cx);
        self.tables.stop(cx);
        self.bq_receiver.stop(cx);
        self.subscriptions.stop(cx);
        report::stop(cx);
        self.spiel.stop(cx);
        self.leader.resign(cx, "hax is stopping");
        self.lanes.lost_lead();
        self.own_event(cx, ProcessEventKind::Stopping);
        self.own_event(cx, ProcessEventKind::Stopped);
        let drain = cx.config().time.drain;
        cx.arm(Timer::Drain, drain);
    }
}
