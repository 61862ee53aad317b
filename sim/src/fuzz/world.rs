//! Fuzzing of whole worlds.

use std::cell::RefCell;

use crate::engine::{RunOptions, Search};
use crate::worlds::bridge::Bridge;

thread_local! {
    static SEARCH: RefCell<Search<Bridge>> = RefCell::default();
}

/// Runs a world with the bytes as its tape. All decisions are read from the tape, and all rules must hold.
///
/// # Panics
///
/// If a rule does not hold. `hax-sim --replay` prints the trace of a tape.
pub fn world(data: &[u8]) {
    let outcome = SEARCH.with_borrow_mut(|search| search.tape(data, RunOptions::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}
