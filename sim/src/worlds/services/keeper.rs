//! The keepers of the nodes: the production state machine on a host of processes and files, and the connection
//! between it and hax.
//!
//! A process is a number with a fate. A keeper can be killed after any of its outputs, and it can be frozen.
//! Its processes live on.

use std::collections::VecDeque;

use hax_core::base::errno::Errno;
use hax_core::base::time::{Instant, Next};
use hax_core::exec::Status;
use hax_core::keeper::answer::Held;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::record::RecordFile;
use hax_core::keeper::request::Start;
use hax_core::keeper::{Config, Input, Keeper, Output};

use super::connection::Session;
use super::folder::Folder;
use super::process::{Group, Processes};
use super::{Ev, Services};
use crate::engine::{MS, S, World};

/// The time after which a keeper is told of the end of a process, in µs.
const LATENCY: u64 = 200;
/// The pause of hax's host between two attempts to connect, in µs.
const RECONNECT: u64 = 50 * MS;
/// The maximum number of instances in a keeper's table.
const INSTANCES_MAX: usize = 64;

/// The keeper of a node, with its host.
#[derive(Debug)]
pub(super) struct KeeperHost {
    keeper: Option<Keeper>,
    /// The number of the keeper's life.
    pub(super) life: u32,
    wake: u64,
    generation: u64,
    boots: u32,
    /// The time of the last boot, in µs.
    booted: u64,
    frozen_until: u64,
    /// The number of further outputs before the keeper's death.
    dies_after: Option<u64>,
    /// The disk of the folder is full.
    pub(super) is_full: bool,
    pub(super) folder: Folder,
    pub(super) processes: Processes,
    pub(super) session: Option<Session>,
    pub(super) next_client: u64,
    /// The arrival of the last event at hax.
    pub(super) to_hax: u64,
}

impl KeeperHost {
    pub(super) fn new(keeps_folder: bool) -> Self {
        Self {
            keeper: None,
            life: 0,
            wake: u64::MAX,
            generation: 0,
            boots: 0,
            booted: 0,
            frozen_until: 0,
            dies_after: None,
            is_full: false,
            folder: Folder::new(keeps_folder),
            processes: Processes::default(),
            session: None,
            next_client: 2,
            to_hax: 0,
        }
    }

    /// Returns the boot id.
    pub(super) fn boot(&self) -> String {
        format!("boot-{}", self.boots)
    }

    pub(super) fn is_up(&self) -> bool {
        self.keeper.is_some()
    }

    pub(super) fn is_frozen(&self, now: u64) -> bool {
        now < self.frozen_until
    }

    /// Makes the keeper die after this number of further outputs.
    pub(super) fn die_after(&mut self, outputs: u64) {
        self.dies_after = Some(outputs);
    }

    pub(super) fn cancel_death(&mut self) {
        self.dies_after = None;
    }
}

impl World<'_, Services> {
    pub(super) fn keeper(&mut self, node: usize) -> &mut KeeperHost {
        &mut self.cast.nodes[node].keeper
    }

    // ---- life -------------------------------------------------------------------------------------

    /// Starts a node's keeper, which finds what the last one has left.
    pub(super) fn start_keeper(&mut self, node: usize) {
        let host = self.keeper(node);
        if host.is_up() {
            return;
        }
        host.generation += 1;
        host.life += 1;
        host.wake = u64::MAX;
        let (boot, generation) = (host.boot().into(), host.generation);
        let config =
            Config { pid: 1, boot, generation, held: Held::Cgroup, instances_max: INSTANCES_MAX };
        host.keeper = Some(Keeper::new(config));
        let KeeperHost { folder, processes, .. } = host;
        let found = folder.found(processes);
        let unbegun = found.iter().filter(|found| found.process.is_none() && found.ended.is_none());
        let unbegun: Vec<String> = unbegun.map(|found| found.path.to_string()).collect();
        self.sim.log(|| format!("keeper {node} starts"));
        for instance in unbegun {
            self.was_not_begun(node, &instance);
        }
        for found in found {
            self.keeper_takes(node, Input::Found(Box::new(found)));
        }
        self.connect_later(node, RECONNECT);
    }

    /// Starts a node's keeper after `delay` µs.
    pub(super) fn start_keeper_after(&mut self, node: usize, delay: u64) {
        self.sim.schedule(self.sim.now() + delay, Ev::StartKeeper(node));
    }

    /// Kills a node's keeper. Its processes live on.
    pub(super) fn kill_keeper(&mut self, node: usize) {
        let host = self.keeper(node);
        if host.keeper.take().is_none() {
            return;
        }
        host.life += 1;
        host.frozen_until = 0;
        host.dies_after = None;
        self.sim.log(|| format!("keeper {node} is dead"));
        self.break_session(node);
    }

    /// Freezes a node's keeper for `lasts` µs.
    pub(super) fn freeze_keeper(&mut self, node: usize, lasts: u64) {
        let now = self.sim.now();
        let host = self.keeper(node);
        if host.is_up() && !host.is_frozen(now) {
            host.frozen_until = now + lasts;
            self.sim.log(|| format!("keeper {node} stands still"));
        }
    }

    /// Restarts a node: no process survives. Nothing is started.
    pub(super) fn reboot(&mut self, node: usize) {
        self.sim.log(|| format!("node {node} is rebooted"));
        self.kill_keeper(node);
        self.kill(node);
        self.ended_by_reboot(node);
        let Self { sim, cast, .. } = self;
        let host = &mut cast.nodes[node].keeper;
        host.boots += 1;
        host.booted = sim.now();
        host.processes = Processes::default();
        if host.folder.lose_power(|n| sim.choose(n)) {
            host.generation = 0;
        }
    }

    // ---- the keeper's machine ---------------------------------------------------------------------

    /// Delivers an input to a keeper of this life.
    pub(super) fn reach_keeper(&mut self, node: usize, life: u32, input: Input) {
        if self.keeper(node).life == life {
            self.keeper_takes(node, input);
        }
    }

    pub(super) fn tick_keeper(&mut self, node: usize, life: u32) {
        let now = self.sim.now();
        let host = self.keeper(node);
        if host.life == life && host.wake <= now {
            host.wake = u64::MAX;
            self.keeper_takes(node, Input::Tick);
        }
    }

    /// Feeds an input to a keeper, and carries out its outputs.
    pub(super) fn keeper_takes(&mut self, node: usize, input: Input) {
        let now = self.sim.now();
        let host = self.keeper(node);
        if host.is_frozen(now) {
            let (at, life, input) = (host.frozen_until, host.life, Box::new(input));
            return self.sim.schedule(at, Ev::ToKeeper { node, life, input });
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(keeper) = &mut self.cast.nodes[node].keeper.keeper else { return };
            let mut out = Vec::new();
            let next = keeper.handle(Instant::from_micros(now), input, &mut out);
            for output in out {
                if self.keeper(node).dies_after == Some(0) {
                    self.kill_keeper(node);
                    let down = 100 * MS + self.sim.choose(5_000) * MS;
                    return self.start_keeper_after(node, down);
                }
                if let Some(left) = &mut self.keeper(node).dies_after {
                    *left -= 1;
                }
                inputs.extend(self.carry_out_for_keeper(node, output));
            }
            self.rearm_keeper(node, next);
        }
    }

    fn rearm_keeper(&mut self, node: usize, next: Next) {
        let now = self.sim.now();
        let host = self.keeper(node);
        match next {
            Next::Wait | Next::Exit => host.wake = u64::MAX,
            Next::WaitUntil { at, .. } => {
                let at = at.as_micros();
                if at != host.wake {
                    host.wake = at;
                    let life = host.life;
                    self.sim.schedule(at.max(now), Ev::TickKeeper { node, life });
                }
            }
        }
    }

    /// Carries out an output of a keeper. Returns its immediate result.
    fn carry_out_for_keeper(&mut self, node: usize, output: Output) -> Option<Input> {
        match output {
            Output::Send { client, message } => self.on_message(node, client, *message),
            Output::Write { instance, file, body } => {
                return self.write(node, instance, file, body);
            }
            Output::Spawn { start } => return Some(self.spawn(node, start)),
            Output::Adopt { start, process } => {
                let life = self.keeper(node).life;
                let group = self.keeper(node).processes.group(&start.instance);
                group.watcher = Some((life, false));
                let is_gone = process.is_some() && group.main != process;
                let left = group.is_left();
                let ended =
                    Input::Ended { instance: start.instance, status: Status::Unknown, left };
                return is_gone.then_some(ended);
            }
            Output::Follow { instance } => return Some(self.follow(node, instance)),
            Output::Signal { instance, signal, all } => {
                self.is_told_to_stop(node, &instance);
                self.signal(node, &instance, signal, all);
            }
            Output::RunStop { instance } => {
                self.is_told_to_stop(node, &instance);
                self.signal(node, &instance, 15, true);
            }
            Output::Kill { instance } => {
                self.is_told_to_stop(node, &instance);
                self.signal(node, &instance, 9, true);
            }
            Output::Look { instance } => {
                let left = self.keeper(node).processes.get(&instance).is_some_and(Group::is_left);
                return Some(Input::Looked { instance, left });
            }
            Output::Release { .. } => {}
            Output::Remove { instance } => {
                let host = self.keeper(node);
                host.folder.remove(&instance);
                host.processes.forget(&instance);
            }
            Output::Fact(fact) => self.sim.log(|| format!("keeper {node}: {fact}")),
        }
        None
    }

    fn write(
        &mut self,
        node: usize,
        instance: InstanceId,
        file: RecordFile,
        body: Vec<u8>,
    ) -> Option<Input> {
        if self.keeper(node).is_full {
            let why = Errno(28);
            if file == RecordFile::Intent {
                self.was_refused(node, &instance);
            }
            return Some(Input::NotStored { instance, file, why });
        }
        self.keeper(node).folder.write(&instance, file, body);
        if file != RecordFile::Intent {
            return None;
        }
        let slow = self.cast.swarm.slow_disks;
        if slow == 0 || self.sim.choose(1_000) < 1_000 - slow {
            self.keeper(node).folder.sync(&instance);
            return Some(Input::Stored { instance });
        }
        // Others are served while the disk syncs.
        let at = self.sim.now() + self.sim.choose(1_000) * MS;
        let life = self.keeper(node).life;
        self.sim.schedule(at, Ev::Synced { node, life, instance });
        None
    }

    pub(super) fn synced(&mut self, node: usize, life: u32, instance: InstanceId) {
        if self.keeper(node).life == life {
            self.keeper(node).folder.sync(&instance);
            self.keeper_takes(node, Input::Stored { instance });
        }
    }

    // ---- processes --------------------------------------------------------------------------------

    /// Begins the program of an instance.
    fn spawn(&mut self, node: usize, start: Box<Start>) -> Input {
        let instance = start.instance.clone();
        let fate = self.draw_fate(&start);
        if fate.is_missing {
            self.was_refused(node, &instance);
            return Input::NotStarted { instance, why: "there is no such program".into() };
        }
        self.begins(node, &start);
        let now = self.sim.now();
        let host = self.keeper(node);
        let started = (now - host.booted) / (10 * MS);
        let (life, process) = (host.life, host.processes.begin(&start, started, &fate, now));
        host.processes.group(&instance).watcher = Some((life, true));
        host.folder.write_process(&instance, process);
        self.sim.log(|| format!("node {node}: {instance} begins as {process}: {fate:?}"));
        if let Some((after, status)) = fate.ends {
            let end = Ev::Ends { node, instance: instance.clone(), process, status };
            self.sim.schedule(now + after, end);
        }
        Input::Started { instance, process }
    }

    fn follow(&mut self, node: usize, instance: InstanceId) -> Input {
        let host = self.keeper(node);
        let life = host.life;
        let started = host.processes.next_pid().into();
        let process = host.processes.continue_as_other(&instance, started);
        host.processes.group(&instance).watcher = Some((life, false));
        if let Some(process) = process {
            host.folder.write_process(&instance, process);
        }
        Input::Followed { instance, process }
    }

    /// Sends a signal to an instance's processes.
    fn signal(&mut self, node: usize, instance: &InstanceId, signal: i32, all: bool) {
        let group = self.keeper(node).processes.group(instance);
        if group.is_hanging {
            group.is_killed |= signal == 9;
            return;
        }
        if signal != 9 && group.is_deaf {
            return;
        }
        if all {
            group.other = None;
        }
        self.end_main(node, instance, Status::Signal(signal), true);
    }

    /// Ends the main process of an instance. `is_asked` tells whether the keeper has signalled it.
    pub(super) fn end_main(
        &mut self,
        node: usize,
        instance: &InstanceId,
        status: Status,
        is_asked: bool,
    ) {
        let host = self.keeper(node);
        let life = host.life;
        let group = host.processes.group(instance);
        let Some(process) = group.main.take() else { return };
        let (left, watcher) = (group.is_left(), group.watcher);
        self.sim.log(|| format!("node {node}: {instance} ({process}) ends: {status}"));
        self.ended(node, instance, status, is_asked);
        if let Some((of, is_child)) = watcher
            && of == life
            && self.keeper(node).is_up()
        {
            let status = if is_child { status } else { Status::Unknown };
            let input = Box::new(Input::Ended { instance: instance.clone(), status, left });
            self.sim.schedule(self.sim.now() + LATENCY, Ev::ToKeeper { node, life, input });
        }
    }

    /// Ends the hanging of processes in system calls.
    pub(super) fn unhang(&mut self, node: usize) {
        for instance in self.keeper(node).processes.unhang() {
            self.end_main(node, &instance, Status::Signal(9), true);
        }
    }

    /// Ends all faults of a node's keeper and its processes.
    pub(super) fn heal_keeper(&mut self, node: usize) {
        let host = self.keeper(node);
        host.is_full = false;
        host.cancel_death();
        host.processes.heal();
        self.unhang(node);
        if !self.cast.nodes[node].keeper.is_up() {
            self.start_keeper_after(node, 0);
        }
    }
}

/// The longest freeze of a keeper: systemd kills it after that.
pub(super) const FREEZE_MAX: u64 = 10 * S;
