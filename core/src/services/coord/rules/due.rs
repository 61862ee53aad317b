//! The rule of deadlines.
//!
//! - A delay is over: the instance is started. One that was given up is started with no past.
//! - A settling instance has proved itself, and so has its configuration.
//! - A node that has not reported in time is told of. Its report is waited for all the same.

use super::{RuleCx, SLACK, StartOf};
use crate::services::coord::fact::Fact;
use crate::services::coord::graph::Placement;
use crate::services::model::policy::History;
use crate::services::model::record::{Job, Phase, Wanted};

pub(in crate::services::coord) fn on_due(cx: &mut RuleCx<'_>, placement: &Placement) {
    let row = cx.graph.row(placement);
    let (Some(job), Some(wanted)) = (row.job.value.clone(), row.wanted.value.clone()) else {
        return;
    };
    match job.phase {
        Phase::Delay => {
            let Job { history, trying, .. } = job;
            let Wanted { launch, given, .. } = wanted;
            let why = "the delay of its restart is over".into();
            cx.start(placement, StartOf { launch, given, history, trying, why });
        }
        Phase::GivenUp => {
            let Wanted { launch, given, .. } = wanted;
            let (history, trying) = (History::default(), None);
            let why = "it is tried again".into();
            cx.start(placement, StartOf { launch, given, history, trying, why });
        }
        Phase::Settling => {
            if job.trying.is_some() {
                let (kind, node) = (placement.kind.clone(), placement.node.clone());
                cx.say(Fact::Current { kind, node, revision: wanted.launch.revision });
            }
            cx.set_job(placement, None);
        }
        Phase::Starting | Phase::Stopping if !cx.is_up(&placement.node) => {
            // The node reports when it is back.
            let at = cx.now.mono.after(SLACK);
            cx.graph.set_due(placement, Some(at));
        }
        Phase::Starting => {
            overdue(cx, placement, "has not started in time, and the node does not say why")
        }
        Phase::Stopping => overdue(cx, placement, "has not stopped in time"),
        Phase::Needs | Phase::Dependents => {}
    }
}

fn overdue(cx: &mut RuleCx<'_>, placement: &Placement, what: &'static str) {
    let (kind, node) = (placement.kind.clone(), placement.node.clone());
    cx.say(Fact::Overdue { kind, node, what });
}
