//! The Consul double: the servers and their agents as one pure machine with HTTP requests and responses.
//!
//! It behaves as Consul 1.8.7 does, as far as the bridge and its tests use it. The test `against_consul`
//! compares it with the real one. The servers share one state. An agent may be cut off from it, lag behind
//! it, or have no leader. The double differs on purpose in these points:
//!
//! * An agent's registrations and checks are in the catalog when its response is sent. The real one takes
//!   some milliseconds, and up to 3 s if it has just found its servers again.
//! * A blocking query waits exactly for its `wait`. The real one adds up to a sixteenth, also to the 7 s for
//!   which it looks for a leader.
//! * A blocking query is answered when its index passes. The real one checks the index only when the data of
//!   the query was touched. So its query for a missing key, a missing node or a state without checks
//!   sometimes misses a change elsewhere that moved its index.
//! * A leading server that is cut off loses the lead at once. The real one takes half a second to notice the
//!   cut. The writes of that time fail, though they may be in its log and be applied later.
//! * The others detect the death of a leader at once. For a second or two the servers of the real one refuse
//!   the requests that they would have to forward to the leader.
//! * An agent answers requests about itself at once. The real one delays all of them, TTL updates included,
//!   while it tries in vain to sync to the servers.
//!
//! ```
//! use hax_core::base::time::Now;
//! use hax_sim::consul::{Consul, Output, Request};
//!
//! let mut consul = Consul::new("ssu1");
//! let mut out = Vec::new();
//! let _ = consul.handle(Now::default(), Request::new(1, "PUT", "/v1/kv/a", "x"), &mut out);
//! let Some(Output::Response(response)) = out.pop() else { panic!("no response") };
//! assert_eq!((response.status, &response.body[..]), (200, &b"true"[..]));
//! ```

mod agent;
mod blocking;
mod catalog;
mod define;
mod delays;
mod http;
mod info;
mod inspect;
mod kv;
mod leader_access;
mod members;
mod read;
mod rows;
mod servers;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod txn;
mod view;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::base::timers::Timers;

use agent::Agent;
use blocking::BlockedQuery;
pub use delays::ELECTION;
pub use http::{AgentId, Request, RequestId, Response};
use http::{Answer, Target};
pub use inspect::{CheckView, KvView};
use leader_access::WaitingRequest;
use members::FormerName;
pub use servers::Snapshot;
use store::Store;
pub use token::Token;
use watch::Watcher;
pub use watch::{Post, Watch, WatchId};

/// The maximum size of a key's value, and of the body of a transaction, in bytes.
const MAX_BODY: usize = 512 * 1024;
/// The delay of a change of a check's output alone: half of `check_update_interval`. The real one adds a
/// random part.
const OUTPUT_DELAY: Duration = Duration::from_secs(150);

/// An output of the machine to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The response to a request.
    Response(Response),
    /// A request that waited for the leader, which its agent can reach now.
    ///
    /// The host has to pass it to [`Consul::handle`] again, at once. Its response comes from that call,
    /// unless its client has gone.
    Retry(Request),
    /// A watch fired. The host has to post this, and then to call [`Consul::on_post_done`].
    Post(Post),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The wait of a blocking query has expired.
    Wait(RequestId),
    /// The TTL of a session has expired.
    Session(u64),
    /// The TTL of a check has expired.
    Ttl(AgentId, u64),
    /// The output of a check has to be synced.
    Output(AgentId, u64),
    /// A watch has to be polled.
    Watch(WatchId),
    /// Tombstones have expired.
    Reap,
    /// Gossip detects that no agent uses a former name.
    FormerName(usize),
    /// Gossip detects that an agent is cut off.
    Disconnection(AgentId),
    /// A request has waited long enough for a reachable leader.
    LeaderWait(u64),
    /// The servers have elected a leader.
    Elected,
    /// The followers apply the latest log entries.
    Replicate,
    /// An agent compares itself with the catalog.
    FullSync(AgentId),
}

impl Timer {
    fn name(self) -> &'static str {
        match self {
            Self::Wait(_) => "blocking query",
            Self::Session(_) => "session ttl",
            Self::Ttl(..) => "check ttl",
            Self::Output(..) => "check output",
            Self::Watch(_) => "watch",
            Self::Reap => "tombstones",
            Self::FormerName(_) | Self::Disconnection(_) => "gossip",
            Self::LeaderWait(_) => "wait for the leader",
            Self::Elected => "election",
            Self::Replicate => "followers",
            Self::FullSync(_) => "anti-entropy",
        }
    }
}

/// The target and the body of a writing request.
struct Write<'a> {
    target: &'a Target,
    body: &'a Bytes,
}

/// A Consul cluster of one server, and its agents. The first agent is the server's own.
#[derive(Clone, Debug)]
pub struct Consul {
    store: Store,
    agents: Vec<Agent>,
    former_names: Vec<FormerName>,
    timers: Timers<Timer>,
    blocked: BTreeMap<RequestId, BlockedQuery>,
    watches: BTreeMap<WatchId, Watcher>,
    /// The requests that wait until the leader is reachable, in order of arrival.
    waiting: BTreeMap<u64, WaitingRequest>,
    /// The state of the followers, where it may differ from the state of the leader.
    follower_store: Option<Box<Store>>,
    lag: Duration,
    /// The ids of sessions by the number that identifies their timers.
    session_serials: BTreeMap<u64, String>,
    serial: u64,
    uuids: u64,
    leader: bool,
    leaderless_since: Instant,
    pretty: bool,
}

impl Consul {
    /// Creates a cluster of one node that has just elected its leader.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let mut consul = Self {
            // A real log begins with elections, configurations and similar entries, too.
            store: Store { index: 10, ..Store::default() },
            agents: Vec::new(),
            former_names: Vec::new(),
            timers: Timers::default(),
            blocked: BTreeMap::new(),
            watches: BTreeMap::new(),
            waiting: BTreeMap::new(),
            follower_store: None,
            lag: Duration::ZERO,
            session_serials: BTreeMap::new(),
            serial: 0,
            uuids: 0,
            leader: true,
            leaderless_since: Instant::default(),
            pretty: false,
        };
        let first = consul.join(node, "127.0.0.1", true);
        consul.make_leader(Some(first));
        consul
    }

    /// Makes the responses indented JSON, as those of a real agent in development mode are.
    #[must_use]
    pub fn pretty(mut self) -> Self {
        self.pretty = true;
        self
    }

    /// Makes the ids of sessions and agents come from another sequence.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.uuids = seed.wrapping_mul(1 << 32);
        self
    }

    /// Handles a request. Appends the response to it, if it is ready, and the responses that its effect
    /// releases.
    ///
    /// The timers that are due by `now` fire first.
    pub fn handle(&mut self, now: Now, request: Request, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if let Some(answer) = self.answer(&request) {
            out.push(Output::Response(answer.to(request.id)));
        }
        self.finish(out)
    }

    /// Fires the timers that are due by `now`.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.finish(out)
    }

    /// Forgets the client of a request: it gets no response.
    ///
    /// A write that waits, for instance for a reachable leader, may be executed nevertheless.
    pub fn cancel(&mut self, id: RequestId) {
        self.cancel_waiting(id);
        self.blocked.remove(&id);
        self.timers.disarm(Timer::Wait(id));
    }

    /// Adds a watch of an agent's configuration, which posts to `url`.
    ///
    /// The first post, with the present state, comes at once.
    pub fn add_watch(
        &mut self,
        now: Now,
        watch: &Watch,
        url: &str,
        out: &mut Vec<Output>,
    ) -> (WatchId, Next) {
        self.advance(now, out);
        self.serial += 1;
        let id = self.serial;
        self.watches.insert(id, Watcher::new(watch, url));
        self.timers.arm(Timer::Watch(id), now.mono);
        self.advance(now, out);
        (id, self.finish(out))
    }

    /// Reports that a post of a watch was answered or has failed. Before that the watch does not read again.
    pub fn on_post_done(&mut self, now: Now, id: WatchId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.busy = false;
        }
        self.finish(out)
    }

    /// Sets the result of a check that the agent runs itself (a script, a connection).
    pub fn set_check(
        &mut self,
        now: Now,
        agent: AgentId,
        id: &str,
        status: &str,
        output: &str,
        out: &mut Vec<Output>,
    ) -> Next {
        self.advance(now, out);
        self.set_local(agent, id, status, output);
        self.sync(agent);
        self.finish(out)
    }

    /// Returns the index of the last write.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.store.index
    }

    /// Returns the number of waiting blocking queries.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.blocked.len()
    }

    fn advance(&mut self, now: Now, out: &mut Vec<Output>) {
        self.store.now = self.store.now.max(now.mono);
        while let Some((at, _)) = self.timers.first().filter(|(at, _)| *at <= now.mono) {
            if let Some(timer) = self.timers.pop(at) {
                self.fire(timer, out);
                // The effects of one timer are released before the next one fires, in order of time.
                self.release(out);
            }
        }
    }

    fn fire(&mut self, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Wait(id) => self.answer_blocked(id, out),
            Timer::Session(serial) => self.expire_session(serial),
            Timer::Ttl(agent, serial) => self.expire_check(agent, serial),
            Timer::Output(agent, serial) => self.flush_output(agent, serial),
            Timer::Watch(id) => self.poll_watch(id, out),
            Timer::Reap => self.store.reap(),
            Timer::FormerName(former) => self.on_former_name_detected(former),
            Timer::Disconnection(agent) => self.on_disconnection_detected(agent),
            Timer::LeaderWait(serial) => self.refuse_waiting(serial, out),
            Timer::Elected => self.on_elected(out),
            Timer::Replicate => self.replicate(),
            Timer::FullSync(agent) => self.full_sync(agent),
        }
    }

    fn finish(&mut self, out: &mut Vec<Output>) -> Next {
        self.release(out);
        self.schedule_replication();
        if let Some(at) = self.store.next_reap() {
            self.timers.arm(Timer::Reap, at);
        }
        self.timers
            .first()
            .map_or(Next::Wait, |(at, timer)| Next::WaitUntil { at, why: timer.name() })
    }

    /// Appends the outputs that follow from the last change of the state.
    fn release(&mut self, out: &mut Vec<Output>) {
        self.update_session_timers();
        self.release_blocked(out);
        self.fire_watches(out);
    }

    /// Arms and disarms the timers of sessions according to the sessions.
    fn update_session_timers(&mut self) {
        for (id, alive) in std::mem::take(&mut self.store.session_changes) {
            if alive {
                self.serial += 1;
                self.session_serials.insert(self.serial, id.clone());
                self.arm_session(&id);
            } else if let Some(serial) = self.serial_of(&id) {
                self.session_serials.remove(&serial);
                self.timers.disarm(Timer::Session(serial));
            }
        }
    }

    fn serial_of(&self, session: &str) -> Option<u64> {
        let found = self.session_serials.iter().find(|(_, id)| *id == session);
        found.map(|(serial, _)| *serial)
    }

    fn arm_session(&mut self, id: &str) {
        let life = self.store.sessions.get(id).and_then(rows::Session::life);
        if let (Some(life), Some(serial)) = (life, self.serial_of(id)) {
            self.timers.arm(Timer::Session(serial), self.store.now.after(life));
        }
    }

    fn expire_session(&mut self, serial: u64) {
        if let Some(id) = self.session_serials.get(&serial).cloned() {
            if !self.leader {
                // Only a leader counts TTLs. A new leader begins from the start.
                self.arm_session(&id);
                return;
            }
            let index = self.store.next_index();
            self.store.destroy_session(index, &id);
        }
    }

    /// Generates a UUID that looks as random as a real one.
    fn mint_uuid(&mut self) -> String {
        self.uuids += 1;
        let (a, b) = (mix(self.uuids.wrapping_mul(2)), mix(self.uuids.wrapping_mul(2) + 1));
        let text = format!("{a:016x}{b:016x}");
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        parts.join("-")
    }
}

/// Mixes one word: the finaliser of splitmix64.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn too_large(size: usize, option: &str) -> Answer {
    Answer::text(
        413,
        format!(
            "Request body({size} bytes) too large, max size: {MAX_BODY} bytes. \
             See https://www.consul.io/docs/agent/options.html#{option}."
        ),
    )
}
