//! The links that there are, by our names and by the library's.

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
    /// The request whose reply made it.
    pub(super) entry: EntryId,
    /// The process had a link to an earlier life of ours.
    pub(super) reconnected: bool,
    /// The bridge knows of it; our own and those whose process has no answer yet, it does not.
    pub(super) announced: bool,
    /// The process of this life is no more, as far as is known: the bridge has been told that it is down.
    pub(super) down: bool,
    /// What the process said of its end: once that is acknowledged, there is nobody at the other end.
    pub(super) farewell: Option<MsgId>,
    /// The library has been told so too.
    pub(super) failed: bool,
    /// Given back to the library: no call may name it.
    pub(super) given_up: bool,
    /// Received and not acknowledged.
    pub(super) received: BTreeMap<MsgId, Handle<abi::m0_ha_msg>>,
    /// Sent and not settled, by the library's tag.
    pub(super) sent: BTreeMap<u64, Sent>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// By the bridge.
    Bridge(SendId),
    /// By us to ourselves: a process has failed.
    Failed(Fid),
}

/// All links. A handle's address is used again for another link once its link is no more.
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

    /// How many messages are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.links.values().map(|link| link.received.len()).sum()
    }
}
