//! Who has a connection at the HTTP port, and who gives way when there are too many: decisions only,
//! without sockets or clocks.
//!
//! A connection is always accepted and then decided on. This node itself, and who has shown the token,
//! has a quarter of the room to itself. Of the others each address has a quarter at most, and when all
//! that they may have is taken, the oldest connection on which nothing is asked gives way, of the address
//! that has the most.

use std::collections::BTreeMap;
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
    /// No whole head has come: before, within or after a request. It loses the least by giving way.
    Idle,
    /// A body is arriving.
    Receiving,
    /// The core has the request. It does not give way.
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

#[derive(Clone, Copy, Debug)]
struct Seat {
    origin: Origin,
    stage: Stage,
    since: u64,
}

/// What one origin has.
#[derive(Debug, Default)]
struct Held {
    seats: usize,
    /// Who may give way, the oldest first: at the stages `Idle` and `Receiving`.
    waiting: [BTreeMap<u64, SeatId>; 2],
}

/// The connections.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    seats: BTreeMap<SeatId, Seat>,
    origins: BTreeMap<Origin, Held>,
    next: u64,
}

impl Room {
    /// Room for `max` connections.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        Self { max, seats: BTreeMap::new(), origins: BTreeMap::new(), next: 0 }
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.seats.len()
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
        self.origins.get(&origin).map_or(0, |held| held.seats)
    }

    fn foreign(&self) -> usize {
        self.seats.len() - self.count(Origin::Own)
    }

    /// A new connection.
    pub(super) fn enter(&mut self, origin: Origin) -> Entry {
        let is_full = match origin {
            Origin::Own => self.seats.len() >= self.max,
            Origin::Foreign(_) => {
                self.count(origin) >= self.share()
                    || self.foreign() >= self.foreign_max()
                    || self.seats.len() >= self.max
            }
        };
        let gives_way = if is_full { self.who_gives_way(origin) } else { None };
        if is_full && gives_way.is_none() {
            return Entry { seat: None, gives_way };
        }
        if let Some(seat) = gives_way {
            self.leave(seat);
        }
        let id = SeatId(self.tick());
        let seat = Seat { origin, stage: Stage::Idle, since: id.0 };
        self.seats.insert(id, seat);
        self.origins.entry(origin).or_default().seats += 1;
        self.place(id, seat);
        Entry { seat: Some(id), gives_way }
    }

    /// What is going on has changed.
    pub(super) fn set(&mut self, id: SeatId, stage: Stage) {
        self.change(id, |seat| seat.stage = stage);
    }

    /// It has shown the token.
    pub(super) fn prove(&mut self, id: SeatId) {
        let from = self.seats.get(&id).map(|seat| seat.origin);
        let Some(from @ Origin::Foreign(_)) = from else { return };
        self.release(from);
        self.origins.entry(Origin::Own).or_default().seats += 1;
        self.change_from(id, from, |seat| seat.origin = Origin::Own);
    }

    /// It has ended. One that has given way is not there any more, which is no error.
    pub(super) fn leave(&mut self, id: SeatId) {
        if let Some(seat) = self.seats.remove(&id) {
            self.unplace(seat.origin, seat);
            self.release(seat.origin);
        }
    }

    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn change(&mut self, id: SeatId, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.seats.get(&id) {
            self.change_from(id, seat.origin, change);
        }
    }

    fn change_from(&mut self, id: SeatId, origin: Origin, change: impl FnOnce(&mut Seat)) {
        let since = self.tick();
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let before = *seat;
        change(seat);
        seat.since = since;
        let after = *seat;
        self.unplace(origin, before);
        self.place(id, after);
    }

    fn place(&mut self, id: SeatId, seat: Seat) {
        if let Some(held) = self.origins.get_mut(&seat.origin)
            && let Some(waiting) = held.waiting.get_mut(seat.stage as usize)
        {
            waiting.insert(seat.since, id);
        }
    }

    fn unplace(&mut self, origin: Origin, seat: Seat) {
        if let Some(held) = self.origins.get_mut(&origin)
            && let Some(waiting) = held.waiting.get_mut(seat.stage as usize)
        {
            waiting.remove(&seat.since);
        }
    }

    fn release(&mut self, origin: Origin) {
        if let Some(held) = self.origins.get_mut(&origin) {
            held.seats -= 1;
            // Of an address that has nothing here, nothing is kept.
            if held.seats == 0 {
                self.origins.remove(&origin);
            }
        }
    }

    /// Who gives way to a new connection of `origin`. An idle connection is of less use than a new one, also
    /// where both addresses have as many; a body that arrives gives way only to who has less, or to
    /// its own address.
    fn who_gives_way(&self, origin: Origin) -> Option<SeatId> {
        let own = self.count(origin);
        let only_itself = origin != Origin::Own && own >= self.share();
        for stage in [Stage::Idle, Stage::Receiving] {
            let oldest =
                |held: &Held| held.waiting[stage as usize].iter().next().map(|(s, i)| (*s, *i));
            let may = |(of, held): &(&Origin, &Held)| {
                let fair = match (stage, origin) {
                    (_, Origin::Own) => **of != Origin::Own,
                    (Stage::Idle, _) => held.seats >= own,
                    _ => held.seats > own,
                };
                **of == origin && origin != Origin::Own
                    || **of != Origin::Own && fair && !only_itself
            };
            let greediest = self.origins.iter().filter(may).filter_map(|(_, held)| {
                let (since, id) = oldest(held)?;
                Some((held.seats, std::cmp::Reverse(since), id))
            });
            if let Some((.., id)) = greediest.max() {
                return Some(id);
            }
        }
        // This node's own connections make room among themselves.
        let held = self.origins.get(&Origin::Own).filter(|_| origin == Origin::Own)?;
        held.waiting.iter().find_map(|waiting| waiting.values().next().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> Origin {
        Origin::Foreign(IpAddr::from([192, 0, 2, n]))
    }

    fn seat(room: &mut Room, origin: Origin) -> SeatId {
        room.enter(origin).seat.unwrap()
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
        let mut room = Room::new(16);
        let seats: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
        room.set(seats[0], Stage::Answering);
        let fifth = room.enter(at(1));
        assert_eq!(fifth.gives_way, Some(seats[1]), "the first is being answered");
        assert!(fifth.seat.is_some());
        assert_eq!(room.enter(at(2)).gives_way, None, "there is room for others");
        // What was asked and answered makes an idle connection young again.
        room.set(seats[2], Stage::Answering);
        room.set(seats[2], Stage::Idle);
        assert_eq!(room.enter(at(1)).gives_way, Some(seats[3]));
    }

    #[test]
    fn strangers_leave_room_for_this_node() {
        let mut room = Room::new(16);
        for n in 0..12 {
            let id = seat(&mut room, at(n));
            room.set(id, Stage::Answering);
        }
        let refused = Entry { seat: None, gives_way: None };
        assert_eq!(room.enter(at(99)), refused, "nobody can give way");
        for _ in 0..4 {
            assert_eq!(room.enter(Origin::Own).gives_way, None);
        }
        assert_eq!(room.len(), 16);
        assert!(room.enter(Origin::Own).gives_way.is_some(), "its own idle one");
    }

    #[test]
    fn the_greediest_gives_way_to_who_has_less() {
        let mut room = Room::new(16);
        let many: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
        for n in 2..10 {
            let _ = seat(&mut room, at(n));
        }
        assert_eq!(room.enter(at(10)).gives_way, Some(many[0]));
        assert_eq!(room.enter(Origin::Own).gives_way, None);
        // Bodies that arrive give way where nobody is idle, and not to who has as much.
        let mut room = Room::new(4);
        let slow: Vec<_> = (1..4).map(|n| seat(&mut room, at(n))).collect();
        slow.iter().for_each(|id| room.set(*id, Stage::Receiving));
        assert_eq!(room.enter(at(9)).gives_way, Some(slow[0]));
        assert_eq!(room.enter(at(2)).gives_way, Some(slow[1]), "its own");
    }

    #[test]
    fn this_node_takes_the_room_of_strangers_before_its_own() {
        let mut room = Room::new(8);
        let own = seat(&mut room, Origin::Own);
        let strangers: Vec<_> = (0..6).map(|n| seat(&mut room, at(n))).collect();
        let _ = seat(&mut room, Origin::Own);
        assert_eq!(room.enter(Origin::Own).gives_way, Some(strangers[0]));
        strangers.iter().for_each(|id| room.set(*id, Stage::Answering));
        assert_eq!(room.enter(Origin::Own).gives_way, Some(own));
    }

    #[test]
    fn who_shows_the_token_counts_as_this_node() {
        let mut room = Room::new(8);
        let proven = seat(&mut room, at(1));
        room.prove(proven);
        room.prove(proven);
        assert_eq!((room.count(Origin::Own), room.count(at(1))), (1, 0));
        for _ in 0..4 {
            assert_ne!(room.enter(at(1)).gives_way, Some(proven));
        }
        room.leave(proven);
        room.leave(proven);
        assert_eq!((room.count(Origin::Own), room.len()), (0, 2));
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let mut room = Room::new(64);
        for round in 0..1000_u32 {
            let origin = if round % 7 == 0 { Origin::Own } else { at((round % 50) as u8) };
            let Some(id) = room.enter(origin).seat else { continue };
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
        let all: Vec<_> = room.seats.keys().copied().collect();
        all.into_iter().for_each(|id| room.leave(id));
        assert!(room.len() == 0 && room.origins.is_empty(), "{room:?}");
    }

    #[test]
    fn the_smallest_room_has_room_for_one() {
        let mut room = Room::new(1);
        let first = seat(&mut room, at(1));
        assert_eq!(room.enter(at(2)).gives_way, Some(first));
        assert!(room.enter(Origin::Own).seat.is_some());
        assert_eq!(room.len(), 1);
    }
}
