//! The script's side of the fake: peers, what they say, and what is seen of the library's user.

use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::functions::HA;
use super::links::free_link;
use super::spiel::{SPIEL, Says};
use super::state::{Phase, State, state, wait};
use crate::abi;
use crate::table::{Ha, Spiel, message};

/// One test's library. There is one at a time: another test waits.
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

/// The answer to an entrypoint request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0, or a negative errno.
    pub rc: i32,
    /// How many confds must agree.
    pub quorum: u32,
    /// The confds: fid and endpoint.
    pub confds: Vec<((u64, u64), String)>,
    /// The resource manager's service.
    pub rm: (u64, u64),
    /// Where it is.
    pub rm_endpoint: Option<String>,
}

/// What `start` was told of the library's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its process.
    pub process: (u64, u64),
    /// The process's HA service.
    pub ha_service: (u64, u64),
    /// The process's resource manager.
    pub rm_service: (u64, u64),
    /// Where it listens.
    pub endpoint: String,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Default for FakeLibrary {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeLibrary {
    /// A library that nobody has initialised.
    pub fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        *state() = State::default();
        Self { _alone: alone }
    }

    /// Its functions.
    #[must_use]
    pub fn ha(&self) -> Ha {
        HA
    }

    /// Its functions for the cluster.
    #[must_use]
    pub fn spiel(&self) -> Spiel {
        SPIEL
    }

    /// What comes of the next command that is called by this field of [`Spiel`]; until it is said, the
    /// command waits.
    pub fn says(&self, name: &'static str, says: Says) {
        state().spiel.says.entry(name).or_default().push_back(says);
    }

    /// Every command is refused with this errno: there is no cluster to command.
    pub fn refuse_commands(&self, errno: i32) {
        state().spiel.refused = Some(errno);
    }

    /// Waits until a command about `fid` waits for what comes of it.
    pub fn waits(&self, name: &'static str, fid: (u64, u64)) {
        self.wait("a command", |state| state.spiel.waiting.contains(&(name, fid)).then_some(()));
    }

    /// The next start fails with this errno.
    pub fn refuse_start(&self, errno: i32) {
        state().refuse_start = Some(errno);
    }

    /// Whether what is sent is delivered at once.
    pub fn prompt(&self, prompt: bool) {
        state().prompt = prompt;
    }

    /// Whether what the library's user sends to itself stays on its way.
    pub fn withhold(&self, withhold: bool) {
        let mut state = state();
        state.withhold = withhold;
        state.pass_on();
    }

    /// From now on what the library would abort on aborts, with a line on stderr: for programs, in which
    /// nobody looks at the library's end.
    pub fn abort(&self) {
        state().aborts = true;
    }

    /// Waits for `start`; who its user says to be.
    pub fn started(&self) -> Started {
        self.wait("a start", |state| state.started.clone())
    }

    /// Life `pid` of a process asks for its entrypoint.
    pub fn ask(&self, process: (u64, u64), pid: u64, first: bool) -> Request {
        let endpoint = CString::new(format!("inet:tcp:10.0.0.1@{pid}")).expect("no zero in it");
        state().ask((process, pid), endpoint, first)
    }

    /// The answer, if there is one yet.
    #[must_use]
    pub fn replied(&self, request: Request) -> Option<Reply> {
        state().requests.get(&request).and_then(|asked| asked.reply.clone())
    }

    /// Waits for the answer.
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

    /// The peer sends a message, `fill`ed in from zeros. Returns its tag; `None` if the link has
    /// stopped.
    pub fn say(&self, link: Link, fill: impl FnOnce(&mut abi::m0_ha_msg)) -> Option<u64> {
        let mut message = message();
        fill(&mut message);
        state().receive(link, message)
    }

    /// Whether a message that was received is not acknowledged.
    #[must_use]
    pub fn is_held(&self, link: Link, tag: u64) -> bool {
        state().links.get(&link.0).is_some_and(|link| link.received.contains_key(&tag))
    }

    /// Waits until a message is acknowledged, or its link is no more.
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

    /// How many messages were sent over a link that nobody has looked at.
    #[must_use]
    pub fn unseen(&self, link: Link) -> usize {
        state().links.get(&link.0).map_or(0, |link| link.sent.len())
    }

    /// The oldest message sent that is not settled: has it been delivered?
    pub fn settle(&self, link: Link, delivered: bool) {
        state().settle(link, delivered);
    }

    /// How many messages that were sent over a link are not settled.
    #[must_use]
    pub fn owed(&self, link: Link) -> usize {
        state().links.get(&link.0).map_or(0, |link| link.owed.len())
    }

    /// How many links there are, that to ourselves with them.
    #[must_use]
    pub fn links(&self) -> usize {
        state().links.len()
    }

    /// How many callbacks have returned on the library's own thread; `None` while there are more to come.
    #[must_use]
    pub fn calls(&self) -> Option<u64> {
        let state = state();
        let idle = state.calls.is_empty() && state.begun == state.returned;
        idle.then_some(state.returned)
    }

    /// The library is told that a process has failed.
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

    /// Waits for something that would have made the library abort, and forgives it.
    pub fn wrong(&self) -> String {
        self.wait("something wrong", |state| state.wrongs.pop())
    }

    fn wait<T>(&self, what: &str, found: impl FnMut(&mut State) -> Option<T>) -> T {
        wait(found).unwrap_or_else(|| panic!("{what} does not come; wrong: {:?}", state().wrongs))
    }
}

/// Lets all that wait go, and fails the test if anything was done that the library aborts on.
impl Drop for FakeLibrary {
    fn drop(&mut self) {
        let locality = {
            let mut state = state();
            state.over = true;
            state.locality.take()
        };
        // A callback that is running may still use what is freed below.
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
