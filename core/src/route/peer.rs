//! The watch of the other router's service by Consul's checks, and the recovery of this router.
//!
//! The other router has failed if its service has instances and each of them has a critical check. The checks
//! of its node count, too. A service that is not in the catalog is no evidence of a failure. An agent that
//! leaves removes its services, while its router may still forward traffic.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;

use super::context::Cx;
use super::fact::Fact;
use crate::base::id::CallId;
use crate::base::time::Next;
use crate::consul::json;
use crate::consul::port::{Answer, Reply};
use crate::consul::url;
use crate::machine::{self, Kept, Kinds, Limits, Named, Output};
use crate::store::watch::Watch;

/// The duration of a blocking query.
const WAIT: Duration = Duration::from_secs(60);

/// The machine number of the peer's calls. It follows those of all groups.
const MACHINE: u8 = u8::MAX;

/// A change that the server handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The other router has failed.
    Failed,
    /// This router has been well for a while.
    Returned,
}

/// The watch of the other router. See the module.
#[derive(Debug)]
pub(super) struct Peer {
    kept: Kept<PeerKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    service: Box<str>,
    revert_after: Duration,
    watch: Watch,
    seen: Option<Seen>,
    is_well: bool,
}

/// The state of the service in one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Well,
    Failing,
    Unknown,
}

/// The blocking query of the service's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Health;

impl Named for Health {
    fn name(&self) -> &'static str {
        "watching the other router"
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Watch,
    Return,
}

impl Named for Timer {
    fn name(&self) -> &'static str {
        match self {
            Self::Watch => "peer-watch",
            Self::Return => "peer-return",
        }
    }
}

#[derive(Debug)]
struct PeerKinds;

impl Kinds for PeerKinds {
    type Continuation = Health;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

type PeerCx<'a> = machine::Cx<'a, PeerKinds>;

impl Peer {
    pub(super) fn new(service: &str, revert_after: Duration, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: 1 << 20 };
        let state = State {
            service: service.into(),
            revert_after,
            watch: Watch::new(url::health(service)),
            seen: None,
            is_well: false,
        };
        Self { kept: Kept::new(CallId::first(MACHINE), seed, limits, ()), state }
    }

    /// Begins the watch.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) {
        let cx = &mut cx.within(&mut self.kept);
        self.state.watch.send(cx, Health, WAIT);
    }

    /// Ends the watch because the server ends.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        let cx = &mut cx.within(&mut self.kept);
        cx.cancel_where(|_| true);
        cx.disarm(Timer::Watch);
        cx.disarm(Timer::Return);
    }

    pub(super) fn next(&self) -> Next {
        self.kept.next()
    }

    /// Handles Consul's reply to a call. The call may belong to another part of the server.
    pub(super) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) -> Option<Change> {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        let call = cx.take(reply.id)?;
        let outcome = cx.outcome(call, reply);
        state.on_health(cx, outcome.answer())
    }

    /// Handles the next timer that is due, if there is one.
    pub(super) fn on_due(&mut self, cx: &mut Cx<'_>) -> Option<Option<Change>> {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        Some(match cx.next_due()? {
            Timer::Watch => {
                state.watch.send(cx, Health, WAIT);
                None
            }
            Timer::Return => {
                cx.emit(Fact::Returned {});
                Some(Change::Returned)
            }
        })
    }
}

impl State {
    fn on_health(&mut self, cx: &mut PeerCx<'_>, answer: Option<&Answer>) -> Option<Change> {
        let Some(answer) = self.watch.on_answer(cx, Timer::Watch, answer) else {
            // A router that cannot reach Consul is not well.
            self.is_well = false;
            cx.disarm(Timer::Return);
            return None;
        };
        self.watch.send(cx, Health, WAIT);
        if !core::mem::replace(&mut self.is_well, true) {
            cx.arm(Timer::Return, self.revert_after);
        }
        let seen = Seen::of(answer)?;
        if self.seen.replace(seen) == Some(seen) {
            return None;
        }
        let service = self.service.clone();
        match seen {
            Seen::Well => cx.emit(Fact::PeerWell { service }),
            Seen::Unknown => cx.emit(Fact::PeerUnknown { service }),
            Seen::Failing => {
                cx.emit(Fact::PeerFailed { service });
                return Some(Change::Failed);
            }
        }
        None
    }
}

impl Seen {
    fn of(answer: &Answer) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Instance<'a> {
            #[serde(borrow)]
            checks: Vec<Check<'a>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Check<'a> {
            #[serde(borrow)]
            status: Cow<'a, str>,
        }
        let instances: Vec<Instance<'_>> = json::parse(&answer.body).ok()?;
        let fails = |of: &Instance<'_>| of.checks.iter().any(|check| check.status == "critical");
        Some(match instances.len() {
            0 => Self::Unknown,
            _ if instances.iter().all(fails) => Self::Failing,
            _ => Self::Well,
        })
    }
}
