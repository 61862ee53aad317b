//! The connections between a server, a process and strangers, and the permitted operations on them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::net::{Command, Event};

/// The party at one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Server,
    Process,
    RawClient,
}

impl Party {
    /// Returns the listening address of the party.
    pub(super) fn addr(self) -> SocketAddr {
        let host = match self {
            Self::Server => 1,
            Self::Process => 2,
            Self::RawClient => 3,
        };
        SocketAddr::from(([10, 0, 0, host], 22_000 + u16::from(host)))
    }
}

/// A connection: the opening end and the accepting end.
struct Wire {
    ends: [Option<(Party, ConnId)>; 2],
    up: bool,
    /// The number of written bytes without a report yet.
    unwritten: usize,
}

/// All connections.
#[derive(Default)]
pub(super) struct Tcp {
    wires: Vec<Wire>,
    accepted: u64,
    /// The pending events, each with its receiver.
    pub(super) events: VecDeque<(Party, Event)>,
    /// No party reads.
    pub(super) stalled: bool,
}

/// The maximum number of connections of strangers and a peer with a machine at a time.
const WIRES: usize = 40;

impl Tcp {
    /// Connects a raw client to `to`. Its address may belong to another party.
    pub(super) fn connect_raw_client(&mut self, to: Party, from: Party) {
        if self.wires.len() < WIRES {
            let conn = self.accept(to, from.addr());
            self.wires.push(Wire { ends: [None, Some((to, conn))], up: true, unwritten: 0 });
        }
    }

    fn accept(&mut self, who: Party, from: SocketAddr) -> ConnId {
        self.accepted += 1;
        let conn = ConnId::accepted(self.accepted);
        self.events
            .push_back((who, Event::Accepted { conn, peer: SocketAddr::new(from.ip(), 40_000) }));
        conn
    }

    /// Delivers bytes on the connection of this number.
    pub(super) fn write(&mut self, wire: usize, bytes: Bytes) {
        let reader = self.wires.get(wire).and_then(|wire| wire.ends[1]);
        if let Some((who, conn)) = reader.filter(|_| !bytes.is_empty()) {
            self.events.push_back((who, Event::Received { conn, bytes }));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.wires.len()
    }

    /// Breaks the connection of this number.
    pub(super) fn break_wire(&mut self, wire: usize) {
        if wire < self.wires.len() {
            let Wire { ends, .. } = self.wires.remove(wire);
            for (who, conn) in ends.into_iter().flatten() {
                self.events.push_back((who, Event::Closed { conn }));
            }
        }
    }

    /// Closes all connections of `who` after its end without a message.
    pub(super) fn close_wires(&mut self, who: Party) {
        self.events.retain(|(to, _)| *to != who);
        while let Some(wire) = self
            .wires
            .iter()
            .position(|wire| wire.ends.iter().flatten().any(|(end, _)| *end == who))
        {
            let ends = &mut self.wires[wire].ends;
            ends.iter_mut()
                .filter(|end| end.is_some_and(|(end, _)| end == who))
                .for_each(|end| *end = None);
            self.break_wire(wire);
        }
    }

    /// Ends the stall: written bytes are accepted again.
    pub(super) fn flow(&mut self) {
        self.stalled = false;
        for wire in &mut self.wires {
            let unwritten = std::mem::take(&mut wire.unwritten);
            let bytes = u32::try_from(unwritten).expect("a backlog is small");
            if let (Some((who, conn)), 1..) = (wire.ends[0], bytes) {
                self.events.push_back((who, Event::Written { conn, bytes }));
            }
        }
    }

    fn opened_by(&self, who: Party, conn: ConnId) -> Option<usize> {
        self.wires.iter().position(|wire| wire.ends[0] == Some((who, conn)))
    }

    /// Executes a machine's command for its connections. Returns the written bytes, with the connection that
    /// they are for.
    pub(super) fn command(
        &mut self,
        who: Party,
        command: Command,
        backlog: usize,
    ) -> Option<(usize, Bytes)> {
        match command {
            Command::Connect { conn, to, .. } => {
                assert!(
                    !conn.is_accepted() && self.opened_by(who, conn).is_none(),
                    "{conn} is new"
                );
                let other = [Party::Server, Party::Process, Party::RawClient]
                    .into_iter()
                    .find(|other| other.addr() == to);
                let mut wire = Wire { ends: [Some((who, conn)), None], up: false, unwritten: 0 };
                match other {
                    Some(Party::RawClient) => {}
                    Some(other) if other != who => {
                        wire.ends[1] = Some((other, self.accept(other, who.addr())));
                    }
                    _ => {
                        self.events.push_back((who, Event::Closed { conn }));
                        return None;
                    }
                }
                self.wires.push(wire);
                self.events.push_back((who, Event::Connected { conn }));
                None
            }
            Command::Write { conn, segments } => {
                // The other end may have closed the connection meanwhile.
                let wire = self.opened_by(who, conn)?;
                let bytes = Bytes::from(segments.concat());
                let Wire { up, unwritten, .. } = &mut self.wires[wire];
                assert!(*up, "nothing is written before a connection is up");
                *unwritten += bytes.len();
                assert!(*unwritten <= backlog, "what is not read is bounded");
                if !self.stalled {
                    self.flow();
                }
                Some((wire, bytes))
            }
            Command::Close { conn } => {
                let end = usize::from(conn.is_accepted());
                let wire = self.wires.iter().position(|wire| wire.ends[end] == Some((who, conn)));
                match wire {
                    Some(wire) => self.break_wire(wire),
                    None => {
                        let told = (who, Event::Closed { conn });
                        assert!(self.events.contains(&told), "only what is open is closed");
                    }
                }
                None
            }
            // A close is complete at once.
            Command::Cut { .. } => None,
        }
    }

    /// Observes an event at its receiver. A connection is up from the moment that its opener receives the
    /// event.
    pub(super) fn on_event(&mut self, who: Party, event: &Event) {
        if let Event::Connected { conn } = event
            && let Some(wire) = self.opened_by(who, *conn)
        {
            self.wires[wire].up = true;
        }
    }
}
