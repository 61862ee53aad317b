//! Error numbers as used by Motr's wire protocol and library.

use core::fmt;

/// A positive error number of Linux; the wire carries its negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// Ask again: the reply to an entrypoint request while Consul has no entrypoint.
    pub const EAGAIN: Self = Self(11);
    /// No such link: the peer then requests its entrypoint again.
    pub const ENOLINK: Self = Self(67);
    /// The link exists, but with another connection id.
    pub const EBADSLT: Self = Self(57);
    /// The session or connection is unknown.
    pub const ENOENT: Self = Self(2);
    /// A malformed request.
    pub const EPROTO: Self = Self(71);
    /// The requested operation is already in progress.
    pub const EBUSY: Self = Self(16);
    /// No reply in time.
    pub const ETIMEDOUT: Self = Self(110);

    /// Returns the negative value for an `rc` field.
    #[must_use]
    pub fn to_rc(self) -> i32 {
        -self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(n, _)| *n == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// The names of Motr's error numbers (`errno(3)`, Linux).
const NAMES: [(i32, &str); 33] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
    (34, "ERANGE"),
    (38, "ENOSYS"),
    (57, "EBADSLT"),
    (61, "ENODATA"),
    (67, "ENOLINK"),
    (71, "EPROTO"),
    (89, "EDESTADDRREQ"),
    (90, "EMSGSIZE"),
    (95, "EOPNOTSUPP"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (107, "ENOTCONN"),
    (108, "ESHUTDOWN"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (113, "EHOSTUNREACH"),
    (125, "ECANCELED"),
    (126, "ENOKEY"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_called_by_its_name() {
        assert_eq!(alloc::format!("{} {}", Errno::EBUSY, Errno(9999)), "EBUSY errno 9999");
        assert!(NAMES.is_sorted(), "each once");
    }
}
