//! An endpoint and the processes of its links, connected in memory: each write is received at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::{ConnId, LinkId, SendId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::message::Message;
use hax_core::ha::motr::{Command, Event, Purpose};
use hax_core::net;
use hax_core::wire::{Config, Endpoint, Input, Output, Process, process};

/// One end of a connection: the endpoint's (`None`), or that of the process with this number.
type End = (Option<usize>, ConnId);

/// An input that waits for the endpoint or for a process.
enum Wait {
    Endpoint(Input),
    Process(usize, process::Input),
}

/// An endpoint with its processes.
pub struct Peers {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The outputs of the endpoint that are not taken yet.
    pub out: Vec<Output>,
    /// The links, in the order in which they came up.
    pub links: Vec<LinkId>,
    processes: Vec<Process>,
    /// Both ends of each connection.
    ends: BTreeMap<End, End>,
    accepted: u64,
    waiting: VecDeque<Wait>,
    next: Next,
    now: Instant,
    sends: u64,
}

fn address(n: usize) -> SocketAddr {
    let n = u16::try_from(n).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], 20_000 + n))
}

impl Peers {
    /// Creates `processes` processes with links.
    ///
    /// # Panics
    ///
    /// If not all processes get a link.
    #[must_use]
    pub fn new(processes: usize) -> Self {
        let mut peers = Self {
            endpoint: Endpoint::new(Config::new(address(0), 1, 1)),
            out: Vec::new(),
            links: Vec::new(),
            processes: Vec::new(),
            ends: BTreeMap::new(),
            accepted: 0,
            waiting: VecDeque::new(),
            next: Next::Wait,
            now: Instant::from_micros(1_000_000),
            sends: 0,
        };
        for n in 1..=processes {
            let config = process::Config {
                fid: Fid::process(n as u64),
                listen: address(n),
                connect: address(0),
                pid: n as u64,
                git_rev: "".into(),
                generation: n as u64,
                seed: n as u64,
            };
            peers.processes.push(Process::new(config));
            let ask = process::Input::Command(process::Command::Ask);
            peers.waiting.push_back(Wait::Process(n, ask));
        }
        peers.rest();
        assert_eq!(peers.links.len(), processes, "each process has its link");
        peers
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.now, wall: WallClock(self.now.as_micros() * 1_000) }
    }

    /// Creates the endpoint's input for a message to all links.
    pub fn broadcast(&mut self, message: Message) -> Input {
        self.sends += 1;
        let send = SendId(self.sends);
        let to = self.links.clone().into();
        Input::Motr(Command::Send {
            send,
            to,
            message: Arc::new(message),
            purpose: Purpose::States,
        })
    }

    /// Gives the endpoint one input.
    pub fn give(&mut self, input: Input) {
        let now = self.now();
        self.next = self.endpoint.handle(now, input, &mut self.out);
    }

    /// Delivers all pending data; processes acknowledge their messages at once. Returns the number of
    /// messages that processes received.
    pub fn rest(&mut self) -> usize {
        let mut delivered = 0;
        loop {
            // The endpoint keeps its buffer, as with a host.
            let said: Vec<Output> = self.out.drain(..).collect();
            for output in said {
                match output {
                    Output::Net(command) => self.carry(None, command),
                    Output::Motr(Event::Asked(request)) => {
                        let reply = Ok(entrypoint());
                        let reply = Command::Reply { entry: request.entry, reply };
                        self.waiting.push_back(Wait::Endpoint(Input::Motr(reply)));
                    }
                    Output::Motr(Event::LinkUp { link, .. }) => self.links.push(link),
                    Output::Motr(Event::Delivered { .. }) => delivered += 1,
                    Output::Motr(_) | Output::Fact(_) => {}
                }
            }
            match self.waiting.pop_front() {
                None => return delivered,
                Some(Wait::Endpoint(input)) => self.give(input),
                Some(Wait::Process(n, input)) => self.process(n, input),
            }
        }
    }

    fn process(&mut self, n: usize, input: process::Input) {
        let mut out = Vec::new();
        let now = self.now();
        let _ = self.processes[n - 1].handle(now, input, &mut out);
        for output in out {
            match output {
                process::Output::Net(command) => self.carry(Some(n), command),
                process::Output::Event(process::Event::Received { msg, .. }) => {
                    let ack = process::Input::Command(process::Command::Ack { msg });
                    self.waiting.push_back(Wait::Process(n, ack));
                }
                process::Output::Event(process::Event::Aborted { why }) => panic!("{why}"),
                process::Output::Event(_) | process::Output::Fact(_) => {}
            }
        }
    }

    fn carry(&mut self, from: Option<usize>, command: net::Command) {
        match command {
            net::Command::Connect { conn, to, .. } => {
                let at = usize::from(to.port()) - 20_000;
                let at = (at != 0).then_some(at);
                let accepted = ConnId::accepted(self.accepted);
                self.accepted += 1;
                self.ends.insert((from, conn), (at, accepted));
                let peer = address(from.unwrap_or(0));
                self.tell(at, net::Event::Accepted { conn: accepted, peer });
                self.tell(from, net::Event::Connected { conn });
            }
            net::Command::Write { conn, segments } => {
                let bytes: Vec<u8> = segments.iter().flatten().copied().collect();
                let size = u32::try_from(bytes.len()).expect("a frame is small");
                let (at, other) = self.ends[&(from, conn)];
                self.tell(at, net::Event::Received { conn: other, bytes: Bytes::from(bytes) });
                self.tell(from, net::Event::Written { conn, bytes: size });
            }
            net::Command::Close { .. } | net::Command::Cut { .. } => panic!("nobody closes here"),
        }
    }

    fn tell(&mut self, whom: Option<usize>, event: net::Event) {
        self.waiting.push_back(match whom {
            None => Wait::Endpoint(Input::Net(event)),
            Some(n) => Wait::Process(n, process::Input::Net(event)),
        });
    }
}

fn entrypoint() -> Arc<Entrypoint> {
    let endpoint: Box<str> = "inet:stream:127.0.0.1@22002".into();
    let confds = vec![Confd { fid: Fid::process(1), endpoint: endpoint.clone() }];
    Arc::new(Entrypoint { quorum: 1, confds, rm: Fid::service(11), rm_endpoint: endpoint })
}
