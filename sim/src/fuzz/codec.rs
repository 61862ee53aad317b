//! Fuzzing of the wire's codec.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::ha::message::Body;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::{End, Frames, HEADER, Header, PAYLOAD_MAX};
use hax_core::wire::codec::packet::{self, Item};

use super::script::Script;

/// Reads the bytes as a stream of frames, then as a single packet and as a single item. These two have no
/// checksum that the fuzzer would have to guess. A parsed value must be the same after it is written and read
/// again.
///
/// # Panics
///
/// If it is not the same.
pub fn codec(data: &[u8]) {
    let mut frames = Frames::default();
    let mut used = 0;
    // The stream arrives in two pieces, as TCP may deliver it.
    for piece in [&data[..data.len() / 3], &data[data.len() / 3..]] {
        frames.feed(Bytes::copy_from_slice(piece));
        let whole = loop {
            match frames.cut() {
                Ok(Some((header, payload))) => {
                    assert_eq!(payload.len(), header.size as usize);
                    used += HEADER + payload.len();
                    header_again(header);
                    packet(&payload);
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert!(frames.held() <= HEADER + PAYLOAD_MAX, "it holds no more than one frame");
        if !whole {
            break;
        }
    }
    assert!(used + frames.held() <= data.len());
    packet(data);
    if let Some(item) = Script(data).item() {
        again(&[item]);
    }
}

fn header_again(header: Header) {
    let mut written = Vec::new();
    header.encode(&mut written);
    let raw = written.first_chunk::<HEADER>().expect("a header has its size");
    assert_eq!((written.len(), Header::decode(raw)), (HEADER, Ok(header)));
}

fn packet(payload: &[u8]) {
    let Ok(items) = packet::decode(payload) else { return };
    let items: Result<Vec<Item>, _> = items.collect();
    // An item that grows in its canonical form may exceed the limit.
    if let Ok(items) = items
        && payload.len() <= PAYLOAD_MAX / 2
    {
        again(&items);
    }
}

fn again(items: &[Item]) {
    if !items.iter().all(is_kept_whole) {
        return;
    }
    let frame = packet::encode(end(1), end(2), items);
    let read = packet::decode(&frame[HEADER..]).expect("our own packet");
    let read: Vec<Item> = read.collect::<Result<_, _>>().expect("our own items");
    assert_eq!(read, items);
    assert!(packet::encode(end(1), end(2), &read) == frame, "and are written the same");
}

/// Returns whether all of the item is kept. For an unknown operation or an invalid message only the name is
/// kept.
fn is_kept_whole(item: &Item) -> bool {
    match &item.fop {
        Fop::Unknown { .. } => false,
        Fop::LinkMsg(msg) => {
            let body = msg.message.as_ref().map(|message| &message.body);
            !matches!(body, Some(Body::Malformed { .. }))
        }
        _ => true,
    }
}

fn end(host: u8) -> End {
    End { addr: SocketAddr::from(([10, 0, 0, host], 22_001)), cookie: (u64::from(host == 2), 0) }
}
