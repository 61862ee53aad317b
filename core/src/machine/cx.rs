//! What a handler of a machine may do during one call of `handle`: arm timers, ask Consul, answer HTTP
//! requests, report facts.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::time::Duration;

use bytes::Bytes;

use crate::base::id::{CallId, HttpId};
use crate::base::retry::{Backoff, Rng};
use crate::base::time::{CallSeq, Instant, Next, Now};
use crate::base::timers::Timers;
use crate::consul::port::{Answer, Call, Command, Method, Reply};
use crate::http;

/// Of what a machine's context is made.
pub trait Kinds: Sized {
    /// What a call to Consul is for, as data: its answer is handed on by this.
    type Continuation: Copy + PartialEq + Named + Debug;
    /// The machine's timers, one deadline for each value.
    type Timer: Copy + Ord + Named + Debug;
    /// What the machine asks of whoever drives it.
    type Output: From<Command> + From<Box<http::port::Response>> + From<Failure>;
    /// What else outlives a call and is shared by the machine's handlers.
    type Shared: Debug;
}

/// A value with a name for logs.
pub trait Named {
    /// The name.
    fn name(&self) -> &'static str;
}

/// How a machine asks Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time limit of a call that does not have one of its own.
    pub call: Duration,
    /// The longest answer that is taken, in bytes.
    pub answer_bytes: usize,
}

/// That a call to Consul has failed, for a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub call: CallId,
    /// What for.
    pub what: &'static str,
    /// What happened.
    pub why: Box<str>,
    /// How it failed.
    pub kind: FailureKind,
}

/// How a call to Consul has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Without an answer, or with one that says that Consul is not well.
    New,
    /// As the call before it.
    Again,
    /// Consul's access control refuses it.
    Refused,
}

/// What of a context outlives a call of `handle`.
#[derive(Debug)]
pub struct Kept<K: Kinds> {
    shared: K::Shared,
    limits: Limits,
    timers: Timers<K::Timer>,
    rng: Rng,
    calls: BTreeMap<CallId, K::Continuation>,
    next_call: CallId,
    call_seq: CallSeq,
    /// Why Consul did not answer last, until it does.
    last_failure: Option<Box<str>>,
}

impl<K: Kinds> Kept<K> {
    /// Nothing is armed and nothing asked. `first` is the name of the first call: no two machines behind
    /// one host have the same names. `seed` feeds the jitter of retries.
    pub fn new(first: CallId, seed: u64, limits: Limits, shared: K::Shared) -> Self {
        Self {
            shared,
            limits,
            timers: Timers::default(),
            rng: Rng::new(seed),
            calls: BTreeMap::new(),
            next_call: first,
            call_seq: CallSeq::default(),
            last_failure: None,
        }
    }

    /// The context of one call of `handle`.
    pub fn cx<'a>(&'a mut self, now: Now, out: &'a mut Vec<K::Output>) -> Cx<'a, K> {
        self.call_seq.0 += 1;
        Cx { now, out, kept: self }
    }

    /// What the handlers share.
    pub fn shared(&self) -> &K::Shared {
        &self.shared
    }

    /// How many calls have no answer yet.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// When the machine has to run at the latest.
    pub fn next(&self) -> Next {
        match self.timers.first() {
            Some((at, why)) => Next::WaitUntil { at, why: why.name() },
            None => Next::Wait,
        }
    }
}

/// What a handler may do.
pub struct Cx<'a, K: Kinds> {
    now: Now,
    out: &'a mut Vec<K::Output>,
    kept: &'a mut Kept<K>,
}

impl<K: Kinds> Cx<'_, K> {
    /// Both clocks, as they were when the call began.
    pub fn now(&self) -> Now {
        self.now
    }

    /// This call of `handle`: what begins in a later one has begun after it.
    pub fn call_seq(&self) -> CallSeq {
        self.kept.call_seq
    }

    /// What the handlers share.
    pub fn shared(&self) -> &K::Shared {
        &self.kept.shared
    }

    /// What the handlers share, to be changed.
    pub fn shared_mut(&mut self) -> &mut K::Shared {
        &mut self.kept.shared
    }

    /// Asks for something.
    pub fn emit(&mut self, output: impl Into<K::Output>) {
        self.out.push(output.into());
    }

    // ---- timers ----

    /// Arms a timer, instead of what it was armed for.
    pub fn arm(&mut self, timer: K::Timer, after: Duration) {
        self.kept.timers.arm(timer, self.now.mono.after(after));
    }

    /// The same, for a moment.
    pub fn arm_at(&mut self, timer: K::Timer, at: Instant) {
        self.kept.timers.arm(timer, at);
    }

    /// Arms a timer for a moment unless it is armed for an earlier one.
    pub fn arm_no_later(&mut self, timer: K::Timer, at: Instant) {
        self.kept.timers.arm_no_later(timer, at);
    }

    /// Disarms a timer; harmless if it is not armed.
    pub fn disarm(&mut self, timer: K::Timer) {
        self.kept.timers.disarm(timer);
    }

    /// Whether a timer is armed.
    pub fn is_armed(&self, timer: K::Timer) -> bool {
        self.kept.timers.is_armed(timer)
    }

    /// Takes the next timer that is due.
    pub fn next_due(&mut self) -> Option<K::Timer> {
        self.kept.timers.pop(self.now.mono)
    }

    /// Something has failed: arms the timer of its next try, later each time.
    pub fn retry(&mut self, timer: K::Timer, backoff: &mut Backoff) {
        let pause = backoff.next_delay(&mut self.kept.rng);
        self.arm(timer, pause);
    }

    /// `d`, give or take a quarter of it.
    pub fn around(&mut self, d: Duration) -> Duration {
        self.kept.rng.around(d)
    }

    // ---- Consul ----

    /// The usual time limit of a call.
    pub fn call_limit(&self) -> Duration {
        self.kept.limits.call
    }

    /// Reads with the usual time limit.
    pub fn get(&mut self, job: K::Continuation, target: String) -> CallId {
        self.call(job, Method::Get, target, Bytes::new(), self.kept.limits.call)
    }

    /// Writes with the usual time limit.
    pub fn put(&mut self, job: K::Continuation, target: String, body: Bytes) -> CallId {
        self.call(job, Method::Put, target, body, self.kept.limits.call)
    }

    /// Sends a request to Consul.
    pub fn call(
        &mut self,
        job: K::Continuation,
        method: Method,
        target: String,
        body: Bytes,
        within: Duration,
    ) -> CallId {
        let id = self.kept.next_call.mint();
        self.kept.calls.insert(id, job);
        let body_max = self.kept.limits.answer_bytes;
        let call = Call { id, method, target, body, within, body_max };
        self.emit(Command::Call(Box::new(call)));
        id
    }

    /// Gives a call up: no answer to it is handed on any more.
    pub fn cancel(&mut self, call: CallId) {
        if self.kept.calls.remove(&call).is_some() {
            self.emit(Command::Cancel(call));
        }
    }

    /// Gives up all calls for things like these.
    pub fn cancel_where(&mut self, like: impl Fn(K::Continuation) -> bool) {
        let jobs = self.kept.calls.iter().filter(|(_, job)| like(**job));
        let calls: Vec<CallId> = jobs.map(|(call, _)| *call).collect();
        calls.into_iter().for_each(|call| self.cancel(call));
    }

    /// What the calls without an answer are for, the oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = K::Continuation> {
        self.kept.calls.values().copied()
    }

    /// What a call is for whose answer has come; nothing if it was given up.
    pub fn take(&mut self, call: CallId) -> Option<K::Continuation> {
        self.kept.calls.remove(&call)
    }

    /// Tells an answer from a failure, which is reported: the same one in full only once.
    pub fn outcome<'r>(&mut self, job: K::Continuation, reply: &'r Reply) -> Outcome<'r> {
        let (call, what) = (reply.id, job.name());
        let why: Box<str> = match &reply.result {
            Err(unanswered) => unanswered.why().into(),
            Ok(answer) if matches!(answer.status, 200 | 404 | 409) => {
                self.kept.last_failure = None;
                return Outcome::Answered(answer);
            }
            Ok(answer) => {
                let text = &answer.body[..answer.body.len().min(200)];
                let text = String::from_utf8_lossy(text);
                alloc::format!("status {}: {}", answer.status, text.trim()).into()
            }
        };
        if reply.result.as_ref().is_ok_and(Answer::is_refusal) {
            // Whoever asks for us says which token it was.
            self.emit(Failure { call, what, why: why.clone(), kind: FailureKind::Refused });
            return Outcome::Refused(why);
        }
        self.fail(call, what, why);
        Outcome::Failed
    }

    /// Reports that a call has failed; a failure like the last one only for those who look for it.
    fn fail(&mut self, call: CallId, what: &'static str, why: Box<str>) {
        let again = self.kept.last_failure.as_ref() == Some(&why);
        self.kept.last_failure = Some(why.clone());
        let kind = if again { FailureKind::Again } else { FailureKind::New };
        self.emit(Failure { call, what, why, kind });
    }

    // ---- HTTP ----

    /// Answers a request.
    pub fn http(&mut self, id: HttpId, answer: http::answer::Answer) {
        self.emit(Box::new(answer.response(id)));
    }
}

/// What came of a call to Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// An answer that says what was asked: 200, 404, or the 409 of a transaction.
    Answered(&'r Answer),
    /// Consul's access control refuses it, and why.
    Refused(Box<str>),
    /// No answer, or Consul is not well. Whether it acted is not known.
    Failed,
}

impl<'r> Outcome<'r> {
    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Option<&'r Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Refused(_) | Self::Failed => None,
        }
    }
}
