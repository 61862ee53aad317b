//! The events of a world: events of the machines under test, of connections, of calls, and of the cast.

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::consul::port;
use hax_core::machine::Input;

use super::fault::Fault;
use crate::consul::Request;

/// A millisecond and a second of virtual time, in µs.
pub(crate) const MS: u64 = 1_000;
pub(crate) const S: u64 = 1_000_000;

/// The party at one end of a connection: a machine under test, another member of the cast, or a raw client
/// without a listening address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A machine under test, by its number.
    Node(usize),
    /// Another member of the cast, by its number.
    Peer(usize),
    /// An unknown party.
    RawClient,
}

/// The identifier of a connection.
pub(super) type ConnectionId = usize;

/// A call to Consul in transit.
#[derive(Debug)]
pub(super) struct SentCall {
    pub(super) node: usize,
    pub(super) life: u32,
    pub(super) call: CallId,
    pub(super) request: Request,
    pub(super) fault: Option<Fault>,
}

/// An event. An event for one life of a machine names that life. `E` is the event type of the cast.
pub(super) enum Ev<E> {
    /// The deadline of a machine under test is reached.
    Tick(usize),
    /// A frozen machine takes a delayed input.
    Thaw(usize, u32, Box<Input>),
    Start(usize),
    /// An event of a host's helpers is due.
    Helpers(usize),
    /// An event of a host's disk is due.
    Disk(usize),
    /// An event of a streaming response is due.
    Streams(usize),
    /// An event of the clients over named pipes is due.
    Pipes(usize),
    /// A connection arrives at its destination.
    Accept(ConnectionId),
    Connected(ConnectionId),
    Data(ConnectionId, Bytes),
    /// This end of a connection sees its end.
    Fin(ConnectionId, usize),
    Written(ConnectionId, u32),
    /// A call reaches Consul.
    Call(Box<SentCall>),
    /// The result of a call reaches its caller.
    Reply(usize, u32, Box<port::Reply>),
    /// A call exceeds its time limit.
    CallTimeout(usize, u32, CallId),
    ConsulTick,
    /// Consul has a leader again.
    RestoreLeader,
    /// A watch's payload reaches a machine. It names the watch, if the watch waits for the response.
    Post {
        node: usize,
        path: String,
        watch: Option<u64>,
        body: Bytes,
    },
    /// A watch stops waiting for a response.
    PostDone(u64),
    /// An act on the world is due.
    Act,
    /// An event of the cast.
    Cast(E),
}
