//! Layer 1: the frames of Motr's `sock` transport on TCP (`net/sock/sock.c`, `net/sock/xcode.h`).
//!
//! Each side connects to the other's listening address, and each connection carries data in one direction. A
//! frame is a header of 160 bytes and a payload. The addresses in the header are *listening* addresses: a
//! reply is sent to them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

use crate::wire::codec::bytes::{DecodeError, Put, Reader, format};

/// The size of a frame's header.
pub const HEADER: usize = 160;
/// The maximum size of a payload. A real peer that gets a larger one enters an endless loop.
pub const PAYLOAD_MAX: usize = 131_072;
/// The position of the header's footer. The checksum covers all bytes before it.
const CHECKED: usize = 144;
const KIND_PUT: u16 = 1;
const FAMILY_V4: u32 = 2;
const FAMILY_V6: u32 = 10;
const SOCK_STREAM: u32 = 1;
const PROTO_TCP: u32 = 6;

/// One end of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The listening address.
    pub addr: SocketAddr,
    /// The id of a buffer; not zero in a source, zero in a destination. It matters for bulk transfers only.
    pub cookie: (u64, u64),
}

/// The header of a frame with a whole payload (a one-packet PUT; other kinds are not supported).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender.
    pub src: End,
    /// The receiver.
    pub dst: End,
    /// The size of the payload in bytes.
    pub size: u32,
}

impl Header {
    /// Decodes a header.
    ///
    /// # Errors
    ///
    /// If any field of the header has an invalid value.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        if format::header(&mut from, KIND_PUT)? as usize != CHECKED {
            return Err(DecodeError("unexpected place of the footer"));
        }
        let src = end(&mut from)?;
        let dst = end(&mut from)?;
        let (index, number) = (from.u32()?, from.u32()?);
        let (size, offset, total) = (from.u64()?, from.u64()?, from.u64()?);
        if (index, number, offset) != (0, 1, 0) || size != total {
            return Err(DecodeError("a message in several packets"));
        }
        if format::footer(&mut from)? != fnv1(&bytes[..CHECKED]) {
            return Err(DecodeError("wrong checksum"));
        }
        let size = u32::try_from(size).ok().filter(|n| *n as usize <= PAYLOAD_MAX);
        Ok(Self { src, dst, size: size.ok_or(DecodeError("payload too large"))? })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        format::put_header(out, KIND_PUT, 144);
        put_end(out, &self.src);
        put_end(out, &self.dst);
        out.u32(0);
        out.u32(1);
        out.u64(self.size.into());
        out.u64(0);
        out.u64(self.size.into());
        let checksum = fnv1(&out[start..]);
        out.u64(format::FOOTER_MAGIC);
        out.u64(checksum);
    }
}

fn end(from: &mut Reader<'_>) -> Result<End, DecodeError> {
    let (family, socktype, _protocol, port) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
    let raw = from.take(16)?;
    let cookie = from.pair()?;
    if socktype != SOCK_STREAM {
        return Err(DecodeError("not a stream's address"));
    }
    let ip = match (family, raw.first_chunk::<4>(), raw.first_chunk::<16>()) {
        (FAMILY_V4, Some(ip), _) => IpAddr::from(Ipv4Addr::from(*ip)),
        (FAMILY_V6, _, Some(ip)) => IpAddr::from(Ipv6Addr::from(*ip)),
        _ => return Err(DecodeError("unknown address family")),
    };
    let port = u16::try_from(port).map_err(|_| DecodeError("port out of range"))?;
    Ok(End { addr: SocketAddr::new(ip, port), cookie })
}

fn put_end(out: &mut Vec<u8>, end: &End) {
    let (family, raw) = match end.addr.ip() {
        IpAddr::V4(ip) => {
            let mut raw = [0; 16];
            raw[..4].copy_from_slice(&ip.octets());
            (FAMILY_V4, raw)
        }
        IpAddr::V6(ip) => (FAMILY_V6, ip.octets()),
    };
    out.u32(family);
    out.u32(SOCK_STREAM);
    out.u32(PROTO_TCP);
    out.u32(end.addr.port().into());
    out.bytes(&raw);
    out.pair(end.cookie);
}

/// Computes FNV-1 with 64 bits (`lib/hash_fnc.c:m0_hash_fnc_fnv1`). It multiplies before it mixes.
///
/// A zero byte only multiplies, and two thirds of a header are zeros. So the zeros at the end of a word are
/// processed in one step.
fn fnv1(header: &[u8]) -> u64 {
    let (words, rest) = header.as_chunks::<8>();
    debug_assert!(rest.is_empty(), "a header is made of words");
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        let zeros = u64::from_le_bytes(*word).leading_zeros() as usize / 8;
        let mix = |hash: u64, byte: &u8| hash.wrapping_mul(FNV_PRIME) ^ u64::from(*byte);
        word[..8 - zeros].iter().fold(hash, mix).wrapping_mul(FNV_POWERS[zeros])
    })
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// The powers of the prime, from 0 to 8.
const FNV_POWERS: [u64; 9] = {
    let mut powers = [1; 9];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = FNV_PRIME.wrapping_mul(powers[n - 1]);
        n += 1;
    }
    powers
};

/// A splitter of a byte stream into frames. It holds at most one frame; a frame that arrives in one piece is
/// not copied.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame from earlier pieces.
    held: BytesMut,
    /// The header of that frame, once it is complete.
    header: Option<Header>,
    /// The rest of the last piece.
    input: Bytes,
}

impl Frames {
    /// Adds received bytes. The caller must then call [`Frames::cut`] until it returns no more frames.
    pub fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty(), "cut until there is no more");
        self.input = bytes;
    }

    /// Returns the number of bytes of an incomplete frame.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Returns the memory in use for an incomplete frame, in bytes.
    pub(crate) fn room(&self) -> usize {
        self.held.capacity()
    }

    /// Returns the next complete frame.
    ///
    /// # Errors
    ///
    /// If the stream is not a sequence of frames. It cannot be read any further then.
    pub fn cut(&mut self) -> Result<Option<(Header, Bytes)>, DecodeError> {
        if self.held.is_empty()
            && let Some(raw) = self.input.first_chunk::<HEADER>()
        {
            let header = Header::decode(raw)?;
            let total = HEADER + header.size as usize;
            if self.input.len() >= total {
                let frame = self.input.split_to(total);
                return Ok(Some((header, frame.slice(HEADER..))));
            }
            self.header = Some(header);
        }
        self.gather(HEADER);
        if self.header.is_none() {
            let Some(raw) = self.held.first_chunk::<HEADER>() else { return Ok(None) };
            self.header = Some(Header::decode(raw)?);
        }
        let Some(header) = self.header else { return Ok(None) };
        let total = HEADER + header.size as usize;
        self.gather(total);
        if self.held.len() < total {
            return Ok(None);
        }
        self.header = None;
        let frame = core::mem::take(&mut self.held).freeze();
        Ok(Some((header, frame.slice(HEADER..))))
    }

    /// Moves bytes from the input until `upto` bytes are held or the input is used up.
    fn gather(&mut self, upto: usize) {
        let missing = upto.saturating_sub(self.held.len()).min(self.input.len());
        if missing > 0 {
            let piece = self.input.split_to(missing);
            self.held.extend_from_slice(&piece);
        }
    }
}
