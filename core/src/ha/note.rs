//! Notes: an object and its state (`ha/note.h`), and the vectors that carry them (`ha/msg.h`).

use alloc::vec::Vec;
use core::fmt;

use crate::base::fid::Fid;

/// The most notes that one message carries (`M0_HA_STATE_UPDATE_LIMIT`).
pub const NOTES_MAX: usize = 1024;

/// The state of an object, `m0_ha_obj_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectState {
    /// Not known. Legal in a question, never in an answer: receivers assert that.
    Unknown,
    /// Works.
    Online,
    /// Has failed for good.
    Failed,
    /// Does not work now, may come back.
    Transient,
    /// Is being repaired.
    Repair,
    /// Is repaired.
    Repaired,
    /// Is being rebalanced.
    Rebalance,
    /// Replays transactions before it works.
    DtmRecovering,
    /// A number that Motr does not define; kept so that what is read is written back the same.
    Undefined(u32),
}

impl ObjectState {
    /// The state that the wire's number stands for. Total.
    #[must_use]
    pub const fn from_wire(n: u32) -> Self {
        match n {
            0 => Self::Unknown,
            1 => Self::Online,
            2 => Self::Failed,
            3 => Self::Transient,
            4 => Self::Repair,
            5 => Self::Repaired,
            6 => Self::Rebalance,
            7 => Self::DtmRecovering,
            n => Self::Undefined(n),
        }
    }

    /// The wire's number.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Online => 1,
            Self::Failed => 2,
            Self::Transient => 3,
            Self::Repair => 4,
            Self::Repaired => 5,
            Self::Rebalance => 6,
            Self::DtmRecovering => 7,
            Self::Undefined(n) => n,
        }
    }

    /// Motr's name for it, without the prefix `M0_NC_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Online => "ONLINE",
            Self::Failed => "FAILED",
            Self::Transient => "TRANSIENT",
            Self::Repair => "REPAIR",
            Self::Repaired => "REPAIRED",
            Self::Rebalance => "REBALANCE",
            Self::DtmRecovering => "DTM_RECOVERING",
            Self::Undefined(_) => "UNDEFINED",
        }
    }
}

impl fmt::Display for ObjectState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Undefined(n) = self {
            return write!(f, "UNDEFINED({n})");
        }
        f.write_str(self.name())
    }
}

/// One object and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub fid: Fid,
    /// Its state.
    pub state: ObjectState,
}

/// A vector of notes, `m0_ha_msg_nvec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvec {
    /// A question or a statement.
    pub kind: NvecKind,
    /// Joins an answer to its question; chosen by who asks.
    pub id_of_get: u64,
    /// Whether the receiver shall pass over objects whose state it knows already. 0 or 1:
    /// receivers assert that.
    pub ignore_same_state: u64,
    /// At most [`NOTES_MAX`].
    pub notes: Vec<Note>,
}

/// `m0_ha_msg_nvec_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvecKind {
    /// States as they are.
    Set,
    /// Asks for the states.
    Get,
    /// A number that Motr does not define.
    Undefined(u64),
}

impl NvecKind {
    /// The kind that the wire's number stands for. Total.
    #[must_use]
    pub const fn from_wire(n: u64) -> Self {
        match n {
            0 => Self::Set,
            1 => Self::Get,
            n => Self::Undefined(n),
        }
    }

    /// The wire's number.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        match self {
            Self::Set => 0,
            Self::Get => 1,
            Self::Undefined(n) => n,
        }
    }
}
