//! The wire: its codec, hax's part and a process's.

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{ConnId, SendId};
use hax_core::base::time::Wall;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr;
use hax_core::wire::fop::Fop;
use hax_core::wire::frame::{End, Frames, HEADER};
use hax_core::wire::item::ItemHeader;
use hax_core::wire::packet::{self, Item};
use hax_core::wire::params::Uint128;
use hax_core::wire::process::{self, Command, Process};
use hax_core::wire::{Config, Endpoint, endpoint, net};

use super::{Clock, Script, ends};

/// What items are: the requests and replies that the wire knows, and one that it does not.
const OPCODES: [u32; 13] = [32, 33, 34, 35, 36, 37, 38, 39, 117, 118, 207, 208, 99];
/// The most bytes that a machine is given in one run.
const PIECES: usize = 200;

/// Reads a stream of frames, and items by themselves; what is understood is written and read again.
pub fn codec(data: &[u8]) {
    let mut frames = Frames::default();
    frames.feed(Bytes::copy_from_slice(data));
    while let Ok(Some((header, payload))) = frames.cut() {
        let mut written = Vec::new();
        header.encode(&mut written);
        assert_eq!(written.len(), HEADER);
        let Ok(items) = packet::decode(&payload) else { continue };
        items.filter_map(Result::ok).for_each(|item| again(&item));
    }
    let mut script = Script(data);
    if let Some(item) = item(&mut script) {
        again(&item);
    }
}

fn again(item: &Item) {
    if matches!(item.fop, Fop::Unknown { .. }) {
        return;
    }
    let frame = packet::encode(end(0), end(1), std::slice::from_ref(item));
    let mut items = packet::decode(&frame[HEADER..]).expect("our own packet");
    let read = items.next().expect("one item").expect("our own item");
    assert_eq!(read, *item);
}

fn end(which: usize) -> End {
    let (hax, process) = ends();
    End { addr: [hax, process][which], cookie: (u64::from(which == 0), 0) }
}

/// An item that a peer may send: its payload is as invented, all around it is right.
fn item(script: &mut Script<'_>) -> Option<Item> {
    let opcode = OPCODES[usize::from(script.byte()) % OPCODES.len()];
    let header = ItemHeader {
        opcode,
        flags: 1,
        epoch: 0,
        uuid: Uint128 { hi: 1, lo: u64::from(script.byte()) },
        sender: small(script),
        session: small(script),
        xid_min: small(script),
        xid: small(script),
        cookie: Uint128 { hi: 0, lo: 0 },
    };
    let n = script.u16();
    let fop = Fop::decode(opcode, script.take(n)).ok()?;
    Some(Item { header, fop })
}

/// A number that is likely to mean something: small, near the end, or anything.
fn small(script: &mut Script<'_>) -> u64 {
    match script.byte() {
        n @ 0..=199 => u64::from(n % 16),
        n @ 200..=229 => u64::MAX - u64::from(n - 200),
        _ => script.u64(),
    }
}

/// One thing that a peer does to a connection.
enum Piece {
    Bytes(Bytes),
    Closes,
    Waits(u64),
}

fn piece(script: &mut Script<'_>, from: usize) -> Option<Piece> {
    Some(match script.byte() {
        0..=79 => {
            let n = script.u16() % 4_096;
            Piece::Bytes(Bytes::copy_from_slice(script.take(n)))
        }
        80..=229 => {
            let item = item(script)?;
            Piece::Bytes(packet::encode(end(from), end(1 - from), &[item]).into())
        }
        230..=239 => Piece::Closes,
        n => Piece::Waits(1_000 << (n % 16)),
    })
}

/// A peer says whatever it likes to hax.
pub fn hax(data: &[u8]) {
    let (me, peer) = ends();
    let mut endpoint = Endpoint::new(Config { known_only: false, ..Config::new(me, 7, 7) });
    let mut clock = Clock::default();
    let (mut script, mut out, mut conns) = (Script(data), Vec::new(), 0);
    let mut open = None;
    for _ in 0..PIECES {
        if script.is_over() {
            break;
        }
        let mut inputs = Vec::new();
        let conn = *open.get_or_insert_with(|| {
            conns += 1;
            let conn = ConnId::accepted(conns);
            inputs.push(endpoint::Input::Net(net::Event::Accepted { conn, peer }));
            conn
        });
        match piece(&mut script, 1) {
            Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
            Some(Piece::Bytes(bytes)) => {
                inputs.push(endpoint::Input::Net(net::Event::Received { conn, bytes }));
            }
            Some(Piece::Closes) => {
                open = None;
                inputs.push(endpoint::Input::Net(net::Event::Closed { conn }));
            }
            Some(Piece::Waits(us)) => {
                clock.pass(us);
                inputs.push(endpoint::Input::Tick);
            }
            None => {}
        }
        for input in inputs {
            let _ = endpoint.handle(clock.now(), input, &mut out);
        }
        // The bridge answers at once, the network does as it is told.
        for _ in 0..64 {
            let outputs = std::mem::take(&mut out);
            if outputs.is_empty() {
                break;
            }
            for input in outputs.into_iter().filter_map(|output| answer(output, &mut open)) {
                let _ = endpoint.handle(clock.now(), input, &mut out);
            }
        }
    }
}

fn answer(output: endpoint::Output, open: &mut Option<ConnId>) -> Option<endpoint::Input> {
    Some(match output {
        endpoint::Output::Motr(motr::Event::Asked(request)) => {
            let reply = match request.pid % 3 {
                0 => Err(Errno::EAGAIN),
                _ => Ok(std::sync::Arc::default()),
            };
            endpoint::Input::Motr(motr::Command::Reply { entry: request.entry, reply })
        }
        endpoint::Output::Motr(motr::Event::Received { link, msg, .. }) => {
            endpoint::Input::Motr(motr::Command::Ack { link, msg })
        }
        endpoint::Output::Motr(motr::Event::LinkUp { link, .. }) => {
            let message = Message::new(Wall(1), Body::KeepaliveReq((1, 2)));
            let (to, message) = ([link].into(), message.into());
            endpoint::Input::Motr(motr::Command::Send { send: SendId(link.0), to, message })
        }
        endpoint::Output::Net(net::Command::Connect { conn, .. }) => {
            endpoint::Input::Net(net::Event::Connected { conn })
        }
        endpoint::Output::Net(net::Command::Close { conn }) => {
            if *open == Some(conn) {
                *open = None;
            }
            endpoint::Input::Net(net::Event::Closed { conn })
        }
        endpoint::Output::Net(net::Command::Write { conn, segments }) => {
            let bytes = segments.iter().map(Bytes::len).sum::<usize>();
            let bytes = u32::try_from(bytes).expect("a write is small");
            endpoint::Input::Net(net::Event::Written { conn, bytes })
        }
        endpoint::Output::Motr(_) | endpoint::Output::Fact(_) => return None,
    })
}

/// A server says whatever it likes to a process: `hax ham` must bear it too.
pub fn process(data: &[u8]) {
    let (server, me) = ends();
    let mut process = Process::new(process::Config {
        fid: Fid::process(2),
        listen: me,
        connect: server,
        pid: 9,
        git_rev: "".into(),
        generation: 5,
        seed: 5,
    });
    let mut clock = Clock::default();
    let (mut script, mut out) = (Script(data), Vec::new());
    let mut conns = 0;
    let mut open = None;
    let _ = process.handle(clock.now(), process::Input::Command(Command::Ask), &mut out);
    for _ in 0..PIECES {
        if script.is_over() {
            break;
        }
        let mut inputs = Vec::new();
        let conn = *open.get_or_insert_with(|| {
            conns += 1;
            let conn = ConnId::accepted(conns);
            inputs.push(process::Input::Net(net::Event::Accepted { conn, peer: server }));
            conn
        });
        match piece(&mut script, 0) {
            Some(Piece::Bytes(bytes)) if bytes.is_empty() => {}
            Some(Piece::Bytes(bytes)) => {
                inputs.push(process::Input::Net(net::Event::Received { conn, bytes }));
            }
            Some(Piece::Closes) => {
                open = None;
                inputs.push(process::Input::Net(net::Event::Closed { conn }));
            }
            Some(Piece::Waits(us)) => {
                clock.pass(us);
                inputs.push(process::Input::Tick);
            }
            None => {}
        }
        for input in inputs {
            let _ = process.handle(clock.now(), input, &mut out);
        }
        for _ in 0..64 {
            let outputs = std::mem::take(&mut out);
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                let event = match output {
                    process::Output::Net(net::Command::Connect { conn, .. }) => {
                        net::Event::Connected { conn }
                    }
                    process::Output::Net(net::Command::Close { conn }) => {
                        open = open.filter(|open| *open != conn);
                        net::Event::Closed { conn }
                    }
                    process::Output::Net(net::Command::Write { conn, segments }) => {
                        let bytes = segments.iter().map(Bytes::len).sum::<usize>();
                        let bytes = u32::try_from(bytes).expect("a write is small");
                        net::Event::Written { conn, bytes }
                    }
                    _ => continue,
                };
                let _ = process.handle(clock.now(), process::Input::Net(event), &mut out);
            }
        }
    }
}
