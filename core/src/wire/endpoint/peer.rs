//! A process at the other end of a link, and its reachability.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::time::Instant;
use crate::ha::note::Note;
use crate::wire::codec::params::Cookie;
use crate::wire::endpoint::io::{LinkView, Output};
use crate::wire::link::Link;
use crate::wire::rpc::Rpc;

/// The reason why a peer is considered unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// The peer has closed its connections, or refuses ours.
    Gone,
    /// The peer does not respond.
    Silent,
    /// The link was taken over from the last life, and nothing is known of the peer yet.
    Untried,
}

/// One link and the process at its other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) process: Fid,
    pub(crate) addr: SocketAddr,
    /// The request for the link.
    pub(crate) entry: EntryId,
    /// Our cookie. The process knows it once it has the reply to its request for the link.
    pub(crate) cookie: Cookie,
    /// Whether the link continues an earlier one.
    pub(crate) resumed: bool,
    pub(crate) away: Option<Away>,
    /// The link ends when its pending messages are sent.
    pub(crate) ending: bool,
    /// Which use of a link was its last, of all that there were.
    pub(crate) used: u64,
    /// The place of its state for the next life, if states are kept.
    pub(crate) slot: Option<u32>,
    /// The notes that the bridge owes to the link and has not sent.
    pub(crate) owed: Vec<Note>,
    /// The number of refusals since the link was taken over.
    pub(crate) refusals: u8,
    /// The number of answers in a row without a message that the process has sent before.
    pub(crate) doubts: u8,
}

impl Peer {
    pub(crate) fn view(&self, link: LinkId) -> LinkView {
        LinkView {
            link,
            process: self.process,
            addr: self.addr,
            up: self.away.is_none(),
            queued: self.link.sent.len(),
            unacked: self.link.received.held(),
            tags_out: self.link.sent.tags(),
            tags_in: self.link.received.tags(),
        }
    }

    /// Sends the next 207 if there is one.
    pub(crate) fn pump(&mut self, now: Instant, rpc: &mut Rpc, out: &mut Vec<Output>) {
        if self.away != Some(Away::Gone) {
            self.link.pump(now, rpc, out);
        }
    }
}
