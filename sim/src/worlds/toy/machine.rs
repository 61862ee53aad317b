//! A counter in Consul, shared by several machines. Each increment has a name, and it counts once however
//! often it is requested.
//!
//! One of the machines holds a lease, and it performs steps (`step.rs`). Acknowledged increments are numbered
//! (`tally.rs`), and listeners receive the numbers (`listeners.rs`).
//!
//! One transaction writes the count and the increment's name. So the result of an uncertain write is looked
//! up by that name. Increments are processed one at a time.

use std::collections::VecDeque;
use std::time::Duration;

use hax_core::base::id::{CallId, HttpId};
use hax_core::base::retry::Backoff;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::consul::json::{self, KvEntry};
use hax_core::consul::op::Op;
use hax_core::consul::port::{Answer, Reply};
use hax_core::consul::url;
use hax_core::http::answer;
use hax_core::http::port::Request;
use hax_core::http::router::{self, Route, get, post};
use hax_core::machine::{ExitReason, Input, Kept, Limits, Machine, Output, Status};
use hax_core::store::lease::{self, Change, Lease};
use hax_core::store::txn::{self, Outcome};
use hax_core::{fifo, file};

use super::bug::Bug;
use super::context::{CounterCall, CounterKinds, Cx, Timer};
use super::fact::Fact;
use super::listeners::Listeners;
use super::step::Steps;
use super::tally::{self, Tally};

/// The maximum number of waiting increments.
pub(super) const WAITING: usize = 8;
/// The time limit of a stop for pending work.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// The validity of a proof of the lease.
pub(super) const BELIEF: Duration = Duration::from_secs(3);
/// The key of the count.
pub(super) const COUNT: &str = "count";
/// The prefix of the keys for the names of increments.
pub(super) const NAMES: &str = "names/";
/// The key of the lease.
pub(super) const HOLDER: &str = "holder";
/// The route for a stream of the tally's numbers.
pub(super) const LISTEN: &str = "/tally/stream";

/// The machine.
#[derive(Debug)]
pub struct Counter {
    kept: Kept<CounterKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    /// The requested increments, with their names.
    waiting: VecDeque<(HttpId, Box<str>)>,
    stopping: bool,
    /// The time of a stop is over.
    drained: bool,
    lease: Lease,
    steps: Steps,
    tally: Tally,
    listeners: Listeners,
    bug: Option<Bug>,
}

type Handler = fn(&mut State, &mut Cx<'_>, &Request);

const ROUTES: [Route<Handler>; 3] = [
    post("/increment", State::on_increment),
    get("/lease", State::on_question),
    get(LISTEN, State::on_listener),
];

impl Counter {
    /// Creates a counter on this node without any state. `seed` is the seed of its jitter.
    #[must_use]
    pub fn new(node: &str, seed: u64, bug: Option<Bug>) -> Self {
        let limits = Limits { call: Duration::from_secs(2), answer_bytes: 64 * 1024 };
        let lease = Lease::new(lease::Config {
            key: HOLDER.into(),
            holder: node.into(),
            check: "counter-lease".into(),
            ttl: Duration::from_secs(1),
            belief: BELIEF,
            watch: Duration::from_secs(10),
        });
        let state = State {
            backoff: Backoff::default(),
            waiting: VecDeque::new(),
            stopping: false,
            drained: false,
            lease,
            steps: Steps::new(bug),
            tally: Tally::new(bug),
            listeners: Listeners::new(bug),
            bug,
        };
        Self { kept: Kept::new(CallId::first(0), seed, limits, ()), state }
    }

    /// Returns the number of waiting increments.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.waiting.len()
    }

    /// Returns the number of listeners.
    #[must_use]
    pub fn listening(&self) -> usize {
        self.state.listeners.len()
    }

    /// Returns the term of its lease, if it believes at this time that it holds the lease.
    #[must_use]
    pub fn term(&self, now: Instant) -> Option<u64> {
        self.state.term(now)
    }
}

impl State {
    fn term(&self, now: Instant) -> Option<u64> {
        match self.bug {
            Some(Bug::LeaseKept) => self.lease.term(),
            Some(Bug::TermLost) => self.lease.believes(now).map(|_| 1),
            _ => self.lease.believes(now),
        }
    }

    // ---- requests ---------------------------------------------------------------------------------

    fn on_increment(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let name = std::str::from_utf8(&request.body).unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            cx.http(request.id, answer::Answer::new(400, ""));
        } else if self.stopping {
            cx.http(request.id, answer::Answer::stopping());
        } else if self.waiting.len() == WAITING {
            cx.emit(Output::Fact(Fact::Refused {}));
            cx.http(request.id, answer::Answer::new(503, ""));
        } else {
            cx.emit(Output::Fact(Fact::Asked {}));
            self.waiting.push_back((request.id, name.into()));
            if self.bug == Some(Bug::AcknowledgedEarly) {
                cx.http(request.id, answer::Answer::done());
            }
            if self.waiting.len() == 1 && self.tally.is_ready() {
                self.look(cx);
            }
        }
    }

    fn on_question(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let holds = self.term(cx.now().mono).is_some();
        cx.http(request.id, answer::Answer::new(if holds { 200 } else { 409 }, ""));
    }

    fn on_listener(&mut self, cx: &mut Cx<'_>, request: &Request) {
        match self.tally.number().filter(|_| !self.stopping) {
            Some(number) => self.listeners.begin(cx, request.id, number),
            None => cx.http(request.id, answer::Answer::new(503, "")),
        }
    }

    /// Answers a request over named pipes with the length of the request, and with the number of the tally if
    /// it is known.
    fn on_inquiry(&self, cx: &mut Cx<'_>, request: &fifo::Request) {
        cx.emit(Output::Fact(Fact::Inquired {}));
        if self.bug == Some(Bug::PipeForgotten) && !self.waiting.is_empty() {
            return;
        }
        let early = self.bug == Some(Bug::PipeEarly) && !self.tally.is_ready();
        let number = self.tally.number().map(|number| number + u64::from(early));
        let number = number.map_or_else(String::new, |number| format!(" {number}"));
        let body = format!("{}{number}", request.body.len()).into();
        cx.emit(fifo::Response { id: request.id, body });
    }

    /// Completes the increment at the front after its write to Consul. It gets its number, and it is
    /// acknowledged once the number is written.
    fn finish(&mut self, cx: &mut Cx<'_>, fact: Fact) {
        cx.emit(Output::Fact(fact));
        self.backoff.reset();
        if let (Some(Bug::NumberEarly), Some(number)) = (self.bug, self.tally.number()) {
            self.listeners.tell(cx, number + 1);
        }
        if let Some(number) = self.tally.add(cx) {
            self.acknowledge(cx, number);
        }
    }

    fn acknowledge(&mut self, cx: &mut Cx<'_>, number: u64) {
        if let Some((id, _)) = self.waiting.pop_front()
            && self.bug != Some(Bug::AcknowledgedEarly)
        {
            cx.http(id, answer::Answer::new(200, number.to_string()));
        }
    }

    // ---- the file ---------------------------------------------------------------------------------

    fn on_file(&mut self, cx: &mut Cx<'_>, event: &file::Event) {
        let change = self.tally.on_event(cx, event);
        if let Some(tally::Change::Written(number)) = change
            && self.bug != Some(Bug::NumberEarly)
        {
            self.listeners.tell(cx, number);
        }
        match change {
            None => return,
            Some(tally::Change::Read) => {}
            Some(tally::Change::Written(_)) if self.bug == Some(Bug::AcknowledgedUnwritten) => {}
            Some(tally::Change::Written(number)) => self.acknowledge(cx, number),
        }
        self.look(cx);
    }

    // ---- Consul -----------------------------------------------------------------------------------

    /// Begins to process the increment at the front.
    fn look(&self, cx: &mut Cx<'_>) {
        if let Some((_, name)) = self.waiting.front() {
            cx.get(CounterCall::FindName, url::read(&format!("{NAMES}{name}")));
        }
    }

    fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) {
        let Some(job) = cx.take(reply.id) else { return };
        let outcome = cx.outcome(job, reply);
        let answer = outcome.answer();
        match (job, answer.map(|answer| answer.status)) {
            (CounterCall::Lease(call), _) => {
                let change = self.lease.on_answer(cx, call, answer);
                report(cx, change);
            }
            (CounterCall::FindName, Some(200)) => self.finish(cx, Fact::Found {}),
            (CounterCall::FindName, Some(404)) => {
                cx.get(CounterCall::Read, url::read(COUNT));
            }
            (CounterCall::Read, Some(_)) => match answer.and_then(count_in) {
                Some((count, index)) => self.write(cx, count + 1, index),
                None => self.retry(cx),
            },
            (CounterCall::Write, _) => match Outcome::of(answer) {
                Outcome::Applied(_) => self.finish(cx, Fact::Committed {}),
                Outcome::Conflict(_) => {
                    cx.emit(Output::Fact(Fact::Conflict {}));
                    self.look(cx);
                }
                Outcome::Denied(_) | Outcome::Unknown(_) => self.retry(cx),
            },
            (CounterCall::FindName | CounterCall::Read, _) => self.retry(cx),
        }
    }

    fn write(&self, cx: &mut Cx<'_>, count: u64, index: u64) {
        if let Some((_, name)) = self.waiting.front() {
            txn::send(cx, CounterCall::Write, &counting(name, count, index, self.bug));
        }
    }

    /// Retries the increment at the front after a pause, because the result of its write is unknown.
    fn retry(&mut self, cx: &mut Cx<'_>) {
        cx.emit(Output::Fact(Fact::Retried {}));
        if self.bug != Some(Bug::RetryLost) {
            cx.retry(Timer::Retry, &mut self.backoff);
        }
    }

    // ---- time -------------------------------------------------------------------------------------

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Retry => self.look(cx),
            Timer::Tally => self.tally.work(cx),
            // The steps are updated after every input.
            Timer::Step => {}
            Timer::Lease(timer) => {
                let change = self.lease.on_timer(cx, timer);
                report(cx, change);
            }
            Timer::Drain => {
                self.drained = true;
                cx.emit(Output::Fact(Fact::Left {}));
                cx.cancel_where(|job| !matches!(job, CounterCall::Lease(_)));
                for (id, _) in self.waiting.drain(..) {
                    cx.http(id, answer::Answer::stopping());
                }
            }
        }
    }

    fn stop(&mut self, cx: &mut Cx<'_>) {
        cx.emit(Output::Fact(Fact::Stopping {}));
        self.stopping = true;
        cx.arm(Timer::Drain, DRAIN);
        if self.lease.term().is_some() {
            cx.emit(Output::Fact(Fact::Lost {}));
        }
        self.lease.resign(cx);
        self.listeners.end(cx);
    }
}

impl Machine for Counter {
    type Fact = Fact;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<Fact>>) -> Next {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        if !state.stopping {
            state.lease.stand(&mut cx);
            state.tally.begin(&mut cx);
        }
        match input {
            Input::Http(request) => match router::find(&ROUTES, &request.method, &request.target) {
                Ok(handler) => handler(state, &mut cx, &request),
                Err(answer) => {
                    cx.emit(Output::Fact(Fact::NotFound {}));
                    cx.http(request.id, answer);
                }
            },
            Input::Consul(reply) => state.on_reply(&mut cx, &reply),
            Input::Stop => state.stop(&mut cx),
            Input::Exec(event) => state.steps.on_event(&mut cx, &state.lease, &event),
            Input::File(event) => state.on_file(&mut cx, &event),
            Input::HttpStream(closed) => state.listeners.on_closed(&mut cx, closed),
            Input::Fifo(request) => state.on_inquiry(&mut cx, &request),
            Input::Tick | Input::Net(_) | Input::Spiel(_) | Input::Keeper(_) => {}
        }
        while let Some(timer) = cx.next_due() {
            state.on_timer(&mut cx, timer);
        }
        state.steps.keep_up(&mut cx, &state.lease);
        let over = state.waiting.is_empty() && (state.steps.rests() || state.drained);
        if state.stopping && over { Next::Exit } else { kept.next() }
    }

    fn blocking_queries(&self) -> usize {
        1
    }

    fn status(&self) -> Status {
        Status { text: "counts", stopping: self.state.stopping }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

/// Builds the transaction for a count and an increment's name. It requires that the count has this index.
pub(super) fn counting(name: &str, count: u64, index: u64, bug: Option<Bug>) -> Vec<Op> {
    let value = count.to_string();
    let count = match bug {
        Some(Bug::CountSet) => Op::set(COUNT, value.as_bytes()),
        _ => Op::cas(COUNT, value.as_bytes(), index),
    };
    let name = (bug != Some(Bug::NameLost)).then(|| Op::cas(&format!("{NAMES}{name}"), b"x", 0));
    [count].into_iter().chain(name).collect()
}

/// Returns the count in Consul's answer, and its index.
fn count_in(answer: &Answer) -> Option<(u64, u64)> {
    if answer.status == 404 {
        return Some((0, 0));
    }
    let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
    Some((entry.number()?, entry.modify_index))
}

fn report(cx: &mut Cx<'_>, change: Option<Change>) {
    let fact = match change {
        None => return,
        Some(Change::Gained(_)) => Fact::Gained {},
        Some(Change::Lost(_)) => Fact::Lost {},
        Some(Change::Lapsed) => Fact::Lapsed {},
        Some(Change::Proved) => Fact::Proved {},
    };
    cx.emit(Output::Fact(fact));
}
