//! Monitors whether our own node is in Consul's catalog.
//!
//! Consul's servers remove a node that they could not reach for a while (autopilot, or 72 hours). When the
//! node is back, its agent registers its services only with its next anti-entropy sync, up to a minute later.
//! Until then no check of the node's processes is visible, and only their links show that they live.

use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::cluster::Cluster;
use crate::ha::fact::Fact;

#[derive(Debug, Default)]
pub(crate) struct OwnNode {
    missing_since: Option<Instant>,
    missing: bool,
}

impl OwnNode {
    /// Returns whether the node has been missing for longer than an agent's restart takes.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Checks the catalog again after a possible change of health.
    pub(crate) fn check(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) {
        if cluster.health().knows(&cx.config().node) {
            self.missing_since = None;
            if core::mem::take(&mut self.missing) {
                cx.fact(Fact::NodeBack {});
            }
            return;
        }
        let since = *self.missing_since.get_or_insert_with(|| cx.now().mono);
        let until = since.after(cx.config().time.silence);
        if cx.now().mono < until {
            cx.arm_no_later(Timer::Liveness, until);
        } else if !core::mem::replace(&mut self.missing, true) {
            cx.fact(Fact::NodeMissing { node: cx.config().node.clone() });
        }
    }
}
