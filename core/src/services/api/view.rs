//! The answers about types and instances, as JSON and in words.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::snapshot::{Row, Snapshot};
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::record::{Job, Observed, Phase, State, Want, Wanted};
use crate::services::model::span::Span;

/// Returns the state of an instance. That of a node that is down is `inhibited`, unless nothing can live there: the
/// node has said so of the last wanted start.
fn state(of: &Snapshot, node: &NodeName, row: &Row) -> &'static str {
    let is_over = row.state() == State::Absent && row.is_seen();
    if of.is_up(node) || is_over { row.state().name() } else { "inhibited" }
}

/// Returns one instance.
pub(super) fn instance(of: &Snapshot, kind: &TypeName, node: &NodeName, row: &Row) -> Value {
    let seen = row.observed.as_ref();
    let wanted = row.wanted.as_ref();
    let record = of.kind(kind);
    json!({
        "type": kind.as_str(),
        "node": node.as_str(),
        "state": state(of, node, row),
        "pid": seen.and_then(|seen| seen.pid),
        "instance": seen.and_then(|seen| seen.instance.as_ref()),
        "name": record.map(|record| record.service_name()),
        "runner": record.map(|record| record.runner.name()),
        "revision": seen.and_then(|seen| seen.revision.as_ref()),
        "reason": seen.and_then(|seen| seen.reason.as_ref()),
        "resources": seen.map(|seen| &seen.resources),
        "config": seen.and_then(|seen| seen.config.as_ref()),
        "at": seen.map(|seen| &seen.at),
        "wanted": wanted.map(|wanted| json!({
            "want": wanted.want, "serial": wanted.serial, "why": wanted.why, "at": wanted.at,
            "revision": wanted.launch.revision,
        })),
        "job": row.job.as_ref().map(|job| json!({
            "phase": job.phase, "since": job.since, "wait_ms": job.wait_ms,
            "trying": job.trying.as_ref().map(|trying| trying.failures),
        })),
    })
}

/// Returns all instances, or those of a type, or of a type on a node.
pub(super) fn instances(
    of: &Snapshot,
    kind: Option<&TypeName>,
    node: Option<&NodeName>,
) -> Vec<Value> {
    let rows = of.rows.iter().filter(|((of_kind, of_node), _)| {
        kind.is_none_or(|kind| kind == of_kind) && node.is_none_or(|node| node == of_node)
    });
    rows.map(|((kind, node), row)| instance(of, kind, node, row)).collect()
}

/// Returns one type with what is known of it.
pub(super) fn kind(of: &Snapshot, kind: &TypeName) -> Option<Value> {
    let record = of.kind(kind)?;
    let schema = record.schema.as_ref().and_then(|schema| of.schemas.get(&schema.id));
    let digest =
        schema.and_then(|schema| schema.record.as_ref()).map(|schema| schema.digest.clone());
    let runs = of.goals.get(kind).is_some_and(|goal| goal.run);
    let places: Vec<String> = of.places(kind).iter().map(NodeName::to_string).collect();
    Some(json!({
        "type": record, "stored": of.stored(kind), "schema_digest": digest, "runs": runs,
        "nodes": places,
    }))
}

/// Returns why an instance is in its state, in words.
pub(super) fn why(of: &Snapshot, kind: &TypeName, node: &NodeName) -> String {
    let Some(row) = of.rows.get(&(kind.clone(), node.clone())) else {
        let place = of.places(kind).contains(node);
        let reason =
            if place { "nobody has asked for it" } else { "the node is not in the type's place" };
        return format!("{kind} on {node} was never started: {reason}.");
    };
    let mut text = seen(kind, node, row);
    if !of.is_up(node) {
        text += " The node is down: its session has ended. The node reports once it is back.";
    }
    text += &next(of, kind, node, row);
    if !of.is_coordinated {
        text += " There is no coordinator, so nothing is decided.";
    }
    text
}

fn seen(kind: &TypeName, node: &NodeName, row: &Row) -> String {
    let Some(Observed { state, reason, pid, at, revision, .. }) = &row.observed else {
        return format!("{kind} on {node} was never started.");
    };
    let about = reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.text));
    let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    let revision = revision.as_ref().map_or_else(String::new, |of| format!(", configuration {of}"));
    let words = match state {
        State::Absent => "is stopped",
        State::Starting => "is being started",
        State::Running => "runs",
        State::Degraded => "runs, with a problem",
        State::Stopping => "is being stopped",
        State::Failed => "has failed",
    };
    format!("{kind} on {node} {words}{pid}{about}, since {at} UTC{revision}.")
}

fn next(of: &Snapshot, kind: &TypeName, node: &NodeName, row: &Row) -> String {
    let Some(Wanted { want, why, at, serial, .. }) = &row.wanted else {
        return row.job.as_ref().map_or_else(String::new, |job| phase(of, kind, node, job));
    };
    let mut text = match want {
        Want::Running => format!(" It is wanted to run (start {serial}, {at} UTC): {why}."),
        Want::Stopped => format!(" It is not wanted to run ({at} UTC): {why}."),
        Want::Resting => format!(" It is not started again by itself ({at} UTC): {why}."),
    };
    if let Some(job) = &row.job {
        text += &phase(of, kind, node, job);
    }
    text
}

fn phase(of: &Snapshot, kind: &TypeName, node: &NodeName, job: &Job) -> String {
    let Job { phase, since, trying, .. } = job;
    let wait =
        job.wait().map_or_else(String::new, |wait| format!("{} after {since} UTC", Span(wait)));
    let needs = || {
        let needs = of.kind(kind).map(|record| record.needs.clone()).unwrap_or_default();
        let runs =
            |need: &&TypeName| of.rows.get(&((*need).clone(), node.clone())).is_some_and(Row::runs);
        let missing: Vec<String> =
            needs.iter().filter(|need| !runs(need)).map(ToString::to_string).collect();
        missing.join(", ")
    };
    let mut text = match phase {
        Phase::Needs => format!(" Its start waits for what it needs: {}.", needs()),
        Phase::Starting => " The node is to start it.".into(),
        Phase::Settling => format!(" It counts as stable {wait}."),
        Phase::Delay => format!(" It is started again {wait}."),
        Phase::GivenUp => format!(" It is tried again {wait}."),
        Phase::Dependents => " Its stop waits for those that need it.".into(),
        Phase::Stopping => " The node is to stop it.".into(),
    };
    if let Some(trying) = trying {
        text += &format!(
            " A new configuration is tried, and has failed {} times; the last one is {}.",
            trying.failures, trying.last.revision
        );
    }
    text
}
