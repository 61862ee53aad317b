//! A process at the other end of a link, and whether it is there.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::time::Instant;
use crate::wire::codec::params::{Cookie, LinkIds};
use crate::wire::endpoint::io::{LinkView, Output};
use crate::wire::link::Link;
use crate::wire::rpc::Rpc;

/// Why a peer counts as away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// Its connections closed, or it refuses ours.
    Gone,
    /// It does not answer.
    Silent,
}

/// One link and the process at its other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) process: Fid,
    pub(crate) addr: SocketAddr,
    /// The request that made the link.
    pub(crate) entry: EntryId,
    /// The life of ours that the process knows.
    pub(crate) cookie: Cookie,
    /// The link that this one goes on with, as it was named here.
    pub(crate) resumed: Option<LinkIds>,
    pub(crate) away: Option<Away>,
    /// It is to end when it has been told what it is owed.
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

    /// Sends what is to be sent.
    pub(crate) fn pump(&mut self, now: Instant, rpc: &mut Rpc, out: &mut Vec<Output>) {
        if self.away != Some(Away::Gone) {
            self.link.pump(now, rpc, out);
        }
    }
}
