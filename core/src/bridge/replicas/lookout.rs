//! Detection of hanging watches.
//!
//! Watches are default queries: Consul's servers forward them to their leader, which responds as soon as
//! something has changed. A stale query is answered by the server that receives it. That server learns of a
//! change with its leader's next heartbeat, up to 0.1 s later. But if the leader's machine disappears
//! silently, a default query waits for it for 30 to 40 seconds, and a query at a former leader keeps waiting
//! after a new one is elected.
//!
//! So the watches of urgent tables are accompanied by a *lookout*, a stale query with a tiny response. It
//! notices that the table has changed. A watch that does not deliver the change soon after is cancelled, and
//! the table is followed by stale queries until a consistent query is answered again. In both modes only data
//! newer than the copy is used.

use core::time::Duration;

use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::replicas::{Tables, is_reading};
use crate::cluster::replica::{Replica, Table};
use crate::consul::port::Answer;
use crate::ha::fact::Fact;
use crate::store::watch;

/// The time limit for a watch to deliver a change seen by its lookout; usually it is faster than the lookout.
const OVERDUE_AFTER: Duration = Duration::from_millis(300);
/// The same limit for a table so large that Consul needs longer than that to send it.
const OVERDUE_AFTER_MAX: Duration = Duration::from_secs(3);
/// The pause after a failed lookout. The watch, which matters more, will have failed too.
const PAUSE: Duration = Duration::from_secs(1);

impl Tables {
    /// Sends a table's lookout, unless one is in flight or it is not needed.
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
        // If the index has gone backwards, the watch tells whether Consul's indexes have restarted.
        replica.seen = answer.index;
        replica.due = answer.index;
        cx.arm(Timer::Lookout(table), cx.config().time.watch_interval_min);
        // A watch that is behind already gets no more time for a further change.
        if !(owes && cx.is_armed(Timer::Overdue(table))) {
            self.expect_watch(cx, table);
        }
    }

    /// Sets the time limit of the watch in flight, if the copy is behind the lookout.
    ///
    /// If no watch is in flight, this function is called again when one is sent.
    pub(crate) fn expect_watch(&self, cx: &mut Cx<'_>, table: Table) {
        let replica = &self.replicas[table as usize];
        if replica.is_behind() && replica.watch.is_some() && replica.stale_since.is_none() {
            cx.arm(Timer::Overdue(table), overdue_after(replica));
        }
    }

    /// Handles a watch without a timely delivery of a change seen by its lookout.
    pub(crate) fn on_overdue(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &self.replicas[table as usize];
        if replica.decoding {
            // The response being decoded may be older than that change.
            self.expect_watch(cx, table);
        } else if replica.is_behind() && replica.watch.is_some() && replica.stale_since.is_none() {
            cx.fact(Fact::WatchHangs { table: table.name() });
            // Other queries at the same leader hang too.
            for table in Table::ALL {
                if table.lookout().is_some() && self.replicas[table as usize].stale_since.is_none()
                {
                    self.watch_stale(cx, table);
                }
            }
        }
    }

    /// Follows a table by stale queries after its watch has failed or hangs, and requests a proof. Only the
    /// leader can give the proof.
    pub(crate) fn watch_stale(&mut self, cx: &mut Cx<'_>, table: Table) {
        let replica = &mut self.replicas[table as usize];
        replica.calls().for_each(|call| cx.cancel(call));
        replica.stale_since = Some(cx.call_seq());
        replica.asked = cx.call_seq();
        self.watch(cx, table);
        self.prove(cx, table);
    }

    /// Returns to default queries after the leader has responded.
    ///
    /// The change that the lookout saw is in the copy by now, or it is not real. A watch without a lookout
    /// may wait at a former leader, so it is sent again.
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
