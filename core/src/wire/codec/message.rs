//! The messages of an HA link, `m0_ha_msg` (`ha/msg.h`), without the tag. The tag follows at the end of the
//! message and belongs to the link.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::time::WallClock;
use crate::ha::message::{Body, Message};
use crate::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use crate::ha::process::{ProcessEvent, ProcessEventKind, ProcessType, ServiceEvent};
use crate::ha::report::{BeIoErr, SnsErr, StobIoq};
use crate::wire::codec::bytes::{DecodeError, Put, Reader};

/// The size of a note on the wire: a fid and a state, without the padding in memory.
const NOTE: usize = 20;
/// The place of the body in a message.
const BODY: usize = 64;
/// The size of the placeholder in a 207 without a message, without the tag.
const NONE: usize = 72;

const STOB_IOQ: u64 = 1;
const NVEC: u64 = 2;
const FAILURE_VEC_REQ: u64 = 3;
const FAILURE_VEC_REP: u64 = 4;
const KEEPALIVE_REQ: u64 = 5;
const KEEPALIVE_REP: u64 = 6;
const EVENT_PROCESS: u64 = 7;
const EVENT_SERVICE: u64 = 8;
const EVENT_RPC: u64 = 9;
const BE_IO_ERR: u64 = 10;
const SNS_ERR: u64 = 11;

/// Returns whether a message can be encoded so that the receiver can decode it.
pub(crate) fn is_sendable(message: &Message) -> bool {
    match &message.body {
        Body::Nvec(nvec) => nvec.notes.len() <= NOTES_MAX,
        Body::FailureVecRep { notes, .. } => notes.len() <= NOTES_MAX,
        Body::Undefined(kind) => *kind == 0 || *kind > SNS_ERR,
        Body::Malformed { .. } => false,
        Body::StobIoq(_)
        | Body::FailureVecReq { .. }
        | Body::KeepaliveReq(_)
        | Body::KeepaliveRep { .. }
        | Body::Process(_)
        | Body::Service(_)
        | Body::Rpc { .. }
        | Body::BeIoErr(_)
        | Body::SnsErr(_) => true,
    }
}

/// Returns the reason why a message would make a real receiver abort or read beyond an array (`ha/note.c`,
/// `ha/msg.h`).
pub(crate) fn harm(message: &Message) -> Option<&'static str> {
    if let Body::Malformed { why, .. } = &message.body {
        return Some(why);
    }
    let Body::Nvec(nvec) = &message.body else { return None };
    if nvec.ignore_same_state > 1 {
        return Some("ignore_same_state is neither 0 nor 1");
    }
    if nvec.kind != NvecKind::Set {
        return None;
    }
    nvec.notes.iter().find_map(|note| match note.state {
        ObjectState::Unknown | ObjectState::Undefined(_) => Some("a state that no object can have"),
        ObjectState::Repair | ObjectState::Rebalance
            if !note.fid.object().is_some_and(|o| o.may_repair()) =>
        {
            Some("a repair of what cannot be repaired")
        }
        ObjectState::Online
        | ObjectState::Failed
        | ObjectState::Transient
        | ObjectState::Repair
        | ObjectState::Repaired
        | ObjectState::Rebalance
        | ObjectState::DtmRecovering => None,
    })
}

/// Decodes a message up to its tag.
pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Message, DecodeError> {
    Ok(Message {
        fid: from.fid()?,
        source_process: from.fid()?,
        source_service: from.fid()?,
        time: WallClock(from.u64()?),
        epoch: from.u64()?,
        body: body(from)?,
    })
}

/// Appends a message up to its tag.
pub(crate) fn encode(message: &Message, out: &mut Vec<u8>) {
    let rest = encode_short(message, out);
    out.zeros(rest);
}

/// Appends a message up to its tag, without the unused notes at its end. Returns the number of the bytes of
/// these notes, which are all zero.
pub(crate) fn encode_short(message: &Message, out: &mut Vec<u8>) -> usize {
    out.fid(message.fid);
    out.fid(message.source_process);
    out.fid(message.source_service);
    out.u64(message.time.0);
    out.u64(message.epoch);
    put_body(&message.body, out)
}

/// Returns the number of the bytes of unused notes at the end of an encoded message.
pub(crate) fn unused(encoded: &[u8]) -> usize {
    let notes_at = |at: usize, nr: Result<u64, DecodeError>| {
        let nr = nr.ok().and_then(|nr| usize::try_from(nr).ok()).unwrap_or(NOTES_MAX);
        encoded.len().saturating_sub(at + nr.min(NOTES_MAX) * NOTE)
    };
    let mut from = Reader::new(encoded);
    let kind = from.take(BODY).and_then(|_| from.u64());
    match kind {
        Ok(NVEC) => notes_at(BODY + 40, from.take(24).and_then(|_| from.u64())),
        Ok(FAILURE_VEC_REP) => {
            notes_at(BODY + 44, from.take(32).and_then(|_| from.u32().map(u64::from)))
        }
        _ => 0,
    }
}

/// Appends the placeholder for no message.
pub(crate) fn encode_none(out: &mut Vec<u8>) {
    out.zeros(NONE);
}

fn body(from: &mut Reader<'_>) -> Result<Body, DecodeError> {
    Ok(match from.u64()? {
        STOB_IOQ => Body::StobIoq(Box::new(stob_ioq(from)?)),
        NVEC => nvec(from)?,
        FAILURE_VEC_REQ => Body::FailureVecReq { pool: from.fid()?, cookie: from.pair()? },
        FAILURE_VEC_REP => {
            let (pool, cookie, nr) = (from.fid()?, from.pair()?, from.u32()?);
            match notes(from, nr.into())? {
                Some(notes) => Body::FailureVecRep { pool, cookie, notes },
                None => Body::Malformed { kind: FAILURE_VEC_REP, why: "more than 1024 notes" },
            }
        }
        KEEPALIVE_REQ => Body::KeepaliveReq(from.pair()?),
        KEEPALIVE_REP => Body::KeepaliveRep { id: from.pair()?, counter: from.u64()? },
        EVENT_PROCESS => Body::Process(ProcessEvent {
            event: ProcessEventKind::from_wire(from.u64()?),
            kind: ProcessType::from_wire(from.u64()?),
            pid: from.u64()?,
        }),
        EVENT_SERVICE => {
            Body::Service(ServiceEvent { event: from.u64()?, kind: from.u64()?, pid: from.u64()? })
        }
        EVENT_RPC => Body::Rpc { attempts: from.u64()?, state: from.u64()? },
        BE_IO_ERR => Body::BeIoErr(BeIoErr {
            errcode: from.u32()?,
            location: from.u8()?,
            io_opcode: from.u8()?,
        }),
        SNS_ERR => Body::SnsErr(SnsErr { errcode: from.u32()?, opcode: from.u8()? }),
        kind => Body::Undefined(kind),
    })
}

/// Appends a body; returns the number of bytes of the unused notes, which are not appended.
fn put_body(body: &Body, out: &mut Vec<u8>) -> usize {
    match body {
        Body::StobIoq(ioq) => {
            out.u64(STOB_IOQ);
            put_stob_ioq(ioq, out);
        }
        Body::Nvec(nvec) => {
            out.u64(NVEC);
            out.u64(nvec.kind.to_wire());
            out.u64(nvec.id_of_get);
            out.u64(nvec.ignore_same_state);
            out.u64(nvec.notes.len() as u64);
            return put_notes(&nvec.notes, out);
        }
        Body::FailureVecReq { pool, cookie } => {
            out.u64(FAILURE_VEC_REQ);
            out.fid(*pool);
            out.pair(*cookie);
        }
        Body::FailureVecRep { pool, cookie, notes } => {
            out.u64(FAILURE_VEC_REP);
            out.fid(*pool);
            out.pair(*cookie);
            out.u32(u32::try_from(notes.len()).expect("at most 1024 notes"));
            return put_notes(notes, out);
        }
        Body::KeepaliveReq(id) => {
            out.u64(KEEPALIVE_REQ);
            out.pair(*id);
        }
        Body::KeepaliveRep { id, counter } => {
            out.u64(KEEPALIVE_REP);
            out.pair(*id);
            out.u64(*counter);
        }
        Body::Process(event) => {
            out.u64(EVENT_PROCESS);
            out.u64(event.event.to_wire());
            out.u64(event.kind.to_wire());
            out.u64(event.pid);
        }
        Body::Service(event) => {
            out.u64(EVENT_SERVICE);
            out.u64(event.event);
            out.u64(event.kind);
            out.u64(event.pid);
        }
        Body::Rpc { attempts, state } => {
            out.u64(EVENT_RPC);
            out.pair((*attempts, *state));
        }
        Body::BeIoErr(err) => {
            out.u64(BE_IO_ERR);
            out.u32(err.errcode);
            out.bytes(&[err.location, err.io_opcode]);
        }
        Body::SnsErr(err) => {
            out.u64(SNS_ERR);
            out.u32(err.errcode);
            out.u8(err.opcode);
        }
        // A malformed message is never sent, and an undefined one has no data.
        Body::Undefined(kind) | Body::Malformed { kind, .. } => out.u64(*kind),
    }
    0
}

fn stob_ioq(from: &mut Reader<'_>) -> Result<StobIoq, DecodeError> {
    Ok(StobIoq {
        sdev: from.fid()?,
        stob_domain: from.fid()?,
        stob: from.fid()?,
        fd: from.i64()?,
        opcode: from.i64()?,
        rc: from.i64()?,
        offset: from.u64()?,
        size: from.u64()?,
        bshift: from.u32()?,
    })
}

fn put_stob_ioq(ioq: &StobIoq, out: &mut Vec<u8>) {
    out.fid(ioq.sdev);
    out.fid(ioq.stob_domain);
    out.fid(ioq.stob);
    out.i64(ioq.fd);
    out.i64(ioq.opcode);
    out.i64(ioq.rc);
    out.u64(ioq.offset);
    out.u64(ioq.size);
    out.u32(ioq.bshift);
}

fn nvec(from: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let kind = NvecKind::from_wire(from.u64()?);
    let (id_of_get, ignore_same_state, nr) = (from.u64()?, from.u64()?, from.u64()?);
    Ok(match notes(from, nr)? {
        Some(notes) => Body::Nvec(Box::new(Nvec { kind, id_of_get, ignore_same_state, notes })),
        None => Body::Malformed { kind: NVEC, why: "more than 1024 notes" },
    })
}

/// Decodes the notes. All 1,024 notes are always there; the first `nr` of them count. `None` if `nr` is too
/// large.
fn notes(from: &mut Reader<'_>, nr: u64) -> Result<Option<Vec<Note>>, DecodeError> {
    let raw = from.take(NOTES_MAX * NOTE)?;
    let Some(nr) = usize::try_from(nr).ok().filter(|nr| *nr <= NOTES_MAX) else { return Ok(None) };
    Ok(Some(raw.as_chunks().0[..nr].iter().map(note).collect()))
}

fn note(raw: &[u8; NOTE]) -> Note {
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| raw[at + i]));
    let state = u32::from_le_bytes(core::array::from_fn(|i| raw[16 + i]));
    Note { fid: Fid::new(word(0), word(8)), state: ObjectState::from_wire(state) }
}

/// Appends notes; returns the number of bytes of the unused ones.
fn put_notes(notes: &[Note], out: &mut Vec<u8>) -> usize {
    out.reserve(NOTES_MAX * NOTE);
    for note in notes {
        let Fid { container, key } = note.fid;
        out.pair((container, key));
        out.u32(note.state.to_wire());
    }
    (NOTES_MAX - notes.len()) * NOTE
}
