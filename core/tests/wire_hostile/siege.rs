//! Raw clients exhaust the limits of Motr's port: silent connections, and frames that do not end.

use std::net::SocketAddr;

use hax_core::base::id::ConnId;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::{End, HEADER, Header, PAYLOAD_MAX};

use crate::host::{Host, PEER, ask, frame, header, hello, local};

fn stranger() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 40_000))
}

/// Returns a frame of the maximum size, without its last byte.
fn almost() -> Vec<u8> {
    let from = SocketAddr::from(([198, 51, 100, 7], 4000));
    let (src, dst) = (End { addr: from, cookie: (1, 1) }, End { addr: from, cookie: (0, 0) });
    let mut bytes = Vec::new();
    Header { src, dst, size: PAYLOAD_MAX as u32 }.encode(&mut bytes);
    bytes.resize(HEADER + PAYLOAD_MAX - 1, 0);
    bytes
}

/// Starts a process whose frames arrive in two pieces each. Returns whether it got its link.
fn boots(host: &mut Host, conn: ConnId) -> bool {
    let halves = |host: &mut Host, bytes: Vec<u8>| {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        host.say(conn, head.to_vec());
        host.say(conn, tail.to_vec());
    };
    let hello = hello();
    halves(host, hello);
    let links = |host: &Host| {
        host.events.iter().filter(|e| matches!(e, motr::Event::LinkUp { .. })).count()
    };
    let before = links(host);
    let Some(Fop::ConnEstablishRep { sender, .. }) = host.said.last().map(|_| host.heard().fop)
    else {
        return false;
    };
    let uuid = host.heard().header.uuid;
    halves(host, frame(PEER, header(34, uuid, sender, 0, 1), Fop::SessionEstablish { sender }));
    let Fop::SessionEstablishRep { session, .. } = host.heard().fop else { return false };
    halves(host, frame(PEER, header(117, uuid, sender, session, 1), ask(1)));
    links(host) > before
}

#[test]
fn f50_frames_that_do_not_end_keep_out_whoever_begins_them_and_nobody_else() {
    let mut host = Host::new(|_| {});
    let half = almost();
    for _ in 0..600 {
        let conn = host.connect_from(stranger());
        host.say(conn, half.clone());
    }
    let refused = host.closed.len();
    assert!(refused > 500, "{refused}");
    let conn = host.connect();
    assert!(boots(&mut host, conn));
    for _ in 0..600 {
        let conn = host.connect_from(stranger());
        host.say(conn, half.clone());
    }
    assert!(!host.closed.contains(&conn), "who has a link does not give way");
    assert_eq!(host.closed.len(), refused + 600);
}

/// One byte per second does not extend the time limit of a frame.
#[test]
fn f50_a_frame_that_has_begun_has_half_a_minute_to_arrive() {
    let mut host = Host::new(|_| {});
    let conn = host.connect_from(stranger());
    let half = almost();
    for byte in half.iter().take(30) {
        assert!(!host.closed.contains(&conn));
        host.say(conn, vec![*byte]);
        host.wait(1);
    }
    assert_eq!(host.closed, [conn]);
    assert!(host.saw(FactKind::BadFrame));
}

#[test]
fn f50_who_connects_and_says_nothing_is_not_waited_for_and_who_has_spoken_is() {
    let mut host = Host::new(|_| {});
    let (mute, speaks) = (host.connect_from(stranger()), host.connect());
    host.say(speaks, hello());
    host.wait(9);
    assert!(host.closed.is_empty());
    host.wait(1);
    assert_eq!(host.closed, [mute]);
    assert!(host.saw(FactKind::ConnSilent));
    host.wait(1000);
    assert_eq!(host.closed, [mute]);
}

/// A process that pauses within a frame, however long, is served when it continues.
#[test]
fn f50_who_has_a_link_has_all_the_time_there_is() {
    let mut host = Host::new(|_| {});
    let conn = host.connect();
    assert!(boots(&mut host, conn));
    host.say(conn, hello()[..50].to_vec());
    host.wait(100);
    assert!(!host.closed.contains(&conn));
    host.say(conn, hello()[50..].to_vec());
    assert!(matches!(host.heard().fop, Fop::ConnEstablishRep { .. }));
}

#[test]
fn f51_silent_connections_keep_out_whoever_makes_them_and_nobody_else() {
    let mut host = Host::new(|config| config.conns_max = 64);
    let (linked, fresh) = (host.connect(), host.connect());
    assert!(boots(&mut host, linked));
    for _ in 0..1000 {
        host.connect_from(stranger());
    }
    assert!(host.saw(FactKind::ConnsFull));
    assert!(!host.closed.contains(&linked) && !host.closed.contains(&fresh));
    // The connection has been silent for longer than all the others, but its peer is on our own node.
    host.say(fresh, hello());
    assert!(matches!(host.heard().fop, Fop::ConnEstablishRep { .. }));
    let late = host.connect();
    host.connect_from(stranger());
    assert!(!host.closed.contains(&late));
}

/// There are as many addresses as connections. A connection that has sent a frame is not closed for them.
#[test]
fn f51_many_addresses_with_a_connection_each_keep_nobody_out() {
    let mut host = Host::new(|config| config.conns_max = 64);
    let elsewhere = SocketAddr::from(([10, 0, 0, 9], 50_000));
    let speaks = host.connect_from(elsewhere);
    let from = SocketAddr::from(([10, 0, 0, 9], 4000));
    let bytes = hello();
    let (mut header, _) = (Header::decode(bytes[..HEADER].try_into().unwrap()).unwrap(), ());
    header.src.addr = from;
    let mut theirs = Vec::new();
    header.encode(&mut theirs);
    theirs.extend_from_slice(&bytes[HEADER..]);
    host.say(speaks, theirs);
    for n in 0..1000_u32 {
        let ip = std::net::Ipv4Addr::from_bits(0xc633_6400 + n);
        host.connect_from(SocketAddr::from((ip, 50_000)));
    }
    assert!(!host.closed.contains(&speaks));
    assert_eq!(host.endpoint.view().conns, 64 + 1, "theirs and ours to the one who speaks");
}

/// A peer that claims the configured address of a process, from another host, is not that process.
#[test]
fn f51_who_claims_to_be_one_with_a_link_gives_way_like_anybody() {
    let mut host = Host::new(|config| config.conns_max = 8);
    let conn = host.connect();
    assert!(boots(&mut host, conn));
    let named = format!("{}", hax_core::wire::name::Name(local(PEER)));
    let peers = vec![(crate::wire_support::world::fid(1), named.into_boxed_str())];
    host.feed(hax_core::wire::Input::Motr(motr::Command::Peers(peers.into())));
    for _ in 0..20 {
        let conn = host.connect_from(stranger());
        host.say(conn, hello());
    }
    let next = host.connect();
    host.say(next, hello());
    assert!(!host.closed.contains(&conn) && !host.closed.contains(&next));
}
