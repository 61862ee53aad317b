//! The rule of supervision: whenever a node comes or goes, each supervisor's set is what the living nodes make it.

use alloc::vec::Vec;

use super::RuleCx;
use crate::services::model::name::NodeName;
use crate::services::model::supervision::spread;

/// Writes the sets that have changed. The set of a node that is down goes; it has the same one when it is back.
pub(in crate::services::coord) fn supervise(cx: &mut RuleCx<'_>) {
    let up = cx.graph.nodes.iter().filter(|(_, node)| node.is_up);
    let up: Vec<NodeName> = up.map(|(name, _)| name.clone()).collect();
    let mut sets = spread(&up);
    let known: Vec<NodeName> = cx.graph.supervision.keys().cloned().collect();
    for node in known.iter().chain(&up) {
        let set = sets.remove(node);
        let is_done = known.contains(node) && up.contains(node) && set.is_none();
        if !is_done {
            cx.graph.set_supervision(node, set);
        }
    }
}
