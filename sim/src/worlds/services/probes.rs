//! The helper programs of hax: probes of whether an instance is ready, and whether it is well.

use std::time::Duration;

use hax_core::exec::{self, Cause, Status};

use super::truth::kind_in;
use super::{PROGRAM, Services};
use crate::engine::World;
use crate::exec::{Program, Step};

impl World<'_, Services> {
    /// Runs a probe: it succeeds if the instance is ready, or well.
    pub(super) fn probe(&mut self, node: usize, spawn: &exec::Spawn) -> Program {
        let is_check = match &*spawn.argv {
            [program, verb, what, _] if **program == *PROGRAM && **verb == *"probe" => {
                **what == *"tcp"
            }
            _ => return Program::missing(),
        };
        let now = self.sim.now();
        self.cast.nodes[node].helpers.insert(spawn.id, (1, is_check));
        let mut living = self.cast.nodes[node].keeper.processes.living();
        let app = living.find(|(id, _)| kind_in(id).is_some_and(|(kind, _)| kind == 1));
        let holds = app.is_some_and(|(_, group)| {
            let is_it = if is_check { !group.is_sick } else { group.ready_at <= now };
            is_it && !group.is_hanging
        });
        let code = i32::from(!holds);
        let mut program = Program::doing([]);
        program.steps = vec![(Duration::from_millis(1), Step::End(Status::Code(code)))];
        program
    }

    /// A helper has ended.
    pub(super) fn probed(&mut self, node: usize, event: &exec::Event) {
        let (id, holds) = match event {
            exec::Event::Refused { id, .. } => (id, false),
            exec::Event::Exited { id, status, cause, .. } => {
                (id, *status == Status::Code(0) && *cause == Cause::Itself)
            }
            exec::Event::Started { .. } | exec::Event::Output { .. } => return,
        };
        match (self.cast.nodes[node].helpers.remove(id), holds) {
            (Some((kind, true)), false) => self.check_failed(node, kind),
            (Some((kind, false)), true) => self.found_ready(node, kind),
            _ => {}
        }
    }
}
