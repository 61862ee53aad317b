//! A keeper of a node: the production state machine, with processes that are only numbers.

use std::collections::BTreeMap;

use hax_core::base::id::AskId;
use hax_core::base::time::{Instant, Next};
use hax_core::exec::Status;
use hax_core::keeper::answer::{Answer, Held, KeeperView, Message, View, What};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::port::{Command, Event, Unanswered};
use hax_core::keeper::process::{Process, Stat};
use hax_core::keeper::record::{Found, RecordFile};
use hax_core::keeper::request::{Ask, Request, Start, VERSION};
use hax_core::keeper::{ClientId, Config, Input, Keeper, Output};

/// The connection of hax.
const HAX: ClientId = ClientId(1);

/// The request with which a connection begins.
const WATCH: u64 = u64::MAX;

/// A keeper and its processes.
pub(crate) struct KeeperHost {
    keeper: Keeper,
    pub(crate) next: Next,
    boot: Box<str>,
    generation: u64,
    /// The living processes by instance.
    pub(crate) living: BTreeMap<InstanceId, Process>,
    /// The files of each instance.
    files: BTreeMap<InstanceId, BTreeMap<RecordFile, Vec<u8>>>,
    pids: u32,
    /// All starts, in order.
    pub(crate) starts: Vec<(Instant, Box<Start>)>,
    /// The service names whose programs cannot be started, with the reason.
    pub(crate) broken: BTreeMap<Box<str>, Box<str>>,
    /// The service names whose programs ignore signals.
    pub(crate) stubborn: Vec<Box<str>>,
    is_connected: bool,
    listed: Vec<View>,
    events: Vec<Event>,
}

impl KeeperHost {
    pub(crate) fn new(boot: &str) -> Self {
        let mut host = Self {
            keeper: Keeper::new(config(boot, 1)),
            next: Next::Wait,
            boot: boot.into(),
            generation: 1,
            living: BTreeMap::new(),
            files: BTreeMap::new(),
            pids: 100,
            starts: Vec::new(),
            broken: BTreeMap::new(),
            stubborn: Vec::new(),
            is_connected: false,
            listed: Vec::new(),
            events: Vec::new(),
        };
        host.pids += 1;
        host
    }

    /// Restarts the keeper. The processes live, and it finds them.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.generation += 1;
        self.keeper = Keeper::new(config(&self.boot, self.generation));
        self.is_connected = false;
        self.events.clear();
        let files = self.files.clone();
        for (instance, files) in files {
            let of = |file| files.get(&file).cloned();
            let process = of(RecordFile::Process);
            let alive = self.living.get(&instance).map(|process| stat(*process));
            let found = Found {
                path: instance.as_str().into(),
                intent: of(RecordFile::Intent).unwrap_or_default(),
                process: process.clone(),
                deadline: None,
                stop: of(RecordFile::Stop),
                ended: of(RecordFile::Ended),
                now: alive.as_deref().and_then(|text| Stat::parse(text.as_bytes())),
                left: false,
            };
            self.hand(now, Input::Found(Box::new(found)));
        }
    }

    /// Reboots the node: nothing lives, and the keeper's folder is empty.
    pub(crate) fn reboot(&mut self, boot: &str) {
        let (pids, starts) = (self.pids, std::mem::take(&mut self.starts));
        *self = Self { pids, starts, ..Self::new(boot) };
    }

    // ---- hax's side -------------------------------------------------------------------------------

    /// Connects hax, and returns the events of the port.
    pub(crate) fn connect(&mut self, now: Instant) -> Vec<Event> {
        self.is_connected = true;
        self.listed.clear();
        self.frame(now, WATCH, Ask::Watch);
        std::mem::take(&mut self.events)
    }

    /// The connection is lost.
    pub(crate) fn disconnect(&mut self, now: Instant) -> Vec<Event> {
        self.is_connected = false;
        self.hand(now, Input::Closed { client: HAX });
        self.events.clear();
        [Event::Down { why: "the connection is lost".into() }].into()
    }

    pub(crate) fn ask(&mut self, now: Instant, command: Command) -> Vec<Event> {
        if !self.is_connected {
            let result = Err(Unanswered::NotSent);
            return [Event::Answered { id: command.id, result }].into();
        }
        self.frame(now, command.id.0, command.ask);
        std::mem::take(&mut self.events)
    }

    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Event> {
        self.hand(now, Input::Tick);
        std::mem::take(&mut self.events)
    }

    /// A process ends.
    pub(crate) fn end(
        &mut self,
        now: Instant,
        instance: &InstanceId,
        status: Status,
    ) -> Vec<Event> {
        self.living.remove(instance).expect("it lives");
        self.hand(now, Input::Ended { instance: instance.clone(), status, left: false });
        std::mem::take(&mut self.events)
    }

    fn frame(&mut self, now: Instant, id: u64, ask: Ask) {
        let body = serde_json::to_vec(&Request { v: VERSION, id, ask }).unwrap();
        self.hand(now, Input::Frame { client: HAX, user: 0, body });
    }

    // ---- the keeper's side ------------------------------------------------------------------------

    fn hand(&mut self, now: Instant, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.next = self.keeper.handle(now, input, &mut out);
            for output in out {
                inputs.extend(self.carry_out(now, output));
            }
        }
    }

    fn carry_out(&mut self, now: Instant, output: Output) -> Option<Input> {
        match output {
            Output::Send { message, .. } => self.on_message(*message),
            Output::Write { instance, file, body } => {
                self.files.entry(instance.clone()).or_default().insert(file, body);
                return (file == RecordFile::Intent).then_some(Input::Stored { instance });
            }
            Output::Spawn { start } => return Some(self.spawn(now, start)),
            Output::Signal { instance, signal, all: true } => {
                let name = self.name_of(&instance);
                if !self.stubborn.contains(&name) {
                    return self.killed(instance, signal);
                }
            }
            Output::Kill { instance } => return self.killed(instance, 9),
            Output::Look { instance } => return Some(Input::Looked { instance, left: false }),
            Output::Remove { instance } => drop(self.files.remove(&instance)),
            Output::Adopt { .. }
            | Output::Follow { .. }
            | Output::Signal { .. }
            | Output::RunStop { .. }
            | Output::Release { .. }
            | Output::Fact(_) => {}
        }
        None
    }

    fn spawn(&mut self, now: Instant, start: Box<Start>) -> Input {
        let instance = start.instance.clone();
        if let Some(why) = self.broken.get(start.name.as_str()) {
            return Input::NotStarted { instance, why: why.clone() };
        }
        let same =
            self.living.keys().find(|other| self.name_of(other) == start.name.as_str().into());
        assert_eq!(same, None, "two instances of {} live", start.name);
        self.pids += 1;
        let process = Process { pid: self.pids, started: now.as_micros() };
        self.living.insert(instance.clone(), process);
        let files = self.files.entry(instance.clone()).or_default();
        files.insert(RecordFile::Process, stat(process).into_bytes());
        self.starts.push((now, start));
        Input::Started { instance, process }
    }

    fn name_of(&self, instance: &InstanceId) -> Box<str> {
        let start = self.starts.iter().find(|(_, start)| start.instance == *instance);
        start.map_or_else(|| "".into(), |(_, start)| start.name.as_str().into())
    }

    fn killed(&mut self, instance: InstanceId, signal: i32) -> Option<Input> {
        self.living.remove(&instance)?;
        Some(Input::Ended { instance, status: Status::Signal(signal), left: false })
    }

    fn on_message(&mut self, message: Message) {
        let id = message.id;
        match message.what {
            What::Answer(Answer::Instances { keeper, instances, more }) => {
                assert_eq!(id, Some(WATCH));
                self.listed.extend(instances);
                if !more {
                    let instances = std::mem::take(&mut self.listed);
                    self.events.push(Event::Up { keeper: shown(&keeper), instances });
                }
            }
            What::Answer(answer) => {
                let id = AskId(id.unwrap());
                self.events.push(Event::Answered { id, result: Ok(answer) });
            }
            What::Error(error) => {
                let (id, result) = (AskId(id.unwrap()), Err(Unanswered::Refused(error)));
                self.events.push(Event::Answered { id, result });
            }
            What::Event(event) => self.events.push(Event::Changed(event)),
        }
    }
}

fn shown(keeper: &KeeperView) -> Box<KeeperView> {
    Box::new(keeper.clone())
}

fn config(boot: &str, generation: u64) -> Config {
    Config { pid: 1, boot: boot.into(), generation, held: Held::Cgroup, instances_max: 4096 }
}

/// Returns the line of a process in `/proc/PID/stat`.
fn stat(process: Process) -> String {
    let zeros = "0 ".repeat(17);
    format!("{} (x) S 1 {zeros}{} 1 2 3\n", process.pid, process.started)
}
