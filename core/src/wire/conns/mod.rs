//! TCP connections: each side listens, and opens one connection to each peer that it writes to.
//!
//! Frames that cannot be written are lost, as on a network: the rpc layer above sends again. So all queues
//! are bounded. Frames wait for a connection no longer than the time limit of connecting, and the bytes that
//! a peer does not read are limited by the number that the host has not written yet.

pub(crate) mod accepted;
pub(crate) mod quota;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::ConnId;
use crate::base::time::Instant;
use crate::base::timers::Timers;
use crate::ha::fact::Fact;
use crate::net;
use crate::wire::codec::packet::Frame;
use crate::wire::conns::accepted::{Accepted, ConnEvent};

/// The time limit of connecting, and of the frames waiting for it (`rpc/frmops.c:M0_RPC_TMO`).
const CONNECT_FOR: Duration = Duration::from_secs(8);

/// The maximum number of refused connections still being read to their end by the host. A refused peer that
/// does not close its side would otherwise occupy a connection for as long as the host waits.
const LINGERING_MAX: usize = 256;

/// A sink for a machine's outputs.
pub(crate) trait Out {
    fn net(&mut self, command: net::Command);
    fn fact(&mut self, fact: Fact);
}

#[derive(Debug)]
struct Outbound {
    conn: ConnId,
    up: bool,
    /// The number of bytes not yet written by the host.
    unwritten: usize,
    /// The frames waiting for the connection, with their keys for replacement.
    queue: Vec<(u64, Frame)>,
    used: u64,
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of connections in each direction.
    pub(crate) conns_max: usize,
    /// The maximum of unread bytes of one peer.
    pub(crate) backlog_bytes_max: usize,
    /// Whether peers have time limits for their first byte and for a frame. A server needs them, since anybody
    /// may connect to it.
    pub(crate) limits_peers: bool,
}

#[derive(Debug)]
pub(crate) struct Conns {
    me: SocketAddr,
    limits: Limits,
    accepted: Accepted,
    outbound: BTreeMap<SocketAddr, Outbound>,
    opened: BTreeMap<ConnId, SocketAddr>,
    /// The connections closed by us, until the host reports their end.
    closing: BTreeSet<ConnId>,
    /// The refused connections, in the order of the refusals.
    lingering: VecDeque<ConnId>,
    connecting: Timers<SocketAddr>,
    next: ConnId,
    uses: u64,
    /// New connections are refused.
    ended: bool,
}

impl Conns {
    pub(crate) fn new(me: SocketAddr, limits: Limits) -> Self {
        Self {
            me,
            limits,
            accepted: Accepted::new(me, limits.conns_max, limits.limits_peers),
            outbound: BTreeMap::new(),
            opened: BTreeMap::new(),
            closing: BTreeSet::new(),
            lingering: VecDeque::new(),
            connecting: Timers::default(),
            next: ConnId::opened(1),
            uses: 0,
            ended: false,
        }
    }

    /// Sets the permitted source addresses of frames from other addresses.
    pub(crate) fn set_allowed_sources(&mut self, peers: impl Iterator<Item = SocketAddr>) {
        self.accepted.set_allowed_sources(peers);
    }

    /// Records a link to the process listening at `addr`. Its connection is not closed in favour of others.
    pub(crate) fn link(&mut self, now: Instant, addr: SocketAddr) {
        self.accepted.link(now, addr);
    }

    /// Records the end of a link to the process listening at `addr`.
    pub(crate) fn unlink(&mut self, now: Instant, addr: SocketAddr) {
        self.accepted.unlink(now, addr);
    }

    /// Returns the number of open connections in both directions.
    pub(crate) fn len(&self) -> usize {
        self.accepted.len() + self.outbound.len()
    }

    /// Returns whether all connections are closed and the host has reported it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.len() == 0 && self.closing.is_empty()
    }

    /// Returns the deadlines and their names.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Instant, &'static str)> {
        let connect = self.connecting.first().map(|(at, _)| (at, "connect"));
        connect.into_iter().chain(self.accepted.deadline().map(|at| (at, "frame")))
    }

    pub(crate) fn on_event(
        &mut self,
        now: Instant,
        event: net::Event,
        events: &mut Vec<ConnEvent>,
        out: &mut dyn Out,
    ) {
        match event {
            net::Event::Accepted { conn, peer } => self.on_accepted(now, conn, peer, out),
            net::Event::Connected { conn } => self.on_connected(conn, events, out),
            net::Event::Received { conn, bytes } => self.on_received(now, conn, bytes, events, out),
            net::Event::Written { conn, bytes } => {
                let outbound = self.opened.get(&conn).and_then(|to| self.outbound.get_mut(to));
                if let Some(outbound) = outbound {
                    outbound.unwritten = outbound.unwritten.saturating_sub(bytes as usize);
                }
            }
            net::Event::Closed { conn } => self.on_closed(conn, events, out),
        }
    }

    /// Enforces the time limits: it gives up connections that could not be opened, and closes those of silent
    /// peers.
    pub(crate) fn on_time(&mut self, now: Instant, events: &mut Vec<ConnEvent>, out: &mut dyn Out) {
        while let Some(to) = self.connecting.pop(now) {
            self.reset(to, out);
            events.push(ConnEvent::ConnectFailed(to));
        }
        while let Some((conn, why)) = self.accepted.expire(now) {
            self.refuse(conn, why, out);
        }
    }

    /// Writes a frame to the process listening at `to`, and connects if necessary. A frame that waits for the
    /// connection under the same `key` is replaced.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        key: u64,
        segments: Frame,
        out: &mut dyn Out,
    ) {
        let size = size_of_all(&segments);
        self.uses += 1;
        if let Some(outbound) = self.outbound.get_mut(&to).filter(|outbound| outbound.up) {
            outbound.used = self.uses;
            if outbound.unwritten.saturating_add(size) > self.limits.backlog_bytes_max {
                return out.fact(Fact::BacklogFull { conn: outbound.conn });
            }
            outbound.unwritten += size;
            return out.net(net::Command::Write { conn: outbound.conn, segments });
        }
        if !self.open(now, to, out) {
            return;
        }
        let Some(outbound) = self.outbound.get_mut(&to) else { return };
        outbound.used = self.uses;
        outbound.queue.retain(|(old, _)| *old != key);
        let waiting: usize = outbound.queue.iter().map(|(_, s)| size_of_all(s)).sum();
        if waiting.saturating_add(size) > self.limits.backlog_bytes_max {
            return out.fact(Fact::BacklogFull { conn: outbound.conn });
        }
        outbound.queue.push((key, segments));
    }

    /// Drops a frame still waiting for a connection, since its request was given up.
    pub(crate) fn unqueue(&mut self, to: SocketAddr, key: u64) {
        if let Some(outbound) = self.outbound.get_mut(&to) {
            outbound.queue.retain(|(old, _)| *old != key);
        }
    }

    /// Opens a connection to `to` unless there is one. [`Conns::is_up`] tells whether it is open already, and
    /// [`ConnEvent::Reached`] follows when it opens.
    pub(crate) fn open(&mut self, now: Instant, to: SocketAddr, out: &mut dyn Out) -> bool {
        if self.outbound.contains_key(&to) {
            return true;
        }
        if self.outbound.len() >= self.limits.conns_max {
            // The least recently used connection is closed. It is opened again when it is needed.
            let idle = self.outbound.iter().filter(|(_, o)| o.up).min_by_key(|(_, o)| o.used);
            let Some((idle, _)) = idle else { return false };
            let idle = *idle;
            self.reset(idle, out);
        }
        let conn = self.next.mint();
        self.uses += 1;
        let queue = Vec::new();
        let outbound = Outbound { conn, up: false, unwritten: 0, queue, used: self.uses };
        self.outbound.insert(to, outbound);
        self.opened.insert(conn, to);
        self.connecting.arm(to, now.after(CONNECT_FOR));
        out.net(net::Command::Connect { conn, from: self.me.ip(), to });
        true
    }

    pub(crate) fn is_up(&self, to: SocketAddr) -> bool {
        self.outbound.get(&to).is_some_and(|o| o.up)
    }

    /// Closes the connection to `to`. The next frame to it opens another one.
    pub(crate) fn reset(&mut self, to: SocketAddr, out: &mut dyn Out) {
        self.connecting.disarm(to);
        if let Some(outbound) = self.outbound.remove(&to) {
            self.opened.remove(&outbound.conn);
            self.close(outbound.conn, out);
        }
    }

    /// Closes a connection because its peer broke the protocol or because of a limit.
    pub(crate) fn refuse(&mut self, conn: ConnId, why: Fact, out: &mut dyn Out) {
        if self.accepted.remove(conn).is_some() {
            out.fact(why);
            self.close(conn, out);
            self.linger(conn, out);
        }
    }

    /// Lets the host read a refused connection to its end, within the limit of such connections.
    fn linger(&mut self, conn: ConnId, out: &mut dyn Out) {
        self.lingering.push_back(conn);
        if self.lingering.len() > LINGERING_MAX
            && let Some(conn) = self.lingering.pop_front()
        {
            out.net(net::Command::Cut { conn });
        }
    }

    /// Closes all connections, and refuses new ones.
    pub(crate) fn close_all(&mut self, out: &mut dyn Out) {
        self.ended = true;
        for to in self.outbound.keys().copied().collect::<Vec<_>>() {
            self.reset(to, out);
        }
        while let Some(conn) = self.accepted.first() {
            self.accepted.remove(conn);
            self.close(conn, out);
        }
    }

    fn close(&mut self, conn: ConnId, out: &mut dyn Out) {
        self.closing.insert(conn);
        out.net(net::Command::Close { conn });
    }

    fn on_accepted(&mut self, now: Instant, conn: ConnId, peer: SocketAddr, out: &mut dyn Out) {
        out.fact(Fact::ConnAccepted { conn, peer: peer.ip() });
        if self.ended {
            // The end of this connection is not waited for: new connections could delay the stop for ever.
            out.net(net::Command::Close { conn });
            return self.linger(conn, out);
        }
        if let Some((conn, why)) = self.accepted.accept(now, conn, peer) {
            self.refuse(conn, why, out);
        }
    }

    fn on_received(
        &mut self,
        now: Instant,
        conn: ConnId,
        bytes: Bytes,
        events: &mut Vec<ConnEvent>,
        out: &mut dyn Out,
    ) {
        let Some(peer) = self.accepted.peer(conn) else { return };
        if let Some(why) = self.accepted.receive(now, conn, bytes, events) {
            self.refuse(conn, why, out);
        }
        while let Some((conn, why)) = self.accepted.too_many_bytes(peer) {
            self.refuse(conn, why, out);
        }
    }

    fn on_connected(&mut self, conn: ConnId, events: &mut Vec<ConnEvent>, out: &mut dyn Out) {
        let Some(to) = self.opened.get(&conn).copied() else { return };
        let Some(outbound) = self.outbound.get_mut(&to) else { return };
        self.connecting.disarm(to);
        outbound.up = true;
        for (_, segments) in outbound.queue.drain(..) {
            outbound.unwritten += size_of_all(&segments);
            out.net(net::Command::Write { conn, segments });
        }
        events.push(ConnEvent::Reached(to));
    }

    fn on_closed(&mut self, conn: ConnId, events: &mut Vec<ConnEvent>, out: &mut dyn Out) {
        self.lingering.retain(|other| *other != conn);
        if self.closing.remove(&conn) {
            return;
        }
        if let Some(inbound) = self.accepted.remove(conn) {
            out.fact(Fact::ConnClosed { conn });
            let gone = inbound.from.filter(|from| !self.accepted.is_heard(*from));
            events.extend(gone.map(ConnEvent::Gone));
        } else if let Some(to) = self.opened.remove(&conn) {
            self.connecting.disarm(to);
            if let Some(outbound) = self.outbound.remove(&to) {
                if outbound.up {
                    out.fact(Fact::ConnClosed { conn });
                } else {
                    events.push(ConnEvent::ConnectFailed(to));
                }
            }
        }
    }
}

fn size_of_all(segments: &[Bytes]) -> usize {
    segments.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::super::endpoint::Output;
    use super::*;

    const NOW: Instant = Instant::from_micros(0);

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn new(conns_max: usize) -> (Conns, Vec<Output>, Vec<ConnEvent>) {
        (
            Conns::new(local(1), Limits { conns_max, backlog_bytes_max: 100, limits_peers: true }),
            Vec::new(),
            Vec::new(),
        )
    }

    fn frame(byte: u8, size: usize) -> Frame {
        Arc::new([Bytes::from(alloc::vec![byte; size])])
    }

    /// The first bytes of the written frames.
    fn written(out: &mut Vec<Output>) -> Vec<u8> {
        let written = out.drain(..).filter_map(|o| {
            let Output::Net(net::Command::Write { segments, .. }) = o else { return None };
            Some(segments[0][0])
        });
        written.collect()
    }

    #[test]
    fn what_waits_is_replaced_and_dropped_by_its_name() {
        let (mut conns, mut out, mut events) = new(8);
        for (key, byte) in [(1, 1), (2, 2), (1, 3), (3, 4), (2, 5)] {
            conns.send(NOW, local(2), key, frame(byte, 30), &mut out);
        }
        conns.unqueue(local(2), 3);
        assert!(written(&mut out).is_empty());
        let conn = ConnId::opened(1);
        conns.on_event(NOW, net::Event::Connected { conn }, &mut events, &mut out);
        assert_eq!(written(&mut out), [3, 5]);
    }

    #[test]
    fn connections_come_from_the_address_that_frames_name() {
        let (mut conns, mut out, _) = new(8);
        conns.open(NOW, SocketAddr::from(([127, 0, 9, 9], 1)), &mut out);
        let (conn, from) = (ConnId::opened(1), local(1).ip());
        let connect = |o: &Output| matches!(o, Output::Net(net::Command::Connect { conn: c, from: f, .. }) if (*c, *f) == (conn, from));
        assert!(out.iter().any(connect));
    }

    #[test]
    fn whom_we_refuse_is_not_waited_for_at_others_cost() {
        let (mut conns, mut out, mut events) = new(8);
        for n in 0..1000 {
            let (conn, peer) = (ConnId::accepted(n), local(2));
            conns.on_event(NOW, net::Event::Accepted { conn, peer }, &mut events, &mut out);
        }
        let net = |o: &Output| {
            if let Output::Net(net::Command::Close { conn }) = o {
                return Some((*conn, false));
            }
            let Output::Net(net::Command::Cut { conn }) = o else { return None };
            Some((*conn, true))
        };
        let closed: Vec<_> = out.iter().filter_map(net).filter(|(_, cut)| !cut).collect();
        let cut: Vec<_> = out.iter().filter_map(net).filter(|(_, cut)| *cut).collect();
        assert_eq!((closed.len(), cut.len()), (992, 992 - LINGERING_MAX));
        assert_eq!(cut[0].0, ConnId::accepted(0), "who has had the most time");
        assert_eq!(conns.len(), 8);
        for (conn, _) in closed {
            conns.on_event(NOW, net::Event::Closed { conn }, &mut events, &mut out);
        }
        assert!(conns.lingering.is_empty() && conns.closing.is_empty());
    }

    #[test]
    fn who_comes_after_the_end_is_sent_away() {
        let (mut conns, mut out, mut events) = new(8);
        conns.close_all(&mut out);
        let conn = ConnId::accepted(1);
        conns.on_event(NOW, net::Event::Accepted { conn, peer: local(2) }, &mut events, &mut out);
        assert!(
            matches!(out.last(), Some(Output::Net(net::Command::Close { conn: c })) if *c == conn)
        );
        conns.on_event(NOW, net::Event::Closed { conn }, &mut events, &mut out);
        assert!(conns.is_quiet());
    }

    #[test]
    fn who_does_not_read_is_not_written_to() {
        let (mut conns, mut out, mut events) = new(8);
        let conn = ConnId::opened(1);
        conns.open(NOW, local(2), &mut out);
        conns.on_event(NOW, net::Event::Connected { conn }, &mut events, &mut out);
        for byte in 1..=3 {
            conns.send(NOW, local(2), byte.into(), frame(byte, 40), &mut out);
        }
        assert_eq!(written(&mut out), [1, 2]);
        conns.on_event(NOW, net::Event::Written { conn, bytes: 40 }, &mut events, &mut out);
        conns.send(NOW, local(2), 4, frame(4, 40), &mut out);
        assert_eq!(written(&mut out), [4]);
    }

    #[test]
    fn connecting_is_given_up_after_a_while() {
        let (mut conns, mut out, mut events) = new(8);
        conns.send(NOW, local(2), 1, frame(1, 1), &mut out);
        conns.on_time(NOW.after(CONNECT_FOR), &mut events, &mut out);
        assert!(matches!(events[..], [ConnEvent::ConnectFailed(to)] if to == local(2)));
        assert_eq!(conns.len(), 0);
        let conn = ConnId::opened(1);
        assert_eq!(out.last(), Some(&Output::Net(net::Command::Close { conn })));
        assert!(!conns.is_quiet());
        conns.on_event(NOW, net::Event::Closed { conn }, &mut events, &mut out);
        assert!(conns.is_quiet() && events.len() == 1);
    }

    #[test]
    fn the_least_used_connection_makes_room() {
        let (mut conns, mut out, mut events) = new(2);
        for n in 1..=3 {
            conns.send(NOW, local(n), 1, frame(1, 1), &mut out);
            let conn = ConnId::opened(n.into());
            conns.on_event(NOW, net::Event::Connected { conn }, &mut events, &mut out);
        }
        assert!(!conns.is_up(local(1)) && conns.is_up(local(2)) && conns.is_up(local(3)));
    }
}
