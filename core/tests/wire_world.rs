//! The server's part and a process's part against each other, with faults between them.

mod wire_support;

use hax_core::base::errno::Errno;
use hax_core::base::fact::FactKind;
use hax_core::base::id::{EntryId, SendId};
use hax_core::ha::motr;
use hax_core::wire::process::{Command, Event};
use wire_support::account::at_peace;
use wire_support::world::{Answer, MS, S, World, connected, entrypoint, fid};

/// How often the process was told that its link failed, and that it reconnected.
fn failures(world: &World, node: usize) -> (usize, usize) {
    let count = |f: fn(&Event) -> bool| world.processes[node].iter().filter(|e| f(&e.1)).count();
    (count(|e| *e == Event::LinkFailed), count(|e| *e == Event::LinkUp { reconnected: true }))
}

fn hax_events(world: &World, f: fn(&motr::Event) -> bool) -> Vec<u64> {
    world.hax.iter().filter(|e| f(&e.1)).map(|e| e.0).collect()
}

fn is_down(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkDown { .. })
}

fn is_back(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkBack { .. })
}

fn is_up(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkUp { .. })
}

fn is_reused(event: &motr::Event) -> bool {
    matches!(event, motr::Event::LinkReused { .. })
}

fn is_asked(event: &motr::Event) -> bool {
    matches!(event, motr::Event::Asked(_))
}

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
fn messages_pass_both_ways_once_and_in_order() {
    let mut world = connected(2);
    for n in 1..=50 {
        world.send_from(1, n);
        world.send_to(1);
        world.send_to(2);
    }
    world.run(2 * S);
    let all: Vec<u64> = (1..=50).collect();
    assert_eq!(world.received_by_hax(world.links[&fid(1)]), all);
    assert_eq!(world.delivered_from(1), all);
    assert_eq!(world.received_by(1).len(), 50);
    assert!(world.received_by(1).is_sorted() && world.received_by(2).is_sorted());
    at_peace(&world);
}

#[test]
fn a_lost_message_or_reply_is_sent_again_and_delivered_once() {
    for loser in [0, 1] {
        let mut world = connected(1);
        world.lose.insert(loser, 1);
        world.send_from(1, 1);
        world.send_to(1);
        world.run(3 * S);
        assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1]);
        assert_eq!(world.received_by(1), [1]);
        assert_eq!(world.delivered_from(1), [1]);
        assert_eq!(failures(&world, 1), (0, 0));
        at_peace(&world);
    }
}

#[test]
fn closed_connections_lose_and_double_nothing() {
    let mut world = connected(1);
    for n in 1..=20 {
        world.send_from(1, n);
        world.send_to(1);
        world.run(n * 37);
        world.cut(0, 1);
        world.run(50 * MS);
    }
    world.run(5 * S);
    assert_eq!(world.received_by_hax(world.links[&fid(1)]), (1..=20).collect::<Vec<_>>());
    assert_eq!(world.received_by(1), (1..=20).collect::<Vec<_>>());
    assert_eq!(failures(&world, 1), (0, 0));
    let (down, back) = (hax_events(&world, is_down), hax_events(&world, is_back));
    assert!(!down.is_empty() && down.len() == back.len());
    at_peace(&world);
}

#[test]
fn a_short_stall_is_not_noticed_and_a_long_one_is_survived() {
    for (stall, failed) in [(4_500 * MS, false), (20 * S, true)] {
        let mut world = connected(1);
        world.stall(0, 1, stall);
        world.send_from(1, 1);
        world.send_from(1, 2);
        world.send_to(1);
        world.run(stall + 5 * S);
        assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1, 2]);
        assert_eq!(world.received_by(1), [1]);
        assert_eq!(failures(&world, 1).0 > 0, failed);
        assert_eq!(hax_events(&world, is_down).len(), usize::from(failed));
        assert_eq!(hax_events(&world, is_back).len(), usize::from(failed));
        assert_eq!(failures(&world, 1).1, 0, "the same link goes on");
        at_peace(&world);
    }
}

#[test]
fn a_restarted_hax_is_found_again_within_two_seconds() {
    let mut world = connected(1);
    world.ack_after[0] = None;
    for n in 1..=3 {
        world.send_from(1, n);
        world.send_to(1);
    }
    world.run(S);
    world.kill(0);
    world.run(100 * MS);
    world.ack_after[0] = Some(0);
    world.start(0);
    let begun = world.now;
    world.send_from(1, 4);
    world.run(3 * S);
    let up = *hax_events(&world, is_up).last().unwrap();
    assert!(up - begun < 2 * S, "{}", world.trace.join("\n"));
    // What the first life had not acknowledged comes again, with its tags.
    assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1, 2, 3, 4]);
    assert_eq!(world.delivered_from(1), [1, 2, 3, 4]);
    assert_eq!(failures(&world, 1), (1, 1));
    world.send_to(1);
    world.run(S);
    assert_eq!(world.received_by(1).len(), 4);
    at_peace(&world);
}

#[test]
fn a_hax_that_restarts_amid_an_opening_is_found_again() {
    // Killed at each moment of the first exchanges, and back a little later.
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

#[test]
fn a_restarted_process_gets_a_new_link_and_the_old_one_ends() {
    let mut world = connected(1);
    let old = world.links[&fid(1)];
    world.kill(1);
    let killed = world.now;
    world.send_to(1);
    world.send_to(1);
    world.run(15 * S);
    assert_eq!(world.saw(0, FactKind::LinkSilent), 0, "who is gone is not written to");
    let down = hax_events(&world, is_down);
    assert!(down.len() == 1 && down[0] - killed < MS, "seen at once");
    assert_eq!(world.owed.len(), 2, "what it is owed is kept");
    world.start(1);
    world.command(1, Command::Ask);
    world.run(S);
    let new = world.links[&fid(1)];
    assert_ne!(old, new);
    let end: Vec<_> = world.hax.iter().rev().take_while(|e| !is_asked(&e.1)).collect();
    let end: Vec<_> = end.iter().rev().map(|e| &e.1).collect();
    assert!(
        matches!(end[..], [
            motr::Event::Undelivered { .. },
            motr::Event::Undelivered { .. },
            motr::Event::LinkClosed { link },
            motr::Event::LinkUp { reconnected: false, .. },
            ..
        ] if *link == old),
        "{end:?}"
    );
    world.send_to(1);
    world.run(S);
    assert_eq!(world.received_by(1), [3]);
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
    // The link's own, the others are closed.
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
fn a_disconnected_process_aborts_and_only_that() {
    let mut world = connected(2);
    let link = world.links[&fid(1)];
    world.send_to(1);
    world.motr(motr::Command::Disconnect { link });
    assert!(world.owed.is_empty());
    world.send_from(1, 1);
    world.send_from(2, 1);
    world.run(5 * S);
    assert_eq!(world.aborts(), [(1, "taken for dead")]);
    assert_eq!(world.received_by_hax(world.links[&fid(2)]), [1]);
}

#[test]
fn a_stop_takes_leave_of_the_living_and_does_not_wait_for_the_dead() {
    let mut world = connected(3);
    world.kill(3);
    world.run(S);
    world.stall(0, 2, 60 * S);
    for n in 1..=3 {
        world.send_to(n);
        world.send_to(n);
    }
    world.send_from(1, 1);
    world.run(1500);
    world.motr(motr::Command::Stop);
    world.run(5 * S);
    assert!(world.exited.contains(&0));
    assert!(world.owed.is_empty());
    assert_eq!(world.delivered_from(1), [1], "{}", world.trace.join("\n"));
    let closed = hax_events(&world, |e| matches!(e, motr::Event::LinkClosed { .. }));
    assert_eq!(closed.len(), 3);
    let mut world = connected(3);
    world.motr(motr::Command::Stop);
    world.run(100 * MS);
    assert!(world.exited.contains(&0), "nothing to wait for");
}

#[test]
fn a_process_stops_when_all_is_delivered() {
    let mut world = connected(1);
    world.ack_after[0] = Some(2 * S);
    world.send_from(1, 1);
    world.command(1, Command::Stop);
    world.run(1900 * MS);
    assert!(!world.exited.contains(&1));
    world.run(S);
    assert!(world.exited.contains(&1));
    assert_eq!(world.delivered_from(1), [1]);
    assert_eq!(hax_events(&world, is_down).len(), 1);
    at_peace(&world);
}

#[test]
fn what_is_not_acknowledged_is_bounded() {
    let mut world = World::new(1);
    world.start_with(0, |config| config.unacked_max = 4);
    world.ack_after[0] = None;
    world.command(1, Command::Ask);
    for n in 1..=10 {
        world.send_from(1, n);
    }
    world.run(3 * S);
    let link = world.links[&fid(1)];
    assert_eq!(world.received_by_hax(link), [1, 2, 3, 4]);
    assert!(world.saw(0, FactKind::UnackedFull) > 0);
    // Out of order: nothing moves before the first.
    let received = |e: &(u64, motr::Event)| match &e.1 {
        motr::Event::Received { msg, .. } => Some(*msg),
        _ => None,
    };
    let msgs: Vec<_> = world.hax.iter().filter_map(received).collect();
    for msg in msgs[1..].iter().copied() {
        world.motr(motr::Command::Ack { link, msg });
    }
    world.run(2 * S);
    assert_eq!(world.delivered_from(1), []);
    world.ack_after[0] = Some(0);
    world.motr(motr::Command::Ack { link, msg: msgs[0] });
    // The next one comes with the next of the sends that were dropped before.
    world.run(1_500 * MS);
    assert_eq!(world.received_by_hax(link), (1..=10).collect::<Vec<_>>());
    assert_eq!(world.delivered_from(1), (1..=10).collect::<Vec<_>>());
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
fn a_full_queue_is_told_at_once() {
    let mut world = World::new(1);
    world.start_with(0, |config| config.queue_max = 2);
    world.command(1, Command::Ask);
    world.run(S);
    world.kill(1);
    world.run(S);
    for _ in 0..3 {
        world.send_to(1);
    }
    let last = world.hax.last().map(|e| e.1.clone());
    let link = world.links[&fid(1)];
    assert_eq!(last, Some(motr::Event::Undelivered { link, send: SendId(3) }));
    assert_eq!(world.endpoint().view().links[0].queued, 2);
}

fn reply(world: &mut World, entry: u64, fine: bool) {
    let reply = if fine { Ok(entrypoint()) } else { Err(Errno::EAGAIN) };
    world.motr(motr::Command::Reply { entry: EntryId(entry), reply });
    world.run(20 * MS);
}

/// A process that has its link and waits for an answer to its second request; messages have passed
/// since it asked.
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
    // Another process takes the only place.
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
fn what_was_taken_in_unheard_is_asked_for() {
    let mut world = connected(1);
    world.ack_after[1] = Some(S);
    world.send_to(1);
    world.run(500 * MS);
    // The process says so while nobody hears it, ten times, and then never again.
    world.stall(0, 1, 14 * S);
    world.run(20 * S);
    assert_eq!(failures(&world, 1).0, 1);
    at_peace(&world);
}

#[test]
fn a_stop_tells_what_is_acknowledged_and_waits_for_what_is_in_flight() {
    let mut world = connected(1);
    world.ack_after = [None, Some(0)];
    world.send_from(1, 1);
    world.run(10 * MS);
    let received = |e: &(u64, motr::Event)| match &e.1 {
        motr::Event::Received { link, msg, .. } => Some((*link, *msg)),
        _ => None,
    };
    let (link, msg) = world.hax.iter().find_map(received).unwrap();
    world.send_to(1);
    world.motr(motr::Command::Ack { link, msg });
    world.motr(motr::Command::Stop);
    world.run(S);
    assert!(world.exited.contains(&0));
    assert_eq!(world.delivered_from(1), [1]);
    assert_eq!(world.received_by(1), [1]);
}
