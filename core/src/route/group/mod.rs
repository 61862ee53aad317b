//! A group: redundancy nodes that two routers share. Only one router at a time acts on them: the holder of
//! the lease `ha/route/GROUP`.
//!
//! A new holder writes its routes and reads them back three times. Where the route table cannot refuse a
//! stale write, a write that the last holder began may arrive late. A primary that has been well for a while
//! asks for the lease. The holder then finishes the running handlers and gives the lease up. This avoids the
//! delay that follows a holder's death.

mod calls;
mod handover;

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use super::context::Cx;
use super::fact::Fact;
use crate::base::id::CallId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{Instant, Next};
use crate::consul::port::{Answer, Reply};
use crate::consul::url;
use crate::machine::{Kept, Limits};
use crate::store::lease::{self, Holder, Lease};
use crate::store::session;
use crate::store::watch::Watch;
use calls::{Call, GroupCx, GroupKinds, ReadBack, Timer};

/// The TTL of a router's check in Consul: the shortest that Consul supports.
pub(super) const TTL: Duration = Duration::from_secs(1);

/// The duration of a blocking query.
const WATCH: Duration = Duration::from_secs(60);

/// The times of a new holder's first and second read-back.
const READ_BACK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// The delay of the third read-back, counted from the latest possible end of the last holder's handlers.
const READ_BACK_LAST: Duration = Duration::from_secs(5);

/// The time that a holder has to give the lease up, before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The delay before the next check whether there is a holder to ask.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The format version of a request for the lease.
const FORM: u32 = 1;

/// The configuration of the server's work with Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of this router. It is unique among the routers of its groups.
    pub name: Box<str>,
    /// The time for which a holder may act without a new proof, and for which Consul withholds a lost lease
    /// from other routers: 1 to 60 s.
    pub hold: Duration,
    /// The time for which a primary has to be well before it takes its routes back.
    pub revert_after: Duration,
    /// Whether a primary that is well asks for the lease at all.
    pub preempt: bool,
    /// The service of the other router. Its failure is a `peerFail` event on this router.
    pub peer: Option<Box<str>>,
}

/// The properties of a group that follow from its redundancy nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Members {
    /// Whether this router is the primary of all of them.
    pub(super) is_primary: bool,
    /// The maximum duration of a handler of one of them.
    pub(super) deadline: Duration,
}

/// A change of a group that the server handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This router has acquired the lease, so the routes must lead to it.
    Gained,
    /// A read-back of the routes is due.
    ReadBack,
    /// The lease is lost, so nothing may be written any more.
    Gone,
    /// Another fact about the lease has changed.
    Seen,
}

/// The state machine of one group. See the module.
#[derive(Debug)]
pub(super) struct Group {
    kept: Kept<GroupKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    name: Box<str>,
    config: Config,
    lease: Lease,
    /// The properties that follow from the redundancy nodes. None if there are no nodes.
    members: Option<Members>,
    asks: Watch,
    /// The reason for which the lease is given up once no handler of the group runs.
    leaving: Option<Leaving>,
    /// The time since which every call to Consul has succeeded.
    well_since: Option<Instant>,
    /// The time of the last response of Consul's servers or, before that, of the first call.
    heard: Option<Instant>,
    /// The end of a client's demand that this router acquires the lease.
    demanded_until: Option<Instant>,
}

/// The reason for which a held lease is given up. A released lease can be acquired without a delay, so the
/// running handlers end before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leaving {
    /// This router asks.
    To(Box<str>),
    /// The group has no redundancy nodes any more, or its term is too low for a route.
    Useless,
}

impl Group {
    pub(super) fn new(name: &str, config: Config, first: CallId, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: 64 << 10 };
        let lease = Lease::new(lease::Config {
            key: key(name).into(),
            holder: config.name.clone(),
            check: format!("hax-route-{name}-{}", config.name).into(),
            ttl: TTL,
            belief: config.hold,
            watch: WATCH,
        });
        let state = State {
            name: name.into(),
            config,
            lease,
            members: None,
            asks: Watch::new(url::key(&handover::ask_key(name))),
            leaving: None,
            well_since: None,
            heard: None,
            demanded_until: None,
        };
        Self { kept: Kept::new(first, seed, limits, ()), state }
    }

    // ---- queries ----------------------------------------------------------------------------------

    /// Returns the key of the group's lease.
    pub(super) fn key(&self) -> Box<str> {
        key(&self.state.name).into()
    }

    /// Returns the lease's session and term, and the time until which this router may act. Returns none if it
    /// may not act.
    pub(super) fn held(&self, now: Instant) -> Option<Held<'_>> {
        let State { lease, leaving, .. } = &self.state;
        if leaving.is_some() {
            return None;
        }
        let term = lease.believes(now)?;
        Some(Held { session: lease.session()?, term, until: lease.believed_until()? })
    }

    /// Returns whether work begun in this term is still valid, because no other router can hold the lease.
    pub(super) fn believes(&self, now: Instant, term: u64) -> bool {
        self.state.lease.believes(now) == Some(term)
    }

    /// Returns the holder, if it is another router.
    pub(super) fn other(&self) -> Option<&Holder> {
        let State { lease, config, .. } = &self.state;
        lease.holder().filter(|holder| lease.term().is_none() && holder.name != config.name)
    }

    /// Returns the term while this router holds the lease, as far as it knows.
    pub(super) fn term(&self) -> Option<u64> {
        self.state.lease.term()
    }

    /// Returns whether Consul has not responded for so long that no router can act under the lease.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        let State { heard, config, .. } = &self.state;
        heard.is_none_or(|heard| now >= heard.after(2 * config.hold + TTL))
    }

    /// Returns whether the group has redundancy nodes.
    pub(super) fn is_used(&self) -> bool {
        self.state.members.is_some()
    }

    /// Returns whether the lease is to be given up once no handler of the group runs.
    pub(super) fn is_to_be_released(&self) -> bool {
        self.state.leaving.is_some()
    }

    /// Returns whether a call to Consul is in flight.
    pub(super) fn has_calls(&self) -> bool {
        self.kept.in_flight() > 0
    }

    pub(super) fn next(&self) -> Next {
        self.kept.next()
    }

    // ---- requests ---------------------------------------------------------------------------------

    /// Updates the properties that follow from the group's redundancy nodes.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, members: Option<Members>) {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        match (state.members, members) {
            (None, Some(_)) => {
                // Both times count from here, so Consul gets its full time to respond.
                (state.heard, state.well_since) = (Some(cx.now().mono), None);
                state.lease.stand(cx);
            }
            (Some(_), None) => state.leave(cx, Leaving::Useless),
            (Some(before), Some(after)) if before.is_primary != after.is_primary => {
                state.members = members;
                state.plan_to_ask(cx);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        state.members = members;
    }

    /// Records a client's demand for the lease, and asks for the lease at once.
    pub(super) fn demand(&mut self, cx: &mut Cx<'_>, until: Instant) {
        let cx = &mut cx.within(&mut self.kept);
        if self.state.demanded_until.replace(until).is_none_or(|until| until <= cx.now().mono) {
            cx.disarm(Timer::Stand);
            self.state.lease.stand(cx);
            self.state.ask(cx);
        }
    }

    /// Gives the lease up. It is called when no handler of the group runs.
    pub(super) fn release(&mut self, cx: &mut Cx<'_>) {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        let Some(leaving) = state.leaving.take() else { return };
        state.give_up(cx);
        match leaving {
            Leaving::To(to) => {
                cx.emit(Fact::HandedOver { group: state.name.clone(), to });
                // The router that asked for the lease gets the first chance to acquire it.
                cx.arm(Timer::Stand, state.config.hold + TTL);
            }
            Leaving::Useless => cx.arm(Timer::Stand, LOOK_AGAIN),
        }
    }

    /// Raises the minimum term. The route has been written in `term`, so this router's term has to be higher.
    pub(super) fn raise(&mut self, cx: &mut Cx<'_>, term: u64) {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        state.lease.raise(term);
        state.leave(cx, Leaving::Useless);
    }

    /// Gives the lease up because the server ends.
    pub(super) fn resign(&mut self, cx: &mut Cx<'_>) {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        state.members = None;
        state.give_up(cx);
        cx.disarm(Timer::Ask);
        cx.disarm(Timer::Stand);
    }

    // ---- events -----------------------------------------------------------------------------------

    /// Handles Consul's reply to a call. The call may belong to another part of the server.
    pub(super) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: &Reply) -> Option<Change> {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        let call = cx.take(reply.id)?;
        let outcome = cx.outcome(call, reply);
        state.on_answer(cx, call, outcome.answer())
    }

    /// Handles the next timer that is due.
    pub(super) fn on_due(&mut self, cx: &mut Cx<'_>) -> Option<Option<Change>> {
        let (cx, state) = (&mut cx.within(&mut self.kept), &mut self.state);
        let timer = cx.next_due()?;
        Some(state.on_timer(cx, timer))
    }
}

/// A held lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) session: &'a str,
    pub(super) term: u64,
    pub(super) until: Instant,
}

impl State {
    fn on_answer(
        &mut self,
        cx: &mut GroupCx<'_>,
        call: Call,
        answer: Option<&Answer>,
    ) -> Option<Change> {
        let now = cx.now().mono;
        if answer.is_none() {
            self.well_since = None;
        } else if !is_of_the_agent(call) {
            self.heard = Some(now);
            if self.well_since.is_none() {
                self.well_since = Some(now);
                self.plan_to_ask(cx);
            }
        }
        match call {
            Call::Lease(call) => {
                let change = self.lease.on_answer(cx, call, answer);
                Some(self.on_lease(cx, change).unwrap_or(Change::Seen))
            }
            Call::WatchAsk => self.on_asked(cx, answer),
            Call::Ask => None,
        }
    }

    fn on_timer(&mut self, cx: &mut GroupCx<'_>, timer: Timer) -> Option<Change> {
        match timer {
            Timer::Lease(timer) => {
                let change = self.lease.on_timer(cx, timer);
                self.on_lease(cx, change)
            }
            Timer::WatchAsk => {
                self.watch_asks(cx);
                None
            }
            Timer::Ask => {
                self.ask(cx);
                None
            }
            Timer::Stand => {
                if self.members.is_some() {
                    self.lease.stand(cx);
                }
                None
            }
            Timer::ReadBack(_) => Some(Change::ReadBack),
        }
    }

    fn on_lease(&mut self, cx: &mut GroupCx<'_>, change: Option<lease::Change>) -> Option<Change> {
        let group = self.name.clone();
        match change? {
            lease::Change::Gained(term) => {
                cx.emit(Fact::Gained { group, term });
                cx.disarm(Timer::Ask);
                self.demanded_until = None;
                let deadline = self.members.map_or(Duration::ZERO, |members| members.deadline);
                let [first, second] = READ_BACK;
                let last = deadline.min(self.config.hold) + READ_BACK_LAST;
                if !mutant(Mutant::NotReadBack) {
                    cx.arm(Timer::ReadBack(ReadBack::First), first);
                    cx.arm(Timer::ReadBack(ReadBack::Second), second);
                    cx.arm(Timer::ReadBack(ReadBack::Last), last);
                }
                self.watch_asks(cx);
                Some(Change::Gained)
            }
            lease::Change::Lost(why) => {
                cx.emit(Fact::Lost { group, why: why.into() });
                self.on_gone(cx);
                Some(Change::Gone)
            }
            lease::Change::Lapsed => {
                cx.emit(Fact::Lapsed { group });
                Some(Change::Gone)
            }
            // The events whose handlers were terminated at the lapse are handled again.
            lease::Change::Proved => {
                cx.emit(Fact::Proved { group });
                self.demanded_until = None;
                Some(Change::Gained)
            }
        }
    }

    fn on_gone(&mut self, cx: &mut GroupCx<'_>) {
        self.leaving = None;
        if self.members.is_none() {
            self.lease.resign(cx);
        }
        for nth in [ReadBack::First, ReadBack::Second, ReadBack::Last] {
            cx.disarm(Timer::ReadBack(nth));
        }
        cx.disarm(Timer::WatchAsk);
        cx.cancel_where(|call| call == Call::WatchAsk);
        self.asks.cancelled();
        self.well_since = Some(cx.now().mono);
        self.plan_to_ask(cx);
    }

    /// Gives the lease up once no handler runs, or at once if it is not held.
    fn leave(&mut self, cx: &mut GroupCx<'_>, why: Leaving) {
        if self.lease.term().is_some() {
            self.leaving.get_or_insert(why);
        } else {
            self.give_up(cx);
            cx.arm(Timer::Stand, LOOK_AGAIN);
        }
    }

    fn give_up(&mut self, cx: &mut GroupCx<'_>) {
        self.lease.resign(cx);
        self.on_gone(cx);
    }
}

/// Returns whether the agent answers a call by itself, also while it has no servers.
fn is_of_the_agent(call: Call) -> bool {
    use session::Call::{Beat, Create, Leave, Register};
    match call {
        Call::Lease(lease::Call::Session(call)) => match call {
            Register | Beat | Leave => true,
            Create => false,
        },
        Call::Lease(_) | Call::WatchAsk | Call::Ask => false,
    }
}

fn key(group: &str) -> alloc::string::String {
    format!("ha/route/{group}")
}
