//! TCP connections and their faults. Data is not reordered within a connection. Between two connections any
//! order is possible.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::machine::Input;
use hax_core::net::{Command, Event};

use super::World;
use super::cast::Cast;
use super::event::{ConnectionId, Ev, MS, Party, S};

/// The minimum latency of a connection from end to end, in µs.
const LATENCY: u64 = 200;

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    who: Party,
    life: u32,
    conn: ConnId,
}

/// A connection. The first end opened it.
#[derive(Debug)]
struct Connection {
    /// The two ends. An end is removed when its party closes it.
    ends: [Option<End>; 2],
    /// The writing party, and its life.
    from: (Party, u32),
    to: SocketAddr,
    lag: u64,
    /// The earliest arrival time of written data.
    next_arrival: u64,
    /// The other end has vanished, so all further writes are lost.
    dead: bool,
}

/// All connections, and the listening parties.
#[derive(Debug, Default)]
pub(crate) struct Net {
    connections: Vec<Connection>,
    by_conn: BTreeMap<(Party, ConnId), ConnectionId>,
    listening: BTreeMap<SocketAddr, Party>,
    /// The last listening address of each party.
    addresses: BTreeMap<Party, SocketAddr>,
    /// The number of hang-ups of each party. The party has a new life after each.
    lives: BTreeMap<Party, u32>,
    /// The end of each stall. No data of the first party arrives at the second one before.
    stalls: BTreeMap<(Party, Party), u64>,
    accepted: u64,
    ports: u16,
}

impl Net {
    fn stalled(&self, from: Option<Party>, to: Option<Party>) -> u64 {
        let until = from.zip(to).and_then(|pair| self.stalls.get(&pair));
        until.copied().unwrap_or(0)
    }

    fn parties_of(&self, id: ConnectionId) -> (Option<Party>, Option<Party>) {
        let connection = &self.connections[id];
        let [a, b] = connection.ends.map(|end| end.map(|end| end.who));
        (a, b.or_else(|| self.listening.get(&connection.to).copied()))
    }

    /// Makes a party listen at this address from now on.
    pub(crate) fn listen(&mut self, who: Party, addr: SocketAddr) {
        self.listening.insert(addr, who);
        self.addresses.insert(who, addr);
    }

    /// Makes a party stop listening.
    pub(crate) fn stop_listening(&mut self, who: Party) {
        if let Some(addr) = self.addresses.get(&who) {
            self.listening.remove(addr);
        }
    }

    fn life(&self, who: Party) -> u32 {
        self.lives.get(&who).copied().unwrap_or(0)
    }

    /// Delays all data from one party to the other until this time.
    pub(crate) fn stall(&mut self, from: Party, to: Party, until: u64) {
        self.stalls.insert((from, to), until);
    }

    pub(super) fn heal(&mut self) {
        self.stalls.clear();
    }

    /// Returns the connections between two parties with both ends alive.
    fn intact_between(&self, a: Party, b: Party) -> Vec<ConnectionId> {
        let is_intact = |connection: &Connection| {
            let ends = connection.ends.map(|end| end.map(|end| end.who));
            !connection.dead && (ends == [Some(a), Some(b)] || ends == [Some(b), Some(a)])
        };
        (0..self.connections.len()).filter(|id| is_intact(&self.connections[*id])).collect()
    }
}

impl<C: Cast> World<'_, C> {
    /// Returns the arrival time at the other end for data written now.
    fn arrival(&mut self, id: ConnectionId) -> u64 {
        let (a, b) = self.net.parties_of(id);
        let stalled = self.net.stalled(a, b);
        let connection = &mut self.net.connections[id];
        connection.next_arrival =
            connection.next_arrival.max(self.sim.now() + connection.lag).max(stalled);
        connection.next_arrival
    }

    pub(crate) fn on_net(&mut self, who: Party, command: Command) {
        match command {
            Command::Connect { conn, to, .. } => {
                let lag = LATENCY + self.sim.choose(self.odds.lag_ms) * 1_000;
                let end = End { who, life: self.net.life(who), conn };
                let id = self.net.connections.len();
                self.net.connections.push(Connection {
                    ends: [Some(end), None],
                    from: (who, end.life),
                    to,
                    lag,
                    next_arrival: 0,
                    dead: false,
                });
                self.net.by_conn.insert((who, conn), id);
                let at = self.arrival(id);
                self.sim.push(at, Ev::Accept(id));
            }
            Command::Write { conn, segments } => {
                let bytes = match &*segments {
                    [one] => one.clone(),
                    many => Bytes::from(many.concat()),
                };
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                C::on_write(self, who, &bytes);
                let Some(id) = self.net.by_conn.get(&(who, conn)).copied() else { return };
                let at = self.arrival(id);
                // If a peer does not read, the writer's buffers fill.
                let slow = at > self.sim.now() + S;
                self.sim.push(if slow { at } else { self.sim.now() }, Ev::Written(id, len));
                if self.net.connections[id].dead {
                    return;
                }
                // The data arrives in pieces, as TCP may deliver it.
                let head = if self.odds.lag_ms > 0 { bytes.len() / 3 } else { 0 };
                for piece in [bytes.slice(..head), bytes.slice(head..)] {
                    if !piece.is_empty() {
                        self.sim.push(at, Ev::Data(id, piece));
                    }
                }
            }
            Command::Close { conn } => {
                let Some(id) = self.net.by_conn.get(&(who, conn)).copied() else { return };
                let end = usize::from(conn.is_accepted());
                self.sim.push(self.sim.now() + LATENCY, Ev::Fin(id, end));
                let at = self.arrival(id);
                self.sim.push(at, Ev::Fin(id, 1 - end));
            }
            // No party here takes longer than that to close.
            Command::Cut { .. } => {}
        }
    }

    pub(super) fn on_accept(&mut self, id: ConnectionId) {
        let Some(opener) = self.net.connections[id].ends[0] else { return };
        let to = self.net.connections[id].to;
        let at = self.arrival(id);
        let Some(who) = self.net.listening.get(&to).copied() else {
            return self.sim.push(at, Ev::Fin(id, 0));
        };
        self.net.accepted += 1;
        let conn = ConnId::accepted(self.net.accepted);
        let life = self.net.life(who);
        self.net.connections[id].ends[1] = Some(End { who, life, conn });
        self.net.by_conn.insert((who, conn), id);
        self.sim.push(at, Ev::Connected(id));
        let peer = self.address(opener.who, to);
        self.feed_net(who, Event::Accepted { conn, peer });
    }

    /// Draws the address of the opening end for the accepting end. The host is known, and the port is
    /// arbitrary.
    fn address(&mut self, who: Party, to: SocketAddr) -> SocketAddr {
        let ip = self.net.addresses.get(&who).map_or_else(|| to.ip(), SocketAddr::ip);
        self.net.ports = self.net.ports.wrapping_add(1) | 0x8000;
        SocketAddr::new(ip, self.net.ports)
    }

    pub(super) fn on_connected(&mut self, id: ConnectionId) {
        if let Some(End { who, conn, .. }) = self.net.connections[id].ends[0] {
            self.feed_net(who, Event::Connected { conn });
        }
    }

    pub(super) fn on_data(&mut self, id: ConnectionId, bytes: Bytes) {
        let Connection { ends, from, dead, .. } = &self.net.connections[id];
        // In reality the last writes of a dead process may arrive. A process that is reconnecting at that
        // moment then aborts, whatever its new server does.
        if self.net.life(from.0) != from.1 {
            return;
        }
        if let (Some(End { who, conn, .. }), false) = (ends[1], *dead) {
            self.feed_net(who, Event::Received { conn, bytes });
        }
    }

    pub(super) fn on_written(&mut self, id: ConnectionId, bytes: u32) {
        if let Some(End { who, conn, .. }) = self.net.connections[id].ends[0] {
            self.feed_net(who, Event::Written { conn, bytes });
        }
    }

    pub(super) fn on_fin(&mut self, id: ConnectionId, end: usize) {
        if let Some(End { who, conn, life }) = self.net.connections[id].ends[end].take() {
            self.net.by_conn.remove(&(who, conn));
            if self.net.life(who) == life {
                self.feed_net(who, Event::Closed { conn });
            }
        }
    }

    /// Ends a machine without a message. Its kernel closes its connections.
    pub(crate) fn close_connections(&mut self, who: Party) {
        *self.net.lives.entry(who).or_default() += 1;
        let of_it = (who, ConnId(0))..=(who, ConnId(u64::MAX));
        let ids: Vec<ConnectionId> = self.net.by_conn.range(of_it).map(|(_, id)| *id).collect();
        for id in ids {
            let at = self.arrival(id);
            self.net.connections[id].dead = true;
            for end in 0..2 {
                match self.net.connections[id].ends[end] {
                    Some(e) if e.who == who => {
                        self.net.connections[id].ends[end] = None;
                        self.net.by_conn.remove(&(e.who, e.conn));
                    }
                    Some(_) => self.sim.push(at, Ev::Fin(id, end)),
                    None => {}
                }
            }
        }
    }

    fn feed_net(&mut self, who: Party, event: Event) {
        match who {
            Party::Node(i) => self.feed(i, Input::Net(event)),
            Party::Peer(i) => C::on_net(self, i, event),
            Party::RawClient => {}
        }
    }

    /// Breaks all connections between two machines. Data in transit is lost. With `half`, only one end
    /// notices before it writes.
    pub(crate) fn break_connections(&mut self, a: Party, b: Party, half: bool) {
        for id in self.net.intact_between(a, b) {
            self.net.connections[id].dead = true;
            let at = self.sim.now() + LATENCY;
            self.sim.push(at, Ev::Fin(id, 0));
            // The end that only reads notices the break by the keep-alive of its system.
            let late = if half { 30 * S } else { 0 };
            self.sim.push(at + late, Ev::Fin(id, 1));
        }
    }

    /// Connects a raw client to a machine under test and sends these bytes.
    pub(crate) fn connect_raw_client(&mut self, node: usize, from: SocketAddr, bytes: Bytes) {
        let host = Party::Node(node);
        let Some(to) = self.net.addresses.get(&host).copied() else { return };
        if !self.hosts[node].is_up() {
            return;
        }
        self.net.accepted += 1;
        let conn = ConnId::accepted(self.net.accepted);
        let opened = ConnId::opened(self.net.accepted);
        let id = self.net.connections.len();
        let life = self.net.life(host);
        let ends = [
            Some(End { who: Party::RawClient, life: 0, conn: opened }),
            Some(End { who: host, life, conn }),
        ];
        let writer = (Party::RawClient, 0);
        self.net.connections.push(Connection {
            ends,
            from: writer,
            to,
            lag: LATENCY,
            next_arrival: 0,
            dead: false,
        });
        self.net.by_conn.insert((Party::RawClient, opened), id);
        self.net.by_conn.insert((host, conn), id);
        self.feed_net(host, Event::Accepted { conn, peer: from });
        let at = self.arrival(id);
        if !bytes.is_empty() {
            self.sim.push(at, Ev::Data(id, bytes));
        }
        let stay = 1 + self.sim.choose(20_000);
        self.sim.push(at + stay * MS, Ev::Fin(id, 0));
        self.sim.push(at + stay * MS, Ev::Fin(id, 1));
    }
}
