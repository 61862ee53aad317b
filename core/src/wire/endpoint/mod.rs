//! The server of entrypoints, and its end of the link to each Motr process.
//!
//! It has TCP below, [`motr::Event`]s and [`motr::Command`]s above. To the bridge it looks the same as Motr's
//! own library.

pub(crate) mod encodings;
pub(crate) mod ending;
pub(crate) mod entry;
pub(crate) mod entrypoints;
pub(crate) mod io;
pub(crate) mod kept;
pub(crate) mod link_table;
pub(crate) mod links;
pub(crate) mod peer;
pub(crate) mod slots;
pub(crate) mod takeover;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId, MsgId};
use crate::base::retry::Rng;
use crate::base::time::{Instant, Next, Now};
use crate::base::timers::Timers;
use crate::ha::fact::Fact;
use crate::ha::motr;
use crate::wire::codec::fop::Fop;
use crate::wire::codec::params::{Cookie, LinkIds};
use crate::wire::conns::{Limits, Out};
use crate::wire::endpoint::encodings::Encodings;
use crate::wire::endpoint::entry::Entry;
use crate::wire::endpoint::io::{Stop, Timer};
use crate::wire::endpoint::kept::Owner;
use crate::wire::endpoint::link_table::LinkTable;
use crate::wire::endpoint::slots::SlotTable;
use crate::wire::name;
use crate::wire::rpc::client::ClientId;
use crate::wire::rpc::event::RpcEvent;
use crate::wire::rpc::{Rpc, Settings};

pub use crate::wire::endpoint::io::{Config, Input, Keeping, LinkView, Output, View};

/// The machine.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) rpc: Rpc,
    pub(crate) links: LinkTable,
    /// The slots of the links, if their states are kept.
    pub(crate) slots: Option<SlotTable>,
    /// The clients of ended links.
    pub(crate) closing: BTreeMap<ClientId, SocketAddr>,
    /// The links ended by the bridge, with their ids from the process's point of view.
    pub(crate) ended: VecDeque<LinkIds>,
    /// The last generated id when the last link ended, or 0. Of the sessions of this life, those with a lower
    /// id were opened before that.
    pub(crate) last_end: u64,
    pub(crate) entries: BTreeMap<EntryId, Entry>,
    pub(crate) encodings: Encodings,
    pub(crate) cookie: Cookie,
    pub(crate) next_link: LinkId,
    pub(crate) next_msg: MsgId,
    pub(crate) next_entry: EntryId,
    /// The configured processes; `None` until they are known.
    pub(crate) configured: Option<BTreeSet<Fid>>,
    pub(crate) timers: Timers<Timer>,
    pub(crate) rng: Rng,
    pub(crate) stop: Stop,
    begun: bool,
    last: Instant,
}

impl Endpoint {
    /// Creates an endpoint without connections.
    ///
    /// # Panics
    ///
    /// If a peer cannot connect to the listening address.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        let ip = config.listen.ip();
        assert!(
            !ip.is_unspecified(),
            "peers connect to the address that stands in our frames: {ip}"
        );
        let settings = Settings {
            me: config.listen,
            generation: config.generation,
            conns: Limits {
                conns_max: config.conns_max,
                backlog_bytes_max: config.backlog_bytes_max,
                limits_peers: true,
            },
            rpc_conns_max: config.rpc_conns_max,
            reply_bytes_max: config.reply_bytes_max,
            answers_unknown: true,
        };
        let slots = config.keeping.take().map(|Keeping { boot, process, ends_links, slots }| {
            let owner = Owner { boot, process, listen: config.listen };
            SlotTable::new(owner, ends_links, slots)
        });
        Self {
            rpc: Rpc::new(settings),
            links: LinkTable::default(),
            slots,
            closing: BTreeMap::new(),
            ended: VecDeque::new(),
            last_end: 0,
            entries: BTreeMap::new(),
            encodings: Encodings::default(),
            cookie: Cookie([1, config.generation, u64::MAX, config.generation, config.seed]),
            next_link: LinkId(1),
            next_msg: MsgId(1),
            next_entry: EntryId(1),
            configured: None,
            timers: Timers::default(),
            rng: Rng::new(config.seed),
            stop: Stop::No,
            begun: false,
            last: Instant::default(),
            config,
        }
    }

    /// Takes one input and appends the resulting outputs in order.
    ///
    /// Due timers fire in the same call, after the input. Returns [`Next::Exit`] only after
    /// [`motr::Command::Stop`].
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in the call before.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        assert!(now.mono >= self.last, "time went backwards");
        self.last = now.mono;
        if !core::mem::replace(&mut self.begun, true) {
            self.take_over(now.mono, out);
        }
        match input {
            Input::Tick => {}
            Input::Net(event) => self.rpc.on_net(now.mono, event, out),
            Input::Motr(command) => self.on_command(now.mono, command, out),
        }
        self.drain(now.mono, out);
        self.rpc.on_time(now.mono, out);
        while let Some(timer) = self.timers.pop(now.mono) {
            self.on_timer(now.mono, timer, out);
        }
        self.drain(now.mono, out);
        self.check_stop(out);
        if self.stop == Stop::Done {
            return Next::Exit;
        }
        let own = self.timers.first().map_or(Next::Wait, |(at, timer)| {
            let why = match timer {
                Timer::Pause(_) => "pause",
                Timer::Probe(_) => "probe",
                Timer::Doubt(_) => "doubt",
                Timer::LinkDrain => "drain",
                Timer::Exit => "exit",
            };
            Next::WaitUntil { at, why }
        });
        own.earlier(self.rpc.next())
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(event) = self.rpc.next_event(now, out) {
            self.on_rpc_event(now, event, out);
        }
    }

    fn on_rpc_event(&mut self, now: Instant, event: RpcEvent, out: &mut Vec<Output>) {
        match event {
            // The process repeats the request to the next run of this server.
            RpcEvent::UnknownSession { .. } | RpcEvent::Forgotten { .. }
                if self.stop != Stop::No => {}
            RpcEvent::Request { origin, fop: Fop::EntrypointReq(req) } => {
                self.on_asked(origin, req, out)
            }
            RpcEvent::Request { origin, fop: Fop::LinkMsg(msg) } => {
                self.on_message(now, origin, *msg, out)
            }
            RpcEvent::UnknownSession { origin, fop: Fop::LinkMsg(msg) } => {
                self.on_unknown_session(now, origin, msg, out)
            }
            RpcEvent::Repeated { origin, fop, reply } => {
                self.on_repeated(now, &origin, &fop, reply, out)
            }
            RpcEvent::UnknownSession { origin, fop: Fop::EntrypointReq(req) }
                if self.may_be_old(&req) =>
            {
                self.rpc.accept_unknown(origin, Fop::EntrypointReq(req));
            }
            RpcEvent::Forgotten { origin, fop: Fop::EntrypointReq(req) }
                if self.may_be_old(&req) =>
            {
                self.on_asked(origin, req, out);
            }
            RpcEvent::UnknownSession { origin, fop: Fop::EntrypointReq(req) }
            | RpcEvent::Forgotten { origin, fop: Fop::EntrypointReq(req) } => {
                self.ask_anew(now, &origin, &req, out);
            }
            // Other events of peers need no handling; a protocol violation towards us is harmless.
            RpcEvent::Request { .. }
            | RpcEvent::UnknownSession { .. }
            | RpcEvent::Forgotten { .. }
            | RpcEvent::Violation(_) => {}
            RpcEvent::Opened(client) => self.on_opened(now, client, out),
            RpcEvent::Reply(client, fop) => self.on_reply(now, client, &fop, out),
            RpcEvent::Failed(client) => self.on_failed(now, client, out),
            RpcEvent::Ended(client) => {
                self.closing.remove(&client);
            }
            RpcEvent::PeerGone(addr) | RpcEvent::ConnectFailed(addr) => {
                self.on_gone(now, addr, event, out)
            }
            RpcEvent::Connected(addr) => self.on_connected(now, addr, out),
        }
    }

    fn on_command(&mut self, now: Instant, command: motr::Command, out: &mut Vec<Output>) {
        match command {
            motr::Command::Reply { entry, reply } => match self.entries.remove(&entry) {
                Some(waiting) => self.on_answer(now, entry, &waiting, reply, out),
                // The requests that waited when the stop began got no reply.
                None if self.stop != Stop::No => {}
                None => out.fact(Fact::EntryUnknown { entry }),
            },
            motr::Command::Send { send, to, message, purpose } => {
                self.send(now, (send, purpose), &to, &message, out);
            }
            motr::Command::Owe { link, notes } => self.owe(link, notes),
            motr::Command::Ack { link, msg } => {
                if let Some(peer) = self.links.get_mut(link) {
                    peer.link.ack(msg);
                    self.pump(now, link, out);
                }
            }
            motr::Command::Disconnect { link } => self.disconnect(now, link, out),
            motr::Command::Peers(peers) => {
                let known: BTreeSet<Fid> = peers.iter().map(|(process, _)| *process).collect();
                let first = self.configured.replace(known).is_none();
                let addresses = peers.iter().filter_map(|(_, name)| name::parse(name).ok());
                self.rpc.conns.set_allowed_sources(addresses);
                if first && self.config.known_only {
                    self.end_strangers(now, out);
                }
            }
            motr::Command::Stop => self.begin_stop(now, out),
        }
    }

    /// Returns the state of the endpoint, for gauges and tests.
    #[must_use]
    pub fn view(&self) -> View {
        let links = self.links.iter().map(|(id, peer)| peer.view(id)).collect();
        View {
            links,
            conns: self.rpc.conns.len(),
            rpc_conns: self.rpc.server.len(),
            entries: self.entries.len(),
        }
    }
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
