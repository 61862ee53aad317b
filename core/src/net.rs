//! TCP as seen by the wire: connections with ids that carry bytes. The host owns the sockets.

use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::base::id::ConnId;

/// An event of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected. `conn` is [`ConnId::accepted`].
    Accepted {
        /// The id assigned by the host.
        conn: ConnId,
        /// The peer's address of the connection, as opposed to its listening address.
        peer: SocketAddr,
    },
    /// A connection opened by the core is established.
    Connected {
        /// The id assigned by the core.
        conn: ConnId,
    },
    /// Bytes arrived, in order.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes, at least one.
        bytes: Bytes,
    },
    /// The operating system accepted bytes to be written.
    Written {
        /// The connection.
        conn: ConnId,
        /// The number of bytes.
        bytes: u32,
    },
    /// The peer closed the connection, or it broke or could not be opened. No event with this id follows.
    Closed {
        /// The connection.
        conn: ConnId,
    },
}

/// A command for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens a connection. The host reports [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// The id, [`ConnId::opened`].
        conn: ConnId,
        /// The local address, with any port. Motr closes a connection that does not come from the address in
        /// its frames (`net/sock/sock.c:pk_header_done`).
        from: IpAddr,
        /// The remote address.
        to: SocketAddr,
    },
    /// Writes the segments one after another. Segments for several connections, or that may be written again,
    /// are shared and never copied.
    Write {
        /// The connection.
        conn: ConnId,
        /// The segments.
        segments: Arc<[Bytes]>,
    },
    /// Closes a connection without a reset. A reset can crash a real peer (`net/sock/sock.c:mover_op`).
    ///
    /// The host writes the remaining bytes, shuts down the writing side, reads to the end and closes. It may
    /// stop after a few seconds and discard the bytes that still arrive. It reports [`Event::Closed`], unless
    /// it has done so before.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Cuts short the [closing](Command::Close) of a connection, because others need its resources. No effect
    /// if it is closed already.
    Cut {
        /// The connection.
        conn: ConnId,
    },
}
