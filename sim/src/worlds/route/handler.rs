//! The behavior of the event handler, and the server's interpretation of its result.

use std::time::Duration;

use bytes::Bytes;
use hax_core::exec::{Cause, Status, Stream};
use serde_json::{Value, json};

use crate::exec::{Program, Step};

/// Returns the behavior of the handler with this number. It completes its job, or fails, or is not a handler
/// at all.
pub(super) fn program(n: u64, mut choose: impl FnMut(u64) -> u64) -> Program {
    let outcomes = ["updated", "unchanged", "written_back", "failed"];
    let fate = choose(8);
    let outcome = outcomes[usize::try_from(fate.min(3)).unwrap_or(0)];
    let said = format!("{}\n", json!({ "outcome": outcome, "detail": format!("work {n}") }));
    let said = match fate {
        5 => "Segmentation fault\n".into(),
        6 => said.repeat(1_000),
        _ => said,
    };
    let (head, tail) = said.split_at(said.len() / 2);
    let say = |text: &str| Step::Write(Stream::Stdout, Bytes::from(text.to_owned()));
    let mut program = Program::doing([Step::Act(0), say(head), say(tail)]);
    if fate == 7 {
        program.steps.pop();
        let complains = Step::Write(Stream::Stderr, Bytes::from_static(b"out of memory\n"));
        program.steps.push((Duration::from_millis(1), complains));
        program.steps.push((Duration::from_millis(1), Step::End(Status::Code(101))));
    }
    program
}

/// Interprets the output and the end of a handler. Returns its finding, or the reason of its failure if it
/// gave one.
pub(super) fn result(said: &[u8], status: Status, cause: Cause) -> Result<String, Option<String>> {
    let done: Option<Value> = serde_json::from_slice(said).ok();
    let outcome = done.as_ref().and_then(|done| done["outcome"].as_str());
    let detail = done.as_ref().and_then(|done| done["detail"].as_str()).map(str::to_owned);
    match (outcome, detail) {
        _ if cause != Cause::Itself => Err(None),
        (Some("updated" | "unchanged" | "written_back"), Some(detail)) => {
            if status == Status::Code(0) { Ok(detail) } else { Err(Some(detail)) }
        }
        (_, detail) => Err(detail),
    }
}
