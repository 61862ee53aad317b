//! A simulator that does not find planted bugs is none.

use hax_sim::world::mutant::Mutant;
use hax_sim::world::{Stage, Wanted, hunt};

/// Seeds that a bug may survive; 10 s is more than they take.
const SEEDS: usize = 150;

fn all_are_caught(mutants: impl Iterator<Item = Mutant>) {
    let mut stage = Stage::default();
    let mut alive = Vec::new();
    for mutant in mutants {
        let left = std::cell::Cell::new(SEEDS);
        let give_up = || left.replace(left.get().saturating_sub(1)) == 0;
        if hunt::catch(&mut stage, mutant, give_up).is_none() {
            alive.push(mutant);
        }
    }
    assert!(alive.is_empty(), "not caught: {alive:?}");
}

fn inside(mutant: &Mutant) -> bool {
    matches!(mutant, Mutant::Inside(_))
}

#[test]
fn bugs_of_the_host_side_are_caught() {
    all_are_caught(Mutant::all().filter(|mutant| !inside(mutant)));
}

#[test]
fn bugs_in_the_core_are_caught() {
    assert!(Mutant::all().filter(inside).count() >= 7, "the feature `mutants` is on");
    all_are_caught(Mutant::all().filter(inside));
}

#[test]
fn what_is_found_shrinks_and_still_breaks_the_same_rule() {
    let mut stage = Stage::default();
    let mutant = Some(Mutant::NoteWrong);
    let wanted = Wanted { mutant, ..Wanted::default() };
    let violation = hunt::seed(&mut stage, 1, wanted).violation.expect("a planted bug");
    let whole = hunt::tape_of(&mut stage, 1, wanted);
    let small = hunt::shrink(&mut stage, whole.clone(), violation.rule, mutant);
    assert!(small.len() < whole.len() / 4, "{} of {} bytes", small.len(), whole.len());
    let wanted = Wanted { lines: hunt::LINES, ..wanted };
    let again = hunt::tape(&mut stage, &small, wanted);
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    assert!(!again.lines.is_empty() && again.lines.len() <= hunt::LINES);
}
