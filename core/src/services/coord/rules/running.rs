//! The rule of an instance that runs.
//!
//! - A started instance settles: its life has to be stable before its short lives are forgotten, and before a
//!   new configuration is current.
//! - The starts that wait for it continue.
//! - One that runs with another configuration than the wanted one is from before a snapshot of Consul was
//!   restored: the serial numbers of the starts were given twice. It is started with the wanted one.

use super::{RuleCx, StartOf, start};
use crate::services::coord::graph::Placement;
use crate::services::model::policy::History;
use crate::services::model::record::{Job, Phase, Wanted};

pub(super) fn on_running(cx: &mut RuleCx<'_>, placement: &Placement) {
    if let Some(wanted) = other_configuration(cx, placement) {
        let Wanted { launch, given, .. } = wanted;
        let (history, trying) = (History::default(), None);
        let why = "it runs with another configuration, from before a snapshot was restored".into();
        return cx.start(placement, StartOf { launch, given, history, trying, why });
    }
    let job = cx.graph.row(placement).job.value.clone();
    match job {
        Some(job) if job.phase == Phase::Starting => {
            let is_new = job.history == Default::default() && job.trying.is_none();
            let stable = cx.graph.types.get(&placement.kind).map(|of| of.restart.stable.0);
            // Without a past there is nothing to wait for.
            let next = stable.filter(|_| !is_new).map(|stable| {
                let Job { history, trying, .. } = job;
                Job { history, trying, ..cx.job(Phase::Settling, Some(stable)) }
            });
            cx.set_job(placement, next);
        }
        Some(_) | None => {}
    }
    if cx.graph.row(placement).runs() {
        start::on_need_met(cx, placement);
    }
}

/// Returns what is wanted of an instance that runs with another configuration.
fn other_configuration(cx: &RuleCx<'_>, placement: &Placement) -> Option<Wanted> {
    if cx.phase(placement) == Some(Phase::Dependents) {
        // It is to stop anyway.
        return None;
    }
    let row = cx.graph.rows.get(placement).filter(|row| row.runs())?;
    let wanted = row.wanted.value.as_ref()?;
    let is_other = match &row.observed.revision {
        Some(revision) => *revision != wanted.launch.revision,
        None => row.observed.serial > wanted.serial,
    };
    is_other.then(|| wanted.clone())
}
