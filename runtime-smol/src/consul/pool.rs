//! Threads for calls that block, few and bounded. Each has a connection of its own, which it keeps.
//!
//! Blocking queries, which may wait for a minute, never take all of them: some threads are always there
//! for what is answered at once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use hax_core::consul::port::{Answer, Unanswered};
use ureq::Agent;

use super::caller::{Call, Caller};

/// How many threads there are for what is answered at once, beside those of blocking queries.
const SHORT_MAX: usize = 3;

/// One call that waits for a thread, or has one.
pub(super) struct QueuedCall {
    pub(super) call: Call,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Result<Answer, Unanswered>>,
}

/// What gives a call up, from another thread than the one that it blocks.
#[derive(Default)]
pub(super) struct Ticket(Mutex<TicketState>);

#[derive(Default)]
enum TicketState {
    #[default]
    Waits,
    Runs(Agent),
    GivenUp,
    Over,
}

impl Ticket {
    fn stage(&self) -> MutexGuard<'_, TicketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the call up: its connection is closed at once, which wakes its thread.
    pub(super) fn give_up(&self) {
        let before = std::mem::replace(&mut *self.stage(), TicketState::GivenUp);
        if let TicketState::Runs(agent) = before {
            agent.shutdown();
        }
    }

    /// Whether it is worth beginning with this agent.
    fn begin(&self, agent: &Agent) -> bool {
        let mut stage = self.stage();
        let wanted = matches!(*stage, TicketState::Waits);
        if wanted {
            *stage = TicketState::Runs(agent.clone());
        }
        wanted
    }

    /// Whether it was not given up meanwhile, which would have been the end of its agent.
    fn end(&self) -> bool {
        let mut stage = self.stage();
        let kept = matches!(*stage, TicketState::Runs(_));
        if kept {
            *stage = TicketState::Over;
        }
        kept
    }
}

/// The threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    caller: Box<dyn Fn() -> Caller + Send + Sync>,
}

struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
}

#[derive(Default)]
struct Queues {
    short: VecDeque<QueuedCall>,
    blocking: VecDeque<QueuedCall>,
    threads: usize,
    idle: usize,
    /// How many threads blocking queries have now.
    blocked: usize,
    /// How many they may have.
    blocked_max: usize,
    closed: bool,
}

impl Queues {
    fn next(&mut self) -> Option<QueuedCall> {
        if let Some(job) = self.short.pop_front() {
            return Some(job);
        }
        // One has a thread though nobody has said that there would be any.
        if self.blocked >= self.blocked_max.max(1) {
            return None;
        }
        let job = self.blocking.pop_front()?;
        self.blocked += 1;
        Some(job)
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// No threads yet; each gets what it calls with from `caller`.
    pub(super) fn new(caller: impl Fn() -> Caller + Send + Sync + 'static) -> Self {
        let shared = Shared { queues: Mutex::default(), work: Condvar::new() };
        Self { shared: Arc::new(shared), caller: Box::new(caller) }
    }

    /// Gives blocking queries so many threads.
    pub(super) fn reserve(&self, blocking: usize) {
        self.shared.queues().blocked_max = blocking;
    }

    /// Takes a call on.
    pub(super) fn push(&self, job: QueuedCall) {
        let mut queues = self.shared.queues();
        let waiting = queues.short.len() + queues.blocking.len();
        if job.call.blocks() { &mut queues.blocking } else { &mut queues.short }.push_back(job);
        if queues.idle > waiting || queues.threads >= queues.blocked_max + SHORT_MAX {
            self.shared.work.notify_one();
            return;
        }
        queues.threads += 1;
        drop(queues);
        let (shared, caller) = (Arc::clone(&self.shared), (self.caller)());
        let thread = std::thread::Builder::new().name("consul".into());
        if let Err(why) = thread.spawn(move || work(&shared, caller)) {
            tracing::warn!(target: "hax", %why, "no thread for a call to Consul");
            self.shared.queues().threads -= 1;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queues().closed = true;
        self.shared.work.notify_all();
    }
}

fn work(shared: &Shared, mut caller: Caller) {
    let mut queues = shared.queues();
    while !queues.closed {
        let Some(job) = queues.next() else {
            queues.idle += 1;
            queues = shared.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
            queues.idle -= 1;
            continue;
        };
        drop(queues);
        let blocks = job.call.blocks();
        one(&mut caller, job);
        queues = shared.queues();
        if blocks {
            queues.blocked -= 1;
            // Another may have waited for that.
            shared.work.notify_one();
        }
    }
}

fn one(caller: &mut Caller, job: QueuedCall) {
    if !job.ticket.begin(caller.agent()) {
        return;
    }
    let outcome = caller.call(&job.call);
    if !job.ticket.end() {
        return caller.renew();
    }
    // Nobody may want to know any more.
    let _ = job.answer.send(outcome.map_err(|failed| caller.judge(failed)));
}
