//! The representation of the redundancy nodes and their events that the server shows.

use alloc::string::String;

use serde_json::{Value, json};

use super::events::{EventManager, Report, Standing};
use super::group::Group;
use super::groups::Groups;
use super::node::{Index, Node};
use super::table::Table;

/// Returns one redundancy node with the state of its events.
fn node(index: Index, node: &Node, events: &EventManager) -> Value {
    let Standing { is_running, waiting, is_contested, last } = events.standing(index);
    json!({
        "index": index.number(),
        "provider": node.provider.name(),
        "mode": node.mode().name(),
        "parameters": node.parameters,
        "running": is_running,
        "waiting": waiting,
        "contested": is_contested,
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

/// Returns a group and the holder of its lease.
fn group(name: &str, group: &Group) -> Value {
    let holder = group.other().map(|other| json!({ "name": other.name, "term": other.term }));
    json!({ "group": name, "key": group.key(), "held_in_term": group.term(), "other": holder })
}

/// Returns all nodes and groups, as `GET /v1/route` and `hax route status --json` show them.
pub(super) fn all(table: &Table, events: &EventManager, groups: &Groups) -> String {
    let nodes: Value = table.iter().map(|(index, of)| node(index, of, events)).collect();
    let groups: Value = groups.iter().map(|(name, of)| group(name, of)).collect();
    let running = events.running();
    alloc::format!("{}", json!({ "nodes": nodes, "groups": groups, "handlers_running": running }))
}

/// Returns one node or all nodes, one line for each.
pub(super) fn lines(table: &Table, index: Option<Index>, events: &EventManager) -> Option<String> {
    let line = |(index, of)| alloc::format!("{}\n", node(index, of, events));
    let text: String = match index {
        Some(index) => line((index, table.find(index)?)),
        None => table.iter().map(line).collect(),
    };
    Some(text.trim_end().into())
}
