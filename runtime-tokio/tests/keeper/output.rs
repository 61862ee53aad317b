//! Tests of the output of instances: short output, output at the last moment, closed output, endless output.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixListener;

use hax_core::exec::Status;
use hax_core::keeper::answer::{Event, State};
use serde_json::json;

use crate::common::program::holds;
use crate::ends::pause;
use crate::world::{World, sh, sh_with};
use std::time::{Duration, Instant};

#[test]
fn the_last_words_of_a_short_life_are_kept() {
    let world = World::new();
    for n in 0..50 {
        world.begin(sh(&format!("a{n}"), "echo out; echo err >&2"));
    }
    for n in 0..50 {
        assert_eq!(world.log(&format!("a{n}"), "err"), "out\nerr\n");
    }
}

/// Returns the processor time of the keeper so far, in clock ticks.
fn ticks(world: &World) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", world.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn one_that_closes_its_output_lives_on_and_costs_nothing() {
    let world = World::new();
    world.begin(sh("a", "echo bye; exec >/dev/null 2>&1; exec sleep 1000"));
    world.log("a", "bye");
    pause(Duration::from_millis(200));
    let before = ticks(&world);
    pause(Duration::from_secs(1));
    assert!(ticks(&world) - before < 20, "the keeper spins");
    assert_eq!(world.view("a").state, State::Running);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it is measured how long answers take")]
fn a_flood_is_kept_within_its_files_and_holds_up_nobody() {
    let world = World::with(&["--log-max=100KiB", "--log-keep=2"]);
    world.begin(sh("flood", "exec yes 'all work and no play'"));
    world.begin(sh("quiet", "sleep 0.5; echo done; exec sleep 1000"));
    world.log("quiet", "done");
    let size = || {
        let files = fs::read_dir(world.dir.join("logs")).unwrap().flatten();
        let of_flood =
            files.filter(|entry| entry.file_name().to_string_lossy().starts_with("flood"));
        of_flood.map(|entry| entry.metadata().map_or(0, |found| found.len())).sum::<u64>()
    };
    assert!(holds(|| size() > 200 << 10));
    let mut client = world.client();
    for _ in 0..20 {
        let begun = Instant::now();
        client.list().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        // Each file may exceed its limit by the size of one read.
        assert!(size() < 3 * (164 << 10), "{}", size());
    }
    world.stop("flood");
    assert_eq!(world.ended("flood").status, Some(Status::Signal(15)));
    assert_eq!(world.view("flood").dropped, 0, "what is said waits, and is not lost");
}

#[test]
fn output_that_cannot_be_written_is_told_and_the_instance_lives() {
    let world = World::new();
    let logs = world.dir.join("logs");
    let mut watcher = world.client();
    watcher.watch().unwrap();
    fs::remove_dir_all(&logs).unwrap();
    world.begin(sh("a", "while echo lost; do sleep 0.05; done"));
    let dropped = loop {
        if let Event::OutputDropped { instance, bytes } = watcher.next_event().unwrap() {
            assert_eq!(instance.as_str(), "a");
            break bytes;
        }
    };
    assert!(dropped > 0 && world.view("a").dropped >= dropped);
    assert_eq!(world.view("a").state, State::Running);
    fs::create_dir(&logs).unwrap();
    world.log("a", "lost");
}

#[test]
fn output_goes_to_the_journal_or_nowhere_where_that_is_asked_for() {
    let socket = crate::common::certs::directory().join("stdout");
    let journal = UnixListener::bind(&socket).unwrap();
    let flag = format!("--journal={}", socket.display());
    let world = World::with(&[&flag]);
    world.begin(sh_with("a", "echo to the journal", &json!({ "output": "journal" })));
    let mut text = String::new();
    journal.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a\n\n6\n1\n0\n0\n0\nto the journal\n");
    world.begin(sh_with("b", "echo nobody hears; exit 2", &json!({ "output": "null" })));
    assert_eq!(world.ended("b").status, Some(Status::Code(2)));
    fs::remove_file(socket).unwrap();
    let (_, why) = world.refused(sh_with("c", "echo", &json!({ "output": "journal" })));
    assert!(why.starts_with("journald: "), "{why}");
    assert_eq!(fs::read_dir(world.dir.join("logs")).unwrap().count(), 0);
}
