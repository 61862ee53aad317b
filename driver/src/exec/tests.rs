//! Tests with real programs: they end, do not end, write too much, get no input, or leave processes behind.
#![expect(clippy::disallowed_methods, reason = "real programs take real time")]

use std::fs;
use std::path::PathBuf;
use std::process::Command as StdCommand;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use hax_core::base::errno::Errno;
use hax_core::base::id::ExecId;
use hax_core::exec::{Cause, Origin, Refusal, Spawn, Status, Stream, Unheard};

use super::*;

mod daemon;
mod ends;
mod outputs;
mod process;

/// A time limit longer than any step here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The two ways to watch for the end of a child. Each test of a child's end is run with both.
const WATCHES: [fn(Pid) -> io::Result<OwnedFd>; 2] = [ended::watch, ended::by_thread];

/// Waits for a condition to be met by another process or thread.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it never came to this: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns whether a process runs. A zombie, which is a process with an uncollected exit code, does not run.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Returns the path of a file of one test. The file does not exist yet.
fn flag(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("hax-exec-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// Returns the command to run a shell script, with a long deadline.
fn sh(id: u64, script: &str) -> Spawn {
    run(id, &["/bin/sh", "-c", script])
}

fn run(id: u64, argv: &[&str]) -> Spawn {
    Spawn {
        id: ExecId(id),
        origin: Origin::Own,
        argv: argv.iter().map(|word| Box::from(*word)).collect(),
        env: Box::default(),
        stdin: Bytes::new(),
        deadline: LIMIT,
        grace: LIMIT,
        output_max: 1 << 20,
        leaves_daemons: false,
    }
}

/// The result of a helper.
#[derive(Debug)]
struct Ran {
    stdout: String,
    stderr: String,
    status: Status,
    cause: Cause,
    unheard: Unheard,
}

struct Rig {
    exec: Exec,
    events: mpsc::Receiver<Event>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Settings::default(), ended::watch)
    }

    fn with(settings: Settings, watch: fn(Pid) -> io::Result<OwnedFd>) -> Self {
        let (inbox, from) = async_channel::bounded(16);
        let exec = Exec::start_watching(settings, inbox, |event| event, watch).unwrap();
        let (to, events) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(event) = from.recv_blocking() {
                let _ = to.send(event);
            }
        });
        Self { exec, events }
    }

    fn spawn(&self, spawn: Spawn) {
        self.exec.execute(Command::Spawn(Box::new(spawn)));
    }

    fn kill(&self, id: u64) {
        self.exec.execute(Command::Kill { id: ExecId(id) });
    }

    fn next(&self) -> Event {
        self.events.recv_timeout(LIMIT).expect("an event in time")
    }

    /// Starts a helper and waits for its first output.
    fn hears(&self, spawn: Spawn) -> String {
        let id = spawn.id;
        self.spawn(spawn);
        assert_eq!(self.next(), Event::Started { id });
        self.line()
    }

    fn line(&self) -> String {
        match self.next() {
            Event::Output { bytes, .. } => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Runs a helper to its end. No other helper may be running.
    fn ran(&self, spawn: Spawn) -> Ran {
        let id = spawn.id;
        self.spawn(spawn);
        assert_eq!(self.next(), Event::Started { id });
        self.ends()
    }

    fn ends(&self) -> Ran {
        let mut said = [String::new(), String::new()];
        loop {
            match self.next() {
                Event::Output { stream, bytes, .. } => {
                    let said = &mut said[usize::from(stream == Stream::Stderr)];
                    said.push_str(&String::from_utf8_lossy(&bytes));
                }
                Event::Exited { status, cause, unheard, .. } => {
                    let [stdout, stderr] = said;
                    return Ran { stdout, stderr, status, cause, unheard };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn refused(&self, spawn: Spawn) -> Refusal {
        self.spawn(spawn);
        match self.next() {
            Event::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }
}
