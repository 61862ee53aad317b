//! Looking for violations: seeds, what is to be known of one that is found, and how it shrinks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hax_core::base::fact::FactKind;

use super::choice::{Choice, Recorder, Seed, Tape};
use super::mutant::Mutant;
use super::{Outcome, Stage, Violation, Wanted, run};

/// The decisions of one seed; a run goes on until they are spent.
pub const DECISIONS: u32 = 1_500;
/// The lines that are kept of a run that went wrong.
pub const LINES: usize = 200;
/// Runs that shrinking may take.
const TRIES: usize = 400;

/// Facts that no seed can bring about, and why.
pub const UNREACHED: [(FactKind, &str); 8] = [
    (FactKind::EntryUnknown, "a bug of the bridge's: the oracle refuses it"),
    (FactKind::Unsendable, "a bug of the bridge's: the oracle refuses it"),
    (FactKind::QueueFull, "the bridge has fewer messages in flight than the wire keeps"),
    (FactKind::JournalEnded, "it is the host's"),
    (FactKind::TableEmpty, "nobody deletes the whole configuration"),
    (FactKind::ProcessMissing, "nobody takes a hax's own process out of the configuration"),
    (FactKind::ProcessFound, "nobody puts one back"),
    (FactKind::ProcessRetyped, "nobody gives a process in its own place another service there"),
];

/// Runs one seed.
pub fn seed(stage: &mut Stage, seed: u64, wanted: Wanted) -> Outcome {
    guarded(stage, &mut Seed::new(seed, DECISIONS), wanted)
}

/// Runs what a tape says.
pub fn tape(stage: &mut Stage, tape: &[u8], wanted: Wanted) -> Outcome {
    guarded(stage, &mut Tape::new(tape), wanted)
}

/// The tape of a seed's decisions.
pub fn tape_of(stage: &mut Stage, seed: u64, wanted: Wanted) -> Vec<u8> {
    let mut recorder = Recorder::new(Seed::new(seed, DECISIONS));
    guarded(stage, &mut recorder, wanted);
    recorder.into_tape()
}

/// A panic is a violation, too. It ends the program where panics abort.
fn guarded(stage: &mut Stage, choice: &mut dyn Choice, wanted: Wanted) -> Outcome {
    let run = catch_unwind(AssertUnwindSafe(|| run(stage, choice, wanted)));
    run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = text.unwrap_or_default();
        Outcome {
            violation: Some(Violation { rule: "nothing panics", what }),
            ..Outcome::default()
        }
    })
}

/// The first seed, from 1 on, that holds without a planted bug and does not with it; none if there is
/// none before `give_up`.
pub fn catch(
    stage: &mut Stage,
    mutant: Mutant,
    give_up: impl Fn() -> bool,
) -> Option<(u64, Violation)> {
    let wanted = Wanted { mutant: Some(mutant), ..Wanted::default() };
    (1..).take_while(|_| !give_up()).find_map(|n| {
        let violation = seed(stage, n, wanted).violation?;
        let holds = seed(stage, n, Wanted::default()).violation.is_none();
        holds.then_some((n, violation))
    })
}

/// A shorter and quieter tape that breaks the same rule.
pub fn shrink(stage: &mut Stage, from: Vec<u8>, rule: &str, mutant: Option<Mutant>) -> Vec<u8> {
    let wanted = Wanted { mutant, ..Wanted::default() };
    let mut best = from;
    let mut left = TRIES;
    let mut chunk = best.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < best.len() && left > 0 {
            let end = (at + chunk).min(best.len());
            // Without this part; failing that, with zeros in its place.
            let without = [&best[..at], &best[end..]].concat();
            let mut zeroed = best.clone();
            zeroed[at..end].fill(0);
            let quieter = [without, zeroed].into_iter().filter(|other| *other != best);
            let found = quieter.into_iter().find(|other| {
                left = left.saturating_sub(1);
                tape(stage, other, wanted).violation.is_some_and(|found| found.rule == rule)
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

/// The facts that were not reported, of those that can be.
#[must_use]
pub fn missing(facts: &[u64]) -> Vec<FactKind> {
    let unreached = |kind: &FactKind| UNREACHED.iter().any(|(other, _)| other == kind);
    let seen = |kind: &FactKind| facts.get(*kind as usize).is_some_and(|n| *n > 0);
    FactKind::ALL.iter().copied().filter(|kind| !seen(kind) && !unreached(kind)).collect()
}
