//! One transaction with the work of several lanes, within Consul's limits (Consul API: Transactions).

use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::time::WallClock;
use crate::bridge::bq::appender::BqAppender;
use crate::bridge::config::Limits;
use crate::bridge::continuation::LaneKey;
use crate::bridge::process::ops::Op;
use crate::bridge::process::work::{Plan, WorkItem};
use crate::cluster::states::ProcessRecord;
use crate::store::txn;

/// A transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<BatchEntry>,
    /// The operations, each with its owning lane. The broadcast queue's operations and the lock's check have
    /// no owner.
    pub(crate) ops: Vec<(Op, Option<LaneKey>)>,
    /// The events announced to old daemons in the same transaction.
    told: Vec<(Fid, ProcessRecord)>,
    bytes: usize,
    as_leader: bool,
}

/// One lane's part of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchEntry {
    pub(crate) key: LaneKey,
    /// This part completes the lane's first work item.
    pub(crate) last: bool,
    pub(crate) restart: bool,
}

impl Batch {
    /// Adds a lane's first work item. If the batch is empty, it adds as much of the item as a transaction
    /// holds.
    ///
    /// Returns whether something was added.
    pub(crate) fn take(
        &mut self,
        limit: &Limits,
        key: LaneKey,
        work: &WorkItem,
        plan: Plan,
    ) -> bool {
        let Plan { derived_ops: mut first, final_ops: last, announced: told, restart } = plan;
        // Consul would reject a transaction that writes a key and has another operation on the same key.
        let meet = |a: &Op, b: &Op| a.op.key == b.op.key && !(a.op.is_check() && b.op.is_check());
        let mut own = first.iter().chain(&last);
        if own.any(|op| self.ops.iter().any(|(other, _)| meet(op, other))) {
            return false;
        }
        // The lock's check, the queue's counter and its entries are added at the end.
        let spare = limit.transaction_ops.saturating_sub(3 + self.told.len());
        let taken = self.bytes + self.told.len() * 512 + 1024;
        let room = limit.transaction_bytes.saturating_sub(taken);
        let len = |op: &Op| op.op.len();
        let size = first.iter().chain(&last).map(len).sum::<usize>();
        let whole = self.ops.len() + first.len() + last.len() <= spare && size <= room;
        if whole {
            self.told.extend(told.map(|record| (key.process(), record)));
            first.extend(last);
        } else if self.ops.is_empty() && !first.is_empty() {
            let limits = txn::Limits { ops: spare, bytes: room };
            first.truncate(limits.fitting(first.iter().map(|op| &op.op)));
        } else {
            return false;
        }
        self.bytes += first.iter().map(len).sum::<usize>();
        self.as_leader |= work.what.is_leaders();
        self.ops.extend(first.into_iter().map(|op| (op, Some(key))));
        self.entries.push(BatchEntry { key, last: whole, restart });
        true
    }

    /// Adds the operations without an owner: the lock's check, if some work is the leader's, and the queue's
    /// entries.
    pub(crate) fn close(&mut self, leads: Option<&str>, queue: &BqAppender, now: WallClock) {
        let check = leads.filter(|_| self.as_leader).map(Op::leads);
        let entries = queue.append(&self.told, now);
        self.ops.extend(check.into_iter().chain(entries).map(|op| (op, None)));
    }

    /// Returns the number of entries appended to the broadcast queue by the transaction.
    pub(crate) fn appended(&self) -> u64 {
        u64::try_from(self.told.len()).unwrap_or(u64::MAX)
    }
}
