//! Tests of helpers that do not end by themselves.

use super::*;

#[test]
fn a_deadline_ends_the_whole_group() {
    for watch in WATCHES {
        let rig = Rig::with(Settings::default(), watch);
        let deadline = Duration::from_millis(200);
        let pid = rig.hears(Spawn { deadline, ..sh(1, "sleep 1000 & echo $!; wait") });
        let ran = rig.ends();
        assert_eq!((ran.status, ran.cause), (Status::Signal(15), Cause::Deadline));
        until("its child is gone", || !lives(&pid));
    }
}

#[test]
fn a_daemon_that_a_helper_leaves_lives_on_if_it_may() {
    for leaves_daemons in [false, true] {
        let rig = Rig::new();
        let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
        let pid = rig.hears(Spawn { leaves_daemons, ..sh(1, script) });
        assert_eq!(rig.ends().status, Status::Code(0));
        if leaves_daemons {
            // The end is told after a group was killed.
            assert!(lives(&pid));
            assert!(StdCommand::new("kill").args(["-9", &pid]).status().unwrap().success());
        }
        until("its daemon is gone", || !lives(&pid));
        // One that is ended takes all with it.
        let pid = rig.hears(Spawn { leaves_daemons, ..sh(2, "sleep 1000 & echo $!; wait") });
        rig.kill(2);
        rig.ends();
        until("its child is gone", || !lives(&pid));
    }
}

#[test]
fn who_does_not_hear_a_sigterm_is_killed_when_its_grace_is_over() {
    let rig = Rig::new();
    let grace = Duration::from_millis(100);
    let script = "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done";
    let pid = rig.hears(Spawn { grace, ..sh(1, script) });
    rig.kill(1);
    let ran = rig.ends();
    assert_eq!((ran.status, ran.cause), (Status::Signal(9), Cause::Killed));
    until("its child is gone", || !lives(&pid));
}

#[test]
fn who_hears_it_has_time_for_a_last_word() {
    let rig = Rig::new();
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    assert_eq!(rig.hears(sh(1, script)), "ready");
    rig.kill(1);
    // The second kill changes nothing: no helper is signalled twice.
    rig.kill(1);
    let ran = rig.ends();
    assert_eq!((&*ran.stdout, ran.status, ran.cause), ("bye\n", Status::Code(7), Cause::Killed));
    // The first helper has ended already, and the other one never existed.
    rig.kill(1);
    rig.kill(99);
    assert_eq!(rig.ran(sh(2, "exit 4")).status, Status::Code(4));
}

#[test]
fn who_is_stopped_is_ended_all_the_same() {
    let rig = Rig::new();
    assert_eq!(rig.hears(sh(1, "echo now; kill -STOP $$; exit 9")), "now");
    rig.kill(1);
    let ran = rig.ends();
    assert_eq!((ran.status, ran.cause), (Status::Signal(15), Cause::Killed));
}

#[test]
fn who_closes_its_outputs_is_not_over() {
    let rig = Rig::new();
    let go = flag("closes");
    let script = format!(
        "echo closing; exec >&- 2>&-; while [ ! -e {} ]; do sleep 0.01; done; exit 5",
        go.display()
    );
    assert_eq!(rig.hears(sh(1, &script)), "closing");
    // Another helper starts and ends meanwhile, and the first one has no event.
    assert_eq!(rig.ran(sh(2, ":")).status, Status::Code(0));
    fs::write(&go, "").unwrap();
    assert_eq!(rig.ends().status, Status::Code(5));
    fs::remove_file(go).unwrap();
}

#[test]
fn what_a_helper_leaves_behind_in_its_group_ends_with_it() {
    let rig = Rig::new();
    // The process that is left behind has the outputs open.
    let pid = rig.hears(sh(1, "sleep 1000 & echo $!; exit 3"));
    let ran = rig.ends();
    assert_eq!((ran.status, ran.cause), (Status::Code(3), Cause::Itself));
    assert!(ran.unheard.open);
    until("it is gone", || !lives(&pid));
    // The process that is left behind has no output open.
    let ran = rig.ran(sh(2, "sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!"));
    assert!(!ran.unheard.open);
    until("it is gone", || !lives(ran.stdout.trim_end()));
}

#[test]
fn what_leaves_the_group_may_live_on_and_is_not_waited_for() {
    let rig = Rig::new();
    let grace = Duration::from_millis(1);
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & wait";
    let pid = rig.hears(Spawn { grace, ..sh(1, script) });
    rig.kill(1);
    let ran = rig.ends();
    assert_eq!((ran.status, ran.unheard.open), (Status::Signal(15), true));
    assert!(lives(&pid));
    assert!(StdCommand::new("/bin/kill").args(["-9", &pid]).status().unwrap().success());
}

#[test]
fn what_was_started_last_may_be_ended_first() {
    let rig = Rig::new();
    for id in 0..30 {
        assert_eq!(rig.hears(sh(id, "echo up; exec sleep 1000")), "up");
    }
    for id in (0..30).rev() {
        rig.kill(id);
        match rig.next() {
            Event::Exited { id: ended, .. } => assert_eq!(ended, ExecId(id)),
            other => panic!("{other:?}"),
        }
    }
}
