//! The main loop: one thread, one poll(2), no runtime.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hax_core::base::time::{Instant, Next, Now};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::record::RecordFile;
use hax_core::keeper::{ClientId, Input, Keeper, Output};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::clients::{Clients, Heard};
use super::folder::Folder;
use super::group::{Group, Groups};
use super::held::{Held, status_of};
use super::output::{Logs, Step};
use super::processes;
use super::start::Starter;
use super::wake::{Alarm, SignalPipe};
use crate::host::clock;
use crate::observe::facts;
use crate::observe::notify::Watchdog;

/// The interval of the reports of lost output, and of the checks of processes without a descriptor.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// The keeper's state machine with all its system resources.
pub(super) struct Host {
    pub(super) keeper: Keeper,
    pub(super) folder: Folder,
    pub(super) groups: Groups,
    pub(super) starter: Starter,
    pub(super) logs: Logs,
    pub(super) clients: Clients,
    pub(super) children: SignalPipe,
    pub(super) end: SignalPipe,
    pub(super) alarm: Alarm,
    pub(super) watchdog: Watchdog,
    pub(super) held: BTreeMap<InstanceId, Held>,
    /// The groups of instances from earlier runs, until the state machine decides about them.
    pub(super) found: BTreeMap<InstanceId, Group>,
    /// The pending inputs of the state machine.
    pub(super) inputs: VecDeque<Input>,
    pub(super) next: Next,
}

/// An event source to poll. There may be thousands of them, and few become ready at a time.
#[derive(Clone, Copy)]
enum Source<'a> {
    Children,
    End,
    Alarm,
    Listener,
    Client(ClientId),
    Main(&'a InstanceId),
    Output(&'a InstanceId),
}

impl Source<'_> {
    fn ready(self, flags: PollFlags) -> Ready {
        match self {
            Self::Children => Ready::Children,
            Self::End => Ready::End,
            Self::Alarm => Ready::Alarm,
            Self::Listener => Ready::Listener,
            Self::Client(client) => Ready::Client(client, flags),
            Self::Main(id) => Ready::Main(id.clone()),
            Self::Output(id) => Ready::Output(id.clone()),
        }
    }
}

/// A ready event source.
enum Ready {
    Children,
    End,
    Alarm,
    Listener,
    Client(ClientId, PollFlags),
    Main(InstanceId),
    Output(InstanceId),
}

impl Host {
    /// Runs until a signal ends the loop. The instances continue to run.
    pub(super) fn run(&mut self) {
        loop {
            self.settle();
            let now = clock::boottime();
            for ready in self.wait(now) {
                let now = clock::boottime();
                match ready {
                    Ready::Children => self.on_children(),
                    Ready::End => return,
                    Ready::Alarm => self.inputs.push_back(Input::Tick),
                    Ready::Listener => {
                        let gone = self.clients.accept(now);
                        self.inputs.extend(gone.into_iter().map(|client| Input::Closed { client }));
                    }
                    Ready::Client(client, flags) => self.on_client(client, flags, now),
                    Ready::Main(id) => self.on_main(&id),
                    Ready::Output(id) => self.on_output(&id, now),
                }
                self.settle();
            }
            self.tend(clock::boottime());
        }
    }

    /// Passes the pending inputs to the state machine and carries out its outputs, until there are no more
    /// inputs.
    pub(super) fn settle(&mut self) {
        let mut out = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            let now = clock::boottime();
            let next = self.keeper.handle(now, input, &mut out);
            self.next = next;
            for output in out.drain(..) {
                self.execute(output, now);
            }
        }
    }

    fn execute(&mut self, output: Output, now: Instant) {
        match output {
            Output::Send { client, message } => {
                if self.clients.send(client, &message, now) {
                    self.inputs.push_back(Input::Closed { client });
                }
            }
            Output::Write { instance, file, body } => self.write(instance, file, &body),
            Output::Spawn { start } => self.spawn(start),
            Output::Adopt { start, process } => self.adopt(start, process),
            Output::Follow { instance } => self.follow(instance),
            Output::Signal { instance, signal, all } => self.signal(&instance, signal, all),
            Output::RunStop { instance } => self.run_stop(&instance),
            Output::Kill { instance } => {
                if let Some(held) = self.held.get(&instance) {
                    held.group.kill(held.leader());
                }
            }
            Output::Look { instance } => {
                let left = self.held.get(&instance).is_some_and(Held::is_left);
                self.inputs.push_back(Input::Looked { instance, left });
            }
            Output::Release { instance } => self.release(&instance),
            Output::Remove { instance } => {
                self.groups.remove(&instance);
                self.folder.remove(&instance);
            }
            Output::Fact(fact) => facts::log(&fact),
        }
    }

    fn write(&mut self, instance: InstanceId, file: RecordFile, body: &[u8]) {
        match self.folder.write(&instance, file, body) {
            Ok(()) if file == RecordFile::Intent => {
                self.inputs.push_back(Input::Stored { instance });
            }
            Ok(()) => {}
            Err(why) => self.inputs.push_back(Input::NotStored { instance, file, why }),
        }
    }

    /// Waits until there is something to do. Returns the sources that have become ready.
    fn wait(&mut self, now: Instant) -> Vec<Ready> {
        let pass = Now { mono: now, ..Now::default() };
        let timer = match self.watchdog.pass(pass, self.next) {
            Next::WaitUntil { at, .. } => Some(at),
            Next::Wait | Next::Exit => None,
        };
        let mut sources = vec![Source::Children, Source::End, Source::Alarm, Source::Listener];
        let mut files = Vec::with_capacity(4 + 2 * self.held.len());
        let always = [self.children.file(), self.end.file(), self.alarm.file()];
        files.extend(always.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        let full_until = self.clients.full_until(now);
        let listens = if full_until.is_some() { PollFlags::empty() } else { PollFlags::IN };
        files.push(PollFd::from_borrowed_fd(self.clients.listener(), listens));
        for (client, file, flags) in self.clients.waits() {
            sources.push(Source::Client(client));
            files.push(PollFd::from_borrowed_fd(file, flags));
        }
        let mut next = [timer, full_until].into_iter().flatten().min();
        let mut sooner = |at: Instant| next = next.map_or(Some(at), |next| Some(at.min(next)));
        for (id, held) in &self.held {
            if let Some(main) = &held.main {
                if let Some(file) = main.watch() {
                    sources.push(Source::Main(id));
                    files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
                } else if main.is_unwatched() {
                    sooner(now.after(SECOND));
                }
            }
            if let Some(output) = &held.output {
                if let Some(at) = output.rests(now) {
                    sooner(at);
                } else {
                    sources.push(Source::Output(id));
                    files.push(PollFd::new(output, PollFlags::IN));
                }
            }
            if let (1.., at) = held.dropped {
                sooner(at);
            }
        }
        self.alarm.set(next);
        // The call fails if it is interrupted or lacks memory. The next turn tries again.
        if poll(&mut files, None).is_err() {
            return Vec::new();
        }
        let flags = files.iter().map(PollFd::revents);
        let ready = sources.iter().zip(flags).filter(|(_, flags)| !flags.is_empty());
        ready.map(|(source, flags)| source.ready(flags)).collect()
    }

    fn on_client(&mut self, client: ClientId, flags: PollFlags, now: Instant) {
        let has_hung_up = flags.intersects(PollFlags::HUP | PollFlags::ERR);
        if flags.contains(PollFlags::OUT) && !has_hung_up && self.clients.write(client) {
            return self.inputs.push_back(Input::Closed { client });
        }
        if flags.contains(PollFlags::IN) || has_hung_up {
            self.clients.read(client, has_hung_up, now);
        }
        loop {
            match self.clients.next(client) {
                Heard::Body { user, body } => {
                    self.inputs.push_back(Input::Frame { client, user, body });
                    // A request is carried out before the next one is read.
                    self.settle();
                }
                Heard::Nothing => return,
                Heard::Gone => return self.inputs.push_back(Input::Closed { client }),
            }
        }
    }

    /// Handles the end of a child. The child is the main process of an instance, if it has no descriptor, or
    /// a stop command, or an orphan whose exit status no other process collects. The status of a main process
    /// is not collected before its instance has ended.
    fn on_children(&mut self) {
        self.children.take();
        let unwatched = |(id, held): (&InstanceId, &Held)| {
            held.main.as_ref().is_some_and(|main| main.is_unwatched()).then(|| id.clone())
        };
        let unwatched: Vec<_> = self.held.iter().filter_map(unwatched).collect();
        unwatched.iter().for_each(|id| self.on_main(id));
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if !matches!(waitid(WaitId::All, peek), Ok(Some(_))) {
            return;
        }
        let mains = self.held.values().filter_map(|held| held.main.as_ref());
        let mains: BTreeSet<u32> = mains.map(|main| main.process.pid).collect();
        for pid in processes::children() {
            if !mains.contains(&pid) && status_of(pid, WaitIdOptions::empty()).is_some() {
                self.on_orphan(pid);
            }
        }
    }

    fn on_orphan(&mut self, pid: u32) {
        let runs = |held: &Held| held.stop_command.is_some_and(|process| process.pid == pid);
        let found = self.held.iter_mut().find(|(_, held)| runs(held));
        if let Some((instance, held)) = found {
            held.stop_command = None;
            if let Some(status) = held.ended.take() {
                let (instance, left) = (instance.clone(), held.is_left());
                self.inputs.push_back(Input::Ended { instance, status, left });
            }
        }
    }

    fn on_main(&mut self, id: &InstanceId) {
        let Some(held) = self.held.get_mut(id) else { return };
        let Some(main) = &mut held.main else { return };
        let Some(status) = main.ended() else { return };
        if held.stop_command.is_some() {
            // Many stop scripts wait for the end of this process and take a zombie for a running process
            // (`kill -0`).
            main.reap();
            held.ended = Some(status);
            return;
        }
        let (instance, left) = (id.clone(), held.is_left());
        self.inputs.push_back(Input::Ended { instance, status, left });
    }

    fn on_output(&mut self, id: &InstanceId, now: Instant) {
        let Some(held) = self.held.get_mut(id) else { return };
        let Some(output) = &mut held.output else { return };
        let step = output.on_ready(now);
        held.dropped.0 += output.take_dropped();
        if step == Step::Over {
            held.output = None;
        }
    }

    /// Does the periodic work: reports lost output, and checks the processes without a descriptor.
    fn tend(&mut self, now: Instant) {
        let mut unwatched = Vec::new();
        for (id, held) in &mut self.held {
            let (bytes, at) = held.dropped;
            if bytes > 0 && at <= now {
                held.dropped = (0, now.after(SECOND));
                self.inputs.push_back(Input::Dropped { instance: id.clone(), bytes });
            }
            if held.main.as_ref().is_some_and(|main| main.is_unwatched()) {
                unwatched.push(id.clone());
            }
        }
        unwatched.iter().for_each(|id| self.on_main(id));
    }
}
