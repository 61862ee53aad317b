//! What the lanes' operations are about.

use alloc::format;

use crate::base::fid::Fid;
use crate::cluster::cascade::Change;
use crate::cluster::replica::Table;
use crate::cluster::states::ProcessRecord;
use crate::consul::op;

/// What an operation is about: which knowledge of ours is wrong if it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// `processes/<fid>`.
    Record(Fid),
    /// The entry of an object in `m0conf/`.
    Entry(Fid),
    /// How often a process has started on our node.
    Restarts(Fid),
    /// The counter of the broadcast queue.
    Epoch,
    /// That we are the leader.
    Leader,
    /// An entry of the broadcast queue.
    Queued,
}

impl Target {
    /// The table that has it, of those that are held.
    pub(crate) const fn table(self) -> Option<Table> {
        match self {
            Self::Record(_) => Some(Table::Processes),
            Self::Entry(_) => Some(Table::Conf),
            Self::Restarts(_) | Self::Epoch | Self::Leader | Self::Queued => None,
        }
    }
}

/// An operation of a lane, and what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) target: Target,
    pub(crate) op: op::Op,
}

impl Op {
    pub(crate) fn cas(target: Target, key: &str, value: &[u8], index: u64) -> Self {
        Self { target, op: op::Op::cas(key, value, index) }
    }

    /// The record of a process as it is to be; `None` if it has no text.
    pub(crate) fn record(process: Fid, record: ProcessRecord, index: u64) -> Option<Self> {
        let (key, value) = (format!("processes/{process}"), record.to_json()?);
        let op = op::Op::cas(&key, value.as_bytes(), index).with_flags(record.flags());
        Some(Self { target: Target::Record(process), op })
    }

    /// The entry of an object as it is to be. One that is so already, as far as we know, is not
    /// written, but the transaction is refused if it is not so any more.
    pub(crate) fn entry(change: &Change) -> Self {
        let Change { object, entry, holds } = change;
        let op = if *holds {
            op::Op::check_index(&entry.key, entry.index)
        } else {
            op::Op::cas(&entry.key, entry.value.as_bytes(), entry.index)
        };
        Self { target: Target::Entry(*object), op }
    }

    /// An entry of the broadcast queue.
    pub(crate) fn queued(n: u64, message: &str) -> Self {
        Self { target: Target::Queued, op: op::Op::set(&format!("bq/{n}"), message.as_bytes()) }
    }

    /// Refuses the transaction unless `session` holds the lock `leader`.
    pub(crate) fn leads(session: &str) -> Self {
        Self { target: Target::Leader, op: leads(session) }
    }
}

/// Refuses a transaction unless `session` holds the lock `leader`.
pub(crate) fn leads(session: &str) -> op::Op {
    op::Op::check_session("leader", session)
}
