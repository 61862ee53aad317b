//! Tests of the admission and eviction of connections.

use super::*;

fn at(n: u8) -> Origin {
    Origin::Foreign(IpAddr::from([192, 0, 2, n]))
}

fn seat(room: &mut Room<()>, origin: Origin) -> SeatId {
    room.enter(origin, ()).seat.unwrap()
}

#[test]
fn whose_a_connection_is() {
    let of = |peer: &str, local: &str| Origin::of(peer.parse().unwrap(), local.parse().unwrap());
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
    room.set(seats[0], SeatState::Answering);
    let fifth = room.enter(at(1), ());
    assert_eq!(fifth.gives_way, Some(seats[1]), "the first is being answered");
    assert!(fifth.seat.is_some());
    assert_eq!(room.enter(at(2), ()).gives_way, None, "there is room for others");
    // A request and its response make an idle connection the youngest again.
    room.set(seats[2], SeatState::Answering);
    room.set(seats[2], SeatState::Idle);
    assert_eq!(room.enter(at(1), ()).gives_way, Some(seats[3]));
}

#[test]
fn strangers_leave_room_for_this_node() {
    let mut room = Room::new(16, 8);
    for n in 0..12 {
        let id = seat(&mut room, at(n));
        room.set(id, SeatState::Answering);
    }
    let mut ending = Vec::new();
    for n in 0..4 {
        ending.extend(room.enter(at(99), ()).gives_way);
        assert_eq!(ending.len(), n + 1, "one that is answered ends after that");
        let newest = room.seats.iter().max_by_key(|seat| seat.since).unwrap().id;
        room.set(newest, SeatState::Answering);
    }
    // The number of ending connections is limited; beyond it the oldest are not waited for.
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
    // Connections with an arriving body are evicted if none is idle, but not for an address with as many
    // connections.
    let mut room = Room::new(4, 8);
    let slow: Vec<_> = (1..4).map(|n| seat(&mut room, at(n))).collect();
    slow.iter().for_each(|id| room.set(*id, SeatState::Receiving));
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
    strangers.iter().for_each(|id| room.set(*id, SeatState::Answering));
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
            0 => room.set(id, SeatState::Receiving),
            1 => room.set(id, SeatState::Answering),
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
        room.set(id, SeatState::Answering);
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
            room.set(id, SeatState::Answering);
        }
        // Of the evicted connections the last ones are still answered.
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
    own.iter().for_each(|id| room.set(*id, SeatState::Answering));
    room.set(own[5], SeatState::Ended);
    assert_eq!(room.enter(Origin::Own, ()).gives_way, Some(own[5]));
    assert!(room.ending.is_empty() && !room.has(own[5]));
    let mut room = Room::new(16, 8);
    let seats: Vec<_> = (0..4).map(|_| seat(&mut room, at(1))).collect();
    room.set(seats[3], SeatState::Answering);
    room.set(seats[3], SeatState::Ended);
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
