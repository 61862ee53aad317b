//! A process that is on its way from one earlier life of hax to the next when it asks a third one.

mod wire_support;

use std::net::SocketAddr;

use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Now, Wall};
use hax_core::ha::motr;
use hax_core::wire::fop::{EntrypointRep, EntrypointReq, Fop};
use hax_core::wire::frame::End;
use hax_core::wire::item::{ItemHeader, NONE};
use hax_core::wire::packet::{self, Item};
use hax_core::wire::params::{Cookie, LinkIds, LinkParams, Tags, Uint128};
use hax_core::wire::{Config, Endpoint, Input, Output, net};
use wire_support::world::{addr, entrypoint, fid};

const LIFE: u64 = 1 << 60;

struct Host {
    endpoint: Endpoint,
    us: u64,
    said: Vec<Item>,
}

impl Host {
    fn feed(&mut self, input: Input) {
        self.us += 10;
        let now = Now { mono: Instant::from_micros(self.us), wall: Wall(0) };
        let mut out = Vec::new();
        let _ = self.endpoint.handle(now, input, &mut out);
        for output in out {
            match output {
                Output::Net(net::Command::Connect { conn, .. }) => {
                    self.feed(Input::Net(net::Event::Connected { conn }));
                }
                Output::Net(net::Command::Write { segments, .. }) => {
                    let frame = segments.concat();
                    let items = packet::decode(&frame[160..]).expect("a packet");
                    self.said.extend(items.map(|item| item.expect("an item")));
                }
                Output::Motr(motr::Event::Asked(asked)) => {
                    let (entry, reply) = (asked.entry, Ok(entrypoint()));
                    self.feed(Input::Motr(motr::Command::Reply { entry, reply }));
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, header: ItemHeader, fop: Fop) -> Fop {
        let (src, dst) =
            (End { addr: addr(1), cookie: (1, 1) }, End { addr: addr(0), cookie: (0, 0) });
        let header = ItemHeader { opcode: fop.opcode(), ..header };
        let bytes = packet::encode(src, dst, &[Item { header, fop }]).into();
        self.said.clear();
        self.feed(Input::Net(net::Event::Received { conn: ConnId::accepted(1), bytes }));
        self.said.iter().find(|item| item.fop.is_reply()).expect("a reply").fop.clone()
    }

    /// Asks over a session of its own.
    fn ask(&mut self, n: u64, ids: LinkIds, cookie: Cookie) -> EntrypointRep {
        let name = Uint128 { hi: n, lo: n };
        let header = ItemHeader {
            opcode: 0,
            flags: 1,
            epoch: 0,
            uuid: name,
            sender: NONE,
            session: 0,
            xid_min: 0,
            xid: NONE,
            cookie: name,
        };
        let Fop::ConnEstablishRep { sender, .. } = self.say(header, Fop::ConnEstablish) else {
            panic!("a connection");
        };
        let header = ItemHeader { sender, xid_min: 1, xid: 1, ..header };
        let opened = self.say(header, Fop::SessionEstablish { sender });
        let Fop::SessionEstablishRep { session, .. } = opened else { panic!("a session") };
        let tags_local = Tags { confirmed: 4, delivered: 4, next: 6, assign: 6 };
        let tags_remote = Tags { confirmed: 3, delivered: 3, next: 3, assign: 3 };
        let req = EntrypointReq {
            first: 0,
            generation: n,
            process: fid(1),
            params: LinkParams { ids, tags_local, tags_remote },
            git_rev: Box::default(),
            pid: 1,
            cookie_expected: cookie,
        };
        let answer = self.say(ItemHeader { session, ..header }, Fop::EntrypointReq(req.into()));
        let Fop::EntrypointRep(rep) = answer else { panic!("an answer") };
        *rep
    }
}

fn ids_of(life: u64) -> LinkIds {
    let id = |lo| Uint128 { hi: life, lo };
    LinkIds { local: id(1), remote: id(2), connection: id(3) }
}

#[test]
fn it_is_told_to_reconnect_once() {
    let endpoint = Endpoint::new(Config::new(addr(0), LIFE, 1));
    let mut host = Host { endpoint, us: 0, said: Vec::new() };
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    host.feed(Input::Net(net::Event::Accepted { conn: ConnId::accepted(1), peer }));
    // It asks while it has the link of the first life; the second life's answer is on its way.
    let first = host.ask(1, ids_of(LIFE - 2), Cookie([7; 5]));
    assert_eq!(first.do_reconnect, 1);
    // By now it has gone over to the second life's link, and knows that it is to go over to ours.
    let second = host.ask(2, ids_of(LIFE - 1), first.cookie_actual);
    assert_eq!((second.do_reconnect, second.params), (0, LinkParams::default()));
    assert_eq!(second.cookie_actual, first.cookie_actual);
    // One that is not on its way to us does not know our cookie.
    let third = host.ask(3, ids_of(LIFE - 3), Cookie([8; 5]));
    assert_eq!(third.do_reconnect, 1);
}
