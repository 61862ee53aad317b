//! The state of the fake: one interface, since a process has one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use super::library::{Reply, Request, Started};
use super::links::{Life, LinkState};
use super::locality::{Call, Callbacks};
use super::spiel;
use crate::abi;

/// The time that the fake waits for an expected action, sufficient on any busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A pointer to memory that the fake owns, or a pointer that is only compared.
pub(super) struct Ptr<T: ?Sized>(pub(super) *mut T);

impl<T: ?Sized> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Ptr<T> {}

// SAFETY: the pointer points to plain memory, freed by one thread under the state's lock; no thread has any
// claim on it.
unsafe impl<T: ?Sized> Send for Ptr<T> {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Off,
    Initialised,
    Working,
    Stopping,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) life: Life,
    pub(super) first: bool,
    pub(super) reply: Option<Reply>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) main: Option<ThreadId>,
    pub(super) hi: Option<Ptr<abi::m0_halon_interface>>,
    pub(super) callbacks: Option<Callbacks>,
    pub(super) locality: Option<JoinHandle<()>>,
    pub(super) calls: VecDeque<Call>,
    /// The number of started callbacks, and the number of those that have returned.
    pub(super) begun: u64,
    pub(super) returned: u64,
    pub(super) requests: BTreeMap<Request, Asked>,
    pub(super) links: BTreeMap<u64, LinkState>,
    pub(super) links_made: u64,
    /// The lives whose link has been disconnected.
    pub(super) gone: BTreeSet<Life>,
    /// The states of processes that were sent over the link to ourselves.
    pub(super) told: BTreeMap<(u64, u64), u32>,
    pub(super) adopted: Vec<ThreadId>,
    /// `start` has returned, and `stop` has not been called.
    pub(super) open: bool,
    pub(super) spiel: spiel::State,
    pub(super) own: Option<Life>,
    pub(super) started: Option<Started>,
    /// The errno that the next start returns at once.
    pub(super) refuse_start: Option<i32>,
    /// Sent messages are delivered at once.
    pub(super) prompt: bool,
    /// Messages to ourselves are delayed until the script releases them.
    pub(super) withhold: bool,
    pub(super) withheld: Vec<Call>,
    /// The test is over: all waits end.
    pub(super) over: bool,
    pub(super) wrongs: Vec<String>,
    /// A recorded error aborts the process.
    pub(super) aborts: bool,
}

impl State {
    #[expect(clippy::print_stderr, reason = "as the real one before it aborts")]
    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.aborts {
            eprintln!("Motr's library aborts: {what}");
            std::process::abort();
        }
        self.wrongs.push(what);
    }

    pub(super) fn on_main(&mut self, function: &str) {
        if self.main != Some(std::thread::current().id()) {
            self.wrong(format!("{function} on another thread than init"));
        }
    }

    /// Returns whether this is the existing interface, and it is started.
    pub(super) fn is_working(&mut self, hi: *mut abi::m0_halon_interface, function: &str) -> bool {
        let known = self.hi.is_some_and(|own| own.0 == hi);
        let works = known && matches!(self.phase, Phase::Working | Phase::Stopping);
        if !works {
            self.wrong(format!("{function} on an interface that is not started"));
        }
        works
    }
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();

/// The locked state. No callback may be called while it is held. Waiting threads check again when it is
/// dropped.
pub(super) struct Held(MutexGuard<'static, State>);

pub(super) fn state() -> Held {
    Held(STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl std::ops::Deref for Held {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl std::ops::DerefMut for Held {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        CHANGED.notify_all();
    }
}

/// Waits until `found` returns a value; `None` if nothing changes for [`LIMIT`], or the test is over.
pub(super) fn wait<T>(mut found: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(what) = found(&mut state) {
            CHANGED.notify_all();
            return Some(what);
        }
        if state.over {
            return None;
        }
        let (again, waited) =
            CHANGED.wait_timeout(state, LIMIT).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        state = again;
    }
}
