//! Reading and writing in Motr's `xcode` format: atoms in declaration order, little-endian, without padding.

use alloc::vec::Vec;

use crate::base::fid::Fid;

/// `m0_uint128`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the halves are what they are")]
pub struct Uint128 {
    pub hi: u64,
    pub lo: u64,
}

impl core::fmt::Display for Uint128 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:x}:{:x}", self.hi, self.lo)
    }
}

/// The reason why bytes cannot be decoded, as a text for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for DecodeError {}

const SHORT: DecodeError = DecodeError("it ends too early");

/// A cursor for taking atoms from the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn pair(&mut self) -> Result<(u64, u64), DecodeError> {
        Ok((self.u64()?, self.u64()?))
    }

    pub(crate) fn uint128(&mut self) -> Result<Uint128, DecodeError> {
        Ok(Uint128 { hi: self.u64()?, lo: self.u64()? })
    }

    pub(crate) fn fid(&mut self) -> Result<Fid, DecodeError> {
        Ok(Fid::new(self.u64()?, self.u64()?))
    }

    /// Takes an `m0_buf`: a 64-bit length and that many bytes.
    pub(crate) fn buf(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = usize::try_from(self.u64()?).map_err(|_| SHORT)?;
        self.take(n)
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError("it goes on after its end")) }
    }
}

/// A sink for atoms.
pub(crate) trait Put {
    fn bytes(&mut self, bytes: &[u8]);

    fn u8(&mut self, n: u8) {
        self.bytes(&[n]);
    }

    fn u32(&mut self, n: u32) {
        self.bytes(&n.to_le_bytes());
    }

    fn i32(&mut self, n: i32) {
        self.bytes(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.bytes(&n.to_le_bytes());
    }

    fn i64(&mut self, n: i64) {
        self.bytes(&n.to_le_bytes());
    }

    fn pair(&mut self, (a, b): (u64, u64)) {
        self.u64(a);
        self.u64(b);
    }

    fn uint128(&mut self, n: Uint128) {
        self.pair((n.hi, n.lo));
    }

    fn fid(&mut self, fid: Fid) {
        self.pair((fid.container, fid.key));
    }

    fn buf(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes(bytes);
    }

    fn zeros(&mut self, n: usize);
}

impl Put for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }
}

/// Motr's self-describing headers and footers (`format/format.h`). They surround every layer.
pub(crate) mod format {
    use super::{DecodeError, Put, Reader};

    pub(crate) const HEADER_MAGIC: u64 = 0x3301_1ca5_e511_de77;
    pub(crate) const FOOTER_MAGIC: u64 = 0x33f0_07e7_f007_e777;
    /// The size of the magic and the checksum.
    pub(crate) const FOOTER: usize = 16;
    const VERSION: u64 = 1;

    /// Writes the `m0_format_header` of `kind`. `word` is the object's size or the position of its footer.
    pub(crate) fn put_header(out: &mut impl Put, kind: u16, word: u32) {
        out.u64(HEADER_MAGIC);
        out.u64(VERSION << 48 | u64::from(kind) << 32 | u64::from(word));
    }

    /// Checks a header of `kind` and returns its word.
    pub(crate) fn header(from: &mut Reader<'_>, kind: u16) -> Result<u32, DecodeError> {
        if from.u64()? != HEADER_MAGIC {
            return Err(DecodeError("wrong header magic"));
        }
        let bits = from.u64()?;
        if bits >> 48 != VERSION {
            return Err(DecodeError("unknown format version"));
        }
        if bits >> 32 & 0xffff != u64::from(kind) {
            return Err(DecodeError("unexpected format type"));
        }
        Ok(low(bits))
    }

    /// Writes a footer without a checksum, as in packets and items.
    pub(crate) fn put_footer(out: &mut impl Put) {
        out.u64(FOOTER_MAGIC);
        out.u64(0);
    }

    pub(crate) fn footer(from: &mut Reader<'_>) -> Result<u64, DecodeError> {
        if from.u64()? != FOOTER_MAGIC {
            return Err(DecodeError("wrong footer magic"));
        }
        from.u64()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn low(bits: u64) -> u32 {
        bits as u32
    }
}
