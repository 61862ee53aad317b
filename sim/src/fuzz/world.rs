//! Whole worlds.

use std::cell::RefCell;

use crate::world::{Stage, Wanted, hunt};

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

/// The bytes are a tape: all that happens is read from them, and all rules hold.
///
/// # Panics
///
/// If one does not. `hax-sim --replay` tells the story of a tape.
pub fn world(data: &[u8]) {
    let outcome = STAGE.with_borrow_mut(|stage| hunt::tape(stage, data, Wanted::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}
