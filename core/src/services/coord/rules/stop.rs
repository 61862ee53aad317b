//! The rule of a stop.
//!
//! - Without a node it is about all instances, and nodes that come up later start none.
//! - The instances that need this one are stopped first. The stop waits until they are down.
//! - A stop ends all restarts and delays.

use alloc::format;

use super::{RuleCx, SLACK, by};
use crate::base::mutant::{Mutant, mutant};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::form;
use crate::services::model::parameters::Given;
use crate::services::model::record::{Ask, Goal, Phase, State, Want, Wanted};

pub(super) fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    let kind = &ask.kind;
    let placements = match &ask.node {
        Some(node) => [Placement { node: node.clone(), kind: kind.clone() }].into(),
        None => {
            let goal = cx.graph.goals.get(kind).and_then(|record| record.value.clone());
            if let Some(goal) = goal {
                cx.graph.set_goal(kind, Goal { v: form(), run: false, ..goal });
            }
            cx.graph.placements_of(kind)
        }
    };
    let why = format!("stopped by {}", by(ask));
    for placement in placements {
        end(cx, &placement, &why);
    }
}

/// Begins the stop of an instance and of all that need it.
pub(super) fn end(cx: &mut RuleCx<'_>, placement: &Placement, why: &str) {
    find_lost(cx, placement);
    let Some(row) = cx.graph.rows.get(placement) else { return };
    let Some(wanted) = &row.wanted.value else { return end_waiting(cx, placement, why) };
    let is_stopped = wanted.want == Want::Stopped;
    let within = wanted.launch.stop_within() + SLACK;
    let is_down = row.is_down() && row.observed.state == State::Absent;
    if let Some(given) = cx.waiting(placement) {
        drop_waiting(cx, placement, given);
    }
    if is_stopped && (is_down || cx.phase(placement) == Some(Phase::Stopping)) {
        return;
    }
    let mut dependents = cx.graph.dependents(placement);
    dependents.retain(|_| !mutant(Mutant::DependentsForgotten));
    for dependent in &dependents {
        end(cx, dependent, &format!("{} is to stop, which it needs", placement.kind));
    }
    let mut rows = dependents.iter().filter_map(|dependent| cx.graph.rows.get(dependent));
    if rows.any(|row| !row.is_down()) {
        if cx.phase(placement) != Some(Phase::Dependents) {
            let job = cx.job(Phase::Dependents, None);
            cx.set_job(placement, Some(job));
        }
        return;
    }
    let (kind, node) = (placement.kind.clone(), placement.node.clone());
    cx.say(Fact::Ends { kind, node, why: why.into() });
    cx.unwant(placement, Want::Stopped, why);
    let job = cx.job(Phase::Stopping, Some(within));
    cx.set_job(placement, Some(job).filter(|_| !is_down));
}

/// Wants an instance that lives although nothing is wanted of it: a restored snapshot has forgotten that.
pub(super) fn find_lost(cx: &mut RuleCx<'_>, placement: &Placement) {
    let Some(row) = cx.graph.rows.get(placement) else { return };
    let is_lost = row.wanted.value.is_none() && !row.wanted.is_frozen && !row.is_down();
    let (serial, given) = (row.observed.serial, Given::new());
    if !is_lost {
        return;
    }
    match cx.resolve(placement, &given) {
        Ok(launch) => {
            let (v, want, at) = (form(), Want::Running, cx.at());
            let wanted = Wanted { v, want, serial, launch, given, why: "it lives".into(), at };
            cx.graph.set_wanted(placement, wanted);
        }
        Err(why) => cx.cannot(placement, &why),
    }
}

/// Drops a start that still waits for something. Its parameters are those of the next restart all the same.
fn drop_waiting(cx: &mut RuleCx<'_>, placement: &Placement, given: Given) {
    cx.set_job(placement, None);
    let wanted = cx.graph.row(placement).wanted.value.clone();
    if let (Some(wanted), Ok(launch)) = (wanted, cx.resolve(placement, &given)) {
        cx.graph.set_wanted(placement, Wanted { launch, given, ..wanted });
    }
}

/// Ends a start that still waits for something. It counts as stopped from then on, so it is not started with
/// its type once its node comes up.
fn end_waiting(cx: &mut RuleCx<'_>, placement: &Placement, why: &str) {
    let Some(job) = cx.graph.row(placement).job.value.clone() else { return };
    cx.set_job(placement, None);
    if let Ok(launch) = cx.resolve(placement, &job.given) {
        let (v, want, serial, at) = (form(), Want::Stopped, 0, cx.at());
        let given = job.given;
        let wanted = Wanted { v, want, serial, launch, given, why: why.into(), at };
        cx.graph.set_wanted(placement, wanted);
    }
}

/// Continues the stops on a node that wait for this instance to be down.
pub(super) fn on_dependent_down(cx: &mut RuleCx<'_>, down: &Placement) {
    let needs = cx.graph.types.get(&down.kind).map_or_else(Default::default, |of| of.needs.clone());
    for kind in needs {
        let placement = Placement { node: down.node.clone(), kind };
        if cx.phase(&placement) == Some(Phase::Dependents) {
            end(cx, &placement, &format!("{} is down, which needs it", down.kind));
        }
    }
}
