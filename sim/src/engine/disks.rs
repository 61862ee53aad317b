//! The disks of the hosts of the machines under test. A disk outlives its daemon, and it loses unsynced data
//! at a loss of power.

use hax_core::file::Command;
use hax_core::machine::Input;

use super::World;
use super::cast::Cast;
use super::event::Ev;
use crate::file::{Disk, Pace};

/// The disk of one host.
#[derive(Debug)]
pub(super) struct DiskHost {
    double: Disk,
    wake: u64,
}

impl Default for DiskHost {
    fn default() -> Self {
        Self { double: Disk::default(), wake: u64::MAX }
    }
}

impl DiskHost {
    /// Handles the death of the daemon: its pending commands are not carried out.
    pub(super) fn daemon_killed(&mut self) {
        self.double.daemon_killed();
    }
}

impl<C: Cast> World<'_, C> {
    pub(super) fn on_file(&mut self, i: usize, command: Command) {
        let odds = self.odds.disks;
        let slow = odds > 0 && self.sim.chance(odds);
        let pace = if slow { Pace::drawn(|n| self.sim.choose(n)) } else { Pace::QUICK };
        let now = self.sim.clocks().mono;
        self.hosts[i].disk_host.double.execute(now, command, pace);
        self.wake_for_disk(i);
    }

    fn wake_for_disk(&mut self, i: usize) {
        let disk_host = &mut self.hosts[i].disk_host;
        let Some(at) = disk_host.double.next_at() else { return };
        let at = at.as_micros();
        if at != disk_host.wake {
            disk_host.wake = at;
            self.sim.push(at, Ev::Disk(i));
        }
    }

    /// Processes all due events of a host's disk.
    pub(super) fn tick_disk(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].disk_host.wake = u64::MAX;
        while let Some(event) = self.hosts[i].disk_host.double.pop(now) {
            self.feed(i, Input::File(event));
        }
        self.wake_for_disk(i);
    }

    /// Takes the power from a node. Its machine dies, and its disk loses some or all of its unsynced data.
    pub(crate) fn lose_power(&mut self, i: usize) {
        self.sim.log(|| format!("node {i} loses its power"));
        self.kill(i);
        let Self { hosts, sim, .. } = self;
        hosts[i].disk_host.double.power_lost(|n| sim.choose(n));
        C::on_power_loss(self, i);
    }

    /// Writes or removes a file of a host, as another program than its machine.
    pub(crate) fn put_file(&mut self, i: usize, path: &str, content: Option<bytes::Bytes>) {
        self.hosts[i].disk_host.double.put(path, content);
    }

    /// Returns the content of a file of a host, as the programs there see it.
    pub(crate) fn file(&self, i: usize, path: &str) -> Option<&bytes::Bytes> {
        self.hosts[i].disk_host.double.content(path)
    }
}
