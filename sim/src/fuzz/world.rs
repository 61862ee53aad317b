//! Fuzzing of whole worlds.

use std::cell::RefCell;

use crate::engine::{Hunt, Wanted};
use crate::worlds::bridge::Bridge;

thread_local! {
    static HUNT: RefCell<Hunt<Bridge>> = RefCell::default();
}

/// Runs a world with the bytes as its tape. All decisions are read from the tape, and all rules must hold.
///
/// # Panics
///
/// If a rule does not hold. `hax-sim --replay` prints the trace of a tape.
pub fn world(data: &[u8]) {
    let outcome = HUNT.with_borrow_mut(|hunt| hunt.tape(data, Wanted::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}
