//! Fids: the ids of Motr's objects (`fid/fid.h`). The top byte of the container is the object type
//! (`conf/obj.h`).

use core::fmt;
use core::str::FromStr;

/// The 128-bit id of an object of Motr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fid {
    /// The upper half; its top byte is the type.
    pub container: u64,
    /// The lower half.
    pub key: u64,
}

impl Fid {
    /// The null fid, `0x0:0x0`.
    pub const ZERO: Self = Self { container: 0, key: 0 };

    /// Creates a fid from its halves.
    #[must_use]
    pub const fn new(container: u64, key: u64) -> Self {
        Self { container, key }
    }

    /// Creates a fid of a type: `M0_FID_TINIT(type, container, key)`.
    #[must_use]
    pub const fn typed(kind: u8, container: u64, key: u64) -> Self {
        Self { container: ((kind as u64) << 56) | (container & ((1 << 56) - 1)), key }
    }

    /// Returns the process with the decimal service id `key` in Consul (container 1, as numbered by hare's
    /// configuration generator).
    #[must_use]
    pub const fn process(key: u64) -> Self {
        Self::typed(b'r', 1, key)
    }

    /// Returns the service with this key (container 1).
    #[must_use]
    pub const fn service(key: u64) -> Self {
        Self::typed(b's', 1, key)
    }

    /// Returns the type byte: `'r'` for a process, `'s'` for a service, …
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.container >> 56) as u8
    }

    /// Returns the object type, if the type byte is a known one.
    #[must_use]
    pub fn object(self) -> Option<Object> {
        Object::from_kind(self.kind())
    }

    /// Returns whether the object is a process.
    #[must_use]
    pub fn is_process(self) -> bool {
        self.object() == Some(Object::Process)
    }
}

/// Writes `0x7200000000000001:0x4`: lower-case hex without padding, as in hare's KV.
impl fmt::Display for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}:{:#x}", self.container, self.key)
    }
}

/// The error for a malformed fid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFid;

impl fmt::Display for NotAFid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a fid: expected 0xCONTAINER:0xKEY, for example 0x7200000000000001:0x4")
    }
}

impl core::error::Error for NotAFid {}

/// Accepts `0x72…:0x4`, padded or not, in either case, with or without `<…>` around.
impl FromStr for Fid {
    type Err = NotAFid;

    fn from_str(text: &str) -> Result<Self, NotAFid> {
        let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
        let (container, key) = text.split_once(':').ok_or(NotAFid)?;
        Ok(Self { container: hex(container)?, key: hex(key)? })
    }
}

fn hex(text: &str) -> Result<u64, NotAFid> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or(NotAFid)?;
    // `from_str_radix` accepts a sign, which a fid does not have.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(NotAFid);
    }
    u64::from_str_radix(digits, 16).map_err(|_| NotAFid)
}

/// The types of configuration objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Motr's and say it all")]
pub enum Object {
    Root,
    Dir,
    Profile,
    Pool,
    Pver,
    Objv,
    Node,
    Process,
    Service,
    Sdev,
    Site,
    Rack,
    Enclosure,
    Controller,
    Drive,
    FdmiFlterGrp,
    FdmiFilter,
}

impl Object {
    /// Returns the type for a fid's type byte.
    #[must_use]
    pub fn from_kind(kind: u8) -> Option<Self> {
        Some(match kind {
            b't' => Self::Root,
            b'D' => Self::Dir,
            b'p' => Self::Profile,
            b'o' => Self::Pool,
            b'v' => Self::Pver,
            b'j' => Self::Objv,
            b'n' => Self::Node,
            b'r' => Self::Process,
            b's' => Self::Service,
            b'd' => Self::Sdev,
            b'S' => Self::Site,
            b'a' => Self::Rack,
            b'e' => Self::Enclosure,
            b'c' => Self::Controller,
            b'k' => Self::Drive,
            b'g' => Self::FdmiFlterGrp,
            b'l' => Self::FdmiFilter,
            _ => return None,
        })
    }

    /// Returns whether REPAIR and REBALANCE are legal for the type in a note: a receiver asserts that
    /// (`ha/note.c`).
    #[must_use]
    pub fn may_repair(self) -> bool {
        matches!(self, Self::Pool | Self::Sdev | Self::Node | Self::Drive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_hare_writes_are_read() {
        let fid = Fid::process(4);
        assert_eq!("0x7200000000000001:0x4".parse(), Ok(fid));
        assert_eq!("0x7200000000000001:0x0004".parse(), Ok(fid));
        assert_eq!("<0x7200000000000001:0x4>".parse(), Ok(fid));
        assert_eq!(alloc::format!("{fid}"), "0x7200000000000001:0x4");
        for bad in
            ["", "4", "0x1", "0x1:", "0x:0x", "0x1:0x1:0x1", "0x+1:0x1", "0x1:0x10000000000000000"]
        {
            assert_eq!(bad.parse::<Fid>(), Err(NotAFid), "{bad}");
        }
    }

    #[test]
    fn the_type_is_the_top_byte() {
        assert_eq!(Fid::process(1).object(), Some(Object::Process));
        assert_eq!(Fid::typed(b'o', 2, 9), Fid::new(0x6f00_0000_0000_0002, 9));
        assert_eq!(Fid::new(0x0100_0000_0000_0000, 1).object(), None);
    }
}
