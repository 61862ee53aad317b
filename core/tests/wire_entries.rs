//! Entrypoint requests and their links, with faults at critical moments.

mod wire_support;

use hax_core::base::errno::Errno;
use hax_core::base::id::EntryId;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::wire::process::{Command, Event};
use wire_support::account::{at_peace, failures, hax_events, is_asked, is_reused, is_up};
use wire_support::world::{Answer, MS, S, World, connected, entrypoint, fid};

#[test]
fn a_process_gets_its_entrypoint_and_a_link() {
    let world = connected(1);
    let asked: Vec<_> = world.processes[1].iter().map(|e| &e.1).collect();
    assert!(matches!(
        asked[..],
        [Event::Answered { control: 0, generation: 1, .. }, Event::LinkUp { reconnected: false }]
    ));
    at_peace(&world);
}

#[test]
fn a_process_that_is_told_to_ask_again_keeps_its_link() {
    let mut world = World::new(1);
    world.answer = Answer::Again(20);
    world.command(1, Command::Ask);
    world.run(S);
    assert_eq!(hax_events(&world, is_asked).len(), 21);
    assert_eq!(hax_events(&world, is_up).len(), 1);
    assert_eq!(hax_events(&world, is_reused).len(), 20);
    // The connection of the link remains, and the others are closed.
    assert_eq!(world.endpoint().view().rpc_conns, 1);
    at_peace(&world);
}

#[test]
fn a_slow_reply_is_asked_for_once() {
    let mut world = World::new(1);
    world.answer = Answer::After(7_300 * MS);
    world.command(1, Command::Ask);
    world.run(10 * S);
    assert_eq!(hax_events(&world, is_asked).len(), 1);
    assert_eq!(hax_events(&world, is_up).len(), 1);
    at_peace(&world);
}

#[test]
fn a_link_that_made_room_is_resumed_without_harm() {
    let mut world = World::new(2);
    world.start_with(0, |config| config.links_max = 1);
    world.command(1, Command::Ask);
    world.run(S);
    world.send_from(1, 1);
    world.run(S);
    world.command(2, Command::Ask);
    world.run(S);
    assert_eq!(world.saw(0, FactKind::LinkEvicted), 1);
    for n in 2..=5 {
        world.send_from(1, n);
        world.run(5 * S);
    }
    assert_eq!(world.delivered_from(1), [1, 2, 3, 4, 5], "{}", world.trace.join("\n"));
    at_peace(&world);
}

#[test]
fn sessions_that_made_room_are_not_missed() {
    let mut world = World::new(3);
    world.start_with(0, |config| config.rpc_conns_max = 2);
    for node in 1..=3 {
        world.command(node, Command::Ask);
        world.run(S);
    }
    for n in 1..=5 {
        for node in 1..=3 {
            world.send_from(node, n);
            world.run(20 * MS);
        }
    }
    world.run(5 * S);
    for node in 1..=3 {
        assert_eq!(world.delivered_from(node), [1, 2, 3, 4, 5], "{}", world.trace.join("\n"));
        assert_eq!(failures(&world, node), (0, 0));
    }
    at_peace(&world);
}

#[test]
fn a_hax_that_restarts_amid_an_opening_is_found_again() {
    // hax is killed at each moment of the first exchanges, and starts again a little later.
    for after in (0..4000).step_by(100) {
        let mut world = World::new(1);
        world.command(1, Command::Ask);
        world.run(after);
        world.kill(0);
        world.run(300 * MS);
        world.start(0);
        world.send_from(1, 1);
        world.run(40 * S);
        let link = world.links.get(&fid(1));
        let link = *link.unwrap_or_else(|| panic!("{after}\n{}", world.trace.join("\n")));
        assert_eq!(world.received_by_hax(link), [1], "{after}\n{}", world.trace.join("\n"));
        at_peace(&world);
    }
}

fn reply(world: &mut World, entry: u64, fine: bool) {
    let reply = if fine { Ok(entrypoint()) } else { Err(Errno::EAGAIN) };
    world.motr(motr::Command::Reply { entry: EntryId(entry), reply });
    world.run(20 * MS);
}

/// Returns a world with a process that has its link and waits for the reply to its second request. Messages
/// have passed since that request.
fn asking_again() -> World {
    let mut world = World::new(2);
    world.answer = Answer::Never;
    world.command(1, Command::Ask);
    world.run(20 * MS);
    reply(&mut world, 1, false);
    world.send_from(1, 1);
    world.send_to(1);
    world.run(20 * MS);
    assert_eq!((world.received_by(1), world.delivered_from(1)), (vec![1], vec![1]));
    world
}

#[test]
fn a_request_made_of_an_earlier_life_is_made_again() {
    let mut world = asking_again();
    world.kill(0);
    world.run(100 * MS);
    world.answer = Answer::After(0);
    world.start(0);
    world.send_from(1, 2);
    world.run(5 * S);
    assert_eq!(failures(&world, 1), (1, 1));
    assert_eq!(world.delivered_from(1), [1, 2]);
    at_peace(&world);
}

#[test]
fn a_request_whose_link_has_ended_meanwhile_is_made_again() {
    let mut world = World::new(2);
    world.start_with(0, |config| config.links_max = 1);
    world.answer = Answer::Never;
    world.command(1, Command::Ask);
    world.run(20 * MS);
    reply(&mut world, 1, false);
    world.send_from(1, 1);
    world.send_to(1);
    world.run(20 * MS);
    // Another process takes the only place for a link.
    world.command(2, Command::Ask);
    world.run(20 * MS);
    reply(&mut world, 3, true);
    reply(&mut world, 2, true);
    world.answer = Answer::After(0);
    reply(&mut world, 4, true);
    world.send_from(1, 2);
    world.run(10 * S);
    assert_eq!(world.delivered_from(1), [1, 2], "{}", world.trace.join("\n"));
    at_peace(&world);
}

#[test]
fn who_is_told_to_ask_again_while_reconnecting_reconnects_once() {
    let mut world = connected(1);
    world.kill(0);
    world.run(100 * MS);
    world.answer = Answer::Again(5);
    world.start(0);
    world.send_from(1, 1);
    world.run(5 * S);
    assert_eq!(hax_events(&world, is_up).len(), 1);
    assert_eq!(hax_events(&world, is_reused).len(), 5);
    assert_eq!(failures(&world, 1), (1, 1));
    assert_eq!(world.delivered_from(1), [1]);
    at_peace(&world);
}

#[test]
fn an_answer_for_a_life_that_is_over_ends_no_link() {
    let mut world = World::new(1);
    world.answer = Answer::Never;
    world.command(1, Command::Ask);
    world.run(20 * MS);
    world.kill(1);
    world.start(1);
    world.command(1, Command::Ask);
    world.run(20 * MS);
    reply(&mut world, 2, true);
    let link = world.links[&fid(1)];
    reply(&mut world, 1, true);
    assert_eq!(world.links[&fid(1)], link);
    assert_eq!(world.saw(0, FactKind::EntryOutdated), 1);
    world.send_to(1);
    world.run(S);
    assert_eq!(world.received_by(1), [1]);
    at_peace(&world);
}

#[test]
fn what_is_sent_before_the_process_knows_its_link_waits_no_longer_than_it() {
    let mut world = World::new(1);
    world.command(1, Command::Ask);
    while world.links.is_empty() {
        world.run(100);
    }
    // The process knows its link after it has closed the connection of its request, which takes a second try
    // here.
    world.lose.insert(1, 1);
    world.run(500 * MS);
    world.send_from(1, 1);
    world.send_to(1);
    world.run(700 * MS);
    assert_eq!(world.saw(0, FactKind::LinkRefused), 1);
    assert_eq!(world.received_by(1), [1]);
    at_peace(&world);
}

#[test]
fn d34_a_process_that_is_not_configured_is_refused_and_the_others_are_served() {
    let mut world = World::new(2);
    let peers = [(fid(1), "inet:stream:10.0.0.1@1".into())];
    world.motr(motr::Command::Peers(peers.into()));
    world.command(2, Command::Ask);
    world.run(S);
    assert!(world.saw(0, FactKind::StrangerRefused) > 0);
    assert_eq!(hax_events(&world, is_asked).len(), 0);
    world.command(1, Command::Ask);
    world.run(S);
    assert_eq!(hax_events(&world, is_up).len(), 1);
}

#[test]
fn d34_who_came_before_the_configuration_and_is_not_in_it_loses_its_link() {
    let mut world = World::new(2);
    for n in [1, 2] {
        world.command(n, Command::Ask);
    }
    world.run(S);
    assert_eq!(world.links.len(), 2);
    let peers: Box<[_]> = [(fid(1), "inet:stream:10.0.0.1@1".into())].into();
    world.motr(motr::Command::Peers(peers.clone().into()));
    world.run(S);
    let closed = |event: &motr::Event| matches!(event, motr::Event::LinkClosed { .. });
    assert_eq!(hax_events(&world, closed).len(), 1);
    world.send_from(1, 1);
    world.send_to(1);
    world.run(S);
    assert_eq!(world.received_by(1), [1], "the other one keeps its link");
    // A process that is removed from the configuration later keeps its link.
    world.motr(motr::Command::Peers([(fid(9), "inet:stream:10.0.0.1@1".into())].into()));
    world.run(S);
    assert_eq!(hax_events(&world, closed).len(), 1);
}
