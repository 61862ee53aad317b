//! The conversion of messages between C's form and the core's form.
#![expect(unsafe_code, reason = "the message's data are a union")]

use hax_core::base::fid::Fid;
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType, ServiceEvent};
use hax_core::ha::report::{BeIoErr, SnsErr, StobIoq};
use motr_sys::abi;

/// Converts a fid of the library.
#[must_use]
pub fn fid(fid: abi::m0_fid) -> Fid {
    Fid::new(fid.f_container, fid.f_key)
}

/// Converts a fid for the library.
#[must_use]
pub fn c_fid(fid: Fid) -> abi::m0_fid {
    abi::m0_fid { f_container: fid.container, f_key: fid.key }
}

/// Converts a message of the library.
#[must_use]
pub fn read(message: &abi::m0_ha_msg) -> Message {
    Message {
        fid: fid(message.hm_fid),
        source_process: fid(message.hm_source_process),
        source_service: fid(message.hm_source_service),
        time: WallClock(message.hm_time),
        epoch: message.hm_epoch,
        body: body(&message.hm_data),
    }
}

fn body(data: &abi::m0_ha_msg_data) -> Body {
    let kind = data.hed_type;
    let u = &data.u;
    // SAFETY: all members are numbers in memory that exists and is initialised, whatever its content; the
    // type only tells which of the members is meant.
    unsafe {
        match u32::try_from(kind).unwrap_or(abi::M0_HA_MSG_INVALID) {
            abi::M0_HA_MSG_STOB_IOQ => Body::StobIoq(Box::new(stob_ioq(&u.hed_stob_ioq))),
            abi::M0_HA_MSG_NVEC => nvec(&u.hed_nvec),
            abi::M0_HA_MSG_FAILURE_VEC_REQ => Body::FailureVecReq {
                pool: fid(u.hed_fvec_req.mfq_pool),
                cookie: cookie(u.hed_fvec_req.mfq_cookie),
            },
            abi::M0_HA_MSG_FAILURE_VEC_REP => failure_vec(&u.hed_fvec_rep),
            abi::M0_HA_MSG_KEEPALIVE_REQ => Body::KeepaliveReq(pair(u.hed_keepalive_req.kaq_id)),
            abi::M0_HA_MSG_KEEPALIVE_REP => Body::KeepaliveRep {
                id: pair(u.hed_keepalive_rep.kap_id),
                counter: u.hed_keepalive_rep.kap_counter,
            },
            abi::M0_HA_MSG_EVENT_PROCESS => Body::Process(ProcessEvent {
                event: ProcessEventKind::from_wire(u.hed_event_process.chp_event),
                kind: ProcessType::from_wire(u.hed_event_process.chp_type),
                pid: u.hed_event_process.chp_pid,
            }),
            abi::M0_HA_MSG_EVENT_SERVICE => Body::Service(ServiceEvent {
                event: u.hed_event_service.chs_event,
                kind: u.hed_event_service.chs_type,
                pid: u.hed_event_service.chs_pid,
            }),
            abi::M0_HA_MSG_EVENT_RPC => Body::Rpc {
                attempts: u.hed_event_rpc.hmr_attempts,
                state: u.hed_event_rpc.hmr_state,
            },
            abi::M0_HA_MSG_BE_IO_ERR => Body::BeIoErr(BeIoErr {
                errcode: u.hed_be_io_err.ber_errcode,
                location: u.hed_be_io_err.ber_location,
                io_opcode: u.hed_be_io_err.ber_io_opcode,
            }),
            abi::M0_HA_MSG_SNS_ERR => Body::SnsErr(SnsErr {
                errcode: u.hed_ha_sns_err.hse_errcode,
                opcode: u.hed_ha_sns_err.hse_opcode,
            }),
            _ => Body::Undefined(kind),
        }
    }
}

fn stob_ioq(error: &abi::m0_stob_ioq_error) -> StobIoq {
    StobIoq {
        sdev: fid(error.sie_conf_sdev),
        stob_domain: fid(error.sie_stob_id.si_domain_fid),
        stob: fid(error.sie_stob_id.si_fid),
        fd: error.sie_fd,
        opcode: error.sie_opcode,
        rc: error.sie_rc,
        offset: error.sie_offset,
        size: error.sie_size,
        bshift: error.sie_bshift,
    }
}

fn nvec(nvec: &abi::m0_ha_msg_nvec) -> Body {
    match notes(&nvec.hmnv_arr, nvec.hmnv_nr) {
        Some(notes) => Body::Nvec(Box::new(Nvec {
            kind: NvecKind::from_wire(nvec.hmnv_type),
            id_of_get: nvec.hmnv_id_of_get,
            ignore_same_state: nvec.hmnv_ignore_same_state,
            notes,
        })),
        None => malformed(abi::M0_HA_MSG_NVEC),
    }
}

fn failure_vec(rep: &abi::m0_ha_msg_failure_vec_rep) -> Body {
    match notes(&rep.mfp_vec, rep.mfp_nr.into()) {
        Some(notes) => {
            Body::FailureVecRep { pool: fid(rep.mfp_pool), cookie: cookie(rep.mfp_cookie), notes }
        }
        None => malformed(abi::M0_HA_MSG_FAILURE_VEC_REP),
    }
}

fn malformed(kind: u32) -> Body {
    Body::Malformed { kind: kind.into(), why: "more than 1024 notes" }
}

/// Converts the notes; returns `None` if there are more than the array holds. The library does not check the
/// number, and behind the array there is other memory.
fn notes(array: &abi::m0_ha_msg_nvec_array, n: u64) -> Option<Vec<Note>> {
    let notes = array.hmna_arr.get(..usize::try_from(n).ok()?)?;
    let note = |note: &abi::m0_ha_note| Note {
        fid: fid(note.no_id),
        state: ObjectState::from_wire(note.no_state),
    };
    Some(notes.iter().map(note).collect())
}

fn pair(id: abi::m0_uint128) -> (u64, u64) {
    (id.u_hi, id.u_lo)
}

fn cookie(cookie: abi::m0_cookie) -> (u64, u64) {
    (cookie.co_addr, cookie.co_generation)
}

/// Converts a message for the library.
///
/// # Panics
///
/// If there are more notes than fit, which the core never sends.
#[must_use]
pub fn write(message: &Message) -> Box<abi::m0_ha_msg> {
    let mut out = motr_sys::message();
    out.hm_fid = c_fid(message.fid);
    out.hm_source_process = c_fid(message.source_process);
    out.hm_source_service = c_fid(message.source_service);
    out.hm_time = message.time.0;
    out.hm_epoch = message.epoch;
    let kind = write_body(&message.body, &mut out.hm_data.u);
    out.hm_data.hed_type = kind;
    out
}

fn write_body(body: &Body, u: &mut abi::m0_ha_msg_data__bindgen_ty_1) -> u64 {
    let kind = match body {
        Body::Nvec(nvec) => {
            // SAFETY: the message is all zeros, which is a valid value of this member.
            let out = unsafe { &mut u.hed_nvec };
            out.hmnv_type = nvec.kind.to_wire();
            out.hmnv_id_of_get = nvec.id_of_get;
            out.hmnv_ignore_same_state = nvec.ignore_same_state;
            out.hmnv_nr = write_notes(&nvec.notes, &mut out.hmnv_arr).into();
            abi::M0_HA_MSG_NVEC
        }
        Body::FailureVecRep { pool, cookie, notes } => {
            // SAFETY: as above, the message is all zeros.
            let out = unsafe { &mut u.hed_fvec_rep };
            out.mfp_pool = c_fid(*pool);
            out.mfp_cookie = c_cookie(*cookie);
            out.mfp_nr = write_notes(notes, &mut out.mfp_vec);
            abi::M0_HA_MSG_FAILURE_VEC_REP
        }
        body => return write_small(body, u),
    };
    kind.into()
}

fn write_small(body: &Body, u: &mut abi::m0_ha_msg_data__bindgen_ty_1) -> u64 {
    let kind = match body {
        Body::FailureVecReq { pool, cookie } => {
            let (mfq_pool, mfq_cookie) = (c_fid(*pool), c_cookie(*cookie));
            u.hed_fvec_req = abi::m0_ha_msg_failure_vec_req { mfq_pool, mfq_cookie };
            abi::M0_HA_MSG_FAILURE_VEC_REQ
        }
        Body::KeepaliveReq(id) => {
            u.hed_keepalive_req = abi::m0_ha_msg_keepalive_req { kaq_id: c_pair(*id) };
            abi::M0_HA_MSG_KEEPALIVE_REQ
        }
        Body::KeepaliveRep { id, counter } => {
            let kap_id = c_pair(*id);
            u.hed_keepalive_rep = abi::m0_ha_msg_keepalive_rep { kap_id, kap_counter: *counter };
            abi::M0_HA_MSG_KEEPALIVE_REP
        }
        Body::Process(event) => {
            u.hed_event_process = abi::m0_conf_ha_process {
                chp_event: event.event.to_wire(),
                chp_type: event.kind.to_wire(),
                chp_pid: event.pid,
            };
            abi::M0_HA_MSG_EVENT_PROCESS
        }
        Body::Service(event) => {
            let (chs_event, chs_type, chs_pid) = (event.event, event.kind, event.pid);
            u.hed_event_service = abi::m0_conf_ha_service { chs_event, chs_type, chs_pid };
            abi::M0_HA_MSG_EVENT_SERVICE
        }
        Body::Rpc { attempts, state } => {
            u.hed_event_rpc = abi::m0_ha_msg_rpc { hmr_attempts: *attempts, hmr_state: *state };
            abi::M0_HA_MSG_EVENT_RPC
        }
        Body::StobIoq(error) => {
            u.hed_stob_ioq = c_stob_ioq(error);
            abi::M0_HA_MSG_STOB_IOQ
        }
        Body::BeIoErr(error) => {
            u.hed_be_io_err = abi::m0_be_io_err {
                ber_errcode: error.errcode,
                ber_location: error.location,
                ber_io_opcode: error.io_opcode,
            };
            abi::M0_HA_MSG_BE_IO_ERR
        }
        Body::SnsErr(error) => {
            let (hse_errcode, hse_opcode) = (error.errcode, error.opcode);
            u.hed_ha_sns_err = abi::m0_ha_sns_err { hse_errcode, hse_opcode };
            abi::M0_HA_MSG_SNS_ERR
        }
        Body::Undefined(kind) | Body::Malformed { kind, .. } => return *kind,
        Body::Nvec(_) | Body::FailureVecRep { .. } => unreachable!("written by the caller"),
    };
    kind.into()
}

fn c_stob_ioq(error: &StobIoq) -> abi::m0_stob_ioq_error {
    abi::m0_stob_ioq_error {
        sie_conf_sdev: c_fid(error.sdev),
        sie_stob_id: abi::m0_stob_id {
            si_domain_fid: c_fid(error.stob_domain),
            si_fid: c_fid(error.stob),
        },
        sie_fd: error.fd,
        sie_opcode: error.opcode,
        sie_rc: error.rc,
        sie_offset: error.offset,
        sie_size: error.size,
        sie_bshift: error.bshift,
    }
}

fn write_notes(notes: &[Note], array: &mut abi::m0_ha_msg_nvec_array) -> u32 {
    assert!(notes.len() <= NOTES_MAX, "{} notes in one message", notes.len());
    for (out, note) in array.hmna_arr.iter_mut().zip(notes) {
        *out = abi::m0_ha_note { no_id: c_fid(note.fid), no_state: note.state.to_wire() };
    }
    u32::try_from(notes.len()).unwrap_or(u32::MAX)
}

fn c_pair((u_hi, u_lo): (u64, u64)) -> abi::m0_uint128 {
    abi::m0_uint128 { u_hi, u_lo }
}

fn c_cookie((co_addr, co_generation): (u64, u64)) -> abi::m0_cookie {
    abi::m0_cookie { co_addr, co_generation }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(key: u64) -> Note {
        Note { fid: Fid::process(key), state: ObjectState::Transient }
    }

    #[test]
    fn every_message_comes_back() {
        let kind = NvecKind::Get;
        let notes: Vec<Note> = (0..1024).map(note).collect();
        let nvec = Nvec { kind, id_of_get: 2, ignore_same_state: 1, notes: notes.clone() };
        let (pool, cookie) = (Fid::typed(b'o', 2, 9), (3, 4));
        let process =
            ProcessEvent { event: ProcessEventKind::Started, kind: ProcessType::Mkfs, pid: 5 };
        let ioq = StobIoq {
            sdev: Fid::new(1, 2),
            stob_domain: Fid::new(3, 4),
            stob: Fid::new(5, 6),
            fd: -7,
            opcode: 8,
            rc: -9,
            offset: 10,
            size: 11,
            bshift: 12,
        };
        for body in [
            Body::StobIoq(Box::new(ioq)),
            Body::Nvec(Box::new(nvec)),
            Body::FailureVecReq { pool, cookie },
            Body::FailureVecRep { pool, cookie, notes },
            Body::KeepaliveReq((1, 2)),
            Body::KeepaliveRep { id: (1, 2), counter: 3 },
            Body::Process(process),
            Body::Service(ServiceEvent { event: 1, kind: 2, pid: 3 }),
            Body::Rpc { attempts: 1, state: 3 },
            Body::BeIoErr(BeIoErr { errcode: 1, location: 2, io_opcode: 3 }),
            Body::SnsErr(SnsErr { errcode: 1, opcode: 2 }),
            Body::Undefined(0),
            Body::Undefined(u64::MAX),
        ] {
            let message = Message {
                fid: Fid::new(1, 2),
                source_process: Fid::new(3, 4),
                source_service: Fid::new(5, 6),
                time: WallClock(7),
                epoch: 8,
                body,
            };
            assert_eq!(read(&write(&message)), message);
        }
    }

    #[test]
    fn more_notes_than_there_is_room_for_are_not_read() {
        let mut message = motr_sys::message();
        message.hm_data.hed_type = abi::M0_HA_MSG_NVEC.into();
        for n in [1025, u64::MAX] {
            message.hm_data.u.hed_nvec.hmnv_nr = n;
            let body = read(&message).body;
            assert!(matches!(body, Body::Malformed { kind: 2, .. }), "{body:?}");
        }
    }
}
