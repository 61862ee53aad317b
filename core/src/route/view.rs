//! What the server shows of its redundancy nodes and their events.

use alloc::string::String;

use serde_json::{Value, json};

use super::events::{EventManager, Report, Standing};
use super::node::{Index, Node};
use super::table::Table;

/// One redundancy node with how its events stand.
fn node(index: Index, node: &Node, events: &EventManager) -> Value {
    let Standing { is_running, waiting, last } = events.standing(index);
    json!({
        "index": index.number(),
        "provider": node.provider.name(),
        "mode": node.mode().name(),
        "parameters": node.parameters,
        "running": is_running,
        "waiting": waiting,
        "last_event": last.map(report),
    })
}

fn report(report: &Report) -> Value {
    let (ok, detail) = match &report.result {
        Ok(detail) => (true, detail),
        Err(why) => (false, why),
    };
    json!({
        "event": report.event.name(),
        "at": alloc::format!("{}", report.at),
        "ok": ok,
        "detail": detail,
    })
}

/// All of them, as `GET /v1/route` and `hax route status --json` show them.
pub(super) fn all(table: &Table, events: &EventManager) -> String {
    let nodes: Value = table.iter().map(|(index, of)| node(index, of, events)).collect();
    alloc::format!("{}", json!({ "nodes": nodes, "handlers_running": events.running() }))
}

/// One or all of them, each a line.
pub(super) fn lines(table: &Table, index: Option<Index>, events: &EventManager) -> Option<String> {
    let line = |(index, of)| alloc::format!("{}\n", node(index, of, events));
    let text: String = match index {
        Some(index) => line((index, table.find(index)?)),
        None => table.iter().map(line).collect(),
    };
    Some(text.trim_end().into())
}
