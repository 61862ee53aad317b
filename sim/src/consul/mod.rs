//! The Consul double: the servers and their agents as one pure machine, HTTP in, HTTP out.
//!
//! It behaves as Consul 1.8.7 does, as far as the bridge and its tests use it; the test `against_consul`
//! holds it against the real one. Its servers are one state: agents are cut off from it, are behind it by a
//! moment, or find it without a leader. Where the two differ on purpose:
//!
//! * An agent's registrations and checks are in the catalog when its response is out; the real one
//!   takes some milliseconds, and up to 3 s where it has just found its servers again.
//! * A blocking query waits exactly as long as it was asked to; the real one adds up to a sixteenth. So it
//!   does with the 7 s for which a leader is looked for.
//! * A blocking query is answered when its index passes. The real one looks at the index only when
//!   what it read was touched, so that a query for a missing key, a missing node or a state that no
//!   check is in sometimes sleeps through a change elsewhere that moved its index.
//! * A server that led and is cut off has lost the lead at once; the real one takes half a second to notice,
//!   and fails what it is told meanwhile, though that may be in its log and be written later.
//! * A leader that has died is missed at once; for a second or two the others of the real one refuse what
//!   they would have to hand on to it.
//! * An agent answers for itself at once. The real one lets everybody wait, beats included, while it tries in
//!   vain to tell the servers what is new.
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
mod members;
mod read;
mod road;
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
use blocking::Parked;
pub use delays::ELECTION;
pub use http::{AgentId, Request, RequestId, Response};
use http::{Answer, Target};
pub use inspect::{CheckView, Held};
use members::Former;
use road::Held as OnTheRoad;
pub use servers::Snapshot;
use store::Store;
pub use token::Token;
use watch::Watcher;
pub use watch::{Post, Watch, WatchId};

/// The largest value of a key, and the largest body of a transaction.
const MAX_BODY: usize = 512 * 1024;
/// How long a change of a check's output alone waits: half of `check_update_interval`. The real one
/// adds a random part.
const OUTPUT_DELAY: Duration = Duration::from_secs(150);

/// What the machine gives to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The response to a request.
    Response(Response),
    /// A request that had to wait for a road to the servers' leader has one: the host is to hand it in again,
    /// at once. Its response comes of that, unless nobody waits for it any more.
    Again(Request),
    /// A watch fired: the host is to post this, and then to call [`Consul::posted`].
    Post(Post),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A blocking query has waited long enough.
    Wait(RequestId),
    /// A session was not renewed.
    Session(u64),
    /// A check was not refreshed.
    Ttl(AgentId, u64),
    /// A check's output is to be told.
    Output(AgentId, u64),
    /// A watch asks again.
    Watch(WatchId),
    /// Tombstones are old enough.
    Reap,
    /// Gossip finds that nobody answers to a name that an agent had.
    Former(usize),
    /// Gossip finds that an agent is cut off.
    Cut(AgentId),
    /// A request has waited long enough for a road to the leader.
    Held(u64),
    /// The servers have a leader.
    Elected,
    /// The followers hear what is new.
    CatchUp,
    /// An agent compares all that it has with the catalog.
    Compare(AgentId),
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
            Self::Former(_) | Self::Cut(_) => "gossip",
            Self::Held(_) => "road to the leader",
            Self::Elected => "election",
            Self::CatchUp => "followers",
            Self::Compare(_) => "anti-entropy",
        }
    }
}

/// A request that is not a question: what its handlers look at.
struct Write<'a> {
    target: &'a Target,
    body: &'a Bytes,
}

/// A Consul cluster of one server, and its agents. The first agent is the server's own.
#[derive(Clone, Debug)]
pub struct Consul {
    store: Store,
    agents: Vec<Agent>,
    /// The names that agents had.
    former: Vec<Former>,
    timers: Timers<Timer>,
    parked: BTreeMap<RequestId, Parked>,
    watches: BTreeMap<WatchId, Watcher>,
    /// Requests that wait for a road to the leader, in their order.
    held: BTreeMap<u64, OnTheRoad>,
    /// What the followers show, if that may be something else than what the leader shows.
    behind: Option<Box<Store>>,
    lag: Duration,
    /// Ids of sessions by the number that their timers have, and back.
    session_serials: BTreeMap<u64, String>,
    serial: u64,
    uuids: u64,
    leader: bool,
    headless_since: Instant,
    pretty: bool,
}

impl Consul {
    /// A cluster that has just elected its leader, on one node.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let mut consul = Self {
            // Elections, configurations and the like come first in a real log, too.
            store: Store { index: 10, ..Store::default() },
            agents: Vec::new(),
            former: Vec::new(),
            timers: Timers::default(),
            parked: BTreeMap::new(),
            watches: BTreeMap::new(),
            held: BTreeMap::new(),
            behind: None,
            lag: Duration::ZERO,
            session_serials: BTreeMap::new(),
            serial: 0,
            uuids: 0,
            leader: true,
            headless_since: Instant::default(),
            pretty: false,
        };
        let first = consul.join(node, "127.0.0.1", true);
        consul.seat_leader(Some(first));
        consul
    }

    /// Answers in indented JSON from now on, as a real agent in development mode does.
    #[must_use]
    pub fn pretty(mut self) -> Self {
        self.pretty = true;
        self
    }

    /// Mints the ids of sessions and agents from another sequence.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.uuids = seed.wrapping_mul(1 << 32);
        self
    }

    /// Takes a request; appends the responses that are ready: its own, and those that its effect
    /// releases. What was due by `now` comes first.
    pub fn handle(&mut self, now: Now, request: Request, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if let Some(answer) = self.answer(&request) {
            out.push(Output::Response(answer.to(request.id)));
        }
        self.settle(out)
    }

    /// Does what is due by `now`.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.settle(out)
    }

    /// The client of a request hung up: it will get no response. What it asked to be written and what waits
    /// for a road may be written nevertheless.
    pub fn forget(&mut self, id: RequestId) {
        self.forget_held(id);
        self.parked.remove(&id);
        self.timers.disarm(Timer::Wait(id));
    }

    /// A watch, as an agent's configuration has it, that posts to `url`. Its first post, with what
    /// there is, comes at once.
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
        (id, self.settle(out))
    }

    /// The post of a watch was answered, or failed: until now the watch has looked at nothing new.
    pub fn posted(&mut self, now: Now, id: WatchId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.busy = false;
        }
        self.settle(out)
    }

    /// What came of running a check that an agent runs itself (a script, a connection).
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
        self.settle(out)
    }

    /// The index of the last write.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.store.index
    }

    /// How many blocking queries wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.parked.len()
    }

    fn advance(&mut self, now: Now, out: &mut Vec<Output>) {
        self.store.now = self.store.now.max(now.mono);
        while let Some((at, _)) = self.timers.first().filter(|(at, _)| *at <= now.mono) {
            if let Some(timer) = self.timers.pop(at) {
                self.fire(timer, out);
                // What one timer changes is seen before the next one, as it was in time.
                self.release(out);
            }
        }
    }

    fn fire(&mut self, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Wait(id) => self.give_up(id, out),
            Timer::Session(serial) => self.expire_session(serial),
            Timer::Ttl(agent, serial) => self.expire_check(agent, serial),
            Timer::Output(agent, serial) => self.flush_output(agent, serial),
            Timer::Watch(id) => self.poll_watch(id, out),
            Timer::Reap => self.store.reap(),
            Timer::Former(former) => self.miss(former),
            Timer::Cut(agent) => self.find_cut(agent),
            Timer::Held(serial) => self.refuse_held(serial, out),
            Timer::Elected => self.elected(out),
            Timer::CatchUp => self.catch_up(),
            Timer::Compare(agent) => self.compare_all(agent),
        }
    }

    fn settle(&mut self, out: &mut Vec<Output>) -> Next {
        self.release(out);
        self.follow();
        if let Some(at) = self.store.next_reap() {
            self.timers.arm(Timer::Reap, at);
        }
        self.timers
            .first()
            .map_or(Next::Wait, |(at, timer)| Next::WaitUntil { at, why: timer.name() })
    }

    /// Gives the host what the last change of the state leads to.
    fn release(&mut self, out: &mut Vec<Output>) {
        self.follow_sessions();
        self.release_parked(out);
        self.fire_watches(out);
    }

    /// Keeps the timers of sessions in step with the sessions.
    fn follow_sessions(&mut self) {
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
                // Only a leader counts; a new one begins from the start.
                self.arm_session(&id);
                return;
            }
            let index = self.store.next_index();
            self.store.destroy_session(index, &id);
        }
    }

    /// A UUID that looks as random as a real one.
    fn mint_uuid(&mut self) -> String {
        self.uuids += 1;
        let (a, b) = (mix(self.uuids.wrapping_mul(2)), mix(self.uuids.wrapping_mul(2) + 1));
        let text = format!("{a:016x}{b:016x}");
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        parts.join("-")
    }
}

/// The finaliser of splitmix64: one word in, one well-mixed word out.
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
