//! A process at the other end of a link, and its reachability.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::time::Instant;
use crate::wire::codec::params::{Cookie, LinkIds};
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
}

/// One link and the process at its other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) process: Fid,
    pub(crate) addr: SocketAddr,
    /// The request for the link.
    pub(crate) entry: EntryId,
    /// Our cookie, as known to the process.
    pub(crate) cookie: Cookie,
    /// The link continued by this one, with its ids from our point of view.
    pub(crate) resumed: Option<LinkIds>,
    pub(crate) away: Option<Away>,
    /// The link ends when its pending messages are sent.
    pub(crate) ending: bool,
    /// Which use of a link was its last, of all that there were.
    pub(crate) used: u64,
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
