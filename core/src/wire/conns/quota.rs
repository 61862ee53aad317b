//! Connections without a link.
//!
//! Their peers are unknown, so the resources of all of them are bounded. At a limit, a connection of the peer
//! with the highest use is closed, never the new one: a peer that floods the port keeps out only itself.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv6Addr};

use crate::base::id::ConnId;

/// The maximum of bytes in incomplete frames of one peer. Before a process has a link, it sends a few hundred
/// bytes at a time, and a message of 21 KB after our restart.
pub(crate) const PEER_BYTES_MAX: usize = 4 << 20;
/// The maximum of bytes in incomplete frames of all peers.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// The connections without a link, by peer.
#[derive(Debug)]
pub(crate) struct Quota {
    me: IpAddr,
    /// The number of uncounted connections from the node's own addresses. Many processes may run on the node
    /// and share one address.
    own_room: usize,
    peers: BTreeMap<IpAddr, Peer>,
    bytes: usize,
}

/// The resources of one peer.
#[derive(Debug, Default)]
struct Peer {
    /// The connections without a complete frame.
    mute: BTreeSet<ConnId>,
    /// The connections with a complete frame.
    heard: BTreeSet<ConnId>,
    /// The connections with an incomplete frame, of both sets.
    begun: BTreeSet<ConnId>,
    bytes: usize,
}

impl Peer {
    fn len(&self) -> usize {
        self.mute.len() + self.heard.len()
    }

    /// Returns the connections in the order of closing.
    fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.mute.iter().chain(&self.heard).copied()
    }
}

/// One connection of the quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) conn: ConnId,
    pub(crate) ip: IpAddr,
    /// Whether a whole frame has arrived on it.
    pub(crate) heard: bool,
    /// The memory of its incomplete frame, in bytes.
    pub(crate) bytes: usize,
}

impl Quota {
    pub(crate) fn new(me: IpAddr, own_room: usize) -> Self {
        Self { me: me.to_canonical(), own_room, peers: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn enter(&mut self, share: Share) {
        let peer = self.peers.entry(self.peer(share.ip)).or_default();
        let side = if share.heard { &mut peer.heard } else { &mut peer.mute };
        side.insert(share.conn);
        if share.bytes > 0 {
            peer.begun.insert(share.conn);
        }
        peer.bytes += share.bytes;
        self.bytes += share.bytes;
    }

    /// Removes a connection. `member` is its state as of the last `enter` or [`change`](Self::change).
    pub(crate) fn leave(&mut self, share: Share) {
        let name = self.peer(share.ip);
        let Some(peer) = self.peers.get_mut(&name) else { return };
        let side = if share.heard { &mut peer.heard } else { &mut peer.mute };
        side.remove(&share.conn);
        peer.begun.remove(&share.conn);
        peer.bytes -= share.bytes;
        self.bytes -= share.bytes;
        if peer.len() == 0 {
            self.peers.remove(&name);
        }
    }

    pub(crate) fn change(&mut self, before: Share, after: Share) {
        if (before.heard, before.bytes) != (after.heard, after.bytes) {
            self.leave(before);
            self.enter(after);
        }
    }

    /// Returns the connection to close when there are too many: the oldest one of the peer with the most
    /// connections. Connections without a complete frame are closed first.
    pub(crate) fn to_evict(&self) -> Option<ConnId> {
        let greed = |(ip, peer): &(&IpAddr, &Peer)| {
            let own = if self.is_own(**ip) { self.own_room } else { 0 };
            // Between peers with the same number, the one with a connection without a complete frame counts,
            // and of those the one with the oldest.
            let last = (!peer.mute.is_empty(), Reverse(peer.conns().next()));
            (peer.len().cast_signed() - own.cast_signed(), last)
        };
        self.peers.iter().max_by_key(greed).and_then(|(_, peer)| peer.conns().next())
    }

    /// Returns the connection to close if there are too many bytes of incomplete frames: the oldest one of
    /// the peer with the most bytes. `last` is the peer that sent the last bytes.
    pub(crate) fn to_evict_for_bytes(&self, last: IpAddr) -> Option<ConnId> {
        let peer = self.peers.get(&self.peer(last));
        let peer = peer.filter(|peer| peer.bytes > PEER_BYTES_MAX).or_else(|| {
            let greed =
                |(ip, peer): &(&IpAddr, &Peer)| (peer.bytes > 0, !self.is_own(**ip), peer.bytes);
            let most = || self.peers.iter().max_by_key(greed).map(|(_, peer)| peer);
            if self.bytes > BYTES_MAX { most() } else { None }
        });
        peer.and_then(|peer| peer.begun.first().copied())
    }

    /// Returns whether the address belongs to this node.
    fn is_own(&self, ip: IpAddr) -> bool {
        ip == self.me || ip.is_loopback()
    }

    /// Returns the identifying address of a peer. A host can choose its IPv6 addresses from a whole network,
    /// so the network counts as one peer.
    fn peer(&self, ip: IpAddr) -> IpAddr {
        let ip = ip.to_canonical();
        if let IpAddr::V6(host) = ip
            && !self.is_own(ip)
        {
            return Ipv6Addr::from_bits(host.to_bits() >> 64 << 64).into();
        }
        ip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> Quota {
        Quota::new(IpAddr::from([10, 0, 0, 1]), 4)
    }

    fn share(n: u64, ip: &str) -> Share {
        Share { conn: ConnId::accepted(n), ip: ip.parse().unwrap(), heard: false, bytes: 0 }
    }

    fn enter(quota: &mut Quota, ns: core::ops::Range<u64>, ip: &str) {
        ns.for_each(|n| quota.enter(share(n, ip)));
    }

    #[test]
    fn who_has_most_gives_way_and_of_it_the_oldest() {
        let mut quota = quota();
        enter(&mut quota, 0..2, "10.0.0.7");
        enter(&mut quota, 2..5, "10.0.0.8");
        enter(&mut quota, 5..7, "10.0.0.9");
        assert_eq!(quota.to_evict(), Some(ConnId::accepted(2)));
        quota.change(share(2, "10.0.0.8"), Share { heard: true, ..share(2, "10.0.0.8") });
        assert_eq!(quota.to_evict(), Some(ConnId::accepted(3)), "who speaks is the last");
        quota.leave(share(3, "10.0.0.8"));
        assert_eq!(quota.to_evict(), Some(ConnId::accepted(0)), "as many: the oldest");
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_a_mapped_address_is_what_it_maps() {
        let mut quota = quota();
        enter(&mut quota, 0..1, "2001:db8::1");
        enter(&mut quota, 1..2, "2001:db8:0:1::1");
        enter(&mut quota, 2..3, "2001:db8:0:1:ffff::2");
        assert_eq!(quota.to_evict(), Some(ConnId::accepted(1)));
        enter(&mut quota, 3..5, "10.0.0.9");
        enter(&mut quota, 5..6, "::ffff:10.0.0.9");
        assert_eq!(quota.to_evict(), Some(ConnId::accepted(3)));
    }

    #[test]
    fn the_node_s_own_addresses_have_room_of_their_own() {
        for own in ["10.0.0.1", "127.0.0.5", "::1", "::ffff:10.0.0.1"] {
            let mut quota = quota();
            enter(&mut quota, 0..5, own);
            enter(&mut quota, 5..7, "10.0.0.9");
            assert_eq!(quota.to_evict(), Some(ConnId::accepted(5)), "{own}");
            enter(&mut quota, 7..9, own);
            assert_eq!(quota.to_evict(), Some(ConnId::accepted(0)), "{own}");
        }
    }

    #[test]
    fn bytes_are_bounded_of_each_and_of_all() {
        let mut quota = quota();
        let over = |quota: &Quota, ip: &str| quota.to_evict_for_bytes(ip.parse().unwrap());
        let with = |n, ip, bytes| Share { bytes, ..share(n, ip) };
        quota.enter(with(0, "10.0.0.9", PEER_BYTES_MAX));
        assert_eq!(over(&quota, "10.0.0.9"), None);
        quota.enter(with(1, "10.0.0.9", 1));
        assert_eq!(over(&quota, "10.0.0.9"), Some(ConnId::accepted(0)));
        quota.leave(with(0, "10.0.0.9", PEER_BYTES_MAX));
        quota.enter(with(2, "10.0.0.1", PEER_BYTES_MAX));
        for n in 3_u64..6 {
            let ip = IpAddr::from([10, 0, 1, u8::try_from(n).unwrap()]);
            quota.enter(Share { ip, ..with(n, "10.0.1.1", PEER_BYTES_MAX - usize::from(n > 3)) });
        }
        assert_eq!(over(&quota, "10.0.0.9"), None);
        quota.change(with(1, "10.0.0.9", 1), with(1, "10.0.0.9", 100));
        assert_eq!(over(&quota, "10.0.0.9"), Some(ConnId::accepted(3)), "not the node's own");
    }

    #[test]
    fn who_leaves_leaves_nothing() {
        let mut quota = quota();
        let (before, after) =
            (share(0, "10.0.0.9"), Share { heard: true, bytes: 9, ..share(0, "10.0.0.9") });
        quota.enter(before);
        quota.change(before, after);
        quota.leave(after);
        assert!(quota.peers.is_empty() && quota.bytes == 0 && quota.to_evict().is_none());
    }
}
