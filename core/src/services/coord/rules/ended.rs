//! The rule of an instance that has failed or ended by itself: the policy of restarts.
//!
//! - A wanted stop is done.
//! - With the policy `never` nothing is restarted, with `on-failure` no end with exit code 0.
//! - With any policy an end that the instance has announced is followed by nothing.
//! - A reboot of the node is no failure of the instance: it is started at once.
//! - A new configuration that has failed too often is replaced by the last one.
//! - A life shorter than `stable` counts. The first restart of an instance that had been running is immediate,
//!   the next ones wait 1, 2, 4 … 30 s. Too many short lives are given up, for a while.
//! - A wrong configuration or installation is given up at once. What could not be stopped is not started.

use alloc::format;
use alloc::string::String;

use super::{RuleCx, StartOf};
use crate::base::mutant::{Mutant, mutant};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::class::Class;
use crate::services::model::policy::{History, Policy, Response, Restart};
use crate::services::model::record::{Job, Observed, Phase, Trying, Want, Wanted};

pub(super) fn on_ended(cx: &mut RuleCx<'_>, placement: &Placement) {
    let row = cx.graph.row(placement);
    let Some(wanted) = row.wanted.value.clone() else { return };
    let (observed, is_down, phase) = (row.observed.clone(), row.is_down(), cx.phase(placement));
    match wanted.want {
        Want::Stopped if is_down && phase == Some(Phase::Stopping) => cx.set_job(placement, None),
        Want::Stopped | Want::Resting => {}
        // Whatever the policy is, and also if its next start was put off.
        Want::Running if is_down && observed.is_announced() => {
            let text = observed.reason.as_ref().map_or("", |reason| &reason.text);
            rest(cx, placement, text);
        }
        // This end is worked already: its delay is running, or the next start or stop waits.
        Want::Running if matches!(phase, Some(Phase::Delay | Phase::Dependents | Phase::Needs)) => {
        }
        Want::Running => on_unwanted_end(cx, placement, wanted, &observed),
    }
}

/// Returns whether an instance that rests may go on resting after its last end.
pub(super) fn may_rest(cx: &mut RuleCx<'_>, placement: &Placement) -> bool {
    let policy = cx.graph.types.get(&placement.kind).map(|of| of.restart.policy);
    let class = cx.graph.row(placement).observed.reason.as_ref().map(|reason| reason.class);
    let is_final = matches!(class, Some(Class::NotStopped | Class::Announced));
    is_final || rests(policy.unwrap_or_default(), class)
}

/// Returns whether nothing follows an end of this class.
fn rests(policy: Policy, class: Option<Class>) -> bool {
    match policy {
        Policy::Never => true,
        Policy::OnFailure => class == Some(Class::Clean),
        Policy::Always => false,
    }
}

fn on_unwanted_end(
    cx: &mut RuleCx<'_>,
    placement: &Placement,
    wanted: Wanted,
    observed: &Observed,
) {
    let Some(rules) = cx.graph.types.get(&placement.kind).map(|of| of.restart) else {
        // Once the type can be read again, all instances are looked at.
        return cx.cannot(placement, "it has ended, and its type cannot be read");
    };
    let class = observed.reason.as_ref().map(|reason| reason.class);
    let text = observed.reason.as_ref().map_or("it has ended", |reason| &reason.text);
    let job = cx.graph.row(placement).job.value.clone();
    let (mut history, trying) = job.map_or_else(Default::default, |job| (job.history, job.trying));
    if rules.policy == Policy::Never {
        return rest(cx, placement, &format!("{text}; the policy is never"));
    }
    if class == Some(Class::NotStopped) || rests(rules.policy, class) {
        return rest(cx, placement, text);
    }
    if class == Some(Class::Config) && trying.is_none() {
        return give_up(cx, placement, &rules, text);
    }
    if class == Some(Class::Reboot) {
        return again(cx, placement, wanted, (history, trying), text);
    }
    if let Some(trying) = trying {
        return on_try_failed(cx, placement, wanted, (history, trying, rules), text);
    }
    let lived = observed.lived_ms;
    if lived.is_some_and(|lived| lived >= rules.stable.millis()) {
        history.clear();
        return again(cx, placement, wanted, (history, None), text);
    }
    respond(cx, placement, wanted, (history, None), (&rules, lived.is_some(), text));
}

/// A new configuration has failed.
fn on_try_failed(
    cx: &mut RuleCx<'_>,
    placement: &Placement,
    wanted: Wanted,
    (history, trying, rules): (History, Trying, Restart),
    text: &str,
) {
    let failures = trying.failures + 1;
    if failures < rules.attempts {
        let trying = Some(Trying { failures, ..trying });
        return respond(cx, placement, wanted, (history, trying), (&rules, true, text));
    }
    let why = format!("{} failed {failures} times: {text}", wanted.launch.revision);
    let (kind, node) = (placement.kind.clone(), placement.node.clone());
    cx.say(Fact::Returned { kind, node, why: why.as_str().into() });
    let wanted = Wanted { launch: trying.last, ..wanted };
    again(cx, placement, wanted, (History::default(), None), &why);
}

/// Counts a short life and responds to it.
fn respond(
    cx: &mut RuleCx<'_>,
    placement: &Placement,
    wanted: Wanted,
    (mut history, trying): (History, Option<Trying>),
    (rules, had_run, text): (&Restart, bool, &str),
) {
    let (kind, node) = (placement.kind.clone(), placement.node.clone());
    match history.on_short_life(cx.now.mono, rules, had_run) {
        Response::Again(delay) if delay.is_zero() || mutant(Mutant::NoDelay) => {
            again(cx, placement, wanted, (history, trying), text)
        }
        Response::Again(delay) => {
            let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            cx.say(Fact::Delays { kind, node, ms });
            let job = Job { history, trying, ..cx.job(Phase::Delay, Some(delay)) };
            cx.set_job(placement, Some(job));
        }
        Response::GiveUp if mutant(Mutant::NeverGivesUp) => {
            again(cx, placement, wanted, (history, trying), text)
        }
        Response::GiveUp => {
            let limit = String::from(rules.give_up);
            let why = format!("{limit} lives were too short; the last one: {text}");
            give_up(cx, placement, rules, &why);
        }
    }
}

fn give_up(cx: &mut RuleCx<'_>, placement: &Placement, rules: &Restart, why: &str) {
    let (kind, node) = (placement.kind.clone(), placement.node.clone());
    cx.say(Fact::GaveUp { kind, node, why: why.into() });
    cx.unwant(placement, Want::Resting, why);
    let job = cx.job(Phase::GivenUp, Some(rules.try_again.0));
    cx.set_job(placement, Some(job));
}

fn again(
    cx: &mut RuleCx<'_>,
    placement: &Placement,
    wanted: Wanted,
    (history, trying): (History, Option<Trying>),
    text: &str,
) {
    let Wanted { launch, given, .. } = wanted;
    cx.start(placement, StartOf { launch, given, history, trying, why: text.into() });
}

fn rest(cx: &mut RuleCx<'_>, placement: &Placement, why: &str) {
    cx.unwant(placement, Want::Resting, why);
    cx.set_job(placement, None);
}
