//! The rule of a restart.
//!
//! - A running instance is stopped and started with the configuration that it has.
//! - One that is not wanted to run is started.
//! - A stop that still waits for others is taken back.
//! - One that lives, and of which nothing is wanted since a snapshot of Consul was restored, is restarted too.
//! - A request counts for the serial numbers that it names. So it restarts an instance once, even if it is
//!   worked twice, or if the instance has failed and was started again meanwhile.

use alloc::format;

use super::{RuleCx, StartOf, by, start, stop};
use crate::services::coord::graph::{Placement, Row};
use crate::services::model::policy::History;
use crate::services::model::record::Ask;

pub(super) fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    let placements = match &ask.node {
        Some(node) => [Placement { node: node.clone(), kind: ask.kind.clone() }].into(),
        None => cx.graph.placements_of(&ask.kind),
    };
    let why = format!("restarted by {}", by(ask));
    for placement in placements {
        start::take_stops_back(cx, &placement);
        let serial = cx.graph.rows.get(&placement).map_or(0, Row::serial);
        stop::find_lost(cx, &placement);
        let Some(row) = cx.graph.rows.get(&placement) else { continue };
        let Some(wanted) = row.wanted.value.clone() else { continue };
        let is_wanted = row.is_wanted();
        if let Some(given) = cx.waiting(&placement) {
            start::begin(cx, &placement, &given, &why);
        } else if !is_wanted {
            start::begin(cx, &placement, &wanted.given, &why);
        } else if ask.serials.get(placement.node.as_str()).is_none_or(|named| *named == serial) {
            let trying = row.job.value.as_ref().and_then(|job| job.trying.clone());
            let (launch, given, history) = (wanted.launch, wanted.given, History::default());
            cx.start(&placement, StartOf { launch, given, history, trying, why: why.clone() });
        }
    }
}
