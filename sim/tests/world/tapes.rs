//! Worlds from quickcheck's bytes, and an exhaustive search of small worlds.

use std::cell::RefCell;

use hax_sim::engine::choice::Exhaustive;
use hax_sim::engine::{Fault, Odds, RunOptions, Search};
use hax_sim::worlds::bridge::{Bridge, Swarm};
use quickcheck::{Gen, QuickCheck};

thread_local! {
    static SEARCH: RefCell<Search<Bridge>> = RefCell::default();
}

#[test]
fn tapes_hold() {
    fn holds(tape: Vec<u8>) -> bool {
        SEARCH
            .with_borrow_mut(|search| search.tape(&tape, RunOptions::default()).violation.is_none())
    }
    QuickCheck::new().rng(Gen::new(600)).tests(30).quickcheck(holds as fn(Vec<u8>) -> bool);
}

/// Starts one node while every call may fail in one of a few ways, with all sequences of the first decisions.
#[test]
fn a_start_holds_whatever_happens_to_its_first_calls() {
    let mut odds = Odds { pace_ms: 1, consul: 1000, ..Odds::faults_off() };
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Junk, Fault::IndexZero] {
        let place = Fault::ALL.iter().position(|other| *other == fault).expect("it is one");
        odds.consul_faults[place] = 1;
    }
    let swarm = Swarm { odds, clients: 0, elects: false, bq: false, ..Swarm::faults_off() };
    let mut search = Search::<Bridge>::default();
    // The decisions are the start times of the two processes, then a fault for each call.
    let mut all = Exhaustive::new(4);
    let mut runs = 0;
    loop {
        let outcome = search.swarm(&swarm, &mut &mut all, RunOptions::default());
        assert_eq!(outcome.violation, None, "{all:?}");
        runs += 1;
        if !all.advance() {
            break;
        }
    }
    assert_eq!(runs, 4 * 4 * 5 * 5, "both starts, and a fault or none for each of two calls");
}
