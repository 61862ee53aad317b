//! Whole worlds.

use std::cell::RefCell;

use crate::engine::{Hunt, Wanted};
use crate::worlds::bridge::Bridge;

thread_local! {
    static HUNT: RefCell<Hunt<Bridge>> = RefCell::default();
}

/// The bytes are a tape: all that happens is read from them, and all rules hold.
///
/// # Panics
///
/// If one does not. `hax-sim --replay` tells the story of a tape.
pub fn world(data: &[u8]) {
    let outcome = HUNT.with_borrow_mut(|hunt| hunt.tape(data, Wanted::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}
