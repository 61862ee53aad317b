//! The double of the port for files ([`hax_core::file`]): a simulated disk. It loses unsynced data at a loss
//! of power.
//!
//! As the port promises, a file's content is on the disk before its name. The name is certain only after the
//! directory has been synced, too. At a loss of power each unsynced change is lost or kept independently, and
//! so in any order. All completed changes of a killed daemon stay visible.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::time::Instant;
use hax_core::file::{Command, Event, Failure, Write};

/// No space is left on the disk (ENOSPC).
const FULL: Errno = Errno(28);

/// The disk fails (EIO).
const BROKEN: Errno = Errno(5);

/// The duration of one command, and its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time until a new file has its name, or an old file is read.
    pub work: Duration,
    /// The additional time until its directory is synced.
    pub sync: Duration,
    /// The fault of the command.
    pub fault: Fault,
}

/// A fault of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// Nothing is changed or read.
    Work(Errno),
    /// The change is made, but not synced.
    Sync(Errno),
}

impl Pace {
    /// Two milliseconds without a fault.
    pub const QUICK: Self =
        Self { work: Duration::from_millis(1), sync: Duration::from_millis(1), fault: Fault::None };

    /// Draws a pace. `choose` returns a number below its argument; 0 is the harmless choice.
    #[must_use]
    pub fn drawn(mut choose: impl FnMut(u64) -> u64) -> Self {
        let fate = choose(8);
        let mut slow = || Duration::from_millis(1 + choose(3_000));
        match fate {
            1 => Self { work: slow(), ..Self::QUICK },
            2 => Self { sync: slow(), ..Self::QUICK },
            3 => Self { fault: Fault::Work(FULL), ..Self::QUICK },
            4 => Self { fault: Fault::Work(BROKEN), ..Self::QUICK },
            5 => Self { work: slow(), sync: slow(), fault: Fault::Sync(BROKEN) },
            _ => Self::QUICK,
        }
    }
}

/// The command in progress.
#[derive(Debug)]
enum Current {
    /// The change or the read is complete at this time.
    Working { at: Instant, command: Command, pace: Pace },
    /// At this time the directory, if any, is synced, and the machine receives the event.
    Syncing { at: Instant, folder: Option<Box<str>>, event: Event },
}

/// The disk of one node, with the pending commands of its daemon.
#[derive(Debug, Default)]
pub struct Disk {
    /// The files in the view of all programs.
    seen: BTreeMap<Box<str>, Bytes>,
    /// The synced files. They survive a loss of power in any case.
    kept: BTreeMap<Box<str>, Bytes>,
    /// The unsynced changes: files with their new content, or none for a removed file.
    unsynced: Vec<(Box<str>, Option<Bytes>)>,
    current: Option<Current>,
    queue: VecDeque<(Command, Pace)>,
}

impl Disk {
    /// Queues a command. Commands are carried out in the order in which they were queued.
    pub fn execute(&mut self, now: Instant, command: Command, pace: Pace) {
        self.queue.push_back((command, pace));
        if self.current.is_none() {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Instant) {
        let next = self.queue.pop_front();
        self.current = next.map(|(command, pace)| {
            let at = now.after(pace.work);
            Current::Working { at, command, pace }
        });
    }

    /// Returns the time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|current| match current {
            Current::Working { at, .. } | Current::Syncing { at, .. } => *at,
        })
    }

    /// Takes the next due event for the machine, if any.
    pub fn pop(&mut self, now: Instant) -> Option<Event> {
        while self.next_at().is_some_and(|at| at <= now) {
            match self.current.take()? {
                Current::Working { at, command, pace } => {
                    let (folder, event) = self.work(command, pace.fault);
                    self.current =
                        Some(Current::Syncing { at: at.after(pace.sync), folder, event });
                }
                Current::Syncing { at, folder, event } => {
                    if let Some(folder) = folder {
                        self.sync(&folder);
                    }
                    self.begin(at);
                    return Some(event);
                }
            }
        }
        None
    }

    /// Changes or reads a file. Returns the directory to be synced next, and the event that follows.
    fn work(&mut self, command: Command, fault: Fault) -> (Option<Box<str>>, Event) {
        let id = command.id();
        let failed = |errno| (None, Event::Failed { id, why: Failure::System(errno) });
        if let Fault::Work(errno) = fault {
            return failed(errno);
        }
        let (path, event) = match command {
            Command::Write(write) => {
                let Write { id, path, mode: _, content } = *write;
                self.change(path.clone(), Some(content));
                (path, Event::Done { id })
            }
            Command::Remove { id, path } => {
                self.change(path.clone(), None);
                (path, Event::Done { id })
            }
            Command::Read { id, path, max } => {
                let event = match self.seen.get(&path) {
                    None => Event::Missing { id },
                    Some(content) if content.len() > max => {
                        Event::Failed { id, why: Failure::TooLong }
                    }
                    Some(content) => Event::Content { id, content: content.clone() },
                };
                (path, event)
            }
        };
        if let Fault::Sync(errno) = fault {
            return failed(errno);
        }
        (Some(folder(&path).into()), event)
    }

    fn change(&mut self, path: Box<str>, content: Option<Bytes>) {
        set(&mut self.seen, &path, content.as_ref());
        self.unsynced.push((path, content));
    }

    fn sync(&mut self, of: &str) {
        let kept = &mut self.kept;
        self.unsynced.retain(|(path, content)| {
            let synced = folder(path) == of;
            if synced {
                set(kept, path, content.as_ref());
            }
            !synced
        });
    }

    /// Handles the death of the daemon. Its pending commands are not carried out. Its completed changes stay
    /// visible.
    pub fn daemon_killed(&mut self) {
        self.queue.clear();
        self.current = None;
    }

    /// Takes the power from the node. Each unsynced change is kept or lost, as `choose` decides. `choose`
    /// returns a number below its argument; 0 is the harmless choice.
    pub fn power_lost(&mut self, mut choose: impl FnMut(u64) -> u64) {
        self.daemon_killed();
        for (path, content) in self.unsynced.drain(..) {
            if choose(2) == 0 {
                set(&mut self.kept, &path, content.as_ref());
            }
        }
        self.seen.clone_from(&self.kept);
    }

    /// Returns the content of a file, as all programs see it.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<&Bytes> {
        self.seen.get(path)
    }

    /// Writes or removes a file as another program than the daemon. The change is synced.
    pub fn put(&mut self, path: &str, content: Option<Bytes>) {
        self.change(path.into(), content);
        self.sync(&Box::from(folder(path)));
    }
}

fn set(files: &mut BTreeMap<Box<str>, Bytes>, path: &str, content: Option<&Bytes>) {
    match content {
        Some(content) => files.insert(path.into(), content.clone()),
        None => files.remove(path),
    };
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hax_core::base::id::FileId;
    use hax_core::file::PRIVATE;

    use super::*;

    const ID: FileId = FileId(1);
    const DONE: Event = Event::Done { id: ID };

    fn write(path: &str, content: &'static str) -> Command {
        let content = Bytes::from_static(content.as_bytes());
        Command::Write(Box::new(Write { id: ID, path: path.into(), mode: PRIVATE, content }))
    }

    fn read(path: &str) -> Command {
        Command::Read { id: ID, path: path.into(), max: 9 }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    /// Carries out all commands. Returns the events that the machine receives.
    fn all(disk: &mut Disk) -> Vec<(u64, Event)> {
        let mut told = Vec::new();
        while let Some(at) = disk.next_at() {
            told.extend(disk.pop(at).map(|event| (at.as_micros() / 1000, event)));
        }
        told
    }

    fn failed(errno: Errno) -> Event {
        Event::Failed { id: ID, why: Failure::System(errno) }
    }

    fn text<'a>(disk: &'a Disk, path: &str) -> Option<&'a str> {
        disk.content(path).map(|content| str::from_utf8(content).unwrap())
    }

    #[test]
    fn commands_are_carried_out_in_order() {
        let mut disk = Disk::default();
        let long = "0123456789";
        let remove = Command::Remove { id: ID, path: "/d/a".into() };
        for command in [
            read("/d/a"),
            write("/d/a", "one"),
            write("/d/a", "two"),
            read("/d/a"),
            remove,
            read("/d/a"),
            write("/d/a", long),
            read("/d/a"),
        ] {
            disk.execute(at(0), command, Pace::QUICK);
        }
        let content = Bytes::from_static(b"two");
        let expected = [
            (2, Event::Missing { id: ID }),
            (4, DONE),
            (6, DONE),
            (8, Event::Content { id: ID, content }),
            (10, DONE),
            (12, Event::Missing { id: ID }),
            (14, DONE),
            (16, Event::Failed { id: ID, why: Failure::TooLong }),
        ];
        assert_eq!(all(&mut disk), expected);
    }

    #[test]
    fn what_is_done_survives_and_what_is_not_may() {
        for (lost_at, lost, found) in [
            // The loss comes before the file has its name, then before the sync of the directory, then after
            // it.
            (0, 0, "old"),
            (1, 0, "new"),
            (1, 1, "old"),
            (2, 1, "new"),
        ] {
            let mut disk = Disk::default();
            disk.put("/d/a", Some(Bytes::from_static(b"old")));
            disk.execute(at(0), write("/d/a", "new"), Pace::QUICK);
            assert_eq!(disk.pop(at(lost_at)).is_some(), lost_at == 2);
            disk.power_lost(|n| lost.min(n - 1));
            assert_eq!(text(&disk, "/d/a"), Some(found), "{lost_at} {lost}");
            assert_eq!(disk.next_at(), None);
        }
    }

    #[test]
    fn what_a_killed_daemon_did_is_seen_and_lost_unless_it_is_read() {
        for (is_read, found) in [(false, "old"), (true, "new")] {
            let mut disk = Disk::default();
            disk.put("/d/a", Some(Bytes::from_static(b"old")));
            disk.execute(at(0), write("/d/a", "new"), Pace::QUICK);
            assert_eq!(disk.pop(at(1)), None);
            disk.daemon_killed();
            assert_eq!(text(&disk, "/d/a"), Some("new"));
            if is_read {
                disk.execute(at(5), read("/d/a"), Pace::QUICK);
                assert_eq!(all(&mut disk).len(), 1);
            }
            disk.power_lost(|n| n - 1);
            assert_eq!(text(&disk, "/d/a"), Some(found));
        }
    }

    /// Any subset of the unsynced changes can be lost, so a later change can survive an earlier one.
    #[test]
    fn what_was_not_taken_to_the_disk_is_lost_in_any_order() {
        let mut found = BTreeSet::new();
        for fates in 0..8_u64 {
            let mut disk = Disk::default();
            let pace = Pace { fault: Fault::Sync(BROKEN), ..Pace::QUICK };
            for (path, content) in [("/d/a", "1"), ("/d/b", "2"), ("/d/a", "3")] {
                disk.execute(at(0), write(path, content), pace);
            }
            let told = all(&mut disk);
            assert!(told.iter().all(|(_, event)| *event == failed(BROKEN)), "{told:?}");
            let mut n = 0;
            disk.power_lost(|_| {
                n += 1;
                fates >> (n - 1) & 1
            });
            let content = |path| text(&disk, path).map(str::to_owned);
            found.insert((content("/d/a"), content("/d/b")));
        }
        // For one file: no change, the first one, or the last one; each with or without the other file.
        assert_eq!(found.len(), 6, "{found:?}");
    }

    #[test]
    fn a_folder_is_taken_to_the_disk_by_itself() {
        let mut disk = Disk::default();
        let pace = Pace { fault: Fault::Sync(BROKEN), ..Pace::QUICK };
        disk.execute(at(0), write("/d/a", "1"), pace);
        disk.execute(at(0), write("/e/a", "2"), Pace::QUICK);
        all(&mut disk);
        disk.power_lost(|n| n - 1);
        assert_eq!((text(&disk, "/d/a"), text(&disk, "/e/a")), (None, Some("2")));
    }

    #[test]
    fn what_fails_changes_nothing() {
        let mut disk = Disk::default();
        disk.put("/d/a", Some(Bytes::from_static(b"old")));
        let pace = Pace { fault: Fault::Work(FULL), ..Pace::QUICK };
        disk.execute(at(0), write("/d/a", "new"), pace);
        disk.execute(at(0), read("/d/a"), pace);
        assert_eq!(all(&mut disk), [(2, failed(FULL)), (4, failed(FULL))]);
        assert_eq!(text(&disk, "/d/a"), Some("old"));
    }

    #[test]
    fn a_disk_that_is_drawn_may_be_any_and_is_harmless_by_itself() {
        assert_eq!(Pace::drawn(|_| 0), Pace::QUICK);
        let paces = (0..9).map(|fate| {
            let mut first = Some(fate);
            Pace::drawn(|n| first.take().unwrap_or(7).min(n - 1))
        });
        let faults: BTreeSet<String> = paces.map(|pace| format!("{:?}", pace.fault)).collect();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
