//! Peers that send frames that no real process sends: no other peer is affected.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod host;
mod siege;
#[path = "../wire_support/mod.rs"]
mod wire_support;

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::net;
use hax_core::wire::codec::fop::{Fop, LinkMsg};
use hax_core::wire::codec::frame::{End, Frames};
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{LinkIds, LinkParams, Tags, Uint128};
use hax_core::wire::{Input, Process, process};
use host::{Host, PEER, ask, confirm, frame, header, hello, local};
use quickcheck::{QuickCheck, TestResult, quickcheck};
use wire_support::tape;
use wire_support::world::fid;

/// The reply was lost, and then the link: the tags in the request may have changed since.
#[test]
fn a_request_that_is_repeated_for_long_is_not_answered_with_its_old_tags() {
    let mut host = Host::new(|config| config.links_max = 1);
    let conn = host.connect();
    let (session, ids) = host.link(conn);
    let Fop::EntrypointReq(mut req) = ask(1) else { panic!() };
    req.first = 0;
    req.params = LinkParams { ids, tags_local: Tags::fresh(2), tags_remote: Tags::fresh(1) };
    let again = ItemHeader { opcode: 117, xid: 2, xid_min: 2, ..session };
    host.say_item(conn, again, Fop::EntrypointReq(req.clone()));
    assert_eq!(host.answer(), Some((0, 0)), "the link goes on");
    // The link of another process takes its place.
    host.serves();
    assert!(host.saw(FactKind::LinkEvicted));
    host.us += 101_000_000;
    host.say_item(conn, again, Fop::EntrypointReq(req));
    assert_eq!(host.answer(), Some((2, 0)), "it is to describe its link afresh");
}

/// Session 0 belongs to every connection. A peer without it could not open another session.
#[test]
fn the_session_that_every_connection_has_cannot_be_ended() {
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    let ItemHeader { uuid, sender, .. } = host.open(conn, 5);
    let end = Fop::SessionTerminate { sender, session: 0 };
    host.say_item(conn, header(36, uuid, sender, 0, 2), end);
    let Fop::SessionTerminateRep { rc, .. } = host.heard().fop else { panic!() };
    assert_eq!(rc, -2);
    host.say_item(conn, header(34, uuid, sender, 0, 3), Fop::SessionEstablish { sender });
    assert!(matches!(host.heard().fop, Fop::SessionEstablishRep { rc: 0, .. }));
    host.serves();
}

#[test]
fn bad_frames_close_their_connection_and_no_other() {
    let changes: [(usize, u8, &str); 9] = [
        (0, 1, "magic"),
        (12, 2, "a GET"),
        (14, 1, "version"),
        (16, 7, "address family"),
        (20, 3, "socket type"),
        (112, 1, "packet index"),
        (122, 4, "size"),
        (130, 1, "offset"),
        (152, 1, "checksum"),
    ];
    for (at, flip, what) in changes {
        let mut host = Host::new(|_| {});
        let (bad, good) = (host.connect(), host.connect());
        let mut bytes = hello();
        bytes[at] ^= flip;
        host.say(bad, bytes);
        assert_eq!(host.closed, [bad], "{what}");
        assert!(host.saw(FactKind::BadFrame), "{what}");
        let said = host.said.len();
        host.say(bad, hello());
        assert_eq!(host.said.len(), said, "deaf to what comes on a closed connection");
        host.say(good, hello());
        assert!(host.said.len() > said);
        host.serves();
    }
}

#[test]
fn bad_packets_and_items_are_dropped_and_the_connection_stays() {
    // Offsets include the frame's header.
    for (at, flip, what) in [
        (160, 1, "packet magic"),
        (169, 0x40, "packet size"),
        (176, 1, "packet version"),
        (184, 1, "packet's second magic"),
        (192, 1, "item magic"),
        (200, 1, "item size"),
        (208, 2, "opcode and payload do not fit"),
        (224, 1, "item's second magic"),
        (297, 1, "item footer"),
    ] {
        let mut host = Host::new(|_| {});
        let conn = host.connect();
        let mut bytes = hello();
        bytes[at] ^= flip;
        host.say(conn, bytes);
        assert!(host.saw(FactKind::BadPacket), "{what}");
        assert!(host.closed.is_empty() && host.said.is_empty(), "{what}");
        host.say(conn, hello());
        assert!(!host.said.is_empty(), "{what}");
    }
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    host.say_item(conn, header(99, Uint128::default(), 1, 1, 1), Fop::Unknown { opcode: 99 });
    assert!(host.saw(FactKind::UnknownOpcode));
    host.serves();
}

#[test]
fn nobody_is_connected_to_who_did_not_connect() {
    let mut host = Host::new(|_| {});
    let there: SocketAddr = "10.1.1.1:3000".parse().unwrap();
    let conn = ConnId::accepted(1);
    for (claimed, peer, fine) in [
        ("10.1.1.1:3000", "10.1.1.1:40000", true),
        ("10.1.1.1:3000", "[::ffff:10.1.1.1]:40000", true),
        ("10.1.1.1:3000", "10.1.1.2:40000", false),
        ("127.0.0.2:3000", "127.0.0.1:40000", true),
        ("127.0.0.1:3000", "10.1.1.1:40000", false),
        ("10.1.1.1:0", "10.1.1.1:40000", false),
    ] {
        host.feed(Input::Net(net::Event::Accepted { conn, peer: peer.parse().unwrap() }));
        let src = End { addr: claimed.parse().unwrap(), cookie: (1, 0) };
        let item = Item {
            header: header(32, Uint128 { hi: 1, lo: 1 }, NONE, 0, NONE),
            fop: Fop::ConnEstablish,
        };
        let said = host.said.len();
        host.say(conn, packet::encode(src, src, &[item]));
        assert_eq!(host.said.len() > said, fine, "{claimed} {peer}");
        host.feed(Input::Net(net::Event::Closed { conn }));
    }
    assert!(host.saw(FactKind::NotItsAddress));
    // The address is accepted if the configuration has it.
    let peers = [(fid(1), Box::from("inet:stream:10.1.1.1@3000"))];
    host.feed(Input::Motr(motr::Command::Peers(peers.into())));
    host.feed(Input::Net(net::Event::Accepted { conn, peer: "10.1.1.2:1".parse().unwrap() }));
    let said = host.said.len();
    let src = End { addr: there, cookie: (1, 0) };
    let header = header(32, Uint128 { hi: 1, lo: 1 }, NONE, 0, NONE);
    host.say(conn, packet::encode(src, src, &[Item { header, fop: Fop::ConnEstablish }]));
    assert!(host.said.len() > said);
}

#[test]
fn impossible_xids_and_tags_change_nothing() {
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    let (session, ids) = host.link(conn);
    for (xid, xid_min) in [(2, 0), (2, NONE), (0, 1), (NONE, 1)] {
        let said = host.said.len();
        let header = ItemHeader { opcode: 207, xid, xid_min, ..session };
        host.say_item(conn, header, confirm(ids, 1));
        assert_eq!(host.said.len(), said);
        assert_eq!(host.facts.pop(), Some(FactKind::BadItem));
    }
    let xids = 2..;
    for (xid, told) in xids.zip([3, 2, 0, u64::MAX, u64::MAX - 1]) {
        let header = ItemHeader { opcode: 207, xid, xid_min: xid, ..session };
        host.say_item(conn, header, confirm(ids, told));
        let item = host.heard();
        assert_eq!(item.fop, Fop::LinkMsgRep { rc: 0, out_next: 1, in_delivered: 2 });
        assert_eq!(host.facts.pop(), Some(FactKind::BadDelivered), "{told}");
    }
    for (ids, rc) in [
        (LinkIds { remote: Uint128 { hi: 1, lo: 1 }, ..ids }, -67),
        (LinkIds { connection: Uint128 { hi: 1, lo: 1 }, ..ids }, -57),
        // A real process does not check this id either.
        (LinkIds { local: Uint128 { hi: 1, lo: 1 }, ..ids }, 0),
    ] {
        let xid = host.said.len() as u64 + 100;
        let header = ItemHeader { opcode: 207, xid, xid_min: xid, ..session };
        host.say_item(conn, header, confirm(ids, 1));
        assert!(matches!(host.heard().fop, Fop::LinkMsgRep { rc: r, .. } if r == rc));
    }
    // These requests describe a link with impossible tags.
    let fresh = (Tags::fresh(2), Tags::fresh(1));
    for (tags_local, tags_remote) in [
        (Tags::fresh(1), fresh.1),
        (fresh.0, Tags::fresh(2)),
        (fresh.0, Tags::default()),
        (Tags { assign: 1 << 63, ..fresh.0 }, fresh.1),
        (Tags { delivered: 4, ..fresh.0 }, fresh.1),
    ] {
        let Fop::EntrypointReq(mut req) = ask(3) else { panic!() };
        req.first = 0;
        req.params = LinkParams { ids, tags_local, tags_remote };
        let header = host.open(conn, 500 + host.conns);
        let events = host.events.len();
        host.conns += 1;
        let header = ItemHeader { opcode: 117, xid: 1, xid_min: 1, ..header };
        host.say_item(conn, header, Fop::EntrypointReq(req));
        assert_eq!(host.events.len(), events);
    }
    host.serves();
}

#[test]
fn what_comes_before_its_turn_waits_for_it() {
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    let (session, ids) = host.link(conn);
    let said = host.said.len();
    for xid in [4, 3, 3] {
        let header = ItemHeader { opcode: 207, xid, xid_min: 2, ..session };
        host.say_item(conn, header, confirm(ids, 1));
    }
    assert_eq!(host.said.len(), said);
    host.say_item(conn, ItemHeader { opcode: 207, xid: 2, xid_min: 2, ..session }, confirm(ids, 1));
    let xid =
        |bytes: &Bytes| packet::decode(&bytes[160..]).unwrap().next().unwrap().unwrap().header.xid;
    let answered: Vec<u64> = host.said[said..].iter().map(xid).collect();
    assert_eq!(answered, [2, 3, 4]);
}

#[test]
fn too_many_notes_are_delivered_as_malformed() {
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    let (session, ids) = host.link(conn);
    let nvec = tape::streams("03-broadcasts").into_iter().find_map(|(_, stream)| {
        let mut frames = Frames::default();
        frames.feed(stream.into());
        let packets = core::iter::from_fn(|| frames.cut().unwrap());
        let items = packets
            .flat_map(|(_, p)| packet::decode(&p).unwrap().map(Result::unwrap).collect::<Vec<_>>());
        let messages = items.filter_map(|i| match i.fop {
            Fop::LinkMsg(msg) => Some(msg),
            _ => None,
        });
        let is_nvec = |m: &LinkMsg| m.message.as_ref().is_some_and(|m| m.body.name() == "NVEC");
        messages.filter(|m| is_nvec(m)).last()
    });
    let nvec = LinkMsg { ids, tag: 2, in_delivered: 1, ..*nvec.expect("a vector") };
    let header = ItemHeader { opcode: 207, xid: 2, xid_min: 2, ..session };
    let mut bytes = frame(PEER, header, Fop::LinkMsg(Box::new(nvec)));
    // `nr` follows the headers of the frame, the packet and the item, the message's head and three words.
    let nr = 160 + 32 + 104 + 8 + 64 + 8 + 24;
    bytes[nr..nr + 8].copy_from_slice(&1025_u64.to_le_bytes());
    host.say(conn, bytes);
    let received = host.events.iter().any(|e| match e {
        motr::Event::Received { message, .. } => message.body.name() == "MALFORMED",
        _ => false,
    });
    assert!(received, "{:?}", host.events);
}

#[test]
fn who_takes_all_connections_is_bounded() {
    let mut host = Host::new(|config| config.conns_max = 4);
    let good = host.connect();
    host.say(good, hello());
    for _ in 0..100 {
        host.connect();
    }
    assert!(host.endpoint.view().conns <= 2 * 4);
    assert!(host.saw(FactKind::ConnsFull));
    let said = host.said.len();
    host.say(good, hello());
    assert!(host.said.len() > said, "who speaks keeps its place");
}

#[test]
fn who_opens_everything_is_bounded() {
    let mut host = Host::new(|config| {
        config.rpc_conns_max = 50;
        config.links_max = 8;
        config.conns_max = 20;
    });
    for n in 0..300_u16 {
        let conn = host.connect();
        let uuid = Uint128 { hi: n.into(), lo: 5 };
        let port = 5000 + n;
        host.say(conn, frame(port, header(32, uuid, NONE, 0, NONE), Fop::ConnEstablish));
        let h = header(117, uuid, 1000 + u64::from(n), 5, 1);
        host.say(conn, frame(port, h, ask(n.into())));
        host.feed(Input::Net(net::Event::Closed { conn }));
    }
    let view = host.endpoint.view();
    assert!(view.links.len() <= 8 && view.rpc_conns <= 50 && view.conns <= 40, "{view:?}");
    host.serves();
}

quickcheck! {
    fn random_bytes_are_survived(pieces: Vec<Vec<u8>>) -> bool {
        let mut host = Host::new(|_| {});
        let conn = host.connect();
        for piece in pieces.into_iter().filter(|p| !p.is_empty()) {
            host.say(conn, piece);
        }
        host.serves();
        true
    }
}

/// Returns the bytes of a tape with some of them changed, and with corrected checksums of frames if `repair`
/// is set.
fn mutated(name: &str, changes: &[(u32, u8)], repair: bool) -> Vec<(u16, u16, Vec<u8>)> {
    let mut streams: Vec<_> =
        tape::streams(name).into_iter().map(|(s, b)| (s.writer, s.reader, b)).collect();
    for (at, value) in changes {
        let nr = streams.len();
        let (_, _, bytes) = &mut streams[*at as usize % nr];
        let at = *at as usize / nr % bytes.len();
        bytes[at] = *value;
    }
    if repair {
        for (_, _, bytes) in &mut streams {
            repair_checksums(bytes);
        }
    }
    streams
}

fn repair_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 160) {
        let hash = header[..144].iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            h.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*b)
        });
        header[152..160].copy_from_slice(&hash.to_le_bytes());
        let size: [u8; 8] = header[120..128].try_into().unwrap();
        at = at.saturating_add(160).saturating_add(u64::from_le_bytes(size) as usize);
    }
}

#[test]
fn captures_with_errors_are_survived_by_both_parts() {
    fn survives(which: u8, changes: Vec<(u32, u8)>, repair: bool) -> TestResult {
        let names = tape::names();
        let name = &names[usize::from(which) % names.len()];
        let mut host = Host::new(|_| {});
        let config = process::Config {
            fid: fid(1),
            listen: local(31052),
            connect: local(31051),
            pid: 1,
            git_rev: "x".into(),
            generation: 1,
            seed: 1,
        };
        let mut process = Process::new(config);
        let mut out = Vec::new();
        let now = |us| Now { mono: Instant::from_micros(us), wall: WallClock(0) };
        let _ = process.handle(now(0), process::Input::Command(process::Command::Ask), &mut out);
        for (n, (writer, _, bytes)) in mutated(name, &changes, repair).into_iter().enumerate() {
            let conn = host.connect();
            host.feed(Input::Net(net::Event::Received { conn, bytes: bytes.clone().into() }));
            let conn = ConnId::accepted(n as u64);
            let peer = local(writer);
            let at = now(n as u64 * 1_000_000);
            for event in [
                net::Event::Accepted { conn, peer },
                net::Event::Received { conn, bytes: bytes.into() },
            ] {
                let _ = process.handle(at, process::Input::Net(event), &mut out);
            }
        }
        let far = Instant::from_micros(host.us + 3_600_000_000);
        let _ = host.endpoint.handle(
            Now { mono: far, wall: WallClock(0) },
            Input::Tick,
            &mut Vec::new(),
        );
        TestResult::passed()
    }
    let tests = std::env::var("HAX_WIRE_TESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let survives = survives as fn(u8, Vec<(u32, u8)>, bool) -> TestResult;
    QuickCheck::new().tests(tests).quickcheck(survives);
}
