//! The keeper's files on the disk. Each instance has a folder, in which each of these files is written
//! completely or not at all.
//!
//! | file | written | what |
//! |---|---|---|
//! | `intent` | before the start | [`Intent`] |
//! | `process` | by the instance itself, before its program begins | its `/proc/self/stat` |
//! | `deadline` | at each renewal of a counted instance | microseconds of `CLOCK_BOOTTIME`, as text |
//! | `stop` | before the instance is asked to stop | [`StopRecord`] |
//! | `ended` | once the instance has ended | [`EndRecord`] |
//!
//! No program begins before its process has written its identity. So a reader of these files finds every
//! running process, at whatever moment the keeper was killed.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answer::Cause;
use super::process::{Process, Stat};
use super::request::{Start, VERSION};
use crate::exec::Status;

/// A file of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordFile {
    /// The intent to start the instance, with the start's parameters.
    Intent,
    /// The identity of its main process.
    Process,
    /// The deadline of a counted instance.
    Deadline,
    /// The record of a stop in progress.
    Stop,
    /// The record of the end.
    Ended,
}

impl RecordFile {
    /// All files of an instance.
    pub const ALL: [Self; 5] =
        [Self::Intent, Self::Process, Self::Deadline, Self::Stop, Self::Ended];

    /// Returns the file's name in the instance's folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Process => "process",
            Self::Deadline => "deadline",
            Self::Stop => "stop",
            Self::Ended => "ended",
        }
    }
}

/// The intent to start an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The version of these files.
    pub v: u32,
    /// The boot id of the node.
    pub boot: Box<str>,
    /// The generation of the keeper.
    pub generation: u64,
    /// The user id of the client that requested the start.
    pub asked_by: u32,
    /// The start's parameters.
    pub start: Box<Start>,
}

/// The record of a stop in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRecord {
    /// The cause of the stop.
    pub cause: Cause,
    /// The time of the kill, in microseconds of `CLOCK_BOOTTIME`.
    pub kill_at_us: u64,
}

/// The record of an instance's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndRecord {
    /// The exit status of the main process.
    pub status: Status,
    /// The cause of the end.
    pub cause: Cause,
    /// Whether processes of the instance still exist.
    pub left: bool,
    /// The number of bytes of output that are lost.
    pub dropped: u64,
}

/// Returns the content of a record's file.
pub(super) fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain data")
}

/// The contents of an instance's files that a keeper found at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The folder, for the log.
    pub path: Box<str>,
    /// The content of `intent`. Without an intent, nothing was started.
    pub intent: Vec<u8>,
    /// The content of `process`.
    pub process: Option<Vec<u8>>,
    /// The content of `deadline`.
    pub deadline: Option<Vec<u8>>,
    /// The content of `stop`.
    pub stop: Option<Vec<u8>>,
    /// The content of `ended`.
    pub ended: Option<Vec<u8>>,
    /// The current `/proc` entry for the process id in `process`.
    pub now: Option<Stat>,
    /// Whether the instance has processes besides the main process.
    pub left: bool,
}

impl Found {
    /// Returns the process named in the instance's own `process` file.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.process.as_deref().and_then(Stat::parse).map(|stat| stat.process)
    }

    /// Parses the files.
    pub(super) fn read(&self, boot: &str) -> Result<Recovered, String> {
        let intent: Intent = whole("intent", &self.intent)?;
        if intent.v != VERSION {
            return Err(format!("version {}; this keeper knows version {VERSION}", intent.v));
        }
        let is_now = *intent.boot == *boot;
        let (ended, stop) = (optional("ended", &self.ended), optional("stop", &self.stop));
        // The keeper waits only for the intent to reach the disk. After a reboot the other files may be
        // truncated by a loss of power.
        let (ended, stop) =
            if is_now { (ended?, stop?) } else { (ended.unwrap_or(None), stop.unwrap_or(None)) };
        let process = self.process();
        let alive = process.filter(|process| self.now.is_some_and(|now| now.is_alive(*process)));
        let over = |cause| {
            let end = EndRecord { status: Status::Unknown, cause, left: false, dropped: 0 };
            Life::Over { end, process, is_new: true }
        };
        let life = if let Some(end) = ended {
            Life::Over { end, process, is_new: false }
        } else if !is_now {
            over(Cause::Reboot)
        } else if let Some(process) = alive {
            Life::Alive(process)
        } else if self.left {
            Life::MainGone(process)
        } else if process.is_none() {
            over(Cause::NotBegun)
        } else {
            over(stop.map_or(Cause::Itself, |stop: StopRecord| stop.cause))
        };
        Ok(Recovered { intent, life, stop, until_us: self.until_us() })
    }

    /// Returns the renewed deadline. If the file cannot be parsed, the deadline of the start applies, which
    /// is earlier.
    fn until_us(&self) -> Option<u64> {
        let text = str::from_utf8(self.deadline.as_deref()?).ok()?;
        text.trim().parse().ok()
    }
}

fn optional<T: DeserializeOwned>(file: &str, bytes: &Option<Vec<u8>>) -> Result<Option<T>, String> {
    bytes.as_ref().map(|bytes| whole(file, bytes)).transpose()
}

fn whole<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|why| format!("{file}: {why}"))
}

/// An instance that an earlier keeper process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) intent: Intent,
    pub(super) life: Life,
    /// The record of the stop, if a stop was in progress.
    pub(super) stop: Option<StopRecord>,
    /// The last deadline, if it was renewed.
    pub(super) until_us: Option<u64>,
}

/// The current state of a recovered instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive(Process),
    /// The main process has ended, and other processes of the instance exist.
    MainGone(Option<Process>),
    Over {
        end: EndRecord,
        process: Option<Process>,
        /// Whether the end was not recorded before.
        is_new: bool,
    },
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::keeper::request::tests::start;

    pub(in crate::keeper) fn intent(boot: &str) -> Intent {
        let start = Box::new(start("i", "n"));
        Intent { v: VERSION, boot: boot.into(), generation: 2, asked_by: 5, start }
    }

    pub(in crate::keeper) fn stat(state: char, started: u64) -> String {
        let zeros = "0 ".repeat(17);
        format!("44 (sh) {state} 1 {zeros}{started} 1 2 3\n")
    }

    /// Returns the files of an instance that has been started and has written nothing since.
    pub(in crate::keeper) fn found() -> Found {
        Found {
            path: "/k/i".into(),
            intent: encode(&intent("b1")),
            process: Some(stat('R', 900).into_bytes()),
            ..Found::default()
        }
    }

    fn now(state: char, started: u64) -> Option<Stat> {
        Stat::parse(stat(state, started).as_bytes())
    }

    fn life(found: &Found) -> Life {
        found.read("b1").unwrap().life
    }

    const MAIN: Process = Process { pid: 44, started: 900 };

    fn unseen(cause: Cause, process: Option<Process>) -> Life {
        let end = EndRecord { status: Status::Unknown, cause, left: false, dropped: 0 };
        Life::Over { end, process, is_new: true }
    }

    #[test]
    fn who_lives_is_known_by_its_start_and_not_by_its_number() {
        assert_eq!(life(&Found { now: now('S', 900), ..found() }), Life::Alive(MAIN));
        // A stopped process is alive. A zombie is not. A later process with the same id is another process.
        assert_eq!(life(&Found { now: now('T', 900), ..found() }), Life::Alive(MAIN));
        let gone = unseen(Cause::Itself, Some(MAIN));
        for now in [now('Z', 900), now('S', 901), None] {
            assert_eq!(life(&Found { now, ..found() }), gone);
            let left = Found { now, left: true, ..found() };
            assert_eq!(life(&left), Life::MainGone(Some(MAIN)));
        }
    }

    #[test]
    fn nothing_of_another_boot_lives() {
        let found = Found { now: now('S', 900), left: true, ..found() };
        assert_eq!(found.read("b2").unwrap().life, unseen(Cause::Reboot, Some(MAIN)));
    }

    #[test]
    fn an_intent_without_a_process_has_not_begun() {
        let found = Found { process: None, ..found() };
        assert_eq!(life(&found), unseen(Cause::NotBegun, None));
        // An incomplete line comes from a program that never ran, since a process writes its identity before
        // that.
        let found = Found { process: Some(b"44 (s".to_vec()), ..found };
        assert_eq!(life(&found), unseen(Cause::NotBegun, None));
    }

    #[test]
    fn an_end_that_was_seen_is_kept_as_it_was() {
        let end =
            EndRecord { status: Status::Code(3), cause: Cause::Itself, left: false, dropped: 9 };
        let found = Found { ended: Some(encode(&end)), now: now('S', 900), ..found() };
        let over = Life::Over { end, process: Some(MAIN), is_new: false };
        assert_eq!(life(&found), over);
        // This holds for any boot.
        assert_eq!(found.read("b2").unwrap().life, over);
    }

    #[test]
    fn one_that_was_being_stopped_has_ended_by_that() {
        let stop = StopRecord { cause: Cause::Deadline, kill_at_us: 7 };
        let found = Found { stop: Some(encode(&stop)), ..found() };
        assert_eq!(life(&found), unseen(Cause::Deadline, Some(MAIN)));
        assert_eq!(found.read("b1").unwrap().stop, Some(stop));
    }

    #[test]
    fn a_deadline_is_the_last_that_was_written() {
        let until = |text: &str| Found { deadline: Some(text.into()), ..found() }.until_us();
        assert_eq!(until("17\n"), Some(17));
        assert_eq!(until("00000000000000000017"), Some(17));
        assert_eq!(until(""), None);
        assert_eq!(until("x"), None);
    }

    #[test]
    fn a_damaged_record_is_told_and_nothing_is_made_of_it() {
        for bad in [&b""[..], b"{", b"null", b"\xff"] {
            let why = Found { intent: bad.to_vec(), ..found() }.read("b1").unwrap_err();
            assert!(why.starts_with("intent: "), "{why}");
            let why = Found { ended: Some(bad.to_vec()), ..found() }.read("b1").unwrap_err();
            assert!(why.starts_with("ended: "), "{why}");
        }
        let cut = Found { ended: Some(Vec::new()), stop: Some(Vec::new()), ..found() };
        assert_eq!(cut.read("b2").unwrap().life, unseen(Cause::Reboot, Some(MAIN)));
        let newer = Intent { v: 2, ..intent("b1") };
        let why = Found { intent: encode(&newer), ..found() }.read("b1").unwrap_err();
        assert_eq!(why, "version 2; this keeper knows version 1");
    }
}
