//! Names of things that pass between the core and its host.
//!
//! All are counters: never random, never reused in one life. Who mints what: the wire names
//! entries, links and messages; the bridge names its sends and its calls; the host names
//! HTTP requests and accepted connections.

use core::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $($tag:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, "{}"), self.0)
            }
        })?

        impl $name {
            /// Mints the next name: the counter moves on, its old value is returned.
            pub fn mint(&mut self) -> Self {
                let id = *self;
                self.0 += 1;
                id
            }
        }
    )*};
}

ids! {
    /// One entrypoint request awaiting its reply.
    EntryId "entry-";
    /// One HA link to one Motr process.
    LinkId "link-";
    /// One message received over a link and not yet acknowledged.
    MsgId "msg-";
    /// One message that the bridge sent, to one link or to many.
    SendId "send-";
    /// One request to Consul.
    CallId;
    /// One HTTP request that awaits its response.
    HttpId "http-";
    /// One call of Motr's library, for the cluster.
    SpielId "spiel-";
    /// One helper program.
    ExecId "exec-";
    /// One command about a file.
    FileId "file-";
    /// One request over named pipes that awaits its answer.
    FifoId "fifo-";
    /// One TCP connection; see [`ConnId::accepted`] and [`ConnId::opened`].
    ConnId;
}

impl CallId {
    const MACHINE: u32 = 56;

    /// The first call of the `machine`th machine behind one host. Never equal to one of another's.
    #[must_use]
    pub const fn first(machine: u8) -> Self {
        Self((machine as u64) << Self::MACHINE | 1)
    }

    /// Whose call it is.
    #[must_use]
    pub const fn machine(self) -> u8 {
        (self.0 >> Self::MACHINE) as u8
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 & ((1 << Self::MACHINE) - 1);
        match self.machine() {
            0 => write!(f, "call-{n}"),
            machine => write!(f, "call-{machine}-{n}"),
        }
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.is_accepted() { "in" } else { "out" };
        write!(f, "conn-{way}-{}", self.0 & !Self::ACCEPTED)
    }
}

impl ConnId {
    const ACCEPTED: u64 = 1 << 63;

    /// The host's `n`th accepted connection. Never equal to an opened one.
    #[must_use]
    pub fn accepted(n: u64) -> Self {
        Self(n | Self::ACCEPTED)
    }

    /// The core's `n`th own connection.
    #[must_use]
    pub fn opened(n: u64) -> Self {
        Self(n & !Self::ACCEPTED)
    }

    /// Whether the peer opened this connection.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        self.0 & Self::ACCEPTED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_s_name_says_who_opened_it() {
        let names = [ConnId::accepted(2), ConnId::opened(2)].map(|conn| alloc::format!("{conn}"));
        assert_eq!(names, ["conn-in-2", "conn-out-2"]);
    }
}
