//! The handling of each message of a Motr process (5/HAX, "Messages from Motr").

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, MsgId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::CallSeq;
use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::config::OnUnexpected;
use crate::bridge::context::Cx;
use crate::bridge::continuation::LaneKey;
use crate::bridge::process::work::{self, Operation, WorkItem};
use crate::cluster::Cluster;
use crate::cluster::states::ProcessRecord;
use crate::ha::fact::Fact;
use crate::ha::message::{Body, Message};
use crate::ha::note::{Note, Nvec, NvecKind, ObjectState};
use crate::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use crate::ha::report::SnsErr;

/// A request for states. It waits until every replica is proved fresh for it.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) link: LinkId,
    msg: MsgId,
    asked: CallSeq,
    arrived: Instant,
    nvec: Box<Nvec>,
}

pub(crate) fn on_message(
    state: &mut State,
    cx: &mut Cx<'_>,
    link: LinkId,
    msg: MsgId,
    message: Message,
) {
    let kind = message.body.name();
    match message.body {
        Body::Process(event) => process_event(state, cx, (link, msg), message.fid, event),
        Body::Nvec(nvec) if nvec.kind == NvecKind::Get => {
            let notes = u32::try_from(nvec.notes.len()).unwrap_or(u32::MAX);
            cx.fact(Fact::NvecAsked { link, msg, notes });
            let asked = cx.call_seq();
            state.questions.push_back(Question { link, msg, asked, arrived: cx.now().mono, nvec });
            state.tables.request_proofs(cx);
        }
        // 5/HAX answers both with the empty vector of one fixed pool.
        Body::FailureVecReq { cookie, .. } | Body::FailureVecRep { cookie, .. } => {
            let pool = Fid::typed(b'o', 2, 9);
            let none = Body::FailureVecRep { pool, cookie, notes: Vec::new() };
            state.links.answer(cx, link, msg, none);
        }
        // A process reports the result of a repair, including "there was nothing to do", which is an error
        // too.
        Body::SnsErr(SnsErr { errcode, opcode }) if cx.config().spiel => {
            cx.ack(link, msg);
            // The field holds a negative errno in 32 bits.
            let errcode = errcode.cast_signed();
            cx.fact(Fact::SnsFailed { link, errcode, opcode });
        }
        Body::KeepaliveReq(_) | Body::KeepaliveRep { .. } | Body::BeIoErr(_) | Body::SnsErr(_) => {
            // The message is acknowledged first, together with the earlier ones. Otherwise it would be
            // repeated after each restart.
            cx.ack(link, msg);
            match cx.config().on_unexpected {
                OnUnexpected::Ignore => cx.fact(Fact::MessageIgnored { link, kind }),
                OnUnexpected::Panic => {
                    cx.fact(Fact::MessageFatal { link, kind });
                    state.fatal.get_or_insert((link, msg));
                }
            }
        }
        Body::Nvec(nvec) if nvec.kind == NvecKind::Set => {
            let asked = nvec.notes.len();
            let mut notes: Vec<Note> = nvec.notes.into_iter().filter_map(outcome).collect();
            let settable =
                |fid| work::device(fid, &state.cluster).is_some() || !Cluster::is_stateful(fid);
            notes.retain(|note| settable(note.fid));
            if notes.len() < asked {
                let why = "states that are not Motr's to set";
                cx.fact(Fact::MessageRefused { link, why });
            }
            let what = Operation::Devices { notes, ack: Some((link, msg)), queued: false };
            state.lanes.push(LaneKey::Devices, WorkItem::new(cx.now().mono, what));
        }
        Body::Nvec(_)
        | Body::StobIoq(_)
        | Body::Service(_)
        | Body::Rpc { .. }
        | Body::Undefined(_) => {
            cx.ack(link, msg);
            cx.fact(Fact::MessageIgnored { link, kind });
        }
        Body::Malformed { why, .. } => refuse(cx, (link, msg), why),
    }
}

fn process_event(
    state: &mut State,
    cx: &mut Cx<'_>,
    from: (LinkId, MsgId),
    process: Fid,
    ProcessEvent { event, kind, .. }: ProcessEvent,
) {
    let known = !matches!(event, ProcessEventKind::Undefined(_))
        && !matches!(kind, ProcessType::Undefined(_) | ProcessType::Ha);
    if !known {
        refuse(cx, from, "a process event of an undefined number");
    } else if !process.is_process() {
        refuse(cx, from, "a process event about what is no process");
    } else if state.links.process(from.0) != Some(process) {
        refuse(cx, from, "a process event about another process");
    } else {
        cx.fact(Fact::ProcessEvent { process, state: event.name() });
        let record = ProcessRecord::reported(event, kind);
        if mutant(Mutant::AckBeforeCommit) {
            cx.ack(from.0, from.1);
        }
        let work = WorkItem::new(cx.now().mono, Operation::Reported { record, ack: Some(from) });
        state.lanes.push(LaneKey::Process(process), work);
    }
}

/// Returns the state to store for a state set by Motr: the outcome of a repair or a rebalance.
///
/// An object that is still in such a state has failed and returns to the state before (`hax.md` 1.10). `None`
/// for states that Motr may not set.
fn outcome(note: Note) -> Option<Note> {
    let state = match note.state {
        ObjectState::Online | ObjectState::Repaired => note.state,
        ObjectState::Repair => ObjectState::Failed,
        ObjectState::Rebalance => ObjectState::Repaired,
        ObjectState::Unknown
        | ObjectState::Failed
        | ObjectState::Transient
        | ObjectState::DtmRecovering
        | ObjectState::Undefined(_) => return None,
    };
    Some(Note { state, ..note })
}

fn refuse(cx: &mut Cx<'_>, (link, msg): (LinkId, MsgId), why: &'static str) {
    cx.ack(link, msg);
    cx.fact(Fact::MessageRefused { link, why });
}

/// Answers, in their order, the requests with a proof of freshness from every replica. The request's own
/// vector is returned with the states filled in.
pub(crate) fn answer_questions(state: &mut State, cx: &mut Cx<'_>) {
    while let Some(question) = state.questions.front() {
        if !state.ready || !state.tables.is_fresh(question.asked) {
            return;
        }
        let Some(Question { link, msg, arrived, mut nvec, .. }) = state.questions.pop_front()
        else {
            return;
        };
        nvec.kind = NvecKind::Set;
        nvec.ignore_same_state = 1;
        for note in &mut nvec.notes {
            note.state = state.cluster.state(note.fid);
        }
        let notes = u32::try_from(nvec.notes.len()).unwrap_or(u32::MAX);
        state.links.answer(cx, link, msg, Body::Nvec(nvec));
        cx.fact(Fact::NvecAnswered { link, msg, notes, us: cx.now().mono.micros_since(arrived) });
    }
}
