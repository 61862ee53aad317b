//! The inputs, outputs and view of the endpoint.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::base::fid::Fid;
use crate::base::id::LinkId;
use crate::ha::fact::Fact;
use crate::ha::motr;
use crate::net;
use crate::state::Slots;
use crate::wire::codec::params::Tags;
use crate::wire::conns::Out;
use crate::wire::name::Name;

/// The configuration of the endpoint. The limits bound the resources that peers can use.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our address for peers. It must be a concrete one, since every frame contains it.
    pub listen: SocketAddr,
    /// The name of our endpoint as configured.
    pub name: Box<str>,
    /// The wall clock in nanoseconds at the start. No two lives have the same value, so an id of an earlier
    /// life is invalid in a later one.
    pub generation: u64,
    /// The seed of jitter.
    pub seed: u64,
    /// Whether unconfigured processes are refused as soon as the configuration is known
    /// ([`motr::Command::Peers`]).
    pub known_only: bool,
    /// The maximum number of links. Beyond it the oldest dormant link is ended.
    pub links_max: usize,
    /// The maximum number of TCP connections in each direction.
    pub conns_max: usize,
    /// The maximum number of rpc connections opened by peers. Nobody closes the connections of dead peers, so
    /// the least recently used ones are dropped.
    pub rpc_conns_max: usize,
    /// The maximum number of unacknowledged messages received on one link.
    pub unacked_max: usize,
    /// The maximum number of messages waiting for one link.
    pub queue_max: usize,
    /// The maximum number of waiting entrypoint requests.
    pub entries_max: usize,
    /// The maximum of unread bytes of one peer.
    pub backlog_bytes_max: usize,
    /// The maximum of bytes of replies kept for repeated requests.
    pub reply_bytes_max: usize,
    /// How links outlive this life; `None` if they do not.
    pub keeping: Option<Keeping>,
}

/// Links that outlive hax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// The id of the node's boot. What was kept before a reboot is of no use.
    pub boot: u128,
    /// The fid of our own process.
    pub process: Fid,
    /// Whether a stop ends the links all the same: no other life follows.
    pub ends_links: bool,
    /// The states that the last life left behind.
    pub slots: Slots,
}

impl Config {
    /// Returns a configuration with the default limits.
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
            keeping: None,
        }
    }
}

/// One input of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline returned last has been reached.
    Tick,
    /// An event of a TCP connection.
    Net(net::Event),
    /// A command of the bridge.
    Motr(motr::Command),
}

/// One output of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A command for a TCP connection.
    Net(net::Command),
    /// An event for the bridge.
    Motr(motr::Event),
    /// A fact to log and count.
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
    /// The end of the pause after a failed 207.
    Pause(LinkId),
    /// The next check whether a peer is back.
    Probe(LinkId),
    /// The end of the time for which a message that the last life may not have kept is waited for.
    Doubt(LinkId),
    /// The time limit of a stopping endpoint's pending messages.
    LinkDrain,
    /// The end of the stop.
    Exit,
}

/// The stage of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// Links are being ended.
    Links,
    /// TCP connections are being closed.
    Conns,
    Done,
}

/// The state of an endpoint, for gauges and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All links, the oldest first.
    pub links: Vec<LinkView>,
    /// The number of TCP connections.
    pub conns: usize,
    /// The number of rpc connections opened by peers.
    pub rpc_conns: usize,
    /// The number of waiting entrypoint requests.
    pub entries: usize,
}

/// The state of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The id of the link.
    pub link: LinkId,
    /// The process at its other end.
    pub process: Fid,
    /// The listening address of the process.
    pub addr: SocketAddr,
    /// Whether the process is reachable.
    pub up: bool,
    /// The number of undelivered messages to the process.
    pub queued: usize,
    /// The number of unacknowledged messages from the process.
    pub unacked: usize,
    /// The tags of our out queue.
    pub tags_out: Tags,
    /// The tags of our in queue.
    pub tags_in: Tags,
}
