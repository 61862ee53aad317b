//! The output of `ham`: one JSON object a line, in the order of the events.

use hax_core::base::fid::Fid;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, NvecKind};
use hax_core::wire::process::Event;
use serde_json::{Map, Value, json};

/// Returns the line for an event of the process.
#[must_use]
pub fn event(event: &Event) -> Value {
    match event {
        Event::Answered { control, entrypoint, generation } => {
            let mut line = answer(entrypoint);
            line["control"] = match control {
                0 => "consume".into(),
                1 => "quit".into(),
                2 => "query".into(),
                n => (*n).into(),
            };
            line["request"] = (*generation).into();
            line
        }
        Event::LinkUp { reconnected } => json!({ "event": "link-up", "reconnected": reconnected }),
        Event::LinkFailed => json!({ "event": "link-failed" }),
        Event::Received { msg, message: said } => {
            let mut line = message(said);
            line["msg"] = msg.0.into();
            line
        }
        Event::Delivered { send } => json!({ "event": "delivered", "send": send.0 }),
        Event::Aborted { why } => json!({ "event": "aborted", "why": why }),
        Event::Stopped => json!({ "event": "stopped" }),
    }
}

fn answer(reply: &Entrypoint) -> Value {
    let confds: Vec<_> = reply
        .confds
        .iter()
        .map(|confd| json!({ "fid": text(confd.fid), "endpoint": confd.endpoint }))
        .collect();
    json!({
        "event": "entrypoint",
        "quorum": reply.quorum,
        "confds": confds,
        "rm": text(reply.rm),
        "rm_endpoint": reply.rm_endpoint,
    })
}

fn message(message: &Message) -> Value {
    let mut out = Map::new();
    out.insert("event".into(), "message".into());
    out.insert("kind".into(), message.body.name().into());
    let about = [
        ("fid", message.fid),
        ("source_process", message.source_process),
        ("source_service", message.source_service),
    ];
    for (name, fid) in about {
        if fid != Fid::ZERO {
            out.insert(name.into(), text(fid));
        }
    }
    out.extend(body(&message.body));
    Value::Object(out)
}

fn body(body: &Body) -> Map<String, Value> {
    let value = match body {
        Body::Nvec(nvec) => json!({
            "nvec": match nvec.kind {
                NvecKind::Set => "set".into(),
                NvecKind::Get => "get".into(),
                NvecKind::Undefined(n) => Value::from(n),
            },
            "id_of_get": nvec.id_of_get,
            "ignore_same_state": nvec.ignore_same_state,
            "notes": notes(&nvec.notes),
        }),
        Body::FailureVecReq { pool, cookie } => json!({ "pool": text(*pool), "cookie": cookie }),
        Body::FailureVecRep { pool, cookie, notes: of } => {
            json!({ "pool": text(*pool), "cookie": cookie, "notes": notes(of) })
        }
        Body::KeepaliveReq(id) => json!({ "id": id }),
        Body::KeepaliveRep { id, counter } => json!({ "id": id, "counter": counter }),
        Body::Process(said) => {
            json!({ "state": said.event.name(), "type": said.kind.name(), "pid": said.pid })
        }
        Body::Service(said) => json!({ "state": said.event, "type": said.kind, "pid": said.pid }),
        Body::Rpc { attempts, state } => json!({ "attempts": attempts, "state": state }),
        Body::StobIoq(said) => json!({ "sdev": text(said.sdev), "rc": said.rc }),
        Body::BeIoErr(said) => json!({ "errcode": said.errcode }),
        Body::SnsErr(said) => json!({ "errcode": said.errcode, "opcode": said.opcode }),
        Body::Undefined(kind) => json!({ "number": kind }),
        Body::Malformed { kind, why } => json!({ "number": kind, "why": why }),
    };
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("all of them are objects"),
    }
}

fn notes(notes: &[Note]) -> Value {
    let note = |note: &Note| json!({ "fid": text(note.fid), "state": note.state.to_string() });
    notes.iter().map(note).collect()
}

fn text(fid: Fid) -> Value {
    fid.to_string().into()
}

#[cfg(test)]
mod tests {
    use hax_core::base::time::WallClock;
    use hax_core::ha::note::{Nvec, ObjectState};

    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let note = Note { fid: Fid::process(4), state: ObjectState::Failed };
        let kind = NvecKind::Set;
        let nvec = Nvec { kind, id_of_get: 0, ignore_same_state: 1, notes: vec![note] };
        let line = message(&Message::new(WallClock(1), Body::Nvec(Box::new(nvec)))).to_string();
        assert!(!line.contains('\n'));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["kind"], "NVEC");
        assert_eq!(read["notes"][0], json!({ "fid": "0x7200000000000001:0x4", "state": "FAILED" }));
    }
}
