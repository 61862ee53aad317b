//! The helper program of a step, and the rules for its machines.

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::base::time::Instant;
use hax_core::exec::{Command, Event, Spawn, Stream};
use hax_core::machine::Output;

use super::step::STARTS;
use super::{Counter, Fact};
use crate::engine::Violation;
use crate::exec::{Program, Step};

/// A requested helper. Its machine does not know its end yet.
#[derive(Debug)]
struct Requested {
    id: ExecId,
    term: u64,
    at: Instant,
    /// The helper was started too late: the lease may have been lost by then.
    late: bool,
    /// The machine knows of the helper's start.
    started: bool,
    /// The machine has told the helper to end.
    ending: bool,
}

/// The state of the rules.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    requested: BTreeMap<usize, Requested>,
    /// The term of each machine's last helper with a known end.
    ended: BTreeMap<usize, u64>,
    stepped: Option<Instant>,
    healed: Instant,
}

/// Returns the behavior of a step's helper.
pub(super) fn program() -> Program {
    Program::doing([Step::Act(0), Step::Write(Stream::Stdout, Bytes::from_static(b"300\n"))])
}

impl Helpers {
    /// Handles the death of a daemon: its helpers end, too.
    pub(super) fn on_death(&mut self, node: usize) {
        self.requested.remove(&node);
    }

    pub(super) fn on_healed(&mut self, now: Instant) {
        self.healed = now;
    }

    /// Returns whether a step was performed since everything healed.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped.is_some_and(|at| at > self.healed)
    }

    /// Checks a machine's command for a helper. It may start only a helper that ends in time, and it must end
    /// a helper that may no longer run.
    pub(super) fn on_outputs(
        &mut self,
        node: usize,
        now: Instant,
        out: &[Output<Fact>],
        counter: &Counter,
    ) -> Result<(), Violation> {
        for output in out {
            match output {
                Output::Exec(Command::Spawn(spawn)) => {
                    self.check_spawn(node, now, spawn, counter)?
                }
                Output::Exec(Command::Kill { id }) => match self.requested.get_mut(&node) {
                    Some(requested) if requested.id == *id => requested.ending = true,
                    _ => return Violation::of("what is ended runs", id.to_string()),
                },
                _ => {}
            }
        }
        let term = counter.term(now);
        match self.requested.get(&node) {
            Some(requested) if term != Some(requested.term) && !requested.ending => {
                let text = format!("toy {node}: {requested:?}, and the term is {term:?}");
                Violation::of("a helper is ended when the lease may be held no more", text)
            }
            _ => Ok(()),
        }
    }

    fn check_spawn(
        &mut self,
        node: usize,
        now: Instant,
        spawn: &Spawn,
        counter: &Counter,
    ) -> Result<(), Violation> {
        let term = counter.term(now.after(STARTS + spawn.deadline + spawn.grace));
        let said = spawn.argv.get(1).and_then(|term| term.parse().ok());
        let Some(term) = term.filter(|term| said == Some(*term)) else {
            let text = format!("toy {node}: {spawn:?}");
            return Violation::of("a helper is over while the lease is certain", text);
        };
        let requested =
            Requested { id: spawn.id, term, at: now, late: false, started: false, ending: false };
        match self.requested.insert(node, requested) {
            None => Ok(()),
            Some(other) => Violation::of("one helper runs at a time", format!("{other:?}")),
        }
    }

    /// Observes an event of a helper.
    pub(super) fn on_event(&mut self, node: usize, now: Instant, event: &Event) {
        if let (Event::Started { .. }, Some(requested)) = (event, self.requested.get_mut(&node)) {
            requested.late = now > requested.at.after(STARTS);
        }
    }

    /// Checks an act of a helper. No other machine may believe at this time that it holds the lease.
    pub(super) fn check_act(
        &self,
        node: usize,
        id: ExecId,
        other: Option<u64>,
    ) -> Result<(), Violation> {
        // A frozen machine cannot end a helper that was started late.
        let requested =
            self.requested.get(&node).filter(|requested| requested.id == id && !requested.late);
        match (requested, other) {
            (Some(requested), Some(term)) => {
                let text =
                    format!("toy {node}: {requested:?}, and another one has the term {term}");
                Violation::of("no helper acts while somebody else holds the lease", text)
            }
            _ => Ok(()),
        }
    }

    /// Checks an event of a helper at its machine: at most one start, then the output, then the end.
    pub(super) fn on_machine_event(&mut self, node: usize, event: &Event) -> Result<(), Violation> {
        let requested = self.requested.get_mut(&node);
        let in_order = match (event, requested) {
            (Event::Started { id }, Some(requested)) => {
                requested.id == *id && !std::mem::replace(&mut requested.started, true)
            }
            (Event::Refused { id, .. }, Some(requested)) => {
                requested.id == *id && !requested.started
            }
            (Event::Output { id, .. } | Event::Exited { id, .. }, Some(requested)) => {
                requested.id == *id && requested.started
            }
            (_, None) => false,
        };
        if !in_order {
            let text = format!("toy {node}: {event:?}, and {:?}", self.requested.get(&node));
            return Violation::of("a helper starts once, and then ends once", text);
        }
        if let Event::Refused { .. } | Event::Exited { .. } = event
            && let Some(requested) = self.requested.remove(&node)
        {
            self.ended.insert(node, requested.term);
        }
        Ok(())
    }

    /// Checks a machine's acceptance of a helper's output in this term.
    pub(super) fn on_step_done(
        &mut self,
        node: usize,
        now: Instant,
        term: Option<u64>,
    ) -> Result<(), Violation> {
        self.stepped = Some(now);
        let ran = self.ended.get(&node).copied();
        if ran.is_some() && ran == term {
            return Ok(());
        }
        let text = format!("toy {node}: it ran in {ran:?}, and now is {term:?}");
        Violation::of("what a helper says counts in its own term", text)
    }
}
