//! Tests of the ends of instances, by themselves and by a stop.

use std::fs;
use std::time::Duration;

use hax_core::exec::Status;
use hax_core::keeper::answer::{Answer, Cause, Event, State};
use hax_core::keeper::request::Ask;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::common::program::holds;
use crate::world::{KILLED, World, id, lives, number, sh, sh_with};

/// With cgroups, if this machine has them, and without.
const WAYS: [&str; 2] = ["--cgroups=on", "--cgroups=off"];

#[test]
fn h25_an_end_is_told_with_its_code_or_signal_exactly_once() {
    let world = World::new();
    let mut watcher = world.client();
    watcher.watch().unwrap();
    world.begin(sh("a", "exit 3"));
    world.begin(sh("b", "kill -SEGV $$"));
    let mut ends = Vec::new();
    while ends.len() < 2 {
        if let Event::Exited(view) = watcher.next_event().unwrap() {
            ends.push((view.instance.to_string(), view.status, view.cause));
        }
    }
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    let itself = Some(Cause::Itself);
    let code = ("a".to_owned(), Some(Status::Code(3)), itself);
    assert_eq!(ends, [code, ("b".to_owned(), Some(Status::Signal(11)), itself)]);
    let pid = world.begin(sh("c", "exec sleep 1000")).pid.unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let mut told = 0;
    while told == 0 {
        if let Event::Exited(view) = watcher.next_event().unwrap() {
            assert_eq!((view.status, view.cause), (KILLED, itself));
            told += 1;
        }
    }
    // No further event follows.
    world.begin(sh("d", "exit 0"));
    let next = std::iter::from_fn(|| watcher.next_event().ok())
        .find(|event| matches!(event, Event::Exited(_)));
    assert!(matches!(next, Some(Event::Exited(view)) if view.instance == id("d")));
}

#[test]
fn one_that_ignores_sigterm_is_killed_with_all_that_it_has_started() {
    for way in WAYS {
        let world = World::with(&[way]);
        let other = world.dir.join("other");
        // The shell waits for `sleep` and does not `exec` it. The `sleep` inherits the ignored signal.
        let script =
            format!("trap '' TERM; (sleep 1000 & echo $! > {}; wait) & wait", other.display());
        let view = world.begin(sh_with("a", &script, &json!({ "stop": { "kill_after_ms": 300 } })));
        let other = number(&other);
        world.stop("a");
        assert_eq!(world.view("a").state, State::Stopping, "{way}");
        let ended = world.ended("a");
        assert_eq!((ended.status, ended.cause), (KILLED, Some(Cause::Stop)), "{way}");
        assert!(!lives(view.pid.unwrap()) && holds(|| !lives(other)), "{way}");
    }
}

#[test]
fn h05_children_that_a_main_process_leaves_are_killed_even_in_sessions_of_their_own() {
    for way in WAYS {
        let world = World::with(&[way]);
        let other = world.dir.join("other");
        let script = format!(
            "setsid sh -c 'echo $$ > {0}; exec sleep 1000' & \
            while ! [ -s {0} ]; do sleep 0.01; done; exit 4",
            other.display()
        );
        world.begin(sh("a", &script));
        let other = number(&other);
        let ended = world.ended("a");
        assert_eq!(
            (ended.status, ended.cause),
            (Some(Status::Code(4)), Some(Cause::Itself)),
            "{way}"
        );
        assert!(!lives(other), "{way}");
        assert_eq!(world.leaks().1, 0, "{way}");
    }
}

#[test]
fn a_daemon_is_followed_and_its_exit_code_is_known() {
    for way in WAYS {
        let world = World::with(&[way]);
        let (daemon, go) = (world.dir.join("daemon"), world.dir.join("go"));
        // The daemon has forked twice, has its own session, and its parent is gone, as after daemon(3).
        let script = format!(
            "setsid sh -c '(echo $$ >/dev/null; sh -c \"echo \\$\\$ > {0}; while ! [ -e {1} ]; do sleep 0.02; done; exit 7\") & exit 0' & \
            while ! [ -s {0} ]; do sleep 0.01; done; exit 0",
            daemon.display(),
            go.display()
        );
        world.begin(sh_with("a", &script, &json!({ "forks": true })));
        let daemon = number(&daemon);
        assert!(lives(daemon));
        // The program itself has ended: its daemon is what is followed.
        assert!(holds(|| world.view("a").pid == Some(daemon)), "{way}");
        assert_eq!(world.view("a").state, State::Running, "{way}");
        fs::write(go, "").unwrap();
        let ended = world.ended("a");
        assert_eq!(ended.status, Some(Status::Code(7)), "{way}");
        assert!(!lives(daemon) && holds(|| world.leaks().1 == 0), "{way}");
    }
}

#[test]
fn a_stop_command_is_run_to_its_end_and_its_instance_ends_after_it() {
    for way in WAYS {
        let world = World::with(&[way]);
        let done = world.dir.join("done");
        // `kill -0` succeeds for a zombie. If the keeper did not reap it, such a script would wait forever.
        let stop = format!(
            "kill $MAINPID; while kill -0 $MAINPID; do sleep 0.01; done; sleep 0.1; echo $HAX_INSTANCE > {}",
            done.display()
        );
        let more =
            json!({ "stop": { "command": ["/bin/sh", "-c", stop], "kill_after_ms": 20_000 } });
        world.begin(sh_with("a", "exec sleep 1000", &more));
        world.stop("a");
        let ended = world.ended("a");
        assert_eq!((ended.status, ended.cause), (Some(Status::Signal(15)), Some(Cause::Stop)));
        assert_eq!(fs::read_to_string(done).unwrap(), "a\n", "{way}");
        assert_eq!(world.leaks().1, 0, "{way}");
    }
}

#[test]
fn keepers_of_two_folders_leave_each_others_instances_alone() {
    for way in WAYS {
        let worlds = [World::with(&[way]), World::with(&[way])];
        let pids =
            worlds.each_ref().map(|world| world.begin(sh("a", "exec sleep 1000")).pid.unwrap());
        assert_eq!(worlds[0].ask(Ask::Kill { instance: id("a") }), Ok(Answer::Done));
        worlds[0].ended("a");
        assert!(!lives(pids[0]) && lives(pids[1]), "{way}");
        assert_eq!(worlds[1].view("a").state, State::Running, "{way}");
    }
}

#[test]
fn a_signal_reaches_the_main_process() {
    let world = World::new();
    world.begin(sh(
        "a",
        "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.02; done",
    ));
    world.log("a", "ready");
    assert_eq!(world.ask(Ask::Signal { instance: id("a"), signal: 10 }), Ok(Answer::Done));
    assert_eq!(world.ended("a").status, Some(Status::Code(5)));
    world.log("a", "got it");
}

fn boottime_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

#[test]
fn a_counted_one_lives_while_it_is_renewed_and_dies_when_nobody_is_left_to_do_it() {
    let world = World::new();
    let counted = json!({ "until_us": boottime_us() + 400_000, "grace_ms": 100, "fence": 1 });
    let view = world.begin(sh_with(
        "a",
        "trap '' TERM; while :; do sleep 0.02; done",
        &json!({ "counted": counted }),
    ));
    let mut client = world.client();
    let mut until = 0;
    for _ in 0..20 {
        until = boottime_us() + 400_000;
        let answer = client.ask(Ask::Renew { deadlines: [(id("a"), until)].into() });
        assert_eq!(answer.unwrap(), Answer::Renewed { refused: vec![] });
        pause(Duration::from_millis(50));
    }
    assert_eq!(world.view("a").state, State::Running);
    // The instance's hax is gone.
    drop(client);
    assert!(holds(|| !lives(view.pid.unwrap())));
    let late = boottime_us() - until;
    let ended = world.ended("a");
    assert_eq!((ended.status, ended.cause), (KILLED, Some(Cause::Deadline)));
    assert!((100_000..3_000_000).contains(&late), "{late} us after its deadline");
}

/// Lets time pass, because the test is about its passing.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn nothing_is_left_of_instances_that_have_ended() {
    let world = World::new();
    let before = world.leaks();
    for n in 0..30 {
        world.begin(sh(&format!("a{n}"), "sleep 1000 & echo hello; exit 1"));
    }
    for n in 0..30 {
        world.ended(&format!("a{n}"));
        assert_eq!(world.ask(Ask::Forget { instance: id(&format!("a{n}")) }), Ok(Answer::Done));
    }
    assert!(holds(|| world.leaks() == before), "{:?} instead of {before:?}", world.leaks());
    assert_eq!(fs::read_dir(world.folder().join("instances")).unwrap().count(), 0);
}
