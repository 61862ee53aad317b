//! The Motr processes: each plays its part through the wire's own process machine, which aborts where
//! a real process would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use hax_core::base::fid::Fid;
use hax_core::base::id::{MsgId, SendId};
use hax_core::base::time::Next;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::wire::fop::CONSUME;
use hax_core::wire::process::{self, Command, Event, Input, Output, Process};

use super::World;
use super::model::Model;
use super::queue::{Ev, MS, S, Who};

/// The most questions of one process that wait for an answer.
const QUESTIONS: usize = 4;
/// How long a check that Consul does not know may count, in µs: 5 s, and the reading that ends it.
const DOUBT: u64 = 6_000_000;

/// Where a process is in its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Down,
    /// Has asked for its entrypoint.
    Asking,
    /// Has said that it starts, and waits for answers.
    Starting,
    /// Has said that it has started, and replays.
    Recovering,
    /// Is what it is to be.
    Up,
    /// Has said that it stops.
    Stopping,
    /// Has said that it has stopped: the last that it says.
    Leaving,
}

/// A question for states.
pub(super) struct Question {
    fids: Vec<Fid>,
    /// Consul's index when it was asked.
    index: u64,
}

/// One process.
pub(super) struct Actor {
    pub(super) fid: Fid,
    pub(super) addr: SocketAddr,
    /// The hax of its node.
    pub(super) hax: usize,
    /// The name of its service in the catalog, the id of its check, and what it is registered with.
    pub(super) service: String,
    pub(super) check: String,
    pub(super) registration: String,
    pub(super) registered: bool,
    /// It is down and will start again by itself.
    pub(super) returns: bool,
    /// Nothing while it is down.
    pub(super) machine: Option<Box<Process>>,
    pub(super) life: u32,
    wake: u64,
    pub(super) stage: Stage,
    kind: ProcessType,
    next_send: u64,
    /// What was sent and not delivered.
    pub(super) sent: BTreeSet<SendId>,
    /// Questions without an answer.
    pub(super) questions: BTreeMap<u64, Question>,
    /// Those that have one, and over which link it came.
    answered: BTreeMap<u64, u64>,
    pub(super) wants_failures: bool,
    failures_answered: Option<u64>,
    /// Links of this life, each reconnect a new one.
    links: u64,
    /// What it was told last of each object.
    pub(super) told: BTreeMap<Fid, ObjectState>,
    /// It does not acknowledge.
    pub(super) mute: bool,
    pub(super) held: Vec<MsgId>,
    pub(super) has_link: bool,
    /// Messages of states that came, for the rule that a rest is quiet.
    pub(super) heard: u64,
    /// When something that counts spoke against it last.
    pub(super) doubted: Option<u64>,
}

impl Actor {
    pub(super) fn new(fid: Fid, addr: SocketAddr, hax: usize, service: &str) -> Self {
        Self {
            fid,
            addr,
            hax,
            service: service.to_owned(),
            check: format!("service:{}", fid.key),
            registration: String::new(),
            registered: true,
            returns: false,
            machine: None,
            life: 0,
            wake: u64::MAX,
            stage: Stage::Down,
            kind: ProcessType::M0d,
            next_send: 1,
            sent: BTreeSet::new(),
            questions: BTreeMap::new(),
            answered: BTreeMap::new(),
            wants_failures: false,
            failures_answered: None,
            links: 0,
            told: BTreeMap::new(),
            mute: false,
            held: Vec::new(),
            has_link: false,
            heard: 0,
            doubted: None,
        }
    }

    pub(super) fn is_confd(&self) -> bool {
        self.service == "confd"
    }

    /// It was told to stop, or stops of itself, and is not down yet.
    pub(super) fn is_on_its_way_out(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Leaving)
    }

    fn usual_kind(&self) -> ProcessType {
        if self.service == "s3service" { ProcessType::Other } else { ProcessType::M0d }
    }
}

impl World<'_> {
    // ---- life -------------------------------------------------------------------------------------

    pub(super) fn boot_later(&mut self, i: usize, after: u64) {
        self.cast[i].returns = true;
        self.queue.push(self.now + after, Ev::Boot(i));
    }

    /// A process starts. `mkfs`: only to format, under the same name.
    pub(super) fn boot(&mut self, i: usize, mkfs: bool) {
        if self.cast[i].machine.is_some() {
            if self.cast[i].returns && self.cast[i].is_on_its_way_out() {
                self.boot_later(i, 500 * MS);
            }
            return;
        }
        let generation = self.now_both().wall.0;
        let connect = self.hax[self.cast[i].hax].addr;
        let actor = &mut self.cast[i];
        actor.returns = false;
        actor.doubted = Some(self.now);
        actor.kind = if mkfs { ProcessType::Mkfs } else { actor.usual_kind() };
        let config = process::Config {
            fid: actor.fid,
            listen: actor.addr,
            connect,
            pid: 1000 + u64::from(actor.life),
            git_rev: "27e7f86e".into(),
            generation,
            seed: generation,
        };
        actor.machine = Some(Box::new(Process::new(config)));
        actor.stage = Stage::Asking;
        actor.wake = u64::MAX;
        (actor.mute, actor.has_link, actor.wants_failures) = (false, false, false);
        actor.told.clear();
        (actor.links, actor.failures_answered) = (0, None);
        actor.questions.clear();
        actor.answered.clear();
        actor.sent.clear();
        actor.held.clear();
        let addr = actor.addr;
        self.net.listening.insert(addr, Who::Motr(i));
        self.say(|| format!("process {i} starts (mkfs: {mkfs})"));
        self.command(i, Command::Ask);
        self.look_later(i);
    }

    pub(super) fn kill_process(&mut self, i: usize) {
        let actor = &mut self.cast[i];
        if actor.machine.take().is_none() {
            return;
        }
        actor.life += 1;
        actor.doubted = Some(self.now);
        actor.stage = Stage::Down;
        let addr = actor.addr;
        self.net.listening.remove(&addr);
        self.hang_up(Who::Motr(i));
        self.oracle.process_died(i);
        self.say(|| format!("process {i} is dead"));
        self.look_later(i);
    }

    /// The process says that it stops, and does.
    pub(super) fn leave(&mut self, i: usize) {
        if self.cast[i].machine.is_some() && self.cast[i].stage == Stage::Up {
            self.cast[i].stage = Stage::Stopping;
            self.report(i, ProcessEventKind::Stopping);
            self.queue.push(self.now + 20 * MS, Ev::Cue(i, self.cast[i].life));
        }
    }

    /// The next line of its part.
    pub(super) fn cue(&mut self, i: usize, life: u32) {
        let actor = &self.cast[i];
        if actor.life != life || actor.machine.is_none() {
            return;
        }
        let mkfs = actor.kind == ProcessType::Mkfs;
        match actor.stage {
            Stage::Down | Stage::Asking => {}
            Stage::Starting => {
                let answered = actor.questions.is_empty() && !actor.wants_failures;
                if answered {
                    self.cast[i].stage = Stage::Recovering;
                    self.report(i, ProcessEventKind::Started);
                    let later = self.now + 300 * MS;
                    self.queue.push(later, Ev::Cue(i, life));
                }
            }
            Stage::Recovering => {
                self.cast[i].stage = Stage::Up;
                if mkfs {
                    self.leave(i);
                } else if !self.cast[i].is_confd() {
                    self.report(i, ProcessEventKind::DtmRecovered);
                }
            }
            Stage::Up => {}
            Stage::Leaving => {}
            Stage::Stopping => {
                self.report(i, ProcessEventKind::Stopped);
                self.cast[i].stage = Stage::Leaving;
                self.command(i, Command::Stop);
            }
        }
    }

    // ---- what it says -----------------------------------------------------------------------------

    pub(super) fn report(&mut self, i: usize, event: ProcessEventKind) {
        let (fid, kind) = (self.cast[i].fid, self.cast[i].kind);
        let body = Body::Process(ProcessEvent { event, kind, pid: 7 });
        self.post(i, Message { fid, ..Message::new(self.now_both().wall, body) });
    }

    /// Asks for these states.
    pub(super) fn ask_states(&mut self, i: usize, fids: Vec<Fid>) {
        let actor = &mut self.cast[i];
        let silent = actor.machine.is_none() || actor.stage == Stage::Leaving;
        if silent || actor.questions.len() >= QUESTIONS {
            return;
        }
        let id_of_get = actor.next_send;
        let notes =
            fids.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown }).collect();
        let index = self.consul.double.index();
        actor.questions.insert(id_of_get, Question { fids, index });
        let nvec = Nvec { kind: NvecKind::Get, id_of_get, ignore_same_state: 0, notes };
        self.say_body(i, Body::Nvec(Box::new(nvec)));
    }

    pub(super) fn ask_failures(&mut self, i: usize) {
        self.cast[i].wants_failures = true;
        let pool = Fid::typed(b'o', 1, 0);
        self.say_body(i, Body::FailureVecReq { pool, cookie: (i as u64, 5) });
    }

    pub(super) fn say_body(&mut self, i: usize, body: Body) {
        self.post(i, Message::new(self.now_both().wall, body));
    }

    /// The same about another object than none.
    pub(super) fn say_about(&mut self, i: usize, fid: Fid, body: Body) {
        self.post(i, Message { fid, ..Message::new(self.now_both().wall, body) });
    }

    /// Says something without consequence: who says nothing does not notice that its hax has forgotten
    /// it.
    pub(super) fn nudge(&mut self, i: usize) {
        let actor = &self.cast[i];
        if actor.stage != Stage::Leaving || !actor.sent.is_empty() {
            let body = Body::Rpc { attempts: 1, state: 1 };
            self.post_at_last(i, Message::new(self.now_both().wall, body));
        }
    }

    fn post(&mut self, i: usize, message: Message) {
        if self.cast[i].stage != Stage::Leaving {
            self.post_at_last(i, message);
        }
    }

    fn post_at_last(&mut self, i: usize, message: Message) {
        let actor = &mut self.cast[i];
        if actor.machine.is_none() {
            return;
        }
        let send = SendId(actor.next_send);
        actor.next_send += 1;
        actor.sent.insert(send);
        self.command(i, Command::Send { send, message: Box::new(message) });
    }

    // ---- the machine ------------------------------------------------------------------------------

    pub(super) fn command(&mut self, i: usize, command: Command) {
        self.feed_process(i, Input::Command(command));
    }

    pub(super) fn tick_process(&mut self, i: usize) {
        if self.cast[i].wake <= self.now && self.cast[i].machine.is_some() {
            self.cast[i].wake = u64::MAX;
            self.feed_process(i, Input::Tick);
        }
    }

    pub(super) fn feed_process(&mut self, i: usize, input: Input) {
        let now = self.now_both();
        let Some(mut machine) = self.cast[i].machine.take() else { return };
        let mut out = std::mem::take(&mut self.out_process);
        let next = machine.handle(now, input, &mut out);
        self.cast[i].machine = Some(machine);
        if let Next::WaitUntil { at, .. } = next {
            let at = at.as_micros();
            if at != self.cast[i].wake {
                self.cast[i].wake = at;
                self.queue.push(at.max(self.now), Ev::Tick(Who::Motr(i)));
            }
        } else {
            self.cast[i].wake = u64::MAX;
        }
        let mut events = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Net(command) => self.on_net(Who::Motr(i), command),
                Output::Event(event) => events.push(event),
                Output::Fact(_) => {}
            }
        }
        self.out_process = out;
        for event in events {
            if self.cast[i].machine.is_some() {
                self.on_process(i, event);
            }
        }
    }

    fn on_process(&mut self, i: usize, event: Event) {
        match event {
            Event::Answered { control, entrypoint, .. } => {
                self.say(|| format!("process {i}: entrypoint, control {control}"));
                let again = self.cast[i].has_link;
                self.oracle.entrypoint(i, (control, again), &entrypoint);
                // A process that has its configuration shuts itself down on an empty answer.
                if again && control == CONSUME && *entrypoint == Entrypoint::default() {
                    self.leave(i);
                }
            }
            Event::LinkUp { reconnected } => {
                self.cast[i].has_link = true;
                self.cast[i].links += 1;
                self.say(|| format!("process {i}: link (reconnected: {reconnected})"));
                if self.cast[i].stage == Stage::Asking {
                    self.cast[i].stage = Stage::Starting;
                    self.report(i, ProcessEventKind::Starting);
                    if self.cast[i].kind == ProcessType::Mkfs {
                        return self.queue.push(self.now, Ev::Cue(i, self.cast[i].life));
                    }
                    self.ask_failures(i);
                    let objects = self.objects.clone();
                    self.ask_states(i, objects);
                }
            }
            Event::LinkFailed => self.say(|| format!("process {i}: its link failed")),
            Event::Received { msg, message } => {
                self.hear(i, &message);
                if self.cast[i].mute {
                    self.cast[i].held.push(msg);
                } else {
                    // Slow ones are so at rest, too.
                    let slow = self.swarm.slow_ms;
                    let after = if self.calm { slow / 2 } else { self.choose(slow) } * MS;
                    self.queue.push(self.now + after, Ev::Ack(i, self.cast[i].life, msg));
                }
            }
            Event::Delivered { send } => {
                if !self.cast[i].sent.remove(&send) {
                    self.oracle.fail("a message is delivered once", format!("process {i}: {send}"));
                }
            }
            Event::Aborted { why } => {
                self.oracle.aborted(i, why, &self.consul.double, self.cast[i].fid);
                self.kill_process(i);
                self.boot_later(i, S);
            }
            Event::Stopped => {
                let mkfs = self.cast[i].kind == ProcessType::Mkfs;
                self.kill_process(i);
                if mkfs {
                    self.boot_later(i, S);
                }
            }
        }
    }

    fn hear(&mut self, i: usize, message: &Message) {
        self.say(|| format!("process {i} hears {}", super::trace::message(message)));
        match &message.body {
            Body::Nvec(nvec) => {
                let actor = &mut self.cast[i];
                if nvec.id_of_get != 0 {
                    let again = actor.answered.insert(nvec.id_of_get, actor.links);
                    if again == Some(actor.links) {
                        let text = format!("process {i}: answer to {}", nvec.id_of_get);
                        return self.oracle.fail("a question has one answer", text);
                    }
                    let asked = actor.questions.remove(&nvec.id_of_get);
                    self.check_answer(i, asked, nvec);
                } else {
                    self.cast[i].heard += 1;
                }
                let told = &mut self.cast[i].told;
                told.extend(nvec.notes.iter().map(|note| (note.fid, note.state)));
                self.go_on(i);
            }
            Body::FailureVecRep { .. } => {
                let actor = &mut self.cast[i];
                // Who was acknowledged too late asks again over its next link.
                let again = actor.failures_answered.replace(actor.links) == Some(actor.links);
                if again && !actor.wants_failures {
                    let text = format!("process {i}: a failure vector");
                    return self.oracle.fail("a question has one answer", text);
                }
                actor.wants_failures = false;
                self.go_on(i);
            }
            other => {
                let text = format!("process {i}: {}", other.name());
                self.oracle.fail("hax sends states and failure vectors only", text);
            }
        }
    }

    /// An answer is about what was asked, and says what is so, or was while it was on its way.
    fn check_answer(&mut self, i: usize, asked: Option<Question>, nvec: &Nvec) {
        let Some(Question { fids, index }) = asked else { return };
        if !nvec.notes.iter().map(|note| note.fid).eq(fids) {
            let text = format!("process {i}: other objects than it asked for");
            return self.oracle.fail("an answer is about what was asked", text);
        }
        // A reading whose index lies may keep what is gone.
        if self.consul.double.index() != index || self.swarm.has_index_faults() {
            return;
        }
        let model = Model::of(&self.consul.double);
        let doubted = self.hax[self.cast[i].hax].posted.is_some_and(|at| self.now < at + DOUBT);
        let fits = |note: &&Note| {
            note.state == model.state(note.fid) || doubted && model.is_unvouched(note.fid)
        };
        let wrong = nvec.notes.iter().find(|note| !fits(note));
        if let Some(note) = wrong {
            let (fid, said, is) = (note.fid, note.state, model.state(note.fid));
            let text = format!("process {i}: {fid} is {is}, the answer says {said}");
            self.oracle.fail("an answer is no older than its question", text);
        }
    }

    /// A process that starts goes on when it has its answers.
    fn go_on(&mut self, i: usize) {
        if self.cast[i].stage == Stage::Starting {
            let life = self.cast[i].life;
            self.queue.push(self.now + 10 * MS, Ev::Cue(i, life));
        }
    }

    pub(super) fn acknowledge(&mut self, i: usize, life: u32, msg: MsgId) {
        if self.cast[i].life == life && self.cast[i].machine.is_some() {
            self.command(i, Command::Ack { msg });
        }
    }

    /// Whoever does not acknowledge does so now.
    pub(super) fn unmute(&mut self, i: usize) {
        self.cast[i].mute = false;
        for msg in std::mem::take(&mut self.cast[i].held) {
            self.acknowledge(i, self.cast[i].life, msg);
        }
    }
}
