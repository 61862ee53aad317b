//! Links that outlive haxes, in worlds where haxes die again and again and nothing else goes wrong.

use hax_core::ha::fact::FactKind;
use hax_sim::engine::choice::Seed;
use hax_sim::engine::{Outcome, RunOptions, Search};
use hax_sim::worlds::bridge::{Act, Bridge, Inside, Mutant, Swarm};

/// The decisions of a world: some minutes of it.
const DECISIONS: u32 = 600;
/// The seeds of the test.
const SEEDS: std::ops::Range<u64> = 1..25;
/// The maximum number of seeds before a bug is found.
const CATCH: u64 = 400;

/// Haxes die between any two outputs, also between a state and what follows from it. Processes speak, die, or
/// are idle; an idle one is never made to speak.
fn swarm(stale: bool) -> Swarm {
    let mut swarm = Swarm { keeps: true, clients: 2, ..Swarm::faults_off() };
    swarm.odds.lag_ms = 5;
    swarm.odds.pace_ms = 100;
    // A process that takes its time gets no older copy: it would not show that it is one.
    swarm.slow_ms = if stale { 0 } else { 20 };
    let weights = [
        (Act::KillHax, 4),
        (Act::KillHaxSoon, 8),
        (Act::StopHax, 1),
        (Act::SendMessage, 6),
        (Act::RepeatEvent, 4),
        (Act::KillProcess, 2),
        (Act::Reconfigure, 2),
    ];
    for (act, weight) in weights {
        swarm.acts[act as usize] = weight;
    }
    swarm
}

fn run(search: &mut Search<Bridge>, seed: u64, options: RunOptions<Bridge>) -> Outcome {
    search.swarm(&swarm(seed.is_multiple_of(2)), &mut Seed::new(seed, DECISIONS), options)
}

#[test]
fn idle_processes_hear_of_everything_whenever_their_hax_dies() {
    let mut search = Search::<Bridge>::default();
    let mut facts = vec![0; Search::<Bridge>::KINDS];
    for seed in SEEDS {
        let outcome = run(&mut search, seed, RunOptions::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
        facts.iter_mut().zip(&outcome.facts).for_each(|(sum, n)| *sum += n);
    }
    let seen = |kind: FactKind| facts[kind as usize];
    for kind in [FactKind::LinkKept, FactKind::LinksLost, FactKind::LinkContradicted] {
        assert!(seen(kind) > 0, "{kind:?}");
    }
    assert!(seen(FactKind::LinkKept) > 5 * seen(FactKind::LinksLost));
}

#[test]
fn bugs_of_links_that_outlive_haxes_are_caught() {
    let mut search = Search::<Bridge>::default();
    let mut caught = |mutant: &Inside| {
        let options = RunOptions::with_mutant(Mutant::Inside(*mutant));
        (1..CATCH).any(|seed| run(&mut search, seed, options).violation.is_some())
    };
    let alive: Vec<_> = Inside::OF_KEPT_LINKS.iter().filter(|mutant| !caught(mutant)).collect();
    assert!(alive.is_empty(), "not caught: {alive:?}");
}
