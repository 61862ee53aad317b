//! What happens in a world: to machines under test, to connections, to calls; and what the cast has added.

use bytes::Bytes;
use hax_core::base::id::CallId;
use hax_core::consul::port;
use hax_core::machine::Input;

use super::fault::Fault;
use crate::consul::Request;

/// A millisecond and a second of the world's time.
pub(crate) const MS: u64 = 1_000;
pub(crate) const S: u64 = 1_000_000;

/// Who is at one end of a connection: a machine under test, one of the cast that plays beside them, or a
/// stranger to whom nobody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A machine under test, by its number.
    Node(usize),
    /// Another one of the cast, by its number.
    Peer(usize),
    /// Nobody in particular.
    Stranger,
}

/// Names a connection.
pub(super) type SocketId = usize;

/// A call to Consul on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) node: usize,
    pub(super) life: u32,
    pub(super) call: CallId,
    pub(super) request: Request,
    pub(super) fault: Option<Fault>,
}

/// What happens. What concerns one life of a machine names that life. `E` is what the cast
/// has added.
pub(super) enum Ev<E> {
    /// The deadline of a machine under test is reached.
    Tick(usize),
    /// A frozen machine takes what came to it meanwhile.
    Thaw(usize, u32, Box<Input>),
    Start(usize),
    /// Something happens to the helpers of a host.
    Helpers(usize),
    /// The disk of a host does something.
    Disk(usize),
    /// A client of an answer that stays open does something.
    Streams(usize),
    /// A client over named pipes does something.
    Pipes(usize),
    /// A connection arrives where it was sent.
    Accept(SocketId),
    Connected(SocketId),
    Data(SocketId, Bytes),
    /// This end of a connection sees that it is over.
    Fin(SocketId, usize),
    Written(SocketId, u32),
    /// A call reaches Consul.
    Call(Box<Sent>),
    /// What came of a call reaches its caller.
    Reply(usize, u32, Box<port::Reply>),
    /// A call has taken too long.
    Overdue(usize, u32, CallId),
    Consul,
    /// Consul has a leader again.
    Head,
    /// A watch's payload reaches a machine. Whether the watch waits for the response.
    Post {
        node: usize,
        path: String,
        watch: Option<u64>,
        body: Bytes,
    },
    /// A watch gives up waiting for a response.
    Posted(u64),
    /// Something is done to the world.
    Act,
    /// What the cast has added.
    Own(E),
}
