//! Messages over an HA link, `m0_ha_msg`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::note::{Note, Nvec};
use super::process::{ProcessEvent, ServiceEvent};
use super::report::{BeIoErr, SnsErr, StobIoq};
use crate::base::fid::Fid;
use crate::base::time::WallClock;

/// `m0_ha_msg` without its tag: tags belong to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The subject of the message.
    pub fid: Fid,
    /// The sending process.
    pub source_process: Fid,
    /// The sending service.
    pub source_service: Fid,
    /// The time by the sender's clock.
    pub time: WallClock,
    /// Motr's epoch; always 0 today.
    pub epoch: u64,
    /// The content.
    pub body: Body,
}

impl Message {
    /// Creates a message about no object in particular, as the bridge sends them.
    #[must_use]
    pub fn new(time: WallClock, body: Body) -> Self {
        let none = Fid::ZERO;
        Self { fid: none, source_process: none, source_service: none, time, epoch: 0, body }
    }
}

/// `m0_ha_msg_data`: the content, by `m0_ha_msg_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// STOB_IOQ (1).
    StobIoq(Box<StobIoq>),
    /// NVEC (2).
    Nvec(Box<Nvec>),
    /// FAILURE_VEC_REQ (3).
    FailureVecReq {
        /// The pool of the requested failures.
        pool: Fid,
        /// A value repeated in the reply.
        cookie: (u64, u64),
    },
    /// FAILURE_VEC_REP (4).
    FailureVecRep {
        /// The pool.
        pool: Fid,
        /// The value from the request.
        cookie: (u64, u64),
        /// The failed devices of the pool.
        notes: Vec<Note>,
    },
    /// KEEPALIVE_REQ (5).
    KeepaliveReq((u64, u64)),
    /// KEEPALIVE_REP (6).
    KeepaliveRep {
        /// The value from the request.
        id: (u64, u64),
        /// The counter.
        counter: u64,
    },
    /// EVENT_PROCESS (7).
    Process(ProcessEvent),
    /// EVENT_SERVICE (8).
    Service(ServiceEvent),
    /// EVENT_RPC (9).
    Rpc {
        /// The number of sends of one item without a reply.
        attempts: u64,
        /// The peer's state according to the sender.
        state: u64,
    },
    /// BE_IO_ERR (10).
    BeIoErr(BeIoErr),
    /// SNS_ERR (11).
    SnsErr(SnsErr),
    /// A type not defined by Motr; it has no data.
    Undefined(u64),
    /// A well-framed message with invalid content, such as 1,025 notes. It is delivered so that it can be
    /// acknowledged; its sender would repeat it for ever otherwise. It is never sent.
    Malformed {
        /// The type, `m0_ha_msg_type`.
        kind: u64,
        /// The error.
        why: &'static str,
    },
}

impl Body {
    /// Returns Motr's name of the type, without the prefix `M0_HA_MSG_`.
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
