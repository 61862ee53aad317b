//! Motr's frames and messages in the trace.

use std::fmt::Write as _;

use bytes::Bytes;
use hax_core::ha::message::{Body, Message};
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::Frames;
use hax_core::wire::codec::packet;

/// Summarises the frames on a connection.
pub(super) fn frames(bytes: &Bytes) -> String {
    let mut frames = Frames::default();
    frames.feed(bytes.clone());
    let mut text = String::new();
    while let Ok(Some((header, payload))) = frames.cut() {
        let Ok(items) = packet::decode(&payload) else { break };
        for item in items.flatten() {
            let _ = write!(text, "[{} to {} {}]", header.src.addr, header.dst.addr, fop(&item.fop));
        }
    }
    if text.is_empty() { format!("{} bytes", bytes.len()) } else { text }
}

fn fop(fop: &Fop) -> String {
    match fop {
        Fop::LinkMsg(msg) => {
            let what = msg.message.as_ref().map_or_else(|| "nothing".into(), |m| message(m));
            format!("207 tag {} in_delivered {} {what}", msg.tag, msg.in_delivered)
        }
        Fop::EntrypointReq(req) => format!("117 first {} {}", req.first, req.process),
        Fop::EntrypointRep(rep) => format!(
            "118 control {} reconnect {} confds {}",
            rep.control,
            rep.do_reconnect,
            rep.confds.len()
        ),
        other => format!("{other:?}"),
    }
}

/// Summarises a message.
pub(super) fn message(message: &Message) -> String {
    match &message.body {
        Body::Nvec(nvec) => {
            let mut text =
                format!("{:?} id {} of {}:", nvec.kind, nvec.id_of_get, nvec.notes.len());
            for note in nvec.notes.iter().take(4) {
                let _ = write!(text, " {}={}", note.fid, note.state);
            }
            text
        }
        Body::Process(event) => format!("{} {} {}", message.fid, event.event, event.kind),
        body => body.name().to_owned(),
    }
}
