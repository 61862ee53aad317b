//! Answers that stay open: server-sent events, and whatever else is said bit by bit.
//!
//! A machine answers a request with [`Command::Begin`] in the place of a [`Response`](super::port::Response),
//! says [`Chunk`](Command::Chunk)s and, if ever, [`End`](Command::End). For each answer that was begun it is
//! told exactly one [`Closed`], whoever ended it, unless it has exited by then: a host ends what is still open
//! when its machine exits, and says what was to be said.
//!
//! The head leaves at once, and so does each chunk; their borders mean nothing to a client. Nobody waits for a
//! client: what it has not taken yet is held for it, and one for whom more than [`HELD_MAX`] would be held is
//! too slow and cut off. What a machine says of an answer that is closed, which it may not know yet, is
//! ignored.

use bytes::Bytes;

use crate::base::id::HttpId;

/// What is held for one client that does not take it yet, in bytes, each chunk with [`CHUNK_COST`] more. A
/// longer chunk closes its answer.
pub const HELD_MAX: usize = 256 << 10;

/// What a chunk costs beside its bytes, so that many small ones are bounded too.
pub const CHUNK_COST: usize = 64;

/// What the host is to do with an answer that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins one. Owed: exactly one [`Closed`].
    Begin(Begin),
    /// Says something more. No bytes at all are nothing to say.
    Chunk {
        /// In which answer.
        id: HttpId,
        /// What.
        bytes: Bytes,
    },
    /// Ends one, once its client has taken all that was said before.
    End {
        /// Which.
        id: HttpId,
    },
}

impl Command {
    /// Which answer it is about.
    #[must_use]
    pub fn id(&self) -> HttpId {
        match self {
            Self::Begin(Begin { id, .. }) | Self::Chunk { id, .. } | Self::End { id } => *id,
        }
    }
}

/// The head of an answer that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The request that it answers. It names the answer from now on.
    pub id: HttpId,
    /// The HTTP status; one with which a body may come.
    pub status: u16,
    /// The value of `Content-Type`, [`EVENTS`] for instance.
    pub content_type: &'static str,
}

/// The type of server-sent events (HTML, 9.2).
pub const EVENTS: &str = "text/event-stream";

/// An answer that was begun is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub id: HttpId,
    /// Why.
    pub why: Why,
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The machine has ended it, and the system has all that was said.
    Ended,
    /// The client has gone, or has asked for the head alone (`HEAD`).
    Client,
    /// The client did not take what was said as fast as it was said.
    Slow,
    /// There is no room for one more. The client was answered 503.
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_through_the_queues_of_a_machine_is_small() {
        assert!(size_of::<Command>() <= 48, "{}", size_of::<Command>());
        assert!(size_of::<Closed>() <= 16, "{}", size_of::<Closed>());
    }
}
