//! The guard on what entrypoints cost Consul: how many rounds of reads there are.

use std::time::Duration;

use hax_benches::rig::Rig;
use hax_benches::{scenes, shapes};
use hax_core::bridge::io::{Input, Output};
use hax_core::ha::motr::Command;

const READS: usize = 3;

/// Answers what a round reads: how many reads that were, and how many requests were answered.
fn answer(rig: &mut Rig) -> (usize, usize) {
    let answers = scenes::round(rig);
    let reads = answers.len();
    answers.into_iter().for_each(|answer| rig.give(Input::Consul(answer)));
    let all = rig.out.len();
    rig.out.retain(|output| !matches!(output, Output::Motr(Command::Reply { .. })));
    (reads, all - rig.out.len())
}

fn ask(rig: &mut Rig, n: usize) {
    let requests = scenes::asked(rig, n);
    rig.give_all(requests);
}

#[test]
fn those_who_ask_again_at_once_share_each_round() {
    let mut rig = Rig::new(&shapes::nodes23());
    ask(&mut rig, 1);
    // The first round finds the leader.
    while answer(&mut rig).1 == 0 {}
    // One half asks while the other half is being answered.
    ask(&mut rig, 1);
    ask(&mut rig, 50);
    assert_eq!(answer(&mut rig), (READS, 1));
    ask(&mut rig, 50);
    let (mut reads, mut answered) = (0, 0);
    while answered < 1_000 {
        let (more, now) = answer(&mut rig);
        assert!(more > 0, "somebody asks");
        reads += more;
        answered += now;
        ask(&mut rig, now);
    }
    assert!(reads <= READS * 12, "{reads} reads for {answered} answers to 100 who ask");
}

#[test]
fn who_asks_alone_waits_for_nobody() {
    let mut rig = Rig::new(&shapes::nodes23());
    ask(&mut rig, 1);
    while answer(&mut rig).1 == 0 {}
    for _ in 0..3 {
        ask(&mut rig, 1);
        assert_eq!(answer(&mut rig), (READS, 1), "at once");
    }
    ask(&mut rig, 1);
    ask(&mut rig, 10);
    assert_eq!(answer(&mut rig), (READS, 1));
    assert_eq!(answer(&mut rig), (READS, 10));
    ask(&mut rig, 1);
    assert_eq!(answer(&mut rig), (0, 0), "nine more may come in a moment");
    rig.pass(Duration::from_millis(5));
    assert_eq!(answer(&mut rig), (READS, 1), "they do not");
    ask(&mut rig, 1);
    assert_eq!(answer(&mut rig), (READS, 1), "at once");
}
