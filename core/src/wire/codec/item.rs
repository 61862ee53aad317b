//! Layer 3: the header of an RPC item (`rpc/onwire.h`: `m0_rpc_item_header1`, `_header2`).

use crate::wire::codec::bytes::{DecodeError, Put, Reader, format};
use crate::wire::codec::params::Uint128;

/// The size of an item's headers.
pub(crate) const HEADERS: usize = 40 + 64;
/// The size of an item's headers and footer.
pub(crate) const OVERHEAD: usize = HEADERS + format::FOOTER;
const KIND_ITEM: u16 = 2;
const MAGIC: u64 = 0x33b0_11ed_c001_1e77;
/// The flags in every item of every capture (`M0_RPC_ITEM_…` in `rpc/item.h`).
const FLAGS: u32 = 1;

/// The `xid` of items outside of any sequence, and the initial sender id of a peer.
pub const NONE: u64 = u64::MAX;

/// Both headers of an item, without its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHeader {
    /// The opcode.
    pub opcode: u32,
    /// Always 1.
    pub flags: u32,
    /// Always 0.
    pub epoch: u64,
    /// A random id chosen by the opener of an rpc connection. It identifies repeated openings.
    pub uuid: Uint128,
    /// The id of the rpc connection, assigned by the accepting peer. [`NONE`] while it is being opened.
    pub sender: u64,
    /// The id of the session; every connection has session 0.
    pub session: u64,
    /// The lowest unanswered xid of the sender of a request. 0 and [`NONE`] panic a real peer, except if the
    /// xid is [`NONE`] too.
    pub xid_min: u64,
    /// The number of the request within its session: 1, 2, 3, …
    pub xid: u64,
    /// The requester's own value, returned in the reply.
    pub cookie: Uint128,
}

impl ItemHeader {
    /// Returns the header of the reply to the item with this header: a copy with another opcode.
    #[must_use]
    pub fn reply(&self, opcode: u32) -> Self {
        Self { opcode, flags: FLAGS, ..*self }
    }

    /// Returns the header of a request outside of any sequence.
    pub(crate) fn unsequenced(opcode: u32, uuid: Uint128, sender: u64, cookie: Uint128) -> Self {
        let (session, xid_min, xid) = (0, 0, NONE);
        Self { opcode, flags: FLAGS, epoch: 0, uuid, sender, session, xid_min, xid, cookie }
    }

    /// Decodes the header; returns it with the size of the payload in bytes.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<(Self, usize), DecodeError> {
        let size = format::header(from, KIND_ITEM)? as usize;
        let (opcode, flags, epoch) = (from.u32()?, from.u32()?, from.u64()?);
        if from.u64()? != MAGIC {
            return Err(DecodeError("wrong item magic"));
        }
        let header = Self {
            opcode,
            flags,
            epoch,
            uuid: from.uint128()?,
            sender: from.u64()?,
            session: from.u64()?,
            xid_min: from.u64()?,
            xid: from.u64()?,
            cookie: from.uint128()?,
        };
        Ok((header, size.checked_sub(OVERHEAD).ok_or(DecodeError("item too small"))?))
    }

    /// Appends the header of an item with a payload of `payload` bytes.
    pub(crate) fn encode(&self, payload: usize, out: &mut impl Put) {
        let size = u32::try_from(OVERHEAD + payload).expect("an item fits into a packet");
        format::put_header(out, KIND_ITEM, size);
        out.u32(self.opcode);
        out.u32(self.flags);
        out.u64(self.epoch);
        out.u64(MAGIC);
        out.uint128(self.uuid);
        out.u64(self.sender);
        out.u64(self.session);
        out.u64(self.xid_min);
        out.u64(self.xid);
        out.uint128(self.cookie);
    }
}
