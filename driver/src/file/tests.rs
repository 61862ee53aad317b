//! Tests with files on a real disk, and with daemons that are killed during a write.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command as StdCommand;

use bytes::Bytes;
use futures_lite::future::block_on;
use hax_core::file::PRIVATE;
use rustix::process::{Signal, getpid, kill_process};

use super::whole::Step;
use super::*;

/// The variables of a child process: the path of its file, and the step of the write at which it is killed.
const CHILD: (&str, &str) = ("HAX_TEST_FILE_PATH", "HAX_TEST_FILE_STEP");

/// A length of more than a page, and of more than the child of the full-disk test may write.
const LONG: usize = 100_000;

/// A temporary directory for one test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("hax-file-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        Self(place)
    }

    fn path(&self, name: &str) -> Box<str> {
        self.0.join(name).to_str().unwrap().into()
    }

    fn names(&self) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the event of one command in a daemon that has just started.
fn does(command: Command) -> Event {
    carry_out(command, &mut BTreeSet::new())
}

const ID: FileId = FileId(1);
const DONE: Event = Event::Done { id: ID };

fn failed(why: Failure) -> Event {
    Event::Failed { id: ID, why }
}

fn content(bytes: impl Into<Bytes>) -> Event {
    Event::Content { id: ID, content: bytes.into() }
}

fn write(path: &str, content: impl Into<Bytes>) -> Command {
    let content = content.into();
    Command::Write(Box::new(Write { id: ID, path: path.into(), mode: PRIVATE, content }))
}

fn read(path: &str) -> Command {
    Command::Read { id: ID, path: path.into(), max: LONG }
}

fn remove(path: &str) -> Command {
    Command::Remove { id: ID, path: path.into() }
}

#[test]
fn what_is_written_is_read() {
    let place = Place::new("written");
    let path = place.path("table");
    assert_eq!(does(read(&path)), Event::Missing { id: ID });
    for text in ["one", "", "a longer one"] {
        assert_eq!(does(write(&path, text)), DONE);
        assert_eq!(does(read(&path)), content(text));
    }
    assert_eq!(place.names(), ["table"]);
    assert_eq!(does(remove(&path)), DONE);
    assert_eq!(does(read(&path)), Event::Missing { id: ID });
    assert_eq!(does(remove(&path)), DONE);
}

#[test]
fn a_file_has_the_mode_that_it_is_given() {
    let place = Place::new("mode");
    let path = place.path("table");
    for mode in [0o600, 0o664, 0o640] {
        let write = Write { id: ID, path: path.clone(), mode, content: Bytes::new() };
        assert_eq!(does(Command::Write(Box::new(write))), DONE);
        assert_eq!(fs::metadata(&*path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn what_is_too_long_is_not_read() {
    let place = Place::new("long");
    let path = place.path("table");
    assert_eq!(does(write(&path, vec![1; LONG])), DONE);
    assert_eq!(does(read(&path)), content(vec![1; LONG]));
    assert_eq!(does(write(&path, vec![1; LONG + 1])), DONE);
    assert_eq!(does(read(&path)), failed(Failure::TooLong));
}

#[test]
fn a_path_that_names_no_file_is_refused() {
    for path in ["", "table", "./table", "/", "/tmp/", "/tmp/.", "/tmp/..", "/tmp/a\0b"] {
        for command in [read(path), write(path, ""), remove(path)] {
            assert_eq!(does(command), failed(Failure::Malformed), "{path:?}");
        }
    }
}

#[test]
fn links_are_neither_followed_nor_replaced() {
    let place = Place::new("link");
    let (link, target) = (place.path("link"), place.path("target"));
    fs::write(&*target, "secret").unwrap();
    symlink(&*target, &*link).unwrap();
    assert_eq!(does(read(&link)), failed(Failure::NoFile));
    assert_eq!(does(write(&link, "mine")), failed(Failure::NoFile));
    assert_eq!(fs::read_to_string(&*link).unwrap(), "secret");
    // The link is removed; its target stays.
    assert_eq!(does(remove(&link)), DONE);
    assert_eq!(fs::read_to_string(&*target).unwrap(), "secret");
}

#[test]
fn what_is_no_file_is_left_alone_and_not_waited_for() {
    let place = Place::new("none");
    let (folder, pipe) = (place.path("folder"), place.path("pipe"));
    fs::create_dir(&*folder).unwrap();
    let made = StdCommand::new("mkfifo").arg(&*pipe).status().unwrap();
    assert!(made.success());
    for path in [&folder, &pipe] {
        assert_eq!(does(read(path)), failed(Failure::NoFile), "{path}");
        assert_eq!(does(write(path, "")), failed(Failure::NoFile), "{path}");
    }
    assert_eq!(does(remove(&folder)), failed(Failure::NoFile));
    assert_eq!(place.names(), ["folder", "pipe"]);
}

#[test]
fn where_nothing_can_be_written_it_says_so() {
    let place = Place::new("nowhere");
    let path = place.path("gone/table");
    assert_eq!(does(write(&path, "")), failed(Failure::System(Errno::ENOENT)));
    assert_eq!(does(read(&path)), Event::Missing { id: ID });
    assert_eq!(does(remove(&path)), DONE);
    // Even root cannot create a file here.
    let event = does(write("/sys/hax-test", ""));
    assert!(matches!(event, Event::Failed { why: Failure::System(_), .. }), "{event:?}");
}

/// The child's file size limit makes the kernel refuse the rest of a write, as on a full disk.
#[test]
fn what_a_disk_has_no_room_for_leaves_the_old_file() {
    if let Ok(path) = std::env::var(CHILD.0) {
        let event = does(write(&path, vec![b'n'; LONG]));
        // EFBIG.
        assert_eq!(event, failed(Failure::System(Errno(27))));
        assert_eq!(does(write(&path, "fits")), DONE);
        return;
    }
    let place = Place::new("full");
    let path = place.path("table");
    fs::write(&*path, "old").unwrap();
    let name = "file::tests::what_a_disk_has_no_room_for_leaves_the_old_file";
    let mut child = StdCommand::new("/bin/sh");
    child.args(["-c", r#"trap "" XFSZ; ulimit -f 8; exec "$0" "$@""#]);
    child.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
    let child = child.env(CHILD.0, &*path).output().unwrap();
    assert!(child.status.success(), "{child:?}");
    assert_eq!(fs::read_to_string(&*path).unwrap(), "fits");
    assert_eq!(place.names(), ["table"]);
}

/// The daemon is killed between any two steps of a write. The file must be the old one or the new one, and
/// the next run of the daemon must remove the temporary.
#[test]
fn a_daemon_that_is_killed_leaves_the_old_file_or_the_new_one() {
    if let (Ok(path), Ok(step)) = (std::env::var(CHILD.0), std::env::var(CHILD.1)) {
        let place = Target::open(&path).unwrap();
        let die = |done: Step| {
            if format!("{done:?}") == step {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
        };
        place.write(PRIVATE, &vec![b'n'; LONG], die).unwrap();
        return;
    }
    let new = vec![b'n'; LONG];
    let steps = [Step::Created, Step::Written, Step::Synced, Step::Renamed, Step::FolderSynced];
    for (n, step) in steps.into_iter().enumerate() {
        let place = Place::new(&format!("killed-{n}"));
        let path = place.path("table");
        fs::write(&*path, "old").unwrap();
        let name = "file::tests::a_daemon_that_is_killed_leaves_the_old_file_or_the_new_one";
        let mut child = StdCommand::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env(CHILD.0, &*path).env(CHILD.1, format!("{step:?}"));
        let child = child.output().unwrap();
        assert_eq!(child.status.signal(), Some(9), "{step:?}: {child:?}");
        let is_new = matches!(step, Step::Renamed | Step::FolderSynced);
        let found = fs::read(&*path).unwrap();
        assert!(found == if is_new { &new[..] } else { b"old" }, "{step:?}: {} bytes", found.len());
        assert_eq!(place.names().len(), if is_new { 1 } else { 2 }, "{step:?}");
        does(read(&path));
        assert_eq!(place.names(), ["table"], "{step:?}");
    }
}

#[test]
fn what_another_daemon_is_writing_is_not_swept_away() {
    let place = Place::new("another");
    let path = place.path("table");
    let another = Target::open(&path).unwrap();
    let mut steps = Vec::new();
    let written = another.write(PRIVATE, b"another's", |step| {
        // Each iteration is a daemon that starts, sweeps, and writes.
        assert_eq!(does(write(&path, "ours")), DONE);
        steps.push(step);
    });
    assert_eq!(written, Ok(()));
    let all = [Step::Created, Step::Written, Step::Synced, Step::Renamed, Step::FolderSynced];
    assert_eq!(steps, all);
    assert_eq!(does(read(&path)), content("ours"));
    assert_eq!(place.names(), ["table"]);
}

#[test]
fn what_only_looks_like_a_leftover_stays() {
    let place = Place::new("looks");
    symlink("/etc/passwd", &*place.path(".link.hax-new")).unwrap();
    fs::create_dir(&*place.path(".folder.hax-new")).unwrap();
    fs::write(&*place.path("file.hax-new"), "").unwrap();
    fs::write(&*place.path(".file.1-1.hax-new"), "").unwrap();
    assert_eq!(does(read(&place.path("table"))), Event::Missing { id: ID });
    assert_eq!(place.names(), [".folder.hax-new", ".link.hax-new", "file.hax-new"]);
}

#[test]
fn commands_are_carried_out_in_order_and_to_the_end() {
    let place = Place::new("order");
    let path = place.path("table");
    let (inbox, events) = async_channel::bounded(2);
    let mut files = Files::start(inbox, |event| event).unwrap();
    for n in 0..50 {
        let content = Bytes::from(n.to_string());
        let write = Write { id: FileId(2 * n), path: path.clone(), mode: PRIVATE, content };
        files.execute(Command::Write(Box::new(write)));
        files.execute(Command::Read { id: FileId(2 * n + 1), path: path.clone(), max: 9 });
    }
    for n in 0..40 {
        assert_eq!(events.recv_blocking(), Ok(Event::Done { id: FileId(2 * n) }));
        let (id, content) = (FileId(2 * n + 1), Bytes::from(n.to_string()));
        assert_eq!(events.recv_blocking(), Ok(Event::Content { id, content }));
    }
    // The inbox is closed, but all commands are carried out nevertheless.
    events.close();
    block_on(files.shut_down());
    assert_eq!(fs::read_to_string(&*path).unwrap(), "49");
    files.execute(write(&path, "late"));
}
