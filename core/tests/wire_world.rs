//! The server's part and a process's part of the wire against each other, with faults between them.

mod wire_support;

use hax_core::base::id::SendId;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::wire::process::Command;
use wire_support::account::{at_peace, failures, hax_events, is_asked, is_back, is_down, is_up};
use wire_support::world::{MS, S, World, connected, fid};

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
    assert!(down.iter().zip(&back).all(|(down, back)| back - down < 200 * MS), "soon");
    at_peace(&world);
}

#[test]
fn a_process_that_is_told_something_at_the_stop_comes_to_the_next_hax() {
    for roused in [true, false] {
        let mut world = connected(1);
        world.ack_after[0] = None;
        world.send_from(1, 1);
        world.run(S);
        if roused {
            world.send_to(1);
        }
        world.motr(motr::Command::Stop);
        world.run(3 * S);
        assert!(world.exited.contains(&0));
        world.kill(0);
        world.start(0);
        world.ack_after[0] = Some(0);
        world.run(60 * S);
        // The process has no other message to send, and its message was received.
        let asked = hax_events(&world, is_asked);
        assert_eq!(!asked.is_empty(), roused);
        if roused {
            assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1], "said again");
        }
    }
}

#[test]
fn a_new_life_is_not_taken_for_the_old_one_that_is_back() {
    let mut world = connected(1);
    world.send_to(1);
    world.kill(1);
    world.run(S);
    // The process listens before it sends its request, so our next connect succeeds.
    world.start(1);
    world.run(3 * S);
    assert_eq!(hax_events(&world, is_back), [0; 0]);
    world.command(1, Command::Ask);
    world.run(3 * S);
    assert_eq!(hax_events(&world, is_back), [0; 0]);
    assert_eq!(hax_events(&world, is_up).len(), 2);
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
        let conns = world.saw(1, FactKind::ConnAccepted);
        assert_eq!(conns > 1, failed, "a new connection is tried");
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
    // The messages that the first life had not acknowledged come again, with their tags.
    assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1, 2, 3, 4]);
    assert_eq!(world.delivered_from(1), [1, 2, 3, 4]);
    assert_eq!(failures(&world, 1), (1, 1));
    world.send_to(1);
    world.run(S);
    assert_eq!(world.received_by(1).len(), 4);
    at_peace(&world);
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
    world.run(MS / 2);
    assert!(!world.exited.contains(&0), "leave is being taken");
    world.run(100 * MS);
    assert!(world.exited.contains(&0), "nothing to wait for");
}

/// A refusal would make a process connect again at once, to a hax that is about to end.
#[test]
fn f09_a_stopping_hax_gives_no_new_answer() {
    let mut world = connected(2);
    // The stop waits for one process that does not respond, and has disconnected the other one.
    world.stall(0, 2, 60 * S);
    world.motr(motr::Command::Stop);
    world.run(100 * MS);
    world.send_from(1, 1);
    world.run(1400 * MS);
    assert!(!world.exited.contains(&0));
    assert_eq!(failures(&world, 1), (0, 0), "{}", world.trace.join("\n"));
    world.run(S);
    assert!(world.exited.contains(&0), "two seconds are enough");
    // The process sends the same message again, and the next hax receives it.
    world.kill(0);
    world.heal();
    world.start(0);
    world.run(60 * S);
    assert_eq!(world.received_by_hax(world.links[&fid(1)]), [1]);
    assert_eq!(world.aborts(), []);
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

/// Returns a world with one process, and a hax that acknowledges nothing and has room for so many messages.
fn with_room_for(messages: usize) -> World {
    let mut world = World::new(1);
    world.start_with(0, |config| config.unacked_max = messages);
    world.ack_after[0] = None;
    world.command(1, Command::Ask);
    world
}

/// A process tells with its next 207 that it has received an answer. It has none while hax has no room for the
/// message in flight, and the answer would make room.
#[test]
fn f58_a_process_for_whose_message_there_is_no_room_is_asked_what_it_has_received() {
    let mut world = with_room_for(1);
    world.send_from(1, 1);
    world.send_from(1, 2);
    world.run(S);
    assert!(world.saw(0, FactKind::UnackedFull) > 0);
    let answer = world.send_to(1).expect("a link");
    world.run(2 * S);
    let delivered =
        |e: &motr::Event| matches!(e, motr::Event::Delivered { send, .. } if *send == answer);
    assert_eq!(world.hax.iter().filter(|(_, e)| delivered(e)).count(), 1);
}

#[test]
fn what_is_not_acknowledged_is_bounded() {
    let mut world = with_room_for(4);
    for n in 1..=10 {
        world.send_from(1, n);
    }
    world.run(3 * S);
    let link = world.links[&fid(1)];
    assert_eq!(world.received_by_hax(link), [1, 2, 3, 4]);
    assert!(world.saw(0, FactKind::UnackedFull) > 0);
    // The acknowledgements are out of order: none counts before the first.
    let received = |e: &(u64, motr::Event)| match &e.1 {
        motr::Event::Received { msg, .. } => Some(*msg),
        _ => None,
    };
    let msgs: Vec<_> = world.hax.iter().filter_map(received).collect();
    for msg in msgs[1..].iter().copied() {
        world.motr(motr::Command::Ack { link, msg });
    }
    world.run(2 * S);
    assert!(world.delivered_from(1).is_empty());
    world.ack_after[0] = Some(0);
    world.motr(motr::Command::Ack { link, msg: msgs[0] });
    // The next message arrives with the next of the sends that were dropped before.
    world.run(1_500 * MS);
    assert_eq!(world.received_by_hax(link), (1..=10).collect::<Vec<_>>());
    assert_eq!(world.delivered_from(1), (1..=10).collect::<Vec<_>>());
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

#[test]
fn what_was_taken_in_unheard_is_asked_for() {
    let mut world = connected(1);
    world.ack_after[1] = Some(S);
    world.send_to(1);
    world.run(500 * MS);
    // The process acknowledges ten times, each frame is lost, and then it does not repeat that.
    world.lose.insert(1, 10);
    world.run(20 * S);
    assert_eq!(failures(&world, 1).0, 1);
    at_peace(&world);
}

#[test]
fn what_is_given_up_while_connecting_is_not_written_later() {
    let mut world = connected(1);
    world.cut(0, 1);
    world.run(MS);
    world.stall(0, 1, 12 * S);
    world.send_from(1, 1);
    world.send_to(1);
    world.run(30 * S);
    assert_eq!(world.delivered_from(1), [1]);
    assert_eq!(world.received_by(1), [1]);
    at_peace(&world);
}

#[test]
fn a_message_and_a_connection_that_are_given_up_at_once_are_tried_again() {
    let mut world = connected(1);
    world.stall(0, 1, 30 * S);
    world.send_to(1);
    world.run(1_500 * MS);
    // The third send needs a new connection. The connection is given up with the message: after 8 s and after
    // ten sends.
    world.cut_from(0, 1);
    world.run(35 * S);
    assert_eq!(world.saw(0, FactKind::LinkSilent), 1);
    world.send_to(1);
    world.send_from(1, 1);
    world.run(5 * S);
    assert_eq!(world.received_by(1), [1, 2], "{}", world.trace.join("\n"));
    at_peace(&world);
}

#[test]
fn a_message_that_waits_for_its_connection_is_taken_back_with_its_link() {
    let mut world = connected(1);
    world.stall(0, 1, 3 * S);
    world.cut_from(0, 1);
    world.run(MS);
    world.send_to(1);
    let link = world.links[&fid(1)];
    world.motr(motr::Command::Disconnect { link });
    let last = hax_events(&world, |e| matches!(e, motr::Event::Undelivered { .. }));
    assert_eq!(last.len(), 1);
    world.run(5 * S);
    assert!(world.received_by(1).is_empty(), "what is reported as not delivered is not");
}

#[test]
fn a_process_that_is_told_to_stop_twice_stops() {
    let mut world = connected(1);
    world.stall(0, 1, S);
    world.command(1, Command::Stop);
    world.command(1, Command::Stop);
    world.run(5 * S);
    assert!(world.exited.contains(&1));
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
