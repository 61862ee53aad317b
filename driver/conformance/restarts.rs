//! Restarts: links outlive hax, and processes that say nothing notice none.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use crate::daemon::{Ham, Hax, until};
use crate::fixture::{Fixture, stop};

/// A daemon that keeps its links in a folder of its own.
struct Keeping {
    fixture: Fixture,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Keeping {
    fn new(name: &str, more: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("links-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        let text = folder.to_str().unwrap().to_owned();
        let more = [&["--state-dir", &text], more].concat();
        let fixture = Fixture::with(&more);
        let flags = fixture.place.flags(fixture.script.address).into_iter();
        let flags = flags.chain(more.iter().map(|flag| (*flag).to_owned())).collect();
        Self { fixture, folder, flags }
    }

    /// Starts processes with a link that say nothing any more.
    fn idle(&self, keys: impl Iterator<Item = u64>) -> Vec<Ham> {
        let hams = keys.map(|key| {
            let mut ham = self.fixture.place.ham(key);
            ham.entrypoint();
            ham.say("process started");
            ham.delivered();
            ham
        });
        hams.collect()
    }

    /// Starts the next daemon, and returns the time until it is ready.
    fn start(&mut self) -> Duration {
        let began = Instant::now();
        self.fixture.hax = Hax::start(&self.flags);
        self.fixture.place.ready();
        began.elapsed()
    }

    fn count(&self, fact: &str) -> usize {
        self.fixture.hax.facts(fact).len()
    }

    fn file(&self) -> PathBuf {
        self.folder.join("links")
    }
}

/// Returns whether a process has noticed nothing: its link did not fail, and it has no other one.
fn noticed_nothing(ham: &Ham) -> bool {
    let odd = ["link-failed", "link-up", "aborted"];
    !ham.unheard().iter().any(|line| odd.iter().any(|event| line["event"] == *event))
}

#[test]
fn a_killed_hax_has_its_links_again_before_any_process_says_anything() {
    let mut keeping = Keeping::new("kill", &[]);
    let mut hams = keeping.idle(1..4);
    assert!(hams.iter().all(|ham| ham.unheard().iter().all(|line| line["event"] != "aborted")));
    for _ in 0..3 {
        keeping.fixture.hax.kill();
        keeping.start();
        // All states are sent as soon as hax is ready.
        for ham in &hams {
            ham.hears("all states", |said| said["nvec"] == "set");
        }
        until("all are back", || keeping.count("LinkBack") == 3);
        assert_eq!((keeping.count("LinkKept"), keeping.count("LinkUp")), (3, 0));
        assert!(hams.iter().all(noticed_nothing));
    }
    // The failure of a process reaches those that have said nothing since.
    hams[2].say("process stopped");
    hams[2].delivered();
    hams[0].is_told(3, "FAILED");
    hams[1].is_told(3, "FAILED");
    assert!(noticed_nothing(&hams[0]) && noticed_nothing(&hams[1]));
    assert_eq!(keeping.count("LinkUp"), 0);
}

#[test]
fn a_stop_leaves_the_links_and_waits_for_no_process() {
    let mut keeping = Keeping::new("stop", &[]);
    let hams = keeping.idle(1..4);
    assert_eq!(stop(&mut keeping.fixture.hax), 0);
    assert_eq!(keeping.count("LinkClosed"), 0);
    keeping.start();
    until("all are back", || keeping.count("LinkBack") == 3);
    assert!(hams.iter().all(noticed_nothing));
}

#[test]
fn a_message_that_comes_while_hax_is_down_is_taken_by_the_next_one() {
    let mut keeping = Keeping::new("down", &[]);
    let mut hams = keeping.idle(1..3);
    keeping.fixture.hax.kill();
    hams[0].say("process stopped");
    keeping.start();
    hams[0].delivered();
    hams[1].is_told(1, "FAILED");
    assert!(noticed_nothing(&hams[1]));
}

/// hax is killed at any moment, while processes report.
#[test]
fn processes_that_talk_through_ten_restarts_lose_and_repeat_nothing() {
    let mut keeping = Keeping::new("talk", &[]);
    let mut hams = keeping.idle(1..4);
    let mut said = 0;
    for round in 0_u64..10 {
        for ham in &mut hams {
            (0..3).for_each(|_| ham.say("process started"));
        }
        said += 3;
        // Other moments in each round: the messages are on their way, in Consul, or acknowledged.
        std::thread::sleep(Duration::from_millis(round * 3));
        keeping.fixture.hax.kill();
        keeping.start();
        until("all are back", || keeping.count("LinkBack") == 3);
        assert_eq!(keeping.count("LinkContradicted"), 0);
    }
    for ham in &hams {
        let mut sends: Vec<_> = (0..said).map(|_| ham.delivered()).collect();
        sends.sort_unstable();
        sends.dedup();
        assert_eq!(sends.len(), said, "each message has one outcome");
        let rest = ham.unheard();
        let odd = ["delivered", "link-failed", "link-up", "aborted"];
        assert!(!rest.iter().any(|line| odd.iter().any(|event| line["event"] == *event)));
    }
}

#[test]
fn links_end_with_a_hax_that_is_told_so() {
    let mut keeping = Keeping::new("end", &["--end-links"]);
    let _hams = keeping.idle(1..3);
    assert_eq!(stop(&mut keeping.fixture.hax), 0);
    assert_eq!(keeping.count("LinkClosed"), 2);
    keeping.start();
    assert_eq!(keeping.count("LinkKept"), 0);
}

#[test]
fn state_that_does_not_fit_is_said_and_left() {
    let mut keeping = Keeping::new("torn", &[]);
    let mut hams = keeping.idle(1..2);
    keeping.fixture.hax.kill();
    let file = fs::OpenOptions::new().write(true).open(keeping.file()).unwrap();
    let length = file.metadata().unwrap().len();
    // The values themselves stay, and their checksums do not fit any more.
    for at in (4096..length).step_by(4096) {
        file.write_all_at(&[0x55; 64], at).unwrap();
    }
    drop(file);
    keeping.start();
    assert_eq!((keeping.count("LinkKept"), keeping.count("LinksLost")), (0, 1));
    hams[0].say("process started");
    hams[0].delivered();
    assert_eq!(keeping.count("LinkUp"), 1);
    // Another hax may not take the place of the one that has the links.
    let said = |hax: &Hax| hax.log().iter().any(|line| line.to_string().contains("is used by"));
    let other = Fixture::with(&["--state-dir", keeping.folder.to_str().unwrap()]);
    assert!(said(&other.hax), "{:#?}", other.hax.log());
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    let mut keeping = Keeping::new("symlink", &[]);
    keeping.fixture.hax.kill();
    let target = keeping.folder.join("target");
    fs::rename(keeping.file(), &target).unwrap();
    symlink(&target, keeping.file()).unwrap();
    let before = fs::read(&target).unwrap();
    keeping.start();
    let _hams = keeping.idle(1..2);
    let log = keeping.fixture.hax.log();
    assert!(log.iter().any(|line| line.to_string().contains("links do not outlive hax")));
    assert_eq!(fs::read(&target).unwrap(), before);
}
