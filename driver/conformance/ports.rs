//! Checks of each runtime's host for machines with helper programs, files, open HTTP responses and named
//! pipes. No command of both programs shows these ports from outside.

#[path = "pipes.rs"]
mod pipes;
#[path = "streams.rs"]
mod streams;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::{ExecId, FileId};
use hax_core::base::time::{Next, Now};
use hax_core::exec::{self, Cause, Origin, Refusal, Spawn, Status, Stream, Unheard};
use hax_core::file::{self, Failure, PRIVATE, Write};
use hax_core::ha::fact::Fact;
use hax_core::machine::{ExitReason, Input, Machine, Output};
use hax_driver::fifo::Folder;
use hax_driver::host::clock::Clock;
use hax_driver::host::drive::{HostContext, drive};
use hax_driver::host::platform::{Client as _, Platform};
use hax_driver::host::signals::Signals;
use hax_driver::host::timer::within;
use hax_driver::http::Limits;
use hax_driver::observe::metrics::Metrics;
use hax_driver::settings::Settings;
use hax_driver::settings::flags::Flags;

use crate::Runtime;

/// A time limit longer than any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A machine with behaviour defined by the test.
struct Scripted<S>(S);

impl<S: FnMut(Input, &mut Vec<Output>) -> Next> Machine for Scripted<S> {
    type Fact = Fact;

    fn handle(&mut self, _: Now, input: Input, out: &mut Vec<Output>) -> Next {
        (self.0)(input, out)
    }

    fn blocking_queries(&self) -> usize {
        0
    }

    fn status(&self) -> hax_core::machine::Status {
        hax_core::machine::Status { text: "scripted", stopping: false }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

/// Creates the context of a machine with these limits for HTTP clients.
fn context(limits: Limits) -> HostContext<<Runtime as Platform>::Client> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let flags = Flags { consul: Some(nobody.to_string().parse().unwrap()), ..Flags::default() };
    let settings = Settings::load(None, flags, |_| None).unwrap();
    let client = <Runtime as Platform>::Client::new(&settings.consul).unwrap();
    let clock = Clock::new();
    HostContext::new(clock, Arc::new(Metrics::new(clock)), Arc::new(client), limits)
}

/// Drives a machine on this runtime to its end.
fn run(machine: impl FnMut(Input, &mut Vec<Output>) -> Next) {
    run_in(None, machine);
}

/// Does the same as [`run`], with clients over the pipes of a folder.
fn run_in(folder: Option<Folder>, machine: impl FnMut(Input, &mut Vec<Output>) -> Next) {
    let (connections_max, streams_max, body_within) = (1, 1, LIMIT);
    let limits = Limits { body_max: 1, bodies_max: 1, connections_max, streams_max, body_within };
    let (_stop, signals) = Signals::channel();
    let mut machine = Scripted(machine);
    let driven = async {
        let context = HostContext { folder, ..context(limits) };
        let driven = drive::<Runtime, _>(context, &signals, None, &mut machine);
        within::<Runtime, _>(LIMIT, driven).await.expect("an end in time");
    };
    Runtime::block_on(driven).unwrap();
}

fn spawn(id: u64, argv: &[&str]) -> Output {
    Output::Exec(exec::Command::Spawn(Box::new(Spawn {
        id: ExecId(id),
        origin: Origin::Own,
        argv: argv.iter().map(|word| Box::from(*word)).collect(),
        env: Box::default(),
        stdin: Bytes::from_static(b"hello"),
        deadline: LIMIT,
        grace: LIMIT,
        output_max: 4096,
        leaves_daemons: false,
    })))
}

fn write(id: u64, path: &str, content: &'static str) -> Output {
    let content = Bytes::from_static(content.as_bytes());
    let write = Write { id: FileId(id), path: path.into(), mode: PRIVATE, content };
    Output::File(file::Command::Write(Box::new(write)))
}

/// Returns the path of a file of this test. The file does not exist.
fn path(name: &str) -> (PathBuf, Box<str>) {
    let path = std::env::temp_dir().join(format!("hax-ports-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let text = path.to_str().unwrap().into();
    (path, text)
}

#[test]
fn a_helper_is_started_heard_and_ended() {
    let mut heard = Vec::new();
    run(|input, out| {
        match input {
            Input::Tick => {
                out.push(spawn(1, &["/bin/no-such-program"]));
                out.push(spawn(2, &["/bin/sh", "-c", "cat; exit 3"]));
                out.push(spawn(3, &["/bin/sleep", "1000"]));
            }
            Input::Exec(event) => heard.push(event),
            _ => {}
        }
        if let Some(exec::Event::Exited { id: ExecId(2), .. }) = heard.last() {
            out.push(Output::Exec(exec::Command::Kill { id: ExecId(3) }));
        }
        let ended = |event: &&exec::Event| matches!(event, exec::Event::Exited { .. });
        if heard.iter().filter(ended).count() == 2 { Next::Exit } else { Next::Wait }
    });
    let of = |name| {
        let is_of = |event: &&exec::Event| match event {
            exec::Event::Started { id }
            | exec::Event::Refused { id, .. }
            | exec::Event::Output { id, .. }
            | exec::Event::Exited { id, .. } => *id == ExecId(name),
        };
        heard.iter().filter(is_of).cloned().collect::<Vec<_>>()
    };
    let id = ExecId(1);
    assert_eq!(of(1), [exec::Event::Refused { id, why: Refusal::Missing }]);
    let id = ExecId(2);
    let (stream, bytes) = (Stream::Stdout, Bytes::from_static(b"hello"));
    let (status, unheard) = (Status::Code(3), Unheard::default());
    let expected = [
        exec::Event::Started { id },
        exec::Event::Output { id, stream, bytes },
        exec::Event::Exited { id, status, cause: Cause::Itself, unheard },
    ];
    assert_eq!(of(2), expected);
    let id = ExecId(3);
    let status = Status::Signal(15);
    let exited = exec::Event::Exited { id, status, cause: Cause::Killed, unheard };
    assert_eq!(of(3), [exec::Event::Started { id }, exited]);
}

#[test]
fn a_machine_s_end_is_the_end_of_its_helpers() {
    let mut pid = String::new();
    run(|input, out| match input {
        Input::Tick => {
            out.push(spawn(1, &["/bin/sh", "-c", "echo $$; exec sleep 1000"]));
            Next::Wait
        }
        Input::Exec(exec::Event::Output { bytes, .. }) => {
            pid = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            Next::Exit
        }
        _ => Next::Wait,
    });
    assert!(!pid.is_empty() && !PathBuf::from(format!("/proc/{pid}")).exists(), "{pid}");
}

#[test]
fn files_are_written_and_read() {
    let (_, path) = path("files");
    let mut heard = Vec::new();
    run(|input, out| {
        match input {
            Input::Tick => {
                let read = |id| file::Command::Read { id: FileId(id), path: path.clone(), max: 9 };
                out.push(Output::File(read(1)));
                out.push(write(2, &path, "content"));
                out.push(Output::File(read(3)));
                let remove = file::Command::Remove { id: FileId(4), path: path.clone() };
                out.push(Output::File(remove));
                out.push(write(5, "none", ""));
            }
            Input::File(event) => heard.push(event),
            _ => {}
        }
        if heard.len() == 5 { Next::Exit } else { Next::Wait }
    });
    let expected = [
        file::Event::Missing { id: FileId(1) },
        file::Event::Done { id: FileId(2) },
        file::Event::Content { id: FileId(3), content: Bytes::from_static(b"content") },
        file::Event::Done { id: FileId(4) },
        file::Event::Failed { id: FileId(5), why: Failure::Malformed },
    ];
    assert_eq!(heard, expected);
}

#[test]
fn what_a_machine_wants_written_at_its_end_is() {
    let (at, path) = path("end");
    run(|_, out| {
        out.push(write(1, &path, "first"));
        out.push(write(2, &path, "last"));
        Next::Exit
    });
    assert_eq!(fs::read_to_string(&at).unwrap(), "last");
    fs::remove_file(at).unwrap();
}

/// The helper sends at once more events than the inbox holds.
#[test]
fn a_helper_that_says_much_is_heard_to_its_end() {
    let (mut ended, mut said) = (0, 0);
    run(|input, out| {
        match input {
            Input::Tick => {
                let script = "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); done";
                (0..8).for_each(|id| out.push(spawn(id, &["/bin/sh", "-c", script])));
            }
            Input::Exec(exec::Event::Output { bytes, .. }) => said += bytes.len(),
            Input::Exec(exec::Event::Exited { unheard, .. }) => {
                assert_eq!(unheard, Unheard::default());
                ended += 1;
            }
            _ => {}
        }
        if ended == 8 { Next::Exit } else { Next::Wait }
    });
    let each: usize = (0..400).map(|i: u32| i.to_string().len() + 1).sum();
    assert_eq!(said, 8 * each);
}
