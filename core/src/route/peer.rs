//! The other router's service, as Consul's checks see it, and this router's own return.
//!
//! The other router has failed where its service has instances and each has a critical check, its node's among
//! them. One that is not in the catalog says nothing: an agent that leaves takes its services along, and its
//! router may forward still.

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

/// How long a blocking query waits.
const WAIT: Duration = Duration::from_secs(60);

/// The number of its calls: behind those of all groups.
const MACHINE: u8 = u8::MAX;

/// What the server has to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The other router has failed.
    Failed,
    /// This one has been well for a while.
    Returned,
}

/// See the module.
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

/// What a look at the service shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Well,
    Failing,
    Unknown,
}

/// A blocking query on the service's health.
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

    /// Watches it from now on.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) {
        let cx = &mut cx.within(&mut self.kept);
        self.state.watch.send(cx, Health, WAIT);
    }

    /// The server ends.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        let cx = &mut cx.within(&mut self.kept);
        cx.cancel_where(|_| true);
        cx.disarm(Timer::Watch);
        cx.disarm(Timer::Return);
    }

    pub(super) fn next(&self) -> Next {
        self.kept.next()
    }

    /// Consul has answered a call, which may be another's.
    pub(super) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) -> Option<Change> {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        let call = cx.take(reply.id)?;
        let outcome = cx.outcome(call, reply);
        state.on_health(cx, outcome.answer())
    }

    /// Works the next timer that is due, if one is.
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
            // Whoever cannot reach Consul is not well.
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
