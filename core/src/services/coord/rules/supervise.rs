//! The rule of supervision: whenever a node comes or goes, each supervisor's set is what the living nodes make it.
//!
//! A node with a set was up when it was written. So the sets tell who has come or gone, also while nobody coordinated.

use alloc::vec::Vec;

use super::RuleCx;
use crate::services::coord::fact::Fact;
use crate::services::model::name::NodeName;
use crate::services::model::supervision::spread;

/// Writes the sets that have changed. The set of a node that is down goes; it has the same one when it is back.
pub(in crate::services::coord) fn supervise(cx: &mut RuleCx<'_>) {
    let up = cx.graph.nodes.iter().filter(|(_, node)| node.is_up);
    let up: Vec<NodeName> = up.map(|(name, _)| name.clone()).collect();
    let mut sets = spread(&up);
    let known: Vec<NodeName> = cx.graph.supervision.keys().cloned().collect();
    for node in known.iter().chain(&up) {
        let record = cx.graph.supervision.get(node);
        let (had_set, is_frozen) =
            record.map_or((false, false), |of| (of.value.is_some(), of.is_frozen));
        match (had_set, up.contains(node)) {
            (true, false) => cx.say(Fact::NodeDown { node: node.clone() }),
            (false, true) if !is_frozen => cx.say(Fact::NodeUp { node: node.clone() }),
            (true, true) | (false, _) => {}
        }
        let set = sets.remove(node);
        let is_done = known.contains(node) && up.contains(node) && set.is_none();
        if !is_done {
            cx.graph.set_supervision(node, set);
        }
    }
}
