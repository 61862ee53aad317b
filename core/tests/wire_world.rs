//! The server's part and a process's part against each other, with faults between them.

mod wire_support;

use hax_core::base::fact::FactKind;
use hax_core::wire::process::{Command, Event};
use wire_support::world::{S, World, fid};

fn connected(processes: usize) -> World {
    let mut world = World::new(processes);
    for node in 1..=processes {
        world.command(node, Command::Ask);
    }
    world.run(S);
    assert_eq!(world.links.len(), processes, "{}", world.trace.join("\n"));
    world
}

#[track_caller]
fn at_peace(world: &World) {
    assert_eq!(world.aborts(), [], "{}", world.trace.join("\n"));
    assert!(world.owed.is_empty(), "{:?}\n{}", world.owed, world.trace.join("\n"));
    for node in 0..world.processes.len() {
        for bad in
            [FactKind::BadFrame, FactKind::BadPacket, FactKind::BadItem, FactKind::BadDelivered]
        {
            assert_eq!(world.saw(node, bad), 0, "{}", world.trace.join("\n"));
        }
    }
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
