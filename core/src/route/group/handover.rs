//! The handover of a lease: a router that is to hold it asks the holder, and the holder gives it up once its
//! handlers have ended.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::calls::{Call, GroupCx, Timer};
use super::{ASK_AGAIN, Change, FORM, LOOK_AGAIN, Leaving, State, WATCH};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::consul::json::{self, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::route::fact::Fact;
use crate::store::lease::Holder;
use crate::store::txn;

/// The request to the holder of a lease.
#[derive(Serialize, Deserialize)]
struct Ask {
    v: u32,
    by: Box<str>,
    /// The term of the asked holder. An earlier one makes the request void.
    term: u64,
}

impl State {
    /// Watches for a request of the lease while this router holds it.
    pub(super) fn watch_asks(&mut self, cx: &mut GroupCx<'_>) {
        let hears = !mutant(Mutant::AskUnheard);
        if self.lease.term().is_some() && self.leaving.is_none() && hears {
            self.asks.send(cx, Call::WatchAsk, WATCH);
        }
    }

    pub(super) fn on_asked(
        &mut self,
        cx: &mut GroupCx<'_>,
        answer: Option<&Answer>,
    ) -> Option<Change> {
        let answer = self.asks.on_answer(cx, Timer::WatchAsk, answer)?;
        let asked = asked(answer).filter(|ask| ask.v == FORM);
        let term = self.lease.term()?;
        match asked.filter(|ask| ask.term == term && ask.by != self.config.name) {
            Some(Ask { by, .. }) => {
                cx.emit(Fact::Asked { group: self.name.clone(), by: by.clone() });
                self.leaving.get_or_insert(Leaving::To(by));
                // No new handler is started. The running ones finish.
                Some(Change::Seen)
            }
            None => {
                self.watch_asks(cx);
                None
            }
        }
    }

    /// Returns whether this router is to hold the lease while all is well.
    pub(super) fn wants_it_back(&self) -> bool {
        self.config.preempt && self.members.is_some_and(|members| members.is_primary)
    }

    pub(super) fn plan_to_ask(&self, cx: &mut GroupCx<'_>) {
        if let Some(since) = self.well_since.filter(|_| self.wants_it_back()) {
            cx.arm_no_later(Timer::Ask, since.after(self.config.revert_after));
        }
    }

    /// Asks the holder for the lease, if this router is to hold it.
    pub(super) fn ask(&self, cx: &mut GroupCx<'_>) {
        let now = cx.now().mono;
        let is_well = |since: Instant| now >= since.after(self.config.revert_after);
        let is_demanded = self.demanded_until.is_some_and(|until| now < until);
        let is_time = self.wants_it_back() && self.well_since.is_some_and(is_well);
        if self.members.is_none() {
            return;
        }
        if self.lease.term().is_some() {
            // What is demanded may be lost before it is proved again, or be about to be handed over.
            if is_demanded {
                cx.arm(Timer::Ask, LOOK_AGAIN);
            }
            return;
        }
        if !is_time && !is_demanded {
            // Consul was unreachable for some of the time.
            return self.plan_to_ask(cx);
        }
        let holder = self.lease.holder().filter(|holder| holder.name != self.config.name);
        let Some(Holder { name, term }) = holder.cloned() else {
            return cx.arm(Timer::Ask, LOOK_AGAIN);
        };
        let ask = Ask { v: FORM, by: self.config.name.clone(), term };
        // Text and numbers can always be serialized.
        let value = serde_json::to_vec(&ask).unwrap_or_default();
        txn::send(cx, Call::Ask, &[Op::set(&ask_key(&self.name), &value)]);
        cx.emit(Fact::Asks { group: self.name.clone(), holder: name, term });
        cx.arm(Timer::Ask, ASK_AGAIN);
    }
}

/// Returns the request in the response to a read of the request key.
fn asked(answer: &Answer) -> Option<Ask> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
    serde_json::from_slice(&entry.bytes()?).ok()
}

pub(super) fn ask_key(group: &str) -> String {
    format!("ha/route/{group}/ask")
}
