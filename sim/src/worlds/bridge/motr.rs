//! The Motr processes. Each follows its script through the wire's own process machine, which aborts where a
//! real process would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use hax_core::base::fid::Fid;
use hax_core::base::id::{MsgId, SendId};
use hax_core::base::time::Next;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::wire::codec::fop::CONSUME;
use hax_core::wire::process::{self, Command, Event, Input, Output, Process};

use super::event::Ev;
use super::{Bridge, World, oracle};
use crate::engine::{MS, S, Who};

/// The maximum number of pending requests for states of one process.
const QUESTIONS: usize = 4;
/// The stage of a process in its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessState {
    Down,
    /// It has requested its entrypoint.
    Asking,
    /// It has reported its start, and waits for responses.
    Starting,
    /// It has reported that it has started, and replays.
    Recovering,
    /// It runs normally.
    Up,
    /// It has reported that it stops.
    Stopping,
    /// It has reported that it has stopped. That is its last message.
    Leaving,
}

/// A request for states.
pub(super) struct Question {
    pub(super) fids: Vec<Fid>,
    /// Consul's index at the time of the request.
    pub(super) index: u64,
}

pub(super) struct SimProcess {
    pub(super) fid: Fid,
    pub(super) addr: SocketAddr,
    /// The hax of its node.
    pub(super) hax: usize,
    /// The name of its service in the catalog, the id of its check, and the body of its registration.
    pub(super) service: String,
    pub(super) check: String,
    pub(super) registration: String,
    pub(super) registered: bool,
    /// It is down and will start again by itself.
    pub(super) returns: bool,
    /// The machine. `None` while the process is down.
    pub(super) machine: Option<Box<Process>>,
    pub(super) life: u32,
    wake: u64,
    pub(super) stage: ProcessState,
    kind: ProcessType,
    next_send: u64,
    /// The sent messages without a delivery.
    pub(super) sent: BTreeSet<SendId>,
    /// The requests without a response.
    pub(super) questions: BTreeMap<u64, Question>,
    /// The requests with a response, and the number of the link of the response.
    pub(super) answered: BTreeMap<u64, u64>,
    pub(super) wants_failures: bool,
    pub(super) failures_answered: Option<u64>,
    /// The number of links of this life. Each reconnect makes a new one.
    pub(super) links: u64,
    /// The last received state of each object.
    pub(super) told: BTreeMap<Fid, ObjectState>,
    /// It does not acknowledge messages.
    pub(super) mute: bool,
    pub(super) held: Vec<MsgId>,
    pub(super) has_link: bool,
    /// The number of received state messages, for the rule that no messages are sent at rest.
    pub(super) heard: u64,
    /// The time of the last valid evidence against it.
    pub(super) doubted: Option<u64>,
}

impl SimProcess {
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
            stage: ProcessState::Down,
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

    /// Returns whether the process is stopping and is not down yet.
    pub(super) fn is_on_its_way_out(&self) -> bool {
        matches!(self.stage, ProcessState::Stopping | ProcessState::Leaving)
    }

    fn usual_kind(&self) -> ProcessType {
        if self.service == "s3service" { ProcessType::Other } else { ProcessType::M0d }
    }
}

impl World<'_, Bridge> {
    // ---- life -------------------------------------------------------------------------------------

    pub(super) fn boot_later(&mut self, i: usize, after: u64) {
        self.cast.motr[i].returns = true;
        self.sim.later(self.sim.now() + after, Ev::Boot(i));
    }

    /// Starts a process. With `mkfs` it only formats, under the same fid.
    pub(super) fn boot(&mut self, i: usize, mkfs: bool) {
        if self.cast.motr[i].machine.is_some() {
            if self.cast.motr[i].returns && self.cast.motr[i].is_on_its_way_out() {
                self.boot_later(i, 500 * MS);
            }
            return;
        }
        let generation = self.sim.clocks().wall.0;
        let connect = self.cast.hax[self.cast.motr[i].hax].addr;
        let process = &mut self.cast.motr[i];
        process.returns = false;
        process.doubted = Some(self.sim.now());
        process.kind = if mkfs { ProcessType::Mkfs } else { process.usual_kind() };
        let config = process::Config {
            fid: process.fid,
            listen: process.addr,
            connect,
            pid: 1000 + u64::from(process.life),
            git_rev: "27e7f86e".into(),
            generation,
            seed: generation,
        };
        process.machine = Some(Box::new(Process::new(config)));
        process.stage = ProcessState::Asking;
        process.wake = u64::MAX;
        (process.mute, process.has_link, process.wants_failures) = (false, false, false);
        process.told.clear();
        (process.links, process.failures_answered) = (0, None);
        process.questions.clear();
        process.answered.clear();
        process.sent.clear();
        process.held.clear();
        let addr = process.addr;
        self.net.listen(Who::Peer(i), addr);
        self.sim.say(|| format!("process {i} starts (mkfs: {mkfs})"));
        self.command(i, Command::Ask);
        self.look_later(i);
    }

    pub(super) fn kill_process(&mut self, i: usize) {
        let process = &mut self.cast.motr[i];
        if process.machine.take().is_none() {
            return;
        }
        process.life += 1;
        process.doubted = Some(self.sim.now());
        process.stage = ProcessState::Down;
        self.net.deafen(Who::Peer(i));
        self.hang_up(Who::Peer(i));
        self.cast.oracle.process_died(i);
        self.sim.say(|| format!("process {i} is dead"));
        self.look_later(i);
    }

    /// Makes the process report that it stops, and stop.
    pub(super) fn leave(&mut self, i: usize) {
        if self.cast.motr[i].machine.is_some() && self.cast.motr[i].stage == ProcessState::Up {
            self.cast.motr[i].stage = ProcessState::Stopping;
            self.report(i, ProcessEventKind::Stopping);
            self.sim.later(self.sim.now() + 20 * MS, Ev::Cue(i, self.cast.motr[i].life));
        }
    }

    /// Takes the next step of the process's script.
    pub(super) fn cue(&mut self, i: usize, life: u32) {
        let process = &self.cast.motr[i];
        if process.life != life || process.machine.is_none() {
            return;
        }
        let mkfs = process.kind == ProcessType::Mkfs;
        match process.stage {
            ProcessState::Down | ProcessState::Asking => {}
            ProcessState::Starting => {
                let answered = process.questions.is_empty() && !process.wants_failures;
                if answered {
                    self.cast.motr[i].stage = ProcessState::Recovering;
                    self.report(i, ProcessEventKind::Started);
                    let later = self.sim.now() + 300 * MS;
                    self.sim.later(later, Ev::Cue(i, life));
                }
            }
            ProcessState::Recovering => {
                self.cast.motr[i].stage = ProcessState::Up;
                if mkfs {
                    self.leave(i);
                } else if !self.cast.motr[i].is_confd() {
                    self.report(i, ProcessEventKind::DtmRecovered);
                }
            }
            ProcessState::Up => {}
            ProcessState::Leaving => {}
            ProcessState::Stopping => {
                self.report(i, ProcessEventKind::Stopped);
                self.cast.motr[i].stage = ProcessState::Leaving;
                self.command(i, Command::Stop);
            }
        }
    }

    // ---- its messages -----------------------------------------------------------------------------

    pub(super) fn report(&mut self, i: usize, event: ProcessEventKind) {
        let (fid, kind) = (self.cast.motr[i].fid, self.cast.motr[i].kind);
        let body = Body::Process(ProcessEvent { event, kind, pid: 7 });
        self.send(i, Message { fid, ..Message::new(self.sim.clocks().wall, body) });
    }

    /// Requests the states of these objects.
    pub(super) fn ask_states(&mut self, i: usize, fids: Vec<Fid>) {
        let process = &mut self.cast.motr[i];
        let silent = process.machine.is_none() || process.stage == ProcessState::Leaving;
        if silent || process.questions.len() >= QUESTIONS {
            return;
        }
        let id_of_get = process.next_send;
        let notes =
            fids.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown }).collect();
        let index = self.consul.double.index();
        process.questions.insert(id_of_get, Question { fids, index });
        let nvec = Nvec { kind: NvecKind::Get, id_of_get, ignore_same_state: 0, notes };
        self.say_body(i, Body::Nvec(Box::new(nvec)));
    }

    pub(super) fn ask_failures(&mut self, i: usize) {
        self.cast.motr[i].wants_failures = true;
        let pool = Fid::typed(b'o', 1, 0);
        self.say_body(i, Body::FailureVecReq { pool, cookie: (i as u64, 5) });
    }

    pub(super) fn say_body(&mut self, i: usize, body: Body) {
        self.send(i, Message::new(self.sim.clocks().wall, body));
    }

    /// Sends a message with the fid of an object.
    pub(super) fn say_about(&mut self, i: usize, fid: Fid, body: Body) {
        self.send(i, Message { fid, ..Message::new(self.sim.clocks().wall, body) });
    }

    /// Sends a message without an effect: a process that sends nothing does not notice that its hax has
    /// forgotten it.
    pub(super) fn nudge(&mut self, i: usize) {
        let process = &self.cast.motr[i];
        if process.stage != ProcessState::Leaving || !process.sent.is_empty() {
            let body = Body::Rpc { attempts: 1, state: 1 };
            self.send_at_last(i, Message::new(self.sim.clocks().wall, body));
        }
    }

    fn send(&mut self, i: usize, message: Message) {
        if self.cast.motr[i].stage != ProcessState::Leaving {
            self.send_at_last(i, message);
        }
    }

    fn send_at_last(&mut self, i: usize, message: Message) {
        let process = &mut self.cast.motr[i];
        if process.machine.is_none() {
            return;
        }
        let send = SendId(process.next_send);
        process.next_send += 1;
        process.sent.insert(send);
        self.command(i, Command::Send { send, message: Box::new(message) });
    }

    // ---- the machine ------------------------------------------------------------------------------

    pub(super) fn command(&mut self, i: usize, command: Command) {
        self.feed_process(i, Input::Command(command));
    }

    pub(super) fn tick_process(&mut self, i: usize) {
        if self.cast.motr[i].wake <= self.sim.now() && self.cast.motr[i].machine.is_some() {
            self.cast.motr[i].wake = u64::MAX;
            self.feed_process(i, Input::Tick);
        }
    }

    pub(super) fn feed_process(&mut self, i: usize, input: Input) {
        let now = self.sim.clocks();
        let Some(mut machine) = self.cast.motr[i].machine.take() else { return };
        let mut out = std::mem::take(&mut self.cast.out);
        let next = machine.handle(now, input, &mut out);
        self.cast.motr[i].machine = Some(machine);
        if let Next::WaitUntil { at, .. } = next {
            let at = at.as_micros();
            if at != self.cast.motr[i].wake {
                self.cast.motr[i].wake = at;
                self.sim.later(at.max(self.sim.now()), Ev::Wake(i));
            }
        } else {
            self.cast.motr[i].wake = u64::MAX;
        }
        let mut events = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Net(command) => self.on_net(Who::Peer(i), command),
                Output::Event(event) => events.push(event),
                Output::Fact(_) => {}
            }
        }
        self.cast.out = out;
        for event in events {
            if self.cast.motr[i].machine.is_some() {
                self.on_process(i, event);
            }
        }
    }

    fn on_process(&mut self, i: usize, event: Event) {
        match event {
            Event::Answered { control, entrypoint, .. } => {
                self.sim.say(|| format!("process {i}: entrypoint, control {control}"));
                let again = self.cast.motr[i].has_link;
                self.sim.check(self.cast.oracle.entrypoint(i, (control, again), &entrypoint));
                // A process that has its configuration shuts itself down on an empty response.
                if again && control == CONSUME && *entrypoint == Entrypoint::default() {
                    self.leave(i);
                }
            }
            Event::LinkUp { reconnected } => {
                self.cast.motr[i].has_link = true;
                self.cast.motr[i].links += 1;
                self.sim.say(|| format!("process {i}: link (reconnected: {reconnected})"));
                if self.cast.motr[i].stage == ProcessState::Asking {
                    self.cast.motr[i].stage = ProcessState::Starting;
                    self.report(i, ProcessEventKind::Starting);
                    if self.cast.motr[i].kind == ProcessType::Mkfs {
                        return self.sim.later(self.sim.now(), Ev::Cue(i, self.cast.motr[i].life));
                    }
                    self.ask_failures(i);
                    let objects = self.cast.objects.clone();
                    self.ask_states(i, objects);
                }
            }
            Event::LinkFailed => self.sim.say(|| format!("process {i}: its link failed")),
            Event::Received { msg, message } => {
                self.hear(i, &message);
                if self.cast.motr[i].mute {
                    self.cast.motr[i].held.push(msg);
                } else {
                    // A slow process is slow at rest, too.
                    let slow = self.cast.swarm.slow_ms;
                    let after =
                        if self.sim.is_calm() { slow / 2 } else { self.sim.choose(slow) } * MS;
                    self.sim.later(self.sim.now() + after, Ev::Ack(i, self.cast.motr[i].life, msg));
                }
            }
            Event::Delivered { send } => {
                if !self.cast.motr[i].sent.remove(&send) {
                    self.sim.fail("a message is delivered once", format!("process {i}: {send}"));
                }
            }
            Event::Aborted { why } => {
                let fid = self.cast.motr[i].fid;
                self.sim.check(oracle::aborted(i, why, &self.consul.double, fid));
                self.kill_process(i);
                self.boot_later(i, S);
            }
            Event::Stopped => {
                let mkfs = self.cast.motr[i].kind == ProcessType::Mkfs;
                self.kill_process(i);
                if mkfs {
                    self.boot_later(i, S);
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self, i: usize, life: u32, msg: MsgId) {
        if self.cast.motr[i].life == life && self.cast.motr[i].machine.is_some() {
            self.command(i, Command::Ack { msg });
        }
    }

    /// Makes a process resume acknowledging, beginning with the held messages.
    pub(super) fn unmute(&mut self, i: usize) {
        self.cast.motr[i].mute = false;
        for msg in std::mem::take(&mut self.cast.motr[i].held) {
            self.acknowledge(i, self.cast.motr[i].life, msg);
        }
    }
}
