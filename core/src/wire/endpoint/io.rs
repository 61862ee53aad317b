//! What the endpoint takes and gives, and what is to be seen of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::LinkId;
use crate::ha::fact::Fact;
use crate::ha::motr;
use crate::net;
use crate::wire::codec::params::Tags;
use crate::wire::conns::Out;
use crate::wire::name::Name;

/// How the endpoint behaves. Limits are on what peers can make it keep.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address at which peers find us: a concrete one, it stands in every frame.
    pub listen: SocketAddr,
    /// Our endpoint's name, as it was given.
    pub name: Box<str>,
    /// Nanoseconds of the wall clock at the start: no two lives have the same one, and so no id of
    /// an earlier life means anything in a later one.
    pub generation: u64,
    /// For jitter.
    pub seed: u64,
    /// Whether processes that the configuration does not know are refused, as soon as it is known
    /// ([`motr::Command::Peers`]).
    pub known_only: bool,
    /// Links. Beyond it the oldest dormant one makes room.
    pub links_max: usize,
    /// TCP connections in each direction.
    pub conns_max: usize,
    /// Rpc connections that peers have opened. Dead ones are never taken down by anybody, so the
    /// ones not used for longest make room.
    pub rpc_conns_max: usize,
    /// Messages of one link received and not acknowledged.
    pub unacked_max: usize,
    /// Messages that wait for one link.
    pub queue_max: usize,
    /// Entrypoint requests that wait for their reply.
    pub entries_max: usize,
    /// Bytes that one peer does not read.
    pub backlog_bytes_max: usize,
    /// Bytes of replies kept for requests that come again.
    pub reply_bytes_max: usize,
}

impl Config {
    /// The usual limits.
    #[must_use]
    pub fn new(listen: SocketAddr, generation: u64, seed: u64) -> Self {
        Self {
            listen,
            name: format!("{}", Name(listen)).into(),
            generation,
            seed,
            known_only: true,
            links_max: 1024,
            conns_max: 2048,
            rpc_conns_max: 4096,
            unacked_max: 256,
            queue_max: 4096,
            entries_max: 16_384,
            backlog_bytes_max: 4 << 20,
            reply_bytes_max: 16 << 20,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection.
    Net(net::Event),
    /// The bridge wants something.
    Motr(motr::Command),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// With a TCP connection.
    Net(net::Command),
    /// To tell the bridge.
    Motr(motr::Event),
    /// To log and count.
    Fact(Fact),
}

impl Out for Vec<Output> {
    fn net(&mut self, command: net::Command) {
        self.push(Output::Net(command));
    }

    fn fact(&mut self, fact: Fact) {
        self.push(Output::Fact(fact));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The pause after a failed 207 ends.
    Pause(LinkId),
    /// It is time to look whether a peer is there again.
    Probe(LinkId),
    /// What is being stopped has had time enough to be told what it is owed.
    Drain,
    /// The stop ends.
    Exit,
}

/// How far the stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// Links are being ended.
    Links,
    /// TCP connections are being closed.
    Conns,
    Done,
}

/// What an endpoint holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All links, the oldest first.
    pub links: Vec<LinkView>,
    /// TCP connections.
    pub conns: usize,
    /// Rpc connections that peers have opened.
    pub rpc_conns: usize,
    /// Entrypoint requests that wait for their reply.
    pub entries: usize,
}

/// What is to be seen of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Its name.
    pub link: LinkId,
    /// Who is at its other end.
    pub process: Fid,
    /// Where that listens.
    pub addr: SocketAddr,
    /// Whether that is there.
    pub up: bool,
    /// Messages that it has not taken in yet.
    pub queued: usize,
    /// Messages from it that are not acknowledged.
    pub unacked: usize,
    /// Our out queue.
    pub tags_out: Tags,
    /// Our in queue.
    pub tags_in: Tags,
}
