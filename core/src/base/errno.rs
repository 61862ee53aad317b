//! Error numbers as Motr's wire carries them.

use core::fmt;

/// A positive error number of Linux; the wire carries its negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// Ask again (the entrypoint's answer while Consul has none).
    pub const EAGAIN: Self = Self(11);
    /// No such link: the peer then asks for its entrypoint again.
    pub const ENOLINK: Self = Self(67);
    /// The link exists, its connection id is another one.
    pub const EBADSLT: Self = Self(57);
    /// A session or connection that is not known.
    pub const ENOENT: Self = Self(2);
    /// A malformed request.
    pub const EPROTO: Self = Self(71);

    /// The value for an `rc` field: negative.
    #[must_use]
    pub fn to_rc(self) -> i32 {
        -self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EAGAIN => f.write_str("EAGAIN"),
            Self::ENOLINK => f.write_str("ENOLINK"),
            Self::EBADSLT => f.write_str("EBADSLT"),
            Self::ENOENT => f.write_str("ENOENT"),
            Self::EPROTO => f.write_str("EPROTO"),
            Self(n) => write!(f, "errno {n}"),
        }
    }
}
