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
struct Asked {
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
    asked: BTreeMap<usize, Asked>,
    /// The term of each machine's last helper with a known end.
    ended: BTreeMap<usize, u64>,
    stepped: Option<Instant>,
    healed: Instant,
}

/// Returns the behavior of a step's helper.
pub(super) fn program() -> Program {
    Program::doing([Step::Act(0), Step::Say(Stream::Stdout, Bytes::from_static(b"300\n"))])
}

impl Helpers {
    /// Handles the death of a daemon: its helpers end, too.
    pub(super) fn died(&mut self, node: usize) {
        self.asked.remove(&node);
    }

    pub(super) fn healed(&mut self, now: Instant) {
        self.healed = now;
    }

    /// Returns whether a step was performed since everything healed.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped.is_some_and(|at| at > self.healed)
    }

    /// Checks a machine's command for a helper. It may start only a helper that ends in time, and it must end
    /// a helper that may no longer run.
    pub(super) fn gave(
        &mut self,
        node: usize,
        now: Instant,
        out: &[Output<Fact>],
        counter: &Counter,
    ) -> Result<(), Violation> {
        for output in out {
            match output {
                Output::Exec(Command::Spawn(spawn)) => self.begins(node, now, spawn, counter)?,
                Output::Exec(Command::Kill { id }) => match self.asked.get_mut(&node) {
                    Some(asked) if asked.id == *id => asked.ending = true,
                    _ => return Violation::of("what is ended runs", id.to_string()),
                },
                _ => {}
            }
        }
        let term = counter.term(now);
        match self.asked.get(&node) {
            Some(asked) if term != Some(asked.term) && !asked.ending => {
                let text = format!("toy {node}: {asked:?}, and the term is {term:?}");
                Violation::of("a helper is ended when the lease may be held no more", text)
            }
            _ => Ok(()),
        }
    }

    fn begins(
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
        let asked =
            Asked { id: spawn.id, term, at: now, late: false, started: false, ending: false };
        match self.asked.insert(node, asked) {
            None => Ok(()),
            Some(other) => Violation::of("one helper runs at a time", format!("{other:?}")),
        }
    }

    /// Observes an event of a helper.
    pub(super) fn happened(&mut self, node: usize, now: Instant, event: &Event) {
        if let (Event::Started { .. }, Some(asked)) = (event, self.asked.get_mut(&node)) {
            asked.late = now > asked.at.after(STARTS);
        }
    }

    /// Checks an act of a helper. No other machine may believe at this time that it holds the lease.
    pub(super) fn acted(
        &self,
        node: usize,
        id: ExecId,
        other: Option<u64>,
    ) -> Result<(), Violation> {
        // A frozen machine cannot end a helper that was started late.
        let asked = self.asked.get(&node).filter(|asked| asked.id == id && !asked.late);
        match (asked, other) {
            (Some(asked), Some(term)) => {
                let text = format!("toy {node}: {asked:?}, and another one has the term {term}");
                Violation::of("no helper acts while somebody else holds the lease", text)
            }
            _ => Ok(()),
        }
    }

    /// Checks an event of a helper at its machine: at most one start, then the output, then the end.
    pub(super) fn heard_of(&mut self, node: usize, event: &Event) -> Result<(), Violation> {
        let asked = self.asked.get_mut(&node);
        let in_order = match (event, asked) {
            (Event::Started { id }, Some(asked)) => {
                asked.id == *id && !std::mem::replace(&mut asked.started, true)
            }
            (Event::Refused { id, .. }, Some(asked)) => asked.id == *id && !asked.started,
            (Event::Output { id, .. } | Event::Exited { id, .. }, Some(asked)) => {
                asked.id == *id && asked.started
            }
            (_, None) => false,
        };
        if !in_order {
            let text = format!("toy {node}: {event:?}, and {:?}", self.asked.get(&node));
            return Violation::of("a helper starts once, and then ends once", text);
        }
        if let Event::Refused { .. } | Event::Exited { .. } = event
            && let Some(asked) = self.asked.remove(&node)
        {
            self.ended.insert(node, asked.term);
        }
        Ok(())
    }

    /// Checks a machine's acceptance of a helper's output in this term.
    pub(super) fn stepped(
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
