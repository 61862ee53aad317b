//! The port between the bridge and Motr's cluster commands (`spiel/spiel.h`): repair and rebalance of pools,
//! and statistics. Only Motr's library provides them.
//!
//! A call may take minutes if a service does not respond. So a reply may arrive at any time or never, and
//! several calls may be in progress.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::SpielId;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The id of the call. The host delivers at most one [`Reply`].
    pub id: SpielId,
    /// The operation.
    pub op: Op,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The id of the call.
    pub id: SpielId,
    /// The answer, or the library's error.
    pub result: Result<Answer, Errno>,
}

/// An operation of Motr's library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads the configuration from a quorum of confds. All other operations need it; it is not repeated
    /// after success.
    Begin {
        /// The profile for the other operations.
        profile: Fid,
    },
    /// An operation on the repair or the rebalance of a pool.
    Sns {
        /// The pool.
        pool: Fid,
        /// The operation.
        op: SnsOp,
    },
    /// Returns the space of the filesystem.
    Filesystem,
    /// Returns the byte counts of one I/O service.
    Counters {
        /// The process of the service.
        process: Fid,
    },
    /// Returns the state of a pool version.
    Pver {
        /// The pool version.
        pver: Fid,
    },
}

/// The answer to a call. Its kind is that of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The operation is complete: [`Op::Begin`], or an [`Op::Sns`] that is not a status query.
    Done,
    /// The answer to [`Act::Status`].
    Statuses(Vec<Status>),
    /// The answer to [`Op::Filesystem`].
    Filesystem(Box<Filesystem>),
    /// The answer to [`Op::Counters`].
    Counters(Vec<Counter>),
    /// The answer to [`Op::Pver`].
    Pver(Pver),
}

/// A procedure for restoring the redundancy of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sns {
    /// Rebuilds the data of failed devices in spare space.
    Repair,
    /// Moves the data from spare space to the new devices.
    Rebalance,
}

/// An action on a repair or rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Starts it.
    Start,
    /// Pauses it (Motr: "quiesce").
    Pause,
    /// Continues it after a pause (Motr: "continue").
    Resume,
    /// Aborts it (Motr: "abort").
    Stop,
    /// Queries its progress.
    Status,
}

/// One operation on a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnsOp {
    /// Repair or rebalance.
    pub sns: Sns,
    /// The action.
    pub act: Act,
}

impl SnsOp {
    /// Returns all operations.
    pub fn all() -> impl Iterator<Item = Self> {
        let acts = [Act::Start, Act::Pause, Act::Resume, Act::Stop, Act::Status];
        let of = move |sns| acts.map(|act| Self { sns, act });
        [Sns::Repair, Sns::Rebalance].into_iter().flat_map(of)
    }

    /// Returns the old daemon's name: the last part of its route, also used in messages of the broadcast
    /// queue.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.sns, self.act) {
            (Sns::Repair, Act::Start) => "repair-start",
            (Sns::Repair, Act::Pause) => "repair-pause",
            (Sns::Repair, Act::Resume) => "repair-resume",
            (Sns::Repair, Act::Stop) => "repair-stop",
            (Sns::Repair, Act::Status) => "repair-status",
            (Sns::Rebalance, Act::Start) => "rebalance-start",
            (Sns::Rebalance, Act::Pause) => "rebalance-pause",
            (Sns::Rebalance, Act::Resume) => "rebalance-resume",
            (Sns::Rebalance, Act::Stop) => "rebalance-stop",
            (Sns::Rebalance, Act::Status) => "rebalance-status",
        }
    }

    /// Returns the operation with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|op| op.name() == name)
    }

    /// Returns whether the operation is a status query.
    #[must_use]
    pub const fn is_status(self) -> bool {
        matches!(self.act, Act::Status)
    }
}

/// The progress of one service (`m0_spiel_repreb_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The service.
    pub fid: Fid,
    /// The state (`cm/repreb/cm.h`): 1 idle, 2 started, 3 failed, 4 paused.
    pub state: u32,
    /// The progress in percent.
    pub progress: u32,
}

/// `m0_fs_stats`: bytes, except the last two fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Motr's and say it all")]
pub struct Filesystem {
    pub free_seg: u64,
    pub total_seg: u64,
    pub free_disk: u64,
    pub avail_disk: u64,
    pub total_disk: u64,
    /// The number of queried services.
    pub svc_total: u32,
    /// The number of replies.
    pub svc_replied: u32,
}

/// The data of one user in a pool version at one I/O service (`m0_spiel_bckey`, `m0_spiel_bcrec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The pool version.
    pub pver: Fid,
    /// The user.
    pub user: u64,
    /// The bytes, including those of parity units.
    pub bytes: u64,
    /// The number of objects.
    pub objects: u64,
}

/// `m0_conf_pver_info`, with the fields needed for byte counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pver {
    /// The state: 0 healthy, 1 degraded, 2 critical, 3 damaged.
    pub state: u32,
    /// The data units of a parity group (N).
    pub data_units: u32,
    /// The parity units of a parity group (K).
    pub parity_units: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_name_of_its_own() {
        assert_eq!(SnsOp::all().count(), 10);
        for op in SnsOp::all() {
            assert_eq!(SnsOp::named(op.name()), Some(op));
            assert_eq!(op.is_status(), op.name().ends_with("-status"));
        }
        assert_eq!(SnsOp::named("disk-attach"), None);
    }
}
