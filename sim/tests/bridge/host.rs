//! One node of the cluster: its bridge, what it has put out, and what its Consul does to it.

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

/// A heartbeat of Consul's leader, at most.
pub(crate) const LAG: Duration = Duration::from_millis(100);

/// What a Consul that is not well does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refuses,
    Fails,
    Hangs,
    /// Has no leader: what must not be stale waits for one until its caller gives up.
    Leaderless,
    /// Has no leader and says so of what must not be stale.
    Headless,
    /// Is one server of several: it answers what may be stale [`LAG`] after its leader would.
    Follows,
    /// Does what it is asked and says nothing.
    Loses,
    /// Something in between takes the index out of its answers, and what should wait comes at once.
    NoIndex,
}

/// Who waits for a response of Consul.
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
    /// What its Consul lets it do.
    pub(crate) token: Token,
    /// So many transactions are answered yet, and then none.
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
    /// What Motr's library was asked and has not answered.
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
