//! The rule of a start.
//!
//! - Without a node it is about all nodes of the type's place, and about nodes that come up later.
//! - Requests are about known nodes. One that is not known any more has lost its records to somebody else: what
//!   is wanted of it is written, and waits for it.
//! - An instance that runs, or is about to, is left alone. Another configuration is tried on it.
//! - The types that it needs are started first. The start waits until they run.
//! - A start forgets short lives and ends all delays. A stop that still waits for others is taken back, also of
//!   what it needs.

use alloc::format;
use alloc::vec::Vec;

use super::{RuleCx, StartOf, by, ended};
use crate::base::mutant::{Mutant, mutant};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::form;
use crate::services::model::parameters::Given;
use crate::services::model::policy::History;
use crate::services::model::record::{Ask, Goal, Job, Phase, State, Want};

pub(super) fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    let kind = &ask.kind;
    if !cx.graph.types.contains_key(kind) {
        let why = "the type is not defined".into();
        return cx.say(Fact::CannotDo { kind: kind.clone(), why });
    }
    let placements = match &ask.node {
        None => {
            let given = ask.given.clone();
            cx.graph.set_goal(kind, Goal { v: form(), run: true, given });
            cx.graph.places(kind)
        }
        Some(node) => {
            let placement = Placement { node: node.clone(), kind: kind.clone() };
            if cx.graph.is_no_place(node, kind) {
                return cx.cannot(&placement, "the node is not in the type's place");
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
    take_stops_back(cx, placement);
    if is_under_way(cx, placement) {
        return cx.try_launch(placement, launch, given);
    }
    let missing = missing_needs(cx, placement);
    // A later start replaces what an earlier one has given.
    if !missing.is_empty() && cx.waiting(placement).as_ref() != Some(given) {
        let job = Job { given: given.clone(), ..cx.job(Phase::Needs, None) };
        cx.set_job(placement, Some(job));
    }
    for need in &missing {
        // The waiting job is set before, so two types that need each other do not go round in a circle.
        if cx.phase(need) != Some(Phase::Needs) {
            begin_need(cx, need, placement);
        }
    }
    if missing.is_empty() && is_lost(cx, placement, &launch.revision) {
        return cx.take_on(placement, launch, given, why);
    }
    if missing.is_empty() {
        let (given, history, trying) = (given.clone(), History::default(), None);
        cx.start(placement, StartOf { launch, given, history, trying, why: why.into() });
    }
}

/// Takes back the stops of an instance and of all that it needs, if they still wait for others to be down.
pub(super) fn take_stops_back(cx: &mut RuleCx<'_>, placement: &Placement) {
    if cx.phase(placement) == Some(Phase::Dependents) {
        cx.set_job(placement, None);
        // What has happened meanwhile was of no interest.
        if cx.graph.row(placement).is_down() {
            ended::on_ended(cx, placement);
        }
        let wanted = cx.graph.row(placement).wanted.value.clone();
        let given = wanted.filter(|wanted| wanted.want == Want::Running).map(|of| of.given);
        if let Some(given) = given
            && let Ok(launch) = cx.resolve(placement, &given)
        {
            cx.try_launch(placement, launch, &given);
        }
    }
    for need in needs(cx, placement) {
        if cx.phase(&need) == Some(Phase::Dependents) {
            take_stops_back(cx, &need);
        }
    }
}

/// Continues the starts on a node that wait for this type. What else they need has begun with them, and may have
/// come to rest since; a delay of it stays one.
pub(super) fn on_need_met(cx: &mut RuleCx<'_>, met: &Placement) {
    for placement in cx.graph.dependents(met) {
        let Some(given) = cx.waiting(&placement) else { continue };
        let missing = missing_needs(cx, &placement);
        if missing.is_empty() {
            begin(cx, &placement, &given, &format!("{} runs", met.kind));
        }
        for need in missing {
            let row = cx.graph.row(&need);
            if !row.is_wanted() && row.job.value.is_none() {
                begin_need(cx, &need, &placement);
            }
        }
    }
}

/// Begins the start of what a type needs. It keeps the parameters that it has, or had.
fn begin_need(cx: &mut RuleCx<'_>, need: &Placement, of: &Placement) {
    let wanted = cx.graph.rows.get(need).and_then(|row| row.wanted.value.as_ref());
    let goal = || {
        let goal = cx.graph.goals.get(&need.kind)?.value.as_ref();
        goal.filter(|goal| goal.run).map(|goal| goal.given.clone())
    };
    let given = wanted.map(|wanted| wanted.given.clone()).or_else(goal).unwrap_or_default();
    begin(cx, need, &given, &format!("{} needs it", of.kind));
}

/// Returns whether an instance runs or is about to, so that another start would change nothing.
fn is_under_way(cx: &RuleCx<'_>, placement: &Placement) -> bool {
    let Some(row) = cx.graph.rows.get(placement).filter(|row| row.is_wanted()) else {
        return false;
    };
    let is_pending = row.observed.serial < row.serial();
    if !is_pending && row.observed.is_announced() {
        // It is about to end, and is started again then.
        return false;
    }
    is_pending || !matches!(row.observed.state, State::Absent | State::Failed)
}

/// Returns whether an instance runs with this configuration, and nothing is wanted of it: a restored snapshot has
/// forgotten that.
fn is_lost(cx: &RuleCx<'_>, placement: &Placement, revision: &str) -> bool {
    cx.graph.rows.get(placement).is_some_and(|row| {
        let is_unwanted = row.wanted.value.is_none() && !row.wanted.is_frozen;
        let is_it = row.observed.revision.as_deref() == Some(revision);
        is_unwanted && is_it && row.observed.state == State::Running && row.observed.serial > 0
    })
}

/// Returns the instances that this one needs.
fn needs(cx: &RuleCx<'_>, placement: &Placement) -> Vec<Placement> {
    let Some(of) = cx.graph.types.get(&placement.kind) else { return Vec::new() };
    let node = &placement.node;
    of.needs.iter().map(|kind| Placement { node: node.clone(), kind: kind.clone() }).collect()
}

/// Returns the instances that this one needs and that do not run.
fn missing_needs(cx: &RuleCx<'_>, placement: &Placement) -> Vec<Placement> {
    let is_missing = |need: &Placement| !cx.graph.rows.get(need).is_some_and(|row| row.runs());
    let mut needs = needs(cx, placement);
    needs.retain(|need| !mutant(Mutant::NeedsForgotten) && is_missing(need));
    needs
}
