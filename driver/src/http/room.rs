//! Who has a connection at the HTTP port, and who gives way when there are too many: decisions only,
//! without sockets or clocks.
//!
//! A connection is always accepted and then decided on. This node itself, and who has shown the token,
//! has a quarter of the room to itself. Of the others each address has a quarter at most, and when all
//! that they may have is taken, the oldest connection on which nothing is asked gives way, of the address
//! that has the most. Before all others those give way whose client has said its last: mostly it is gone.
//!
//! Connections with an answer that stays open have a room of their own, shared out in the same way, in which
//! nobody gives way: whoever finds it full is refused.

use std::net::{IpAddr, Ipv6Addr};

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// This node's, or of one who has shown the token.
    Own,
    /// Of another address; of IPv6 its first 64 bits, which is what one host has to itself.
    Foreign(IpAddr),
}

impl Origin {
    /// By the two ends of a connection. Who reaches an address of this node from that same address is on
    /// this node, and so is a loopback address.
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

/// Names a connection in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeatId(u64);

/// What is going on on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SeatState {
    /// The core has the request, and the client's side has ended. It may be gone or wait for the answer,
    /// which nobody can tell before that is written.
    Ended,
    /// No whole head has come: before, within or after a request. It loses the least by giving way.
    Idle,
    /// A body is arriving.
    Receiving,
    /// The core has the request. While few have given way so, it is answered all the same and ends then.
    Answering,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// It has a seat; else there is no room for it.
    pub(super) seat: Option<SeatId>,
    /// It has the seat of this one, which is to be ended.
    pub(super) gives_way: Option<SeatId>,
}

#[derive(Debug)]
struct Seat<C> {
    id: SeatId,
    origin: Origin,
    stage: SeatState,
    since: u64,
    /// How many had entered then.
    entered: u64,
    _call: C,
}

/// The connections. Each has a `C` here, which is dropped when it has to give way.
#[derive(Debug)]
pub(super) struct Room<C> {
    max: usize,
    /// By their origins.
    seats: Vec<Seat<C>>,
    /// Who has given way and is still being answered, the oldest first. They keep nobody out.
    ending: Vec<Seat<C>>,
    /// Who has an answer that stays open.
    streams: Vec<Seat<C>>,
    streams_max: usize,
    next: u64,
    entered: u64,
}

impl<C> Room<C> {
    /// Room for `max` connections, and `streams_max` more with an answer that stays open.
    #[must_use]
    pub(super) fn new(max: usize, streams_max: usize) -> Self {
        let (seats, ending, streams) = (Vec::new(), Vec::new(), Vec::new());
        Self { max, seats, ending, streams, streams_max, next: 0, entered: 0 }
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// How many have an answer that stays open.
    #[must_use]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What others than this node may have together.
    fn foreign_max(&self) -> usize {
        self.max - self.max / 4
    }

    /// What one of their addresses may have.
    fn share(&self) -> usize {
        (self.max / 4).max(1)
    }

    fn count(&self, origin: Origin) -> usize {
        self.seats.iter().filter(|seat| seat.origin == origin).count()
    }

    /// A new connection.
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
            if seat.stage == SeatState::Answering {
                self.end(seat);
            }
        }
        let since = self.tick();
        let id = SeatId(since);
        self.place(Seat {
            id,
            origin,
            stage: SeatState::Idle,
            since,
            entered: self.entered,
            _call: call,
        });
        Entry { seat: Some(id), gives_way }
    }

    /// Lets one end that is being answered. Of too many the oldest is not waited for, of strangers if there
    /// are any.
    fn end(&mut self, seat: Seat<C>) {
        if self.ending.len() >= self.share() {
            let stranger = self.ending.iter().position(|seat| seat.origin != Origin::Own);
            self.ending.remove(stranger.unwrap_or(0));
        }
        self.ending.push(seat);
    }

    /// Whether it has its place, and not given way.
    #[must_use]
    pub(super) fn has(&self, id: SeatId) -> bool {
        self.find(id).is_some() || self.streams.iter().any(|seat| seat.id == id)
    }

    /// Its answer stays open from now on, if there is room for it and it has not given way.
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

    /// What is going on has changed.
    pub(super) fn set(&mut self, id: SeatId, stage: SeatState) {
        let since = self.tick();
        if let Some(at) = self.find(id) {
            self.seats[at].stage = stage;
            self.seats[at].since = since;
            self.seats[at].entered = self.entered;
        }
    }

    /// It has shown the token.
    pub(super) fn prove(&mut self, id: SeatId) {
        if let Some(at) = self.find(id) {
            let seat = self.seats.remove(at);
            self.place(Seat { origin: Origin::Own, ..seat });
        }
    }

    /// It has ended. One that has given way is not there any more, which is no error.
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

    /// Whether it may give way at its stage. One that has just come, or become idle, has not been looked at
    /// yet: a listener takes up to 64 connections in one turn, as many as this is of the default of 512.
    fn may_give_way(&self, seat: &Seat<C>) -> bool {
        seat.stage != SeatState::Idle || self.entered - seat.entered >= self.max as u64 / 8
    }

    /// Who gives way to a new connection of `origin`, which has `mine` already. An idle connection is of less
    /// use than a new one, also where both addresses have as many; a body that arrives gives way only to
    /// who has less, or to its own address. This node's own give way only to its own, after all others.
    fn who_gives_way(&self, origin: Origin, mine: usize) -> Option<SeatId> {
        if let Some(id) = self.own(origin, |stage| stage == SeatState::Ended) {
            return Some(id);
        }
        for stage in [SeatState::Ended, SeatState::Idle, SeatState::Receiving] {
            if let Some(id) = self.stranger(stage, origin, mine) {
                return Some(id);
            }
        }
        // Who asks one thing after another is never idle.
        self.own(origin, |stage| stage != SeatState::Answering)
            .or_else(|| self.stranger(SeatState::Answering, origin, mine))
            .or_else(|| self.own(origin, |_| true))
    }

    /// Who of this node gives way to this node, at such stages.
    fn own(&self, origin: Origin, is_such: impl Fn(SeatState) -> bool) -> Option<SeatId> {
        let own =
            self.seats.iter().filter(|seat| seat.origin == Origin::Own && origin == seat.origin);
        let own = own.filter(|seat| is_such(seat.stage) && self.may_give_way(seat));
        own.min_by_key(|seat| (seat.stage, seat.since)).map(|seat| seat.id)
    }

    /// Who of others than this node gives way at this stage.
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
                seats.iter().filter(|seat| seat.stage == stage && self.may_give_way(seat));
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
