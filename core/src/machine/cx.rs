//! The context of a machine's handlers during one call of `handle`.
//!
//! With it a handler arms timers, calls Consul, answers HTTP requests and reports facts.

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

/// The types of a machine's context.
pub trait Kinds: Sized {
    /// The purpose of a call to Consul, as data. The reply is dispatched by it.
    type Continuation: Copy + PartialEq + Named + Debug;
    /// The machine's timers, one deadline for each value.
    type Timer: Copy + Ord + Named + Debug;
    /// The machine's outputs to its host.
    type Output: From<Command> + From<Box<http::port::Response>> + From<Failure>;
    /// Other persistent state, shared by the machine's handlers.
    type Shared: Debug;
}

/// A value with a name for logs.
pub trait Named {
    /// Returns the name.
    fn name(&self) -> &'static str;
}

/// The limits of a machine's calls to Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time limit of a call without one of its own.
    pub call: Duration,
    /// The maximum size of a response, in bytes.
    pub answer_bytes: usize,
}

/// A failed call to Consul, to be reported as a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The id of the call.
    pub call: CallId,
    /// The purpose of the call.
    pub what: &'static str,
    /// The error.
    pub why: Box<str>,
    /// The kind of the failure.
    pub kind: FailureKind,
}

/// The kind of a call's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No response, or a response with an error of Consul.
    New,
    /// The same failure as that of the call before.
    Again,
    /// Consul's access control denies the call.
    Refused,
}

/// The part of a context with a lifetime beyond one call of `handle`.
#[derive(Debug)]
pub struct Kept<K: Kinds> {
    shared: K::Shared,
    limits: Limits,
    timers: Timers<K::Timer>,
    rng: Rng,
    calls: BTreeMap<CallId, K::Continuation>,
    next_call: CallId,
    call_seq: CallSeq,
    /// The last failure of Consul; `None` after a response.
    last_failure: Option<Box<str>>,
}

impl<K: Kinds> Kept<K> {
    /// Creates a context without armed timers and without calls in flight.
    ///
    /// `first` is the id of the first call. No two machines behind one host may use the same ids. `seed`
    /// feeds the jitter of retries.
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

    /// Returns the context of one call of `handle`.
    pub fn cx<'a>(&'a mut self, now: Now, out: &'a mut Vec<K::Output>) -> Cx<'a, K> {
        self.call_seq.0 += 1;
        Cx { now, out, kept: self }
    }

    /// Returns the state shared by the handlers.
    pub fn shared(&self) -> &K::Shared {
        &self.shared
    }

    /// Returns the number of calls in flight.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Returns the deadline of the machine's next run.
    pub fn next(&self) -> Next {
        match self.timers.first() {
            Some((at, why)) => Next::WaitUntil { at, why: why.name() },
            None => Next::Wait,
        }
    }
}

/// The context of a handler.
pub struct Cx<'a, K: Kinds> {
    now: Now,
    out: &'a mut Vec<K::Output>,
    kept: &'a mut Kept<K>,
}

impl<K: Kinds> Cx<'_, K> {
    /// Returns both clocks as of the beginning of the call.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Returns the number of this call of `handle`. Work begun under a larger number began later.
    pub fn call_seq(&self) -> CallSeq {
        self.kept.call_seq
    }

    /// Returns the state shared by the handlers.
    pub fn shared(&self) -> &K::Shared {
        &self.kept.shared
    }

    /// Returns the state shared by the handlers, for changes.
    pub fn shared_mut(&mut self) -> &mut K::Shared {
        &mut self.kept.shared
    }

    /// Emits an output.
    pub fn emit(&mut self, output: impl Into<K::Output>) {
        self.out.push(output.into());
    }

    /// The context of a machine within this one, in the same call. It has names of calls of its own.
    pub fn within<'b, I: Kinds<Output = K::Output>>(
        &'b mut self,
        kept: &'b mut Kept<I>,
    ) -> Cx<'b, I> {
        kept.call_seq.0 += 1;
        Cx { now: self.now, out: self.out, kept }
    }

    // ---- timers ----

    /// Arms a timer; replaces its earlier deadline.
    pub fn arm(&mut self, timer: K::Timer, after: Duration) {
        self.kept.timers.arm(timer, self.now.mono.after(after));
    }

    /// Arms a timer for a given time.
    pub fn arm_at(&mut self, timer: K::Timer, at: Instant) {
        self.kept.timers.arm(timer, at);
    }

    /// Arms a timer for a given time, unless it is already armed for an earlier one.
    pub fn arm_no_later(&mut self, timer: K::Timer, at: Instant) {
        self.kept.timers.arm_no_later(timer, at);
    }

    /// Disarms a timer; harmless if it is not armed.
    pub fn disarm(&mut self, timer: K::Timer) {
        self.kept.timers.disarm(timer);
    }

    /// Returns whether a timer is armed.
    pub fn is_armed(&self, timer: K::Timer) -> bool {
        self.kept.timers.is_armed(timer)
    }

    /// Removes and returns the next due timer.
    pub fn next_due(&mut self) -> Option<K::Timer> {
        self.kept.timers.pop(self.now.mono)
    }

    /// Arms the timer of the next try after a failure; the delay grows with each failure.
    pub fn retry(&mut self, timer: K::Timer, backoff: &mut Backoff) {
        let pause = backoff.next_delay(&mut self.kept.rng);
        self.arm(timer, pause);
    }

    /// Returns `d` plus or minus a random quarter of it.
    pub fn around(&mut self, d: Duration) -> Duration {
        self.kept.rng.around(d)
    }

    // ---- Consul ----

    /// Returns the default time limit of a call.
    pub fn call_limit(&self) -> Duration {
        self.kept.limits.call
    }

    /// Sends a GET request with the default time limit.
    pub fn get(&mut self, job: K::Continuation, target: String) -> CallId {
        self.call(job, Method::Get, target, Bytes::new(), self.kept.limits.call)
    }

    /// Sends a PUT request with the default time limit.
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

    /// Cancels a call: its reply is not dispatched any more.
    pub fn cancel(&mut self, call: CallId) {
        if self.kept.calls.remove(&call).is_some() {
            self.emit(Command::Cancel(call));
        }
    }

    /// Cancels all calls with a matching continuation.
    pub fn cancel_where(&mut self, like: impl Fn(K::Continuation) -> bool) {
        let jobs = self.kept.calls.iter().filter(|(_, job)| like(**job));
        let calls: Vec<CallId> = jobs.map(|(call, _)| *call).collect();
        calls.into_iter().for_each(|call| self.cancel(call));
    }

    /// Returns the continuations of the calls in flight, the oldest first.
    pub fn in_flight(&self) -> impl Iterator<Item = K::Continuation> {
        self.kept.calls.values().copied()
    }

    /// Removes and returns the continuation of a completed call; `None` if the call was cancelled.
    pub fn take(&mut self, call: CallId) -> Option<K::Continuation> {
        self.kept.calls.remove(&call)
    }

    /// Separates responses from failures. A failure is reported; a repeated failure is reported in full only
    /// once.
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
            // The receiver of this fact names the token that was used.
            self.emit(Failure { call, what, why: why.clone(), kind: FailureKind::Refused });
            return Outcome::Refused(why);
        }
        self.fail(call, what, why);
        Outcome::Failed
    }

    /// Reports a failed call. A failure like the last one gets a fact of lower severity.
    fn fail(&mut self, call: CallId, what: &'static str, why: Box<str>) {
        let again = self.kept.last_failure.as_ref() == Some(&why);
        self.kept.last_failure = Some(why.clone());
        let kind = if again { FailureKind::Again } else { FailureKind::New };
        self.emit(Failure { call, what, why, kind });
    }

    // ---- HTTP ----

    /// Answers an HTTP request.
    pub fn http(&mut self, id: HttpId, answer: http::answer::Answer) {
        self.emit(Box::new(answer.response(id)));
    }
}

/// The outcome of a call to Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// A response to the request: 200, 404, or the 409 of a transaction.
    Answered(&'r Answer),
    /// Consul's access control denies the request, with the reason.
    Refused(Box<str>),
    /// No response, or an error of Consul. Whether the request took effect is unknown.
    Failed,
}

impl<'r> Outcome<'r> {
    /// Returns the response, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&'r Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Refused(_) | Self::Failed => None,
        }
    }
}
