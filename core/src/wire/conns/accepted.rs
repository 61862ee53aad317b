//! Accepted connections: their frames, and the choice of the connections to close when there are too many.
//!
//! A peer writes as soon as it has connected, and a frame takes milliseconds. So neither a silent connection
//! nor an incomplete frame is kept for long. If there are too many of either, the [`Crowd`] chooses the
//! connection to close. The connection of a process with a link is not part of the quota.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::ConnId;
use crate::base::time::Instant;
use crate::base::timers::Timers;
use crate::ha::fact::Fact;
use crate::wire::codec::frame::Frames;
use crate::wire::conns::quota::{Quota, Share};

/// The time limit for the first byte on a connection. Motr's `sock` transport connects when it has something
/// to write.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// The time limit of a frame from its first byte to its last.
const FRAME_FOR: Duration = Duration::from_secs(30);
/// The maximum of bytes in incomplete frames of all processes with a link.
const LINKED_BYTES_MAX: usize = 64 << 20;

/// An event of a connection.
#[derive(Debug)]
pub(crate) enum ConnEvent {
    /// A frame of the process listening at `from`.
    Frame { conn: ConnId, from: SocketAddr, payload: Bytes },
    /// The last connection from this address has closed.
    Gone(SocketAddr),
    /// A connection to this address was refused.
    ConnectFailed(SocketAddr),
    /// A connection to this address is open.
    Reached(SocketAddr),
}

/// A connection opened by a peer.
#[derive(Debug)]
pub(crate) struct Inbound {
    peer: SocketAddr,
    /// The listening address of the peer, known from the first frame.
    pub(crate) from: Option<SocketAddr>,
    frames: Frames,
    /// Whether this is the connection of a process with a link.
    linked: bool,
}

impl Inbound {
    fn share(&self, conn: ConnId) -> Share {
        let (ip, heard) = (self.peer.ip(), self.from.is_some());
        Share { conn, ip, heard, bytes: self.frames.room() }
    }

    /// Returns whether the connection comes from its peer's listening address. Motr requires that of
    /// connections too.
    fn is_of(&self, addr: SocketAddr) -> bool {
        self.from == Some(addr) && same_host(addr, self.peer)
    }
}

/// The links to the process at one address.
#[derive(Debug, Default)]
struct Linked {
    links: usize,
    /// The newest connection of the process.
    conn: Option<ConnId>,
}

#[derive(Debug)]
pub(crate) struct Accepted {
    me: SocketAddr,
    conns_max: usize,
    /// Whether peers have time limits for their first byte and for a frame.
    limits_peers: bool,
    conns: BTreeMap<ConnId, Inbound>,
    quota: Quota,
    linked: BTreeMap<SocketAddr, Linked>,
    linked_bytes: usize,
    allowed_sources: BTreeSet<SocketAddr>,
    deadlines: Timers<ConnId>,
}

impl Accepted {
    pub(crate) fn new(me: SocketAddr, conns_max: usize, limits_peers: bool) -> Self {
        Self {
            me,
            conns_max: conns_max.max(1),
            limits_peers,
            conns: BTreeMap::new(),
            // A quarter of the limit, so that peers of other nodes find room too.
            quota: Quota::new(me.ip(), conns_max / 4),
            linked: BTreeMap::new(),
            linked_bytes: 0,
            allowed_sources: BTreeSet::new(),
            deadlines: Timers::default(),
        }
    }

    pub(crate) fn set_allowed_sources(&mut self, peers: impl Iterator<Item = SocketAddr>) {
        self.allowed_sources = peers.collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn first(&self) -> Option<ConnId> {
        self.conns.keys().next().copied()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// Adds a new connection. Returns the connection to close for it, if there is one.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        peer: SocketAddr,
    ) -> Option<(ConnId, Fact)> {
        let inbound = Inbound { peer, from: None, frames: Frames::default(), linked: false };
        self.quota.enter(inbound.share(conn));
        self.conns.insert(conn, inbound);
        self.arm_deadline(now, conn, SILENT_FOR);
        if self.conns.len() <= self.conns_max {
            return None;
        }
        let conn = self.quota.to_evict()?;
        Some((conn, Fact::ConnsFull { conn, peer: self.peer(conn)? }))
    }

    /// Processes received bytes and appends events for the complete frames. Returns the reason to close the
    /// connection, if there is one.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        conn: ConnId,
        bytes: Bytes,
        events: &mut Vec<ConnEvent>,
    ) -> Option<Fact> {
        // Peers write on their own connections only; bytes on a connection opened by us are ignored.
        let inbound = self.conns.get_mut(&conn)?;
        let before = inbound.share(conn);
        let had = inbound.frames.held() > 0;
        inbound.frames.feed(bytes);
        let (address, peer) = (inbound.peer, inbound.peer.ip());
        let frames = events.len();
        let refused = loop {
            match inbound.frames.cut() {
                Ok(None) => break None,
                Err(why) => break Some(Fact::BadFrame { conn, peer, why: why.0 }),
                Ok(Some((header, payload))) => {
                    let from = header.src.addr;
                    let known = inbound.from == Some(from);
                    if !known && !may_claim(from, address, self.me, &self.allowed_sources) {
                        break Some(Fact::NotItsAddress { conn, peer });
                    }
                    inbound.from = Some(from);
                    events.push(ConnEvent::Frame { conn, from, payload });
                }
            }
        };
        let (after, linked) = (inbound.share(conn), inbound.linked);
        let (has, began) = (inbound.frames.held() > 0, events.len() > frames);
        if linked {
            self.linked_bytes = self.linked_bytes - before.bytes + after.bytes;
            let full = self.linked_bytes > LINKED_BYTES_MAX;
            return refused.or_else(|| full.then(|| unfinished(conn, peer)));
        }
        self.quota.change(before, after);
        if !has {
            self.deadlines.disarm(conn);
        } else if began || !had {
            self.arm_deadline(now, conn, FRAME_FOR);
        }
        self.exempt_if_linked(now, conn);
        refused
    }

    /// Returns the IP address of the peer.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<IpAddr> {
        self.conns.get(&conn).map(|inbound| inbound.peer.ip())
    }

    /// Returns the connection to close if there are too many bytes of incomplete frames. `last` is the peer
    /// that sent the last bytes.
    pub(crate) fn too_many_bytes(&self, last: IpAddr) -> Option<(ConnId, Fact)> {
        let conn = self.quota.to_evict_for_bytes(last)?;
        Some((conn, unfinished(conn, self.peer(conn)?)))
    }

    /// Returns a connection with a passed deadline.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(ConnId, Fact)> {
        let conn = self.deadlines.pop(now)?;
        let inbound = self.conns.get(&conn)?;
        let peer = inbound.peer.ip();
        if inbound.frames.held() == 0 {
            return Some((conn, Fact::ConnSilent { conn, peer }));
        }
        Some((conn, Fact::BadFrame { conn, peer, why: "a frame that does not end" }))
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Inbound> {
        let inbound = self.conns.remove(&conn)?;
        self.deadlines.disarm(conn);
        let share = inbound.share(conn);
        if inbound.linked {
            self.linked_bytes -= share.bytes;
            if let Some(linked) = inbound.from.and_then(|from| self.linked.get_mut(&from)) {
                linked.conn = None;
            }
        } else {
            self.quota.leave(share);
        }
        Some(inbound)
    }

    /// Returns whether there is a connection from the peer listening at `from`.
    pub(crate) fn is_heard(&self, from: SocketAddr) -> bool {
        self.conns.values().any(|inbound| inbound.from == Some(from))
    }

    // ---- links ------------------------------------------------------------------------------

    /// Records a link to the process listening at `addr`. Its connection leaves the quota.
    pub(crate) fn link(&mut self, now: Instant, addr: SocketAddr) {
        let linked = self.linked.entry(addr).or_default();
        linked.links += 1;
        if linked.links == 1 {
            let mut conns = self.conns.iter().rev();
            let newest = conns.find(|(_, inbound)| inbound.is_of(addr)).map(|(conn, _)| *conn);
            if let Some(conn) = newest {
                self.exempt_if_linked(now, conn);
            }
        }
    }

    /// Records the end of a link to the process listening at `addr`.
    pub(crate) fn unlink(&mut self, now: Instant, addr: SocketAddr) {
        let Some(linked) = self.linked.get_mut(&addr) else { return };
        linked.links -= 1;
        if linked.links == 0 {
            let conn = linked.conn;
            self.linked.remove(&addr);
            if let Some(conn) = conn {
                self.return_to_quota(now, conn);
            }
        }
    }

    /// Removes a connection from the quota if its process has a link. A process has one connection; the
    /// newest one counts.
    fn exempt_if_linked(&mut self, now: Instant, conn: ConnId) {
        let Some(inbound) = self.conns.get_mut(&conn) else { return };
        let Some(from) = inbound.from.filter(|from| inbound.is_of(*from)) else { return };
        let Some(linked) = self.linked.get_mut(&from) else { return };
        if linked.conn.is_some_and(|other| other >= conn) {
            return;
        }
        let other = linked.conn.replace(conn);
        let share = inbound.share(conn);
        inbound.linked = true;
        self.quota.leave(share);
        self.linked_bytes += share.bytes;
        self.deadlines.disarm(conn);
        if let Some(other) = other {
            self.return_to_quota(now, other);
        }
    }

    fn return_to_quota(&mut self, now: Instant, conn: ConnId) {
        let Some(inbound) = self.conns.get_mut(&conn) else { return };
        inbound.linked = false;
        let (share, begun) = (inbound.share(conn), inbound.frames.held() > 0);
        self.linked_bytes -= share.bytes;
        self.quota.enter(share);
        if begun {
            self.arm_deadline(now, conn, FRAME_FOR);
        }
    }

    fn arm_deadline(&mut self, now: Instant, conn: ConnId, time: Duration) {
        if self.limits_peers {
            self.deadlines.arm(conn, now.after(time));
        }
    }
}

fn unfinished(conn: ConnId, peer: IpAddr) -> Fact {
    Fact::BadFrame { conn, peer, why: "too many unfinished frames" }
}

/// Returns whether two addresses belong to the same host.
fn same_host(one: SocketAddr, other: SocketAddr) -> bool {
    let (one, other) = (one.ip().to_canonical(), other.ip().to_canonical());
    one == other || one.is_loopback() && other.is_loopback()
}

/// Returns whether a frame may name `from` as its source. A reply is sent to that address. To prevent a
/// connection to a third party, it must be an address of the sender or of the configuration.
fn may_claim(
    from: SocketAddr,
    peer: SocketAddr,
    me: SocketAddr,
    named: &BTreeSet<SocketAddr>,
) -> bool {
    from != me && from.port() != 0 && (same_host(from, peer) || named.contains(&from))
}
