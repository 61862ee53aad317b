//! The helper programs of the machines under test. A machine starts and ends them, receives their events when
//! these are due, and takes them with it when its daemon dies.

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::exec::Command;
use hax_core::machine::Input;

use super::World;
use super::cast::Cast;
use super::event::Ev;
use crate::exec::{Helpers, Program, SimEvent};

/// The maximum number of running helpers on a host.
const RUNNING_MAX: usize = 8;

/// The helpers of one host.
#[derive(Debug)]
pub(super) struct HelperHost {
    double: Helpers,
    wake: u64,
}

impl Default for HelperHost {
    fn default() -> Self {
        Self { double: Helpers::new(RUNNING_MAX), wake: u64::MAX }
    }
}

impl HelperHost {
    /// Handles the death of the daemon: its helpers die, too.
    pub(super) fn daemon_killed(&mut self) {
        self.double.daemon_killed();
    }
}

impl<C: Cast> World<'_, C> {
    pub(super) fn on_exec(&mut self, i: usize, command: Command) {
        let program = match &command {
            Command::Spawn(spawn) => {
                let program = C::program(self, i, spawn);
                self.draw_helper_fault(program)
            }
            Command::Kill { .. } => Program::missing(),
        };
        let now = self.sim.clocks().mono;
        self.hosts[i].helper_host.double.execute(now, command, |_| program);
        self.wake_for_helpers(i);
    }

    fn draw_helper_fault(&mut self, program: Program) -> Program {
        let odds = self.odds.helpers;
        if odds == 0 || !self.sim.chance(odds) {
            return program;
        }
        program.with_drawn_fault(|n| self.sim.choose(n))
    }

    fn wake_for_helpers(&mut self, i: usize) {
        let helper_host = &mut self.hosts[i].helper_host;
        let Some(at) = helper_host.double.next_at() else { return };
        let at = at.as_micros();
        if at != helper_host.wake {
            helper_host.wake = at;
            self.sim.push(at, Ev::Helpers(i));
        }
    }

    /// Replaces the text that a helper has yet to write to its standard output. Its cast knows the text after
    /// the helper's acts.
    pub(crate) fn speak(&mut self, i: usize, helper: ExecId, text: &Bytes) {
        self.hosts[i].helper_host.double.speak(helper, text);
    }

    /// Processes all due events of a host's helpers.
    pub(super) fn tick_helpers(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].helper_host.wake = u64::MAX;
        while let Some(happening) = self.hosts[i].helper_host.double.pop(now) {
            match happening {
                SimEvent::Event(event) => {
                    C::on_helper(self, i, &event);
                    self.feed(i, Input::Exec(event));
                }
                SimEvent::Act { id, act } => C::on_helper_act(self, i, id, act),
            }
        }
        self.wake_for_helpers(i);
    }
}
