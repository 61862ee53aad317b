//! The election of the leader (`hax.md` 1.6, D39).
//!
//! The leader is the one hax that writes for dead nodes. Its confd is the principal resource manager's.
//!
//! The lock is the key `leader`. Its value is the node's name, as the old scripts write it. The session that
//! holds the lock depends on the node's own check and on a check of ours with a short TTL, so a hax that is
//! gone or stuck loses the lock within about a second. hax considers itself the leader for the TTL after the
//! last heartbeat was sent, less a margin. An agent that is cut off from its servers accepts our heartbeats
//! while the servers give the lock away, so every write of the leader contains the lock's check.

pub(crate) mod lock;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::base::fid::Fid;
use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, ElectionCall, Timer};
use crate::cluster::Cluster;
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::ha::note::ObjectState;
use crate::store::session::{self, Session};
use crate::store::watch::Watch;
use lock::{LockEntry, SERVICE, is_unowned};

/// The key of the lock.
const KEY: &str = "leader";
/// The TTL of our check: Consul fails the check after this time without a heartbeat.
const TTL: Duration = Duration::from_secs(1);
/// The safety margin: hax stops to consider itself the leader earlier than Consul by this time.
const MARGIN: Duration = Duration::from_millis(200);
/// The delay of the next try for a refused lock. Consul withholds a lock for the same time after its holder
/// was lost.
const LOCK_DELAY: Duration = Duration::from_millis(200);
/// The grace period of a new leader without a healthy confd of its own.
const CONFD_GRACE: Duration = Duration::from_secs(10);
/// The delay of a node with an unhealthy confd before it takes a free lock.
const YIELD_FOR: Duration = Duration::from_secs(5);
/// The grace period of a value left behind by a script.
const UNOWNED_GRACE: Duration = Duration::from_secs(5);
/// The interval of a leader's queries for a node to yield to, while its confd is unhealthy.
const LOOK_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Leader {
    on: bool,
    is_candidate: bool,
    session: Session,
    lock: Lock,
    /// The content of the key, as seen last.
    seen: Option<LockEntry>,
    watch: Watch,
    backoff: Backoff,
    /// Our own confd has been online since this node became a candidate.
    confd_seen: bool,
    /// This node may lead: our confd is healthy, or no other node's is.
    eligible: bool,
    ineligible_since: Option<Instant>,
    /// The hosts of all candidates, while the query for them is used.
    candidates: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Creating,
    /// The lock is being acquired or confirmed.
    Acquiring {
        session: Box<str>,
        held: bool,
    },
    /// Another node holds the lock.
    Waiting(Box<str>),
    Holding(Box<str>),
}

impl Leader {
    pub(crate) fn new(on: bool) -> Self {
        let session = session::Config {
            check: SERVICE.into(),
            title: "hax stands for election".into(),
            ttl: TTL,
            lock_delay: LOCK_DELAY,
        };
        Self {
            on,
            is_candidate: false,
            session: Session::new(session),
            lock: Lock::None,
            seen: None,
            // A stale query, as the watches of tables: a server that has lost its own leader would not report
            // a free lock otherwise.
            watch: Watch::new(url::key(KEY) + "?stale"),
            backoff: Backoff::default(),
            confd_seen: false,
            eligible: true,
            ineligible_since: None,
            candidates: Vec::new(),
        }
    }

    pub(crate) fn is_candidate(&self) -> bool {
        self.is_candidate
    }

    /// Returns the value and the session of the lock, if the lock was held when it was seen last.
    pub(crate) fn holder(&self) -> Option<(&str, &str)> {
        let seen = self.seen.as_ref().filter(|_| self.is_candidate)?;
        Some((&seen.value, seen.session.as_deref()?))
    }

    /// Returns whether this node leaves the lock to others, because their confd is healthy and ours is not.
    pub(crate) fn yields(&self) -> bool {
        self.is_candidate && !self.eligible
    }

    /// Returns the session of the lock held by this node now; `None` while that is not certain.
    pub(crate) fn session(&self, now: Instant) -> Option<&str> {
        let certain = self.session.last_beat().is_some_and(|sent| now < sent.after(TTL - MARGIN));
        if let Lock::Holding(session) = &self.lock
            && certain
        {
            return Some(session);
        }
        None
    }

    /// Returns whether this node holds the lock, as far as it knows.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.lock, Lock::Holding(_) | Lock::Acquiring { held: true, .. })
    }

    /// Becomes or ceases to be a candidate, depending on the cluster.
    pub(crate) fn consider(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) {
        if !self.on {
            return;
        }
        let confds = cluster.conf().confds();
        if !confds.iter().any(|confd| cluster.is_local(*confd)) {
            return self.resign(cx, "no confd is configured here any more");
        }
        if !self.is_candidate {
            self.is_candidate = true;
            self.confd_seen = false;
            cx.fact(Fact::LeaderStands {});
            self.heartbeat(cx);
            self.watch(cx);
        }
        let fit = self.is_eligible(cx, cluster);
        let was = core::mem::replace(&mut self.eligible, fit);
        let standing = core::mem::take(&mut self.candidates);
        match self.lock.clone() {
            Lock::Holding(session) if !fit => {
                let mut well = online_confds(cluster).filter_map(|c| cluster.conf().host_of(c));
                if was || well.any(|host| standing.iter().any(|other| **other == *host)) {
                    return self.yield_lock(cx, session);
                }
                let at = cx.now().mono.after(LOOK_EVERY);
                cx.arm_no_later(Timer::Candidates, at);
            }
            Lock::Waiting(session) if fit && !was && self.is_free() => {
                self.acquire(cx, session, false);
            }
            Lock::None
            | Lock::Creating
            | Lock::Acquiring { .. }
            | Lock::Waiting(_)
            | Lock::Holding(_) => {}
        }
    }

    /// Releases the lock in favour of a node with a healthy confd. If no node takes it, this node tries
    /// again.
    fn yield_lock(&mut self, cx: &mut Cx<'_>, session: Box<str>) {
        release(cx, &session);
        self.lock = Lock::Waiting(session);
        self.seen = None;
        cx.arm(Timer::Acquire, YIELD_FOR);
        cx.fact(Fact::LeaderLeft { why: "our confd is not well, and another one is" });
    }

    /// Queries the candidates again, if nobody took the free lock or this node acquired it again.
    pub(crate) fn look_for_others(&self, cx: &mut Cx<'_>) {
        if self.holds() && !self.eligible {
            cx.get(Continuation::Leader(ElectionCall::Others), url::passing(SERVICE));
        }
    }

    /// Returns whether this node may lead.
    ///
    /// A node with a confd may lead. While some confd is healthy, the leader must be on the node of a healthy
    /// confd, since it is the principal resource manager's. At a cold start no confd is healthy, and the
    /// confds wait for a leader.
    fn is_eligible(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) -> bool {
        if online_confds(cluster).any(|confd| cluster.is_local(confd)) {
            self.confd_seen = true;
            self.ineligible_since = None;
            return true;
        }
        if online_confds(cluster).next().is_none() {
            self.ineligible_since = None;
            return true;
        }
        if self.confd_seen {
            return false;
        }
        let since = *self.ineligible_since.get_or_insert_with(|| cx.now().mono);
        let until = since.after(CONFD_GRACE);
        if cx.now().mono < until {
            cx.arm_at(Timer::ConfdGrace, until);
        }
        cx.now().mono < until
    }

    /// Releases the lock and ceases to be a candidate.
    pub(crate) fn resign(&mut self, cx: &mut Cx<'_>, why: &'static str) {
        if !self.is_candidate {
            return;
        }
        self.is_candidate = false;
        self.ineligible_since = None;
        self.candidates.clear();
        let timers = [
            Timer::Heartbeat,
            Timer::Acquire,
            Timer::Unowned,
            Timer::ConfdGrace,
            Timer::Candidates,
        ];
        for timer in timers {
            cx.disarm(timer);
        }
        cx.cancel_where(
            |job| matches!(job, Continuation::Leader(part) if part != ElectionCall::RESIGN),
        );
        self.watch.cancelled();
        let lock = core::mem::replace(&mut self.lock, Lock::None);
        if let Lock::Acquiring { session, .. } | Lock::Waiting(session) | Lock::Holding(session) =
            &lock
        {
            release(cx, session);
            destroy(cx, session);
        }
        self.session.leave(cx, of);
        if matches!(lock, Lock::Holding(_)) {
            cx.fact(Fact::LeaderLeft { why });
        }
    }

    /// Sends a heartbeat.
    pub(crate) fn heartbeat(&mut self, cx: &mut Cx<'_>) {
        cx.arm(Timer::Heartbeat, self.session.pause());
        self.session.beat(cx, of);
    }

    /// Tries to acquire the lock again.
    pub(crate) fn try_again(&mut self, cx: &mut Cx<'_>) {
        match self.lock.clone() {
            Lock::None if self.session.is_registered() => self.create(cx),
            Lock::Waiting(session) if self.is_free() => self.acquire(cx, session, false),
            // The lock's state was seen while an acquisition was in flight.
            Lock::Waiting(_) => {
                let seen = self.seen.clone().unwrap_or_default();
                self.on_lock_seen(cx, &seen);
            }
            Lock::None | Lock::Creating | Lock::Acquiring { .. } | Lock::Holding(_) => {}
        }
    }

    /// Returns whether nobody holds the lock, as far as this node has seen.
    fn is_free(&self) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.session.is_none())
    }

    fn create(&mut self, cx: &mut Cx<'_>) {
        self.lock = Lock::Creating;
        self.session.create(cx, of);
    }

    fn acquire(&mut self, cx: &mut Cx<'_>, session: Box<str>, held: bool) {
        let target = url::acquire(KEY, &session);
        let node = Bytes::copy_from_slice(cx.config().node.as_bytes());
        self.lock = Lock::Acquiring { session, held };
        cx.put(Continuation::Leader(ElectionCall::Acquire), target, node);
    }

    pub(crate) fn watch(&mut self, cx: &mut Cx<'_>) {
        if self.is_candidate {
            let wait = cx.config().time.watch;
            self.watch.send(cx, Continuation::Leader(ElectionCall::Watch), wait);
        }
    }

    /// Handles the reply to a call of the election.
    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        part: ElectionCall,
        answer: Option<&Answer>,
    ) {
        match part {
            ElectionCall::Session(call) => self.on_session(cx, call, answer),
            ElectionCall::Watch => self.on_watch(cx, answer),
            ElectionCall::Acquire => self.on_acquired(cx, answer),
            ElectionCall::Others => {
                let answer = answer.filter(|answer| answer.status == 200);
                self.candidates = answer.and_then(|a| lock::hosts(&a.body)).unwrap_or_default();
            }
        }
    }

    fn on_session(&mut self, cx: &mut Cx<'_>, call: session::Call, answer: Option<&Answer>) {
        match call {
            session::Call::Leave => {}
            session::Call::Register | session::Call::Beat => {
                let taken = self.session.on_beat(answer);
                if taken && self.lock == Lock::None && !cx.is_armed(Timer::Acquire) {
                    self.create(cx);
                }
            }
            session::Call::Create => match session::created(answer) {
                Some(session) => {
                    self.backoff.reset();
                    self.lock = Lock::Waiting(session);
                    let seen = self.seen.clone().unwrap_or_default();
                    self.on_lock_seen(cx, &seen);
                }
                None => {
                    self.lock = Lock::None;
                    self.retry(cx);
                }
            },
        }
    }

    fn on_acquired(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Lock::Acquiring { session, held } = &self.lock else { return };
        let (session, held) = (session.clone(), *held);
        let lock = answer.map(|answer| (answer.status, answer.body.trim_ascii()));
        if held && lock != Some((200, b"true")) {
            cx.fact(Fact::LeaderLost { why: "Consul has taken the lock back" });
        }
        match lock {
            Some((200, b"true")) => {
                self.backoff.reset();
                self.lock = Lock::Holding(session);
                if !held {
                    cx.fact(Fact::LeaderWon {});
                }
            }
            // Another node was faster, or the lock is still within its lock delay.
            Some((200, _)) => {
                self.lock = Lock::Waiting(session);
                let pause = cx.around(LOCK_DELAY);
                cx.arm(Timer::Acquire, pause);
            }
            // The session may be gone, or it may hold the lock without our knowledge.
            _ => {
                destroy(cx, &session);
                self.lock = Lock::None;
                self.retry(cx);
            }
        }
    }

    fn retry(&mut self, cx: &mut Cx<'_>) {
        cx.retry(Timer::Acquire, &mut self.backoff);
    }

    fn on_watch(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let Some(answer) = self.watch.on_answer(cx, Timer::LeaderWatch, answer) else { return };
        let seen = match answer.status {
            404 => Some(LockEntry::default()),
            _ => lock::read_entry(&answer.body),
        };
        if let Some(seen) = seen {
            if self.seen.as_ref() != Some(&seen) {
                cx.disarm(Timer::Unowned);
            }
            self.seen = Some(seen.clone());
            // The key may look as before although this node held the lock in the meantime.
            self.on_lock_seen(cx, &seen);
        }
        self.watch(cx);
    }

    /// Handles a possible change of the lock.
    fn on_lock_seen(&mut self, cx: &mut Cx<'_>, seen: &LockEntry) {
        match self.lock.clone() {
            // The lock was lost, or this is its state before we acquired it, or a script has overwritten our
            // value. Another acquisition finds out, and changes nothing if we are the holder.
            Lock::Holding(session)
                if seen.session.as_deref() != Some(&session) || seen.value != cx.config().node =>
            {
                self.acquire(cx, session, true);
            }
            Lock::Waiting(session) if seen.session.is_none() && self.eligible => {
                self.acquire(cx, session, false);
            }
            Lock::Waiting(_) if seen.session.is_none() => {
                let until = cx.now().mono.after(YIELD_FOR);
                cx.arm_no_later(Timer::Acquire, until);
            }
            // The session belongs to an earlier life, or to a former daemon on this node.
            Lock::Waiting(_) | Lock::None if seen.value == cx.config().node => end(cx, seen),
            Lock::None
            | Lock::Creating
            | Lock::Acquiring { .. }
            | Lock::Waiting(_)
            | Lock::Holding(_) => {
                if seen.session.is_some() && is_unowned(&seen.value) {
                    let until = cx.now().mono.after(UNOWNED_GRACE);
                    cx.arm_no_later(Timer::Unowned, until);
                }
            }
        }
    }

    /// Ends the session of a lock with a value overwritten by a script, if the holder does not react.
    ///
    /// The old daemon writes `elect…` at a shutdown and leaves the session behind.
    pub(crate) fn end_unowned(&self, cx: &mut Cx<'_>) {
        if let Some(seen) = self.seen.as_ref().filter(|seen| is_unowned(&seen.value)) {
            end(cx, seen);
        }
    }
}

fn online_confds(cluster: &Cluster) -> impl Iterator<Item = Fid> {
    let confds = cluster.conf().confds().iter().copied();
    confds.filter(|confd| cluster.state(*confd) == ObjectState::Online)
}

/// Destroys the lock's session, since it has no owner.
fn end(cx: &mut Cx<'_>, LockEntry { value, session }: &LockEntry) {
    if let Some(session) = session {
        cx.fact(Fact::LeaderStale { value: value.clone() });
        destroy(cx, session);
    }
}

const RESIGN: Continuation = Continuation::Leader(ElectionCall::RESIGN);

fn of(call: session::Call) -> Continuation {
    Continuation::Leader(ElectionCall::Session(call))
}

fn destroy(cx: &mut Cx<'_>, session: &str) {
    session::destroy(cx, RESIGN, session);
}

fn release(cx: &mut Cx<'_>, session: &str) {
    cx.put(RESIGN, url::release(KEY, session), Bytes::new());
}
