//! The rules for every byte on the wire.
//!
//! They cover frames that must never be sent (`wire.md` section 11), early acknowledgements, and duplicate
//! replies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::ha::fact::Fact;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{NOTES_MAX, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEventKind, ProcessType};
use hax_core::wire::codec::fop::{Fop, LinkMsg};
use hax_core::wire::codec::frame::{HEADER, Header, PAYLOAD_MAX};
use hax_core::wire::codec::item::{self, ItemHeader};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{LinkIds, Uint128};

use super::kv::Kv;
use super::{Record, Topology, broken};
use crate::engine::S;
use crate::engine::Violation;

/// The minimum time for which replies are kept (`rpc/item.h`): 100 s from the first sending. A request that
/// is repeated in another item has its reply a second later, and both are dropped together.
const REPLY_KEPT: u64 = 98 * S;

/// A message of a process without an acknowledgement.
#[derive(Debug)]
struct Unacked {
    /// The record that `processes/` must hold before the acknowledgement.
    record: Option<Record>,
    /// The number of writes at the time of the message's first sending.
    number: u64,
}

/// One life of a process according to its frames.
#[derive(Debug, Default)]
struct ProcessFrames {
    /// The open messages by tag.
    unacked: BTreeMap<u64, Unacked>,
    /// The number of writes at the time of each message's first sending. The acknowledgement of a message may
    /// get lost.
    numbers: BTreeMap<u64, u64>,
    highest: u64,
    link: Option<LinkIds>,
    /// The link messages (operation 207) on the wire by their cookie, and their link.
    messages: BTreeMap<Uint128, LinkIds>,
    requests: BTreeMap<Uint128, Request>,
}

#[derive(Debug, Default)]
struct Request {
    /// The number of times that the request was sent, and that a reply was sent.
    asked: u64,
    replied: u64,
    reply: Option<Bytes>,
    /// The time of the first reply.
    at: u64,
}

/// One life of a hax.
#[derive(Debug, Default)]
struct Hax {
    /// The message in flight on each link, and the time of its last sending.
    in_flight: BTreeMap<Uint128, (Uint128, u64)>,
    answered: BTreeSet<Uint128>,
    /// The local ends of the links over which something was sent to each process.
    outcomes: BTreeMap<SocketAddr, BTreeSet<Uint128>>,
    closed: BTreeSet<Uint128>,
    linked: BTreeSet<Fid>,
}

/// The frames of all machines.
#[derive(Debug)]
pub(super) struct Frames {
    processes: Vec<ProcessFrames>,
    hax: Vec<Hax>,
    /// The last acknowledged event of each process, and the number of writes at that time.
    last: Vec<Option<(Record, u64)>>,
}

impl Frames {
    pub(super) fn new(cast: usize, haxes: usize) -> Self {
        Self {
            processes: (0..cast).map(|_| ProcessFrames::default()).collect(),
            hax: (0..haxes).map(|_| Hax::default()).collect(),
            last: vec![None; cast],
        }
    }

    pub(super) fn on_hax_start(&mut self, hax: usize) {
        self.hax[hax] = Hax::default();
        // The replies of an earlier life of the hax do not count.
        for request in self.processes.iter_mut().flat_map(|process| process.requests.values_mut()) {
            (request.replied, request.reply) = (0, None);
        }
    }

    pub(super) fn on_process_start(&mut self, motr: usize) {
        self.processes[motr] = ProcessFrames::default();
    }

    pub(super) fn link_of(&self, motr: usize) -> Option<LinkIds> {
        self.processes[motr].link
    }

    pub(super) fn was_linked(&self, hax: usize, fid: Fid) -> bool {
        self.hax[hax].linked.contains(&fid)
    }

    pub(super) fn last_acknowledged(&self, motr: usize) -> Option<&(Record, u64)> {
        self.last[motr].as_ref()
    }

    /// Tracks links. A process has one link at a time: the ends that were used before a link closes are not
    /// used again.
    pub(super) fn on_fact(&mut self, topology: &Topology, hax: usize, fact: &Fact) {
        let hax = &mut self.hax[hax];
        match fact {
            Fact::LinkUp { process, .. } | Fact::LinkKept { process, .. } => {
                hax.linked.insert(*process);
            }
            Fact::LinkClosed { process, .. } => {
                let addr = topology.motr.iter().find(|(fid, ..)| fid == process);
                let ends = addr.and_then(|(_, _, addr, _)| hax.outcomes.remove(addr));
                hax.closed.extend(ends.unwrap_or_default());
            }
            _ => {}
        }
    }

    // ---- frames of processes ----------------------------------------------------------------------

    pub(super) fn on_process_frame(
        &mut self,
        topology: &Topology,
        kv: &Kv,
        motr: usize,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        let (fid, hax, _, confd) = topology.motr[motr];
        for Item { header, fop } in items(bytes)?.1 {
            let process = &mut self.processes[motr];
            match fop {
                Fop::LinkMsg(msg) => {
                    process.link = Some(msg.ids);
                    process.messages.insert(header.cookie, msg.ids);
                    if let Some(message) = &msg.message {
                        let record = record_after(fid, confd, message);
                        let number = *process.numbers.entry(msg.tag).or_insert_with(|| kv.number());
                        process.unacked.entry(msg.tag).or_insert(Unacked { record, number });
                        process.highest = process.highest.max(msg.tag);
                    }
                }
                Fop::EntrypointReq(_) => {
                    process.requests.entry(header.cookie).or_default().asked += 1;
                }
                Fop::LinkMsgRep { .. } => {
                    self.hax[hax].answered.insert(header.cookie);
                }
                _ => {}
            }
        }
        Ok(())
    }

    // ---- frames of haxes --------------------------------------------------------------------------

    pub(super) fn on_hax_frame(
        &mut self,
        topology: &Topology,
        kv: &Kv,
        now: u64,
        hax: usize,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        let (frame, items) = items(bytes)?;
        let motr = topology.motr.iter().position(|(_, _, addr, _)| *addr == frame.dst.addr);
        for Item { header, fop } in items {
            if !fop.is_reply() {
                check_xids(&header)?;
            }
            match fop {
                Fop::LinkMsg(msg) => {
                    check_acceptable(&msg)?;
                    self.check_in_flight(now, hax, &header, &msg)?;
                    let ends = self.hax[hax].outcomes.entry(frame.dst.addr).or_default();
                    ends.insert(msg.ids.local);
                    if let Some(motr) = motr {
                        let ids = msg.ids.inverted();
                        self.check_ack(topology, kv, motr, ids, msg.in_delivered)?;
                    }
                }
                Fop::LinkMsgRep { rc: 0, in_delivered, .. } => {
                    let known = motr.and_then(|motr| {
                        Some((motr, *self.processes[motr].messages.get(&header.cookie)?))
                    });
                    if let Some((motr, ids)) = known {
                        self.check_ack(topology, kv, motr, ids, in_delivered)?;
                    }
                }
                Fop::EntrypointRep(_) => {
                    if let Some(motr) = motr {
                        self.check_reply(now, motr, &header, bytes)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that an entrypoint request has one reply. A repeated request gets the same reply, for as long
    /// as replies are kept.
    fn check_reply(
        &mut self,
        now: u64,
        motr: usize,
        header: &ItemHeader,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        // The request belongs to a former life of the process, or to a raw client in its name.
        let Some(request) = self.processes[motr].requests.get_mut(&header.cookie) else {
            return Ok(());
        };
        if request.reply.is_some() && now - request.at >= REPLY_KEPT {
            request.reply = None;
        }
        request.replied += 1;
        let payload = bytes.slice(HEADER..);
        let Request { asked, replied, reply, .. } = request;
        if replied > asked || reply.as_ref().is_some_and(|reply| *reply != payload) {
            let text = format!("process {motr}: {asked} requests, {replied} replies");
            return broken("an entrypoint request has one reply", text);
        }
        if request.reply.is_none() {
            request.at = now;
        }
        request.reply = Some(payload);
        Ok(())
    }

    /// Checks that one message of a link is in flight. The receiver would process several out of order, and
    /// so lose some.
    fn check_in_flight(
        &mut self,
        now: u64,
        hax: usize,
        header: &ItemHeader,
        msg: &LinkMsg,
    ) -> Result<(), Violation> {
        let hax = &mut self.hax[hax];
        if hax.closed.contains(&msg.ids.local) {
            return broken("nothing is sent over a link that has closed", format!("{:?}", msg.ids));
        }
        if let Some((cookie, at)) = hax.in_flight.insert(msg.ids.local, (header.cookie, now))
            && cookie != header.cookie
            && !hax.answered.remove(&cookie)
            && now - at < S
        {
            return broken("one message of a link is in flight", format!("tag {}", msg.tag));
        }
        Ok(())
    }

    /// Checks that an acknowledged message was sent, and that Consul holds its effect.
    fn check_ack(
        &mut self,
        topology: &Topology,
        kv: &Kv,
        motr: usize,
        ids: LinkIds,
        in_delivered: u64,
    ) -> Result<(), Violation> {
        let process = &mut self.processes[motr];
        // The link belongs to a former life, or the process has not sent over it yet.
        if process.link != Some(ids) {
            return Ok(());
        }
        if in_delivered > process.highest + 2 || in_delivered % 2 == 1 {
            let text = format!("process {motr}: {in_delivered}, wrote up to {}", process.highest);
            return broken("nothing is acknowledged that was not sent", text);
        }
        let still_open = process.unacked.split_off(&in_delivered);
        let done = std::mem::replace(&mut process.unacked, still_open);
        for (tag, Unacked { record, number }) in done {
            let Some(record) = record else { continue };
            let Some(written) = kv.held_since(topology.motr[motr].0, &record, number) else {
                let text = format!("process {motr}: tag {tag}, {record:?}");
                return broken("nothing is acknowledged before Consul holds its effect", text);
            };
            self.last[motr] = Some((record, written));
        }
        Ok(())
    }
}

/// Checks a write of a machine: it is one frame, whose requests have valid xids.
pub(crate) fn check_frame(bytes: &Bytes) -> Result<(), Violation> {
    let requests = items(bytes)?.1.into_iter().filter(|item| !item.fop.is_reply());
    requests.map(|item| item.header).try_for_each(|header| check_xids(&header))
}

/// Checks a write of a hax, whoever its receiver is.
pub(crate) fn check_hax_frame(bytes: &Bytes) -> Result<(), Violation> {
    check_frame(bytes)?;
    items(bytes)?.1.iter().try_for_each(|item| match &item.fop {
        Fop::LinkMsg(msg) => check_acceptable(msg),
        _ => Ok(()),
    })
}

/// Returns a frame's header and items.
pub(super) fn items(bytes: &Bytes) -> Result<(Header, Vec<Item>), Violation> {
    let rule = "what is written is one whole frame";
    let bad = |what: &str| Violation { rule, what: what.to_owned() };
    let raw = bytes.first_chunk::<HEADER>().ok_or_else(|| bad("too short"))?;
    let header = Header::decode(raw).map_err(|why| bad(why.0))?;
    let payload = &bytes[HEADER..];
    if payload.len() != header.size as usize || payload.len() > PAYLOAD_MAX {
        return Err(bad("its size is not what it says, or too large"));
    }
    let items = packet::decode(payload).map_err(|why| bad(why.0))?;
    let items: Result<Vec<Item>, _> = items.collect();
    Ok((header, items.map_err(|why| bad(why.0))?))
}

/// Checks the xids of a request. An `xid_min` of 0 or -1 panics the receiver, except if the xid is outside of
/// any sequence.
fn check_xids(header: &ItemHeader) -> Result<(), Violation> {
    let ItemHeader { xid, xid_min, .. } = *header;
    if xid == item::NONE || xid_min != 0 && xid_min != item::NONE && xid_min <= xid {
        return Ok(());
    }
    broken("a request has an xid_min", format!("xid {xid}, xid_min {xid_min}"))
}

/// Checks that a real process accepts a message of hax (`ha/note.c`, `ha/msg.h`).
fn check_acceptable(msg: &LinkMsg) -> Result<(), Violation> {
    let rule = "nothing is sent that makes its receiver abort";
    if msg.in_delivered % 2 == 1 || msg.nr > 1 || msg.nr == 1 && msg.tag.is_multiple_of(2) {
        return broken(rule, format!("tag {}, in_delivered {}", msg.tag, msg.in_delivered));
    }
    let Some(Message { body: Body::Nvec(nvec), .. }) = msg.message.as_deref() else {
        return Ok(());
    };
    if nvec.notes.len() > NOTES_MAX || nvec.ignore_same_state > 1 || nvec.kind != NvecKind::Set {
        return broken(rule, format!("{:?} of {} notes", nvec.kind, nvec.notes.len()));
    }
    let harmful = nvec.notes.iter().find(|note| match note.state {
        ObjectState::Unknown | ObjectState::Undefined(_) => true,
        ObjectState::Repair | ObjectState::Rebalance => {
            !matches!(note.fid.kind(), b'o' | b'd' | b'n' | b'k')
        }
        _ => false,
    });
    match harmful {
        None => Ok(()),
        Some(note) => broken(rule, format!("{} is {}", note.fid, note.state)),
    }
}

/// Returns the record that `processes/` must hold before a message may be acknowledged.
///
/// There is none unless the message is an event that a process reports about itself.
fn record_after(fid: Fid, confd: bool, message: &Message) -> Option<Record> {
    let Body::Process(event) = &message.body else { return None };
    let undefined = matches!(event.event, ProcessEventKind::Undefined(_))
        || matches!(event.kind, ProcessType::Undefined(_) | ProcessType::Ha);
    if message.fid != fid || undefined {
        return None;
    }
    let settles = confd && event.kind == ProcessType::M0d;
    let state = match event.event {
        ProcessEventKind::Started if settles => ProcessEventKind::DtmRecovered,
        state => state,
    };
    Some((state.name().to_owned(), event.kind.name().to_owned()))
}
