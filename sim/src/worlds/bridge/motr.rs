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
use crate::engine::{MS, Party, S};

/// The maximum number of pending requests for states of one process.
const QUESTIONS: usize = 4;
/// The state of a process in its script.
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
    pub(super) restarts: bool,
    /// The machine. `None` while the process is down.
    pub(super) machine: Option<Box<Process>>,
    pub(super) life: u32,
    wake: u64,
    pub(super) state: ProcessState,
    kind: ProcessType,
    next_send: u64,
    /// The sent messages without a delivery.
    pub(super) sent: BTreeSet<SendId>,
    /// The requests without a response.
    pub(super) questions: BTreeMap<u64, Question>,
    /// The requests with a response, and the number of the link of the response.
    pub(super) answered: BTreeMap<u64, u64>,
    pub(super) awaits_failures: bool,
    pub(super) failures_answered: Option<u64>,
    /// The number of links of this life. Each reconnect makes a new one.
    pub(super) links: u64,
    /// The last received state of each object.
    pub(super) last_states: BTreeMap<Fid, ObjectState>,
    /// It does not acknowledge messages.
    pub(super) withholds_acks: bool,
    pub(super) withheld: Vec<MsgId>,
    pub(super) has_link: bool,
    /// The number of received state messages, for the rule that no messages are sent at rest.
    pub(super) notifications: u64,
    /// The time of the last valid evidence against it.
    pub(super) last_evidence: Option<u64>,
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
            restarts: false,
            machine: None,
            life: 0,
            wake: u64::MAX,
            state: ProcessState::Down,
            kind: ProcessType::M0d,
            next_send: 1,
            sent: BTreeSet::new(),
            questions: BTreeMap::new(),
            answered: BTreeMap::new(),
            awaits_failures: false,
            failures_answered: None,
            links: 0,
            last_states: BTreeMap::new(),
            withholds_acks: false,
            withheld: Vec::new(),
            has_link: false,
            notifications: 0,
            last_evidence: None,
        }
    }

    pub(super) fn is_confd(&self) -> bool {
        self.service == "confd"
    }

    /// Returns whether the process is stopping and is not down yet.
    pub(super) fn is_going_down(&self) -> bool {
        matches!(self.state, ProcessState::Stopping | ProcessState::Leaving)
    }

    fn usual_kind(&self) -> ProcessType {
        if self.service == "s3service" { ProcessType::Other } else { ProcessType::M0d }
    }
}

impl World<'_, Bridge> {
    // ---- life -------------------------------------------------------------------------------------

    pub(super) fn start_process_later(&mut self, i: usize, after: u64) {
        self.cast.motr[i].restarts = true;
        self.sim.schedule(self.sim.now() + after, Ev::StartProcess(i));
    }

    /// Starts a process. With `mkfs` it only formats, under the same fid.
    pub(super) fn start_process(&mut self, i: usize, mkfs: bool) {
        if self.cast.motr[i].machine.is_some() {
            if self.cast.motr[i].restarts && self.cast.motr[i].is_going_down() {
                self.start_process_later(i, 500 * MS);
            }
            return;
        }
        let generation = self.sim.clocks().wall.0;
        let connect = self.cast.hax[self.cast.motr[i].hax].addr;
        let process = &mut self.cast.motr[i];
        process.restarts = false;
        process.last_evidence = Some(self.sim.now());
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
        process.state = ProcessState::Asking;
        process.wake = u64::MAX;
        (process.withholds_acks, process.has_link, process.awaits_failures) = (false, false, false);
        process.last_states.clear();
        (process.links, process.failures_answered) = (0, None);
        process.questions.clear();
        process.answered.clear();
        process.sent.clear();
        process.withheld.clear();
        let addr = process.addr;
        self.net.listen(Party::Peer(i), addr);
        self.sim.log(|| format!("process {i} starts (mkfs: {mkfs})"));
        self.command(i, Command::Ask);
        self.check_process_later(i);
    }

    pub(super) fn kill_process(&mut self, i: usize) {
        let process = &mut self.cast.motr[i];
        if process.machine.take().is_none() {
            return;
        }
        process.life += 1;
        process.last_evidence = Some(self.sim.now());
        process.state = ProcessState::Down;
        self.net.stop_listening(Party::Peer(i));
        self.close_connections(Party::Peer(i));
        self.cast.oracle.on_process_death(i);
        self.sim.log(|| format!("process {i} is dead"));
        self.check_process_later(i);
    }

    /// Makes the process report that it stops, and stop.
    pub(super) fn stop_process(&mut self, i: usize) {
        if self.cast.motr[i].machine.is_some() && self.cast.motr[i].state == ProcessState::Up {
            self.cast.motr[i].state = ProcessState::Stopping;
            self.report(i, ProcessEventKind::Stopping);
            self.sim.schedule(self.sim.now() + 20 * MS, Ev::NextStep(i, self.cast.motr[i].life));
        }
    }

    /// Takes the next step of the process's script.
    pub(super) fn next_step(&mut self, i: usize, life: u32) {
        let process = &self.cast.motr[i];
        if process.life != life || process.machine.is_none() {
            return;
        }
        let mkfs = process.kind == ProcessType::Mkfs;
        match process.state {
            ProcessState::Down | ProcessState::Asking => {}
            ProcessState::Starting => {
                let answered = process.questions.is_empty() && !process.awaits_failures;
                if answered {
                    self.cast.motr[i].state = ProcessState::Recovering;
                    self.report(i, ProcessEventKind::Started);
                    let later = self.sim.now() + 300 * MS;
                    self.sim.schedule(later, Ev::NextStep(i, life));
                }
            }
            ProcessState::Recovering => {
                self.cast.motr[i].state = ProcessState::Up;
                if mkfs {
                    self.stop_process(i);
                } else if !self.cast.motr[i].is_confd() {
                    self.report(i, ProcessEventKind::DtmRecovered);
                }
            }
            ProcessState::Up => {}
            ProcessState::Leaving => {}
            ProcessState::Stopping => {
                self.report(i, ProcessEventKind::Stopped);
                self.cast.motr[i].state = ProcessState::Leaving;
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
    pub(super) fn request_states(&mut self, i: usize, fids: Vec<Fid>) {
        let process = &mut self.cast.motr[i];
        let silent = process.machine.is_none() || process.state == ProcessState::Leaving;
        if silent || process.questions.len() >= QUESTIONS {
            return;
        }
        let id_of_get = process.next_send;
        let notes =
            fids.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown }).collect();
        let index = self.consul.double.index();
        process.questions.insert(id_of_get, Question { fids, index });
        let nvec = Nvec { kind: NvecKind::Get, id_of_get, ignore_same_state: 0, notes };
        self.send_body(i, Body::Nvec(Box::new(nvec)));
    }

    pub(super) fn request_failures(&mut self, i: usize) {
        self.cast.motr[i].awaits_failures = true;
        let pool = Fid::typed(b'o', 1, 0);
        self.send_body(i, Body::FailureVecReq { pool, cookie: (i as u64, 5) });
    }

    pub(super) fn send_body(&mut self, i: usize, body: Body) {
        self.send(i, Message::new(self.sim.clocks().wall, body));
    }

    /// Sends a message with the fid of an object.
    pub(super) fn send_about(&mut self, i: usize, fid: Fid, body: Body) {
        self.send(i, Message { fid, ..Message::new(self.sim.clocks().wall, body) });
    }

    /// Sends a message without an effect: a process that sends nothing does not notice that its hax has
    /// forgotten it.
    pub(super) fn nudge(&mut self, i: usize) {
        let process = &self.cast.motr[i];
        if process.state != ProcessState::Leaving || !process.sent.is_empty() {
            let body = Body::Rpc { attempts: 1, state: 1 };
            self.send_in_any_state(i, Message::new(self.sim.clocks().wall, body));
        }
    }

    fn send(&mut self, i: usize, message: Message) {
        if self.cast.motr[i].state != ProcessState::Leaving {
            self.send_in_any_state(i, message);
        }
    }

    fn send_in_any_state(&mut self, i: usize, message: Message) {
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
                self.sim.schedule(at.max(self.sim.now()), Ev::ProcessTick(i));
            }
        } else {
            self.cast.motr[i].wake = u64::MAX;
        }
        let mut events = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Net(command) => self.on_net(Party::Peer(i), command),
                Output::Event(event) => events.push(event),
                Output::Fact(_) => {}
            }
        }
        self.cast.out = out;
        for event in events {
            if self.cast.motr[i].machine.is_some() {
                self.on_process_event(i, event);
            }
        }
    }

    fn on_process_event(&mut self, i: usize, event: Event) {
        match event {
            Event::Answered { control, entrypoint, .. } => {
                self.sim.log(|| format!("process {i}: entrypoint, control {control}"));
                let again = self.cast.motr[i].has_link;
                self.sim.check(self.cast.oracle.check_entrypoint(i, (control, again), &entrypoint));
                // A process that has its configuration shuts itself down on an empty response.
                if again && control == CONSUME && *entrypoint == Entrypoint::default() {
                    self.stop_process(i);
                }
            }
            Event::LinkUp { reconnected } => {
                self.cast.motr[i].has_link = true;
                self.cast.motr[i].links += 1;
                self.sim.log(|| format!("process {i}: link (reconnected: {reconnected})"));
                if self.cast.motr[i].state == ProcessState::Asking {
                    self.cast.motr[i].state = ProcessState::Starting;
                    self.report(i, ProcessEventKind::Starting);
                    if self.cast.motr[i].kind == ProcessType::Mkfs {
                        return self
                            .sim
                            .schedule(self.sim.now(), Ev::NextStep(i, self.cast.motr[i].life));
                    }
                    self.request_failures(i);
                    let objects = self.cast.objects.clone();
                    self.request_states(i, objects);
                }
            }
            Event::LinkFailed => self.sim.log(|| format!("process {i}: its link failed")),
            Event::Received { msg, message } => {
                self.on_message(i, &message);
                if self.cast.motr[i].withholds_acks {
                    self.cast.motr[i].withheld.push(msg);
                } else {
                    // A slow process is slow at rest, too.
                    let slow = self.cast.swarm.slow_ms;
                    let after =
                        if self.sim.are_faults_off() { slow / 2 } else { self.sim.choose(slow) }
                            * MS;
                    self.sim
                        .schedule(self.sim.now() + after, Ev::Ack(i, self.cast.motr[i].life, msg));
                }
            }
            Event::Delivered { send } => {
                if !self.cast.motr[i].sent.remove(&send) {
                    self.sim.fail("a message is delivered once", format!("process {i}: {send}"));
                }
            }
            Event::Aborted { why } => {
                let fid = self.cast.motr[i].fid;
                self.sim.check(oracle::check_abort(i, why, &self.consul.double, fid));
                self.kill_process(i);
                self.start_process_later(i, S);
            }
            Event::Stopped => {
                let mkfs = self.cast.motr[i].kind == ProcessType::Mkfs;
                self.kill_process(i);
                if mkfs {
                    self.start_process_later(i, S);
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
    pub(super) fn resume_acks(&mut self, i: usize) {
        self.cast.motr[i].withholds_acks = false;
        for msg in std::mem::take(&mut self.cast.motr[i].withheld) {
            self.acknowledge(i, self.cast.motr[i].life, msg);
        }
    }
}
