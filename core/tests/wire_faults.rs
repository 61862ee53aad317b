//! Random faults in random order.
//!
//! No message is lost, duplicated or reordered beyond the documented cases, no process aborts, and everything
//! comes to rest when the faults end.

mod wire_support;

use std::collections::BTreeMap;

use hax_core::base::id::LinkId;
use hax_core::ha::motr;
use hax_core::wire::process::{Command, Event};
use quickcheck::{QuickCheck, TestResult};
use wire_support::account::{at_peace, number};
use wire_support::world::{Answer, MS, S, World};

const PROCESSES: usize = 3;

/// The progress of the script.
#[derive(Default)]
struct Done {
    /// The number of the last message of each process, and the number of the first message of its present
    /// life.
    sent: BTreeMap<usize, (u64, u64)>,
}

fn step(world: &mut World, done: &mut Done, op: u8, arg: u8) {
    let node = 1 + usize::from(arg) % PROCESSES;
    let long = u64::from(arg);
    match op % 16 {
        0..=2 => {
            world.send_to(node);
        }
        3..=5 if world.is_alive(node) => {
            let n = done.sent.entry(node).or_insert((0, 1));
            n.0 += 1;
            let n = n.0;
            world.send_from(node, n);
        }
        6 => world.cut(0, node),
        7 => world.stall(0, node, long * 30 * MS),
        8 => {
            world.lose.insert([0, node][usize::from(arg) % 2], 1 + u32::from(arg) % 3);
        }
        9 => world.ack_after[usize::from(arg) % 2] = (arg > 30).then_some(long * 10 * MS),
        10 if arg < 100 => {
            world.kill(0);
            world.run(long * 20 * MS);
            world.start(0);
        }
        11 if arg < 100 => {
            world.kill(node);
            world.run(long * 20 * MS);
            let sent = done.sent.entry(node).or_insert((0, 1));
            sent.1 = sent.0 + 1;
            world.start(node);
            world.command(node, Command::Ask);
        }
        12 => {
            world.answer = if arg > 128 { Answer::Again(3) } else { Answer::After(long * 50 * MS) }
        }
        _ => world.run(long * 4 * MS),
    }
    world.run(u64::from(op / 16) * 3 * MS);
}

/// Checks that the messages of a link in one life of hax are consecutive. They continue at the latest after
/// the last message that an earlier life acknowledged.
fn check_received(world: &World) {
    for life in world.former.iter().chain([&world.hax]) {
        let mut of_link: BTreeMap<LinkId, Vec<u64>> = BTreeMap::new();
        for (_, event) in life {
            if let motr::Event::Received { link, message, .. } = event {
                of_link.entry(*link).or_default().push(number(message));
            }
        }
        for run in of_link.values() {
            let whole = run.windows(2).all(|w| w[1] == w[0] + 1);
            assert!(whole, "{run:?}\n{}", world.trace.join("\n"));
        }
    }
}

fn script_holds(tape: &[u8]) {
    let mut world = World::new(PROCESSES);
    for node in 1..=PROCESSES {
        world.command(node, Command::Ask);
    }
    let mut done = Done::default();
    for ops in tape.chunks_exact(2) {
        step(&mut world, &mut done, ops[0], ops[1]);
    }
    world.heal();
    world.answer = Answer::After(0);
    world.ack_after = [Some(0), Some(0)];
    // A process whose hax was restarted notices that when it sends a message.
    for arg in 0..3 {
        step(&mut world, &mut done, 3, arg);
    }
    world.run(40 * S);
    world.acknowledge_all();
    world.run(60 * S);
    let trace = || world.trace.join("\n");
    check_received(&world);
    for (node, (last, first)) in &done.sent {
        let delivered: Vec<u64> = world.delivered_from(*node);
        let of_life: Vec<u64> = delivered.iter().copied().filter(|n| n >= first).collect();
        assert_eq!(of_life, (*first..=*last).collect::<Vec<_>>(), "of {node}\n{}", trace());
        assert!(delivered.is_sorted_by(|a, b| a < b), "{delivered:?}\n{}", trace());
    }
    for node in 1..=PROCESSES {
        let received = world.received_by(node);
        assert!(received.is_sorted_by(|a, b| a < b), "{node}: {received:?}\n{}", trace());
        let stopped = world.processes[node].iter().any(|e| matches!(e.1, Event::Stopped));
        assert!(!stopped);
    }
    for link in &world.endpoint().view().links {
        assert!(link.up, "{link:?}\n{}", trace());
    }
    at_peace(&world);
    check_stop(world);
}

fn check_stop(mut world: World) {
    world.motr(motr::Command::Stop);
    world.run(6 * S);
    assert!(world.exited.contains(&0), "{}", world.trace.join("\n"));
    assert!(world.endpoint().view().links.is_empty());
}

#[test]
fn random_faults_harm_nothing() {
    fn holds(tape: Vec<u8>) -> TestResult {
        if tape.len() < 4 {
            return TestResult::discard();
        }
        script_holds(&tape);
        TestResult::passed()
    }
    let tests = std::env::var("HAX_WIRE_TESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let rng = quickcheck::Gen::new(120);
    QuickCheck::new()
        .rng(rng)
        .tests(tests)
        .max_tests(tests * 2)
        .quickcheck(holds as fn(Vec<u8>) -> TestResult);
}

#[test]
fn the_same_faults_give_the_same_trace() {
    let tape: Vec<u8> =
        (0..200_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let run = || {
        let mut world = World::new(PROCESSES);
        (1..=PROCESSES).for_each(|node| world.command(node, Command::Ask));
        let mut done = Done::default();
        tape.chunks_exact(2).for_each(|ops| step(&mut world, &mut done, ops[0], ops[1]));
        world.trace
    };
    let first = run();
    assert!(first.len() > 100);
    assert!(first == run());
}
