//! The table of links, by our ids and by the library's handles.

use std::collections::BTreeMap;

use hax_core::base::fid::Fid;
use hax_core::base::id::{EntryId, LinkId, MsgId, SendId};
use motr_sys::abi;

use super::work::Handle;

/// One link, from `link_connected` to `link_disconnected`.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) handle: Handle<abi::m0_ha_link>,
    pub(super) process: Fid,
    /// The request with the reply that made the link.
    pub(super) entry: EntryId,
    /// The process had a link to an earlier run of hax.
    pub(super) reconnected: bool,
    /// The bridge knows the link. It does not know those whose process has no successful reply yet.
    pub(super) announced: bool,
    /// This life of the process has ended, as far as is known: the bridge has been told that the link is
    /// down.
    pub(super) down: bool,
    /// The message with which the process reported its stop. Once it is acknowledged, there is no process at
    /// the other end.
    pub(super) farewell: Option<MsgId>,
    /// The library has been told so too.
    pub(super) failed: bool,
    /// The link was given back to the library: no call may use it.
    pub(super) given_up: bool,
    /// The received messages that are not acknowledged.
    pub(super) received: BTreeMap<MsgId, Handle<abi::m0_ha_msg>>,
    /// The sent messages without a result, by the library's tag.
    pub(super) sent: BTreeMap<u64, Sent>,
}

/// The origin of a sent message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// A message of the bridge.
    Bridge(SendId),
    /// Our message to ourselves that a process has failed.
    Failed(Fid),
}

/// All links. The address in a handle is reused for another link after its link has ended.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    by_handle: BTreeMap<usize, LinkId>,
    next: LinkId,
}

impl Links {
    pub(super) fn insert(&mut self, link: Link) -> LinkId {
        let id = self.next.mint();
        let before = self.by_handle.insert(link.handle.0.addr(), id);
        assert!(before.is_none(), "Motr's library uses a link's address twice");
        self.links.insert(id, link);
        id
    }

    pub(super) fn find(&mut self, handle: Handle<abi::m0_ha_link>) -> Option<(LinkId, &mut Link)> {
        let id = *self.by_handle.get(&handle.0.addr())?;
        self.links.get_mut(&id).map(|link| (id, link))
    }

    pub(super) fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(super) fn remove(&mut self, handle: Handle<abi::m0_ha_link>) -> Option<(LinkId, Link)> {
        let id = self.by_handle.remove(&handle.0.addr())?;
        self.links.remove(&id).map(|link| (id, link))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Returns the number of unacknowledged messages.
    pub(super) fn unacknowledged(&self) -> usize {
        self.links.values().map(|link| link.received.len()).sum()
    }
}
