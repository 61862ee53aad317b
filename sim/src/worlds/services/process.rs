//! The processes of a node, and their fates.

use std::collections::BTreeMap;

use hax_core::exec::Status;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::Process;
use hax_core::keeper::request::Start;

use super::Services;
use super::truth::kind_in;
use crate::engine::{MS, World};

/// The first process id after a boot.
const FIRST_PID: u32 = 100;

/// What becomes of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its program cannot be started.
    pub(super) is_missing: bool,
    /// It ends by itself after this number of µs.
    pub(super) ends: Option<(u64, Status)>,
    /// It ignores all signals but SIGKILL.
    pub(super) is_deaf: bool,
    /// The time until it is ready, in µs.
    pub(super) ready_after: u64,
}

/// The processes of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) main: Option<Process>,
    /// Another process that it has started.
    pub(super) other: Option<Process>,
    pub(super) is_deaf: bool,
    /// It hangs in a system call.
    pub(super) is_hanging: bool,
    /// It dies as soon as it does not hang any more.
    pub(super) is_killed: bool,
    /// It fails its checks.
    pub(super) is_sick: bool,
    /// The time at which it is ready.
    pub(super) ready_at: u64,
    /// The life of the keeper that is told of its end, and whether that is its parent.
    pub(super) watcher: Option<(u32, bool)>,
    pub(super) start: Option<Box<Start>>,
}

impl Group {
    /// Returns whether there are processes besides the main one.
    pub(super) fn is_left(&self) -> bool {
        self.other.is_some()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.main.is_some()
    }
}

/// All processes of a node.
#[derive(Debug)]
pub(super) struct Processes {
    groups: BTreeMap<InstanceId, Group>,
    next_pid: u32,
}

impl Default for Processes {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), next_pid: FIRST_PID }
    }
}

impl Processes {
    pub(super) fn get(&self, instance: &InstanceId) -> Option<&Group> {
        self.groups.get(instance)
    }

    pub(super) fn group(&mut self, instance: &InstanceId) -> &mut Group {
        self.groups.entry(instance.clone()).or_default()
    }

    /// Returns the instances whose main processes live.
    pub(super) fn living(&self) -> impl Iterator<Item = (&InstanceId, &Group)> {
        self.groups.iter().filter(|(_, group)| group.is_alive())
    }

    /// Returns the process with this id.
    pub(super) fn numbered(&self, pid: u32) -> Option<Process> {
        let all = self.groups.values().flat_map(|group| [group.main, group.other]);
        all.flatten().find(|process| process.pid == pid)
    }

    pub(super) fn next_pid(&self) -> u32 {
        self.next_pid
    }

    fn mint(&mut self, started: u64) -> Process {
        self.next_pid += 1;
        Process { pid: self.next_pid, started }
    }

    pub(super) fn begin(&mut self, start: &Start, started: u64, fate: &Fate, now: u64) -> Process {
        let process = self.mint(started);
        let group = self.group(&start.instance);
        *group = Group {
            main: Some(process),
            is_deaf: fate.is_deaf,
            ready_at: now + fate.ready_after,
            start: Some(Box::new(start.clone())),
            ..Group::default()
        };
        process
    }

    /// Makes another process of the instance its main one.
    pub(super) fn continue_as_other(&mut self, instance: &InstanceId, _: u64) -> Option<Process> {
        let group = self.group(instance);
        group.main = group.other.take();
        group.main
    }

    /// Makes an instance start another process.
    pub(super) fn fork(&mut self, instance: &InstanceId, started: u64) {
        let process = self.mint(started);
        self.group(instance).other = Some(process);
    }

    /// Forgets an instance without processes.
    pub(super) fn forget(&mut self, instance: &InstanceId) {
        if self.get(instance).is_some_and(|group| !group.is_alive() && !group.is_left()) {
            self.groups.remove(instance);
        }
    }

    /// Ends all hanging. Returns the instances that die of an earlier kill.
    pub(super) fn unhang(&mut self) -> Vec<InstanceId> {
        let mut killed = Vec::new();
        for (instance, group) in &mut self.groups {
            if std::mem::take(&mut group.is_hanging) && group.is_killed {
                group.other = None;
                killed.push(instance.clone());
            }
        }
        killed
    }

    /// Makes all processes healthy.
    pub(super) fn heal(&mut self) {
        for group in self.groups.values_mut() {
            (group.is_deaf, group.is_sick, group.ready_at) = (false, false, 0);
        }
    }
}

impl World<'_, Services> {
    /// Draws the fate of an instance that is to start.
    pub(super) fn draw_fate(&mut self, start: &Start) -> Fate {
        let kind = kind_in(&start.instance).map(|(kind, _)| kind);
        if kind.is_some_and(|kind| self.cast.broken.contains(&kind)) {
            let after = self.sim.choose(200) * MS;
            return Fate { ends: Some((after, Status::Code(1))), ..Fate::default() };
        }
        let odds = self.cast.swarm.fates;
        if odds == 0 || self.sim.choose(1_000) < 1_000 - odds {
            return Fate::default();
        }
        let soon = |ms: u64| ms * MS;
        match self.sim.choose(9) {
            1 => Fate { is_missing: true, ..Fate::default() },
            2 => {
                let after = soon(self.sim.choose(200));
                Fate { ends: Some((after, Status::Code(1))), ..Fate::default() }
            }
            3 => {
                let after = soon(self.sim.choose(20_000));
                Fate { ends: Some((after, Status::Code(1))), ..Fate::default() }
            }
            4 => {
                let after = soon(self.sim.choose(5_000));
                Fate { ends: Some((after, Status::Signal(11))), ..Fate::default() }
            }
            5 => {
                let after = soon(self.sim.choose(8_000));
                Fate { ends: Some((after, Status::Code(0))), ..Fate::default() }
            }
            6 => Fate { is_deaf: true, ..Fate::default() },
            7 => Fate { ready_after: soon(self.sim.choose(6_000)), ..Fate::default() },
            8 => Fate { ready_after: soon(1 << 40), ..Fate::default() },
            _ => Fate::default(),
        }
    }
}
