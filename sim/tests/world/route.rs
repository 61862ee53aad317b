//! Tests of the routers' cast: redundancy nodes, their file, their events.

use hax_sim::engine::{Cast as _, RunOptions, Search, findings, search};
use hax_sim::worlds::route::{Bug, Route};

#[test]
fn seeds_hold_and_every_fact_is_hit() {
    let mut search = Search::<Route>::default();
    let mut facts = vec![0; Search::<Route>::KINDS];
    for seed in 1..=150 {
        let outcome = search.seed(seed, RunOptions::default());
        assert_eq!(outcome.violation, None, "hax-sim --cast route --seed {seed}");
        facts.iter_mut().zip(&outcome.facts).for_each(|(sum, n)| *sum += n);
    }
    assert_eq!(Search::<Route>::missing(&facts), Vec::<&str>::new());
    assert_eq!(Search::<Route>::unexpected(&facts), Vec::<&str>::new());
}

#[test]
fn a_seed_and_its_tape_are_the_same_run() {
    let mut search = Search::<Route>::default();
    for seed in 1..=20 {
        let first = search.seed(seed, RunOptions::default());
        let tape = search.tape_of(seed, RunOptions::default());
        let again = Search::<Route>::default().tape(&tape, RunOptions::default().lines(10));
        assert_eq!((first.hash, first.steps), (again.hash, again.steps), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    for bug in Route::mutants() {
        let left = std::cell::Cell::new(100_u32);
        let give_up = || left.replace(left.get().saturating_sub(1)) == 0;
        assert!(Search::<Route>::default().catch(bug, give_up).is_some(), "{bug:?}");
    }
}

#[test]
fn what_is_found_shrinks_and_is_written_down() {
    let mut search = Search::<Route>::default();
    let bug = Bug::FailureIgnored;
    let (seed, violation) = search.catch(bug, || false).expect("a planted bug");
    let whole = search.tape_of(seed, RunOptions::with_mutant(bug));
    let small = search.shrink(whole.clone(), violation.rule, Some(bug));
    let decided = |tape: &[u8]| tape.iter().filter(|byte| **byte != 0).count();
    let (left, of) = (decided(&small), decided(&whole));
    assert!(left < of / 3, "{left} of {of} decisions");
    let again = search.tape(&small, RunOptions::with_mutant(bug).lines(search::LINES));
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    let files = findings::files(Route::NAME, seed, &small, again.journals);
    assert_eq!(files.len(), 1 + 2, "a tape, and a journal of each");
    let (cast, tape) = findings::cast(&files[0].1);
    assert_eq!((cast, findings::decisions(tape)), ("route", Some(&small[..])));
}

#[test]
fn a_journal_replays_as_it_was() {
    let mut search = Search::<Route>::default();
    let mut inputs = 0;
    for seed in 1..=20 {
        for journal in search.seed(seed, RunOptions::default().lines(1)).journals {
            let first = Search::<Route>::replay(&journal, 5).expect("a journal");
            assert_eq!((&first.violation, first.error), (&None, None));
            let again = Search::<Route>::replay(&journal, 0).expect("a journal");
            assert_eq!(first.hash, again.hash);
            inputs += first.inputs;
        }
    }
    assert!(inputs > 500, "{inputs} inputs");
}
