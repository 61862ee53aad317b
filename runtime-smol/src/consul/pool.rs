//! A small bounded pool of threads for blocking calls. Each thread keeps a connection of its own.
//!
//! Blocking queries may wait for a minute, so they never take all threads: some threads are always left for
//! short calls.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use hax_core::consul::port::{Answer, Unanswered};
use ureq::Agent;

use super::caller::{Call, Caller};

/// The number of threads for short calls, in addition to those of blocking queries.
const SHORT_MAX: usize = 3;

/// A call that waits for a thread, or has one.
pub(super) struct QueuedCall {
    pub(super) call: Call,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Result<Answer, Unanswered>>,
}

/// The handle that cancels a call from another thread.
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

    /// Cancels the call: its connection is closed at once, which wakes its thread.
    pub(super) fn give_up(&self) {
        let before = std::mem::replace(&mut *self.stage(), TicketState::GivenUp);
        if let TicketState::Runs(agent) = before {
            agent.shutdown();
        }
    }

    /// Marks the call as running with this agent; returns false if it was cancelled.
    fn begin(&self, agent: &Agent) -> bool {
        let mut stage = self.stage();
        let wanted = matches!(*stage, TicketState::Waits);
        if wanted {
            *stage = TicketState::Runs(agent.clone());
        }
        wanted
    }

    /// Marks the call as complete; returns false if it was cancelled meanwhile, which has closed its agent.
    fn end(&self) -> bool {
        let mut stage = self.stage();
        let kept = matches!(*stage, TicketState::Runs(_));
        if kept {
            *stage = TicketState::Over;
        }
        kept
    }
}

/// The pool of threads.
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
    /// The number of threads with blocking queries.
    blocked: usize,
    /// The maximum of that number.
    blocked_max: usize,
    closed: bool,
}

impl Queues {
    fn next(&mut self) -> Option<QueuedCall> {
        if let Some(job) = self.short.pop_front() {
            return Some(job);
        }
        // One blocking query gets a thread even without a reservation.
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
    /// Creates a pool without threads; `caller` creates the caller of each thread.
    pub(super) fn new(caller: impl Fn() -> Caller + Send + Sync + 'static) -> Self {
        let shared = Shared { queues: Mutex::default(), work: Condvar::new() };
        Self { shared: Arc::new(shared), caller: Box::new(caller) }
    }

    /// Sets the number of threads for blocking queries.
    pub(super) fn reserve(&self, blocking: usize) {
        self.shared.queues().blocked_max = blocking;
    }

    /// Queues a call.
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
            // Another blocking query may have waited for this thread's slot.
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
    // The receiver may be gone.
    let _ = job.answer.send(outcome.map_err(|failed| caller.on_answer(failed)));
}
