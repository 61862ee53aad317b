//! One message over an HA link, `m0_ha_msg`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::note::{Note, Nvec};
use super::process::{ProcessEvent, ServiceEvent};
use super::report::{BeIoErr, SnsErr, StobIoq};
use crate::base::fid::Fid;
use crate::base::time::WallClock;

/// `m0_ha_msg`, less its tag: tags belong to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The object that it is about.
    pub fid: Fid,
    /// The process that says it.
    pub source_process: Fid,
    /// The service that says it.
    pub source_service: Fid,
    /// When, by the sender's clock.
    pub time: WallClock,
    /// Motr's epoch; always 0 today.
    pub epoch: u64,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// A message about nothing in particular, as the bridge sends them.
    #[must_use]
    pub fn new(time: WallClock, body: Body) -> Self {
        let none = Fid::ZERO;
        Self { fid: none, source_process: none, source_service: none, time, epoch: 0, body }
    }
}

/// `m0_ha_msg_data`: one of `m0_ha_msg_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// STOB_IOQ (1).
    StobIoq(Box<StobIoq>),
    /// NVEC (2).
    Nvec(Box<Nvec>),
    /// FAILURE_VEC_REQ (3).
    FailureVecReq {
        /// The pool whose failures are asked for.
        pool: Fid,
        /// Comes back in the answer.
        cookie: (u64, u64),
    },
    /// FAILURE_VEC_REP (4).
    FailureVecRep {
        /// The pool.
        pool: Fid,
        /// The question's.
        cookie: (u64, u64),
        /// The pool's devices that are not well.
        notes: Vec<Note>,
    },
    /// KEEPALIVE_REQ (5).
    KeepaliveReq((u64, u64)),
    /// KEEPALIVE_REP (6).
    KeepaliveRep {
        /// The question's.
        id: (u64, u64),
        /// How often.
        counter: u64,
    },
    /// EVENT_PROCESS (7).
    Process(ProcessEvent),
    /// EVENT_SERVICE (8).
    Service(ServiceEvent),
    /// EVENT_RPC (9).
    Rpc {
        /// Sends of one item without an answer.
        attempts: u64,
        /// What the sender takes its peer's state to be.
        state: u64,
    },
    /// BE_IO_ERR (10).
    BeIoErr(BeIoErr),
    /// SNS_ERR (11).
    SnsErr(SnsErr),
    /// A type that Motr does not define; it has no data.
    Undefined(u64),
    /// A message that is well framed and makes no sense, 1,025 notes for one. It is delivered so
    /// that it can be acknowledged: its sender would repeat it for ever. Never sent.
    Malformed {
        /// `m0_ha_msg_type`.
        kind: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Body {
    /// Motr's name of the type, without the prefix `M0_HA_MSG_`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StobIoq(_) => "STOB_IOQ",
            Self::Nvec(_) => "NVEC",
            Self::FailureVecReq { .. } => "FAILURE_VEC_REQ",
            Self::FailureVecRep { .. } => "FAILURE_VEC_REP",
            Self::KeepaliveReq(_) => "KEEPALIVE_REQ",
            Self::KeepaliveRep { .. } => "KEEPALIVE_REP",
            Self::Process(_) => "EVENT_PROCESS",
            Self::Service(_) => "EVENT_SERVICE",
            Self::Rpc { .. } => "EVENT_RPC",
            Self::BeIoErr(_) => "BE_IO_ERR",
            Self::SnsErr(_) => "SNS_ERR",
            Self::Undefined(_) => "UNDEFINED",
            Self::Malformed { .. } => "MALFORMED",
        }
    }
}
