//! The links of an endpoint, and the names by which they are found.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::LinkId;
use crate::wire::codec::params::Uint128;
use crate::wire::endpoint::peer::Peer;
use crate::wire::rpc::client::ClientId;

/// All links. A name leads to a link that is there.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    links: BTreeMap<LinkId, Peer>,
    /// By the name of our end.
    by_end: BTreeMap<Uint128, LinkId>,
    /// The newest link of each process.
    by_process: BTreeMap<Fid, LinkId>,
    /// By the rpc client that sends over it.
    by_client: BTreeMap<ClientId, LinkId>,
    uses: u64,
}

impl LinkTable {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Peer)> {
        self.links.iter().map(|(id, peer)| (*id, peer))
    }

    /// The links as they are now, for a loop that changes them.
    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// The links to one address that `select` takes.
    pub(crate) fn at(&self, addr: SocketAddr, select: impl Fn(&Peer) -> bool) -> Vec<LinkId> {
        let selected = self.links.iter().filter(|(_, peer)| peer.addr == addr && select(peer));
        selected.map(|(id, _)| *id).collect()
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&Peer> {
        self.links.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Peer> {
        self.links.get_mut(&id)
    }

    /// A link that is about to be used: of too many, the one that was used least lately makes room.
    pub(crate) fn touch(&mut self, id: LinkId) -> Option<&mut Peer> {
        let peer = self.links.get_mut(&id)?;
        self.uses += 1;
        peer.used = self.uses;
        Some(peer)
    }

    /// The link whose end here has this name.
    pub(crate) fn of_end(&self, end: Uint128) -> Option<LinkId> {
        self.by_end.get(&end).copied()
    }

    /// The newest link of a process.
    pub(crate) fn of_process(&self, process: Fid) -> Option<LinkId> {
        self.by_process.get(&process).copied()
    }

    /// The link over which an rpc client sends.
    pub(crate) fn of_client(&self, client: ClientId) -> Option<LinkId> {
        self.by_client.get(&client).copied()
    }

    /// The link that makes room when there are too many: one whose peer is away, or else the one that was
    /// used least lately.
    pub(crate) fn least_needed(&self) -> Option<LinkId> {
        let least = self.links.iter().min_by_key(|(_, peer)| (peer.away.is_none(), peer.used));
        least.map(|(id, _)| *id)
    }

    pub(crate) fn insert(&mut self, id: LinkId, peer: Peer) {
        self.by_end.insert(peer.link.ids.local, id);
        self.by_process.insert(peer.process, id);
        self.by_client.insert(peer.link.client, id);
        self.links.insert(id, peer);
        self.touch(id);
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Peer> {
        let peer = self.links.remove(&id)?;
        self.by_end.remove(&peer.link.ids.local);
        self.by_client.remove(&peer.link.client);
        // A later link of the process keeps its name.
        if self.by_process.get(&peer.process) == Some(&id) {
            self.by_process.remove(&peer.process);
        }
        Some(peer)
    }
}
