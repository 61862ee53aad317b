//! Tests of the search for planted bugs.

use hax_sim::engine::{RunOptions, Search, search};
use hax_sim::worlds::bridge::{Bridge, Mutant};

/// The maximum number of seeds before a bug is found. They take less than 10 s.
const SEEDS: usize = 150;

fn all_are_caught(mutants: impl Iterator<Item = Mutant>) {
    let mut search = Search::<Bridge>::default();
    let mut alive = Vec::new();
    for mutant in mutants {
        let left = std::cell::Cell::new(SEEDS);
        let give_up = || left.replace(left.get().saturating_sub(1)) == 0;
        if search.catch(mutant, give_up).is_none() {
            alive.push(mutant);
        }
    }
    assert!(alive.is_empty(), "not caught: {alive:?}");
}

fn inside(mutant: &Mutant) -> bool {
    matches!(mutant, Mutant::Inside(_))
}

fn is_host_side(mutant: &Mutant) -> bool {
    !matches!(mutant, Mutant::Inside(_))
}

#[test]
fn bugs_of_the_host_side_are_caught() {
    all_are_caught(Mutant::all().filter(is_host_side));
}

#[test]
fn bugs_in_the_core_are_caught() {
    assert!(Mutant::all().filter(inside).count() >= 7, "the feature `mutants` is on");
    all_are_caught(Mutant::all().filter(inside));
}

#[test]
fn what_is_found_shrinks_and_still_breaks_the_same_rule() {
    let mut search = Search::<Bridge>::default();
    let mutant = Mutant::NoteWrong;
    let options = RunOptions::with_mutant(mutant);
    let violation = search.seed(1, options).violation.expect("a planted bug");
    let whole = search.tape_of(1, options);
    let small = search.shrink(whole.clone(), violation.rule, Some(mutant));
    assert!(small.len() < whole.len() / 4, "{} of {} bytes", small.len(), whole.len());
    let again = search.tape(&small, options.lines(search::LINES));
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    assert!(!again.lines.is_empty() && again.lines.len() <= search::LINES);
}
