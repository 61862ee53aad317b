//! Tests of a killed, frozen or stopped keeper, and of a restarted node, while instances run.

use std::fs;
use std::thread;
use std::time::Duration;

use hax_core::exec::Status;
use hax_core::keeper::answer::{Answer, Cause, State};
use hax_core::keeper::request::Ask;
use hax_driver::keeper::Client;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::common::program::holds;
use crate::ends::pause;
use crate::world::{World, all, id, lives, number, sh, sh_with};

#[test]
fn a_killed_keeper_comes_back_and_no_service_is_restarted() {
    for way in ["--cgroups=on", "--cgroups=off"] {
        let mut world = World::with(&[way]);
        let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done";
        let view = world.begin(sh("a", script));
        world.log("a", "line 3\n");
        let generation = world.client().list().unwrap().0.generation;
        for n in 1..=3 {
            world.restart();
            let (keeper, views) = world.client().list().unwrap();
            assert_eq!((keeper.generation, views.len()), (generation + n, 1), "{way}");
            let now = &views[0];
            assert_eq!((now.pid, now.state, now.adopted), (view.pid, State::Running, true));
            assert_eq!(now.generation, view.generation, "the life that has started it");
        }
        // The instance has written output meanwhile, and no line is lost.
        let log = world.log("a", "line 100\n");
        for (n, line) in log.lines().enumerate() {
            assert_eq!(line, format!("line {}", n + 1));
        }
        world.stop("a");
        // The process is not a child of this keeper, so the keeper may be unable to learn its exit code.
        let ended = world.ended("a");
        assert_eq!(ended.cause, Some(Cause::Stop), "{way}");
        assert!([Some(Status::Unknown), Some(Status::Signal(15))].contains(&ended.status));
        assert!(!lives(view.pid.unwrap()));
    }
}

#[test]
fn what_ended_without_a_keeper_is_known_to_have_ended() {
    let mut world = World::new();
    let go = world.dir.join("go");
    let wait = format!("while ! [ -e {} ]; do sleep 0.01; done; exit 3", go.display());
    let pid = world.begin(sh("a", &wait)).pid.unwrap();
    world.begin(sh("b", "exit 4"));
    world.ended("b");
    world.kill();
    fs::write(go, "").unwrap();
    assert!(holds(|| !lives(pid)));
    world.start();
    let a = world.view("a");
    assert_eq!(
        (a.state, a.status, a.cause),
        (State::Ended, Some(Status::Unknown), Some(Cause::Itself))
    );
    assert_eq!(world.view("b").status, Some(Status::Code(4)), "what was known is known still");
    // Once the end is known, it does not change.
    world.restart();
    assert_eq!(world.view("a"), a);
}

#[test]
fn what_a_dead_main_process_has_left_is_killed_or_followed_by_the_next_keeper() {
    for way in ["--cgroups=on", "--cgroups=off"] {
        for forks in [false, true] {
            let mut world = World::with(&[way]);
            let other = world.dir.join("other");
            let script = format!(
                "setsid sh -c 'echo $$ > {}; exec sleep 1000' & exec sleep 1000",
                other.display()
            );
            let main = world.begin(sh_with("a", &script, &json!({ "forks": forks }))).pid.unwrap();
            let other = number(&other);
            world.kill();
            let pid = rustix::process::Pid::from_raw(main.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            assert!(holds(|| !lives(main)));
            world.start();
            if forks {
                assert_eq!(world.view("a").pid, Some(other), "{way}");
            } else {
                assert_eq!(world.ended("a").status, Some(Status::Unknown), "{way}");
            }
            assert_eq!(lives(other), forks, "{way}");
        }
    }
}

#[test]
fn sigterm_ends_the_keeper_and_leaves_the_instances() {
    let mut world = World::new();
    let view = world.begin(sh("a", "exec sleep 1000"));
    for signal in ["TERM", "INT"] {
        world.keeper().signal(signal);
        assert_eq!(world.keeper().code(), 0);
        assert!(lives(view.pid.unwrap()));
        assert!(!world.folder().join("socket").exists());
        world.start();
        assert_eq!(world.view("a").pid, view.pid);
    }
}

fn boottime_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

#[test]
fn a_frozen_keeper_holds_up_no_service_and_keeps_a_deadline_when_it_thaws() {
    let mut world = World::new();
    let beats = world.dir.join("beats");
    let script = format!("while :; do echo beat >> {}; sleep 0.02; done", beats.display());
    world.begin(sh("a", &script));
    let counted = json!({ "until_us": boottime_us() + 300_000, "grace_ms": 100, "fence": 1 });
    let pid = world
        .begin(sh_with(
            "b",
            "trap '' TERM; while :; do sleep 0.02; done",
            &json!({ "counted": counted }),
        ))
        .pid
        .unwrap();
    world.keeper().signal("STOP");
    let length = || fs::metadata(&beats).map_or(0, |found| found.len());
    pause(Duration::from_millis(600));
    let before = length();
    assert!(holds(|| length() > before), "it goes on");
    assert!(lives(pid), "who is frozen kills nobody: systemd's watchdog ends such a keeper");
    world.keeper().signal("CONT");
    assert!(holds(|| !lives(pid)));
    assert_eq!(world.ended("b").cause, Some(Cause::Deadline));
    assert_eq!(world.view("a").state, State::Running);
}

#[test]
fn a_deadline_that_passes_while_no_keeper_runs_is_kept_by_the_next_one() {
    let mut world = World::new();
    let counted = |ms: u64| json!({ "counted": { "until_us": boottime_us() + ms * 1000, "grace_ms": 0, "fence": 1 } });
    let a = world.begin(sh_with("a", "exec sleep 1000", &counted(300))).pid.unwrap();
    let b = world.begin(sh_with("b", "exec sleep 1000", &counted(300))).pid.unwrap();
    let until = boottime_us() + 60_000_000;
    world.ask(Ask::Renew { deadlines: [(id("b"), until)].into() }).unwrap();
    world.kill();
    pause(Duration::from_millis(400));
    assert!(lives(a) && lives(b));
    world.start();
    assert!(holds(|| !lives(a)));
    let view = world.view("b");
    assert_eq!((view.state, view.until_us), (State::Running, Some(until)), "its renewal was kept");
}

#[test]
fn after_a_reboot_nothing_is_taken_for_what_it_was() {
    let dir = crate::common::certs::directory();
    let boot = dir.join("boot_id");
    fs::write(&boot, "one\n").unwrap();
    let flag = format!("--boot-id={}", boot.display());
    let mut world = World::with(&[&flag]);
    let view = world.begin(sh("a", "exec sleep 1000"));
    world.kill();
    fs::write(&boot, "two\n").unwrap();
    world.start();
    let now = world.view("a");
    assert_eq!((now.state, now.cause), (State::Ended, Some(Cause::Reboot)));
    // The process in fact still lives. This shows that the keeper trusts no pid of another boot.
    let pid = view.pid.unwrap();
    assert!(lives(pid));
    let number = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    fs::write(&boot, "").unwrap();
    world.kill();
    let output = world.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("boot_id"));
    fs::write(&boot, "two").unwrap();
    world.start();
}

/// Returns the processes of this world's instances. They are found by their mark.
fn marked(mark: &str) -> Vec<u32> {
    let is_it = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ.split(|byte| *byte == 0).any(|word| word.starts_with(mark.as_bytes()))
        })
    };
    all().filter(|stat| !stat.is_zombie).map(|stat| stat.process.pid).filter(is_it).collect()
}

/// The test kills the keeper at many moments while instances are being started.
#[test]
fn whenever_the_keeper_is_killed_nothing_runs_that_the_next_one_does_not_know() {
    for way in ["on", "off"] {
        kill_while_it_starts(way);
    }
}

fn kill_while_it_starts(way: &str) {
    let mut world = World::in_memory(&[&format!("--cgroups={way}")]);
    let prefix = format!("k{}{way}", std::process::id());
    let mut answered = Vec::new();
    for round in 0..15_u64 {
        let mut client = Client::connect(&world.folder(), Duration::from_secs(5)).unwrap();
        let names: Vec<_> = (0..20).map(|n| format!("{prefix}-{round}-{n}")).collect();
        let thread = thread::spawn(move || {
            let mut done = Vec::new();
            for name in names {
                match client.ask(Ask::Start(Box::new(sh(&name, "exec sleep 1000")))) {
                    Ok(Answer::Started { .. }) => done.push(name),
                    _ => break,
                }
            }
            done
        });
        pause(Duration::from_micros(1 + round * 6_700));
        world.kill();
        answered.extend(thread.join().unwrap());
        world.start();
        let views = world.views();
        let known: Vec<_> = views.values().filter(|view| view.state == State::Running).collect();
        for name in &answered {
            assert!(views.contains_key(name), "{name} was answered");
        }
        let running = marked(&format!("HAX_INSTANCE={prefix}-"));
        for pid in &running {
            assert!(known.iter().any(|view| view.pid == Some(*pid)), "nobody knows {pid}");
        }
        assert_eq!(known.len(), running.len());
    }
    assert!(!answered.is_empty());
}
