//! The search for violations: it runs seeds, reports the details of a violation, and shrinks its tape.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hax_core::base::fact::Report as _;

use super::cast::{Cast, FactOf};
use super::choice::{Choice, Recorder, Seed, Tape};
use super::replay::{self, JournalError, Replayed};
use super::trace::Trace;
use super::{Outcome, RunOptions, Violation, run};

/// The number of decisions of one seed. A run continues until they are spent.
pub const DECISIONS: u32 = 1_500;
/// The number of kept lines of a failed run.
pub const LINES: usize = 200;
/// The maximum number of runs for shrinking.
const TRIES: usize = 400;

/// Runs worlds of one cast, one after another.
pub struct Search<C: Cast> {
    cache: C::Cache,
}

impl<C: Cast> Default for Search<C> {
    fn default() -> Self {
        Self { cache: C::Cache::default() }
    }
}

impl<C: Cast> Search<C> {
    /// The number of kinds of facts.
    pub const KINDS: usize = FactOf::<C>::KINDS.len();

    /// Runs one seed.
    pub fn seed(&mut self, seed: u64, options: RunOptions<C>) -> Outcome {
        self.guarded(&mut Seed::new(seed, DECISIONS), options)
    }

    /// Runs a tape.
    pub fn tape(&mut self, tape: &[u8], options: RunOptions<C>) -> Outcome {
        self.guarded(&mut Tape::new(tape), options)
    }

    /// Records the decisions of a seed as a tape.
    pub fn tape_of(&mut self, seed: u64, options: RunOptions<C>) -> Vec<u8> {
        let mut recorder = Recorder::new(Seed::new(seed, DECISIONS));
        self.guarded(&mut recorder, options);
        recorder.into_tape()
    }

    /// Runs this swarm.
    pub fn swarm(
        &mut self,
        swarm: &C::Swarm,
        choice: &mut dyn Choice,
        options: RunOptions<C>,
    ) -> Outcome {
        run(&mut self.cache, swarm, choice, options)
    }

    /// Replays the journal of one machine and keeps the last `lines` lines.
    ///
    /// # Errors
    ///
    /// If it is not a journal of this cast.
    pub fn replay(journal: &[u8], lines: usize) -> Result<Replayed, JournalError> {
        let trace = Trace::with_lines(lines, C::describe);
        Ok(replay::replay(C::open_journal(journal)?, C::NODE, trace))
    }

    /// Runs a world and reports a panic as a violation. Where panics abort, a panic ends the program.
    fn guarded(&mut self, choice: &mut dyn Choice, options: RunOptions<C>) -> Outcome {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let swarm = C::draw(choice);
            run(&mut self.cache, &swarm, choice, options)
        }));
        run.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = text.unwrap_or_default();
            let violation = Some(Violation { rule: "nothing panics", what });
            Outcome { violation, ..Outcome::default() }
        })
    }

    /// Finds the first seed from 1 on that holds without a planted bug and fails with it. Returns none if
    /// there is no such seed before `give_up`.
    pub fn catch(
        &mut self,
        mutant: C::Mutant,
        give_up: impl Fn() -> bool,
    ) -> Option<(u64, Violation)> {
        (1..).take_while(|_| !give_up()).find_map(|n| {
            let violation = self.seed(n, RunOptions::with_mutant(mutant)).violation?;
            let holds = self.seed(n, RunOptions::default()).violation.is_none();
            holds.then_some((n, violation))
        })
    }

    /// Finds a shorter and quieter tape with the same violation.
    pub fn shrink(&mut self, from: Vec<u8>, rule: &str, mutant: Option<C::Mutant>) -> Vec<u8> {
        let options = RunOptions { mutant, lines: 0 };
        let mut best = from;
        let mut left = TRIES;
        let mut chunk = best.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < best.len() && left > 0 {
                let end = (at + chunk).min(best.len());
                // It tries the tape without this part, and then with zeros in its place.
                let without = [&best[..at], &best[end..]].concat();
                let mut zeroed = best.clone();
                zeroed[at..end].fill(0);
                let quieter = [without, zeroed].into_iter().filter(|other| *other != best);
                let found = quieter.into_iter().find(|other| {
                    left = left.saturating_sub(1);
                    let violation = self.tape(other, options).violation;
                    violation.is_some_and(|found| found.rule == rule)
                });
                match found {
                    Some(other) if other.len() < best.len() => best = other,
                    Some(other) => {
                        best = other;
                        at += chunk;
                    }
                    None => at += chunk,
                }
            }
            chunk /= 2;
        }
        best
    }

    /// Returns the names of the reachable facts without a report.
    #[must_use]
    pub fn missing(facts: &[u64]) -> Vec<&'static str> {
        let names = FactOf::<C>::KINDS.iter().map(|kind| kind.name);
        let unseen = names.zip(facts).filter(|(_, seen)| **seen == 0).map(|(name, _)| name);
        unseen.filter(|name| !C::UNREACHED.iter().any(|(other, _)| other == name)).collect()
    }

    /// Returns the names of the facts with a report although no seed should reach them.
    #[must_use]
    pub fn unexpected(facts: &[u64]) -> Vec<&'static str> {
        let names = FactOf::<C>::KINDS.iter().map(|kind| kind.name);
        let seen = names.zip(facts).filter(|(_, seen)| **seen > 0).map(|(name, _)| name);
        seen.filter(|name| C::UNREACHED.iter().any(|(other, _)| other == name)).collect()
    }
}
