//! Worlds from quickcheck's bytes, and small ones exhaustively.

use std::cell::RefCell;

use hax_sim::world::choice::Exhaustive;
use hax_sim::world::{Fault, Stage, Swarm, Wanted, hunt, run_swarm};
use quickcheck::{Gen, QuickCheck};

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

#[test]
fn tapes_hold() {
    fn holds(tape: Vec<u8>) -> bool {
        STAGE.with_borrow_mut(|stage| {
            hunt::tape(stage, &tape, Wanted::default()).violation.is_none()
        })
    }
    QuickCheck::new().rng(Gen::new(600)).tests(30).quickcheck(holds as fn(Vec<u8>) -> bool);
}

/// One node that starts while every call may go wrong in one of a few ways: all sequences of the first
/// decisions.
#[test]
fn a_start_holds_whatever_happens_to_its_first_calls() {
    let mut swarm =
        Swarm { pace_ms: 1, clients: 0, consul: 1000, elects: false, bq: false, ..Swarm::calm() };
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Junk, Fault::IndexZero] {
        let place = Fault::ALL.iter().position(|other| *other == fault).expect("it is one");
        swarm.consul_faults[place] = 1;
    }
    let mut stage = Stage::default();
    // When each of the two processes starts, then a fault for each call.
    let mut all = Exhaustive::new(4);
    let mut runs = 0;
    loop {
        let outcome = run_swarm(&mut stage, swarm.clone(), &mut &mut all, Wanted::default());
        assert_eq!(outcome.violation, None, "{all:?}");
        runs += 1;
        if !all.advance() {
            break;
        }
    }
    assert_eq!(runs, 4 * 4 * 5 * 5, "both starts, and a fault or none for each of two calls");
}
