//! The rule of a new configuration: a type was defined anew, or has other stored parameters.
//!
//! - A running instance is started with it: it is *tried*. Once it has been running for `stable` it is current.
//!   If it fails `attempts` times, the last one returns, with one alert.
//! - An instance that was given up is started again.
//! - Nodes that have come into the type's place get their instance, those that have left it lose it.

use alloc::format;

use super::{RuleCx, node, start, stop};
use crate::services::model::kind::TypeRecord;
use crate::services::model::parameters::Given;
use crate::services::model::record::Phase;

pub(super) fn on_defined(cx: &mut RuleCx<'_>, record: &TypeRecord, stored: &Given) {
    let kind = &record.name;
    cx.graph.types.insert(kind.clone(), record.clone());
    cx.graph.stored.insert(kind.clone(), stored.clone());
    let places = cx.graph.places(kind);
    for placement in cx.graph.placements_of(kind) {
        if !places.contains(&placement) && cx.graph.nodes.contains_key(&placement.node) {
            stop::end(cx, &placement, "the node is no more in the type's place");
            continue;
        }
        let row = cx.graph.row(&placement);
        let given = row.wanted.value.as_ref().map(|wanted| wanted.given.clone());
        let (Some(given), is_wanted) = (given, row.is_wanted()) else { continue };
        if cx.phase(&placement) == Some(Phase::GivenUp) {
            start::begin(cx, &placement, &given, "the type was changed");
        } else if is_wanted {
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
