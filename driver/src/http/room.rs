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
pub(super) enum Stage {
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
    stage: Stage,
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
            if seat.stage == Stage::Answering {
                self.end(seat);
            }
        }
        let since = self.tick();
        let id = SeatId(since);
        self.place(Seat {
            id,
            origin,
            stage: Stage::Idle,
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
    pub(super) fn set(&mut self, id: SeatId, stage: Stage) {
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
        seat.stage != Stage::Idle || self.entered - seat.entered >= self.max as u64 / 8
    }

    /// Who gives way to a new connection of `origin`, which has `mine` already. An idle connection is of less
    /// use than a new one, also where both addresses have as many; a body that arrives gives way only to
    /// who has less, or to its own address. This node's own give way only to its own, after all others.
    fn who_gives_way(&self, origin: Origin, mine: usize) -> Option<SeatId> {
        if let Some(id) = self.own(origin, |stage| stage == Stage::Ended) {
            return Some(id);
        }
        for stage in [Stage::Ended, Stage::Idle, Stage::Receiving] {
            if let Some(id) = self.stranger(stage, origin, mine) {
                return Some(id);
            }
        }
        // Who asks one thing after another is never idle.
        self.own(origin, |stage| stage != Stage::Answering)
            .or_else(|| self.stranger(Stage::Answering, origin, mine))
            .or_else(|| self.own(origin, |_| true))
    }

    /// Who of this node gives way to this node, at such stages.
    fn own(&self, origin: Origin, is_such: impl Fn(Stage) -> bool) -> Option<SeatId> {
        let own =
            self.seats.iter().filter(|seat| seat.origin == Origin::Own && origin == seat.origin);
        let own = own.filter(|seat| is_such(seat.stage) && self.may_give_way(seat));
        own.min_by_key(|seat| (seat.stage, seat.since)).map(|seat| seat.id)
    }

    /// Who of others than this node gives way at this stage.
    fn stranger(&self, stage: Stage, origin: Origin, mine: usize) -> Option<SeatId> {
        let only_itself = origin != Origin::Own && mine >= self.share();
        let mut best = None;
        for seats in self.seats.chunk_by(|a, b| a.origin == b.origin) {
            let of = seats[0].origin;
            let fair = match origin {
                Origin::Own => true,
                Origin::Foreign(_) if stage <= Stage::Idle => seats.len() >= mine,
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
mod tests {
    use super::*;

    fn at(n: u8) -> Origin {
        Origin::Foreign(IpAddr::from([192, 0, 2, n]))
    }

    fn seat(room: &mut Room<()>, origin: Origin) -> SeatId {
        room.enter(origin, ()).seat.unwrap()
    }

    #[test]
    fn whose_a_connection_is() {
        let of =
            |peer: &str, local: &str| Origin::of(peer.parse().unwrap(), local.parse().unwrap());
        for (peer, local) in [
            ("127.0.0.2", "127.0.0.1"),
            ("::1", "::1"),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(of(peer, local), Origin::Own, "{peer} {local}");
        }
        assert_eq!(of("192.0.2.7", "192.0.2.1"), at(7));
        assert_eq!(of("::ffff:192.0.2.7", "::ffff:192.0.2.1"), at(7));
        let home = of("2001:db8:0:1::7", "2001:db8:0:2::1");
        assert_eq!(home, of("2001:db8:0:1:8000::8", "2001:db8:0:2::1"), "one network");
        assert_ne!(home, of("2001:db8:0:3::7", "2001:db8:0:2::1"));
        assert_ne!(of("2001:db8::2", "2001:db8::1"), Origin::Own, "a neighbour");
    }

    #[test]
    fn an_address_has_a_quarter_and_its_oldest_idle_one_gives_way() {
        let mut room = Room::new(16, 8);
        let seats: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
        room.set(seats[0], Stage::Answering);
        let fifth = room.enter(at(1), ());
        assert_eq!(fifth.gives_way, Some(seats[1]), "the first is being answered");
        assert!(fifth.seat.is_some());
        assert_eq!(room.enter(at(2), ()).gives_way, None, "there is room for others");
        // What was asked and answered makes an idle connection young again.
        room.set(seats[2], Stage::Answering);
        room.set(seats[2], Stage::Idle);
        assert_eq!(room.enter(at(1), ()).gives_way, Some(seats[3]));
    }

    #[test]
    fn strangers_leave_room_for_this_node() {
        let mut room = Room::new(16, 8);
        for n in 0..12 {
            let id = seat(&mut room, at(n));
            room.set(id, Stage::Answering);
        }
        let mut ending = Vec::new();
        for n in 0..4 {
            ending.extend(room.enter(at(99), ()).gives_way);
            assert_eq!(ending.len(), n + 1, "one that is answered ends after that");
            let newest = room.seats.iter().max_by_key(|seat| seat.since).unwrap().id;
            room.set(newest, Stage::Answering);
        }
        // So many may end; of more the first are not waited for.
        assert!(room.enter(at(99), ()).seat.is_some());
        assert_eq!(room.ending.iter().map(|seat| seat.id).collect::<Vec<_>>()[..3], ending[1..]);
        room.leave(ending[1]);
        assert_eq!((room.ending.len(), room.len()), (3, 12));
        for _ in 0..4 {
            assert_eq!(room.enter(Origin::Own, ()).gives_way, None);
        }
        assert_eq!(room.len(), 16);
        assert!(room.enter(Origin::Own, ()).gives_way.is_some(), "its own idle one");
    }

    #[test]
    fn the_greediest_gives_way_to_who_has_less() {
        let mut room = Room::new(16, 8);
        let many: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
        for n in 2..10 {
            let _ = seat(&mut room, at(n));
        }
        assert_eq!(room.enter(at(10), ()).gives_way, Some(many[0]));
        assert_eq!(room.enter(Origin::Own, ()).gives_way, None);
        // Bodies that arrive give way where nobody is idle, and not to who has as much.
        let mut room = Room::new(4, 8);
        let slow: Vec<_> = (1..4).map(|n| seat(&mut room, at(n))).collect();
        slow.iter().for_each(|id| room.set(*id, Stage::Receiving));
        assert_eq!(room.enter(at(9), ()).gives_way, Some(slow[0]));
        assert_eq!(room.enter(at(2), ()).gives_way, Some(slow[1]), "its own");
    }

    #[test]
    fn this_node_takes_the_room_of_strangers_before_its_own() {
        let mut room = Room::new(8, 8);
        let own = seat(&mut room, Origin::Own);
        let strangers: Vec<_> = (0..6).map(|n| seat(&mut room, at(n))).collect();
        let _ = seat(&mut room, Origin::Own);
        assert_eq!(room.enter(Origin::Own, ()).gives_way, Some(strangers[0]));
        strangers.iter().for_each(|id| room.set(*id, Stage::Answering));
        assert_eq!(room.enter(Origin::Own, ()).gives_way, Some(own));
    }

    #[test]
    fn who_shows_the_token_counts_as_this_node() {
        let mut room = Room::new(8, 8);
        let proven = seat(&mut room, at(1));
        room.prove(proven);
        room.prove(proven);
        assert_eq!((room.count(Origin::Own), room.count(at(1))), (1, 0));
        for _ in 0..4 {
            assert_ne!(room.enter(at(1), ()).gives_way, Some(proven));
        }
        room.leave(proven);
        room.leave(proven);
        assert_eq!((room.count(Origin::Own), room.len()), (0, 2));
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let mut room = Room::new(64, 8);
        for round in 0..1000_u32 {
            let origin = if round % 7 == 0 { Origin::Own } else { at((round % 50) as u8) };
            let Some(id) = room.enter(origin, ()).seat else { continue };
            match round % 3 {
                0 => room.set(id, Stage::Receiving),
                1 => room.set(id, Stage::Answering),
                _ => {}
            }
            if round % 2 == 0 {
                room.leave(id);
            }
            assert!(room.len() <= 64);
        }
        let all: Vec<_> = room.seats.iter().map(|seat| seat.id).collect();
        all.into_iter().for_each(|id| room.leave(id));
        assert_eq!(room.len(), 0, "{room:?}");
    }

    #[test]
    fn who_has_just_come_is_not_sent_away_at_once() {
        let mut room = Room::new(64, 8);
        for _ in 0..64 {
            let id = seat(&mut room, Origin::Own);
            room.set(id, Stage::Answering);
        }
        let new = room.enter(Origin::Own, ()).seat.unwrap();
        for _ in 0..7 {
            assert_ne!(room.enter(Origin::Own, ()).gives_way, Some(new));
        }
        assert_eq!(room.enter(Origin::Own, ()).gives_way, Some(new));
    }

    #[test]
    fn who_waits_for_the_core_keeps_nobody_out() {
        for origin in [Origin::Own, at(1)] {
            let mut room = Room::new(8, 8);
            let mut calls = Vec::new();
            for _ in 0..40 {
                let call = std::rc::Rc::new(());
                calls.push(std::rc::Rc::downgrade(&call));
                let id = room.enter(origin, call).seat.expect("a seat, whoever waits");
                room.set(id, Stage::Answering);
            }
            // Of those that gave way the last ones are still answered.
            let left = calls.iter().filter(|call| call.strong_count() > 0).count();
            assert_eq!(left, room.len() + room.share(), "{origin:?}");
            assert!(calls[..20].iter().all(|call| call.strong_count() == 0));
            assert!(room.enter(Origin::Own, std::rc::Rc::new(())).seat.is_some());
        }
    }

    #[test]
    fn who_has_said_its_last_gives_way_first_and_at_once() {
        let mut room = Room::new(8, 8);
        let own: Vec<_> = (0..8).map(|_| seat(&mut room, Origin::Own)).collect();
        own.iter().for_each(|id| room.set(*id, Stage::Answering));
        room.set(own[5], Stage::Ended);
        assert_eq!(room.enter(Origin::Own, ()).gives_way, Some(own[5]));
        assert!(room.ending.is_empty() && !room.has(own[5]));
        let mut room = Room::new(16, 8);
        let seats: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
        room.set(seats[3], Stage::Answering);
        room.set(seats[3], Stage::Ended);
        assert_eq!(room.enter(at(1), ()).gives_way, Some(seats[3]), "before the idle ones");
    }

    #[test]
    fn answers_that_stay_open_have_room_of_their_own() {
        let mut room = Room::new(4, 8);
        let mut begins = |origin| {
            let id = seat(&mut room, origin);
            let begun = room.stream(id);
            if !begun {
                room.leave(id);
            }
            assert_eq!(room.has(id), begun);
            begun.then_some(id)
        };
        assert!(begins(at(1)).is_some() && begins(at(1)).is_some());
        assert!(begins(at(1)).is_none(), "a quarter is an address's");
        assert!((2..6).all(|n| begins(at(n)).is_some()));
        assert!(begins(at(9)).is_none(), "a quarter is this node's");
        let own = begins(Origin::Own).unwrap();
        assert!(begins(Origin::Own).is_some() && begins(Origin::Own).is_none());
        assert_eq!((room.streams(), room.len()), (8, 0), "no connection is kept out");
        for _ in 0..100 {
            let _ = room.enter(Origin::Own, ());
        }
        assert!(room.has(own), "nobody gives way");
        room.leave(own);
        assert_eq!(room.streams(), 7);
    }

    #[test]
    fn the_smallest_room_has_room_for_one() {
        let mut room = Room::new(1, 8);
        let first = seat(&mut room, at(1));
        assert_eq!(room.enter(at(2), ()).gives_way, Some(first));
        assert!(room.enter(Origin::Own, ()).seat.is_some());
        assert_eq!(room.len(), 1);
    }
}
