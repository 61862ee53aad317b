//! The rules of nodes.
//!
//! - A node that comes up gets the instances of all types that are to run in its place, and loses those that
//!   have no place there. It may have other labels than before.
//! - Of a node that is down nothing is moved and nothing is written: its instances are *inhibited*. They may
//!   still run. Once it is back, it reports what has become of them.

use alloc::vec::Vec;

use super::{RuleCx, start, stop};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::name::{NodeName, TypeName};

/// Starts what is to run on a node and was never wanted there, and stops what has no place there.
pub(in crate::services::coord) fn fill_all(cx: &mut RuleCx<'_>, node: &NodeName) {
    let kinds: Vec<TypeName> = cx.graph.types.keys().cloned().collect();
    for kind in kinds {
        let placement = Placement { node: node.clone(), kind };
        if cx.graph.is_place(&placement.node, &placement.kind) {
            fill(cx, &placement);
        } else if cx.graph.rows.contains_key(&placement) && cx.has_no_place(&placement) {
            stop::end(cx, &placement, "the node is not in the type's place");
        }
    }
}

/// Drops a node whose records are deleted. One that is back by now has written records of its own.
pub(super) fn on_forgotten(cx: &mut RuleCx<'_>, node: &NodeName) {
    if !cx.is_up(node) {
        cx.graph.forget(node);
        cx.say(Fact::NodeForgotten { node: node.clone() });
    }
}

/// Starts an instance if its type is to run, and nothing was ever wanted of it here.
pub(super) fn fill(cx: &mut RuleCx<'_>, placement: &Placement) {
    let goal = cx.graph.goals.get(&placement.kind).and_then(|record| record.value.as_ref());
    let Some(given) = goal.filter(|goal| goal.run).map(|goal| goal.given.clone()) else { return };
    let wanted = cx.graph.rows.get(placement).map(|row| &row.wanted);
    let is_new = wanted.is_none_or(|wanted| wanted.value.is_none() && !wanted.is_frozen);
    if is_new && cx.phase(placement).is_none() && cx.is_up(&placement.node) {
        start::begin(cx, placement, &given, "the type is to run on this node");
    }
}
