//! The rule of a start.
//!
//! - Without a node it is about all nodes of the type's place, and about nodes that come up later.
//! - An instance that runs, or is about to, is left alone. Another configuration is tried on it.
//! - The types that it needs are started first. The start waits until they run.
//! - A start forgets short lives and ends all delays.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::{RuleCx, StartOf, by};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::form;
use crate::services::model::name::TypeName;
use crate::services::model::parameters::Given;
use crate::services::model::policy::History;
use crate::services::model::record::{Ask, Goal, Job, Phase, State};

pub(super) fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    let kind = &ask.kind;
    if !cx.graph.types.contains_key(kind) {
        let why = "the type is not defined".into();
        return cx.say(Fact::CannotDo { kind: kind.clone(), why });
    }
    let places = cx.graph.places(kind);
    let placements = match &ask.node {
        None => {
            let given = ask.given.clone();
            cx.graph.set_goal(kind, Goal { v: form(), run: true, given });
            places
        }
        Some(node) => {
            let placement = Placement { node: node.clone(), kind: kind.clone() };
            if !places.contains(&placement) {
                return cx.cannot(&placement, "the node is not known, or not in the type's place");
            }
            [placement].into()
        }
    };
    let why = format!("started by {}", by(ask));
    for placement in placements {
        begin(cx, &placement, &ask.given, &why);
    }
}

/// Begins the start of an instance and of all that it needs.
pub(super) fn begin(cx: &mut RuleCx<'_>, placement: &Placement, given: &Given, why: &str) {
    let launch = match cx.resolve(placement, given) {
        Ok(launch) => launch,
        Err(why) => return cx.cannot(placement, &why),
    };
    if is_under_way(cx, placement) {
        return cx.try_launch(placement, launch, given);
    }
    let missing = missing_needs(cx, placement);
    let is_waiting = cx.phase(placement) == Some(Phase::Needs);
    if !missing.is_empty() && !is_waiting {
        let job = Job { given: given.clone(), ..cx.job(Phase::Needs, None) };
        cx.set_job(placement, Some(job));
    }
    for need in &missing {
        // The waiting job is set before, so two types that need each other do not go round in a circle.
        if cx.phase(need) != Some(Phase::Needs) {
            begin(cx, need, &Given::new(), &format!("{} needs it", placement.kind));
        }
    }
    if missing.is_empty() {
        let (given, history, trying) = (given.clone(), History::default(), None);
        cx.start(placement, StartOf { launch, given, history, trying, why: why.into() });
    }
}

/// Continues the starts on a node that wait for this type.
pub(super) fn on_need_met(cx: &mut RuleCx<'_>, met: &Placement) {
    for placement in cx.graph.dependents(met) {
        if cx.phase(&placement) == Some(Phase::Needs) {
            let job = cx.graph.row(&placement).job.value.clone();
            let given = job.map(|job| job.given).unwrap_or_default();
            begin(cx, &placement, &given, &format!("{} runs", met.kind));
        }
    }
}

/// Returns whether an instance runs or is about to, so that another start would change nothing.
fn is_under_way(cx: &RuleCx<'_>, placement: &Placement) -> bool {
    let Some(row) = cx.graph.rows.get(placement).filter(|row| row.is_wanted()) else {
        return false;
    };
    let is_pending = row.observed.serial < row.serial();
    is_pending || !matches!(row.observed.state, State::Absent | State::Failed)
}

/// Returns the instances that this one needs and that do not run.
fn missing_needs(cx: &RuleCx<'_>, placement: &Placement) -> Vec<Placement> {
    let needs: Box<[TypeName]> =
        cx.graph.types.get(&placement.kind).map_or_else(Box::default, |of| of.needs.clone());
    let placements =
        needs.iter().map(|kind| Placement { node: placement.node.clone(), kind: kind.clone() });
    placements.filter(|need| !cx.graph.rows.get(need).is_some_and(|row| row.runs())).collect()
}
