//! The events of the rpc layer for the layers above it.

use core::net::SocketAddr;

use bytes::Bytes;

use crate::base::id::ConnId;
use crate::wire::codec::fop::Fop;
use crate::wire::codec::item::ItemHeader;
use crate::wire::rpc::client::ClientId;

/// The address and header for the reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestOrigin {
    /// The connection of the request.
    pub(crate) conn: ConnId,
    /// The listening address of the sender.
    pub(crate) addr: SocketAddr,
    pub(crate) header: ItemHeader,
}

/// An event of the rpc layer.
#[derive(Debug)]
pub(crate) enum RpcEvent {
    /// A new request.
    Request { origin: RequestOrigin, fop: Fop },
    /// A request on an unknown session.
    UnknownSession { origin: RequestOrigin, fop: Fop },
    /// A previously answered message of a link, and that reply.
    Repeated { origin: RequestOrigin, fop: Fop, reply: Bytes },
    /// A request answered so long ago that the reply is not kept any more.
    Forgotten { origin: RequestOrigin, fop: Fop },
    /// A client is open.
    Opened(ClientId),
    /// A reply to a client's request.
    Reply(ClientId, Fop),
    /// A client's request got no reply.
    Failed(ClientId),
    /// A client has ended.
    Ended(ClientId),
    /// The last connection from a peer has closed.
    PeerGone(SocketAddr),
    /// A peer refused a connection.
    ConnectFailed(SocketAddr),
    /// A connection to a peer is open.
    Connected(SocketAddr),
    /// A peer broke the protocol. A real peer would abort.
    Violation(&'static str),
}
