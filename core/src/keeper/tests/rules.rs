//! Properties checked on generated tapes: they hold for all requests, for all ends of processes, and for a
//! kill of the keeper at any time.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use quickcheck::quickcheck;

use super::host::{Group, Host, WATCHER, id};
use crate::exec::Status;
use crate::keeper::answer::{Answer, State};
use crate::keeper::request::tests::start;
use crate::keeper::request::{Ask, Counted, Start};

/// Performs one action of a tape.
fn act(host: &mut Host, what: u8, which: u8) {
    let (n, m) = (which % 4, which / 4 % 2);
    let name = id(&format!("i{n}"));
    match what % 16 {
        0..=3 => {
            let mut start = start(name.as_str(), &format!("n{m}"));
            start.forks = n % 2 == 0;
            if n == 3 {
                let until_us = host.now.as_micros() + 1_000_000;
                start.counted = Some(Counted { until_us, grace_ms: 100, fence: 1 });
            }
            begin(host, start);
        }
        4 => drop(host.ask(Ask::Stop { instance: name })),
        5 => drop(host.ask(Ask::Kill { instance: name })),
        6 => drop(host.ask(Ask::Forget { instance: name })),
        7 => {
            let until = host.now.as_micros() + 1_500_000;
            drop(host.ask(Ask::Renew { deadlines: [(name, until)].into() }));
        }
        8 => host.forks(&name),
        9 => {
            let lives = host.groups.get(&name).is_some_and(|group| group.main.is_some());
            if lives {
                host.ended(&name, if m == 0 { Status::Code(0) } else { Status::Signal(11) });
            }
        }
        10 => {
            if let Some(group) = host.groups.get_mut(&name) {
                group.is_deaf = m == 1;
            }
        }
        11 => host.pass(u64::from(which) * 50_000),
        12 => host.kill_keeper(),
        13 => host.killed_after = Some(u32::from(which % 8)),
        14 => host.is_full = m == 1,
        _ => {
            if which > 200 {
                host.reboot();
            }
        }
    }
}

/// Starts an instance, and checks that the instance in the reply exists.
fn begin(host: &mut Host, start: Start) {
    let name = start.instance.clone();
    if let Some(Ok(Answer::Started { instance, .. })) = host.ask(Ask::Start(Box::new(start))) {
        assert!(host.groups[&name].is_there());
        assert_eq!(instance.instance, name);
    }
}

/// Checks the properties that hold while a keeper runs.
fn check(host: &mut Host) {
    let mut holders = BTreeMap::new();
    let views: BTreeMap<_, _> =
        host.views().into_iter().map(|view| (view.instance.clone(), view)).collect();
    for (name, group) in &host.groups {
        if !group.is_there() {
            continue;
        }
        let view = views.get(name).unwrap_or_else(|| panic!("nobody knows {name}"));
        assert!(matches!(view.state, State::Running | State::Stopping), "{view:?}");
        let before = holders.insert(view.name.clone(), name);
        assert_eq!(before, None, "two hold {}", view.name);
        if view.state == State::Running {
            assert_eq!(view.pid, group.main.map(|main| main.pid), "{view:?}");
        }
    }
    for view in views.values() {
        let is_there = host.groups.get(&view.instance).is_some_and(Group::is_there);
        // The keeper checks an instance whose processes have just been killed again a moment later.
        let is_over = matches!(view.state, State::Ended | State::Stopping);
        assert!(is_there || is_over, "{view:?} is gone");
        assert_eq!(view.state == State::Ended, view.status.is_some());
    }
}

/// Plays a tape. A new keeper follows each keeper that was killed.
fn play(tape: &[(u8, u8)]) {
    let mut host = Host::new();
    host.ask_as(WATCHER, Ask::Watch);
    for (what, which) in tape {
        act(&mut host, *what, *which);
        if host.keeper.is_none() {
            // The keeper may also be killed during its start. A later start succeeds.
            while host.keeper.is_none() {
                host.start_keeper();
            }
            host.ask_as(WATCHER, Ask::Watch);
        }
        if host.keeper.is_some() && host.killed_after.is_none() {
            check(&mut host);
        }
    }
    come_to_rest(&mut host);
}

/// Checks that every instance can be stopped and forgotten once there are no more failures.
fn come_to_rest(host: &mut Host) {
    (host.is_full, host.killed_after) = (false, None);
    if host.keeper.is_none() {
        host.start_keeper();
    }
    let names: Vec<_> = host.views().into_iter().map(|view| view.instance).collect();
    for instance in &names {
        host.ask(Ask::Stop { instance: instance.clone() });
    }
    host.pass(60_000_000);
    check(host);
    for instance in names {
        assert_eq!(host.ask(Ask::Forget { instance }), Some(Ok(Answer::Done)));
    }
    assert!(host.views().is_empty() && host.files.is_empty());
    assert!(host.groups.values().all(|group| !group.is_there()), "{:?}", host.groups);
    let keeper = host.keeper.as_ref().unwrap();
    assert_eq!((keeper.living(), keeper.kept()), (0, 0));
}

quickcheck! {
    fn nothing_runs_that_nobody_knows(tape: Vec<(u8, u8)>) -> bool {
        play(&tape);
        true
    }
}

/// Kills the keeper before each output of a sequence in turn.
#[test]
fn a_keeper_killed_at_any_moment_is_followed_by_one_that_knows_all() {
    let story = [(0, 0), (8, 0), (0, 5), (9, 0), (4, 0), (0, 3), (7, 3), (11, 255), (6, 3), (5, 5)];
    for at in 0..story.len() {
        for outputs in 0..12 {
            let mut tape = story.to_vec();
            tape.insert(at, (13, outputs));
            play(&tape);
        }
    }
}
