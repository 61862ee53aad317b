//! What the rpc layer tells the layers above it.

use core::net::SocketAddr;

use bytes::Bytes;

use crate::base::id::ConnId;
use crate::wire::codec::fop::Fop;
use crate::wire::codec::item::ItemHeader;
use crate::wire::rpc::client::ClientId;

/// A request and where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The connection on which it came.
    pub(crate) conn: ConnId,
    /// Where its sender listens.
    pub(crate) addr: SocketAddr,
    pub(crate) header: ItemHeader,
}

/// An event of the rpc layer.
#[derive(Debug)]
pub(crate) enum RpcEvent {
    /// A request, seen for the first time.
    Request { at: ReplyTo, fop: Fop },
    /// A request on a session that is not known here.
    UnknownSession { at: ReplyTo, fop: Fop },
    /// A message of a link that was answered before, and that answer.
    Repeated { at: ReplyTo, fop: Fop, reply: Bytes },
    /// A request that was answered so long ago that the answer is not kept.
    Forgotten { at: ReplyTo, fop: Fop },
    /// A client is open.
    Opened(ClientId),
    /// A client's request has its answer.
    Reply(ClientId, Fop),
    /// A client's request stays without one.
    Failed(ClientId),
    /// A client has ended.
    Ended(ClientId),
    /// The last connection from a peer has closed.
    PeerGone(SocketAddr),
    /// A peer cannot be connected to.
    ConnectRefused(SocketAddr),
    /// A connection to a peer is up.
    Connected(SocketAddr),
    /// A peer did what makes a real one abort.
    Violation(&'static str),
}
