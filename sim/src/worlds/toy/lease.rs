//! The lease that one of several counters holds: the core's own, in the hands of a machine.

use std::time::Duration;

use hax_core::base::id::CallId;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::consul::port::Reply;
use hax_core::machine::{Cx, Kept, Kinds, Limits, Output};
use hax_core::store::lease::{self, Call, Change, Timer};

use super::bug::Bug;
use super::fact::Fact;

/// The key of the lease.
pub(super) const HOLDER: &str = "holder";

/// The lease's calls and timers are all that there are.
#[derive(Debug)]
struct LeaseKinds;

impl Kinds for LeaseKinds {
    type Continuation = Call;
    type Timer = Timer;
    type Output = Output<Fact>;
    type Shared = ();
}

/// What one machine knows of the lease.
#[derive(Debug)]
pub(super) struct Lease {
    kept: Kept<LeaseKinds>,
    lease: lease::Lease,
    bug: Option<Bug>,
}

impl Lease {
    pub(super) fn new(node: &str, seed: u64, bug: Option<Bug>) -> Self {
        let limits = Limits { call: Duration::from_secs(2), answer_bytes: 64 * 1024 };
        let config = lease::Config {
            key: HOLDER.into(),
            holder: node.into(),
            check: "counter-lease".into(),
            ttl: Duration::from_secs(1),
            belief: Duration::from_secs(3),
            watch: Duration::from_secs(10),
        };
        // The counter's own calls are the first machine's.
        let kept = Kept::new(CallId::first(1), seed, limits, ());
        Self { kept, lease: lease::Lease::new(config), bug }
    }

    /// The term in which this machine holds the lease, if it believes that it does now.
    pub(super) fn term(&self, now: Instant) -> Option<u64> {
        match self.bug {
            Some(Bug::LeaseKept) => self.lease.term(),
            Some(Bug::TermLost) => self.lease.believes(now).map(|_| 1),
            _ => self.lease.believes(now),
        }
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Next {
        self.kept.next()
    }

    /// Gives the lease up.
    pub(super) fn leave(&mut self, now: Now, out: &mut Vec<Output<Fact>>) {
        let held = self.lease.term().is_some();
        let mut cx = self.kept.cx(now, out);
        self.lease.resign(&mut cx);
        if held {
            cx.emit(Output::Fact(Fact::Lost));
        }
    }

    /// Wants the lease, and does what is due.
    pub(super) fn on_time(&mut self, now: Now, out: &mut Vec<Output<Fact>>) {
        let mut cx = self.kept.cx(now, out);
        self.lease.stand(&mut cx);
        while let Some(timer) = cx.next_due() {
            let change = self.lease.on_timer(&mut cx, timer);
            report(&mut cx, change);
        }
    }

    /// Takes a reply; false if it is not the lease's.
    pub(super) fn on_reply(
        &mut self,
        now: Now,
        reply: &Reply,
        out: &mut Vec<Output<Fact>>,
    ) -> bool {
        let mut cx = self.kept.cx(now, out);
        let Some(call) = cx.take(reply.id) else { return false };
        let outcome = cx.outcome(call, reply);
        let change = self.lease.on_answer(&mut cx, call, outcome.answer());
        report(&mut cx, change);
        true
    }
}

fn report(cx: &mut Cx<'_, LeaseKinds>, change: Option<Change>) {
    let fact = match change {
        None => return,
        Some(Change::Gained(_)) => Fact::Gained,
        Some(Change::Lost(_)) => Fact::Lost,
        Some(Change::Lapsed) => Fact::Lapsed,
        Some(Change::Proved) => Fact::Proved,
    };
    cx.emit(Output::Fact(fact));
}
