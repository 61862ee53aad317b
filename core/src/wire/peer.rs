//! A process at the other end of a link, and whether it is there.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::io::{LinkView, Output};
use super::link::Link;
use super::params::{Cookie, LinkIds};
use super::rpc::Rpc;
use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::time::Instant;

/// Why a peer counts as away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    /// Its connections closed, or it refuses ours.
    Gone,
    /// It does not answer.
    Silent,
}

/// One link and the process at its other end.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) link: Link,
    pub(super) process: Fid,
    pub(super) addr: SocketAddr,
    /// The request that made the link.
    pub(super) entry: EntryId,
    /// The life of ours that the process knows.
    pub(super) cookie: Cookie,
    /// The link that this one goes on with, as it was named here.
    pub(super) resumed: Option<LinkIds>,
    pub(super) away: Option<Away>,
    /// It is to end when it has been told what it is owed.
    pub(super) ending: bool,
    pub(super) used: u64,
}

impl Peer {
    pub(super) fn view(&self, link: LinkId) -> LinkView {
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

    /// Sends what is to be sent. `clock` tells which peer was used last.
    pub(super) fn pump(&mut self, now: Instant, clock: u64, rpc: &mut Rpc, out: &mut Vec<Output>) {
        self.used = clock;
        if self.away != Some(Away::Gone) {
            self.link.pump(now, rpc, out);
        }
    }
}
