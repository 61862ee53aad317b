//! Endpoints and processes on a small network, in virtual time: latency, stalls, cuts, lost frames, deaths.
//!
//! The world tracks every message.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::fact::Level;
use hax_core::base::fid::Fid;
use hax_core::base::id::{ConnId, EntryId, LinkId, MsgId, SendId};
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::fact::Fact;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::net;
use hax_core::wire::codec::params::{LinkIds, Uint128};
use hax_core::wire::endpoint::Keeping;
use hax_core::wire::{Config, Endpoint, Input, Output, Process, process};

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;
pub(super) const LATENCY: u64 = 200;

pub enum Machine {
    Hax(Box<Endpoint>),
    Process(Box<Process>),
    Dead,
}

pub(super) struct Node {
    pub(super) addr: SocketAddr,
    pub(super) machine: Machine,
    pub(super) life: u64,
    pub(super) accepted: u64,
    pub(super) wake: u64,
    pub(super) sockets: BTreeMap<ConnId, usize>,
}

/// One TCP connection. `ends[0]` opened it and writes.
pub(super) struct Socket {
    pub(super) ends: [Option<(usize, u64, ConnId)>; 2],
    /// The time before which no written data arrives.
    pub(super) busy: u64,
}

pub(super) enum Ev {
    Tick,
    Accept(usize, SocketAddr),
    Connected(usize),
    Data(usize, Vec<u8>),
    /// The end with this number sees that the other end has closed.
    Fin(usize, usize),
    Command(Do),
}

/// A delayed command of an application.
#[derive(Clone, Debug)]
pub enum Do {
    Ack(LinkId, MsgId),
    AckProcess(usize, MsgId),
    Reply(EntryId),
}

/// The replies of hax's application to entrypoint requests.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    After(u64),
    /// EAGAIN this many times, then an entrypoint.
    Again(u32),
    Never,
}

pub struct World {
    pub now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), (usize, u64, Ev)>,
    pub(super) nodes: Vec<Node>,
    pub(super) sockets: Vec<Socket>,
    /// The stalled pairs of nodes, and the time before which no data arrives.
    pub(super) stalls: BTreeMap<(usize, usize), u64>,
    /// The number of the next frames from a node that are lost.
    pub lose: BTreeMap<usize, u32>,
    pub answer: Answer,
    /// The delay after which hax and the processes acknowledge. `None` if they never do.
    pub ack_after: [Option<u64>; 2],
    pub facts: Vec<(usize, Fact)>,
    pub hax: Vec<(u64, motr::Event)>,
    /// The events of hax's earlier lives.
    pub former: Vec<Vec<(u64, motr::Event)>>,
    pub processes: Vec<Vec<(u64, process::Event)>>,
    pub links: BTreeMap<Fid, LinkId>,
    pub exited: BTreeSet<usize>,
    next_send: u64,
    /// The sends of hax without an outcome, with their link.
    pub owed: BTreeSet<(LinkId, SendId)>,
    pub trace: Vec<String>,
    pub(super) answered: BTreeSet<Uint128>,
    /// The operation 207 that each end of a link has in flight, and the time of its last sending.
    pub(super) flying: BTreeMap<(usize, LinkIds), (Uint128, u64)>,
    unacked: Vec<(LinkId, MsgId)>,
    unacked_by: Vec<(usize, u64, MsgId)>,
    /// The states of links that outlive hax; `None` if none do.
    pub slots: Option<BTreeMap<u32, Bytes>>,
    pub boot: u128,
    pub ends_links: bool,
    /// The number of further outputs and commands before hax dies.
    pub dies_after: Option<u32>,
}

pub fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3000 + node as u16))
}

pub fn fid(node: usize) -> Fid {
    Fid::process(node as u64)
}

/// Returns a message with a number.
pub fn numbered(n: u64) -> Message {
    Message::new(WallClock(n), Body::Rpc { attempts: n, state: 0 })
}

pub fn entrypoint() -> Arc<Entrypoint> {
    let endpoint: Box<str> = "inet:stream:127.0.0.1@22002".into();
    let confds = vec![Confd { fid: Fid::service(10), endpoint: endpoint.clone() }];
    Arc::new(Entrypoint { quorum: 1, confds, rm: Fid::service(11), rm_endpoint: endpoint })
}

/// Returns a world in which all processes have their links.
pub fn connected(processes: usize) -> World {
    let mut world = World::new(processes);
    for node in 1..=processes {
        world.command(node, process::Command::Ask);
    }
    world.run(S);
    assert_eq!(world.links.len(), processes, "{}", world.trace.join("\n"));
    world
}

impl World {
    /// Creates a world. Node 0 is hax, the others are processes that have not started.
    pub fn new(processes: usize) -> Self {
        let mut world = Self {
            now: S,
            seq: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            sockets: Vec::new(),
            stalls: BTreeMap::new(),
            lose: BTreeMap::new(),
            answer: Answer::After(0),
            ack_after: [Some(0), Some(0)],
            facts: Vec::new(),
            hax: Vec::new(),
            former: Vec::new(),
            processes: vec![Vec::new(); processes + 1],
            links: BTreeMap::new(),
            exited: BTreeSet::new(),
            next_send: 1,
            owed: BTreeSet::new(),
            trace: Vec::new(),
            answered: BTreeSet::new(),
            flying: BTreeMap::new(),
            unacked: Vec::new(),
            unacked_by: Vec::new(),
            slots: None,
            boot: 1,
            ends_links: false,
            dies_after: None,
        };
        for node in 0..=processes {
            world.nodes.push(Node {
                addr: addr(node),
                machine: Machine::Dead,
                life: 0,
                accepted: 0,
                wake: u64::MAX,
                sockets: BTreeMap::new(),
            });
            world.start(node);
        }
        world
    }

    pub fn start(&mut self, node: usize) {
        let generation = 1_700_000_000_000_000_000 + self.now * 1000 + node as u64;
        self.start_with(node, |config| config.generation = generation);
    }

    pub fn start_with(&mut self, node: usize, change: impl FnOnce(&mut Config)) {
        let mut config = Config::new(addr(node), 1, 7);
        change(&mut config);
        let machine = if node == 0 {
            self.links.clear();
            config.keeping = self.slots.clone().map(|slots| {
                let slots = slots.into_iter().collect();
                Keeping { boot: self.boot, process: fid(0), ends_links: self.ends_links, slots }
            });
            Machine::Hax(Box::new(Endpoint::new(config)))
        } else {
            Machine::Process(Box::new(Process::new(process::Config {
                fid: fid(node),
                listen: addr(node),
                connect: addr(0),
                pid: 100 + node as u64,
                git_rev: "27e7f86e".into(),
                generation: config.generation,
                seed: 5,
            })))
        };
        self.nodes[node].machine = machine;
        self.nodes[node].wake = u64::MAX;
    }

    pub fn endpoint(&self) -> &Endpoint {
        match &self.nodes[0].machine {
            Machine::Hax(endpoint) => endpoint,
            _ => panic!("hax is dead"),
        }
    }

    pub fn is_alive(&self, node: usize) -> bool {
        !matches!(self.nodes[node].machine, Machine::Dead)
    }

    /// Kills a machine. Its kernel closes its connections.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].machine = Machine::Dead;
        self.nodes[node].life += 1;
        if node == 0 {
            self.owed.clear();
            self.links.clear();
            self.unacked.clear();
            self.flying.retain(|(node, _), _| *node != 0);
            self.dies_after = None;
            self.former.push(std::mem::take(&mut self.hax));
        }
        for (_, socket) in std::mem::take(&mut self.nodes[node].sockets) {
            for end in 0..2 {
                if self.sockets[socket].ends[end].is_some_and(|e| e.0 == node) {
                    self.hang_up(socket, end);
                }
            }
        }
    }

    pub fn command(&mut self, node: usize, command: process::Command) {
        self.feed_process(node, process::Input::Command(command));
    }

    /// The first tick of hax's host.
    pub fn tick(&mut self) {
        self.feed_hax(Input::Tick);
    }

    pub fn motr(&mut self, command: motr::Command) {
        self.feed_hax(Input::Motr(command));
    }

    /// Sends a numbered message of hax to a process, if that has a link.
    pub fn send_to(&mut self, node: usize) -> Option<SendId> {
        let link = *self.links.get(&fid(node))?;
        let send = SendId(self.next_send);
        self.next_send += 1;
        self.owed.insert((link, send));
        let message = Arc::new(numbered(send.0));
        // The next life has to send what this one did not.
        let purpose = motr::Purpose::News;
        self.motr(motr::Command::Send { send, to: Box::new([link]), message, purpose });
        Some(send)
    }

    pub fn send_from(&mut self, node: usize, n: u64) {
        let message = Box::new(numbered(n));
        self.command(node, process::Command::Send { send: SendId(n), message });
    }

    /// Acknowledges the messages that have not been acknowledged.
    pub fn acknowledge_all(&mut self) {
        for (link, msg) in std::mem::take(&mut self.unacked) {
            self.motr(motr::Command::Ack { link, msg });
        }
        for (node, life, msg) in std::mem::take(&mut self.unacked_by) {
            if self.nodes[node].life == life {
                self.command(node, process::Command::Ack { msg });
            }
        }
    }

    pub fn run(&mut self, us: u64) {
        let end = self.now + us;
        while let Some((&(at, seq), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            let (node, life, ev) = self.queue.remove(&(at, seq)).unwrap();
            self.now = at;
            self.on(node, life, ev);
        }
        self.now = end;
    }

    pub(super) fn push(&mut self, at: u64, node: usize, ev: Ev) {
        self.seq += 1;
        let life = self.nodes[node].life;
        self.queue.insert((at, self.seq), (node, life, ev));
    }

    fn on(&mut self, node: usize, life: u64, ev: Ev) {
        match ev {
            Ev::Tick if self.nodes[node].life == life && self.nodes[node].wake <= self.now => {
                self.nodes[node].wake = u64::MAX;
                match self.nodes[node].machine {
                    Machine::Hax(_) => self.feed_hax(Input::Tick),
                    Machine::Process(_) => self.feed_process(node, process::Input::Tick),
                    Machine::Dead => {}
                }
            }
            Ev::Tick => {}
            Ev::Accept(socket, to) => self.on_accept(socket, to),
            Ev::Connected(socket) => {
                if let Some((node, _, conn)) = self.sockets[socket].ends[0] {
                    self.feed_net(node, net::Event::Connected { conn });
                }
            }
            // In reality the last data of a dead machine may arrive. A process that is reconnecting at that
            // moment aborts then, whatever its new server does.
            Ev::Data(..) if self.nodes[node].life != life => {}
            Ev::Data(socket, data) => {
                if let Some((node, _, conn)) = self.sockets[socket].ends[1] {
                    self.feed_net(node, net::Event::Received { conn, bytes: Bytes::from(data) });
                }
            }
            Ev::Fin(socket, end) => {
                if let Some((node, life, conn)) = self.sockets[socket].ends[end].take()
                    && self.nodes[node].life == life
                {
                    self.nodes[node].sockets.remove(&conn);
                    self.feed_net(node, net::Event::Closed { conn });
                }
            }
            Ev::Command(Do::Ack(link, msg)) if self.nodes[0].life == life => {
                self.motr(motr::Command::Ack { link, msg });
            }
            Ev::Command(Do::AckProcess(node, msg)) if self.nodes[node].life == life => {
                self.command(node, process::Command::Ack { msg });
            }
            Ev::Command(Do::Reply(entry)) if self.nodes[0].life == life => {
                self.motr(motr::Command::Reply { entry, reply: Ok(entrypoint()) });
            }
            Ev::Command(_) => {}
        }
    }

    pub(super) fn feed_net(&mut self, node: usize, event: net::Event) {
        match self.nodes[node].machine {
            Machine::Hax(_) => self.feed_hax(Input::Net(event)),
            Machine::Process(_) => self.feed_process(node, process::Input::Net(event)),
            Machine::Dead => {}
        }
    }

    fn clock(&self) -> Now {
        Now { mono: Instant::from_micros(self.now), wall: WallClock(self.now * 1000) }
    }

    fn feed_hax(&mut self, input: Input) {
        let now = self.clock();
        let Machine::Hax(endpoint) = &mut self.nodes[0].machine else { return };
        let mut out = Vec::new();
        let next = endpoint.handle(now, input, &mut out);
        let mut commands = Vec::new();
        endpoint.keep(&mut commands);
        self.rearm(0, next);
        for command in commands {
            if self.dies() {
                return;
            }
            self.on_state(command);
        }
        for output in out {
            if self.dies() {
                return;
            }
            match output {
                Output::Net(command) => self.on_net(0, command),
                Output::Fact(fact) => self.on_fact(0, fact),
                Output::Motr(event) => self.on_motr(event),
            }
        }
    }

    fn feed_process(&mut self, node: usize, input: process::Input) {
        let now = self.clock();
        let Machine::Process(process) = &mut self.nodes[node].machine else { return };
        let mut out = Vec::new();
        let next = process.handle(now, input, &mut out);
        self.rearm(node, next);
        for output in out {
            match output {
                process::Output::Net(command) => self.on_net(node, command),
                process::Output::Fact(fact) => self.on_fact(node, fact),
                process::Output::Event(event) => self.on_process(node, event),
            }
        }
    }

    fn rearm(&mut self, node: usize, next: Next) {
        match next {
            Next::Wait => self.nodes[node].wake = u64::MAX,
            Next::WaitUntil { at, .. } => {
                let at = at.as_micros().max(self.now);
                self.nodes[node].wake = at;
                self.push(at, node, Ev::Tick);
            }
            Next::Exit => {
                self.exited.insert(node);
            }
        }
    }

    fn on_fact(&mut self, node: usize, fact: Fact) {
        if fact.kind().level() >= Level::Debug {
            self.trace.push(format!("{:>10} {node}: {fact}", self.now));
        }
        self.facts.push((node, fact));
    }

    fn on_motr(&mut self, event: motr::Event) {
        self.trace.push(format!("{:>10} hax: {event:?}", self.now));
        match &event {
            motr::Event::Asked(asked) => match &mut self.answer {
                Answer::Never => {}
                Answer::Again(n) if *n > 0 => {
                    *n -= 1;
                    let entry = asked.entry;
                    self.hax.push((self.now, event));
                    return self.motr(motr::Command::Reply { entry, reply: Err(Errno::EAGAIN) });
                }
                Answer::Again(_) => self.push(self.now, 0, Ev::Command(Do::Reply(asked.entry))),
                Answer::After(us) => {
                    let at = self.now + *us;
                    self.push(at, 0, Ev::Command(Do::Reply(asked.entry)));
                }
            },
            motr::Event::LinkUp { link, process, .. }
            | motr::Event::LinkKept { link, process, .. } => {
                self.links.insert(*process, *link);
            }
            motr::Event::LinkClosed { link } => {
                self.links.retain(|_, l| l != link);
                assert!(!self.owed.iter().any(|(l, _)| l == link), "{link} closed, sends are owed");
            }
            motr::Event::Received { link, msg, .. } => match self.ack_after[0] {
                Some(after) => self.push(self.now + after, 0, Ev::Command(Do::Ack(*link, *msg))),
                None => self.unacked.push((*link, *msg)),
            },
            motr::Event::Delivered { link, send } | motr::Event::Undelivered { link, send } => {
                assert!(self.owed.remove(&(*link, *send)), "{send} over {link} ended twice");
            }
            _ => {}
        }
        self.hax.push((self.now, event));
    }

    fn on_process(&mut self, node: usize, event: process::Event) {
        self.trace.push(format!("{:>10} {node}: {event:?}", self.now));
        match &event {
            process::Event::Received { msg, .. } => match self.ack_after[1] {
                Some(after) => {
                    self.push(self.now + after, node, Ev::Command(Do::AckProcess(node, *msg)));
                }
                None => self.unacked_by.push((node, self.nodes[node].life, *msg)),
            },
            process::Event::Aborted { .. } | process::Event::Stopped => {
                self.processes[node].push((self.now, event));
                return self.kill(node);
            }
            _ => {}
        }
        self.processes[node].push((self.now, event));
    }
}
