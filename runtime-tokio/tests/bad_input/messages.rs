//! Bad messages over a good link.

use hax_core::base::fid::Fid;
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::wire::codec::fop::{Fop, LinkMsg};
use hax_core::wire::codec::item::ItemHeader;
use hax_core::wire::codec::params::{LinkIds, Uint128};

use crate::fixture::{Fixture, GOOD};
use crate::liar::{FRAME, ITEM, Liar, PACKET, confirm};

/// The process of the misbehaving peer.
const LIAR: Fid = Fid::process(9);

/// The offset of the number of notes: after the item's headers, the message's head and three words of the
/// vector.
const COUNT: usize = FRAME + PACKET + ITEM + 8 + 64 + 8 + 24;

fn about(fid: Fid, body: Body) -> Message {
    Message { fid, source_process: LIAR, ..Message::new(WallClock(1), body) }
}

fn event(fid: Fid, event: ProcessEventKind, kind: ProcessType) -> Message {
    about(fid, Body::Process(ProcessEvent { event, kind, pid: 1 }))
}

fn nvec(kind: NvecKind, notes: Vec<Note>) -> Message {
    about(LIAR, Body::Nvec(Box::new(Nvec { kind, id_of_get: 7, ignore_same_state: 0, notes })))
}

fn notes(n: u64, state: ObjectState) -> Vec<Note> {
    let types = [b'r', b's', b'd', b'n', 0, 0xff, b'o', b'v'];
    let strange = |(n, kind): (u64, &u8)| Fid::typed(*kind, n.wrapping_mul(7), u64::MAX - n);
    let fids = (0..n).zip(types.iter().cycle()).map(strange);
    fids.map(|fid| Note { fid, state }).collect()
}

/// Returns messages without an effect, with the fact and the text that are logged for each.
fn cases() -> Vec<(&'static str, Message, &'static str, &'static str)> {
    use ProcessEventKind::{Started, Undefined};
    let unknown = Undefined(77);
    let good = Fid::process(GOOD);
    let m0d = ProcessType::M0d;
    let failed = ObjectState::Failed;
    vec![
        ("another's event", event(good, Started, m0d), "MessageRefused", "another process"),
        ("nobody's event", event(Fid::ZERO, Started, m0d), "MessageRefused", "no process"),
        ("a service's event", event(Fid::service(1), Started, m0d), "MessageRefused", "no process"),
        ("no event", event(LIAR, unknown, m0d), "MessageRefused", "undefined number"),
        ("the last event", event(LIAR, Undefined(u64::MAX), m0d), "MessageRefused", "undefined"),
        ("no type", event(LIAR, Started, ProcessType::Undefined(9)), "MessageRefused", "undefined"),
        ("hax's type", event(LIAR, Started, ProcessType::Ha), "MessageRefused", "undefined"),
        ("no question", nvec(NvecKind::Get, Vec::new()), "NvecAnswered", "has 0 states"),
        (
            "strange objects",
            nvec(NvecKind::Get, notes(1024, failed)),
            "NvecAnswered",
            "has 1024 states",
        ),
        (
            "strange states",
            nvec(NvecKind::Set, notes(1024, ObjectState::Undefined(99))),
            "DevicesSet",
            "0 devices",
        ),
        ("no kind", nvec(NvecKind::Undefined(7), notes(3, failed)), "MessageIgnored", "NVEC"),
        ("no message at all", about(LIAR, Body::Undefined(0)), "MessageIgnored", ""),
        ("an unknown message", about(LIAR, Body::Undefined(u64::MAX)), "MessageIgnored", ""),
    ]
}

fn first(ids: LinkIds, message: Message) -> LinkMsg {
    LinkMsg { nr: 1, message: Some(Box::new(message)), tag: 2, out_next: 4, ..confirm(ids, 1) }
}

/// A change of a good message.
type Lie = fn(&mut LinkMsg);

fn link_msg(msg: LinkMsg) -> Fop {
    Fop::LinkMsg(Box::new(msg))
}

/// Returns the result of the next reply to a message, and skips hax's own messages.
fn answer(liar: &Liar) -> i32 {
    loop {
        if let Fop::LinkMsgRep { rc, .. } = liar.hears().fop {
            return rc;
        }
    }
}

#[test]
fn messages_that_make_no_sense_change_nothing() {
    let mut fixture = Fixture::new();
    for (name, message, fact, text) in cases() {
        let mut liar = Liar::new(&fixture.place);
        let (header, ids) = liar.link(LIAR);
        let past = fixture.hax.facts(fact).len();
        liar.say(&liar.frame(header, link_msg(first(ids, message))));
        assert_eq!(answer(&liar), 0, "{name}");
        fixture.hax.says(past, fact, text);
        fixture.is_well(name);
    }
}

#[test]
fn counts_that_lie_change_nothing() {
    let mut fixture = Fixture::new();
    for (count, fact, text) in [
        (1025, "MessageRefused", "more than 1024 notes"),
        (1 << 32, "MessageRefused", "more than 1024 notes"),
        (u64::MAX, "MessageRefused", "more than 1024 notes"),
        (0, "NvecAnswered", "has 0 states"),
        (2, "NvecAnswered", "has 2 states"),
    ] {
        let mut liar = Liar::new(&fixture.place);
        let (header, ids) = liar.link(LIAR);
        let past = fixture.hax.facts(fact).len();
        let question = nvec(NvecKind::Get, notes(1, ObjectState::Unknown));
        let mut bytes = liar.frame(header, link_msg(first(ids, question)));
        assert_eq!(bytes[COUNT..COUNT + 8], 1_u64.to_le_bytes());
        bytes[COUNT..COUNT + 8].copy_from_slice(&count.to_le_bytes());
        liar.say(&bytes);
        fixture.hax.says(past, fact, text);
        fixture.is_well(&format!("{count} notes"));
    }
}

#[test]
fn links_tags_and_xids_that_lie_change_nothing() {
    let mut fixture = Fixture::new();
    let message = || event(LIAR, ProcessEventKind::Started, ProcessType::M0d);
    let lies: [(&str, Lie, i32); 6] = [
        ("an unknown link", |msg| msg.ids.remote = Uint128 { hi: 1, lo: 1 }, -67),
        ("an earlier life", |msg| msg.ids.connection = Uint128 { hi: 1, lo: 1 }, -57),
        ("a tag that was not given", |msg| msg.tag = 8, 0),
        ("a tag of the other side", |msg| msg.tag = 3, 0),
        ("the last tag", |msg| msg.tag = u64::MAX - 1, 0),
        ("nothing, with a tag", |msg| msg.nr = 0, 0),
    ];
    for (name, lie, rc) in lies {
        let mut liar = Liar::new(&fixture.place);
        let (header, ids) = liar.link(LIAR);
        let mut msg = first(ids, message());
        lie(&mut msg);
        liar.say(&liar.frame(header, link_msg(msg)));
        assert_eq!(answer(&liar), rc, "{name}");
        fixture.is_well(name);
    }
    let mut liar = Liar::new(&fixture.place);
    let (header, ids) = liar.link(LIAR);
    for (n, told) in (0..).zip([3, 2, 0, u64::MAX]) {
        let past = fixture.hax.facts("BadDelivered").len();
        let header = ItemHeader { xid: 2 + n, xid_min: 2 + n, ..header };
        liar.say(&liar.frame(header, link_msg(confirm(ids, told))));
        fixture.hax.says(past, "BadDelivered", "");
    }
    let past = fixture.hax.facts("BadItem").len();
    for (n, (xid, xid_min)) in (1..).zip([(9, 0), (9, u64::MAX), (0, 1), (u64::MAX, 1)]) {
        let header = ItemHeader { xid, xid_min, ..header };
        liar.say(&liar.frame(header, link_msg(first(ids, message()))));
        fixture.hax.says(past + n - 1, "BadItem", "");
    }
    fixture.is_well("numbers that cannot be");
    assert!(fixture.hax.facts("ProcessEvent").iter().all(|line| !line.contains(&LIAR.to_string())));
}
