//! Tests of the small cast: the engine drives any machine, with all its features.

use hax_sim::engine::{Cast as _, RunOptions, Search, findings, search};
use hax_sim::worlds::toy::{Bug, Mutant, Toy};

#[test]
fn seeds_hold_and_every_fact_is_hit() {
    let mut search = Search::<Toy>::default();
    let mut facts = vec![0; Search::<Toy>::KINDS];
    for seed in 1..=150 {
        let outcome = search.seed(seed, RunOptions::default());
        assert_eq!(outcome.violation, None, "hax-sim --cast toy --seed {seed}");
        facts.iter_mut().zip(&outcome.facts).for_each(|(sum, n)| *sum += n);
    }
    assert_eq!(Search::<Toy>::missing(&facts), Vec::<&str>::new());
}

#[test]
fn a_seed_and_its_tape_are_the_same_run() {
    let mut search = Search::<Toy>::default();
    for seed in 1..=20 {
        let first = search.seed(seed, RunOptions::default());
        let tape = search.tape_of(seed, RunOptions::default());
        let again = Search::<Toy>::default().tape(&tape, RunOptions::default().lines(10));
        assert_eq!((first.hash, first.steps), (again.hash, again.steps), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    for mutant in Toy::mutants() {
        let left = std::cell::Cell::new(250_u32);
        let give_up = || left.replace(left.get().saturating_sub(1)) == 0;
        assert!(Search::<Toy>::default().catch(mutant, give_up).is_some(), "{mutant:?}");
    }
}

#[test]
fn what_is_found_shrinks_and_is_written_down() {
    let mut search = Search::<Toy>::default();
    let mutant = Mutant::Inside(Bug::CountSet);
    let (seed, violation) = search.catch(mutant, || false).expect("a planted bug");
    let whole = search.tape_of(seed, RunOptions::with_mutant(mutant));
    let small = search.shrink(whole.clone(), violation.rule, Some(mutant));
    let decided = |tape: &[u8]| tape.iter().filter(|byte| **byte != 0).count();
    let (left, of) = (decided(&small), decided(&whole));
    assert!(left < of / 3, "{left} of {of} decisions");
    let again = search.tape(&small, RunOptions::with_mutant(mutant).lines(search::LINES));
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    let files = findings::files(Toy::NAME, seed, &small, again.journals);
    assert_eq!(files.len(), 1 + 3, "a tape, and a journal of each");
    let (cast, tape) = findings::cast(&files[0].1);
    assert_eq!((cast, findings::decisions(tape)), ("toy", Some(&small[..])));
}

#[test]
fn a_journal_replays_as_it_was() {
    let mut search = Search::<Toy>::default();
    let mut inputs = 0;
    for seed in 1..=10 {
        for journal in search.seed(seed, RunOptions::default().lines(1)).journals {
            let first = Search::<Toy>::replay(&journal, 5).expect("a journal");
            assert_eq!((&first.violation, first.error), (&None, None));
            let again = Search::<Toy>::replay(&journal, 0).expect("a journal");
            assert_eq!(first.hash, again.hash);
            inputs += first.inputs;
        }
    }
    assert!(inputs > 1_000, "{inputs} inputs");
}
