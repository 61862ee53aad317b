//! The port between the bridge and Motr's commands to the cluster (`spiel/spiel.h`), which only Motr's
//! library has: repair and rebalance of pools, and statistics.
//!
//! Each call may take minutes where a service does not answer, so an answer may come at any time, or
//! never; and calls may be under way together.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::SpielId;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names it. Owed: at most one [`Reply`].
    pub id: SpielId,
    /// What to do.
    pub op: Op,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of which call.
    pub id: SpielId,
    /// Its answer, or why the library refuses.
    pub result: Result<Answer, Errno>,
}

/// What Motr's library can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// To read the configuration from a quorum of confds. All others need this; once it is done it is
    /// not asked again.
    Begin {
        /// The profile that the others are about.
        profile: Fid,
    },
    /// Something about the repair or the rebalance of a pool.
    Sns {
        /// Which pool.
        pool: Fid,
        /// What.
        op: SnsOp,
    },
    /// How much space there is.
    Filesystem,
    /// The byte counts of one I/O service.
    Counters {
        /// Its process.
        process: Fid,
    },
    /// The state of a pool version.
    Pver {
        /// Which.
        pver: Fid,
    },
}

/// What an answer says. Its kind is that of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done: [`Op::Begin`], or an [`Op::Sns`] that is no status.
    Done,
    /// [`Act::Status`].
    Statuses(Vec<Status>),
    /// [`Op::Filesystem`].
    Filesystem(Box<Filesystem>),
    /// [`Op::Counters`].
    Counters(Vec<Counter>),
    /// [`Op::Pver`].
    Pver(Pver),
}

/// What restores the redundancy of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sns {
    /// What was on failed devices is built again in spare space.
    Repair,
    /// It moves from spare space to the new devices.
    Rebalance,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Begins it.
    Start,
    /// Pauses it (Motr: "quiesce").
    Pause,
    /// Goes on after a pause (Motr: "continue").
    Resume,
    /// Gives it up (Motr: "abort").
    Stop,
    /// Asks how far it is.
    Status,
}

/// One operation on a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnsOp {
    /// Repair or rebalance.
    pub sns: Sns,
    /// What about it.
    pub act: Act,
}

impl SnsOp {
    /// All operations.
    pub fn all() -> impl Iterator<Item = Self> {
        let acts = [Act::Start, Act::Pause, Act::Resume, Act::Stop, Act::Status];
        let of = move |sns| acts.map(|act| Self { sns, act });
        [Sns::Repair, Sns::Rebalance].into_iter().flat_map(of)
    }

    /// As the old daemon calls it: in its routes, and in messages of the broadcast queue.
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

    /// The operation with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|op| op.name() == name)
    }

    /// Whether it only asks.
    #[must_use]
    pub const fn is_status(self) -> bool {
        matches!(self.act, Act::Status)
    }
}

/// How far one service is (`m0_spiel_repreb_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The service.
    pub fid: Fid,
    /// `cm/repreb/cm.h`: 1 idle, 2 started, 3 failed, 4 paused.
    pub state: u32,
    /// In percent.
    pub progress: u32,
}

/// `m0_fs_stats`: bytes, but for the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Motr's and say it all")]
pub struct Filesystem {
    pub free_seg: u64,
    pub total_seg: u64,
    pub free_disk: u64,
    pub avail_disk: u64,
    pub total_disk: u64,
    /// Services that were asked.
    pub svc_total: u32,
    /// Services that answered.
    pub svc_replied: u32,
}

/// What one user has in a pool version, by one I/O service (`m0_spiel_bckey`, `m0_spiel_bcrec`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The pool version.
    pub pver: Fid,
    /// The user.
    pub user: u64,
    /// Bytes, those of parity units too.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// `m0_conf_pver_info`, as far as byte counts need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pver {
    /// 0 healthy, 1 degraded, 2 critical, 3 damaged.
    pub state: u32,
    /// Data units of a parity group (N).
    pub data_units: u32,
    /// Its parity units (K).
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
