//! Notes: an object and its state (`ha/note.h`), and vectors of notes (`ha/msg.h`).

use alloc::vec::Vec;
use core::fmt;

use crate::base::fid::Fid;

/// The maximum number of notes in one message (`M0_HA_STATE_UPDATE_LIMIT`).
pub const NOTES_MAX: usize = 1024;

/// The state of an object, `m0_ha_obj_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectState {
    /// Unknown. Legal in a request, never in a reply: receivers assert that.
    Unknown,
    /// The object works.
    Online,
    /// The object has failed for good.
    Failed,
    /// The object does not work now and may come back.
    Transient,
    /// The object is being repaired.
    Repair,
    /// The object is repaired.
    Repaired,
    /// The object is being rebalanced.
    Rebalance,
    /// The object replays transactions before it works.
    DtmRecovering,
    /// A number not defined by Motr; kept so that it is written back unchanged.
    Undefined(u32),
}

impl ObjectState {
    /// Returns the state for the wire's number. Total.
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

    /// Returns the wire's number.
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

    /// Returns Motr's name, without the prefix `M0_NC_`.
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
    /// The state of the object.
    pub state: ObjectState,
}

/// A vector of notes, `m0_ha_msg_nvec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvec {
    /// The kind: states or a request for states.
    pub kind: NvecKind,
    /// The id of the request, repeated in the reply. The requester chooses it.
    pub id_of_get: u64,
    /// Whether the receiver shall skip objects with an already known state. 0 or 1: receivers assert that.
    pub ignore_same_state: u64,
    /// The notes, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
}

/// `m0_ha_msg_nvec_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvecKind {
    /// A vector of states.
    Set,
    /// A request for states.
    Get,
    /// A number not defined by Motr.
    Undefined(u64),
}

impl NvecKind {
    /// Returns the kind for the wire's number. Total.
    #[must_use]
    pub const fn from_wire(n: u64) -> Self {
        match n {
            0 => Self::Set,
            1 => Self::Get,
            n => Self::Undefined(n),
        }
    }

    /// Returns the wire's number.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        match self {
            Self::Set => 0,
            Self::Get => 1,
            Self::Undefined(n) => n,
        }
    }
}
