//! An endpoint with a misbehaving peer.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::net;
use hax_core::wire::codec::fop::{EntrypointReq, Fop, LinkMsg};
use hax_core::wire::codec::frame::End;
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkIds, LinkParams, Uint128};
use hax_core::wire::{Config, Endpoint, Input, Output};

use crate::wire_support::world::{addr, entrypoint, fid};

pub(crate) const PEER: u16 = 4000;

/// An endpoint, and its outputs for one peer.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(crate) us: u64,
    pub(crate) conns: u64,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) facts: Vec<FactKind>,
    pub(crate) said: Vec<Bytes>,
    pub(crate) events: Vec<motr::Event>,
}

impl Host {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(addr(0), 1 << 60, 1);
        change(&mut config);
        let (closed, facts, said, events) = Default::default();
        let endpoint = Endpoint::new(config);
        Self { endpoint, us: 0, conns: 0, closed, facts, said, events }
    }

    pub(crate) fn feed(&mut self, input: Input) {
        self.us += 10;
        let now = Now { mono: Instant::from_micros(self.us), wall: WallClock(0) };
        let mut out = Vec::new();
        let _ = self.endpoint.handle(now, input, &mut out);
        for output in out {
            match output {
                Output::Fact(fact) => self.facts.push(fact.kind()),
                Output::Net(net::Command::Close { conn }) => {
                    self.closed.push(conn);
                    self.feed(Input::Net(net::Event::Closed { conn }));
                }
                Output::Net(net::Command::Cut { .. }) => {}
                Output::Net(net::Command::Connect { conn, .. }) => {
                    self.feed(Input::Net(net::Event::Connected { conn }));
                }
                Output::Net(net::Command::Write { conn, segments }) => {
                    let bytes: Bytes = segments.concat().into();
                    let len = bytes.len() as u32;
                    self.said.push(bytes);
                    self.feed(Input::Net(net::Event::Written { conn, bytes: len }));
                }
                Output::Motr(event) => {
                    if let motr::Event::Asked(asked) = &event {
                        let (entry, reply) = (asked.entry, Ok(entrypoint()));
                        self.events.push(event);
                        self.feed(Input::Motr(motr::Command::Reply { entry, reply }));
                    } else {
                        self.events.push(event);
                    }
                }
            }
        }
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        self.connect_from(local(50_000))
    }

    pub(crate) fn connect_from(&mut self, peer: SocketAddr) -> ConnId {
        self.conns += 1;
        let conn = ConnId::accepted(self.conns);
        self.feed(Input::Net(net::Event::Accepted { conn, peer }));
        conn
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.us += seconds * 1_000_000;
        self.feed(Input::Tick);
    }

    pub(crate) fn say(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.feed(Input::Net(net::Event::Received { conn, bytes: bytes.into() }));
    }

    pub(crate) fn say_item(&mut self, conn: ConnId, header: ItemHeader, fop: Fop) {
        self.say(conn, frame(PEER, header, fop));
    }

    /// Returns the first item of the last frame that the endpoint sent.
    pub(crate) fn heard(&self) -> Item {
        let payload = &self.said.last().expect("something was said")[160..];
        packet::decode(payload).unwrap().next().unwrap().unwrap()
    }

    /// Returns the `control` and `do_reconnect` of the last entrypoint reply.
    pub(crate) fn answer(&self) -> Option<(u32, u64)> {
        self.said.iter().rev().find_map(|frame| match packet::decode(&frame[160..]) {
            Ok(mut items) => match items.next()?.ok()?.fop {
                Fop::EntrypointRep(rep) => Some((rep.control, rep.do_reconnect)),
                _ => None,
            },
            Err(_) => None,
        })
    }

    /// Opens a connection with a session.
    pub(crate) fn open(&mut self, conn: ConnId, uuid: u64) -> ItemHeader {
        let uuid = Uint128 { hi: uuid, lo: 1 };
        let header = header(32, uuid, NONE, 0, NONE);
        self.say_item(conn, header, Fop::ConnEstablish);
        let Fop::ConnEstablishRep { rc: 0, sender } = self.heard().fop else { panic!() };
        self.say_item(conn, self::header(34, uuid, sender, 0, 1), Fop::SessionEstablish { sender });
        let Fop::SessionEstablishRep { rc: 0, session, .. } = self.heard().fop else { panic!() };
        self::header(207, uuid, sender, session, 0)
    }

    /// Opens a session and a link. Returns the ids as the process sees them.
    pub(crate) fn link(&mut self, conn: ConnId) -> (ItemHeader, LinkIds) {
        let header = self.open(conn, 1);
        let said = self.said.len();
        self.say_item(conn, ItemHeader { opcode: 117, xid: 1, xid_min: 1, ..header }, ask(1));
        let payload = self.said[said].slice(160..);
        let item = packet::decode(&payload).unwrap().next().unwrap().unwrap();
        let Fop::EntrypointRep(rep) = item.fop else { panic!("{item:?}") };
        (ItemHeader { xid: 1, ..header }, rep.params.ids)
    }

    pub(crate) fn saw(&self, kind: FactKind) -> bool {
        self.facts.contains(&kind)
    }

    pub(crate) fn serves(&mut self) {
        let conn = self.connect();
        let header = self.open(conn, 77);
        let fop = ask(2);
        self.say_item(conn, ItemHeader { opcode: 117, xid: 1, xid_min: 1, ..header }, fop);
        assert!(
            self.events
                .iter()
                .any(|e| matches!(e, motr::Event::LinkUp { process, .. } if *process == fid(2)))
        );
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn header(
    opcode: u32,
    uuid: Uint128,
    sender: u64,
    session: u64,
    xid: u64,
) -> ItemHeader {
    let xid_min = if xid == NONE { 0 } else { xid };
    let cookie = Uint128 { hi: 1, lo: xid };
    ItemHeader { opcode, flags: 1, epoch: 0, uuid, sender, session, xid_min, xid, cookie }
}

pub(crate) fn ask(process: usize) -> Fop {
    Fop::EntrypointReq(Box::new(EntrypointReq {
        first: 1,
        generation: 1,
        process: fid(process),
        params: LinkParams::default(),
        git_rev: Box::new([]),
        pid: 1,
        cookie_expected: Cookie::NONE,
    }))
}

pub(crate) fn confirm(ids: LinkIds, in_delivered: u64) -> Fop {
    let (nr, message, tag, out_next, seq) = (0, None, 0, 2, 1);
    Fop::LinkMsg(Box::new(LinkMsg { nr, message, tag, ids, out_next, in_delivered, seq }))
}

pub(crate) fn frame(port: u16, header: ItemHeader, fop: Fop) -> Vec<u8> {
    let (src, dst) =
        (End { addr: local(port), cookie: (1, 0) }, End { addr: addr(0), cookie: (0, 0) });
    packet::encode(src, dst, &[Item { header, fop }])
}

pub(crate) fn hello() -> Vec<u8> {
    frame(PEER, header(32, Uint128 { hi: 9, lo: 9 }, NONE, 0, NONE), Fop::ConnEstablish)
}
