//! Bad frames, packets and items.

use hax_core::base::fid::Fid;
use hax_core::wire::codec::fop::{EntrypointRep, Fop};
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::params::{Cookie, LinkParams, Uint128};

use crate::fixture::Fixture;
use crate::liar::{FRAME, ITEM, Liar, PACKET, ask, header};

/// The reaction of hax to bad bytes.
#[derive(Clone, Copy)]
enum Then {
    /// hax closes the connection and logs the reason.
    Closes(&'static str, &'static str),
    /// hax drops the item, logs the reason, and reads on.
    Drops(&'static str, &'static str),
    /// hax waits for the rest.
    Waits,
    /// hax skips the item and reads on.
    Ignores,
}

use Then::{Closes, Drops, Ignores, Waits};

/// Returns the greeting with these bytes changed.
fn with(hello: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = hello.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

/// Returns the frame with a correct checksum, so that only the changed field is wrong.
fn signed(mut frame: Vec<u8>) -> Vec<u8> {
    let hash = frame[..144].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*byte)
    });
    frame[152..160].copy_from_slice(&hash.to_le_bytes());
    frame
}

fn sized(hello: &[u8], size: u64) -> Vec<u8> {
    let (size, mut frame) = (size.to_le_bytes(), hello.to_vec());
    // The sizes of the packet and of the frame are equal for a frame of one packet.
    frame[120..128].copy_from_slice(&size);
    frame[136..144].copy_from_slice(&size);
    signed(frame)
}

fn no_frames(hello: &[u8]) -> Vec<(&'static str, Vec<u8>, Then)> {
    let frame = |why| Closes("BadFrame", why);
    let lie = |at, bytes: &[u8]| signed(with(hello, at, bytes));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let http = b"GET / HTTP/1.1\r\nHost: hax\r\n\r\n".repeat(8);
    let junk: Vec<u8> =
        (0..4096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let mut late = b"\0".to_vec();
    late.extend(hello);
    vec![
        ("zeros", vec![0; 4096], frame("")),
        ("ones", vec![0xff; 4096], frame("")),
        ("junk", junk, frame("the peer at 127.")),
        ("a request over HTTP", http, frame("")),
        ("a greeting of TLS", with(&[0; FRAME], 0, tls), frame("")),
        ("a byte before the greeting", late, frame("")),
        ("another magic", with(hello, 0, b"\0"), frame("")),
        ("another kind of frame", lie(12, &[2]), frame("")),
        ("another version", lie(14, &[9]), frame("")),
        ("another place of the footer", lie(8, &[0, 0, 0, 0]), frame("")),
        ("another address family", lie(16, &[7]), frame("address family")),
        ("not a stream", lie(20, &[2]), frame("not a stream")),
        ("a port that is none", lie(28, &[0, 0, 1]), frame("port out of range")),
        ("the second packet of one", lie(112, &[1]), frame("several packets")),
        ("the first packet of two", lie(116, &[2]), frame("several packets")),
        ("an offset", lie(128, &[8]), frame("several packets")),
        ("a size that is not the whole", lie(120, &[1]), frame("several packets")),
        ("a payload of 128 KiB and a byte", sized(hello, 131_073), frame("payload too large")),
        ("a payload of 4 GiB", sized(hello, 1 << 32), frame("payload too large")),
        ("a payload of all there is", sized(hello, u64::MAX), frame("payload too large")),
        ("another footer", with(hello, 144, &[0]), frame("")),
        ("another checksum", with(hello, 152, &[0, 0]), frame("wrong checksum")),
        ("an address of somebody else", lie(32, &[10, 1, 1, 1]), Closes("NotItsAddress", "")),
        ("no port", lie(28, &[0, 0]), Closes("NotItsAddress", "")),
        ("half a header", hello[..80].into(), Waits),
        ("a header and no payload", hello[..FRAME].into(), Waits),
        ("all but the last byte", hello[..hello.len() - 1].into(), Waits),
    ]
}

fn no_packets(hello: &[u8]) -> Vec<(&'static str, Vec<u8>, Then)> {
    let dropped = |why| Drops("BadPacket", why);
    let packet = |at: usize, bytes: &[u8]| with(hello, FRAME + at, bytes);
    let item = |at: usize, bytes: &[u8]| with(hello, FRAME + PACKET + at, bytes);
    let size = |at: usize, n: u32| with(hello, at, &n.to_le_bytes());
    let (p, i) = (FRAME + 8, FRAME + PACKET + 8);
    vec![
        ("a frame without a packet", sized(hello, 0)[..FRAME].into(), dropped("")),
        ("a packet's magic", packet(0, &[0]), dropped("")),
        ("a packet's kind", packet(12, &[7]), dropped("")),
        ("a packet of no size", size(p, 0), dropped("")),
        ("a packet that is longer than its frame", size(p, 60_000), dropped("wrong packet size")),
        ("a packet of 4 GiB", size(p, u32::MAX), dropped("wrong packet size")),
        ("a packet's version", packet(16, &[9]), dropped("not a packet")),
        ("a packet's second magic", packet(24, &[0]), dropped("not a packet")),
        ("an item's magic", item(0, &[0]), dropped("")),
        ("an item of no size", size(i, 0), dropped("item too small")),
        ("an item that is longer than its packet", size(i, 60_000), dropped("ends too early")),
        ("an item of 4 GiB", size(i, u32::MAX), dropped("ends too early")),
        ("an item that is longer than what it says", size(i, 128), dropped("")),
        ("an item's second magic", item(32, &[0]), dropped("wrong item magic")),
        ("an operation that has more to say", item(16, &[34]), dropped("")),
        ("an entrypoint request of one byte", item(16, &[117]), dropped("ends too early")),
        ("an item's footer", item(ITEM + 1, &[0]), dropped("")),
        ("an operation that nobody knows", item(16, &[99]), Drops("UnknownOpcode", "99")),
        ("operation 0", item(16, &[0]), Drops("UnknownOpcode", "0")),
        ("the last operation", item(16, &[0xff; 4]), Drops("UnknownOpcode", "4294967295")),
    ]
}

/// Returns senseless frames in which every size and count is correct.
fn no_sense(liar: &Liar) -> Vec<(&'static str, Vec<u8>, Then)> {
    let strange = Uint128 { hi: 5, lo: 5 };
    let rep = Fop::EntrypointRep(Box::new(EntrypointRep {
        quorum: u32::MAX,
        confds: vec![Fid::ZERO; 3],
        confd_endpoints: Vec::new(),
        rm: Fid::ZERO,
        rm_endpoint: Box::new([0xff; 9]),
        control: 77,
        params: LinkParams::default(),
        do_reconnect: u64::MAX,
        disconnected_previously: 7,
        cookie_actual: Cookie::NONE,
    }));
    let frame = |header, fop| liar.frame(header, fop);
    let h = |opcode, xid| header(opcode, strange, 77, 78, xid);
    let mut confds = frame(h(118, 1), rep.clone());
    let count = FRAME + PACKET + ITEM + 4;
    confds[count..count + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let unknown = Fop::SessionEstablish { sender: 77 };
    let end = Fop::SessionTerminate { sender: 77, session: 78 };
    let zero = ItemHeader { xid_min: 0, ..h(117, 1) };
    vec![
        ("more confds than bytes", confds, Drops("BadPacket", "more elements than bytes")),
        ("an answer to nothing", frame(h(118, 1), rep), Ignores),
        (
            "an answer to no greeting",
            frame(h(33, NONE), Fop::ConnEstablishRep { rc: 0, sender: 1 }),
            Ignores,
        ),
        ("a session of nobody", frame(h(34, 1), unknown), Ignores),
        ("the end of nothing", frame(h(36, 1), end), Ignores),
        ("the end of nobody", frame(h(38, NONE), Fop::ConnTerminate { sender: u64::MAX }), Ignores),
        ("an xid that panics a real peer", frame(zero, ask(Fid::process(9))), Ignores),
    ]
}

fn cases(liar: &Liar) -> Vec<(&'static str, Vec<u8>, Then)> {
    let hello = liar.hello();
    [no_frames(&hello), no_packets(&hello), no_sense(liar)].concat()
}

#[test]
fn bad_frames_packets_and_items() {
    let mut fixture = Fixture::new();
    let count = cases(&Liar::new(&fixture.place)).len();
    for n in 0..count {
        let mut liar = Liar::new(&fixture.place);
        let (name, bytes, then) = cases(&liar).swap_remove(n);
        let fact = match then {
            Closes(fact, _) | Drops(fact, _) => fact,
            Waits | Ignores => "",
        };
        let (past, hello) = (fixture.hax.facts(fact).len(), liar.hello());
        liar.say(&bytes);
        match then {
            Closes(fact, why) => {
                assert!(liar.is_closed(), "{name}");
                fixture.hax.says(past, fact, why);
            }
            Drops(fact, why) => {
                fixture.hax.says(past, fact, why);
                liar.say(&hello);
                liar.hears();
            }
            Ignores => {
                liar.say(&hello);
                // A raw client may get refusals before that.
                while !matches!(liar.hears().fop, Fop::ConnEstablishRep { rc: 0, .. }) {}
            }
            Waits => {
                fixture.is_well(name);
                liar.say(&hello[bytes.len()..]);
                liar.hears();
            }
        }
        fixture.is_well(name);
    }
}
