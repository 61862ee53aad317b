//! The state of a link as a value for the next life of hax.
//!
//! | field | form |
//! |---|---|
//! | magic, version | u32, u16 |
//! | whose it is: boot id, process of hax, address of hax | u128, fid, address |
//! | the process and its address | fid, address |
//! | ids of the link; whether it continues another one | 3 × u128; u8 |
//! | cookie | 5 × u64 |
//! | received: delivered, assign | u64, u64 |
//! | unacknowledged messages: tag, and the content or the tag of the answer | u16, then each: u64, u8, … |
//! | sent: delivered, first, next, reached | 4 × u64 |
//! | undelivered messages: the content unless the process has received it | u16, then each: u8, … |
//! | owed notes: fid, state | u16, then each: fid, u32 |
//! | checksum of all before | u64 |
//!
//! An address is a u8 (4 or 6), 4 or 16 bytes and a u16. A content is its length (u32), the number of zeros
//! after it (u32), and its bytes. All numbers are little-endian.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use crate::base::fid::Fid;
use crate::base::mutant::{Mutant, mutant};
use crate::ha::message::Message;
use crate::ha::motr::Purpose;
use crate::ha::note::{Note, ObjectState};
use crate::state::{VALUE_MAX, checksum};
use crate::wire::codec::bytes::{DecodeError, Put, Reader};
use crate::wire::codec::message;
use crate::wire::codec::params::{Cookie, FIRST_TAG_PROCESS, FIRST_TAG_SERVER, LinkIds, Uint128};
use crate::wire::endpoint::peer::Peer;
use crate::wire::hand::Content;
use crate::wire::queue::{OutTags, Progress};

const MAGIC: u32 = 0x6b6c_7868;
/// The version of the form. A hax with another one begins anew.
const VERSION: u16 = 2;
/// The maximum length of a content with its zeros: a message of 1,024 notes, and some space.
const CONTENT_MAX: usize = 24 << 10;

const RECEIVED: u8 = 0;
const MAYBE_RECEIVED: u8 = 1;
const UNSENT: u8 = 2;
const CONTENT: u8 = 0;
const ANSWERED: u8 = 1;

/// Whose state it is. A value is of no use to another hax, and none after a reboot: the peers are new, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) boot: u128,
    pub(crate) process: Fid,
    pub(crate) listen: SocketAddr,
}

/// The reason why a value is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unfit(pub(crate) &'static str);

impl From<DecodeError> for Unfit {
    fn from(_: DecodeError) -> Self {
        DAMAGED
    }
}

const DAMAGED: Unfit = Unfit("the kept state is damaged");

/// An unacknowledged message of the process.
#[derive(Debug)]
pub(crate) enum Open {
    /// It is worked again.
    Message(Box<Message>),
    /// The process has received the answer, or will: the sent message of this tag.
    AnsweredBy(u64),
}

/// An undelivered message to the process. The tags follow one another.
#[derive(Debug)]
pub(crate) struct KeptSent {
    pub(crate) purpose: Purpose,
    pub(crate) body: Bytes,
}

/// A link of the last life.
#[derive(Debug)]
pub(crate) struct KeptLink {
    pub(crate) process: Fid,
    pub(crate) addr: SocketAddr,
    pub(crate) ids: LinkIds,
    pub(crate) resumed: bool,
    pub(crate) cookie: Cookie,
    /// The delivered and the next expected tag of the process's messages.
    pub(crate) received: (u64, u64),
    pub(crate) open: Vec<(u64, Open)>,
    pub(crate) out: OutTags,
    pub(crate) sent: Vec<KeptSent>,
    pub(crate) owed: Vec<Note>,
}

/// Writes the state of a link to `out`. Returns `false` if it cannot be kept: there is too much in hand.
pub(crate) fn encode(owner: &Owner, peer: &Peer, out: &mut Vec<u8>) -> bool {
    let link = &peer.link;
    out.u32(MAGIC);
    out.bytes(&VERSION.to_le_bytes());
    out.bytes(&owner.boot.to_le_bytes());
    out.fid(owner.process);
    put_addr(owner.listen, out);
    out.fid(peer.process);
    put_addr(peer.addr, out);
    put_ids(link.ids, out);
    out.u8(peer.resumed.into());
    peer.cookie.encode(out);
    put_received(peer, out)
        && put_sent(peer, out)
        && put_owed(&peer.owed, out)
        && out.len() + size_of::<u64>() <= VALUE_MAX
        && {
            out.u64(checksum(out));
            true
        }
}

fn put_received(peer: &Peer, out: &mut Vec<u8>) -> bool {
    let link = &peer.link;
    out.u64(link.received.delivered());
    out.u64(link.received.assign());
    let Ok(count) = u16::try_from(link.received.open().len()) else { return false };
    out.bytes(&count.to_le_bytes());
    for (msg, tag) in link.received.open() {
        out.u64(tag);
        let answer = link.sent.messages(link.in_flight()).find(|(_, progress, sent)| {
            sent.purpose == Purpose::Answer(msg) && *progress != Progress::Unsent
        });
        match (answer, link.hand.as_ref().and_then(|hand| hand.get(tag))) {
            (Some((answer, ..)), _) => {
                out.u8(ANSWERED);
                out.u64(answer);
            }
            (None, Some(content)) => {
                out.u8(CONTENT);
                put_content(content, out);
            }
            (None, None) => return false,
        }
    }
    true
}

fn put_sent(peer: &Peer, out: &mut Vec<u8>) -> bool {
    let link = &peer.link;
    let OutTags { delivered, first, next, reached } = link.sent.out_tags(link.in_flight());
    [delivered, first, next, reached].iter().for_each(|tag| out.u64(*tag));
    let at = out.len();
    let mut count = 0_u16;
    out.bytes(&count.to_le_bytes());
    for (_, progress, sent) in link.sent.messages(link.in_flight()) {
        match progress {
            Progress::Received => out.u8(RECEIVED),
            Progress::MaybeReceived => out.u8(MAYBE_RECEIVED),
            Progress::Unsent if sent.purpose == Purpose::News => out.u8(UNSENT),
            // The next life sends all states, and answers what is not answered.
            Progress::Unsent => continue,
        }
        if progress != Progress::Received {
            let zeros = message::unused(&sent.body);
            put_content((&sent.body[..sent.body.len() - zeros], zeros), out);
        }
        if count == u16::MAX || out.len() > VALUE_MAX {
            return false;
        }
        count += 1;
    }
    out[at..at + 2].copy_from_slice(&count.to_le_bytes());
    true
}

fn put_owed(owed: &[Note], out: &mut Vec<u8>) -> bool {
    let Ok(count) = u16::try_from(owed.len()) else { return false };
    out.bytes(&count.to_le_bytes());
    for note in owed {
        out.fid(note.fid);
        out.u32(note.state.to_wire());
    }
    true
}

fn put_content((bytes, zeros): Content<'_>, out: &mut Vec<u8>) {
    out.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.u32(u32::try_from(zeros).unwrap_or(u32::MAX));
    out.bytes(bytes);
}

fn put_ids(ids: LinkIds, out: &mut Vec<u8>) {
    [ids.local, ids.remote, ids.connection].into_iter().for_each(|id| out.uint128(id));
}

fn put_addr(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            out.u8(4);
            out.bytes(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.u8(6);
            out.bytes(&ip.octets());
        }
    }
    out.bytes(&addr.port().to_le_bytes());
}

/// Reads a value.
pub(crate) fn decode(owner: &Owner, value: &[u8]) -> Result<KeptLink, Unfit> {
    let mut from = Reader::new(value);
    if from.u32()? != MAGIC {
        return Err(DAMAGED);
    }
    if u16(&mut from)? != VERSION {
        return Err(Unfit("it was kept by another version of hax"));
    }
    let (all, sum) = value.split_last_chunk::<8>().ok_or(DAMAGED)?;
    if value.len() > VALUE_MAX || checksum(all) != u64::from_le_bytes(*sum) {
        return Err(DAMAGED);
    }
    // The magic and the version are read already.
    let mut from = Reader::new(all.get(6..).ok_or(DAMAGED)?);
    let boot = u128::from(from.u64()?) | u128::from(from.u64()?) << 64;
    let (process, listen) = (from.fid()?, addr(&mut from)?);
    if boot != owner.boot && !mutant(Mutant::BootUnchecked) {
        return Err(Unfit("it was kept before the node's last reboot"));
    }
    if process != owner.process || listen != owner.listen {
        return Err(Unfit("it was kept by a hax with another fid or endpoint"));
    }
    let kept = link(&mut from)?;
    from.end()?;
    if kept.is_sound() { Ok(kept) } else { Err(DAMAGED) }
}

fn link(from: &mut Reader<'_>) -> Result<KeptLink, Unfit> {
    let (process, addr, ids) = (from.fid()?, addr(from)?, ids(from)?);
    let resumed = match from.u8()? {
        0 => false,
        1 => true,
        _ => return Err(DAMAGED),
    };
    let cookie = Cookie::decode(from)?;
    let received = from.pair()?;
    let mut open = Vec::new();
    for _ in 0..u16(from)? {
        let tag = from.u64()?;
        open.push(match from.u8()? {
            CONTENT => (tag, Open::Message(Box::new(decoded(&content(from)?)?))),
            ANSWERED => (tag, Open::AnsweredBy(from.u64()?)),
            _ => return Err(DAMAGED),
        });
    }
    let (delivered, first) = from.pair()?;
    let (next, reached) = from.pair()?;
    let out = OutTags { delivered, first, next, reached };
    let mut sent = Vec::new();
    for place in 0..u64::from(u16(from)?) {
        let tag = first.saturating_add(2 * place);
        let kind = from.u8()?;
        let fits = match kind {
            RECEIVED => tag < next,
            MAYBE_RECEIVED => next <= tag && tag < reached,
            UNSENT => reached <= tag,
            _ => false,
        };
        if !fits {
            return Err(DAMAGED);
        }
        let purpose = if kind == UNSENT { Purpose::News } else { Purpose::States };
        let body = if kind == RECEIVED { Bytes::new() } else { sendable(content(from)?)? };
        sent.push(KeptSent { purpose, body });
    }
    let mut owed = Vec::new();
    for _ in 0..u16(from)? {
        owed.push(Note { fid: from.fid()?, state: ObjectState::from_wire(from.u32()?) });
    }
    Ok(KeptLink { process, addr, ids, resumed, cookie, received, open, out, sent, owed })
}

impl KeptLink {
    /// Returns whether a link can have this state. A value with a good checksum and other tags than these is
    /// a bug, and no peer shall suffer from it.
    fn is_sound(&self) -> bool {
        let (delivered, assign) = self.received;
        let all = || delivered..assign;
        let of_process = |tag: u64| tag % 2 == FIRST_TAG_PROCESS % 2 && tag < 1 << 62;
        let answer = |tag: u64| {
            let Some(place) = tag.checked_sub(self.out.first) else { return false };
            place % 2 == 0 && place / 2 < self.sent.len() as u64 && tag < self.out.reached
        };
        let each = self.open.iter().all(|(tag, open)| {
            all().contains(tag)
                && of_process(*tag)
                && !matches!(open, Open::AnsweredBy(tag) if !answer(*tag))
        });
        let ordered = self.open.is_sorted_by(|(a, _), (b, _)| a < b);
        // What is delivered moves with the first unacknowledged message.
        let first = self.open.first().map_or(assign, |(tag, _)| *tag);
        of_process(delivered)
            && of_process(assign)
            && FIRST_TAG_PROCESS <= delivered
            && first == delivered
            && delivered <= assign
            && assign - delivered <= 2 * u64::from(u16::MAX)
            && each
            && ordered
            && self.out.are_sound(FIRST_TAG_SERVER, self.sent.len())
            && self.owed.iter().all(|note| !matches!(note.state, ObjectState::Unknown))
            && self.addr.port() != 0
            && !self.addr.ip().is_unspecified()
    }
}

fn u16(from: &mut Reader<'_>) -> Result<u16, DecodeError> {
    let raw = from.take(2)?;
    Ok(u16::from_le_bytes([raw[0], raw[1]]))
}

fn ids(from: &mut Reader<'_>) -> Result<LinkIds, DecodeError> {
    let mut id = || -> Result<Uint128, DecodeError> { from.uint128() };
    Ok(LinkIds { local: id()?, remote: id()?, connection: id()? })
}

fn addr(from: &mut Reader<'_>) -> Result<SocketAddr, Unfit> {
    let ip = match from.u8()? {
        4 => from.take(4)?.first_chunk().map(|raw: &[u8; 4]| IpAddr::from(Ipv4Addr::from(*raw))),
        6 => from.take(16)?.first_chunk().map(|raw: &[u8; 16]| IpAddr::from(Ipv6Addr::from(*raw))),
        _ => None,
    };
    Ok(SocketAddr::new(ip.ok_or(DAMAGED)?, u16(from)?))
}

/// Takes a content; its unused notes are zero.
fn content(from: &mut Reader<'_>) -> Result<Vec<u8>, Unfit> {
    let (len, zeros) = (from.u32()? as usize, from.u32()? as usize);
    let whole = len.checked_add(zeros).filter(|whole| *whole <= CONTENT_MAX).ok_or(DAMAGED)?;
    let mut bytes = from.take(len)?.to_vec();
    bytes.resize(whole, 0);
    Ok(bytes)
}

fn decoded(content: &[u8]) -> Result<Message, Unfit> {
    let mut from = Reader::new(content);
    let message = message::decode(&mut from)?;
    from.end()?;
    Ok(message)
}

/// Checks that a content can be sent.
fn sendable(content: Vec<u8>) -> Result<Bytes, Unfit> {
    let message = decoded(&content)?;
    let sound = message::is_sendable(&message) && message::harm(&message).is_none();
    if sound { Ok(content.into()) } else { Err(DAMAGED) }
}
