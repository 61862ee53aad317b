//! What is to happen, by time; at the same time, in the order in which it was said.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;
use hax_core::base::id::{CallId, MsgId};
use hax_core::consul::port;
use hax_core::ha::spiel;

use super::fault::Fault;
use crate::consul::Request;

/// A millisecond and a second of the world's time.
pub(super) const MS: u64 = 1_000;
pub(super) const S: u64 = 1_000_000;

/// One of the world's machines: a hax, a Motr process, or a stranger to whom nobody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Hax(usize),
    Motr(usize),
    Stranger,
}

/// Names a connection.
pub(super) type SocketId = usize;

/// A call on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) hax: usize,
    pub(super) life: u32,
    pub(super) call: CallId,
    pub(super) request: Request,
    pub(super) fault: Option<Fault>,
}

/// What happens. What concerns one life of a machine names that life.
#[derive(Debug)]
pub(super) enum Ev {
    Tick(Who),
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
    /// Motr's library has answered.
    Spiel(usize, u32, Box<spiel::Reply>),
    Consul,
    /// A watch's payload reaches hax. Whether the watch waits for the response.
    Post {
        hax: usize,
        path: &'static str,
        watch: Option<u64>,
        body: Bytes,
    },
    /// A watch gives up waiting for a response.
    Posted(u64),
    /// Whoever elects leaders looks.
    Elect,
    StartHax(usize),
    /// A process starts, for the last time or to be formatted first.
    Boot(usize),
    /// The next line of a process's part.
    Cue(usize, u32),
    /// A process acknowledges.
    Ack(usize, u32, MsgId),
    /// What Consul's agent finds when it looks at a process.
    Check(usize),
    Act,
    /// Consul has a leader again.
    Head,
    /// An agent and the servers find each other again.
    Reunite(usize),
}

#[derive(Debug)]
struct Entry {
    at: u64,
    seq: u64,
    ev: Ev,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives its greatest: the earliest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// All that is to happen.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    seq: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: u64, ev: Ev) {
        self.seq += 1;
        self.heap.push(Entry { at, seq: self.seq, ev });
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Ev)> {
        self.heap.pop().map(|entry| (entry.at, entry.ev))
    }
}
