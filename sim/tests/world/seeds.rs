//! Tests of seeds.

use hax_sim::engine::{Outcome, RunOptions, Search};
use hax_sim::worlds::bridge::Bridge;

fn run(seed: u64) -> Outcome {
    let outcome = Search::<Bridge>::default().seed(seed, RunOptions::default());
    let violation = &outcome.violation;
    assert!(violation.is_none(), "seed {seed}: {violation:?}; see hax-sim --seed {seed}");
    outcome
}

fn facts_of(seeds: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut facts = vec![0; Search::<Bridge>::KINDS];
    for seed in seeds {
        let seen = run(seed).facts;
        facts.iter_mut().zip(&seen).for_each(|(sum, n)| *sum += n);
    }
    facts
}

#[test]
fn seeds_hold_and_every_fact_is_hit() {
    let halves = std::thread::scope(|scope| {
        let halves = [0, 1]
            .map(|half| scope.spawn(move || facts_of(SEEDS.filter(move |seed| seed % 2 == half))));
        halves.map(|half| half.join().expect("a half of the seeds"))
    });
    let facts: Vec<u64> = halves[0].iter().zip(&halves[1]).map(|(a, b)| a + b).collect();
    let missing = Search::<Bridge>::missing(&facts);
    assert!(missing.is_empty(), "no seed brings about {missing:?}");
    let unexpected = Search::<Bridge>::unexpected(&facts);
    assert!(unexpected.is_empty(), "they are reached, though they should not: {unexpected:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut search = Search::<Bridge>::default();
    let mut hashes = Vec::new();
    for seed in [1, 2, 3, 4] {
        let first = search.seed(seed, RunOptions::default());
        // The lines and a cache of its own do not change the run.
        let options = RunOptions::default().lines(10);
        let second = Search::<Bridge>::default().seed(seed, options);
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.steps, first.time), (second.steps, second.time));
        let tape = search.tape_of(seed, RunOptions::default());
        assert_eq!(search.tape(&tape, RunOptions::default()).hash, first.hash, "its tape");
        hashes.push(first.hash.value());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4, "and another seed is another run");
}

/// The seeds of the test. Together they reach every fact.
const SEEDS: std::ops::RangeInclusive<u64> = 1141..=1380;
