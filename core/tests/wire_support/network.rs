//! The connections of a world.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::net;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::Frames;
use hax_core::wire::codec::packet;

use super::world::{Ev, LATENCY, Machine, S, Socket, World};

impl World {
    /// Breaks all connections between two nodes.
    pub fn cut(&mut self, a: usize, b: usize) {
        for socket in 0..self.sockets.len() {
            let between =
                |e: &Option<(usize, u64, ConnId)>| e.is_some_and(|e| e.0 == a || e.0 == b);
            if self.sockets[socket].ends.iter().all(between) {
                let at = self.now + LATENCY;
                for end in 0..2 {
                    self.push(at, 0, Ev::Fin(socket, end));
                }
            }
        }
    }

    /// Breaks the connections that `a` has opened to `b`, without `b` noticing.
    pub fn cut_from(&mut self, a: usize, b: usize) {
        for socket in 0..self.sockets.len() {
            let nodes = self.sockets[socket].ends.map(|end| end.map(|end| end.0));
            if nodes == [Some(a), Some(b)] {
                self.push(self.now + LATENCY, 0, Ev::Fin(socket, 0));
            }
        }
    }

    /// Delays all data between two nodes for a while.
    pub fn stall(&mut self, a: usize, b: usize, us: u64) {
        self.stalls.insert((a.min(b), a.max(b)), self.now + us);
    }

    pub fn heal(&mut self) {
        self.stalls.clear();
        self.lose.clear();
    }

    pub(super) fn on_accept(&mut self, socket: usize, to: SocketAddr) {
        let Some((from, _, _)) = self.sockets[socket].ends[0] else { return };
        let target = self.nodes.iter().position(|n| n.addr == to);
        let at = self.now + LATENCY;
        let target = target.filter(|t| !matches!(self.nodes[*t].machine, Machine::Dead));
        let Some(target) = target else { return self.push(at, from, Ev::Fin(socket, 0)) };
        let node = &mut self.nodes[target];
        node.accepted += 1;
        let conn = ConnId::accepted(node.accepted);
        node.sockets.insert(conn, socket);
        self.sockets[socket].ends[1] = Some((target, node.life, conn));
        self.push(at, from, Ev::Connected(socket));
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        self.feed_net(target, net::Event::Accepted { conn, peer });
    }

    /// Closes one end. The other end sees that after all data.
    pub(super) fn hang_up(&mut self, socket: usize, end: usize) {
        self.sockets[socket].ends[end] = None;
        let at = self.arrival(socket, 1 - end);
        self.push(at, 0, Ev::Fin(socket, 1 - end));
    }

    fn arrival(&mut self, socket: usize, end: usize) -> u64 {
        let ends = self.sockets[socket].ends;
        let nodes = [ends[0], ends[1]].map(|e| e.map(|e| e.0));
        let stalled = match nodes {
            [Some(a), Some(b)] => self.stalls.get(&(a.min(b), a.max(b))).copied().unwrap_or(0),
            _ => 0,
        };
        let at = (self.now + LATENCY).max(stalled);
        if end == 1 {
            self.sockets[socket].busy = self.sockets[socket].busy.max(at);
            return self.sockets[socket].busy;
        }
        at
    }

    pub(super) fn on_net(&mut self, node: usize, command: net::Command) {
        match command {
            net::Command::Connect { conn, to, .. } => {
                let socket = self.sockets.len();
                let life = self.nodes[node].life;
                self.sockets.push(Socket { ends: [Some((node, life, conn)), None], busy: 0 });
                self.nodes[node].sockets.insert(conn, socket);
                let other = self.nodes.iter().position(|n| n.addr == to).unwrap_or(node);
                let stalled = self.stalls.get(&(node.min(other), node.max(other))).copied();
                let at = (self.now + LATENCY).max(stalled.unwrap_or(0));
                self.push(at, node, Ev::Accept(socket, to));
            }
            net::Command::Write { conn, segments } => {
                let Some(socket) = self.nodes[node].sockets.get(&conn).copied() else { return };
                let data: Vec<u8> = segments.concat();
                self.watch(node, &data);
                assert!(!data.is_empty() && data.len() <= 131_072 + 160);
                let bytes = data.len() as u32;
                match self.lose.get_mut(&node).filter(|n| **n > 0) {
                    Some(n) => *n -= 1,
                    None => {
                        let at = self.arrival(socket, 1);
                        // The data arrives in two pieces, as TCP may deliver it.
                        let mut head = data;
                        let tail = head.split_off(head.len() / 3);
                        self.push(at, node, Ev::Data(socket, head));
                        self.push(at, node, Ev::Data(socket, tail));
                    }
                }
                self.feed_net(node, net::Event::Written { conn, bytes });
            }
            net::Command::Close { conn } => {
                let Some(socket) = self.nodes[node].sockets.remove(&conn) else { return };
                let end = usize::from(conn.is_accepted());
                self.hang_up(socket, end);
                self.feed_net(node, net::Event::Closed { conn });
            }
            net::Command::Cut { .. } => {}
        }
    }

    /// Checks that a machine has one operation 207 of a link in flight.
    ///
    /// It may write the next one after the reply to the last one, or one second after it has given up the
    /// last one.
    fn watch(&mut self, node: usize, data: &[u8]) {
        let mut frames = Frames::default();
        frames.feed(Bytes::copy_from_slice(data));
        let (_, payload) = frames.cut().unwrap().expect("a whole frame");
        for item in packet::decode(&payload).unwrap().map(Result::unwrap) {
            match item.fop {
                Fop::LinkMsg(msg) => {
                    assert_eq!(item.header.xid_min, item.header.xid);
                    let last = (item.header.cookie, self.now);
                    if let Some((cookie, at)) = self.flying.insert((node, msg.ids), last) {
                        let answered = self.answered.contains(&cookie);
                        let fine = answered || cookie == item.header.cookie || self.now - at >= S;
                        assert!(fine, "{node}: two in flight\n{}", self.trace.join("\n"));
                    }
                }
                Fop::LinkMsgRep { .. } => {
                    self.answered.insert(item.header.cookie);
                }
                _ => {}
            }
        }
    }
}
