//! Tests of the server with a host in memory: its files, event handlers and clients are data.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};

use bytes::Bytes;

use super::decide::Response;
use super::job::Job;
use super::scripts::{self, Action};
use super::*;
use crate::base::errno::Errno;
use crate::base::id::{ExecId, HttpId};
use crate::base::time::Instant;
use crate::exec::{self, Cause, Status as Ended, Stream};
use crate::file::{self, Failure};

mod events;
mod nodes;

const FILE: &str = "/dir/nodes.json";

/// A server and its environment.
struct Bench {
    server: Server,
    at: u64,
    files: BTreeMap<Box<str>, Bytes>,
    /// The file commands that have not been carried out yet, oldest first.
    pending: VecDeque<file::Command>,
    /// The running handlers.
    handlers: BTreeMap<ExecId, Job>,
    killed: Vec<ExecId>,
    answers: BTreeMap<FifoId, Answer>,
    http: Vec<port::Response>,
    facts: Vec<Fact>,
    next_client: u64,
    next: Next,
    default_provider: Option<Provider>,
}

impl Bench {
    /// Creates a server that has loaded its file.
    fn new() -> Self {
        let mut bench = Self::on(BTreeMap::new());
        bench.disk();
        bench
    }

    /// Creates a server that has been asked to begin.
    fn on(files: BTreeMap<Box<str>, Bytes>) -> Self {
        let mut bench = Self {
            server: Self::server(None),
            at: 0,
            files,
            pending: VecDeque::new(),
            handlers: BTreeMap::new(),
            killed: Vec::new(),
            answers: BTreeMap::new(),
            http: Vec::new(),
            facts: Vec::new(),
            next_client: 1,
            next: Next::Wait,
            default_provider: None,
        };
        bench.hand(Input::Tick);
        bench
    }

    fn server(default_provider: Option<Provider>) -> Server {
        Server::new(Config {
            dir: "/dir".into(),
            program: "/usr/bin/hax".into(),
            env: Box::default(),
            default_provider,
            consul: None,
            rules: Rules::default(),
            sweep: Duration::from_secs(300),
            seed: 1,
        })
    }

    /// Starts a new server on the same files, as after a kill.
    fn restart(self) -> Self {
        let mut bench = Self::on(self.files);
        bench.disk();
        bench
    }

    fn hand(&mut self, input: Input) {
        assert_ne!(self.next, Next::Exit, "nothing is handed to a machine that has ended");
        self.at += 1_000;
        let now = Now { mono: Instant::from_micros(self.at), ..Now::default() };
        let mut out = Vec::new();
        self.next = self.server.handle(now, input, &mut out);
        for output in out {
            match output {
                Output::File(command) => self.pending.push_back(command),
                Output::Exec(exec::Command::Spawn(spawn)) => {
                    assert_eq!(&*spawn.argv, ["/usr/bin/hax".into(), "event-handler".into()]);
                    let job: Job = serde_json::from_slice(&spawn.stdin).unwrap();
                    assert_eq!(spawn.deadline, job.provider.deadline());
                    self.handlers.insert(spawn.id, job);
                }
                Output::Exec(exec::Command::Kill { id }) => self.killed.push(id),
                Output::Fifo(fifo::Response { id, body }) => {
                    let answer = serde_json::from_slice(&body).unwrap();
                    assert_eq!(self.answers.insert(id, answer), None, "{id} is answered twice");
                }
                Output::Http(response) => self.http.push(*response),
                Output::Fact(fact) => self.facts.push(fact),
                Output::Net(_)
                | Output::Consul(_)
                | Output::Spiel(_)
                | Output::HttpStream(_)
                | Output::State(_)
                | Output::Keeper(_) => panic!("{output:?}"),
            }
        }
    }

    /// Carries out all file commands, and those that follow from them.
    fn disk(&mut self) {
        while self.disk_once(None) {}
    }

    /// Carries out one file command, or lets it fail.
    fn disk_once(&mut self, failure: Option<Errno>) -> bool {
        let Some(command) = self.pending.pop_front() else { return false };
        let id = command.id();
        let event = match (failure, command) {
            (Some(errno), _) => file::Event::Failed { id, why: Failure::System(errno) },
            (None, file::Command::Write(write)) => {
                self.files.insert(write.path, write.content);
                file::Event::Done { id }
            }
            (None, file::Command::Read { path, .. }) => match self.files.get(&path) {
                Some(content) => file::Event::Content { id, content: content.clone() },
                None => file::Event::Missing { id },
            },
            (None, file::Command::Remove { path, .. }) => {
                self.files.remove(&path);
                file::Event::Done { id }
            }
        };
        self.hand(Input::File(event));
        true
    }

    /// Sends a client's request, given as its script's command line.
    fn ask(&mut self, line: &str) -> FifoId {
        let mut words = line.split(' ').map(String::from);
        let script = scripts::named(&words.next().unwrap()).unwrap();
        let Ok(Action::Ask(request)) = script.parse(&words.collect::<Vec<_>>()) else {
            panic!("{line}")
        };
        self.send(request.encode())
    }

    fn send(&mut self, body: impl Into<Bytes>) -> FifoId {
        let id = FifoId(self.next_client);
        self.next_client += 1;
        self.hand(Input::Fifo(fifo::Request { id, body: body.into() }));
        id
    }

    /// Sends a request with a disk that works. Returns the exit code and the text.
    fn run(&mut self, line: &str) -> (u8, String) {
        let client = self.ask(line);
        self.disk();
        self.answer(client)
    }

    fn answer(&self, client: FifoId) -> (u8, String) {
        let answer = self.answers.get(&client).expect("it is answered");
        (answer.exit, answer.text.clone())
    }

    fn linux(&mut self, index: u16, more: &str) {
        let line =
            format!("create_node -i {index} -p linux -t 100 -r 192.0.2.0/24 -n 10.0.0.2{more}");
        assert_eq!(self.run(&line).0, 0);
    }

    /// Lets a handler write this output and end.
    fn end(&mut self, id: ExecId, said: &str, status: Ended) {
        self.handlers.remove(&id).unwrap();
        let bytes: Bytes = String::from(said).into();
        for part in bytes.chunks(3) {
            let bytes = Bytes::copy_from_slice(part);
            self.hand(Input::Exec(exec::Event::Output { id, stream: Stream::Stdout, bytes }));
        }
        let (cause, unheard) = (Cause::Itself, exec::Unheard::default());
        self.hand(Input::Exec(exec::Event::Exited { id, status, cause, unheard }));
    }

    fn work(&mut self, id: u64) {
        let said = r#"{"outcome": "updated", "detail": "it leads here now"}"#;
        self.end(ExecId(id), said, Ended::Code(0));
    }
}
