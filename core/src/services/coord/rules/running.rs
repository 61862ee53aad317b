//! The rule of an instance that runs.
//!
//! - A started instance settles: its life has to be stable before its short lives are forgotten, and before a
//!   new configuration is current.
//! - The starts that wait for it continue.

use super::{RuleCx, start};
use crate::services::coord::graph::Placement;
use crate::services::model::record::{Job, Phase};

pub(super) fn on_running(cx: &mut RuleCx<'_>, placement: &Placement) {
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
