//! The rule of a stop.
//!
//! - Without a node it is about all instances, and nodes that come up later start none.
//! - The instances that need this one are stopped first. The stop waits until they are down.
//! - A stop ends all restarts and delays.

use alloc::format;

use super::{RuleCx, SLACK, by};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Spot;
use crate::services::model::form;
use crate::services::model::record::{Ask, Goal, Phase, State, Want};

pub(super) fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    let kind = &ask.kind;
    let spots = match &ask.node {
        Some(node) => [Spot { node: node.clone(), kind: kind.clone() }].into(),
        None => {
            let goal = cx.graph.goals.get(kind).and_then(|cell| cell.value.clone());
            if let Some(goal) = goal {
                cx.graph.set_goal(kind, Goal { v: form(), run: false, ..goal });
            }
            cx.graph.spots_of(kind)
        }
    };
    let why = format!("stopped by {}", by(ask));
    for spot in spots {
        end(cx, &spot, &why);
    }
}

/// Begins the stop of an instance and of all that need it.
pub(super) fn end(cx: &mut RuleCx<'_>, spot: &Spot, why: &str) {
    let Some(row) = cx.graph.rows.get(spot) else { return };
    let Some(wanted) = &row.wanted.value else {
        // Its start still waits for something.
        return cx.set_job(spot, None);
    };
    let is_stopped = wanted.want == Want::Stopped;
    let within = wanted.launch.stop_within() + SLACK;
    let is_down = row.is_down() && row.observed.state == State::Absent;
    if is_stopped && (is_down || cx.phase(spot) == Some(Phase::Stopping)) {
        return;
    }
    let dependents = cx.graph.dependents(spot);
    for dependent in &dependents {
        end(cx, dependent, &format!("{} is to stop, which it needs", spot.kind));
    }
    let mut rows = dependents.iter().filter_map(|dependent| cx.graph.rows.get(dependent));
    if rows.any(|row| !row.is_down()) {
        if cx.phase(spot) != Some(Phase::Dependents) {
            let job = cx.job(Phase::Dependents, None);
            cx.set_job(spot, Some(job));
        }
        return;
    }
    let (kind, node) = (spot.kind.clone(), spot.node.clone());
    cx.say(Fact::Ends { kind, node, why: why.into() });
    cx.unwant(spot, Want::Stopped, why);
    let job = cx.job(Phase::Stopping, Some(within));
    cx.set_job(spot, Some(job).filter(|_| !is_down));
}

/// Continues the stops on a node that wait for this instance to be down.
pub(super) fn on_dependent_down(cx: &mut RuleCx<'_>, down: &Spot) {
    let needs = cx.graph.types.get(&down.kind).map_or_else(Default::default, |of| of.needs.clone());
    for kind in needs {
        let spot = Spot { node: down.node.clone(), kind };
        if cx.phase(&spot) == Some(Phase::Dependents) {
            end(cx, &spot, &format!("{} is down, which needs it", down.kind));
        }
    }
}
