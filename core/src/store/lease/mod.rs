//! A lease: a key that one of several holds at a time, with a term that only grows.
//!
//! The lock hangs on a session, and the session on the node's own check and a check of ours with a short
//! TTL, so that a holder that is gone or stuck loses it soon. The term is written with the acquiring write,
//! since `ModifyIndex` goes back when a snapshot is restored.
//!
//! There are two beliefs. Whoever writes to Consul adds [`Op::check_session`] of the lease to the
//! transaction, and Consul decides ([`Lease::guard`]). Whoever acts elsewhere asks [`Lease::believes`]:
//! it counts from the *sending* of the last consistent read that showed the key as ours. An agent that is
//! cut off from its servers goes on taking beats while they give the lock away, so a beat proves nothing.
//! Consul keeps a lock that was lost from others for [`Config::belief`], so that no two believe at once. A
//! snapshot that is restored takes the lock without that delay, and the term goes back: whoever has known the
//! higher term waits as long by itself; one that starts just then cannot know, and may believe beside the
//! last holder until that one's proof is too old.

mod calls;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::consul::json::{self, KvEntry};
use crate::consul::op::{Op, quoted};
use crate::consul::port::{Answer, Method};
use crate::consul::url;
use crate::machine::Cx;
use crate::store::session::{self, Session};
use crate::store::txn::{self, Outcome};
use crate::store::watch;

pub use calls::{Call, Change, Leases, Timer};

/// The form of the key's value. Whoever meets a newer one does not lead.
const FORM: u32 = 1;
/// So many refusals in a row are one too many for the same session: Consul keeps a lock back for as long as
/// four of them take.
const CONFLICTS: u32 = 6;

/// What is held, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The key.
    pub key: Box<str>,
    /// Who holds it: a name that no other who wants it has. A session of that name that is not this life's is
    /// a former life's, and is ended.
    pub holder: Box<str>,
    /// The service of ours that carries the check; one for each lease of an agent's node.
    pub check: Box<str>,
    /// How long Consul believes in us without a beat; at least one second, which is the shortest that it
    /// keeps.
    pub ttl: Duration,
    /// How long a proof lets us act outside Consul. Consul keeps the lock back for as long (1 to 60 s).
    pub belief: Duration,
    /// How long a blocking query waits.
    pub watch: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// There is no session.
    None,
    Creating,
    /// The key is somebody's, or not known.
    Waiting {
        session: Box<str>,
    },
    /// The key is being taken.
    Acquiring {
        session: Box<str>,
        term: u64,
        sent: Instant,
    },
    Holding {
        session: Box<str>,
        term: u64,
        /// When the last proof was sent.
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
    /// When the read in flight was sent.
    reading: Option<Instant>,
    watching: bool,
    /// No term is lower than this one.
    least: u64,
    /// The term went back, so a snapshot was restored. Until then whoever held the lease before may act on it.
    restored: Option<Instant>,
    conflicts: u32,
    backoff: Backoff,
}

impl Lease {
    /// A lease that is not wanted yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config { check, ttl, belief, .. } = &config;
        let (check, title) = (check.clone(), check.clone());
        let session =
            Session::new(session::Config { check, title, ttl: *ttl, lock_delay: *belief });
        Self {
            config,
            stands: false,
            session,
            state: State::None,
            reading: None,
            watching: false,
            least: 0,
            restored: None,
            conflicts: 0,
            backoff: Backoff::default(),
        }
    }

    /// The term, while the lease is ours as far as is known.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        match self.state {
            State::Holding { term, .. } => Some(term),
            State::None | State::Creating | State::Waiting { .. } | State::Acquiring { .. } => None,
        }
    }

    /// What a transaction carries that is written under the lease: Consul refuses it where the lease is
    /// not ours any more.
    #[must_use]
    pub fn guard(&self) -> Option<Op> {
        let State::Holding { session, .. } = &self.state else { return None };
        Some(Op::check_session(&self.config.key, session))
    }

    /// The term, while nobody else can have the lease: what is done outside Consul may be done.
    #[must_use]
    pub fn believes(&self, now: Instant) -> Option<u64> {
        let State::Holding { term, proved, .. } = self.state else { return None };
        (now < proved.after(self.config.belief)).then_some(term)
    }

    /// The resource itself has seen this term: ours has to be higher.
    pub fn raise(&mut self, term: u64) {
        self.least = self.least.max(term);
    }

    /// Wants the lease, from now on.
    pub fn stand<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if !core::mem::replace(&mut self.stands, true) {
            self.beat(cx);
        }
    }

    /// Gives the lease up and wants it no more.
    pub fn resign<K: Leases>(&mut self, cx: &mut Cx<'_, K>) {
        if !core::mem::replace(&mut self.stands, false) {
            return;
        }
        for timer in [Timer::Beat, Timer::Read, Timer::Lapse] {
            cx.disarm(timer.into());
        }
        cx.cancel_where(|job| Call::OWN.into_iter().any(|call| job == call.into()));
        (self.reading, self.watching) = (None, false);
        match core::mem::replace(&mut self.state, State::None) {
            State::None | State::Creating => {}
            State::Waiting { session } | State::Acquiring { session, .. } => destroy(cx, &session),
            State::Holding { session, term, .. } => {
                // Whoever releases a key writes it: the term has to stay. Unlike a session's end it makes no
                // delay for the next one.
                let target = url::release(&self.config.key, &session);
                cx.put(LEAVE.into(), target, self.value(term).into());
                destroy(cx, &session);
            }
        }
        self.session.leave(cx, of);
    }

    /// A timer of the lease is due.
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

    /// A call of the lease has its answer; nothing where Consul gave none.
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
            // One that hangs leaves time for another before the belief ends.
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
        let Some(seen) = answer.and_then(KeyEntry::of) else {
            cx.retry(Timer::Read.into(), &mut self.backoff);
            return None;
        };
        let back = seen.term < self.least;
        let over = cx.now().mono.after(self.config.belief);
        self.restored = back.then(|| self.restored.unwrap_or(over));
        self.least = self.least.max(seen.term);
        let state = core::mem::replace(&mut self.state, State::None);
        match state {
            // It was held once, and a snapshot of then is restored. The end of the session keeps the lock
            // from all others while its last holder believes.
            State::Waiting { session } if back && seen.session.as_deref() == Some(&*session) => {
                destroy(cx, &session);
                self.try_later(cx);
                None
            }
            State::Waiting { session } if seen.session.as_deref() == Some(&*session) => {
                // It was taken by a call that had no answer.
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
                self.try_later(cx);
                Some(Change::Lost("Consul has taken it back"))
            }
            // What is being taken is told by its own answer: a second try beside the first would take the
            // first one's success for its own, with a later proof.
            state @ (State::None | State::Creating | State::Acquiring { .. }) => {
                self.state = state;
                None
            }
        }
    }

    /// The lease is ours, by what was sent then.
    fn on_proved<K: Leases>(&mut self, cx: &mut Cx<'_, K>, sent: Instant) {
        self.backoff.reset();
        self.conflicts = 0;
        cx.arm_at(Timer::Lapse.into(), sent.after(self.config.belief));
        cx.arm_at(Timer::Read.into(), sent.after(self.config.belief / 3));
    }

    /// The lease is not ours: takes it if it is free, else waits.
    fn on_seen<K: Leases>(&mut self, cx: &mut Cx<'_, K>, seen: &KeyEntry) {
        let State::Waiting { session } = &self.state else { return };
        if seen.form > FORM {
            // A newer program's: it knows what we do not.
            cx.retry(Timer::Read.into(), &mut self.backoff);
        } else if let Some(other) = &seen.session {
            if *seen.holder == *self.config.holder {
                // Our beats would keep it alive for ever.
                destroy(cx, other);
            }
            self.watch(cx, seen.index);
        } else if let Some(until) = self.restored.filter(|until| cx.now().mono < *until) {
            cx.arm_at(Timer::Read.into(), until);
        } else {
            let (session, term) = (session.clone(), self.least + 1);
            let value = self.value(term);
            // Two that have read the same term: one of them meets the other's write.
            let key = &*self.config.key;
            let ops = [
                Op::cas(key, value.as_bytes(), seen.index),
                Op::lock(key, value.as_bytes(), &session),
            ];
            self.state = State::Acquiring { session, term, sent: cx.now().mono };
            txn::send(cx, Call::Acquire.into(), &ops);
        }
    }

    /// What the key holds in a term.
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
            // Somebody else was faster, or Consul keeps the lock back. The end of that wakes no watch.
            // A session that has ended meanwhile never gets it.
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
            // It may be ours: a reading tells.
            Outcome::Denied(_) | Outcome::Unknown(_) => {
                self.state = State::Waiting { session };
                cx.retry(Timer::Read.into(), &mut self.backoff);
                None
            }
        }
    }

    fn try_later<K: Leases>(&self, cx: &mut Cx<'_, K>) {
        let pause = cx.around(self.config.belief / 4);
        cx.arm(Timer::Read.into(), pause);
    }
}

const LEAVE: Call = Call::Session(session::Call::Leave);

fn of<C: From<Call>>(call: session::Call) -> C {
    Call::Session(call).into()
}

fn destroy<K: Leases>(cx: &mut Cx<'_, K>, session: &str) {
    session::destroy(cx, LEAVE.into(), session);
}

/// What a reading of the key shows.
#[derive(Debug, PartialEq, Eq)]
struct KeyEntry {
    session: Option<Box<str>>,
    holder: Box<str>,
    term: u64,
    form: u32,
    /// The key's `ModifyIndex`; 0 where there is none.
    index: u64,
}

impl KeyEntry {
    fn of(answer: &Answer) -> Option<Self> {
        #[derive(Default, Deserialize)]
        struct Value {
            v: u32,
            holder: Box<str>,
            term: u64,
        }
        if answer.status == 404 {
            let (session, holder) = (None, "".into());
            return Some(Self { session, holder, term: 0, form: 0, index: 0 });
        }
        let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
        // A value that is none of ours has no term; Consul's lock counts all the same.
        let Value { v, holder, term } = json::parse(&entry.bytes()?).unwrap_or_default();
        let session = entry.session.filter(|session| !session.is_empty()).map(Into::into);
        Some(Self { session, holder, term, form: v, index: entry.modify_index })
    }
}
