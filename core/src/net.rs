//! TCP as the wire sees it: named connections that carry bytes. The host owns the sockets.

use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::base::id::ConnId;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected. `conn` is [`ConnId::accepted`].
    Accepted {
        /// Named by the host.
        conn: ConnId,
        /// The peer's address (of the connection, not the one at which it listens).
        peer: SocketAddr,
    },
    /// An own connection is established.
    Connected {
        /// The core's name of it.
        conn: ConnId,
    },
    /// Bytes arrived, in order.
    Received {
        /// Where.
        conn: ConnId,
        /// At least one.
        bytes: Bytes,
    },
    /// The operating system took over bytes that were to be written.
    Written {
        /// Where.
        conn: ConnId,
        /// How many.
        bytes: u32,
    },
    /// The peer closed, the connection broke or could not be made. Nothing follows for this name.
    Closed {
        /// Which.
        conn: ConnId,
    },
}

/// What is to be done with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connects. Answered by [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// [`ConnId::opened`].
        conn: ConnId,
        /// From this address, at any port: Motr closes a connection that does not come from the address
        /// which its frames name (`net/sock/sock.c:pk_header_done`).
        from: IpAddr,
        /// Where to.
        to: SocketAddr,
    },
    /// Writes the segments one after another. Bodies that go to many are shared, never copied, and so
    /// is what may be written again.
    Write {
        /// Where.
        conn: ConnId,
        /// What.
        segments: Arc<[Bytes]>,
    },
    /// Writes what is left, shuts down the writing side, reads to the end and closes: never with a
    /// reset, which can crash a real peer (`net/sock/sock.c:mover_op`). The host may cut it short
    /// after a few seconds, discarding what still comes. Answered by [`Event::Closed`], unless that
    /// was said before.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Has no patience any more with a connection that is being [closed](Command::Close): others need its
    /// room. Nothing if it is closed already.
    Cut {
        /// Which.
        conn: ConnId,
    },
}
