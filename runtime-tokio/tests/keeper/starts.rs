//! Tests of the starts of instances: one instance of a name, with its given parameters and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread;

use hax_core::keeper::answer::{Answer, Code, State};
use hax_core::keeper::request::{Ask, Start};
use serde_json::json;

use crate::world::{World, answered, id, is_root, lives, sh, sh_with, start};

#[test]
fn h04_of_fifty_starts_at_once_one_runs() {
    let world = World::new();
    let one = |n: usize| {
        let start = Start { instance: id(&format!("a{n}")), ..sh("a", "exec sleep 1000") };
        answered(world.client().ask(Ask::Start(Box::new(start))))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|n| scope.spawn(move || one(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let started = results.iter().filter(|result| matches!(result, Ok(Answer::Started { .. })));
    assert_eq!(started.count(), 1);
    let held = results.iter().filter(|result| **result == Err(Code::NameHeld));
    assert_eq!(held.count(), 49);
    assert_eq!(world.views().len(), 1);
}

#[test]
fn h39_each_start_is_an_instance_of_its_own_with_its_process() {
    let world = World::new();
    let pids = ["a1", "a2"].map(|name| {
        let start = Start { instance: id(name), ..sh("a", "exec sleep 1000") };
        let view = world.begin(start);
        let pid = view.pid.unwrap();
        assert!(lives(pid));
        world.stop(name);
        world.ended(name);
        assert!(!lives(pid));
        pid
    });
    assert_ne!(pids[0], pids[1]);
    assert_eq!(world.views().len(), 2, "an end is kept until it is forgotten");
    assert_eq!(world.ask(Ask::Forget { instance: id("a1") }), Ok(Answer::Done));
    assert_eq!(world.views().len(), 1);
    assert!(!world.folder().join("instances/a1").exists());
}

#[test]
fn an_instance_has_what_it_is_given_and_nothing_of_the_keeper() {
    let world = World::new();
    let script = "env; echo pwd=$(pwd); echo umask=$(umask); echo files=$(ulimit -n); \
        echo core=$(ulimit -c); echo oom=$(cat /proc/self/oom_score_adj); \
        n=0; while [ $n -lt 99 ]; do [ -e /proc/$$/fd/$n ] && fds=\"$fds$n \"; n=$((n+1)); done; \
        echo fds=$fds; echo sid=$(cut -d' ' -f6 /proc/$$/stat) pid=$$; \
        echo stdin=$(readlink /proc/$$/fd/0); echo end";
    let more = json!({
        "dir": "/usr", "umask": 0o027, "oom_score_adj": 500, "socket": "/s", "capability": "secret",
        "limits": { "nofile": 77, "core": 0 }, "env": { "COLOUR": "red", "LANG": "de" },
        "counted": { "until_us": u64::MAX / 2, "grace_ms": 1, "fence": 42 },
    });
    world.begin(sh_with("a", script, &more));
    let log = world.log("a", "\nend\n");
    for line in [
        "HAX_INSTANCE=a:secret",
        "HAX_SOCKET=/s",
        "HAX_FENCE=42",
        "COLOUR=red",
        "LANG=de",
        "pwd=/usr",
        "umask=0027",
        "files=77",
        "core=0",
        "oom=500",
        "fds=0 1 2",
        "stdin=/dev/null",
    ] {
        assert!(log.lines().any(|found| found.trim_end() == line), "no {line} in {log}");
    }
    assert!(!log.contains("CARGO") && !log.contains("HOME="), "{log}");
    let (sid, pid) =
        log.lines().find_map(|line| line.strip_prefix("sid=")?.split_once(" pid=")).unwrap();
    assert_eq!(sid, pid, "it leads a session");
}

#[test]
fn a_root_keeper_runs_instances_as_other_users() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let script = "echo $(id -u) $(id -g) $(id -G) $USER $HOME $(grep CapEff /proc/self/status); \
        echo again > /dev/stderr; echo end";
    world.begin(sh_with("a", script, &json!({ "user": "nobody", "group": "daemon" })));
    let log = world.log("a", "end\n");
    assert!(log.starts_with("65534 1 1 nobody /nonexistent CapEff: 0000000000000000\n"), "{log}");
    assert!(log.contains("again\n"), "{log}");
    // The user is given by number and has no entry in the user database.
    world.begin(sh_with(
        "b",
        "echo $(id -u) $(id -g)",
        &json!({ "user": "4711", "group": "4712" }),
    ));
    assert_eq!(world.log("b", "\n"), "4711 4712\n");
    for (more, part) in [
        (json!({ "user": "no-such-user" }), "no user \"no-such-user\""),
        (json!({ "user": "4711" }), "give its group"),
        (json!({ "group": "no-such-group" }), "no group"),
    ] {
        let (code, text) = world.refused(sh_with("c", "true", &more));
        assert_eq!(code, Code::NotStarted);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn h23_what_may_not_or_cannot_be_run_is_refused_and_leaves_nothing() {
    let world = World::new();
    let own = world.dir.join("own");
    fs::create_dir(&own).unwrap();
    let program = own.join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    if is_root() {
        let (code, text) = world.refused(start("a", &[program], &json!({})));
        assert_eq!(code, Code::NotStarted);
        assert!(text.contains("--allow-exec adds one"), "{text}");
        // A stop command must be in these directories, too. Otherwise the instance could never be stopped by
        // it.
    }
    fs::set_permissions(program, fs::Permissions::from_mode(0o777)).unwrap();
    let writable = World::with(&["--allow-exec", own.to_str().unwrap()]);
    let (_, text) = writable.refused(start("a", &[program], &json!({})));
    assert!(text.contains("can be written to by others"), "{text}");
    for (argv, more, part) in [
        (&["/bin/no-such-program"][..], json!({}), "No such file"),
        (&["/bin/sh"], json!({ "dir": "/no/such/folder" }), "No such file"),
        (&["/bin/"], json!({}), "in none of the folders"),
    ] {
        let (code, text) = world.refused(start("a", argv, &more));
        assert_eq!(code, Code::NotStarted);
        assert!(text.contains(part), "{text}");
    }
    assert!(world.views().is_empty());
    assert_eq!(fs::read_dir(world.folder().join("instances")).unwrap().count(), 0);
    assert_eq!(world.leaks().1, 0);
    // The name is free.
    assert_eq!(world.begin(sh("a", "exec sleep 1000")).state, State::Running);
}

#[test]
fn nothing_is_started_whose_intent_cannot_be_written() {
    let world = World::new();
    let (there, away) = (world.folder().join("instances"), world.folder().join("away"));
    fs::rename(&there, &away).unwrap();
    let marker = world.dir.join("marker");
    let script = format!("touch {}", marker.display());
    assert_eq!(world.refused(sh("a", &script)).0, Code::NotStored);
    assert!(world.views().is_empty() && !marker.exists());
    fs::rename(&away, &there).unwrap();
    world.begin(sh("a", "exec sleep 1000"));
}

#[test]
fn only_those_who_may_can_reach_the_socket() {
    let world = World::new();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
    let socket = world.folder().join("socket");
    assert_eq!((mode(&world.folder()), mode(&socket)), (0o700, 0o600));
    if !is_root() {
        return;
    }
    let shared = World::with(&["--group", "daemon"]);
    let socket = shared.folder().join("socket");
    assert_eq!((mode(&shared.folder()), mode(&socket)), (0o750, 0o660));
    assert_eq!(fs::metadata(&socket).unwrap().gid(), 1);
    assert_eq!(mode(&shared.folder().join("instances")), 0o700, "what is in it is nobody else's");
}

#[test]
fn a_folder_has_one_keeper_and_is_nobody_elses() {
    let mut world = World::new();
    let output = world.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("served by another hax already"), "{text}");
    world.keeper().signal("TERM");
    assert_eq!(world.keeper().code(), 0);
    fs::set_permissions(world.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = world.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && text.contains("written to by others"), "{text}");
    fs::set_permissions(world.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    world.start();
}

#[test]
fn systemd_is_told_of_the_keepers_life_and_by_no_instance() {
    let mut world = World::new();
    world.kill();
    let socket = world.dir.join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(crate::world::WITHIN)).unwrap();
    let hears = |text: &str| {
        let mut bytes = [0; 1000];
        let mut next = || {
            let n = manager.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..n]).into_owned()
        };
        while !next().contains(text) {}
    };
    let mut command = world.command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut keeper = crate::common::program::Program::start(command);
    hears("READY=1");
    // Without any event the watchdog is still fed.
    (0..3).for_each(|_| hears("WATCHDOG=1"));
    world.begin(sh("a", "env; echo end"));
    assert!(!world.log("a", "end").contains("NOTIFY_SOCKET"));
    keeper.signal("TERM");
    hears("STOPPING=1");
    assert_eq!(keeper.code(), 0);
    world.start();
}
