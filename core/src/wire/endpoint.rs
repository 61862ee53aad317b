//! The server of entrypoints, and its end of the link to each Motr process.
//!
//! TCP in, TCP out, [`motr::Event`]s up, [`motr::Command`]s down. The bridge that stands on it cannot
//! tell it from Motr's own library.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::asked::Entry;
use super::conns::Out;
use super::fop::Fop;
use super::name::{self, Name};
use super::net;
use super::params::{Cookie, LinkIds, Uint128};
use super::peer::Peer;
use super::rpc::{Rpc, Settings, Up};
use super::rpc_out::CallerId;
use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId, MsgId};
use crate::base::retry::Jitter;
use crate::base::time::{Instant, Next, Now};
use crate::base::timers::Timers;
use crate::ha::motr;

/// How the endpoint behaves. Limits are on what peers can make it keep.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address at which peers find us: a concrete one, it stands in every frame.
    pub listen: SocketAddr,
    /// Our endpoint's name, as it was given.
    pub name: Box<str>,
    /// Nanoseconds of the wall clock at the start: no two lives have the same one, and so no id of
    /// an earlier life means anything in a later one.
    pub generation: u64,
    /// For jitter.
    pub seed: u64,
    /// Whether processes that the configuration does not know are refused, as soon as it is known
    /// ([`motr::Command::Peers`]).
    pub known_only: bool,
    /// Links. Beyond it the oldest dormant one makes room.
    pub links_max: usize,
    /// TCP connections in each direction.
    pub conns_max: usize,
    /// Rpc connections that peers have opened. Dead ones are never taken down by anybody, so the
    /// ones not used for longest make room.
    pub rpc_conns_max: usize,
    /// Messages of one link received and not acknowledged.
    pub unacked_max: usize,
    /// Messages that wait for one link.
    pub queue_max: usize,
    /// Entrypoint requests that wait for their reply.
    pub entries_max: usize,
    /// Bytes that one peer does not read.
    pub backlog_bytes_max: usize,
    /// Bytes of replies kept for requests that come again.
    pub reply_bytes_max: usize,
}

impl Config {
    /// The usual limits.
    #[must_use]
    pub fn new(listen: SocketAddr, generation: u64, seed: u64) -> Self {
        Self {
            listen,
            name: format!("{}", Name(listen)).into(),
            generation,
            seed,
            known_only: true,
            links_max: 1024,
            conns_max: 2048,
            rpc_conns_max: 4096,
            unacked_max: 256,
            queue_max: 4096,
            entries_max: 16_384,
            backlog_bytes_max: 4 << 20,
            reply_bytes_max: 16 << 20,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection.
    Net(net::Event),
    /// The bridge wants something.
    Motr(motr::Command),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// With a TCP connection.
    Net(net::Command),
    /// To tell the bridge.
    Motr(motr::Event),
    /// To log and count.
    Fact(Fact),
}

impl Out for Vec<Output> {
    fn net(&mut self, command: net::Command) {
        self.push(Output::Net(command));
    }

    fn fact(&mut self, fact: Fact) {
        self.push(Output::Fact(fact));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The pause after a failed 207 ends.
    Pause(LinkId),
    /// It is time to look whether a peer is there again.
    Probe(LinkId),
    /// What is being stopped has had time enough to be told what it is owed.
    Drain,
    /// The stop ends.
    Exit,
}

/// How far the stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// Links are being ended.
    Links,
    /// TCP connections are being closed.
    Conns,
    Done,
}

/// The machine.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) config: Config,
    pub(super) rpc: Rpc,
    pub(super) links: BTreeMap<LinkId, Peer>,
    /// By our end's name, by the process, and by the caller.
    pub(super) by_end: BTreeMap<Uint128, LinkId>,
    pub(super) by_process: BTreeMap<Fid, LinkId>,
    pub(super) by_caller: BTreeMap<CallerId, LinkId>,
    /// Callers of links that have ended.
    pub(super) closing: BTreeMap<CallerId, SocketAddr>,
    /// Links that the bridge has ended, as the process sees them.
    pub(super) ended: VecDeque<LinkIds>,
    /// What was minted last when a link ended last: a session with a lower name was opened before.
    pub(super) last_end: u64,
    pub(super) entries: BTreeMap<EntryId, Entry>,
    pub(super) cookie: Cookie,
    pub(super) next_link: LinkId,
    pub(super) next_msg: MsgId,
    pub(super) next_entry: EntryId,
    /// The processes that the configuration has; nothing until it is known.
    pub(super) configured: Option<BTreeSet<Fid>>,
    pub(super) timers: Timers<Timer>,
    pub(super) jitter: Jitter,
    pub(super) stop: Stop,
    pub(super) clock: u64,
    last: Instant,
}

impl Endpoint {
    /// An endpoint that nobody has connected to yet.
    ///
    /// # Panics
    ///
    /// If the address to listen at is not one that a peer can connect to.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let ip = config.listen.ip();
        assert!(
            !ip.is_unspecified(),
            "peers connect to the address that stands in our frames: {ip}"
        );
        let settings = Settings {
            me: config.listen,
            generation: config.generation,
            conns_max: config.conns_max,
            backlog_bytes_max: config.backlog_bytes_max,
            rpc_conns_max: config.rpc_conns_max,
            reply_bytes_max: config.reply_bytes_max,
            answers_strangers: true,
        };
        Self {
            rpc: Rpc::new(settings),
            links: BTreeMap::new(),
            by_end: BTreeMap::new(),
            by_process: BTreeMap::new(),
            by_caller: BTreeMap::new(),
            closing: BTreeMap::new(),
            ended: VecDeque::new(),
            last_end: 0,
            entries: BTreeMap::new(),
            cookie: Cookie([1, config.generation, u64::MAX, config.generation, config.seed]),
            next_link: LinkId(1),
            next_msg: MsgId(1),
            next_entry: EntryId(1),
            configured: None,
            timers: Timers::default(),
            jitter: Jitter::new(config.seed),
            stop: Stop::No,
            clock: 0,
            last: Instant::default(),
            config,
        }
    }

    /// Takes one input and appends, in order, all that follows from it; due timers fire in the same
    /// call, after the input. Returns [`Next::Exit`] only after [`motr::Command::Stop`].
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in the call before.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        assert!(now.mono >= self.last, "time went backwards");
        self.last = now.mono;
        match input {
            Input::Tick => {}
            Input::Net(event) => self.rpc.on_net(now.mono, event, out),
            Input::Motr(command) => self.on_command(now.mono, command, out),
        }
        self.settle(now.mono, out);
        self.rpc.on_time(now.mono, out);
        while let Some(timer) = self.timers.pop(now.mono) {
            self.on_timer(now.mono, timer, out);
        }
        self.settle(now.mono, out);
        self.check_stop(out);
        if self.stop == Stop::Done {
            return Next::Exit;
        }
        let own = self.timers.first().map_or(Next::Wait, |(at, timer)| {
            let why = match timer {
                Timer::Pause(_) => "pause",
                Timer::Probe(_) => "probe",
                Timer::Drain => "drain",
                Timer::Exit => "exit",
            };
            Next::WaitUntil { at, why }
        });
        own.earlier(self.rpc.next())
    }

    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(up) = self.rpc.rise(now, out) {
            self.on_up(now, up, out);
        }
    }

    fn on_up(&mut self, now: Instant, up: Up, out: &mut Vec<Output>) {
        match up {
            // It comes again, to the one who serves here then.
            Up::Stray { .. } | Up::Forgotten { .. } if self.stop != Stop::No => {}
            Up::Request { at, fop: Fop::EntrypointReq(req) } => self.on_asked(at, req, out),
            Up::Request { at, fop: Fop::LinkMsg(msg) } => self.on_message(now, at, *msg, out),
            Up::Stray { at, fop: Fop::LinkMsg(msg) } => self.on_stray(now, at, msg, out),
            Up::Repeated { at, fop, reply } => self.on_repeated(now, &at, (&fop, reply), out),
            Up::Stray { at, fop: Fop::EntrypointReq(req) } if self.may_be_old(&req) => {
                self.rpc.adopt(at, Fop::EntrypointReq(req));
            }
            Up::Forgotten { at, fop: Fop::EntrypointReq(req) } if self.may_be_old(&req) => {
                self.on_asked(at, req, out);
            }
            Up::Stray { at, fop: Fop::EntrypointReq(req) }
            | Up::Forgotten { at, fop: Fop::EntrypointReq(req) } => {
                self.ask_anew(now, &at, &req, out);
            }
            // Nothing else rises from a peer; a rule broken towards us harms nobody.
            Up::Request { .. } | Up::Stray { .. } | Up::Forgotten { .. } | Up::Broken(_) => {}
            Up::Opened(caller) => self.on_opened(now, caller, out),
            Up::Reply(caller, fop) => self.on_reply(now, caller, &fop, out),
            Up::Failed(caller) => self.on_failed(now, caller, out),
            Up::Ended(caller) => {
                self.closing.remove(&caller);
            }
            Up::Gone(addr) | Up::Refused(addr) => self.on_gone(now, addr, up, out),
            Up::Reached(addr) => self.on_reached(now, addr, out),
        }
    }

    fn on_command(&mut self, now: Instant, command: motr::Command, out: &mut Vec<Output>) {
        match command {
            motr::Command::Reply { entry, reply } => match self.entries.remove(&entry) {
                Some(waiting) => self.on_answer(now, entry, &waiting, reply, out),
                // What waited when the stop began got no reply.
                None if self.stop != Stop::No => {}
                None => out.fact(Fact::EntryUnknown { entry }),
            },
            motr::Command::Send { send, to, message } => self.send(now, send, &to, &message, out),
            motr::Command::Ack { link, msg } => {
                if let Some(peer) = self.links.get_mut(&link) {
                    peer.link.received.ack(msg);
                    self.pump(now, link, out);
                }
            }
            motr::Command::Disconnect { link } => self.disconnect(now, link, out),
            motr::Command::Peers(peers) => {
                let known: BTreeSet<Fid> = peers.iter().map(|(process, _)| *process).collect();
                let first = self.configured.replace(known).is_none();
                let addresses = peers.iter().filter_map(|(_, name)| name::parse(name).ok());
                self.rpc.conns.name_peers(addresses);
                if first && self.config.known_only {
                    self.end_strangers(now, out);
                }
            }
            motr::Command::Stop => self.begin_stop(now, out),
        }
    }

    /// What the endpoint holds, for gauges and tests.
    #[must_use]
    pub fn view(&self) -> View {
        let links = self.links.iter().map(|(id, peer)| peer.view(*id)).collect();
        View {
            links,
            conns: self.rpc.conns.len(),
            rpc_conns: self.rpc.incoming.len(),
            entries: self.entries.len(),
        }
    }
}

/// What an endpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All links, the oldest first.
    pub links: Vec<LinkView>,
    /// TCP connections.
    pub conns: usize,
    /// Rpc connections that peers have opened.
    pub rpc_conns: usize,
    /// Entrypoint requests that wait for their reply.
    pub entries: usize,
}

/// What is to be seen of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Its name.
    pub link: LinkId,
    /// Who is at its other end.
    pub process: Fid,
    /// Where that listens.
    pub addr: SocketAddr,
    /// Whether that is there.
    pub up: bool,
    /// Messages that it has not taken in yet.
    pub queued: usize,
    /// Messages from it that are not acknowledged.
    pub unacked: usize,
    /// Our out queue.
    pub tags_out: super::params::Tags,
    /// Our in queue.
    pub tags_in: super::params::Tags,
}

#[cfg(test)]
mod tests {
    use super::super::process;
    use super::*;

    #[test]
    fn inputs_and_outputs_are_small() {
        assert!(size_of::<Input>() <= 64 && size_of::<Output>() <= 64);
        assert!(size_of::<process::Input>() <= 64 && size_of::<process::Output>() <= 64);
    }
}
