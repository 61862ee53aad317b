//! Links that outlive hax: the next life goes on with them, and its processes do not notice.

mod wire_support;

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::SendId;
use hax_core::base::time::WallClock;
use hax_core::ha::fact::{Fact, FactKind};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::wire::process::{Command, Event};
use quickcheck::{QuickCheck, TestResult};
use wire_support::world::{MS, S, World};

/// Returns a world with kept states in which all processes have their links.
fn keeping(processes: usize) -> World {
    let mut world = World::new(processes);
    world.slots = Some(BTreeMap::new());
    // The first life begins with the setting.
    world.kill(0);
    world.start(0);
    for node in 1..=processes {
        world.command(node, Command::Ask);
    }
    world.run(S);
    assert_eq!(world.links.len(), processes, "{}", world.trace.join("\n"));
    world
}

/// Kills hax and starts it again after a while.
fn restart(world: &mut World, after: u64) {
    world.kill(0);
    world.run(after);
    world.start(0);
    world.tick();
}

fn slots(world: &mut World) -> &mut BTreeMap<u32, Bytes> {
    world.slots.as_mut().expect("states are kept")
}

fn count(world: &World, kind: FactKind) -> usize {
    world.facts.iter().filter(|(node, fact)| *node == 0 && fact.kind() == kind).count()
}

fn lost(world: &World) -> Vec<(u32, &'static str)> {
    let lost = world.facts.iter().filter_map(|(_, fact)| match fact {
        Fact::LinksLost { links, why } => Some((*links, *why)),
        _ => None,
    });
    lost.collect()
}

/// Returns the numbers of the messages that a process has received.
fn heard(world: &World, node: usize) -> Vec<u64> {
    let heard = world.processes[node].iter().filter_map(|(_, event)| match event {
        Event::Received { message, .. } => match message.body {
            Body::Rpc { attempts, .. } => Some(attempts),
            _ => None,
        },
        _ => None,
    });
    heard.collect()
}

/// Returns the numbers of a process's messages that all lives of hax have received.
fn received(world: &World) -> Vec<u64> {
    let lives = world.former.iter().flatten().chain(&world.hax);
    let received = lives.filter_map(|(_, event)| match event {
        motr::Event::Received { message, .. } => match message.body {
            Body::Rpc { attempts, .. } => Some(attempts),
            _ => None,
        },
        _ => None,
    });
    received.collect()
}

fn delivered(world: &World, node: usize) -> Vec<u64> {
    let delivered = world.processes[node].iter().filter_map(|(_, event)| match event {
        Event::Delivered { send } => Some(send.0),
        _ => None,
    });
    delivered.collect()
}

/// Returns whether a process has noticed that its hax was away.
fn noticed(world: &World, node: usize) -> bool {
    world.processes[node].iter().any(|(_, event)| {
        matches!(event, Event::LinkFailed | Event::Aborted { .. })
            || *event == Event::LinkUp { reconnected: true }
    })
}

#[test]
fn idle_processes_have_their_links_at_once_and_notice_nothing() {
    let mut world = keeping(20);
    restart(&mut world, S);
    world.run(10 * MS);
    assert_eq!(count(&world, FactKind::LinkKept), 20);
    assert_eq!(world.endpoint().view().links.iter().filter(|link| link.up).count(), 20);
    for node in 1..=20 {
        let send = world.send_to(node).expect("a link");
        world.run(5 * MS);
        assert_eq!(heard(&world, node), [send.0]);
        assert!(!noticed(&world, node));
    }
    assert!(world.owed.is_empty());
}

#[test]
fn a_thousand_idle_processes_have_their_links_within_a_hundredth_of_a_second() {
    let mut world = keeping(1_000);
    restart(&mut world, S);
    world.run(10 * MS);
    assert_eq!(world.endpoint().view().links.iter().filter(|link| link.up).count(), 1_000);
    for node in [1, 500, 1_000] {
        let send = world.send_to(node).expect("a link");
        world.run(5 * MS);
        assert_eq!(heard(&world, node), [send.0]);
    }
}

#[test]
fn what_was_received_and_not_acknowledged_is_worked_by_the_next_life() {
    let mut world = keeping(1);
    world.ack_after[0] = None;
    (1..=3).for_each(|n| world.send_from(1, n));
    world.run(S);
    assert_eq!((received(&world), delivered(&world, 1)), (vec![1, 2, 3], vec![]));
    world.ack_after[0] = Some(0);
    restart(&mut world, S);
    world.run(S);
    assert_eq!(received(&world), [1, 2, 3, 1, 2, 3]);
    assert_eq!(delivered(&world, 1), [1, 2, 3]);
    world.send_from(1, 4);
    world.run(S);
    assert_eq!(delivered(&world, 1), [1, 2, 3, 4]);
    assert!(!noticed(&world, 1));
}

#[test]
fn a_message_in_flight_keeps_its_tag() {
    for before in [true, false] {
        let mut world = keeping(1);
        world.ack_after[1] = None;
        if before {
            // The process receives the message, and its reply is lost with hax.
            world.lose.insert(1, 1);
        } else {
            world.lose.insert(0, 1);
        }
        let first = world.send_to(1).expect("a link").0;
        let second = world.send_to(1).expect("a link").0;
        world.run(100 * MS);
        world.heal();
        restart(&mut world, S);
        world.run(S);
        let third = world.send_to(1).expect("a link").0;
        world.run(S);
        assert_eq!(heard(&world, 1), [first, second, third]);
        world.acknowledge_all();
        world.run(S);
        assert!(world.owed.is_empty() && !noticed(&world, 1));
    }
}

/// hax dies again and again, at any output and at any command for a state, while messages go both ways.
#[test]
fn nothing_is_lost_or_doubled_whenever_hax_dies() {
    fn property(script: Vec<(u8, u8)>) -> TestResult {
        let mut world = keeping(2);
        let (mut n, mut sent) = (0, BTreeMap::<usize, Vec<u64>>::new());
        for (what, when) in script {
            let node = usize::from(what % 2) + 1;
            match what % 5 {
                0 | 1 => {
                    n += 1;
                    world.send_from(node, n);
                }
                2 | 3 => {
                    if world.is_alive(0)
                        && let Some(send) = world.send_to(node)
                        && world.is_alive(0)
                    {
                        sent.entry(node).or_default().push(send.0);
                    }
                }
                _ => world.dies_after = Some(u32::from(when % 16) + 1),
            }
            world.ack_after[0] = (what & 0x40 != 0).then_some(100);
            world.ack_after[1] = (what & 0x80 != 0).then_some(100);
            world.run(u64::from(when) * 40);
            if !world.is_alive(0) {
                world.run(u64::from(when % 4) * 400 * MS);
                world.start(0);
                world.tick();
            }
        }
        (world.ack_after, world.dies_after) = ([Some(100); 2], None);
        for _ in 0..15 {
            world.acknowledge_all();
            world.run(S);
        }
        let trace = || world.trace.join("\n");
        for node in 1..=2 {
            let heard = heard(&world, node);
            assert!(heard.is_sorted_by(|a, b| a < b), "{node} heard {heard:?}\n{}", trace());
            let sent = sent.remove(&node).unwrap_or_default();
            let missed = sent.iter().find(|n| !heard.contains(n));
            assert_eq!(missed, None, "{node} heard {heard:?} of {sent:?}\n{}", trace());
            // A message that had no reply for ten seconds is repeated over the same link.
            let harmed = world.processes[node].iter().any(|(_, event)| {
                matches!(event, Event::Aborted { .. } | Event::LinkUp { reconnected: true })
            });
            assert!(!harmed, "{}", trace());
        }
        let received = received(&world);
        let mut delivered = [delivered(&world, 1), delivered(&world, 2)].concat();
        delivered.sort_unstable();
        assert_eq!(delivered, (1..=n).collect::<Vec<_>>(), "{}", trace());
        assert!((1..=n).all(|n| received.contains(&n)));
        assert_eq!(lost(&world), []);
        TestResult::passed()
    }
    let property: fn(Vec<(u8, u8)>) -> TestResult = property;
    QuickCheck::new().tests(120).quickcheck(property);
}

/// What happens to the state while hax is down.
type Damage = fn(&mut World);

#[test]
fn what_does_not_fit_is_left_as_it_is_today() {
    let damages: [(&str, Damage); 5] = [
        ("the kept state is damaged", |world| {
            let value = slots(world)[&0].clone();
            slots(world).insert(0, value.slice(..value.len() / 2));
        }),
        ("the kept state is damaged", |world| {
            let mut value = slots(world)[&0].to_vec();
            value[90] ^= 1;
            slots(world).insert(0, value.into());
        }),
        ("the kept state is damaged", |world| drop(slots(world).insert(0, Bytes::new()))),
        ("it was kept before the node's last reboot", |world| world.boot += 1),
        ("it was kept by another version of hax", |world| {
            let mut value = slots(world)[&0].to_vec();
            value[4] = 99;
            slots(world).insert(0, value.into());
        }),
    ];
    for (why, damage) in damages {
        let mut world = keeping(1);
        world.kill(0);
        damage(&mut world);
        world.start(0);
        world.tick();
        world.run(S);
        assert_eq!(lost(&world), [(1, why)]);
        assert!(slots(&mut world).is_empty() && world.links.is_empty(), "{why}");
        world.send_from(1, 1);
        world.run(5 * S);
        assert_eq!(delivered(&world, 1), [1], "{why}");
        assert!(noticed(&world, 1) && slots(&mut world).len() == 1);
    }
    let mut world = keeping(1);
    world.kill(0);
    let value = slots(&mut world)[&0].clone();
    slots(&mut world).insert(u32::MAX, value);
    world.start(0);
    world.tick();
    assert_eq!(lost(&world), [(1, "the kept state is damaged")]);
}

/// An older copy of a state appears. The process's positions show it, and it begins anew.
#[test]
fn an_old_state_is_found_out() {
    for (from, to) in [(3, 0), (0, 3), (1, 0), (0, 1), (5, 5)] {
        let mut world = keeping(1);
        let old = slots(&mut world).clone();
        for _ in 0..to {
            world.send_to(1);
        }
        (1..=from).for_each(|n| world.send_from(1, n));
        world.run(S);
        world.kill(0);
        *slots(&mut world) = old;
        world.start(0);
        world.tick();
        world.run(S);
        // One message more may be in flight: the next one shows that it is not.
        let early = count(&world, FactKind::LinkContradicted);
        assert_eq!(early, usize::from((from, to) != (1, 0)), "{}", world.trace.join("\n"));
        world.send_from(1, 99);
        world.run(5 * S);
        assert_eq!(count(&world, FactKind::LinkContradicted), 1);
        assert_eq!(delivered(&world, 1).last(), Some(&99));
        let send = world.send_to(1).expect("a link");
        world.run(S);
        assert_eq!(heard(&world, 1).last(), Some(&send.0));
    }
}

/// An older copy has a message that was acknowledged since. To work it again would undo what came after it.
#[test]
fn f54_what_an_old_copy_has_in_hand_is_not_worked_again() {
    let mut world = keeping(1);
    world.ack_after[0] = None;
    world.send_from(1, 1);
    world.run(S);
    let old = slots(&mut world).clone();
    world.ack_after[0] = Some(0);
    restart(&mut world, S);
    world.run(S);
    (2..=4).for_each(|n| world.send_from(1, n));
    world.run(S);
    assert_eq!((received(&world), delivered(&world, 1)), (vec![1, 1, 2, 3, 4], vec![1, 2, 3, 4]));
    world.kill(0);
    *slots(&mut world) = old;
    world.start(0);
    world.tick();
    world.run(5 * S);
    assert_eq!(count(&world, FactKind::LinkContradicted), 1);
    assert_eq!(received(&world), [1, 1, 2, 3, 4]);
}

/// A process that cannot answer, for lack of room for connections or on a bad network, cannot send its message
/// again either.
#[test]
fn f57_a_process_that_does_not_answer_is_no_proof_of_an_old_state() {
    let mut world = keeping(1);
    let old = slots(&mut world).clone();
    world.send_from(1, 1);
    world.run(S);
    world.kill(0);
    *slots(&mut world) = old;
    world.start(0);
    world.tick();
    world.run(10 * S);
    world.stall(0, 1, 30 * S);
    world.run(42 * S);
    assert_eq!(count(&world, FactKind::LinkContradicted), 0, "{}", world.trace.join("\n"));
    world.run(10 * S);
    assert_eq!(count(&world, FactKind::LinkContradicted), 1, "{}", world.trace.join("\n"));
}

#[test]
fn a_process_that_began_anew_or_is_gone_is_treated_as_ever() {
    let mut world = keeping(2);
    world.kill(0);
    world.kill(1);
    world.kill(2);
    world.start(1);
    world.start(0);
    world.tick();
    world.run(100 * MS);
    assert_eq!(count(&world, FactKind::LinkKept), 2);
    assert_eq!(world.endpoint().view().links.iter().filter(|link| link.up).count(), 0);
    world.run(2 * S);
    // The process that is gone has its link down, as after any death.
    assert_eq!(count(&world, FactKind::LinkDown), 1);
    world.command(1, Command::Ask);
    world.run(S);
    let send = world.send_to(1).expect("a new link");
    world.run(S);
    assert_eq!(heard(&world, 1), [send.0]);
    assert!(!world.processes[1].iter().any(|(_, e)| matches!(e, Event::Aborted { .. })));
}

#[test]
fn a_link_that_its_process_does_not_know_is_ended_after_a_while() {
    let mut world = keeping(1);
    world.kill(0);
    world.kill(1);
    world.start(1);
    world.start(0);
    world.tick();
    world.run(30 * S);
    assert_eq!(count(&world, FactKind::LinkContradicted), 1);
    assert!(world.links.is_empty() && slots(&mut world).is_empty());
}

#[test]
fn a_stop_leaves_the_links_unless_they_are_to_end() {
    for ends in [false, true] {
        let mut world = World::new(3);
        (world.slots, world.ends_links) = (Some(BTreeMap::new()), ends);
        world.kill(0);
        world.start(0);
        for node in 1..=3 {
            world.command(node, Command::Ask);
        }
        world.run(S);
        world.send_to(1);
        let began = world.now;
        world.motr(motr::Command::Stop);
        world.run(100 * MS);
        assert!(ends || world.exited.contains(&0), "{}", world.trace.join("\n"));
        world.run(3 * S);
        assert!(world.exited.remove(&0) && world.now > began);
        assert_eq!(slots(&mut world).len(), if ends { 0 } else { 3 });
        world.owed.clear();
        restart(&mut world, S);
        world.run(100 * MS);
        assert_eq!(count(&world, FactKind::LinkKept), if ends { 0 } else { 3 });
        if !ends {
            assert_eq!(heard(&world, 1).len(), 1);
            assert!((1..=3).all(|node| !noticed(&world, node)));
        }
    }
}

/// A link with more in hand than fits is not kept until it is less.
#[test]
fn too_much_in_hand_is_not_kept() {
    let mut world = keeping(1);
    world.ack_after[0] = None;
    let sizes = |world: &mut World| slots(world).values().map(Bytes::len).collect::<Vec<_>>();
    let notes: Vec<Note> =
        (0..600).map(|n| Note { fid: Fid::process(n), state: ObjectState::Unknown }).collect();
    for (n, expected) in [(1, 1), (2, 2), (3, 0)] {
        let (kind, notes) = (NvecKind::Get, notes.clone());
        let nvec = Nvec { kind, id_of_get: n, ignore_same_state: 0, notes };
        let message = Box::new(Message::new(WallClock(0), Body::Nvec(Box::new(nvec))));
        world.command(1, Command::Send { send: SendId(n), message });
        world.run(S);
        let kept = sizes(&mut world).first().map_or(0, |size| size / 12_000);
        assert_eq!(kept, expected, "{:?}", sizes(&mut world));
    }
    restart(&mut world, S);
    assert_eq!(count(&world, FactKind::LinkKept), 0);
    // The process has to say something, and begins anew with all of it.
    world.ack_after[0] = Some(0);
    world.send_from(1, 4);
    world.run(5 * S);
    assert_eq!(delivered(&world, 1), [1, 2, 3, 4]);
    assert!(sizes(&mut world).first().is_some_and(|size| *size < 1_000));
}
