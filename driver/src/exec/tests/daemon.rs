//! Tests that helpers end with the daemon.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::*;

const CHILD: &str = "HAX_TEST_EXEC_DAEMON";

#[test]
fn a_stop_ends_all_and_waits_no_longer_than_it_says() {
    let (inbox, events) = async_channel::bounded(16);
    let exec = Exec::start(Settings::default(), inbox, |event| event).unwrap();
    let deaf = "trap '' TERM; echo $$; while :; do sleep 1000; done";
    exec.execute(Command::Spawn(Box::new(sh(1, deaf))));
    exec.execute(Command::Spawn(Box::new(sh(2, "echo $$; exec sleep 1000"))));
    let mut pids = Vec::new();
    while pids.len() < 2 {
        if let Event::Output { bytes, .. } = events.recv_blocking().unwrap() {
            pids.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
    }
    let begun = Instant::now();
    block_on(exec.shut_down(Duration::from_millis(100)));
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
    assert!(!pids.iter().any(|pid| lives(pid)), "{pids:?}");
    let mut ends = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Exited { id, status, cause, .. } = event {
            ends.push((id.0, status, cause));
        }
    }
    ends.sort_unstable_by_key(|(id, ..)| *id);
    let expected = [(1, Status::Signal(9), Cause::Killed), (2, Status::Signal(15), Cause::Killed)];
    assert_eq!(ends, expected);
}

#[test]
fn a_stop_waits_for_nobody_who_hears_no_more() {
    let (inbox, events) = async_channel::bounded(1);
    let exec = Exec::start(Settings::default(), inbox, |event| event).unwrap();
    exec.execute(Command::Spawn(Box::new(sh(1, "exec yes"))));
    until("it is full", || events.is_full());
    events.close();
    block_on(exec.shut_down(Duration::from_secs(1)));
}

#[test]
fn whoever_drops_the_port_ends_its_helpers() {
    let rig = Rig::new();
    let pid = rig.hears(sh(1, "trap '' TERM; echo $$; while :; do sleep 1000; done"));
    drop(rig);
    until("it is gone", || !lives(&pid));
}

/// The kernel ends a helper with the thread that created it. This thread is not the one that asked for the
/// helper.
#[test]
fn a_helper_outlives_the_thread_that_asked_for_it() {
    let rig = Rig::new();
    let go = flag("outlives");
    let script = format!("echo up; while [ ! -e {} ]; do sleep 0.01; done; exit 5", go.display());
    let rig = thread::spawn(move || {
        assert_eq!(rig.hears(sh(1, &script)), "up");
        rig
    });
    let rig = rig.join().unwrap();
    fs::write(&go, "").unwrap();
    assert_eq!(rig.ends().status, Status::Code(5));
    fs::remove_file(go).unwrap();
}

#[test]
fn a_helper_dies_with_a_daemon_that_is_killed() {
    if std::env::var_os(CHILD).is_some() {
        let rig = Rig::new();
        println!("helper {}", rig.hears(sh(1, "echo $$; exec sleep 1000")));
        // The child process waits here until it is killed.
        rig.next();
        return;
    }
    let name = "exec::tests::daemon::a_helper_dies_with_a_daemon_that_is_killed";
    let mut daemon = StdCommand::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", name, "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped());
    let mut daemon = daemon.spawn().unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut pids = lines.filter_map(|line| Some(line.split_once("helper ")?.1.to_owned()));
    let pid = pids.next().unwrap();
    assert!(lives(&pid));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    until("it is gone", || !lives(&pid));
}
