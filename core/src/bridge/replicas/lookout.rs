//! Who notices that a watch hangs.
//!
//! Watches are default queries: Consul's servers pass them on to their leader, which answers as soon as
//! something has changed. A stale query is answered by the server that is asked, which hears of a change
//! with its leader's next heartbeat, up to 0.1 s later. But where the leader's machine is gone without a
//! word, a default query waits for it for 30 to 40 seconds, and one that is with a leader of before waits
//! on when there is another one.
//!
//! So beside the watch of what must not be told so late there is a *lookout*, a stale query of next to
//! nothing. It sees that the table has moved; a watch that does not bring that soon is given up, and the
//! table is followed by stale queries until something that must not be stale is answered again. Only what
//! is newer than the copy is taken either way.

use core::time::Duration;

use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::replicas::{Tables, is_reading};
use crate::cluster::replica::{Replica, Table};
use crate::consul::port::Answer;
use crate::ha::fact::Fact;
use crate::store::watch;

/// How soon a watch brings what its lookout has seen: usually it has done so before.
const OVERDUE_AFTER: Duration = Duration::from_millis(300);
/// The same where the table is so large that Consul takes longer than that to send it.
const OVERDUE_AFTER_MAX: Duration = Duration::from_secs(3);
/// The pause after a lookout that failed. Its watch fares no better, and is what matters.
const PAUSE: Duration = Duration::from_secs(1);

impl Tables {
    /// Sends a table's lookout, unless there is one or it is not needed.
    pub(crate) fn send_lookout(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &mut self.replicas[table as usize];
        let Some(target) = table.lookout() else { return };
        let idle = replica.lookout.is_none() && !cx.is_armed(Timer::Lookout(table));
        if idle && replica.is_loaded() && replica.stale_since.is_none() {
            let behind = replica.index.max(replica.seen);
            let most = cx.config().time.watch;
            replica.lookout =
                Some(watch::send(cx, Continuation::Lookout(table), target, behind, most));
        }
    }

    pub(crate) fn on_lookout(&mut self, cx: &mut Cx<'_>, table: Table, answer: Option<&Answer>) {
        let replica = &mut self.replicas[table as usize];
        if replica.lookout.take().is_none() {
            return;
        }
        let Some(answer) = answer.filter(|answer| is_reading(answer)) else {
            cx.arm(Timer::Lookout(table), PAUSE);
            return;
        };
        let owes = replica.is_behind();
        // Where it has gone back, the watch tells whether Consul has begun anew.
        replica.seen = answer.index;
        replica.due = answer.index;
        cx.arm(Timer::Lookout(table), cx.config().time.watch_interval_min);
        // A watch that owes something already has no more time for what comes on top of it.
        if !(owes && cx.is_armed(Timer::Overdue(table))) {
            self.expect_watch(cx, table);
        }
    }

    /// If the copy is behind what a lookout saw, the watch in flight has to bring it soon. Where none is
    /// in flight, this is called again when one is.
    pub(crate) fn expect_watch(&self, cx: &mut Cx<'_>, table: Table) {
        let replica = &self.replicas[table as usize];
        if replica.is_behind() && replica.watch.is_some() && replica.stale_since.is_none() {
            cx.arm(Timer::Overdue(table), overdue_after(replica));
        }
    }

    /// The watch should have brought by now what a lookout saw.
    pub(crate) fn on_overdue(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &self.replicas[table as usize];
        if replica.decoding {
            // What is being decoded may be older than that.
            self.expect_watch(cx, table);
        } else if replica.is_behind() && replica.watch.is_some() && replica.stale_since.is_none() {
            cx.fact(Fact::WatchHangs { table: table.name() });
            // What else the same leader was asked for hangs, too.
            for table in Table::ALL {
                if table.lookout().is_some() && self.replicas[table as usize].stale_since.is_none()
                {
                    self.watch_stale(cx, table);
                }
            }
        }
    }

    /// The watch has failed or hangs: follows what the server that is asked has, and asks for a proof, which
    /// its leader has to give.
    pub(crate) fn watch_stale(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &mut self.replicas[table as usize];
        replica.calls().for_each(|call| cx.cancel(call));
        replica.stale_since = Some(cx.call_seq());
        replica.asked = cx.call_seq();
        self.watch(cx, table);
        self.prove(cx, table);
    }

    /// The servers' leader answers: it is followed again. What the lookout saw is in the copy by now, or is
    /// not true. A watch without a lookout may be with a leader of before, and is asked anew.
    pub(crate) fn watch_leader(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &mut self.replicas[table as usize];
        replica.stale_since = None;
        replica.due = 0;
        for other in Table::ALL {
            if other != table && other.lookout().is_some() {
                continue;
            }
            let watch = self.replicas[other as usize].watch.take();
            watch.into_iter().for_each(|watch| cx.cancel(watch.call));
            if other == table || watch.is_some() {
                self.watch(cx, other);
            }
        }
    }
}

fn overdue_after(replica: &Replica) -> Duration {
    (replica.read_time * 2).clamp(OVERDUE_AFTER, OVERDUE_AFTER_MAX)
}
