//! Responses that stay open: server-sent events and other responses that are sent piece by piece.
//!
//! A machine answers a request with [`Command::Begin`] in the place of a [`Response`](super::port::Response).
//! It then sends [`Chunk`](Command::Chunk)s and possibly an [`End`](Command::End). It gets exactly one
//! [`Closed`] for each response that was begun, whichever side ended it, unless it has exited by then. When
//! its machine exits, a host ends the responses that are still open, after the bytes that were queued for
//! them.
//!
//! The head is sent at once, and so is each chunk. The borders of chunks have no meaning to a client. The
//! host does not wait for a client: it holds the bytes that the client has not taken yet. A client with more
//! than [`HELD_MAX`] held bytes is too slow and is disconnected. Commands for a closed response are ignored,
//! since the machine may not know of the end yet.

use bytes::Bytes;

use crate::base::id::HttpId;

/// The maximum of the bytes held for one client, with [`CHUNK_COST`] added for each chunk. A longer chunk
/// closes its response.
pub const HELD_MAX: usize = 256 << 10;

/// The cost of a chunk besides its bytes, so that many small chunks are bounded too.
pub const CHUNK_COST: usize = 64;

/// A command for an open response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins a response. The host delivers exactly one [`Closed`] for it.
    Begin(Begin),
    /// Sends more bytes. An empty chunk has no effect.
    Chunk {
        /// The id of the response.
        id: HttpId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Ends a response after its client has taken all earlier bytes.
    End {
        /// The id of the response.
        id: HttpId,
    },
}

impl Command {
    /// Returns the id of the response.
    #[must_use]
    pub fn id(&self) -> HttpId {
        match self {
            Self::Begin(Begin { id, .. }) | Self::Chunk { id, .. } | Self::End { id } => *id,
        }
    }
}

/// The head of an open response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The id of the request. It becomes the id of the response.
    pub id: HttpId,
    /// The HTTP status; it must permit a body.
    pub status: u16,
    /// The value of `Content-Type`, for instance [`EVENTS`].
    pub content_type: &'static str,
}

/// The media type of server-sent events (HTML, 9.2).
pub const EVENTS: &str = "text/event-stream";

/// The end of an open response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The id of the response.
    pub id: HttpId,
    /// The reason.
    pub why: Why,
}

/// The reason of a response's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The machine has ended the response, and the operating system has all its bytes.
    Ended,
    /// The client has disconnected, or has requested only the head (`HEAD`).
    Client,
    /// The client was too slow for the rate of the bytes.
    Slow,
    /// The limit of open responses is reached. The client was answered with 503.
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
