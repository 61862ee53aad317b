//! Ids of the objects exchanged between the core and its host.
//!
//! All ids are counters: they are not random and never reused in one run. The wire assigns the ids of
//! entries, links and messages. The bridge assigns the ids of its sends and calls. The host assigns the ids
//! of HTTP requests and accepted connections.

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
            /// Returns the next id and increments the counter.
            pub fn mint(&mut self) -> Self {
                let id = *self;
                self.0 += 1;
                id
            }
        }
    )*};
}

ids! {
    /// One entrypoint request, waiting for its reply.
    EntryId "entry-";
    /// One HA link to one Motr process.
    LinkId "link-";
    /// One message received over a link and not yet acknowledged.
    MsgId "msg-";
    /// One message sent by the bridge, to one link or to many.
    SendId "send-";
    /// One request to Consul.
    CallId;
    /// One HTTP request, waiting for its response.
    HttpId "http-";
    /// One call of Motr's library.
    SpielId "spiel-";
    /// One helper program.
    ExecId "exec-";
    /// One command for a file.
    FileId "file-";
    /// One request over named pipes, waiting for its response.
    FifoId "fifo-";
    /// One request to the keeper.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    AskId "ask-";
    /// One TCP connection; see [`ConnId::accepted`] and [`ConnId::opened`].
    ConnId;
}

impl CallId {
    const MACHINE: u32 = 56;

    /// Returns the first call id of the `machine`th machine behind one host. Ids of different machines are
    /// never equal.
    #[must_use]
    pub const fn first(machine: u8) -> Self {
        Self((machine as u64) << Self::MACHINE | 1)
    }

    /// Returns the machine of the call.
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

    /// Returns the id of the host's `n`th accepted connection. It is never equal to that of an opened one.
    #[must_use]
    pub fn accepted(n: u64) -> Self {
        Self(n | Self::ACCEPTED)
    }

    /// Returns the id of the `n`th connection opened by the core.
    #[must_use]
    pub fn opened(n: u64) -> Self {
        Self(n & !Self::ACCEPTED)
    }

    /// Returns whether the peer opened this connection.
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
