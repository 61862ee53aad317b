//! Tests of groups: only one of the two routers acts at a time.

use std::time::Duration;

use hax_core::route::WithoutConsul;
use hax_core::route::fact::FactKind;

use crate::pair::{HOPS, Pair};

#[test]
fn r01_a_dead_holder_is_followed_by_the_other_router() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    let took = pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    // The check's TTL, the lock's delay, and a margin for the retries between them.
    assert!(took <= Duration::from_millis(1_000 + 3_000 + 1_000), "{took:?}");
    assert_eq!(pair.holder(), Some(1));
}

#[test]
fn a_primary_that_was_well_for_long_enough_takes_its_routes_back() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.start(0);
    pair.run(58_000);
    assert_eq!((pair.holder(), pair.saw(0, FactKind::Asks)), (Some(1), 0));
    let took = pair.until(5_000, |pair| pair.leads() == Some(HOPS[0]));
    assert_eq!(pair.saw(1, FactKind::HandedOver), 1);
    // The primary requests the lease after a minute, and the handover has no lock delay.
    assert!(took < Duration::from_secs(3), "{took:?}");
    pair.run(60_000);
    assert_eq!(pair.holder(), Some(0), "and it keeps them");
    assert_eq!(pair.saw(0, FactKind::Gained), 2);
}

#[test]
fn a_primary_that_may_not_preempt_leaves_the_routes_where_they_are() {
    let mut pair = Pair::group(|config| config.consul.as_mut().unwrap().preempt = false);
    pair.kill(0);
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.start(0);
    pair.run(300_000);
    assert_eq!((pair.leads(), pair.holder()), (Some(HOPS[1]), Some(1)));
    let answer = pair.ask_and_wait(0, "node_event -i 7 -e revert", 1_000).unwrap();
    assert_eq!((answer.exit, pair.leads()), (0, Some(HOPS[0])), "unless it is told to");
}

#[test]
fn a_peer_fail_while_the_holder_lives_is_refused_and_names_it() {
    let mut pair = Pair::group(|_| {});
    let answer = pair.ask_and_wait(1, "node_event -i 7 -e peerFail", 2_000).unwrap();
    assert_eq!(answer.exit, 7);
    for part in ["router-a holds ha/route/edge in term 1", "lives"] {
        assert!(answer.text.contains(part), "{}", answer.text);
    }
    assert_eq!(pair.leads(), Some(HOPS[0]));
    let answer = pair.ask_and_wait(1, "node_event -i 7 -e verify", 100).unwrap();
    assert!(answer.exit == 7 && answer.text.contains("router-a"), "{}", answer.text);
    let answer = pair.ask_and_wait(1, "node_event -i 7 -e revert", 100).unwrap();
    assert_eq!(answer.exit, 0, "nothing is to be done by a secondary: {}", answer.text);
}

#[test]
fn a_peer_fail_of_a_dead_holder_is_worked_once_the_lease_is_had() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    let client = pair.ask(1, "node_event -i 7 -e peerFail");
    pair.until(6_000, |pair| pair.answer(1, client).is_some());
    assert_eq!(pair.answer(1, client).unwrap().exit, 0);
    assert_eq!(pair.leads(), Some(HOPS[1]));
}

#[test]
fn a_revert_of_the_primary_is_handed_over_within_a_moment() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.start(0);
    pair.run(5_000);
    let client = pair.ask(0, "node_event -i 7 -e revert");
    let took = pair.until(1_000, |pair| pair.answer(0, client).is_some());
    assert_eq!(pair.answer(0, client).unwrap().exit, 0);
    assert_eq!(pair.leads(), Some(HOPS[0]));
    assert!(took <= Duration::from_millis(50), "{took:?}");
}

#[test]
fn a_lease_that_was_just_handed_over_comes_back_at_once_when_it_is_demanded() {
    let mut pair = Pair::group(|_| {});
    for to in [1, 0, 1] {
        for (nth, mode) in [(to, "primary"), (1 - to, "secondary")] {
            pair.ask_and_wait(nth, &format!("set_params -i 7 -m {mode}"), 10);
        }
        let client = pair.ask(to, "node_event -i 7 -e revert");
        let took = pair.until(10_000, |pair| pair.answer(to, client).is_some());
        assert_eq!((pair.answer(to, client).unwrap().exit, pair.leads()), (0, Some(HOPS[to])));
        assert!(took <= Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn what_was_begun_is_finished_and_succeeds_before_a_lease_is_handed_over() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.start(0);
    pair.run(3_000);
    pair.routers[1].slow = Duration::from_millis(500);
    let begun = pair.ask(1, "node_event -i 7 -e peerFail");
    pair.run(1);
    let asked = pair.ask(0, "node_event -i 7 -e revert");
    pair.run(400);
    assert_eq!((pair.holder(), pair.saw(1, FactKind::Asked)), (Some(1), 1));
    assert_eq!(pair.answer(1, begun), None);
    pair.run(200);
    assert_eq!(pair.answer(1, begun).unwrap().exit, 0);
    assert_eq!(pair.answer(0, asked).unwrap().exit, 0);
    assert_eq!((pair.holder(), pair.leads()), (Some(0), Some(HOPS[0])));
}

/// Two hundred clients that wait for their events shut nobody out.
#[test]
fn more_clients_than_may_wait_are_told_and_their_events_are_worked() {
    let mut pair = Pair::group(|_| {});
    pair.routers[0].slow = Duration::from_millis(500);
    let clients: Vec<_> = (0..200).map(|_| pair.ask(0, "node_event -i 7 -e verify")).collect();
    pair.run(5);
    let told: Vec<_> = clients.iter().filter_map(|client| pair.answer(0, *client)).collect();
    assert_eq!(told.len(), 200 - 192);
    assert!(told.iter().all(|answer| answer.exit == 7 && answer.text.contains("is taken on")));
    let shown = pair.ask_and_wait(0, "show_node -i 7", 50).unwrap();
    assert_eq!(shown.exit, 0, "others are answered meanwhile");
    pair.run(200 * 600);
    assert!(clients.iter().all(|client| pair.answer(0, *client).is_some()));
}

#[test]
fn a_stop_gives_the_lease_up_without_a_delay() {
    let mut pair = Pair::group(|_| {});
    pair.stop(0);
    let took = pair.until(1_000, |pair| pair.leads() == Some(HOPS[1]));
    assert!(took <= Duration::from_millis(50), "{took:?}");
    pair.run(1_500);
    assert!(!pair.is_up(0));
}

/// A holder that cannot prove its lease does not write, even if its agent still accepts its TTL updates.
#[test]
fn a_holder_that_is_cut_off_stops_before_the_other_begins() {
    for slow in [0, 2_500, 20_000] {
        for is_agent in [true, false] {
            let mut pair = Pair::group(|config| config.sweep = Duration::from_millis(100));
            pair.routers[0].slow = Duration::from_millis(slow);
            pair.run(1_000);
            if is_agent {
                pair.at_consul(|consul, now, out| consul.disconnect(now, 0, out));
            } else {
                pair.routers[0].is_disconnected = true;
            }
            // Another writer changes the route all the time, so that every router that may write does so.
            pair.writes.clear();
            for _ in 0..400 {
                pair.table.clear();
                pair.run(50);
            }
            let first_of_other = pair.writes.iter().find(|(_, nth)| *nth == 1);
            let last = pair.writes.iter().rev().find(|(_, nth)| *nth == 0);
            let first = first_of_other.expect("the other router acts").0;
            assert!(last.is_none_or(|(at, _)| *at < first), "{slow}, {is_agent}: {last:?} {first}");
        }
    }
}

#[test]
fn a_holder_that_stood_still_writes_no_more_when_it_goes_on() {
    let mut pair = Pair::group(|_| {});
    pair.routers[0].is_frozen = true;
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.writes.clear();
    pair.routers[0].is_frozen = false;
    pair.run(30_000);
    assert_eq!(pair.holder(), Some(1));
    assert!(pair.writes.is_empty(), "{:?}", pair.writes);
    assert_eq!(pair.saw(0, FactKind::Lost), 1);
}

#[test]
fn a_new_holder_reads_back_and_mends_what_comes_late() {
    let mut pair = Pair::group(|_| {});
    pair.kill(0);
    pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
    pair.run(10);
    // A write of the previous holder that was in transit.
    pair.table.insert("192.0.2.0/24".into(), HOPS[0].into());
    let took = pair.until(2_000, |pair| pair.leads() == Some(HOPS[1]));
    assert!(took <= Duration::from_millis(1_100), "{took:?}");
    pair.run(10);
    assert_eq!((pair.saw(1, FactKind::Mended), pair.saw(1, FactKind::Contested)), (1, 0));
    pair.run(20_000);
    // The times are 1 s, 5 s, the deadline (within the hold of 3 s), and 5 s.
    assert_eq!(pair.saw(1, FactKind::Confirmed), 2);
}

#[test]
fn a_route_that_another_writer_changes_again_and_again_is_left_to_it() {
    let mut pair = Pair::group(|_| {});
    pair.run(20_000);
    for round in 0..2 {
        pair.table.insert("192.0.2.0/24".into(), "10.0.0.9".into());
        let took = pair.until(301_000, |pair| pair.leads() == Some(HOPS[0]));
        assert!(took <= Duration::from_secs(300), "round {round}: {took:?}");
        pair.run(10);
    }
    assert_eq!(pair.saw(0, FactKind::Contested), 1);
    pair.table.insert("192.0.2.0/24".into(), "10.0.0.9".into());
    pair.run(1_000_000);
    assert_eq!(pair.leads(), Some("10.0.0.9"), "it is told, not fought");
    let answer = pair.ask_and_wait(0, "node_event -i 7 -e revert", 1_000).unwrap();
    assert_eq!((answer.exit, pair.leads()), (0, Some(HOPS[0])));
    pair.table.insert("192.0.2.0/24".into(), "10.0.0.9".into());
    pair.run(301_000);
    assert_eq!(pair.leads(), Some(HOPS[0]), "and after an event it is mended again");
}

#[test]
fn without_consul_nodes_without_a_group_act_and_the_others_hold() {
    for (ungrouped, grouped) in
        [(WithoutConsul::Act, WithoutConsul::Hold), (WithoutConsul::Hold, WithoutConsul::Act)]
    {
        let mut pair = Pair::with(|config| {
            config.consul = None;
            (config.rules.ungrouped, config.rules.grouped) = (ungrouped, grouped);
        });
        let code = |rule| if rule == WithoutConsul::Act { 0 } else { 7 };
        pair.create(0, "");
        let answer = pair.ask_and_wait(0, "node_event -i 7 -e peerFail", 100).unwrap();
        assert_eq!(answer.exit, code(ungrouped), "{}", answer.text);
        pair.ask_and_wait(0, "set_params -i 7 -group edge", 100);
        let answer = pair.ask_and_wait(0, "node_event -i 7 -e peerFail", 100).unwrap();
        assert_eq!(answer.exit, code(grouped), "{}", answer.text);
        pair.run(60_000);
        assert_eq!(pair.routers[0].calls, 0, "nothing is asked of Consul");
    }
}

#[test]
fn a_consul_that_is_away_is_as_none_where_that_is_set() {
    let mut pair = Pair::group(|config| config.rules.grouped = WithoutConsul::Act);
    pair.routers[1].is_disconnected = true;
    pair.run(6_000);
    let answer = pair.ask_and_wait(1, "node_event -i 7 -e peerFail", 2_000).unwrap();
    assert_eq!(answer.exit, 0, "{}", answer.text);
    assert_eq!(pair.leads(), Some(HOPS[1]));
}

/// The agent answers heartbeats by itself, so they do not show that Consul answers.
#[test]
fn a_consul_without_servers_is_as_none_where_that_is_set() {
    let mut pair = Pair::group(|config| config.rules.grouped = WithoutConsul::Act);
    pair.routers[1].is_without_servers = true;
    pair.run(30_000);
    let answer = pair.ask_and_wait(1, "node_event -i 7 -e peerFail", 2_000).unwrap();
    assert_eq!(answer.exit, 0, "{}", answer.text);
    assert_eq!(pair.leads(), Some(HOPS[1]));
}

#[test]
fn a_revert_that_comes_while_the_lease_is_in_doubt_asks_for_it_once_it_is_lost() {
    let mut pair = Pair::group(|_| {});
    pair.routers[0].is_disconnected = true;
    pair.until(10_000, |pair| pair.saw(0, FactKind::Lapsed) == 1);
    let client = pair.ask(0, "node_event -i 7 -e revert");
    pair.run(100);
    pair.routers[0].is_disconnected = false;
    pair.until(10_000, |pair| pair.answer(0, client).is_some());
    let answer = pair.answer(0, client).unwrap();
    assert_eq!(answer.exit, 0, "{}", answer.text);
    assert_eq!((pair.holder(), pair.leads()), (Some(0), Some(HOPS[0])));
}

#[test]
fn a_consul_that_was_only_just_asked_is_not_away() {
    let mut pair = Pair::with(|config| config.rules.grouped = WithoutConsul::Act);
    pair.routers[0].is_disconnected = true;
    pair.create(0, "-m primary -group edge");
    let client = pair.ask(0, "node_event -i 7 -e peerFail");
    pair.run(5_000);
    assert_eq!((pair.leads(), pair.answer(0, client)), (None, None));
    pair.run(5_000);
    assert_eq!((pair.leads(), pair.answer(0, client).unwrap().exit), (Some(HOPS[0]), 0));
}

#[test]
fn a_group_that_has_no_nodes_any_more_gives_its_lease_up() {
    let mut pair = Pair::group(|_| {});
    assert_eq!(pair.ask_and_wait(0, "delete_node -i 7", 1_000).unwrap().exit, 0);
    assert_eq!((pair.holder(), pair.leads()), (Some(1), Some(HOPS[1])));
    pair.create(0, "-m primary -group edge");
    pair.run(62_000);
    assert_eq!((pair.holder(), pair.leads()), (Some(0), Some(HOPS[0])));
}

/// A release has no delay at Consul, so the other router may write at once.
#[test]
fn a_group_that_loses_its_last_node_gives_its_lease_up_after_its_handler() {
    for line in ["delete_node -i 7", "clear_params -i 7 -group", "set_params -i 7 -group other"] {
        let mut pair = Pair::group(|_| {});
        pair.routers[0].slow = Duration::from_millis(500);
        pair.table.clear();
        pair.writes.clear();
        pair.ask(0, "node_event -i 7 -e revert");
        pair.run(1);
        pair.ask(0, line);
        pair.until(10_000, |pair| pair.leads() == Some(HOPS[1]));
        pair.run(1_000);
        let [writes @ .., (last, nth)] = &pair.writes[..] else { panic!("{line}: no write") };
        let is_its = |(at, by): &(hax_core::base::time::Instant, usize)| *by == 0 && at < last;
        assert!(*nth == 1 && writes.iter().any(is_its), "{line}: {:?}", pair.writes);
    }
}

/// The primary's own sweep restores routes of nodes without a group.
#[test]
fn r14_a_sweep_brings_an_ungrouped_primary_s_route_back() {
    let mut pair = Pair::with(|config| config.consul = None);
    pair.create(0, "-m primary");
    pair.create(1, "");
    pair.ask_and_wait(1, "node_event -i 7 -e peerFail", 100);
    assert_eq!(pair.leads(), Some(HOPS[1]));
    let took = pair.until(301_000, |pair| pair.leads() == Some(HOPS[0]));
    assert!(took > Duration::from_secs(299), "{took:?}");
    pair.run(1_000_000);
    assert_eq!(pair.writes.len(), 2);
}
