//! A server of entrypoints and a process under one clock, with interference in the bytes that one of them
//! receives.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::{EntryId, LinkId, MsgId, SendId};
use hax_core::base::time::Next;
use hax_core::ha::motr;
use hax_core::wire::codec::frame::{End, HEADER};
use hax_core::wire::codec::packet;
use hax_core::wire::process::{self, Command, Process};
use hax_core::wire::{Config, Endpoint, endpoint};

use super::account::Account;
use super::script::{Clock, Script};
use super::tcp::{Party, Tcp};
use crate::engine::rules;
use crate::worlds::bridge::oracle;

/// The maximum number of steps in one run.
const STEPS: usize = 300;
/// The maximum number of events after one step.
const FOLLOW: usize = 5_000;
/// The time limit of a stop, in µs. A stop takes 5 s at most, whatever its peers do.
const STOP_WITHIN: u64 = 5_500_000;

/// Sends arbitrary bytes of a peer to hax.
///
/// # Panics
///
/// If hax panics, exceeds its limits, breaks its port's promises, writes data that is invalid for a process,
/// or does not stop.
pub fn hax(data: &[u8]) {
    let mut pair = Pair::new(data, Party::Server);
    pair.run();
    pair.stop();
}

/// Sends arbitrary bytes of a server to a process. `hax ham` must handle them, too.
///
/// # Panics
///
/// If the process panics, or has outputs after its end.
pub fn process(data: &[u8]) {
    Pair::new(data, Party::Process).run();
}

struct Pair<'a> {
    script: Script<'a>,
    clock: Clock,
    /// The receiver of the edited frames.
    victim: Party,
    /// The number of edited frames among its next ones.
    edits: u8,
    config: Config,
    server: Endpoint,
    server_next: Next,
    account: Account,
    process: Process,
    process_next: Next,
    /// The received and the sent messages of the process, and whether the process is over.
    received: Vec<MsgId>,
    sent: Vec<SendId>,
    over: bool,
    lives: u64,
    sends: u64,
    tcp: Tcp,
}

impl<'a> Pair<'a> {
    fn new(data: &'a [u8], victim: Party) -> Self {
        let mut script = Script(data);
        let mut config = Config::new(Party::Server.addr(), 7, 7);
        let how = script.byte();
        config.known_only = how & 1 == 1;
        if how & 2 == 2 {
            (config.links_max, config.conns_max, config.rpc_conns_max) = (2, 3, 4);
            (config.unacked_max, config.queue_max, config.entries_max) = (2, 3, 2);
            (config.backlog_bytes_max, config.reply_bytes_max) = (50_000, 2_000);
        }
        Self {
            script,
            clock: Clock::default(),
            victim,
            edits: 0,
            server: Endpoint::new(config.clone()),
            config,
            server_next: Next::Wait,
            account: Account::default(),
            process: Process::new(life(1)),
            process_next: Next::Wait,
            received: Vec::new(),
            sent: Vec::new(),
            over: false,
            lives: 1,
            sends: 0,
            tcp: Tcp::default(),
        }
    }

    fn run(&mut self) {
        self.tell_process(process::Input::Command(Command::Ask));
        for _ in 0..STEPS {
            if self.script.is_over() {
                break;
            }
            self.step();
            self.deliver_events();
        }
    }

    fn step(&mut self) {
        match self.script.byte() % 16 {
            0 | 1 => {
                let us = 1_000 << (self.script.byte() % 18);
                self.advance(us);
            }
            2 => self.tell_process(process::Input::Command(Command::Ask)),
            3 => self.process_sends(),
            4 => {
                for msg in std::mem::take(&mut self.received) {
                    self.tell_process(process::Input::Command(Command::Ack { msg }));
                }
            }
            5 => {
                if let Some(entry) = self.account.entries.first().copied() {
                    self.bridge_replies(entry);
                }
            }
            6 => {
                if let Some((link, msg)) = self.account.received.first().copied() {
                    self.tell_server(motr::Command::Ack { link, msg });
                }
            }
            7 | 8 => self.bridge_sends(),
            9 => self.bridge_decides(),
            10 => {
                let wire = self.script.below(self.tcp.len());
                self.tcp.break_wire(wire);
            }
            11 if self.tcp.stalled => self.tcp.flow(),
            11 => self.tcp.stalled = true,
            12 => {
                let from = [Party::RawClient, self.other()][self.script.below(2)];
                self.tcp.connect_raw_client(self.victim, from);
            }
            13 => {
                let wire = self.script.below(self.tcp.len());
                let n = self.script.u16() % 4_096;
                let bytes = Bytes::copy_from_slice(self.script.take(n));
                self.tcp.write(wire, bytes);
            }
            14 => self.item(),
            _ => match self.script.byte() {
                0..=9 => self.restart(),
                10..=14 => self.tell_process(process::Input::Command(Command::Stop)),
                n => self.edits = n % 8,
            },
        }
    }

    fn other(&self) -> Party {
        if self.victim == Party::Server { Party::Process } else { Party::Server }
    }

    /// Sends an item of the script's choice on a connection.
    fn item(&mut self) {
        let wire = self.script.below(self.tcp.len());
        let from = [self.other(), Party::RawClient][self.script.below(2)];
        if let Some(item) = self.script.item() {
            let bytes = packet::encode(end(from.addr(), 1), end(self.victim.addr(), 0), &[item]);
            self.tcp.write(wire, bytes.into());
        }
    }

    fn process_sends(&mut self) {
        let message = Box::new(self.script.message(Fid::process(2)));
        self.sends += 1;
        let send = SendId(self.sends);
        if !self.over {
            self.sent.push(send);
            self.tell_process(process::Input::Command(Command::Send { send, message }));
        }
    }

    fn bridge_replies(&mut self, entry: EntryId) {
        let reply = self.script.entrypoint();
        self.tell_server(motr::Command::Reply { entry, reply });
    }

    fn bridge_sends(&mut self) {
        let links: Vec<LinkId> = self.account.links.keys().copied().collect();
        let all = self.script.byte().is_multiple_of(2);
        let to: Box<[LinkId]> =
            if all { links.into() } else { links.into_iter().take(1).collect() };
        self.sends += 1;
        let message = self.script.news().into();
        self.tell_server(motr::Command::Send {
            send: SendId(self.sends),
            to,
            message,
            purpose: motr::Purpose::States,
        });
    }

    fn bridge_decides(&mut self) {
        match self.script.byte() % 4 {
            0 => {
                let link = self.account.links.keys().next().copied().unwrap_or_default();
                self.tell_server(motr::Command::Disconnect { link });
            }
            1 => self.tell_server(motr::Command::Peers([].into())),
            _ => {
                let name: Box<str> = endpoint_name(Party::Process.addr());
                self.tell_server(motr::Command::Peers([(Fid::process(2), name)].into()));
            }
        }
    }

    /// Kills the process and starts another one in its place.
    fn restart(&mut self) {
        self.tcp.close_wires(Party::Process);
        self.lives += 1;
        self.process = Process::new(life(self.lives));
        self.process_next = Next::Wait;
        (self.received, self.sent, self.over) = (Vec::new(), Vec::new(), false);
        self.tell_process(process::Input::Command(Command::Ask));
    }

    // ---- the machines ---------------------------------------------------------------------------------

    fn tell_server(&mut self, command: motr::Command) {
        self.account.command(&command);
        self.feed_server(endpoint::Input::Motr(command));
    }

    fn feed_server(&mut self, input: endpoint::Input) {
        let mut out = Vec::new();
        self.server_next = self.server.handle(self.clock.now(), input, &mut out);
        holds(rules::deadline_is_later(self.clock.0, self.server_next));
        for output in out {
            match output {
                endpoint::Output::Motr(event) => self.account.event(&self.config, &event),
                endpoint::Output::Net(command) => {
                    let backlog = self.config.backlog_bytes_max;
                    if let Some((wire, frame)) = self.tcp.command(Party::Server, command, backlog) {
                        holds(oracle::check_hax_frame(&frame));
                        self.deliver(Party::Process, wire, frame);
                    }
                }
                endpoint::Output::Fact(_) => {}
            }
        }
    }

    fn tell_process(&mut self, input: process::Input) {
        let mut out = Vec::new();
        self.process_next = self.process.handle(self.clock.now(), input, &mut out);
        holds(rules::deadline_is_later(self.clock.0, self.process_next));
        assert!(!self.over || out.is_empty(), "nothing follows the end");
        for output in out {
            match output {
                process::Output::Event(event) => self.on_process(event),
                process::Output::Net(command) => {
                    if let Some((wire, frame)) = self.tcp.command(Party::Process, command, 4 << 20)
                    {
                        holds(oracle::check_frame(&frame));
                        self.deliver(Party::Server, wire, frame);
                    }
                }
                process::Output::Fact(_) => {}
            }
        }
    }

    fn on_process(&mut self, event: process::Event) {
        match event {
            process::Event::Received { msg, .. } => {
                assert!(!self.received.contains(&msg), "each message has a name of its own");
                self.received.push(msg);
            }
            process::Event::Delivered { send } => {
                let at = self.sent.iter().position(|sent| *sent == send);
                self.sent.remove(at.expect("what is delivered was sent, and is so once"));
            }
            process::Event::Aborted { .. } | process::Event::Stopped => self.over = true,
            _ => {}
        }
    }

    /// Delivers the written bytes, and edits them if they are due for an edit.
    fn deliver(&mut self, to: Party, wire: usize, frame: Bytes) {
        if to != self.victim || self.edits == 0 {
            return self.tcp.write(wire, frame);
        }
        self.edits -= 1;
        match self.script.byte() % 8 {
            0 => {}
            1 => {
                self.tcp.write(wire, frame.clone());
                self.tcp.write(wire, frame);
            }
            2 => {
                let n = self.script.u16() % frame.len();
                self.tcp.write(wire, frame.slice(..n));
            }
            _ => {
                let mut bytes = frame.to_vec();
                for _ in 0..=self.script.byte() % 4 {
                    edit(&mut self.script, &mut bytes[HEADER..]);
                }
                self.tcp.write(wire, bytes.into());
            }
        }
    }

    /// Processes all events of this moment.
    fn deliver_events(&mut self) {
        for n in 0.. {
            let Some((who, event)) = self.tcp.events.pop_front() else { break };
            assert!(n < FOLLOW, "they never come to rest");
            self.tcp.on_event(who, &event);
            match who {
                Party::Server => self.feed_server(endpoint::Input::Net(event)),
                Party::Process => self.tell_process(process::Input::Net(event)),
                Party::RawClient => {}
            }
        }
        holds(oracle::check_wire_view(&self.config, &self.server.view()));
    }

    /// Lets time pass, and processes all due events.
    fn advance(&mut self, us: u64) {
        let end = self.clock.0 + us;
        loop {
            let at = |next| match next {
                Next::WaitUntil { at, .. } => at.as_micros(),
                Next::Wait | Next::Exit => u64::MAX,
            };
            let (server, process) = (at(self.server_next), at(self.process_next));
            if server.min(process) > end {
                break;
            }
            self.clock.0 = server.min(process);
            if server <= process {
                self.feed_server(endpoint::Input::Tick);
            } else {
                self.tell_process(process::Input::Tick);
            }
            self.deliver_events();
        }
        self.clock.0 = end;
    }

    /// Stops the server. The stop must end in time, and all links must have ended after it.
    fn stop(&mut self) {
        self.tcp.flow();
        self.tell_server(motr::Command::Stop);
        self.deliver_events();
        let end = self.clock.0 + STOP_WITHIN;
        while self.server_next != Next::Exit && self.clock.0 < end {
            self.advance(100_000);
        }
        assert_eq!(self.server_next, Next::Exit, "a stop ends in time");
        assert!(self.account.links.is_empty(), "all links have ended");
    }
}

fn life(n: u64) -> process::Config {
    process::Config {
        fid: Fid::process(2),
        listen: Party::Process.addr(),
        connect: Party::Server.addr(),
        pid: n,
        git_rev: "".into(),
        generation: 5 + n,
        seed: 5 + n,
    }
}

fn endpoint_name(addr: SocketAddr) -> Box<str> {
    format!("inet:stream:{}@{}", addr.ip(), addr.port()).into()
}

fn end(addr: SocketAddr, cookie: u64) -> End {
    End { addr, cookie: (cookie, 0) }
}

/// Changes a byte or a word of a packet.
fn edit(script: &mut Script<'_>, packet: &mut [u8]) {
    let at = script.u16() % packet.len();
    if script.byte().is_multiple_of(2) {
        packet[at] = script.byte();
    } else if let Some(word) = packet.get_mut(at / 4 * 4..at / 4 * 4 + 8) {
        word.copy_from_slice(&script.number().to_le_bytes());
    }
}

/// Checks the result of a rule.
///
/// # Panics
///
/// If a rule does not hold.
pub(super) fn holds(rule: Result<(), crate::engine::Violation>) {
    if let Err(violation) = rule {
        panic!("{}: {}", violation.rule, violation.what);
    }
}
