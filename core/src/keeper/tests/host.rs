//! A host in memory. Its files and processes outlive the keeper, which a test may kill before any output.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::base::errno::Errno;
use crate::base::time::{Instant, Next};
use crate::exec::Status;
use crate::keeper::answer::{Answer, Error, Event, Held, Message, View, What};
use crate::keeper::name::InstanceId;
use crate::keeper::process::{Process, Stat};
use crate::keeper::record::tests::stat;
use crate::keeper::record::{Found, RecordFile};
use crate::keeper::request::{Ask, Request, Start, VERSION};
use crate::keeper::{ClientId, Config, Input, Keeper, Output};

/// The processes of one instance.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The main process, while it is alive.
    pub(super) main: Option<Process>,
    /// Another process that the main process started.
    pub(super) other: Option<Process>,
    /// Whether the processes ignore the signal of a stop.
    pub(super) is_deaf: bool,
    /// Whether the processes also ignore SIGKILL, because they hang in a system call.
    pub(super) hangs: bool,
}

impl Group {
    pub(super) fn is_there(&self) -> bool {
        self.main.is_some() || self.other.is_some()
    }
}

pub(super) struct Host {
    pub(super) keeper: Option<Keeper>,
    pub(super) now: Instant,
    pub(super) boot: u32,
    generation: u64,
    pub(super) files: BTreeMap<InstanceId, BTreeMap<RecordFile, Vec<u8>>>,
    pub(super) groups: BTreeMap<InstanceId, Group>,
    next_pid: u32,
    /// All messages sent, with their clients.
    pub(super) sent: Vec<(ClientId, Message)>,
    /// All outputs, as text.
    pub(super) trace: Vec<String>,
    pub(super) next: Next,
    inputs: VecDeque<Input>,
    is_busy: bool,
    /// The number of outputs after which the keeper is killed.
    pub(super) killed_after: Option<u32>,
    /// Whether the keeper's folder cannot be written to.
    pub(super) is_full: bool,
    /// The instances whose programs cannot be started.
    pub(super) broken: BTreeSet<InstanceId>,
}

pub(super) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).unwrap()
}

pub(super) const CLIENT: ClientId = ClientId(1);
pub(super) const WATCHER: ClientId = ClientId(2);

impl Host {
    pub(super) fn new() -> Self {
        let mut host = Self {
            keeper: None,
            now: Instant::from_micros(1_000_000),
            boot: 1,
            generation: 0,
            files: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_pid: 100,
            sent: Vec::new(),
            trace: Vec::new(),
            next: Next::Wait,
            inputs: VecDeque::new(),
            is_busy: false,
            killed_after: None,
            is_full: false,
            broken: BTreeSet::new(),
        };
        host.start_keeper();
        host
    }

    /// Starts a keeper that finds the files and processes of the previous one.
    pub(super) fn start_keeper(&mut self) {
        self.generation += 1;
        self.keeper = Some(Keeper::new(Config {
            pid: 1,
            boot: format!("b{}", self.boot).into(),
            generation: self.generation,
            held: Held::Cgroup,
            instances_max: 8,
        }));
        for (id, files) in self.files.clone() {
            let get = |file: RecordFile| files.get(&file).cloned();
            let mut found = Found {
                path: id.as_str().into(),
                intent: get(RecordFile::Intent).unwrap_or_default(),
                process: get(RecordFile::Process),
                deadline: get(RecordFile::Deadline),
                stop: get(RecordFile::Stop),
                ended: get(RecordFile::Ended),
                ..Found::default()
            };
            if let Some(group) = self.groups.get(&id) {
                let main = group.main.filter(|main| found.process() == Some(*main));
                found.now = main.map(|process| Stat { process, parent: 1, is_zombie: false });
                found.left = group.other.is_some();
            }
            self.input(Input::Found(Box::new(found)));
        }
    }

    pub(super) fn kill_keeper(&mut self) {
        self.keeper = None;
        self.next = Next::Wait;
        self.inputs.clear();
    }

    /// Restarts the node: no process survives.
    pub(super) fn reboot(&mut self) {
        self.kill_keeper();
        self.groups.clear();
        self.boot += 1;
        self.start_keeper();
    }

    fn mint(&mut self) -> Process {
        self.next_pid += 1;
        Process { pid: self.next_pid, started: u64::from(self.next_pid) * 10 }
    }

    /// Handles an input, carries out the outputs, and then handles their results.
    pub(super) fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
        if core::mem::replace(&mut self.is_busy, true) {
            return;
        }
        while let Some(input) = self.inputs.pop_front() {
            self.take(input);
        }
        self.is_busy = false;
    }

    fn take(&mut self, input: Input) {
        let Some(keeper) = &mut self.keeper else { return };
        let mut out = Vec::new();
        self.next = keeper.handle(self.now, input, &mut out);
        for output in out {
            if self.killed_after == Some(0) {
                self.killed_after = None;
                self.kill_keeper();
            }
            if self.keeper.is_none() {
                return;
            }
            if let Some(left) = &mut self.killed_after {
                *left -= 1;
            }
            self.execute(output);
        }
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::Send { client, message } => self.sent.push((client, *message)),
            Output::Write { instance, file, body } => self.write(instance, file, body),
            Output::Spawn { start } => self.spawn(*start),
            Output::Adopt { start, process } => {
                self.trace.push(format!("adopt {}", start.instance));
                let lives = self.groups.get(&start.instance).and_then(|group| group.main);
                if process.is_some() && lives != process {
                    self.ended(&start.instance, Status::Unknown);
                }
            }
            Output::Follow { instance } => self.follow(instance),
            Output::Signal { instance, signal, all } => {
                self.trace.push(format!("signal {instance} {signal} all={all}"));
                if !self.groups.get(&instance).is_none_or(|group| group.is_deaf) {
                    self.end_all(&instance, Status::Signal(signal));
                }
            }
            Output::RunStop { instance } => {
                self.trace.push(format!("run stop {instance}"));
                if !self.groups.get(&instance).is_none_or(|group| group.is_deaf) {
                    self.end_all(&instance, Status::Code(0));
                }
            }
            Output::Kill { instance } => {
                self.trace.push(format!("kill {instance}"));
                if !self.groups.get(&instance).is_none_or(|group| group.hangs) {
                    self.end_all(&instance, Status::Signal(9));
                }
            }
            Output::Look { instance } => {
                let left = self.groups.get(&instance).is_some_and(Group::is_there);
                self.input(Input::Looked { instance, left });
            }
            Output::Release { instance } => self.trace.push(format!("release {instance}")),
            Output::Remove { instance } => {
                self.trace.push(format!("remove {instance}"));
                self.files.remove(&instance);
            }
            Output::Fact(fact) => self.trace.push(format!("{fact}")),
        }
    }

    fn write(&mut self, instance: InstanceId, file: RecordFile, body: Vec<u8>) {
        self.trace.push(format!("write {instance}/{}", file.name()));
        if self.is_full {
            self.input(Input::NotStored { instance, file, why: Errno(28) });
            return;
        }
        self.files.entry(instance.clone()).or_default().insert(file, body);
        if file == RecordFile::Intent {
            self.input(Input::Stored { instance });
        }
    }

    fn spawn(&mut self, start: Start) {
        let instance = start.instance;
        let files = self.files.get(&instance).expect("a start has an intent on the disk");
        assert!(files.contains_key(&RecordFile::Intent));
        if self.broken.contains(&instance) {
            self.input(Input::NotStarted { instance, why: "there is no such program".into() });
            return;
        }
        let process = self.mint();
        let group = self.groups.entry(instance.clone()).or_default();
        assert!(!group.is_there(), "{instance} is started twice");
        group.main = Some(process);
        self.record_process(&instance, process);
        self.input(Input::Started { instance, process });
    }

    fn record_process(&mut self, instance: &InstanceId, process: Process) {
        let line = stat('S', process.started).replace("44 (", &format!("{} (", process.pid));
        let files = self.files.entry(instance.clone()).or_default();
        files.insert(RecordFile::Process, line.into_bytes());
    }

    fn follow(&mut self, instance: InstanceId) {
        let group = self.groups.entry(instance.clone()).or_default();
        group.main = group.other.take();
        let process = group.main;
        if let Some(process) = process {
            self.record_process(&instance, process);
        }
        self.input(Input::Followed { instance, process });
    }

    fn end_all(&mut self, instance: &InstanceId, status: Status) {
        let Some(group) = self.groups.get_mut(instance) else { return };
        group.other = None;
        if group.main.is_some() {
            self.ended(instance, status);
        }
    }

    /// Ends the main process of an instance.
    pub(super) fn ended(&mut self, instance: &InstanceId, status: Status) {
        let group = self.groups.entry(instance.clone()).or_default();
        group.main = None;
        let left = group.other.is_some();
        self.input(Input::Ended { instance: instance.clone(), status, left });
    }

    /// Starts another process of the instance.
    pub(super) fn forks(&mut self, instance: &InstanceId) {
        let process = self.mint();
        if let Some(group) = self.groups.get_mut(instance).filter(|group| group.main.is_some()) {
            group.other = Some(process);
        }
    }

    /// Advances the clock and fires the timers that are due.
    pub(super) fn pass(&mut self, us: u64) {
        let end = Instant::from_micros(self.now.as_micros() + us);
        while let Next::WaitUntil { at, .. } = self.next {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// Sends a request and returns the last reply that arrives at once.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<Result<Answer, Error>> {
        let before = self.sent.len();
        self.ask_as(CLIENT, ask);
        let to_client = self.sent[before..]
            .iter()
            .rev()
            .find(|(client, message)| *client == CLIENT && message.id == Some(7));
        to_client.and_then(|(_, message)| match &message.what {
            What::Answer(answer) => Some(Ok(answer.clone())),
            What::Error(error) => Some(Err(error.clone())),
            What::Event(_) => None,
        })
    }

    pub(super) fn ask_as(&mut self, client: ClientId, ask: Ask) {
        let body = serde_json::to_vec(&Request { v: VERSION, id: 7, ask }).unwrap();
        self.input(Input::Frame { client, user: 5, body });
    }

    /// Returns the events that the watcher received, as text.
    pub(super) fn events(&self) -> Vec<String> {
        let told = self.sent.iter().filter(|(client, _)| *client == WATCHER);
        let words = |event: &Event| match event {
            Event::Started(view) => format!("started {}", view.instance),
            Event::Stopping(view) => format!("stopping {}", view.instance),
            Event::Exited(view) => {
                format!("exited {} {:?} {:?}", view.instance, view.status, view.cause)
            }
            Event::OutputDropped { instance, bytes } => format!("dropped {instance} {bytes}"),
            Event::Forgotten { instance } => format!("forgotten {instance}"),
        };
        told.filter_map(|(_, message)| match &message.what {
            What::Event(event) => Some(words(event)),
            What::Answer(_) | What::Error(_) => None,
        })
        .collect()
    }

    /// Returns all instances as a client sees them.
    pub(super) fn views(&mut self) -> Vec<View> {
        let before = self.sent.len();
        self.ask_as(ClientId(3), Ask::List);
        let pages = self.sent.drain(before..).filter_map(|(_, message)| match message.what {
            What::Answer(Answer::Instances { instances, .. }) => Some(instances),
            What::Answer(_) | What::Error(_) | What::Event(_) => None,
        });
        pages.flatten().collect()
    }

    pub(super) fn view(&mut self, name: &str) -> View {
        self.views().into_iter().find(|view| view.instance == id(name)).unwrap()
    }
}
