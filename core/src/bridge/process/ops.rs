//! The subjects of the lanes' operations.

use alloc::format;

use crate::base::fid::Fid;
use crate::cluster::cascade::Change;
use crate::cluster::replica::Table;
use crate::cluster::states::ProcessRecord;
use crate::consul::op;

/// The subject of an operation. If Consul rejects the operation, our copy of the subject is outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The key `processes/<fid>`.
    Record(Fid),
    /// The entry of an object in `m0conf/`.
    Entry(Fid),
    /// The counter of a process's starts on our node.
    Restarts(Fid),
    /// The counter of the broadcast queue.
    Epoch,
    /// The ownership of the lock by this node.
    Leader,
    /// An entry of the broadcast queue.
    Queued,
}

impl Target {
    /// Returns the replicated table with the subject, if there is one.
    pub(crate) const fn table(self) -> Option<Table> {
        match self {
            Self::Record(_) => Some(Table::Processes),
            Self::Entry(_) => Some(Table::Conf),
            Self::Restarts(_) | Self::Epoch | Self::Leader | Self::Queued => None,
        }
    }
}

/// An operation of a lane and its subject.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) target: Target,
    pub(crate) op: op::Op,
}

impl Op {
    pub(crate) fn cas(target: Target, key: &str, value: &[u8], index: u64) -> Self {
        Self { target, op: op::Op::cas(key, value, index) }
    }

    /// Returns the write of a process's record; `None` if the record has no text form.
    pub(crate) fn record(process: Fid, record: ProcessRecord, index: u64) -> Option<Self> {
        let (key, value) = (format!("processes/{process}"), record.to_json()?);
        let op = op::Op::cas(&key, value.as_bytes(), index).with_flags(record.flags());
        Some(Self { target: Target::Record(process), op })
    }

    /// Returns the operation for an object's entry. An entry that has its final value already, according to
    /// our copy, is not written but checked: the transaction is rejected if the entry has changed.
    pub(crate) fn entry(change: &Change) -> Self {
        let Change { object, entry, is_already_set: holds } = change;
        let op = if *holds {
            op::Op::check_index(&entry.key, entry.index)
        } else {
            op::Op::cas(&entry.key, entry.value.as_bytes(), entry.index)
        };
        Self { target: Target::Entry(*object), op }
    }

    /// Returns the write of an entry of the broadcast queue.
    pub(crate) fn queued(n: u64, message: &str) -> Self {
        Self { target: Target::Queued, op: op::Op::set(&format!("bq/{n}"), message.as_bytes()) }
    }

    /// Returns the check of the lock `leader`. It rejects the transaction unless `session` holds the lock.
    pub(crate) fn leads(session: &str) -> Self {
        Self { target: Target::Leader, op: leads(session) }
    }
}

/// Returns the check of the lock `leader`. It rejects a transaction unless `session` holds the lock.
pub(crate) fn leads(session: &str) -> op::Op {
    op::Op::check_session("leader", session)
}
