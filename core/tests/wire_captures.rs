//! Captured traffic of real Motr processes decodes completely and encodes to the same bytes.

mod wire_support;

use bytes::Bytes;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::{Frames, HEADER};
use hax_core::wire::codec::packet::{self, Item};
use wire_support::tape::{self, Stream};

/// Returns whether the HA side broke the limit on purpose in this stream: a packet of 207,920 bytes.
fn is_too_big(name: &str, stream: Stream) -> bool {
    name == "23-exp-big" && stream.reader == 31353
}

/// Returns all items of a stream. Each packet is encoded again and compared.
fn items(name: &str, stream: &[u8], piece: usize) -> (Vec<Item>, usize) {
    let mut frames = Frames::default();
    let (mut items, mut used) = (Vec::new(), 0);
    for piece in stream.chunks(piece) {
        frames.feed(Bytes::copy_from_slice(piece));
        while let Some((header, payload)) = frames.cut().expect(name) {
            let in_packet: Vec<Item> =
                packet::decode(&payload).expect(name).collect::<Result<_, _>>().expect(name);
            let again = packet::encode(header.src, header.dst, &in_packet);
            let end = used + HEADER + payload.len();
            assert!(again == stream[used..end], "{name}: {in_packet:?}");
            used = end;
            items.extend(in_packet);
        }
    }
    (items, stream.len() - used)
}

#[test]
fn captures_encode_to_the_same_bytes() {
    let (mut nr, mut messages) = (0, 0);
    for name in tape::names() {
        for (stream, bytes) in tape::streams(&name) {
            if is_too_big(&name, stream) {
                continue;
            }
            let (items, left) = items(&name, &bytes, usize::MAX);
            // A capture that was cut may end within a frame.
            assert!(left == 0 || name.starts_with("07"), "{name}: {left} bytes are left");
            assert!(items.iter().all(|i| !matches!(i.fop, Fop::Unknown { .. })));
            nr += items.len();
            messages +=
                items.iter().filter(|i| matches!(&i.fop, Fop::LinkMsg(m) if m.nr == 1)).count();
        }
    }
    assert_eq!((nr, messages), (2053, 388));
}

#[test]
fn pieces_of_any_size_make_the_same_frames() {
    for (_, bytes) in tape::streams("03-broadcasts") {
        let whole = items("whole", &bytes, usize::MAX);
        for piece in [1, 7, 159, 160, 161, 4096, 20_000] {
            assert!(items("pieces", &bytes, piece) == whole, "pieces of {piece}");
        }
    }
}

#[test]
fn a_packet_that_would_hang_a_real_peer_is_refused() {
    let name = "23-exp-big";
    let (_, bytes) = tape::streams(name).into_iter().find(|(s, _)| is_too_big(name, *s)).unwrap();
    let mut frames = Frames::default();
    frames.feed(bytes.into());
    let refused = core::iter::repeat_with(|| frames.cut()).find(|cut| !matches!(cut, Ok(Some(_))));
    assert_eq!(refused.unwrap().unwrap_err().0, "payload too large");
}
