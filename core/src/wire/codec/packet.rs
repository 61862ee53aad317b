//! Layer 2: an RPC packet of one or more items (`rpc/packet.c`), and whole frames.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::wire::codec::bytes::{DecodeError, Put, Reader, format};
use crate::wire::codec::fop::Fop;
use crate::wire::codec::frame::{self, End, Header};
use crate::wire::codec::item::{self, ItemHeader};

const KIND_PACKET: u16 = 1;
const MAGIC: u64 = 0x33fa_110f_fea9_1e77;
const VERSION: u32 = 1;
/// The size of a packet's header.
const HEADER: usize = 32;
/// The size of the headers before the items.
const HEADS: usize = frame::HEADER + HEADER;
/// A sufficient buffer size for most frames.
const USUAL: usize = 1024;
/// The size of the memory blocks for the frames' own bytes; most frames need a sixteenth of one.
const PIECE: usize = 8 << 10;
/// Packets are padded with zeros to a multiple of this.
const ALIGN: usize = 8;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The item's header.
    pub header: ItemHeader,
    /// The item's content.
    pub fop: Fop,
}

/// The items of a packet, in order. The iterator ends after the first error, since the rest is not reliable
/// then.
#[derive(Debug)]
pub struct Items<'a> {
    from: Reader<'a>,
    left: u32,
    ended: bool,
}

/// Decodes a packet's header.
///
/// # Errors
///
/// If a field of the header has an invalid value.
pub fn decode(payload: &[u8]) -> Result<Items<'_>, DecodeError> {
    let mut from = Reader::new(payload);
    let size = format::header(&mut from, KIND_PACKET)? as usize;
    let version = from.u32()?;
    let left = from.u32()?;
    if version != VERSION || from.u64()? != MAGIC {
        return Err(DecodeError("not a packet"));
    }
    // A transport that sends whole segments appends zeros (rpc/frmops.c:get_bufvec_geometry). They are
    // ignored (rpc/packet.c:m0_rpc_packet_decode_using_cursor).
    if size.next_multiple_of(ALIGN) > payload.len() {
        return Err(DecodeError("wrong packet size"));
    }
    let body = from.take(size.checked_sub(HEADER).ok_or(DecodeError("wrong packet size"))?)?;
    Ok(Items { from: Reader::new(body), left, ended: false })
}

impl Items<'_> {
    fn item(&mut self) -> Result<Item, DecodeError> {
        let (header, payload) = ItemHeader::decode(&mut self.from)?;
        let fop = Fop::decode(header.opcode, self.from.take(payload)?)?;
        format::footer(&mut self.from)?;
        Ok(Item { header, fop })
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Item, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.left == 0 {
            self.ended = true;
            let end = format::footer(&mut self.from).and_then(|_| self.from.end());
            return end.err().map(Err);
        }
        self.left -= 1;
        let item = self.item();
        self.ended = item.is_err();
        Some(item)
    }
}

/// Returns the frame of one packet with `items`.
///
/// # Panics
///
/// If the items do not fit into one packet.
#[must_use]
pub fn encode(src: End, dst: End, items: &[Item]) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL);
    out.zeros(HEADS);
    let mut head = Vec::with_capacity(HEADS);
    // A header contains the size of the part after it, so it is written after that part.
    for item in items {
        let start = out.len();
        out.zeros(item::HEADERS);
        item.fop.encode(&mut out);
        head.clear();
        item.header.encode(out.len() - start - item::HEADERS, &mut head);
        out[start..start + item::HEADERS].copy_from_slice(&head);
        format::put_footer(&mut out);
    }
    let body = out.len() - HEADS;
    let nr = u32::try_from(items.len()).expect("items fit into a packet");
    head.clear();
    put_heads(&mut head, src, dst, nr, body);
    out[..HEADS].copy_from_slice(&head);
    put_tail(&mut out, body);
    out
}

/// The frame of one packet, in segments. It is kept until its reply arrives, and written as often as needed.
pub(crate) type Frame = Arc<[Bytes]>;

/// An encoder of frames with shared bodies.
///
/// It takes the frames' own bytes from one memory block. So a frame that is never answered keeps a whole
/// block of [`PIECE`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The bytes being encoded.
    own: Vec<u8>,
    piece: BytesMut,
}

/// The source and the destination of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) src: End,
    pub(crate) dst: End,
}

/// The payload of an item with a shared middle part.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) before: &'a [u8],
    pub(crate) body: Bytes,
    pub(crate) after: &'a [u8],
}

impl Writer {
    /// Returns the frame of one packet with one item. The payload is `before`, `body`, `after`. The body is
    /// shared, not copied.
    pub(crate) fn encode_around(
        &mut self,
        Ends { src, dst }: Ends,
        header: &ItemHeader,
        Payload { before, body, after }: Payload<'_>,
    ) -> Frame {
        let payload = before.len() + body.len() + after.len();
        let size = item::OVERHEAD + payload;
        self.own.clear();
        put_heads(&mut self.own, src, dst, 1, size);
        header.encode(payload, &mut self.own);
        self.own.bytes(before);
        let at = self.own.len();
        self.own.bytes(after);
        format::put_footer(&mut self.own);
        put_tail(&mut self.own, size);
        if self.piece.capacity() < self.own.len() {
            self.piece.reserve(PIECE.max(self.own.len()));
        }
        self.piece.extend_from_slice(&self.own);
        let before = self.piece.split_to(at).freeze();
        let after = self.piece.split().freeze();
        Arc::new([before, body, after])
    }
}

fn put_heads(out: &mut Vec<u8>, src: End, dst: End, nr: u32, body: usize) {
    let size = HEADER + body + format::FOOTER;
    let padded = size.next_multiple_of(ALIGN);
    assert!(padded <= frame::PAYLOAD_MAX, "a packet of {padded} bytes would hang the peer");
    let fits = "bounded by the assertion above";
    let size = u32::try_from(size).expect(fits);
    Header { src, dst, size: u32::try_from(padded).expect(fits) }.encode(out);
    format::put_header(out, KIND_PACKET, size);
    out.u32(VERSION);
    out.u32(nr);
    out.u64(MAGIC);
}

fn put_tail(out: &mut Vec<u8>, body: usize) {
    format::put_footer(out);
    let size = HEADER + body + format::FOOTER;
    out.zeros(size.next_multiple_of(ALIGN) - size);
}
