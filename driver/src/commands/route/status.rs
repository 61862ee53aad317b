//! `hax route status`.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use hax_core::route::request::{Answer, Request};
use serde::Deserialize;

use super::StatusArgs;
use crate::commands::output::Output;
use crate::exit::{CommandError, Exit};
use crate::fifo;

/// The time limit for the server's reply.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Shown {
    nodes: Vec<Node>,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    group: String,
    held_in_term: Option<u64>,
    other: Option<Holder>,
}

#[derive(Deserialize)]
struct Holder {
    name: String,
    term: u64,
}

#[derive(Deserialize)]
struct Node {
    index: u16,
    provider: String,
    mode: String,
    running: bool,
    waiting: usize,
    contested: bool,
    last_event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    at: String,
    ok: bool,
    detail: String,
}

/// Requests the state of the server and prints it.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, CommandError> {
    let asked = fifo::ask(&args.dir, Request::Status.encode().as_bytes(), WITHIN);
    let answer = asked.map_err(|why| CommandError(Exit::Unexpected, why.into()))?;
    let answer: Answer = serde_json::from_slice(&answer).context("the server's answer")?;
    let mut out = Output::new();
    if answer.exit != 0 {
        return Err(CommandError(Exit::Unexpected, anyhow::anyhow!(answer.text)));
    }
    if args.json {
        writeln!(out, "{}", answer.text).map_err(anyhow::Error::from)?;
        return Ok(Exit::Clean);
    }
    let shown: Shown = serde_json::from_str(&answer.text).context("the server's answer")?;
    let mut text = format!("{} redundancy nodes\n", shown.nodes.len());
    for node in shown.nodes {
        text.push_str(&line(&node));
    }
    for group in shown.groups {
        text.push_str(&line_of_group(&group));
    }
    out.write_all(text.as_bytes()).map_err(anyhow::Error::from)?;
    Ok(Exit::Clean)
}

fn line_of_group(Group { group, held_in_term, other }: &Group) -> String {
    let who = match (held_in_term, other) {
        (Some(term), _) => format!("this router acts, in term {term}"),
        (None, Some(Holder { name, term })) => format!("{name} acts, in term {term}"),
        (None, None) => "nobody acts, as far as is known".into(),
    };
    format!("group {group}: {who}\n")
}

fn line(node: &Node) -> String {
    let Node { index, provider, mode, running, waiting, contested, last_event } = node;
    let state = match (running, waiting) {
        (false, 0) if *contested => "left to who else changes it".into(),
        (false, 0) => "idle".into(),
        (_, 0) => "an event is worked".into(),
        (_, waiting) => format!("an event is worked, {waiting} wait"),
    };
    let last = last_event.as_ref().map_or_else(String::new, |Event { event, at, ok, detail }| {
        let ok = if *ok { "ok" } else { "FAILED" };
        format!("; {at} {event} {ok}: {detail}")
    });
    format!("{index:>4}  {provider:<7} {mode:<9} {state}{last}\n")
}
