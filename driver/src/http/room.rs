//! Admission and eviction of connections at the HTTP port: decisions only, without sockets or clocks.
//!
//! Every connection is accepted first and then admitted or closed. A quarter of the room is reserved for this
//! node and for clients with the token. Each other address may have a quarter at most. If the part for the
//! others is full, the oldest idle connection is evicted, of the address that has the most. Connections whose
//! client has closed its side are evicted before all others: mostly the client is gone.
//!
//! Connections with a streaming response have a room of their own. It is shared in the same way, but without
//! evictions: if it is full, a new stream is refused.

use std::net::{IpAddr, Ipv6Addr};

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// This node, or a client with the token.
    Own,
    /// Another address; of IPv6 its first 64 bits, which is the prefix of one host.
    Foreign(IpAddr),
}

impl Origin {
    /// Returns the origin for the two ends of a connection. A client that connects to an address of this node
    /// from that same address is on this node, and so is a client with a loopback address.
    #[must_use]
    pub fn of(peer: IpAddr, local: IpAddr) -> Self {
        let (peer, local) = (peer.to_canonical(), local.to_canonical());
        if peer.is_loopback() || peer == local {
            return Self::Own;
        }
        Self::Foreign(match peer {
            IpAddr::V6(whole) => {
                let network = whole.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The id of a connection in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeatId(u64);

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SeatState {
    /// The core has the request, and the client has closed its side. The client may be gone or wait for the
    /// response, which cannot be told apart before the response is written.
    Ended,
    /// No complete head has arrived: before, within or after a request. Its eviction costs the least.
    Idle,
    /// A body is arriving.
    Receiving,
    /// The core has the request. If few such connections have been evicted, it is still answered and then
    /// closed.
    Answering,
}

/// The decision about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The seat of the new connection; `None` if there is no room.
    pub(super) seat: Option<SeatId>,
    /// The connection that is evicted for the new one and has to be closed.
    pub(super) gives_way: Option<SeatId>,
}

#[derive(Debug)]
struct Seat<C> {
    id: SeatId,
    origin: Origin,
    state: SeatState,
    since: u64,
    /// The number of connections that had entered before this one became idle.
    entered: u64,
    _call: C,
}

/// The connections. Each has a `C` here, which is dropped at its eviction.
#[derive(Debug)]
pub(super) struct Room<C> {
    max: usize,
    /// The seats, sorted by origin.
    seats: Vec<Seat<C>>,
    /// The evicted connections that are still being answered, the oldest first. They take no room.
    ending: Vec<Seat<C>>,
    /// The connections with a streaming response.
    streams: Vec<Seat<C>>,
    streams_max: usize,
    next: u64,
    entered: u64,
}

impl<C> Room<C> {
    /// Creates room for `max` connections, and for `streams_max` more with a streaming response.
    #[must_use]
    pub(super) fn new(max: usize, streams_max: usize) -> Self {
        let (seats, ending, streams) = (Vec::new(), Vec::new(), Vec::new());
        Self { max, seats, ending, streams, streams_max, next: 0, entered: 0 }
    }

    /// Returns the number of connections.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Returns the number of connections with a streaming response.
    #[must_use]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns the maximum for all clients other than this node.
    fn foreign_max(&self) -> usize {
        self.max - self.max / 4
    }

    /// Returns the maximum for one address other than this node's.
    fn share(&self) -> usize {
        (self.max / 4).max(1)
    }

    fn count(&self, origin: Origin) -> usize {
        self.seats.iter().filter(|seat| seat.origin == origin).count()
    }

    /// Decides about a new connection.
    pub(super) fn enter(&mut self, origin: Origin, call: C) -> Entry {
        self.entered += 1;
        let (all, own) = (self.seats.len(), self.count(Origin::Own));
        let of_origin = self.count(origin);
        let is_foreign = origin != Origin::Own;
        let is_full = all >= self.max
            || is_foreign && (all - own >= self.foreign_max() || of_origin >= self.share());
        let gives_way = if is_full { self.who_gives_way(origin, of_origin) } else { None };
        if is_full && gives_way.is_none() {
            return Entry { seat: None, gives_way };
        }
        if let Some(at) = gives_way.and_then(|id| self.find(id)) {
            let seat = self.seats.remove(at);
            if seat.state == SeatState::Answering {
                self.end(seat);
            }
        }
        let since = self.tick();
        let id = SeatId(since);
        self.place(Seat {
            id,
            origin,
            state: SeatState::Idle,
            since,
            entered: self.entered,
            _call: call,
        });
        Entry { seat: Some(id), gives_way }
    }

    /// Keeps an evicted connection until it is answered. If there are too many, the oldest is dropped, a
    /// foreign one if there is one.
    fn end(&mut self, seat: Seat<C>) {
        if self.ending.len() >= self.share() {
            let stranger = self.ending.iter().position(|seat| seat.origin != Origin::Own);
            self.ending.remove(stranger.unwrap_or(0));
        }
        self.ending.push(seat);
    }

    /// Returns whether the connection is in the room, and not evicted.
    #[must_use]
    pub(super) fn has(&self, id: SeatId) -> bool {
        self.find(id).is_some() || self.streams.iter().any(|seat| seat.id == id)
    }

    /// Moves the connection to the streams, if there is room and it has not been evicted; returns whether it
    /// did.
    pub(super) fn stream(&mut self, id: SeatId) -> bool {
        let Some(at) = self.find(id) else { return false };
        let (all, origin) = (self.streams.len(), self.seats[at].origin);
        let of = |origin| self.streams.iter().filter(|seat| seat.origin == origin).count();
        let share = (self.streams_max / 4).max(1);
        let foreign_max = self.streams_max - self.streams_max / 4;
        let is_full = all >= self.streams_max
            || origin != Origin::Own
                && (of(origin) >= share || all - of(Origin::Own) >= foreign_max);
        if is_full {
            return false;
        }
        let seat = self.seats.remove(at);
        self.streams.push(seat);
        true
    }

    /// Sets the state of a connection.
    pub(super) fn set(&mut self, id: SeatId, stage: SeatState) {
        let since = self.tick();
        if let Some(at) = self.find(id) {
            self.seats[at].state = stage;
            self.seats[at].since = since;
            self.seats[at].entered = self.entered;
        }
    }

    /// Records that the client has sent the token.
    pub(super) fn prove(&mut self, id: SeatId) {
        if let Some(at) = self.find(id) {
            let seat = self.seats.remove(at);
            self.place(Seat { origin: Origin::Own, ..seat });
        }
    }

    /// Removes a connection that has ended. An evicted one has been removed already, which is no error.
    pub(super) fn leave(&mut self, id: SeatId) {
        if let Some(at) = self.find(id) {
            self.seats.remove(at);
        }
        self.ending.retain(|other| other.id != id);
        if let Some(at) = self.streams.iter().position(|seat| seat.id == id) {
            self.streams.swap_remove(at);
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn find(&self, id: SeatId) -> Option<usize> {
        self.seats.iter().position(|seat| seat.id == id)
    }

    fn place(&mut self, seat: Seat<C>) {
        let at = self.seats.partition_point(|other| other.origin <= seat.origin);
        self.seats.insert(at, seat);
    }

    /// Returns whether the connection may be evicted in its state. One that has just connected or become idle
    /// is exempt, since its bytes have not been read yet: a listener accepts up to 64 connections in one
    /// turn, which equals this limit for the default of 512 connections.
    fn may_give_way(&self, seat: &Seat<C>) -> bool {
        seat.state != SeatState::Idle || self.entered - seat.entered >= self.max as u64 / 8
    }

    /// Returns the connection to evict for a new one of `origin`, which has `mine` connections already.
    ///
    /// An idle connection is worth less than a new one, even if both addresses have equally many. A
    /// connection with an arriving body is evicted only for an address with fewer connections, or for its own
    /// address. Connections of this node are evicted only for this node, after all others.
    fn who_gives_way(&self, origin: Origin, mine: usize) -> Option<SeatId> {
        if let Some(id) = self.own(origin, |stage| stage == SeatState::Ended) {
            return Some(id);
        }
        for stage in [SeatState::Ended, SeatState::Idle, SeatState::Receiving] {
            if let Some(id) = self.stranger(stage, origin, mine) {
                return Some(id);
            }
        }
        // A client that sends one request after another is never idle, so other states are considered too.
        self.own(origin, |stage| stage != SeatState::Answering)
            .or_else(|| self.stranger(SeatState::Answering, origin, mine))
            .or_else(|| self.own(origin, |_| true))
    }

    /// Returns the connection of this node to evict for this node, among those in matching states.
    fn own(&self, origin: Origin, is_such: impl Fn(SeatState) -> bool) -> Option<SeatId> {
        let own =
            self.seats.iter().filter(|seat| seat.origin == Origin::Own && origin == seat.origin);
        let own = own.filter(|seat| is_such(seat.state) && self.may_give_way(seat));
        own.min_by_key(|seat| (seat.state, seat.since)).map(|seat| seat.id)
    }

    /// Returns the connection of another client to evict, among those in this state.
    fn stranger(&self, stage: SeatState, origin: Origin, mine: usize) -> Option<SeatId> {
        let only_itself = origin != Origin::Own && mine >= self.share();
        let mut best = None;
        for seats in self.seats.chunk_by(|a, b| a.origin == b.origin) {
            let of = seats[0].origin;
            let fair = match origin {
                Origin::Own => true,
                Origin::Foreign(_) if stage <= SeatState::Idle => seats.len() >= mine,
                Origin::Foreign(_) => seats.len() > mine,
            };
            let may = of != Origin::Own && (of == origin || fair && !only_itself);
            let waiting =
                seats.iter().filter(|seat| seat.state == stage && self.may_give_way(seat));
            if let Some(oldest) = waiting.min_by_key(|seat| seat.since).filter(|_| may) {
                let rank = (seats.len(), std::cmp::Reverse(oldest.since));
                if best.is_none_or(|(other, _)| rank > other) {
                    best = Some((rank, oldest.id));
                }
            }
        }
        best.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests;
