//! Tests of the admission and eviction of connections.

use super::*;

fn at(n: u8) -> Origin {
    Origin::Foreign(IpAddr::from([192, 0, 2, n]))
}

fn slot(table: &mut SlotTable<()>, origin: Origin) -> SlotId {
    table.enter(origin, ()).slot.unwrap()
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
    let mut table = SlotTable::new(16, 8);
    let slots: Vec<_> = (0..4).map(|_| slot(&mut table, at(1))).collect();
    table.set_state(slots[0], SlotState::Answering);
    let fifth = table.enter(at(1), ());
    assert_eq!(fifth.evicted, Some(slots[1]), "the first is being answered");
    assert!(fifth.slot.is_some());
    assert_eq!(table.enter(at(2), ()).evicted, None, "there is room for others");
    // A request and its response make an idle connection the youngest again.
    table.set_state(slots[2], SlotState::Answering);
    table.set_state(slots[2], SlotState::Idle);
    assert_eq!(table.enter(at(1), ()).evicted, Some(slots[3]));
}

#[test]
fn strangers_leave_room_for_this_node() {
    let mut table = SlotTable::new(16, 8);
    for n in 0..12 {
        let id = slot(&mut table, at(n));
        table.set_state(id, SlotState::Answering);
    }
    let mut ending = Vec::new();
    for n in 0..4 {
        ending.extend(table.enter(at(99), ()).evicted);
        assert_eq!(ending.len(), n + 1, "one that is answered ends after that");
        let newest = table.slots.iter().max_by_key(|slot| slot.since).unwrap().id;
        table.set_state(newest, SlotState::Answering);
    }
    // The number of ending connections is limited; beyond it the oldest are not waited for.
    assert!(table.enter(at(99), ()).slot.is_some());
    assert_eq!(table.draining.iter().map(|slot| slot.id).collect::<Vec<_>>()[..3], ending[1..]);
    table.remove_slot(ending[1]);
    assert_eq!((table.draining.len(), table.len()), (3, 12));
    for _ in 0..4 {
        assert_eq!(table.enter(Origin::Own, ()).evicted, None);
    }
    assert_eq!(table.len(), 16);
    assert!(table.enter(Origin::Own, ()).evicted.is_some(), "its own idle one");
}

#[test]
fn the_greediest_gives_way_to_who_has_less() {
    let mut table = SlotTable::new(16, 8);
    let many: Vec<_> = (0..4).map(|_| slot(&mut table, at(1))).collect();
    for n in 2..10 {
        let _ = slot(&mut table, at(n));
    }
    assert_eq!(table.enter(at(10), ()).evicted, Some(many[0]));
    assert_eq!(table.enter(Origin::Own, ()).evicted, None);
    // Connections with an arriving body are evicted if none is idle, but not for an address with as many
    // connections.
    let mut table = SlotTable::new(4, 8);
    let slow: Vec<_> = (1..4).map(|n| slot(&mut table, at(n))).collect();
    slow.iter().for_each(|id| table.set_state(*id, SlotState::Receiving));
    assert_eq!(table.enter(at(9), ()).evicted, Some(slow[0]));
    assert_eq!(table.enter(at(2), ()).evicted, Some(slow[1]), "its own");
}

#[test]
fn this_node_takes_the_room_of_strangers_before_its_own() {
    let mut table = SlotTable::new(8, 8);
    let own = slot(&mut table, Origin::Own);
    let strangers: Vec<_> = (0..6).map(|n| slot(&mut table, at(n))).collect();
    let _ = slot(&mut table, Origin::Own);
    assert_eq!(table.enter(Origin::Own, ()).evicted, Some(strangers[0]));
    strangers.iter().for_each(|id| table.set_state(*id, SlotState::Answering));
    assert_eq!(table.enter(Origin::Own, ()).evicted, Some(own));
}

#[test]
fn who_shows_the_token_counts_as_this_node() {
    let mut table = SlotTable::new(8, 8);
    let proven = slot(&mut table, at(1));
    table.mark_authenticated(proven);
    table.mark_authenticated(proven);
    assert_eq!((table.count(Origin::Own), table.count(at(1))), (1, 0));
    for _ in 0..4 {
        assert_ne!(table.enter(at(1), ()).evicted, Some(proven));
    }
    table.remove_slot(proven);
    table.remove_slot(proven);
    assert_eq!((table.count(Origin::Own), table.len()), (0, 2));
}

#[test]
fn nothing_is_left_of_who_has_gone() {
    let mut table = SlotTable::new(64, 8);
    for round in 0..1000_u32 {
        let origin = if round % 7 == 0 { Origin::Own } else { at((round % 50) as u8) };
        let Some(id) = table.enter(origin, ()).slot else { continue };
        match round % 3 {
            0 => table.set_state(id, SlotState::Receiving),
            1 => table.set_state(id, SlotState::Answering),
            _ => {}
        }
        if round % 2 == 0 {
            table.remove_slot(id);
        }
        assert!(table.len() <= 64);
    }
    let all: Vec<_> = table.slots.iter().map(|slot| slot.id).collect();
    all.into_iter().for_each(|id| table.remove_slot(id));
    assert_eq!(table.len(), 0, "{table:?}");
}

#[test]
fn who_has_just_come_is_not_sent_away_at_once() {
    let mut table = SlotTable::new(64, 8);
    for _ in 0..64 {
        let id = slot(&mut table, Origin::Own);
        table.set_state(id, SlotState::Answering);
    }
    let new = table.enter(Origin::Own, ()).slot.unwrap();
    for _ in 0..7 {
        assert_ne!(table.enter(Origin::Own, ()).evicted, Some(new));
    }
    assert_eq!(table.enter(Origin::Own, ()).evicted, Some(new));
}

#[test]
fn who_waits_for_the_core_keeps_nobody_out() {
    for origin in [Origin::Own, at(1)] {
        let mut table = SlotTable::new(8, 8);
        let mut calls = Vec::new();
        for _ in 0..40 {
            let call = std::rc::Rc::new(());
            calls.push(std::rc::Rc::downgrade(&call));
            let id = table.enter(origin, call).slot.expect("a slot, whoever waits");
            table.set_state(id, SlotState::Answering);
        }
        // Of the evicted connections the last ones are still answered.
        let left = calls.iter().filter(|call| call.strong_count() > 0).count();
        assert_eq!(left, table.len() + table.share(), "{origin:?}");
        assert!(calls[..20].iter().all(|call| call.strong_count() == 0));
        assert!(table.enter(Origin::Own, std::rc::Rc::new(())).slot.is_some());
    }
}

#[test]
fn who_has_said_its_last_gives_way_first_and_at_once() {
    let mut table = SlotTable::new(8, 8);
    let own: Vec<_> = (0..8).map(|_| slot(&mut table, Origin::Own)).collect();
    own.iter().for_each(|id| table.set_state(*id, SlotState::Answering));
    table.set_state(own[5], SlotState::HalfClosed);
    assert_eq!(table.enter(Origin::Own, ()).evicted, Some(own[5]));
    assert!(table.draining.is_empty() && !table.has(own[5]));
    let mut table = SlotTable::new(16, 8);
    let slots: Vec<_> = (0..4).map(|_| slot(&mut table, at(1))).collect();
    table.set_state(slots[3], SlotState::Answering);
    table.set_state(slots[3], SlotState::HalfClosed);
    assert_eq!(table.enter(at(1), ()).evicted, Some(slots[3]), "before the idle ones");
}

#[test]
fn answers_that_stay_open_have_room_of_their_own() {
    let mut table = SlotTable::new(4, 8);
    let mut begins = |origin| {
        let id = slot(&mut table, origin);
        let begun = table.move_to_streams(id);
        if !begun {
            table.remove_slot(id);
        }
        assert_eq!(table.has(id), begun);
        begun.then_some(id)
    };
    assert!(begins(at(1)).is_some() && begins(at(1)).is_some());
    assert!(begins(at(1)).is_none(), "a quarter is an address's");
    assert!((2..6).all(|n| begins(at(n)).is_some()));
    assert!(begins(at(9)).is_none(), "a quarter is this node's");
    let own = begins(Origin::Own).unwrap();
    assert!(begins(Origin::Own).is_some() && begins(Origin::Own).is_none());
    assert_eq!((table.streams(), table.len()), (8, 0), "no connection is kept out");
    for _ in 0..100 {
        let _ = table.enter(Origin::Own, ());
    }
    assert!(table.has(own), "nobody gives way");
    table.remove_slot(own);
    assert_eq!(table.streams(), 7);
}

#[test]
fn the_smallest_room_has_room_for_one() {
    let mut table = SlotTable::new(1, 8);
    let first = slot(&mut table, at(1));
    assert_eq!(table.enter(at(2), ()).evicted, Some(first));
    assert!(table.enter(Origin::Own, ()).slot.is_some());
    assert_eq!(table.len(), 1);
}
