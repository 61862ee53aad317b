//! The election of the leader, the one hax that writes for dead nodes and whose confd is the
//! principal resource manager's (`hax.md` 1.6, D39).
//!
//! The lock is the key `leader`; its value is the node's name, as the old scripts write it. The
//! session that holds it hangs on the node's own check and on a check of ours with a short TTL, so
//! that a hax that is gone or stuck loses the lock within about a second. We take ourselves for the
//! leader for the TTL after the last beat was sent, less a margin. An agent that is cut off from its
//! servers takes our beats while they give the lock away, so whatever is written as the leader
//! carries the lock's check.

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

/// The lock.
const KEY: &str = "leader";
/// How long Consul believes in us without a beat.
const TTL: Duration = Duration::from_secs(1);
/// How much sooner than Consul we stop to believe in ourselves.
const MARGIN: Duration = Duration::from_millis(200);
/// How soon a refused lock is tried again: Consul keeps it for as long after its holder was lost.
const LOCK_DELAY: Duration = Duration::from_millis(200);
/// How long a leader may be without a confd that it has not seen yet.
const CONFD_GRACE: Duration = Duration::from_secs(10);
/// How long a node whose confd is not well leaves a free lock to the others.
const YIELD_FOR: Duration = Duration::from_secs(5);
/// How long the value that a script has left behind is left to its owner.
const UNOWNED_GRACE: Duration = Duration::from_secs(5);
/// A leader whose confd is not well looks that often for somebody else to leave the lead to.
const LOOK_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Leader {
    on: bool,
    is_candidate: bool,
    session: Session,
    lock: Lock,
    /// What the key holds.
    seen: Option<LockEntry>,
    watch: Watch,
    backoff: Backoff,
    /// Our own confd has been online since we stand.
    confd_seen: bool,
    /// The lead may be ours: our confd is well, or no other's is.
    eligible: bool,
    ineligible_since: Option<Instant>,
    /// The hosts of all who stand, while it is asked for.
    candidates: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Creating,
    /// Tries for it, or makes sure of it.
    Acquiring {
        session: Box<str>,
        held: bool,
    },
    /// Somebody else holds it.
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
            // As the watches of tables: a server whose own leader is gone would not tell us of a free lock.
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

    /// The value and the session of the lock, if somebody held it when it was seen last.
    pub(crate) fn holder(&self) -> Option<(&str, &str)> {
        let seen = self.seen.as_ref().filter(|_| self.is_candidate)?;
        Some((&seen.value, seen.session.as_deref()?))
    }

    /// Whether it leaves the lock to others, since their confd is well and ours is not.
    pub(crate) fn yields(&self) -> bool {
        self.is_candidate && !self.eligible
    }

    /// The session with which we lead now; nothing while that is not certain.
    pub(crate) fn session(&self, now: Instant) -> Option<&str> {
        let certain = self.session.last_beat().is_some_and(|sent| now < sent.after(TTL - MARGIN));
        if let Lock::Holding(session) = &self.lock
            && certain
        {
            return Some(session);
        }
        None
    }

    /// Whether we hold the lock, as far as we know.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.lock, Lock::Holding(_) | Lock::Acquiring { held: true, .. })
    }

    /// Stands for election, or not, as the cluster is.
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

    /// Gives the lock to a node whose confd is well; if none takes it, it is tried for again.
    fn yield_lock(&mut self, cx: &mut Cx<'_>, session: Box<str>) {
        release(cx, &session);
        self.lock = Lock::Waiting(session);
        self.seen = None;
        cx.arm(Timer::Acquire, YIELD_FOR);
        cx.fact(Fact::LeaderLeft { why: "our confd is not well, and another one is" });
    }

    /// Nobody took the lock when it was free, or it came to us again: asks who stands by now.
    pub(crate) fn look_for_others(&self, cx: &mut Cx<'_>) {
        if self.holds() && !self.eligible {
            cx.get(Continuation::Leader(ElectionCall::Others), url::passing(SERVICE));
        }
    }

    /// A node with a confd may lead. While some confd is well, the leader is where one is: it is
    /// the principal resource manager's. At a cold start none is, and the confds wait for a leader.
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
            cx.arm_at(Timer::Ineligible, until);
        }
        cx.now().mono < until
    }

    /// Gives the lock up and stands no more.
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
            Timer::Ineligible,
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

    /// It is time for a beat.
    pub(crate) fn heartbeat(&mut self, cx: &mut Cx<'_>) {
        cx.arm(Timer::Heartbeat, self.session.pause());
        self.session.beat(cx, of);
    }

    /// It is time to try for the lock again.
    pub(crate) fn try_again(&mut self, cx: &mut Cx<'_>) {
        match self.lock.clone() {
            Lock::None if self.session.is_registered() => self.create(cx),
            Lock::Waiting(session) if self.is_free() => self.acquire(cx, session, false),
            // It was seen while we tried for it.
            Lock::Waiting(_) => {
                let seen = self.seen.clone().unwrap_or_default();
                self.on_lock_seen(cx, &seen);
            }
            Lock::None | Lock::Creating | Lock::Acquiring { .. } | Lock::Holding(_) => {}
        }
    }

    /// Whether nobody holds the lock, as far as has been seen.
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

    /// A call of the election has its answer.
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
            // Somebody else was faster, or the lock is still warm from its last holder.
            Some((200, _)) => {
                self.lock = Lock::Waiting(session);
                let pause = cx.around(LOCK_DELAY);
                cx.arm(Timer::Acquire, pause);
            }
            // The session may be gone, or hold the lock without our knowing.
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
            // It may look as before and have been ours meanwhile.
            self.on_lock_seen(cx, &seen);
        }
        self.watch(cx);
    }

    /// The lock may have changed.
    fn on_lock_seen(&mut self, cx: &mut Cx<'_>, seen: &LockEntry) {
        match self.lock.clone() {
            // Lost, or seen as it was before we had it, or a script has written over our value:
            // acquiring again tells, and changes nothing for the holder.
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
            // It is of an earlier life, or of the daemon before us on this node.
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

    /// A script has written over the value of a lock whose holder does not mind: the old daemon's
    /// `elect…` of a shutdown, which leaves the session behind.
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

/// Ends the session that holds the lock for nobody.
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
