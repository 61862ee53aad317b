//! The rule of a new configuration: a type was defined anew, or has other stored parameters.
//!
//! - A running instance is started with it: it is *tried*. Once it has been running for `stable` it is current.
//!   If it fails `attempts` times, the last one returns, with one alert.
//! - An instance that was given up is started again. Another one that rests is started if the new policy
//!   demands it.
//! - A start that waits for what it needs waits for what it needs now. A stop that waits for others stays one.
//! - Nodes that have come into the type's place get their instance, those that have left it lose it.

use alloc::format;

use super::{RuleCx, ended, node, start, stop};
use crate::base::mutant::{Mutant, mutant};
use crate::services::model::kind::TypeRecord;
use crate::services::model::parameters::Given;
use crate::services::model::record::{Phase, Want};

pub(super) fn on_defined(cx: &mut RuleCx<'_>, record: &TypeRecord, stored: &Given) {
    let kind = &record.name;
    cx.graph.types.insert(kind.clone(), record.clone());
    cx.graph.stored.insert(kind.clone(), Some(stored.clone()));
    let places = cx.graph.places(kind);
    for placement in cx.graph.placements_of(kind) {
        if cx.has_no_place(&placement) {
            stop::end(cx, &placement, "the node is no more in the type's place");
            continue;
        }
        if let Some(given) = cx.waiting(&placement) {
            // It may need other types now.
            start::begin(cx, &placement, &given, "the type was changed");
            continue;
        }
        let row = cx.graph.row(&placement);
        if row.is_wanted() && row.is_down() && row.job.value.is_none() {
            // Its end could not be worked without the type.
            ended::on_ended(cx, &placement);
        }
        let Some(wanted) = cx.graph.row(&placement).wanted.value.clone() else { continue };
        let given = wanted.given;
        let is_resting = wanted.want == Want::Resting;
        let phase = cx.phase(&placement);
        if phase == Some(Phase::GivenUp) || is_resting && !ended::may_rest(cx, &placement) {
            start::begin(cx, &placement, &given, "the type was changed");
        } else if wanted.want == Want::Running
            && phase != Some(Phase::Dependents)
            && !mutant(Mutant::DefinitionIgnored)
        {
            match cx.resolve(&placement, &given) {
                Ok(launch) => cx.try_launch(&placement, launch, &given),
                Err(why) => cx.cannot(&placement, &format!("it keeps its configuration: {why}")),
            }
        }
    }
    for placement in places {
        node::fill(cx, &placement);
    }
}
