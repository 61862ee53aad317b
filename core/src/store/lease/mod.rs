//! A lease: a key with one holder at a time and a term that only grows.
//!
//! The lock belongs to a session. The session depends on the node's own check and a check of ours with a
//! short TTL, so a holder that is gone or stuck loses the lock soon. The term is part of the acquiring write,
//! since `ModifyIndex` goes backwards when a snapshot is restored.
//!
//! There are two levels of certainty. A writer to Consul adds the [`Op::check_session`] of the lease to the
//! transaction, and Consul decides ([`Lease::guard`]). An actor outside Consul asks [`Lease::believes`],
//! which counts from the *sending* of the last consistent read that showed the key as ours. An agent that is
//! cut off from its servers continues to accept heartbeats while the servers give the lock away, so a
//! heartbeat proves nothing. Consul withholds a lost lock from other sessions for [`Config::belief`], so no
//! two holders believe at the same time.
//!
//! A restored snapshot frees the lock without that delay, and the term goes backwards. A contender that has
//! known the higher term waits for the same time on its own. A contender that starts just then cannot know
//! the term. It may believe at the same time as the last holder until that holder's proof is too old.

mod calls;
mod key_entry;
mod lock_delay;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;

use crate::base::mutant::{Mutant, mutant};
use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::consul::op::{Op, quoted};
use crate::consul::port::{Answer, Method};
use crate::consul::url;
use crate::machine::Cx;
use crate::store::session::{self, Session};
use crate::store::txn::{self, Outcome};
use crate::store::watch;

use key_entry::{KeyEntry, TERM_MAX};
use lock_delay::LockDelay;

pub use calls::{Call, Change, Leases, Timer};
pub use key_entry::Holder;

/// The version of the key's value. A contender that reads a newer version does not take the lease.
const FORM: u32 = 1;
/// The number of consecutive conflicts before a session is replaced. Consul withholds a lock for about four
/// tries.
const CONFLICTS: u32 = 6;

/// The configuration of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The key.
    pub key: Box<str>,
    /// The name of the holder. No other contender may use it. A session with this name that is not of this
    /// run belongs to a former run and is destroyed.
    pub holder: Box<str>,
    /// The service of the check; one for each lease of an agent's node.
    pub check: Box<str>,
    /// The TTL of the check; at least one second, which is Consul's minimum.
    pub ttl: Duration,
    /// The validity of a proof for actions outside Consul. Consul withholds the lock for the same time (1 to
    /// 60 s).
    pub belief: Duration,
    /// The time limit of a blocking query.
    pub watch: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There is no session.
    None,
    Creating,
    /// The key has another holder, or its state is unknown.
    Waiting {
        session: Box<str>,
    },
    /// The acquisition is in flight.
    Acquiring {
        session: Box<str>,
        term: u64,
        sent: Instant,
    },
    Holding {
        session: Box<str>,
        term: u64,
        /// The sending time of the last proof.
        proved: Instant,
        lapsed: bool,
    },
}

/// One lease, held or wanted.
#[derive(Debug)]
pub struct Lease {
    config: Config,
    stands: bool,
    session: Session,
    state: State,
    /// The sending time of the read in flight.
    reading: Option<Instant>,
    watching: bool,
    /// The holder as of the last reading of the key.
    holder: Option<Holder>,
    /// The session whose key is being released.
    released: Option<Box<str>>,
    /// The highest known term; later terms are higher.
    least: u64,
    /// The end of the waiting time after the term went backwards because of a restored snapshot. The former
    /// holder may act on the lease until then.
    restored: Option<Instant>,
    lock_delay: LockDelay,
    conflicts: u32,
    backoff: Backoff,
}

impl Lease {
    /// Creates a lease without contending for it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config { check, ttl, belief, .. } = &config;
        let (check, title) = (check.clone(), check.clone());
        let lock_delay = if mutant(Mutant::NoLockDelay) { Duration::ZERO } else { *belief };
        let session = Session::new(session::Config { check, title, ttl: *ttl, lock_delay });
        Self {
            config,
            stands: false,
            session,
            state: State::None,
            reading: None,
            watching: false,
            holder: None,
            released: None,
            least: 0,
            restored: None,
            lock_delay: LockDelay::default(),
            conflicts: 0,
            backoff: Backoff::default(),
        }
    }

    /// Returns the term while we hold the lease, as far as is known.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        match self.state {
            State::Holding { term, .. } => Some(term),
            State::None | State::Creating | State::Waiting { .. } | State::Acquiring { .. } => None,
        }
    }

    /// Returns the check for a transaction under the lease. Consul rejects the transaction if the lease is
    /// lost.
    #[must_use]
    pub fn guard(&self) -> Option<Op> {
        let State::Holding { session, .. } = &self.state else { return None };
        Some(Op::check_session(&self.config.key, session))
    }

    /// Returns the term while no other contender can hold the lease. Actions outside Consul are allowed then.
    #[must_use]
    pub fn believes(&self, now: Instant) -> Option<u64> {
        let State::Holding { term, proved, .. } = self.state else { return None };
        (now < proved.after(self.config.belief)).then_some(term)
    }

    /// Until when nobody else can have the lease, unless it is proved again before.
    #[must_use]
    pub fn believed_until(&self) -> Option<Instant> {
        match self.state {
            State::Holding { proved, .. } => Some(proved.after(self.config.belief)),
            State::None | State::Creating | State::Waiting { .. } | State::Acquiring { .. } => None,
        }
    }

    /// The session, while the lease is ours as far as is known.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        match &self.state {
            State::Holding { session, .. } => Some(session),
            State::None | State::Creating | State::Waiting { .. } | State::Acquiring { .. } => None,
        }
    }

    /// Who had the key when it was read last; nothing where nobody had, or it was not read yet.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Raises the known term to one known to the protected resource: the next term will be higher.
    pub fn raise(&mut self, term: u64) {
        self.least = self.least.max(term.min(TERM_MAX / 2));
    }

    /// Begins to contend for the lease.
    pub fn stand<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if !core::mem::replace(&mut self.stands, true) {
            self.beat(cx);
        }
    }

    /// Releases the lease and stops contending for it. A machine that exits after this waits for the replies to
    /// its calls: the session is ended once Consul has released the key, and not before.
    pub fn resign<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if !core::mem::replace(&mut self.stands, false) {
            return;
        }
        for timer in [Timer::Beat, Timer::Read, Timer::Lapse] {
            cx.disarm(timer.into());
        }
        cx.cancel_where(|job| Call::OWN.into_iter().any(|call| job == call.into()));
        (self.reading, self.watching) = (None, false);
        self.session.cancelled();
        match core::mem::replace(&mut self.state, State::None) {
            State::None | State::Creating => self.session.leave(cx, of),
            State::Waiting { session } | State::Acquiring { session, .. } => {
                destroy(cx, &session);
                self.session.leave(cx, of);
            }
            State::Holding { session, term, .. } => {
                // A release writes the key, so the term must be included. Unlike the end of a session, a
                // release causes no delay for the next holder, so the end has to follow the release: calls may
                // overtake each other.
                let target = url::release(&self.config.key, &session);
                cx.put(Call::Release.into(), target, self.value(term).into());
                self.released = Some(session);
            }
        }
    }

    /// Handles the reply to the release, successful or not.
    fn on_released<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if let Some(session) = self.released.take() {
            destroy(cx, &session);
        }
        // A contender that has joined again meanwhile uses the same check.
        if !self.stands {
            self.session.leave(cx, of);
        }
    }

    /// Handles a due timer of the lease.
    pub fn on_timer<K: Leases>(&mut self, cx: &mut Cx<'_, K>, timer: Timer) -> Option<Change> {
        match timer {
            Timer::Beat => self.beat(cx),
            Timer::Read if self.state == State::None => self.create(cx),
            Timer::Read => self.read(cx),
            Timer::Lapse => {
                let State::Holding { lapsed, .. } = &mut self.state else { return None };
                *lapsed = true;
                return Some(Change::Lapsed);
            }
        }
        None
    }

    /// Handles the reply to a call of the lease; `answer` is `None` if there is no response.
    pub fn on_answer<K: Leases>(
        &mut self,
        cx: &mut Cx<'_, K>,
        call: Call,
        answer: Option<&Answer>,
    ) -> Option<Change> {
        match call {
            Call::Session(call) => {
                self.on_session(cx, call, answer);
                None
            }
            Call::Watch => {
                self.watching = false;
                if answer.is_none() {
                    cx.retry(Timer::Read.into(), &mut self.backoff);
                } else {
                    self.read(cx);
                }
                None
            }
            Call::Read => self.on_read(cx, answer),
            Call::Acquire => self.on_acquired(cx, answer),
            Call::Release => {
                self.on_released(cx);
                None
            }
        }
    }

    fn beat<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        cx.arm(Timer::Beat.into(), self.session.pause());
        self.session.beat(cx, of);
    }

    fn create<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        self.state = State::Creating;
        self.session.create(cx, of);
    }

    fn on_session<K: Leases>(
        &mut self,
        cx: &mut Cx<'_, K>,
        call: session::Call,
        answer: Option<&Answer>,
    ) {
        match call {
            session::Call::Leave => {}
            session::Call::Register | session::Call::Beat => {
                let taken = self.session.on_beat(answer);
                if taken && self.state == State::None && !cx.is_armed(Timer::Read.into()) {
                    self.create(cx);
                }
            }
            session::Call::Create => match session::created(answer) {
                Some(session) => {
                    self.state = State::Waiting { session };
                    self.read(cx);
                }
                None => {
                    self.state = State::None;
                    cx.retry(Timer::Read.into(), &mut self.backoff);
                }
            },
        }
    }

    fn read<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if self.reading.is_none() {
            self.reading = Some(cx.now().mono);
            // A hanging read leaves time for another one before the belief ends.
            let (target, within) = (url::read(&self.config.key), self.config.belief / 2);
            cx.call(Call::Read.into(), Method::Get, target, Bytes::new(), within);
        }
    }

    fn on_read<K: Leases>(
        &mut self,
        cx: &mut Cx<'_, K>,
        answer: Option<&Answer>,
    ) -> Option<Change> {
        let sent = self.reading.take()?;
        let sent = if mutant(Mutant::BeliefFromAnswer) { cx.now().mono } else { sent };
        let Some(seen) = answer.and_then(KeyEntry::of) else {
            cx.retry(Timer::Read.into(), &mut self.backoff);
            return None;
        };
        let (name, term) = (seen.holder.clone(), seen.term);
        self.holder = seen.session.is_some().then_some(Holder { name, term });
        self.lock_delay.on_read(cx.now().mono, seen.session.is_some());
        let back = seen.term < self.least;
        let over = cx.now().mono.after(self.config.belief);
        self.restored = back.then(|| self.restored.unwrap_or(over));
        self.least = self.least.max(seen.term);
        let state = core::mem::replace(&mut self.state, State::None);
        match state {
            // The session held the lock once, and a snapshot of that time is restored. The end of the session
            // withholds the lock from all others while the last holder believes.
            State::Waiting { session } if back && seen.session.as_deref() == Some(&*session) => {
                destroy(cx, &session);
                self.try_later(cx);
                None
            }
            State::Waiting { session } if seen.session.as_deref() == Some(&*session) => {
                // An acquisition without a reply has succeeded.
                self.state =
                    State::Holding { session, term: seen.term, proved: sent, lapsed: false };
                self.on_proved(cx, sent);
                Some(Change::Gained(seen.term))
            }
            State::Waiting { session } => {
                self.state = State::Waiting { session };
                self.on_seen(cx, &seen);
                None
            }
            State::Holding { session, term, proved, lapsed }
                if seen.session.as_deref() == Some(&*session) && seen.term == term =>
            {
                let proved = proved.max(sent);
                self.state = State::Holding { session, term, proved, lapsed: false };
                self.on_proved(cx, proved);
                lapsed.then_some(Change::Proved)
            }
            State::Holding { session, .. } => {
                destroy(cx, &session);
                cx.disarm(Timer::Lapse.into());
                self.lock_delay.on_lost();
                self.try_later(cx);
                Some(Change::Lost("Consul has taken it back"))
            }
            // The state of an acquisition comes from its own reply. A second try in parallel would take the
            // success of the first for its own, with a later proof.
            state @ (State::None | State::Creating | State::Acquiring { .. }) => {
                self.state = state;
                None
            }
        }
    }

    /// Records a proof of the lease. Its read was sent at `sent`.
    fn on_proved<K: Leases>(&mut self, cx: &mut Cx<'_, K>, sent: Instant) {
        self.backoff.reset();
        self.conflicts = 0;
        cx.arm_at(Timer::Lapse.into(), sent.after(self.config.belief));
        cx.arm_at(Timer::Read.into(), sent.after(self.config.belief / 3));
    }

    /// Handles a key not held by us: acquires it if it is free, otherwise waits.
    fn on_seen<K: Leases>(&mut self, cx: &mut Cx<'_, K>, seen: &KeyEntry) {
        let State::Waiting { session } = &self.state else { return };
        if seen.form > FORM {
            // A newer version of the program wrote this value; its rules are unknown here.
            cx.retry(Timer::Read.into(), &mut self.backoff);
        } else if let Some(other) = &seen.session {
            if *seen.holder == *self.config.holder {
                // The session belongs to a former run; our heartbeats would keep it alive for ever.
                destroy(cx, other);
            }
            self.watch(cx, seen.index);
        } else if let Some(until) = self.restored.filter(|until| cx.now().mono < *until) {
            cx.arm_at(Timer::Read.into(), until);
        } else {
            let more = u64::from(!mutant(Mutant::TermKept) || self.least == 0);
            let (session, term) = (session.clone(), self.least + more);
            let value = self.value(term);
            // If two contenders have read the same term, the compare-and-set of one of them fails.
            let key = &*self.config.key;
            let ops = [
                Op::cas(key, value.as_bytes(), seen.index),
                Op::lock(key, value.as_bytes(), &session),
            ];
            self.state = State::Acquiring { session, term, sent: cx.now().mono };
            txn::send(cx, Call::Acquire.into(), &ops);
        }
    }

    /// Returns the content of the key in a term.
    fn value(&self, term: u64) -> String {
        format!(r#"{{"v":{FORM},"holder":{},"term":{term}}}"#, quoted(&self.config.holder))
    }

    fn watch<K: Leases>(&mut self, cx: &mut Cx<'_, K>, index: u64) {
        if core::mem::replace(&mut self.watching, true) {
            return;
        }
        watch::send(cx, Call::Watch.into(), &url::key(&self.config.key), index, self.config.watch);
    }

    fn on_acquired<K: Leases>(
        &mut self,
        cx: &mut Cx<'_, K>,
        answer: Option<&Answer>,
    ) -> Option<Change> {
        let State::Acquiring { session, term, sent } = &self.state else { return None };
        let (session, term, sent) = (session.clone(), *term, *sent);
        match Outcome::of(answer) {
            Outcome::Applied(_) => {
                self.state = State::Holding { session, term, proved: sent, lapsed: false };
                self.on_proved(cx, sent);
                Some(Change::Gained(term))
            }
            // Another contender was faster, or Consul withholds the lock. A session that has ended meanwhile
            // never gets the lock.
            Outcome::Conflict(_) => {
                self.conflicts += 1;
                self.state = if self.conflicts.is_multiple_of(CONFLICTS) {
                    destroy(cx, &session);
                    State::None
                } else {
                    State::Waiting { session }
                };
                self.try_later(cx);
                None
            }
            // The lock may have been acquired: a read tells.
            Outcome::Denied(_) | Outcome::Unknown(_) => {
                self.state = State::Waiting { session };
                cx.retry(Timer::Read.into(), &mut self.backoff);
                None
            }
        }
    }

    fn try_later<K: Leases>(&self, cx: &mut Cx<'_, K>) {
        let belief = self.config.belief;
        let (now, pause) = (cx.now().mono, cx.around(belief / 4));
        cx.arm_at(Timer::Read.into(), self.lock_delay.next_try(now, pause, belief));
    }
}

const LEAVE: Call = Call::Session(session::Call::Leave);

fn of<C: From<Call>>(call: session::Call) -> C {
    Call::Session(call).into()
}

fn destroy<K: Leases>(cx: &mut Cx<'_, K>, session: &str) {
    session::destroy(cx, LEAVE.into(), session);
}
