//! Tests of the cast of services: types, their instances, the keepers, the coordinator.

use hax_sim::engine::{Cast as _, RunOptions, Search, findings, search};
use hax_sim::worlds::services::{Bug, Services};

#[test]
fn seeds_hold_and_every_fact_is_hit() {
    let mut search = Search::<Services>::default();
    let mut facts = vec![0; Search::<Services>::KINDS];
    let mut broken = Vec::new();
    for seed in 0..100 {
        let outcome = search.seed(seed, RunOptions::default());
        broken.extend(outcome.violation.map(|violation| (seed, violation)));
        facts.iter_mut().zip(&outcome.facts).for_each(|(sum, n)| *sum += n);
    }
    assert_eq!(broken, [], "hax-sim --cast services --seed N");
    assert_eq!(Search::<Services>::missing(&facts), Vec::<&str>::new());
    assert_eq!(Search::<Services>::unexpected(&facts), Vec::<&str>::new());
}

#[test]
fn a_seed_and_its_tape_are_the_same_run() {
    let mut search = Search::<Services>::default();
    for seed in 1..=8 {
        let first = search.seed(seed, RunOptions::default());
        let tape = search.tape_of(seed, RunOptions::default());
        let again = Search::<Services>::default().tape(&tape, RunOptions::default().lines(10));
        assert_eq!((first.hash, first.steps), (again.hash, again.steps), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    for bug in Services::mutants() {
        let left = std::cell::Cell::new(60_u32);
        let give_up = || left.replace(left.get().saturating_sub(1)) == 0;
        assert!(Search::<Services>::default().catch(bug, give_up).is_some(), "{bug:?}");
    }
}

#[test]
fn what_is_found_is_written_down() {
    let mut search = Search::<Services>::default();
    let bug = Bug::SpeaksAfterExit;
    let (seed, violation) = search.catch(bug, || false).expect("a planted bug");
    let tape = search.tape_of(seed, RunOptions::with_mutant(bug));
    let again = search.tape(&tape, RunOptions::with_mutant(bug).lines(search::LINES));
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    let files = findings::files(Services::NAME, seed, &tape, again.journals);
    assert_eq!(files.len(), 1 + 3, "a tape, and a journal of each");
    let (cast, tape_of) = findings::cast(&files[0].1);
    assert_eq!((cast, findings::decisions(tape_of)), ("services", Some(&tape[..])));
}

#[test]
fn a_journal_replays_as_it_was() {
    let mut search = Search::<Services>::default();
    let mut inputs = 0;
    for seed in 1..=5 {
        for journal in search.seed(seed, RunOptions::default().lines(1)).journals {
            let first = Search::<Services>::replay(&journal, 5).expect("a journal");
            assert_eq!((&first.violation, first.error), (&None, None));
            let again = Search::<Services>::replay(&journal, 0).expect("a journal");
            assert_eq!(first.hash, again.hash);
            inputs += first.inputs;
        }
    }
    assert!(inputs > 500, "{inputs} inputs");
}
