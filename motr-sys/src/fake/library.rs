//! The script's side of the fake: peers, their messages, and the observed calls of the library's user.

use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::functions::HA;
use super::links::free_link;
use super::spiel::{SPIEL, Says};
use super::state::{Phase, State, state, wait};
use crate::abi;
use crate::table::{Ha, Spiel, message};

/// The library of one test. There is one at a time: another test waits.
#[must_use = "its end is what fails the test"]
pub struct FakeLibrary {
    _alone: MutexGuard<'static, ()>,
}

/// An entrypoint request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request(pub(super) u64, pub(super) u64);

/// A link to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub(super) u64);

/// The reply to an entrypoint request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0, or a negative errno.
    pub rc: i32,
    /// The number of confds that must agree.
    pub quorum: u32,
    /// The confds: fid and endpoint.
    pub confds: Vec<((u64, u64), String)>,
    /// The resource manager's service.
    pub rm: (u64, u64),
    /// The resource manager's endpoint.
    pub rm_endpoint: Option<String>,
}

/// The arguments of `start` about the library's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The fid of its process.
    pub process: (u64, u64),
    /// The process's HA service.
    pub ha_service: (u64, u64),
    /// The process's resource manager.
    pub rm_service: (u64, u64),
    /// The endpoint at which it listens.
    pub endpoint: String,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Default for FakeLibrary {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeLibrary {
    /// Creates a library that is not initialised.
    pub fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        *state() = State::default();
        Self { _alone: alone }
    }

    /// Returns its functions.
    #[must_use]
    pub fn ha(&self) -> Ha {
        HA
    }

    /// Returns its functions for the cluster.
    #[must_use]
    pub fn spiel(&self) -> Spiel {
        SPIEL
    }

    /// Sets the result of the next command that is called by this field of [`Spiel`]; a command without a
    /// result waits.
    pub fn says(&self, name: &'static str, says: Says) {
        state().spiel.says.entry(name).or_default().push_back(says);
    }

    /// Refuses every command with this errno: there is no cluster.
    pub fn refuse_commands(&self, errno: i32) {
        state().spiel.refused = Some(errno);
    }

    /// Waits until a command about `fid` waits for its result.
    pub fn waits(&self, name: &'static str, fid: (u64, u64)) {
        self.wait("a command", |state| state.spiel.waiting.contains(&(name, fid)).then_some(()));
    }

    /// Fails the next start with this errno.
    pub fn refuse_start(&self, errno: i32) {
        state().refuse_start = Some(errno);
    }

    /// Sets whether sent messages are delivered at once.
    pub fn prompt(&self, prompt: bool) {
        state().prompt = prompt;
    }

    /// Sets whether messages of the library's user to itself are delayed.
    pub fn withhold(&self, withhold: bool) {
        let mut state = state();
        state.withhold = withhold;
        state.pass_on();
    }

    /// Makes errors abort the process, with a line on stderr: for programs, since there no test checks the
    /// library at its end.
    pub fn abort(&self) {
        state().aborts = true;
    }

    /// Waits for `start`; returns its arguments.
    pub fn started(&self) -> Started {
        self.wait("a start", |state| state.started.clone())
    }

    /// Sends an entrypoint request of life `pid` of a process.
    pub fn ask(&self, process: (u64, u64), pid: u64, first: bool) -> Request {
        let endpoint = CString::new(format!("inet:tcp:10.0.0.1@{pid}")).expect("no zero in it");
        state().ask((process, pid), endpoint, first)
    }

    /// Returns the reply, if there is one yet.
    #[must_use]
    pub fn replied(&self, request: Request) -> Option<Reply> {
        state().requests.get(&request).and_then(|asked| asked.reply.clone())
    }

    /// Waits for the reply.
    pub fn reply(&self, request: Request) -> Reply {
        self.wait("a reply", |state| {
            state.requests.get(&request).and_then(|asked| asked.reply.clone())
        })
    }

    /// Waits for the newest link of this life of a process.
    pub fn link(&self, process: (u64, u64), pid: u64) -> Link {
        self.wait("a link", |state| {
            let mut links = state.links.iter().rev();
            links.find(|(_, link)| link.life == (process, pid)).map(|(id, _)| Link(*id))
        })
    }

    /// Waits for the link to ourselves.
    pub fn own_link(&self) -> Link {
        self.wait("a link to ourselves", |state| {
            let mut links = state.links.iter();
            links.find(|(_, link)| Some(link.life) == state.own).map(|(id, _)| Link(*id))
        })
    }

    /// Sends a message from the peer, `fill`ed in from zeros. Returns its tag; `None` if the link has
    /// stopped.
    pub fn say(&self, link: Link, fill: impl FnOnce(&mut abi::m0_ha_msg)) -> Option<u64> {
        let mut message = message();
        fill(&mut message);
        state().receive(link, message)
    }

    /// Returns whether a received message is not acknowledged.
    #[must_use]
    pub fn is_held(&self, link: Link, tag: u64) -> bool {
        state().links.get(&link.0).is_some_and(|link| link.received.contains_key(&tag))
    }

    /// Waits until a message is acknowledged, or its link no longer exists.
    pub fn acknowledged(&self, link: Link, tag: u64) {
        self.wait("an acknowledgement", |state| {
            let held =
                state.links.get(&link.0).is_some_and(|link| link.received.contains_key(&tag));
            (!held).then_some(())
        });
    }

    /// Waits for the next message that is sent over a link.
    pub fn sent(&self, link: Link) -> Box<abi::m0_ha_msg> {
        self.wait("a message", |state| state.links.get_mut(&link.0)?.sent.pop_front())
    }

    /// Returns the number of messages sent over a link that [`Self::sent`] has not returned.
    #[must_use]
    pub fn unseen(&self, link: Link) -> usize {
        state().links.get(&link.0).map_or(0, |link| link.sent.len())
    }

    /// Settles the oldest unsettled message: it is delivered or not.
    pub fn settle(&self, link: Link, delivered: bool) {
        state().settle(link, delivered);
    }

    /// Returns the number of unsettled messages of a link.
    #[must_use]
    pub fn owed(&self, link: Link) -> usize {
        state().links.get(&link.0).map_or(0, |link| link.owed.len())
    }

    /// Returns the number of links, including the one to ourselves.
    #[must_use]
    pub fn links(&self) -> usize {
        state().links.len()
    }

    /// Returns the number of callbacks that have returned on the library's own thread; `None` while more are
    /// pending.
    #[must_use]
    pub fn calls(&self) -> Option<u64> {
        let state = state();
        let idle = state.calls.is_empty() && state.begun == state.returned;
        idle.then_some(state.returned)
    }

    /// Tells the library that a process has failed.
    pub fn fail(&self, process: (u64, u64)) {
        state().fail(process);
    }

    /// Waits until a link has been disconnected.
    pub fn disconnected(&self, link: Link) {
        self.wait("a disconnect", |state| (!state.links.contains_key(&link.0)).then_some(()));
    }

    /// Waits until the interface has been finished.
    pub fn finished(&self) {
        self.wait("fini", |state| (state.phase == Phase::Off).then_some(()));
    }

    /// Waits for an error on which the library would abort, and removes it.
    pub fn wrong(&self) -> String {
        self.wait("something wrong", |state| state.wrongs.pop())
    }

    fn wait<T>(&self, what: &str, found: impl FnMut(&mut State) -> Option<T>) -> T {
        wait(found).unwrap_or_else(|| panic!("{what} does not come; wrong: {:?}", state().wrongs))
    }
}

/// Ends all waits, and fails the test if there was a call on which the library aborts.
impl Drop for FakeLibrary {
    fn drop(&mut self) {
        let locality = {
            let mut state = state();
            state.over = true;
            state.locality.take()
        };
        // A running callback may still use the memory that is freed below.
        let panicked = locality.is_some_and(|thread| thread.join().is_err());
        let mut state = state();
        std::mem::take(&mut state.links).into_values().for_each(free_link);
        let wrongs = std::mem::take(&mut state.wrongs);
        drop(state);
        if !std::thread::panicking() {
            assert!(!panicked, "a callback has panicked");
            assert!(wrongs.is_empty(), "Motr's library would have aborted: {wrongs:#?}");
        }
    }
}
