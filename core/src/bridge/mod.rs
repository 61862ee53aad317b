//! The bridge: what hax does with what it receives.

mod cx;
mod entrypoints;
pub mod io;
mod lanes;
mod links;
mod messages;
mod routes;
mod tables;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::base::config::Config;
use crate::base::fact::Fact;
use crate::base::id::{CallId, SendId};
use crate::base::retry::Jitter;
use crate::base::time::{Instant, Next, Now};
use crate::base::timers::Timers;
use crate::consul::port::{Answer, Reply};
use crate::consul::replica::{Moment, Table};
use crate::ha::motr;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::model::Cluster;
use crate::model::states::ProcessWord;
use cx::{Cx, Job, Shared, Timer};
use entrypoints::Entrypoints;
use io::{Input, Output};
use lanes::Lanes;
use links::Links;
use messages::Question;
use tables::Tables;

/// The whole bridge as a value.
#[derive(Debug)]
pub struct Bridge {
    shared: Shared,
    parts: Parts,
    last: Instant,
}

#[derive(Debug)]
struct Parts {
    cluster: Cluster,
    entrypoints: Entrypoints,
    tables: Tables,
    lanes: Lanes,
    links: Links,
    questions: VecDeque<Question>,
    life: Life,
    unexpected: bool,
    ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    New,
    Running,
    /// Finishes what was begun.
    Draining,
    Exited,
}

/// What the bridge believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// All that it needs is there.
    pub ready: bool,
    /// It stops.
    pub stopping: bool,
    /// A message demanded the stop.
    pub unexpected: bool,
    /// HA links.
    pub links: usize,
    /// Processes with events that Consul does not hold yet.
    pub lanes: usize,
    /// Entrypoint requests that wait.
    pub entries: usize,
    /// Questions for states that wait.
    pub questions: usize,
}

impl Bridge {
    /// A bridge that knows nothing yet; its first `Tick` begins.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let cluster = Cluster::new(config.process);
        let jitter = Jitter::new(config.seed);
        let shared = Shared {
            config,
            timers: Timers::default(),
            jitter,
            jobs: BTreeMap::new(),
            next_call: CallId(1),
            next_send: SendId(1),
            moment: Moment::default(),
        };
        let parts = Parts {
            cluster,
            entrypoints: Entrypoints::default(),
            tables: Tables::new(),
            lanes: Lanes::default(),
            links: Links::default(),
            questions: VecDeque::new(),
            life: Life::New,
            unexpected: false,
            ready: false,
        };
        Self { shared, parts, last: Instant::default() }
    }

    /// Takes one input and appends, in order, all that follows from it.
    ///
    /// Never fails and never blocks; due timers fire in the same call, after the input.
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in the call before: that is the host's bug.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        assert!(now.mono >= self.last, "time goes on");
        self.last = now.mono;
        if self.parts.life == Life::Exited {
            return Next::Exit;
        }
        self.shared.moment.0 += 1;
        let mut cx = Cx { now, out, shared: &mut self.shared };
        self.parts.begin(&mut cx);
        self.parts.take(&mut cx, input);
        while let Some(timer) = cx.shared.timers.pop(now.mono) {
            self.parts.fire(&mut cx, timer);
        }
        self.parts.settle(&mut cx);
        if self.parts.life == Life::Exited {
            return Next::Exit;
        }
        match self.shared.timers.first() {
            Some((at, why)) => Next::WaitUntil { at, why: why.name() },
            None => Next::Wait,
        }
    }

    /// What the bridge believes.
    #[must_use]
    pub fn view(&self) -> View {
        self.parts.view()
    }
}

impl Parts {
    fn view(&self) -> View {
        View {
            ready: self.ready,
            stopping: self.stopping(),
            unexpected: self.unexpected,
            links: self.links.len(),
            lanes: self.lanes.len(),
            entries: self.entrypoints.len(),
            questions: self.questions.len(),
        }
    }

    fn stopping(&self) -> bool {
        matches!(self.life, Life::Draining | Life::Exited)
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.life == Life::New {
            self.life = Life::Running;
            self.tables.start(cx);
            self.own_event(cx, ProcessEventKind::Starting);
        }
    }

    /// On the wire there is no link to ourselves: our own process is reported as the old daemon's
    /// self link does (`hax.md` 1.11).
    fn own_event(&mut self, cx: &Cx<'_>, state: ProcessEventKind) {
        let process = cx.config().process;
        self.lanes.push(cx.now.mono, process, ProcessWord { state, kind: ProcessType::Ha }, None);
    }

    /// The one match on inputs.
    fn take(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Tick => {}
            Input::Motr(event) => self.motr(cx, event),
            Input::Consul(reply) => self.consul(cx, &reply),
            Input::Http(request) => routes::handle(self, cx, &request),
            Input::Stop => self.stop(cx),
        }
    }

    /// The one match on timers.
    fn fire(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Round => self.entrypoints.timed_out(cx),
            Timer::Again => self.entrypoints.send_due(cx),
            Timer::Watch(table) if !self.stopping() => self.tables.watch(cx, table),
            Timer::Watch(_) => {}
            Timer::Prove(table) => self.tables.prove(cx, table),
            Timer::Lanes => self.lanes.retry(cx),
            Timer::Grace(link) => self.links.grace_over(cx, link),
            Timer::Slice => self.tables.slice(cx, &mut self.cluster),
            Timer::Drain => {
                let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
                cx.fact(Fact::DrainTimedOut { lanes });
                self.exit(cx);
            }
        }
    }

    fn motr(&mut self, cx: &mut Cx<'_>, event: motr::Event) {
        match event {
            motr::Event::Asked(request) => {
                let stopping = self.stopping();
                self.entrypoints.asked(cx, &request, stopping);
            }
            motr::Event::LinkUp { link, process, reconnected, .. } => {
                self.links.up(link, process, reconnected);
            }
            motr::Event::LinkReused { .. } => {}
            motr::Event::LinkDown { link } => self.links.down(cx, link),
            motr::Event::LinkBack { link } => self.links.back(cx, link),
            motr::Event::LinkClosed { link } => {
                self.questions.retain(|question| question.link != link);
                self.lanes.link_closed(link);
                self.links.closed(cx, link);
            }
            motr::Event::Received { link, msg, message } => {
                messages::received(self, cx, link, msg, *message);
            }
            motr::Event::Delivered { link, send } => self.links.settled(cx, link, send, true),
            motr::Event::Undelivered { link, send } => self.links.settled(cx, link, send, false),
        }
    }

    fn consul(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let call = reply.id;
        let Some(job) = cx.shared.jobs.remove(&call) else {
            cx.fact(Fact::LateAnswer { call });
            return;
        };
        let answer = answer(cx, job, reply);
        let mut news = Vec::new();
        match job {
            Job::Round(_) => self.entrypoints.answered(cx, call, answer),
            Job::Watch(table) => self.tables.watched(cx, &mut self.cluster, table, answer),
            Job::Probe(table) => self.tables.probed(cx, &mut self.cluster, table, answer),
            Job::Read(table) => self.tables.was_read(cx, table, answer),
            Job::Transaction => self.lanes.written(cx, &mut self.cluster, call, answer, &mut news),
            Job::Reread(process) => {
                self.lanes.reread(cx, &mut self.cluster, process, answer, &mut news);
            }
        }
        self.links.broadcast(cx, &news);
    }

    /// What follows from all that has happened in this call.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if self.tables.all_loaded() {
            let mut news = Vec::new();
            self.cluster.settle(!self.ready, &mut news);
            if !self.ready {
                self.ready = true;
                cx.fact(Fact::Ready {});
                self.tell_peers(cx);
                self.own_event(cx, ProcessEventKind::Started);
            }
            self.links.broadcast(cx, &news);
            let cluster = &self.cluster;
            self.links.catch_up(cx, || cluster.snapshot().collect());
            self.lanes.write(cx, &self.cluster);
        }
        messages::answer_questions(self, cx);
        if self.life == Life::Draining && self.lanes.len() == 0 {
            self.exit(cx);
        }
    }

    fn tell_peers(&self, cx: &mut Cx<'_>) {
        let peers = self.cluster.conf().endpoints().map(|(fid, endpoint)| (fid, endpoint.into()));
        let peers: Vec<(_, Box<str>)> = peers.collect();
        cx.motr(motr::Command::Peers(peers.into()));
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        if self.life != Life::Running {
            return;
        }
        self.life = Life::Draining;
        cx.fact(Fact::Stopping {});
        self.entrypoints.stop(cx);
        self.tables.stop(cx);
        self.own_event(cx, ProcessEventKind::Stopping);
        self.own_event(cx, ProcessEventKind::Stopped);
        let drain = cx.config().time.drain;
        cx.arm(Timer::Drain, drain);
    }

    fn exit(&mut self, cx: &mut Cx<'_>) {
        self.life = Life::Exited;
        for call in core::mem::take(&mut cx.shared.jobs).into_keys() {
            cx.out.push(Output::Consul(crate::consul::port::Command::Cancel(call)));
        }
        cx.motr(motr::Command::Stop);
        cx.fact(Fact::Stopped {});
    }
}

/// The answer, or nothing and a fact where Consul gave none or is not well.
fn answer<'a>(cx: &mut Cx<'_>, job: Job, reply: &'a Reply) -> Option<&'a Answer> {
    let call = reply.id;
    let what = match job {
        Job::Round(_) => "entrypoint",
        Job::Watch(table) | Job::Probe(table) | Job::Read(table) => Table::name(table),
        Job::Transaction => "transaction",
        Job::Reread(_) => "processes",
    };
    let why: Box<str> = match &reply.result {
        Err(unanswered) => unanswered.why().into(),
        Ok(answer) if matches!(answer.status, 200 | 404 | 409) => return Some(answer),
        Ok(answer) => {
            let text = &answer.body[..answer.body.len().min(200)];
            let text = alloc::string::String::from_utf8_lossy(text);
            alloc::format!("status {}: {}", answer.status, text.trim()).into()
        }
    };
    cx.fact(Fact::ConsulFailed { call, what, why });
    None
}
