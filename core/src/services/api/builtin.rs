//! The services that are part of hax: a supervisor on each node, and one recovery coordinator in the cluster.
//!
//! They have the same columns as other instances, and understand the same requests. They run as long as hax does.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::refuse;
use super::snapshot::Snapshot;
use crate::http::answer::Answer;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::record::Verb;

/// The name of the supervisors.
const SUPERVISOR: &str = "supervisor";
/// The name of the recovery coordinator.
const COORDINATOR: &str = "rc";

/// Returns whether a name is that of a type that is part of hax.
pub(super) fn is_builtin(kind: &TypeName) -> bool {
    [SUPERVISOR, COORDINATOR].contains(&kind.as_str())
}

/// Returns the instances of all built-in types, or of one, on all nodes or on one.
pub(super) fn instances(
    of: &Snapshot,
    kind: Option<&TypeName>,
    node: Option<&NodeName>,
) -> Vec<Value> {
    let is_asked = |name: &str, on: &NodeName| {
        kind.is_none_or(|kind| kind.as_str() == name) && node.is_none_or(|node| node == on)
    };
    let coordinator = of.coordinator.iter().filter(|on| is_asked(COORDINATOR, on));
    let coordinator = coordinator.map(|on| instance(COORDINATOR, on, true));
    let supervisors = of.nodes.iter().filter(|(on, _)| is_asked(SUPERVISOR, on));
    let supervisors = supervisors.map(|(on, node)| instance(SUPERVISOR, on, node.is_up));
    coordinator.chain(supervisors).collect()
}

fn instance(kind: &str, node: &NodeName, is_up: bool) -> Value {
    json!({
        "type": kind,
        "node": node,
        "state": if is_up { "running" } else { "inhibited" },
        "pid": null,
        "instance": id(kind, node),
        "name": kind,
        "runner": "builtin",
        "revision": null,
        "reason": null,
        "resources": null,
        "config": null,
        "at": null,
        "wanted": null,
        "job": null,
    })
}

fn id(kind: &str, node: &NodeName) -> String {
    format!("{kind}.{node}")
}

/// Returns the built-in types, in the form of other types.
pub(super) fn types(of: &Snapshot) -> Vec<Value> {
    [COORDINATOR, SUPERVISOR].map(|kind| describe(of, kind)).into()
}

/// Returns one of them.
pub(super) fn kind(of: &Snapshot, kind: &TypeName) -> Value {
    describe(of, kind.as_str())
}

fn describe(of: &Snapshot, kind: &str) -> Value {
    json!({
        "type": { "type": kind, "runner": "builtin", "needs": [] },
        "stored": {},
        "schema_digest": null,
        "runs": true,
        "nodes": of.nodes.keys().collect::<Vec<_>>(),
    })
}

/// Returns why an instance is in its state, in words.
pub(super) fn why(of: &Snapshot, kind: &TypeName, node: &NodeName) -> Box<str> {
    if kind.as_str() == COORDINATOR {
        return match &of.coordinator {
            Some(on) if on == node => format!("{kind} runs on {node}: its hax has the lease."),
            Some(on) => format!("{kind} runs on {on}, and {node} may take over."),
            None => format!("{kind} runs nowhere: nobody has the lease, so nothing is decided."),
        }
        .into();
    }
    if !of.is_up(node) {
        return format!("{kind} on {node} does not run: the session of its hax has ended.").into();
    }
    let watches = of.supervision.get(node).map(|of| &*of.watches).unwrap_or_default();
    let watches: Vec<&str> = watches.iter().map(NodeName::as_str).collect();
    let others = if watches.is_empty() {
        "no other node".into()
    } else {
        format!("the supervisors of {}", watches.join(" and "))
    };
    format!(
        "{kind} on {node} runs as part of hax. It watches the instances of its node, and {others}."
    )
    .into()
}

/// Returns the answer to a request to start, stop or restart them.
pub(super) fn on_move(
    of: &Snapshot,
    verb: Verb,
    kind: &TypeName,
    node: Option<&NodeName>,
) -> Answer {
    match verb {
        Verb::Start => {
            let instances = instances(of, Some(kind), node);
            Answer::new(200, format!("{}", json!({ "already": true, "instances": instances })))
        }
        Verb::Stop | Verb::Restart => {
            let why = format!("{kind} is part of hax, and runs as long as hax does on its node");
            refuse(409, &why)
        }
    }
}

/// Returns the edges between supervisors, as the ids of instances.
pub(super) fn watches(of: &Snapshot) -> Vec<(String, String)> {
    let edges = of.supervision.iter().flat_map(|(node, of)| {
        let to = |other: &NodeName| (id(SUPERVISOR, node), id(SUPERVISOR, other));
        of.watches.iter().map(to).collect::<Vec<_>>()
    });
    edges.collect()
}
