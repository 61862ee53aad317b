//! Entrypoint requests that describe a link that has ended meanwhile, or a link of an earlier life of hax.

mod wire_support;

use std::net::SocketAddr;

use hax_core::base::errno::Errno;
use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::net;
use hax_core::wire::codec::fop::{CONSUME, EntrypointRep, EntrypointReq, Fop, LinkMsg, QUERY};
use hax_core::wire::codec::frame::End;
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkIds, LinkParams, Tags, Uint128};
use hax_core::wire::{Config, Endpoint, Input, Output};
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
        let now = Now { mono: Instant::from_micros(self.us), wall: WallClock(0) };
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

    fn say(&mut self, who: u8, header: ItemHeader, fop: Fop) -> Fop {
        let (src, dst) =
            (End { addr: addr(who.into()), cookie: (1, 1) }, End { addr: addr(0), cookie: (0, 0) });
        let header = ItemHeader { opcode: fop.opcode(), ..header };
        let bytes = packet::encode(src, dst, &[Item { header, fop }]).into();
        self.said.clear();
        let conn = ConnId::accepted(who.into());
        self.feed(Input::Net(net::Event::Received { conn, bytes }));
        self.said.iter().find(|item| item.fop.is_reply()).expect("a reply").fop.clone()
    }

    /// Opens a session. Returns the header of its first request.
    fn open(&mut self, who: u8, n: u64) -> ItemHeader {
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
        let Fop::ConnEstablishRep { sender, .. } = self.say(who, header, Fop::ConnEstablish) else {
            panic!("a connection");
        };
        let header = ItemHeader { sender, xid_min: 1, xid: 1, ..header };
        let opened = self.say(who, header, Fop::SessionEstablish { sender });
        let Fop::SessionEstablishRep { session, .. } = opened else { panic!("a session") };
        ItemHeader { session, ..header }
    }

    fn request(&mut self, who: u8, header: ItemHeader, asked: Asked) -> EntrypointRep {
        let (first, params, cookie_expected) = match asked {
            Asked::First => (1, LinkParams::default(), Cookie::NONE),
            Asked::Again(params, cookie) => (0, params, cookie),
        };
        let (generation, process, pid) = (header.cookie.lo, fid(who.into()), 1);
        let git_rev = Box::default();
        let req =
            EntrypointReq { first, generation, process, params, git_rev, pid, cookie_expected };
        let answer = self.say(who, header, Fop::EntrypointReq(req.into()));
        let Fop::EntrypointRep(rep) = answer else { panic!("an answer") };
        *rep
    }

    /// Sends a request over a session of its own.
    fn ask(&mut self, who: u8, n: u64, asked: Asked) -> EntrypointRep {
        let header = self.open(who, n);
        self.request(who, header, asked)
    }
}

fn host(links_max: usize) -> Host {
    let config = Config { links_max, ..Config::new(addr(0), LIFE, 1) };
    let mut host = Host { endpoint: Endpoint::new(config), us: 0, said: Vec::new() };
    for who in [1, 2] {
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        host.feed(Input::Net(net::Event::Accepted { conn: ConnId::accepted(who), peer }));
    }
    host
}

/// The description of the link in a request.
enum Asked {
    First,
    Again(LinkParams, Cookie),
}

/// Returns a process's description of this link in the middle of its life.
fn described(ids: LinkIds) -> LinkParams {
    let tags_local = Tags { confirmed: 4, delivered: 4, next: 6, assign: 6 };
    let tags_remote = Tags { confirmed: 3, delivered: 3, next: 3, assign: 3 };
    LinkParams { ids, tags_local, tags_remote }
}

fn ids_of(life: u64) -> LinkIds {
    let id = |lo| Uint128 { hi: life, lo };
    LinkIds { local: id(1), remote: id(2), connection: id(3) }
}

/// The process is changing from one earlier life of hax to the next when it sends a request to a third one.
#[test]
fn it_is_told_to_reconnect_once() {
    let mut host = host(8);
    // The process has the link of the first life, and the reply of the second life is on its way.
    let asked = Asked::Again(described(ids_of(LIFE - 2)), Cookie([7; 5]));
    let first = host.ask(1, 1, asked);
    assert_eq!(first.do_reconnect, 1);
    // By now the process has the link of the second life, and knows that it has to reconnect to ours.
    let asked = Asked::Again(described(ids_of(LIFE - 1)), first.cookie_actual);
    let second = host.ask(1, 2, asked);
    assert_eq!((second.do_reconnect, second.params), (0, LinkParams::default()));
    assert_eq!(second.cookie_actual, first.cookie_actual);
    // A process that is not reconnecting to us does not know our cookie.
    let third = host.ask(1, 3, Asked::Again(described(ids_of(LIFE - 3)), Cookie([8; 5])));
    assert_eq!(third.do_reconnect, 1);
}

/// The link that the process is about to have has been dropped for lack of room, so it gets a third one. It has
/// the second one by now, and its messages move on the third one.
#[test]
fn f56_a_process_between_two_links_of_one_life_is_told_to_reconnect_once() {
    let mut host = host(1);
    let old = || described(ids_of(LIFE - 2));
    let second = host.ask(1, 1, Asked::Again(old(), Cookie([7; 5])));
    assert_eq!(second.do_reconnect, 1);
    host.ask(2, 2, Asked::First);
    let third = host.ask(1, 3, Asked::Again(old(), second.cookie_actual));
    assert_eq!(third.do_reconnect, 1);
    for n in 4..6 {
        let link = described(second.params.ids);
        let answer = host.ask(1, n, Asked::Again(link, third.cookie_actual));
        assert_eq!((answer.do_reconnect, answer.params), (0, LinkParams::default()));
        assert_eq!(answer.cookie_actual, third.cookie_actual);
    }
    assert_ne!(second.cookie_actual, third.cookie_actual);
}

/// A request may be on its way for any time, and is repeated unchanged. So it lacks the messages that its
/// link has received meanwhile. Once that link has ended, the endpoint does not know them either.
#[test]
fn f16_a_request_older_than_the_end_of_its_link_is_made_anew() {
    let mut host = host(1);
    let given = host.ask(1, 1, Asked::First);
    let link = || described(given.params.ids);
    let late = host.open(1, 2);
    // The link is evicted for the link of another process.
    host.ask(2, 3, Asked::First);
    let answer = host.request(1, late, Asked::Again(link(), given.cookie_actual));
    assert_eq!((answer.do_reconnect, answer.params), (0, LinkParams::default()));
    assert_eq!((answer.control, answer.cookie_actual), (QUERY, given.cookie_actual));
    // A request from now on describes the link correctly.
    let answer = host.ask(1, 4, Asked::Again(link(), given.cookie_actual));
    assert_eq!((answer.do_reconnect, answer.control), (1, CONSUME));
    assert_eq!(answer.params.tags_remote, link().tags_remote);
}

/// The clock was turned back between two lives of hax, so the ids of the earlier life are the higher ones. A
/// session of that life is accepted for a link that outlived it, and is no younger than the link's end.
#[test]
fn f55_a_request_on_a_session_of_an_earlier_life_is_older_than_the_end_of_its_link() {
    for session in [LIFE - 1000, LIFE + (1 << 40)] {
        let mut host = host(1);
        let given = host.ask(1, 1, Asked::First);
        let link = || Asked::Again(described(given.params.ids), given.cookie_actual);
        let header = ItemHeader { session, ..host.open(1, 2) };
        let answer = host.request(1, header, link());
        assert_eq!((answer.do_reconnect, answer.control), (0, CONSUME));
        // The link is evicted for the link of another process.
        host.ask(2, 3, Asked::First);
        let answer = host.request(1, ItemHeader { xid: 2, ..header }, link());
        assert_eq!((answer.do_reconnect, answer.control), (0, QUERY), "session {session}");
    }
}

/// A message whose reply was lost comes again after the end of its link. The reply would acknowledge the
/// message, but the process may have described its link without it by then.
#[test]
fn f16_an_answer_is_not_repeated_for_a_link_that_has_ended() {
    let mut host = host(1);
    let given = host.ask(1, 1, Asked::First);
    let header = host.open(1, 2);
    let (ids, tag) = (given.params.ids, 2);
    let message = Some(Box::new(Message::new(WallClock(0), Body::Rpc { attempts: 1, state: 1 })));
    let msg = LinkMsg { nr: 1, message, tag, ids, out_next: 4, in_delivered: 1, seq: 1 };
    let say = |host: &mut Host| match host.say(1, header, Fop::LinkMsg(msg.clone().into())) {
        Fop::LinkMsgRep { rc, .. } => rc,
        other => panic!("{other:?}"),
    };
    assert_eq!((say(&mut host), say(&mut host)), (0, 0));
    host.ask(2, 3, Asked::First);
    assert_eq!(say(&mut host), Errno::ENOLINK.to_rc());
}
