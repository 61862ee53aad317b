//! Fuzzing of the inputs of `hax route serve`: its file, its pipes, its requests; and of whole worlds of
//! routers.

use std::time::Duration;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hax_core::base::id::{ExecId, FifoId};
use hax_core::base::time::{Instant, Next, Now};
use hax_core::exec::{self, Refusal};
use hax_core::fifo::{
    Announcements, BODY_MAX, LENGTH, Progress, Request, Response, Token, frame, progress,
};
use hax_core::file::{self, Failure};
use hax_core::machine::{Input, Machine as _, Output};
use hax_core::route::node::Index;
use hax_core::route::provider::Provider;
use hax_core::route::request::Answer;
use hax_core::route::{Config, Rules, Server, fact::Fact, stored};

use super::script::Script;
use crate::engine::{RunOptions, Search};
use crate::worlds::route::Route;

/// The maximum number of requests in one run.
const REQUESTS: usize = 40;

thread_local! {
    static SEARCH: RefCell<Search<Route>> = RefCell::default();
}

/// Runs a world of two routers with the bytes as its tape. All decisions are read from the tape, and all
/// rules must hold.
///
/// # Panics
///
/// If a rule does not hold. `hax-sim --cast route --replay` prints the trace of a tape.
pub fn route(data: &[u8]) {
    let outcome = SEARCH.with_borrow_mut(|search| search.tape(data, RunOptions::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}

// ---- the file -----------------------------------------------------------------------------------------

/// Reads the bytes as a file of redundancy nodes, and as its lines without a header. A parsed value must be
/// the same after it is written and read again.
///
/// # Panics
///
/// If it is not the same.
pub fn stored(data: &[u8]) {
    again(data);
    let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let header = format!("{{\"hax_route\":1,\"nodes\":{lines},\"crc32\":{}}}\n", crc32(data));
    again(&[header.as_bytes(), data].concat());
}

fn again(file: &[u8]) {
    let Ok(table) = stored::read(file) else { return };
    let written = stored::write(&table);
    assert_eq!(stored::read(&written).as_ref(), Ok(&table), "what is written is read again");
    assert_eq!(stored::write(&table), written, "the same nodes are the same file");
    assert!(table.len() <= usize::from(Index::MAX), "{} nodes", table.len());
}

/// Computes the CRC-32 of IEEE 802.3, reflected. No fuzzer guesses it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

// ---- the pipes ----------------------------------------------------------------------------------------

/// Reads the bytes as the clients' writes to the pipe for announcements, and as a client's writes to its own
/// pipe. The result must not depend on the boundaries of the pieces.
///
/// # Panics
///
/// If it depends on them.
pub fn fifo(data: &[u8]) {
    let tokens = Announcements::default().push(data);
    for size in [1, 3, 64] {
        let mut reader = Announcements::default();
        let found: Vec<Token> = data.chunks(size).flat_map(|part| reader.push(part)).collect();
        assert_eq!(found, tokens, "in parts of {size}");
    }
    for token in &tokens {
        assert_eq!(Token::of_pipe(&token.request_pipe()).as_ref(), Some(token));
        assert_eq!(Token::of_pipe(&token.answer_pipe()).as_ref(), Some(token));
        let mut announced = data.to_vec();
        announced.extend(token.announcement().bytes());
        let found = Announcements::default().push(&announced);
        assert_eq!(found.last(), Some(token), "it is found whatever stands before it");
    }
    let mut read = 0;
    while let Progress::Lacks(lacks) = progress(&data[..read]) {
        assert!((1..=BODY_MAX + LENGTH).contains(&lacks), "{lacks} bytes are missing");
        if lacks > data.len() - read {
            break;
        }
        read += lacks;
    }
    if progress(&data[..read]) == Progress::Complete {
        assert_eq!(frame(&data[LENGTH..read]), &data[..read]);
    }
    assert_eq!(progress(&frame(data)), Progress::Complete);
}

// ---- requests -----------------------------------------------------------------------------------------

/// Sends requests to a server. A byte 255 ends each part of the bytes, and each part is a request. But a part
/// that begins with a byte below 32 sets the behavior of the disk and of the next event handlers. Each
/// request must have one answer, and a stop must end.
///
/// # Panics
///
/// If a rule does not hold, or the next server cannot read the file.
pub fn requests(data: &[u8]) {
    let mut bench = Bench::new();
    let mut script = Script(data);
    for _ in 0..REQUESTS {
        if script.is_over() || bench.next == Next::Exit {
            break;
        }
        match script.until(0xff) {
            [fate @ 0..32, ..] => bench.fate = *fate,
            body => bench.ask(body),
        }
    }
    bench.stop();
}

/// A server with a simulated host.
struct Bench {
    server: Server,
    now: u64,
    next: Next,
    files: BTreeMap<Box<str>, Bytes>,
    waiting: BTreeSet<FifoId>,
    asked: u64,
    fate: u8,
}

impl Bench {
    fn new() -> Self {
        let server = Server::new(Config {
            dir: "/dir".into(),
            program: "/bin/hax".into(),
            env: Box::default(),
            default_provider: Some(Provider::Linux),
            consul: None,
            rules: Rules::default(),
            sweep: Duration::ZERO,
            seed: 1,
        });
        let (files, waiting) = (BTreeMap::new(), BTreeSet::new());
        let mut bench =
            Self { server, now: 0, next: Next::Wait, files, waiting, asked: 0, fate: 0 };
        bench.feed(Input::Tick);
        bench
    }

    fn ask(&mut self, body: &[u8]) {
        self.asked += 1;
        let id = FifoId(self.asked);
        self.waiting.insert(id);
        let body = Bytes::copy_from_slice(body);
        self.feed(Input::Fifo(Request { id, body }));
    }

    /// Feeds an input to the server, and carries out its outputs until there are no more.
    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while self.next != Next::Exit
            && let Some(input) = inputs.pop_front()
        {
            self.now += 1_000;
            let now = Now { mono: Instant::from_micros(self.now), ..Now::default() };
            let mut out = Vec::new();
            self.next = self.server.handle(now, input, &mut out);
            inputs.extend(out.into_iter().flat_map(|output| self.execute(output)));
        }
    }

    fn execute(&mut self, output: Output<Fact>) -> Vec<Input> {
        match output {
            Output::Fifo(Response { id, body }) => {
                assert!(self.waiting.remove(&id), "{id} has one answer");
                let _: Answer = serde_json::from_slice(&body).expect("an answer");
                Vec::new()
            }
            Output::File(command) => vec![Input::File(self.disk(command))],
            Output::Exec(exec::Command::Spawn(spawn)) => self.run(spawn.id),
            Output::Exec(exec::Command::Kill { .. }) | Output::Fact(_) => Vec::new(),
            Output::Net(_)
            | Output::Keeper(_)
            | Output::State(_)
            | Output::Consul(_)
            | Output::Spiel(_)
            | Output::Http(_)
            | Output::HttpStream(_) => panic!("{output:?}"),
        }
    }

    fn disk(&mut self, command: file::Command) -> file::Event {
        let id = command.id();
        if self.fate & 1 == 1 && self.asked > 0 {
            return file::Event::Failed { id, why: Failure::NoFile };
        }
        match command {
            file::Command::Write(write) => {
                let nodes = stored::read(&write.content);
                assert!(nodes.is_ok(), "{nodes:?}");
                self.files.insert(write.path, write.content);
                file::Event::Done { id }
            }
            file::Command::Read { path, .. } => match self.files.get(&path) {
                Some(content) => file::Event::Content { id, content: content.clone() },
                None => file::Event::Missing { id },
            },
            file::Command::Remove { path, .. } => {
                self.files.remove(&path);
                file::Event::Done { id }
            }
        }
    }

    fn run(&self, id: ExecId) -> Vec<Input> {
        let said = match self.fate >> 1 {
            0 => r#"{"outcome": "updated", "detail": "it leads here now"}"#,
            1 => r#"{"outcome": "failed", "detail": "no"}"#,
            2 => "garbage",
            _ => return vec![Input::Exec(exec::Event::Refused { id, why: Refusal::Missing })],
        };
        let (stream, bytes) = (exec::Stream::Stdout, Bytes::from_static(said.as_bytes()));
        let (status, cause) = (exec::Status::Code(0), exec::Cause::Itself);
        let unheard = exec::Unheard::default();
        let events = [
            exec::Event::Started { id },
            exec::Event::Output { id, stream, bytes },
            exec::Event::Exited { id, status, cause, unheard },
        ];
        events.map(Input::Exec).into()
    }

    fn stop(mut self) {
        self.fate = 0;
        if self.next != Next::Exit {
            self.feed(Input::Stop);
        }
        assert_eq!(self.next, Next::Exit, "a stop ends");
        assert!(self.waiting.is_empty(), "{:?} have no answer", self.waiting);
    }
}
