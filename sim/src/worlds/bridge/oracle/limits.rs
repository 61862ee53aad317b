//! The rule that a hax stays within its configured limits.

use hax_core::bridge::View;
use hax_core::node;
use hax_core::wire;

use super::broken;
use crate::engine::Violation;

pub(super) fn check_view(config: &node::Config, view: View) -> Result<(), Violation> {
    let node::Config { bridge, wire } = config;
    let View { links, entries, questions, lanes, .. } = view;
    // An unacknowledged message is a request or an item of a lane. The other items are found by the bridge
    // itself, for no more processes than there are.
    let unacked = wire.unacked_max.saturating_mul(wire.links_max);
    let within = links <= wire.links_max
        && entries <= bridge.limit.entries
        && questions <= unacked
        && lanes <= unacked.saturating_add(1024);
    if within { Ok(()) } else { broken("a bridge keeps to its limits", format!("{view:?}")) }
}

pub(crate) fn check_wire_view(limit: &wire::Config, view: &wire::View) -> Result<(), Violation> {
    let link_is_within = |link: &wire::endpoint::LinkView| {
        link.queued <= limit.queue_max && link.unacked <= limit.unacked_max
    };
    let within = view.links.len() <= limit.links_max
        && view.links.iter().all(link_is_within)
        && view.conns <= 2 * limit.conns_max
        && view.rpc_conns <= limit.rpc_conns_max
        && view.entries <= limit.entries_max;
    if within { Ok(()) } else { broken("the wire keeps to its limits", format!("{view:?}")) }
}
