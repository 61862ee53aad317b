//! Rules for every machine.

use hax_core::base::time::Next;

use super::Violation;

pub(crate) fn deadline_is_later(now: u64, next: Next) -> Result<(), Violation> {
    match next {
        Next::WaitUntil { at, why } if at.as_micros() <= now => {
            Violation::of("the next deadline is later", format!("{why} is due at {at}"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn nothing_follows_exit<O>(next: Next, out: &[O]) -> Result<(), Violation> {
    if next == Next::Exit && out.is_empty() {
        return Ok(());
    }
    Violation::of("nothing follows an exit", format!("{next:?}, {} outputs", out.len()))
}
