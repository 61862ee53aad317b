//! A round trip of each operation that can be written returns the same operation.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType, ServiceEvent};
use hax_core::ha::report::{BeIoErr, SnsErr, StobIoq};
use hax_core::wire::codec::fop::{EntrypointRep, EntrypointReq, Fop, LinkMsg};
use hax_core::wire::codec::frame::{End, Frames, HEADER};
use hax_core::wire::codec::item::ItemHeader;
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkIds, LinkParams, Tags, Uint128};
use quickcheck::{Arbitrary, Gen, quickcheck};

#[derive(Clone, Debug)]
struct AnyFrame(End, End, Vec<Item>);

fn n(g: &mut Gen) -> u64 {
    u64::arbitrary(g)
}

fn pair(g: &mut Gen) -> (u64, u64) {
    (n(g), n(g))
}

fn fid(g: &mut Gen) -> Fid {
    Fid::new(n(g), n(g))
}

fn uint128(g: &mut Gen) -> Uint128 {
    Uint128 { hi: n(g), lo: n(g) }
}

fn ids(g: &mut Gen) -> LinkIds {
    LinkIds { local: uint128(g), remote: uint128(g), connection: uint128(g) }
}

fn tags(g: &mut Gen) -> Tags {
    Tags { confirmed: n(g), delivered: n(g), next: n(g), assign: n(g) }
}

fn params(g: &mut Gen) -> LinkParams {
    LinkParams { ids: ids(g), tags_local: tags(g), tags_remote: tags(g) }
}

fn cookie(g: &mut Gen) -> Cookie {
    Cookie([n(g), n(g), n(g), n(g), n(g)])
}

fn notes(g: &mut Gen) -> Vec<Note> {
    let nr = *g.choose(&[0, 1, 2, 64, 1023, 1024]).unwrap();
    let note = |g: &mut Gen| Note { fid: fid(g), state: ObjectState::from_wire(u32::arbitrary(g)) };
    (0..nr).map(|_| note(g)).collect()
}

fn body(g: &mut Gen) -> Body {
    match u8::arbitrary(g) % 12 {
        0 => Body::StobIoq(Box::new(StobIoq {
            sdev: fid(g),
            stob_domain: fid(g),
            stob: fid(g),
            fd: i64::arbitrary(g),
            opcode: i64::arbitrary(g),
            rc: i64::arbitrary(g),
            offset: n(g),
            size: n(g),
            bshift: u32::arbitrary(g),
        })),
        1 => Body::Nvec(Box::new(Nvec {
            kind: NvecKind::from_wire(n(g) % 3),
            id_of_get: n(g),
            ignore_same_state: n(g),
            notes: notes(g),
        })),
        2 => Body::FailureVecReq { pool: fid(g), cookie: pair(g) },
        3 => Body::FailureVecRep { pool: fid(g), cookie: pair(g), notes: notes(g) },
        4 => Body::KeepaliveReq(pair(g)),
        5 => Body::KeepaliveRep { id: pair(g), counter: n(g) },
        6 => Body::Process(ProcessEvent {
            event: ProcessEventKind::from_wire(n(g) % 6),
            kind: ProcessType::from_wire(n(g) % 5),
            pid: n(g),
        }),
        7 => Body::Service(ServiceEvent { event: n(g), kind: n(g), pid: n(g) }),
        8 => Body::Rpc { attempts: n(g), state: n(g) },
        9 => Body::BeIoErr(BeIoErr {
            errcode: u32::arbitrary(g),
            location: u8::arbitrary(g),
            io_opcode: u8::arbitrary(g),
        }),
        10 => Body::SnsErr(SnsErr { errcode: u32::arbitrary(g), opcode: u8::arbitrary(g) }),
        _ => Body::Undefined(*g.choose(&[0, 12, 77, u64::MAX]).unwrap()),
    }
}

fn link_msg(g: &mut Gen) -> LinkMsg {
    let message = bool::arbitrary(g).then(|| Message {
        fid: fid(g),
        source_process: fid(g),
        source_service: fid(g),
        time: WallClock(n(g)),
        epoch: n(g),
        body: body(g),
    });
    LinkMsg {
        nr: message.is_some().into(),
        message: message.map(Box::new),
        tag: n(g),
        ids: ids(g),
        out_next: n(g),
        in_delivered: n(g),
        seq: n(g),
    }
}

fn fop(g: &mut Gen) -> Fop {
    match u8::arbitrary(g) % 13 {
        0 => Fop::ConnEstablish,
        1 => Fop::ConnEstablishRep { rc: i32::arbitrary(g), sender: n(g) },
        2 => Fop::SessionEstablish { sender: n(g) },
        3 => Fop::SessionEstablishRep { rc: i32::arbitrary(g), session: n(g), sender: n(g) },
        4 => Fop::SessionTerminate { sender: n(g), session: n(g) },
        5 => Fop::SessionTerminateRep { rc: i32::arbitrary(g), session: n(g), sender: n(g) },
        6 => Fop::ConnTerminate { sender: n(g) },
        7 => Fop::ConnTerminateRep { rc: i32::arbitrary(g), sender: n(g) },
        8 => Fop::EntrypointReq(Box::new(EntrypointReq {
            first: i32::arbitrary(g),
            generation: n(g),
            process: fid(g),
            params: params(g),
            git_rev: Vec::<u8>::arbitrary(g).into(),
            pid: n(g),
            cookie_expected: cookie(g),
        })),
        9 => Fop::EntrypointRep(Box::new(EntrypointRep {
            quorum: u32::arbitrary(g),
            confds: (0..u8::arbitrary(g) % 5).map(|_| fid(g)).collect(),
            confd_endpoints: (0..u8::arbitrary(g) % 5).map(|_| Vec::arbitrary(g).into()).collect(),
            rm: fid(g),
            rm_endpoint: Vec::<u8>::arbitrary(g).into(),
            control: u32::arbitrary(g),
            params: params(g),
            do_reconnect: n(g),
            disconnected_previously: u32::arbitrary(g),
            cookie_actual: cookie(g),
        })),
        10 => Fop::LinkMsgRep { rc: i32::arbitrary(g), out_next: n(g), in_delivered: n(g) },
        _ => Fop::LinkMsg(Box::new(link_msg(g))),
    }
}

fn end(g: &mut Gen) -> End {
    let port = u16::arbitrary(g);
    let addr = if bool::arbitrary(g) {
        SocketAddr::from((Ipv4Addr::arbitrary(g), port))
    } else {
        SocketAddr::from((Ipv6Addr::arbitrary(g), port))
    };
    End { addr, cookie: pair(g) }
}

impl Arbitrary for AnyFrame {
    fn arbitrary(g: &mut Gen) -> Self {
        let item = |g: &mut Gen| {
            let fop = fop(g);
            let header = ItemHeader {
                opcode: fop.opcode(),
                flags: u32::arbitrary(g),
                epoch: n(g),
                uuid: uint128(g),
                sender: n(g),
                session: n(g),
                xid_min: n(g),
                xid: n(g),
                cookie: uint128(g),
            };
            Item { header, fop }
        };
        let items = (0..1 + u8::arbitrary(g) % 4).map(|_| item(g)).collect();
        Self(end(g), end(g), items)
    }
}

quickcheck! {
    fn what_is_written_is_read(frame: AnyFrame, piece: u16) -> bool {
        let AnyFrame(src, dst, items) = frame;
        let bytes = packet::encode(src, dst, &items);
        assert_eq!((bytes.len() - HEADER) % 8, 0);
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(usize::from(piece) + 1) {
            frames.feed(Bytes::copy_from_slice(piece));
            while let Some((header, payload)) = frames.cut().unwrap() {
                assert_eq!((header.src, header.dst), (src, dst));
                read.extend(packet::decode(&payload).unwrap().map(Result::unwrap));
            }
        }
        read == items && frames.held() == 0
    }

    fn what_stands_behind_a_packet_is_not_looked_at(frame: AnyFrame, segments: u8) -> bool {
        let AnyFrame(src, dst, items) = frame;
        let mut payload = packet::encode(src, dst, &items)[HEADER..].to_vec();
        let whole = payload.len().next_multiple_of(4096);
        payload.resize(whole + 4096 * usize::from(segments % 4), 0);
        let read: Vec<Item> = packet::decode(&payload).unwrap().map(Result::unwrap).collect();
        read == items
    }

    fn what_is_cut_short_is_refused(frame: AnyFrame, short: u16) -> bool {
        let AnyFrame(src, dst, items) = frame;
        let bytes = packet::encode(src, dst, &items);
        let payload = &bytes[HEADER..];
        let short = 1 + usize::from(short) % payload.len();
        match packet::decode(&payload[..payload.len() - short]) {
            Err(_) => true,
            Ok(mut items) => items.any(|item| item.is_err()),
        }
    }
}
