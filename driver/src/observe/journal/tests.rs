use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::CallId;
use hax_core::base::time::{Instant, WallClock};
use hax_core::bridge::config;
use hax_core::consul::port::{Answer, Reply};
use hax_core::wire;

use super::*;

fn node() -> Config {
    let bridge = config::Config::new(Fid::process(1), "ssu1", 1);
    Config { bridge, wire: wire::Config::new(([127, 0, 0, 1], 1).into(), 1, 1) }
}

fn now(us: u64) -> Now {
    Now { mono: Instant::from_micros(us), wall: WallClock(us) }
}

fn answer(bytes: usize) -> Input {
    let body = Bytes::from(vec![7; bytes]);
    Input::Consul(Reply { id: CallId(1), result: Ok(Answer { status: 200, index: 1, body }) })
}

/// Returns the times of the records; checks that the last record is complete.
fn moments(bytes: &[u8]) -> Vec<u64> {
    let (config, records) = journal::open(bytes).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", node()));
    records.map(|record| record.unwrap().0.mono.as_micros()).collect()
}

fn why(ended: Option<Fact>) -> String {
    ended.expect("it ends").to_string()
}

/// A disk that waits for permission before each write, and can fail.
struct Disk {
    leave: Receiver<Option<io::ErrorKind>>,
    begins: Sender<()>,
    all: Arc<Mutex<Vec<u8>>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.begins.send(());
        match self.leave.recv() {
            Ok(Some(why)) => Err(why.into()),
            Ok(None) | Err(_) => {
                self.all.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Slow {
    journal: Journal,
    leave: Sender<Option<io::ErrorKind>>,
    begun: Receiver<()>,
    all: Arc<Mutex<Vec<u8>>>,
}

fn slow(max: u64) -> Slow {
    let (leave, may) = channel();
    let (begins, begun) = channel();
    let all = Arc::default();
    let disk = Disk { leave: may, begins, all: Arc::clone(&all) };
    let journal = Journal::write_to(disk, "journal".into(), max, &node());
    Slow { journal, leave, begun, all }
}

#[test]
fn no_life_writes_over_another_s_journal() {
    let dir = std::env::temp_dir().join(format!("hax-journal-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("journal");
    for n in 0..=OLD_MAX {
        let mut journal = Journal::begin(&path, 1 << 20, &node()).unwrap();
        assert_eq!(journal.record(now(n.into()), &Input::Tick), None);
        let name = if n == 0 { "journal".into() } else { format!("journal.{n}") };
        assert_eq!(journal.path, dir.join(&name));
        drop(journal);
        assert_eq!(moments(&std::fs::read(dir.join(name)).unwrap()), [u64::from(n)]);
    }
    let none = Journal::begin(&path, 1 << 20, &node()).unwrap_err().to_string();
    assert!(none.contains("none is overwritten"), "{none}");
    let none = Journal::begin(&dir.join("no/journal"), 1 << 20, &node()).unwrap_err().to_string();
    assert!(none.contains("cannot create") && none.contains("No such file"), "{none}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_loop_does_not_wait_for_the_disk_and_all_is_written_in_the_end() {
    let Slow { mut journal, leave, begun, all } = slow(u64::MAX);
    begun.recv().unwrap();
    // The disk has not written a byte yet.
    for us in 0..1_000 {
        assert_eq!(journal.record(now(us), &Input::Tick), None);
    }
    assert!(all.lock().unwrap().is_empty());
    drop(leave);
    drop(journal);
    assert_eq!(moments(&all.lock().unwrap()), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_does_not_keep_up_ends_it_with_a_whole_record() {
    let Slow { mut journal, leave, begun, all } = slow(u64::MAX);
    begun.recv().unwrap();
    let mut us = 0;
    let ended = loop {
        match journal.record(now(us), &answer(16 << 20)) {
            None => us += 1,
            ended => break ended,
        }
    };
    assert!(why(ended).contains("does not keep up"));
    assert_eq!(us, (BEHIND_MAX / (16 << 20)) as u64 - 1);
    assert_eq!(journal.record(now(us), &Input::Tick), None, "it is said once");
    drop(leave);
    drop(journal);
    assert_eq!(moments(&all.lock().unwrap()), (0..us).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_fails_ends_it() {
    let Slow { mut journal, leave, begun, all } = slow(u64::MAX);
    begun.recv().unwrap();
    leave.send(None).unwrap();
    leave.send(Some(io::ErrorKind::StorageFull)).unwrap();
    assert_eq!(journal.record(now(1), &Input::Tick), None);
    begun.recv().unwrap();
    let ended = (2..u64::MAX).find_map(|us| journal.record(now(us), &Input::Tick));
    assert!(why(ended).starts_with("the journal ends, hax goes on: journal: "));
    drop(journal);
    assert!(moments(&all.lock().unwrap()).is_empty());
}

#[test]
fn it_ends_at_its_limit_with_a_whole_record() {
    let max = 10_000;
    let Slow { mut journal, leave, all, .. } = slow(max);
    drop(leave);
    let (mut us, mut ended) = (0, None);
    while ended.is_none() {
        us += 1;
        ended = journal.record(now(us), &answer(1_000));
    }
    assert!(why(ended).contains("--journal-max"));
    drop(journal);
    let all = all.lock().unwrap();
    assert_eq!(moments(&all), (1..us).collect::<Vec<_>>());
    let room = usize::try_from(max).unwrap() - all.len();
    assert!(room < 1_100, "{room}");
}

#[test]
fn a_panic_waits_for_what_led_to_it() {
    let Slow { mut journal, leave, begun, all } = slow(u64::MAX);
    begun.recv().unwrap();
    // The disk continues only after the panic has begun.
    let leave = Mutex::new(Some(leave));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        drop(leave.lock().unwrap().take());
    }));
    journal.outlive_panics();
    assert_eq!(journal.record(now(5), &Input::Tick), None);
    let panicked = std::panic::catch_unwind(|| panic!("on purpose"));
    assert!(panicked.is_err());
    assert_eq!(moments(&all.lock().unwrap()), [5]);
    drop(journal);
}
