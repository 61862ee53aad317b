//! The events that follow from changes in Consul: of a group's lease, and of the other router.

use super::State;
use super::context::Cx;
use super::decide::{Event, Trigger, taking};
use super::node::Mode;
use super::{group, peer};
use crate::consul::port::Reply;

impl State {
    /// Handles the reply to a call of a group, or of the watch of the other router.
    pub(super) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        if let Some((group, change)) = self.groups.on_reply(cx, reply) {
            return self.on_group(cx, &group, change);
        }
        let change = self.peer.as_mut().and_then(|peer| peer.on_reply(cx, reply));
        self.on_peer(cx, change);
    }

    /// Handles a change of a group.
    pub(super) fn on_group(&mut self, cx: &mut Cx<'_>, group: &str, change: group::Change) {
        let trigger = match change {
            group::Change::Gained => Trigger::Lease,
            group::Change::ReadBack => Trigger::Sweep,
            group::Change::Gone => {
                self.events.end_group(cx, group);
                return self.events.unpark();
            }
            group::Change::Seen => return self.events.unpark(),
        };
        self.events.unpark();
        for (index, node) in
            self.nodes.held().iter().filter(|(_, node)| node.group() == Some(group))
        {
            self.events.occur(cx, index, taking(node.mode()), trigger);
        }
    }

    pub(super) fn on_peer(&mut self, cx: &mut Cx<'_>, change: Option<peer::Change>) {
        let Some(change) = change else { return };
        for (index, node) in self.nodes.held().iter() {
            let event = match (change, node.mode()) {
                (peer::Change::Failed, _) => Event::PeerFail,
                // Nodes with a group are taken back by the lease instead.
                (peer::Change::Returned, Mode::Primary) if node.group().is_none() => Event::Revert,
                (peer::Change::Returned, _) => continue,
            };
            self.events.occur(cx, index, event, Trigger::Peer);
        }
    }
}
