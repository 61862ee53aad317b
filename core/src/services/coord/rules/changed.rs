//! The rule of an instance's change: which rule it is about.
//!
//! A change of an earlier start says nothing of the last wanted one, which the node carries out next.

use alloc::vec::Vec;

use super::{RuleCx, ended, running, stop};
use crate::services::coord::graph::Placement;
use crate::services::model::record::{Observed, State};

pub(super) fn on_changed(cx: &mut RuleCx<'_>, placement: &Placement, observed: &Observed) {
    cx.graph.row(placement).observed = observed.clone();
    settle(cx, placement);
}

/// Works the last observation of an instance. This may be done any number of times.
fn settle(cx: &mut RuleCx<'_>, placement: &Placement) {
    let Some(row) = cx.graph.rows.get(placement) else { return };
    let is_last = row.observed.serial >= row.serial();
    let is_down = row.is_down();
    if is_last && row.wanted.value.is_some() {
        match row.observed.state {
            State::Running | State::Degraded => running::on_running(cx, placement),
            State::Failed | State::Absent => ended::on_ended(cx, placement),
            State::Starting | State::Stopping => {}
        }
    }
    if is_down {
        stop::on_dependent_down(cx, placement);
    }
}

/// Works all observations, for a coordinator that has just read them. An event may have been lost with a
/// restored snapshot.
pub(in crate::services::coord) fn look_over(cx: &mut RuleCx<'_>, skip: &[Placement]) {
    let placements: Vec<Placement> =
        cx.graph.rows.keys().filter(|placement| !skip.contains(placement)).cloned().collect();
    for placement in placements {
        settle(cx, &placement);
    }
}
