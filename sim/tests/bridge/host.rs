//! One node of the cluster: its bridge, the bridge's outputs, and the faults of its Consul.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, EntryId, LinkId, MsgId, SendId};
use hax_core::base::time::{Instant, Next};
use hax_core::bridge::Bridge;
use hax_core::bridge::config::Config;
use hax_core::consul::port::Method;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::fact::Fact;
use hax_core::ha::message::Body;
use hax_core::ha::motr::Command;
use hax_core::ha::note::Note;
use hax_core::ha::spiel::Call;
use hax_core::http::port::Response;
use hax_sim::consul::Token;

/// The maximum time until the next heartbeat of Consul's leader.
pub(crate) const LAG: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refuses,
    Fails,
    Hangs,
    /// There is no leader: a request that must not be stale waits for one until its caller gives up.
    Leaderless,
    /// There is no leader, and Consul refuses a request that must not be stale.
    Headless,
    /// The agent's server follows: a response that may be stale comes [`LAG`] after the leader's would.
    Follows,
    /// Consul executes the request, and its response is lost.
    Loses,
    /// A proxy removes the index from the responses, and a request that should block returns at once.
    NoIndex,
}

/// A call that waits for a response of Consul.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) node: usize,
    pub(crate) call: CallId,
    /// Any server may answer.
    pub(crate) stale: bool,
    pub(crate) target: String,
}

/// One node with its bridge.
pub(crate) struct Host {
    pub(crate) bridge: Bridge,
    pub(crate) next: Next,
    pub(crate) fault: Option<Fault>,
    /// The rights of the bridge's token.
    pub(crate) token: Token,
    /// The number of transactions that still get a response. None of the later ones does.
    pub(crate) transactions: Option<usize>,
    /// Messages are delivered at once.
    pub(crate) delivers: bool,
    pub(crate) replies: Vec<(EntryId, Result<Entrypoint, Errno>, Instant)>,
    pub(crate) acks: Vec<MsgId>,
    pub(crate) told: BTreeMap<LinkId, Vec<Note>>,
    pub(crate) sent: Vec<(LinkId, SendId, Body)>,
    pub(crate) responses: Vec<Response>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) targets: Vec<(Method, String)>,
    pub(crate) commands: Vec<Command>,
    /// The calls of Motr's library without a response.
    pub(crate) calls: VecDeque<Call>,
    pub(crate) asking: BTreeMap<EntryId, Fid>,
    pub(crate) links: BTreeMap<Fid, LinkId>,
    ids: u64,
    pub(crate) exited: bool,
}

impl Host {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            bridge: Bridge::new(config),
            next: Next::Wait,
            fault: None,
            token: Token::default(),
            transactions: None,
            delivers: true,
            replies: Vec::new(),
            acks: Vec::new(),
            told: BTreeMap::new(),
            sent: Vec::new(),
            responses: Vec::new(),
            facts: Vec::new(),
            targets: Vec::new(),
            commands: Vec::new(),
            calls: VecDeque::new(),
            asking: BTreeMap::new(),
            links: BTreeMap::new(),
            ids: 0,
            exited: false,
        }
    }

    pub(crate) fn mint(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}
