//! The messages of the broadcast queue (15/BQ).

use alloc::boxed::Box;
use alloc::format;

use serde::Deserialize;

use crate::base::fid::Fid;
use crate::cluster::states::ProcessRecord;
use crate::ha::note::ObjectState;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::ha::spiel::SnsOp;

/// The content of a queue entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// PROCESS-STATE-UPDATE.
    Process(Fid, ProcessRecord),
    /// M0_HA_MSG_NVEC: a device, by its node and path.
    Device { node: Box<str>, path: Box<str>, state: ObjectState },
    /// STOB_IOQ_ERROR.
    StobIoq(Fid),
    /// SNS_OP: an operation on a pool.
    Sns(Fid, SnsOp),
    /// A malformed, unknown or irrelevant message, with the reason.
    Skipped(Box<str>),
}

/// Decodes an entry.
pub(crate) fn message(text: &[u8]) -> Message {
    #[derive(Deserialize)]
    struct Raw<'a> {
        message_type: &'a str,
        #[serde(default)]
        payload: Payload,
    }
    #[derive(Default, Deserialize)]
    struct Payload {
        fid: Option<Box<str>>,
        state: Option<Box<str>>,
        #[serde(rename = "type")]
        kind: Option<Box<str>>,
        node: Option<Box<str>>,
        device: Option<Box<str>>,
        conf_sdev: Option<Box<str>>,
        op_name: Option<Box<str>>,
    }
    let Ok(Raw { message_type, payload }) = serde_json::from_slice(text) else {
        return passed("it is not of a known form");
    };
    let Payload { fid, state, kind, node, device, conf_sdev, op_name } = payload;
    let understood = match message_type {
        "PROCESS-STATE-UPDATE" => (|| {
            let state = ProcessEventKind::from_kv_name(&state?)?;
            let kind = ProcessType::from_kv_name(&kind?)?;
            Some(Message::Process(fid?.parse().ok()?, ProcessRecord::reported(state, kind)))
        })(),
        "M0_HA_MSG_NVEC" => (|| {
            let state = state?;
            let Some(state) = drive_state(&state) else {
                return Some(passed(&format!("nobody knows the state {state:.64?} of a device")));
            };
            Some(Message::Device { node: node?, path: device?, state })
        })(),
        "STOB_IOQ_ERROR" => conf_sdev.and_then(|fid| fid.parse().ok()).map(Message::StobIoq),
        "SNS_OP" => (|| {
            let op = SnsOp::named(&op_name?).filter(|op| !op.is_status())?;
            Some(Message::Sns(fid?.parse().ok()?, op))
        })(),
        other => return passed(&format!("nobody knows the type {other:.64?}")),
    };
    understood.unwrap_or_else(|| passed("it does not say what its type has to"))
}

/// Returns a message to be skipped, with the reason.
pub(crate) fn passed(why: &str) -> Message {
    Message::Skipped(why.into())
}

/// Parses a device's state.
///
/// It accepts the words of the old daemon's code and those of the help of `hctl drive-state`. The old daemon
/// does not take the latter. Operators also write them with capitals.
fn drive_state(word: &str) -> Option<ObjectState> {
    let words = [
        ("online", ObjectState::Online),
        ("failed", ObjectState::Failed),
        ("offline", ObjectState::Transient),
        ("repair", ObjectState::Repair),
        ("repairing", ObjectState::Repair),
        ("repaired", ObjectState::Repaired),
        ("rebalance", ObjectState::Rebalance),
        ("rebalancing", ObjectState::Rebalance),
    ];
    words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word.trim())).map(|(_, state)| *state)
}
