//! What both sides of a link agree on (`ha/link.h`: `m0_ha_link_params`, `ha/cookie.h`).

use crate::wire::codec::bytes::{DecodeError, Put, Reader};

pub use crate::wire::codec::bytes::Uint128;

/// `m0_ha_link_tags`: where a queue stands. Tags go in steps of two; all of one queue are of one
/// parity (`ha/lq.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Every tag below was reported to the application (out) or confirmed to the peer (in).
    pub confirmed: u64,
    /// Every tag below is delivered.
    pub delivered: u64,
    /// The next to put on the wire (out) or to hand to the application (in).
    pub next: u64,
    /// The next to be given (out) or expected (in).
    pub assign: u64,
}

impl Tags {
    /// A queue in which nothing has happened yet.
    #[must_use]
    pub const fn fresh(tag: u64) -> Self {
        Self { confirmed: tag, delivered: tag, next: tag, assign: tag }
    }

    /// `m0_ha_lq_invariant`, for a queue whose first tag is `first`. Far tags are refused too, so
    /// that counting on from them cannot overflow.
    #[must_use]
    pub fn are_sound(&self, first: u64) -> bool {
        let same_parity = [self.confirmed, self.delivered, self.next, self.assign]
            .iter()
            .all(|t| t % 2 == first % 2);
        same_parity
            && self.confirmed >= first
            && self.confirmed <= self.delivered
            && self.delivered <= self.next
            && self.next <= self.assign
            && self.assign < 1 << 62
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            confirmed: from.u64()?,
            delivered: from.u64()?,
            next: from.u64()?,
            assign: from.u64()?,
        })
    }

    fn encode(&self, out: &mut impl Put) {
        out.u64(self.confirmed);
        out.u64(self.delivered);
        out.u64(self.next);
        out.u64(self.assign);
    }
}

/// The first tag of what the entrypoint's server sends (`link.c:m0_ha_link_tags_initial`).
pub const FIRST_TAG_SERVER: u64 = 1;
/// The first tag of what the process sends.
pub const FIRST_TAG_PROCESS: u64 = 2;

/// The names of a link, from one side's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIds {
    /// This side's end.
    pub local: Uint128,
    /// The other end.
    pub remote: Uint128,
    /// Made anew with each new link and each reconnect.
    pub connection: Uint128,
}

impl LinkIds {
    /// As the other side sees it.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self { local: self.remote, remote: self.local, connection: self.connection }
    }
}

/// `m0_ha_link_params`: 112 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkParams {
    /// The link's names.
    pub ids: LinkIds,
    /// This side's out queue.
    pub tags_local: Tags,
    /// This side's in queue.
    pub tags_remote: Tags,
}

impl LinkParams {
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ids = LinkIds {
            local: from.uint128()?,
            remote: from.uint128()?,
            connection: from.uint128()?,
        };
        Ok(Self { ids, tags_local: Tags::decode(from)?, tags_remote: Tags::decode(from)? })
    }

    pub(crate) fn encode(&self, out: &mut impl Put) {
        out.uint128(self.ids.local);
        out.uint128(self.ids.remote);
        out.uint128(self.ids.connection);
        self.tags_local.encode(out);
        self.tags_remote.encode(out);
    }
}

/// `m0_ha_cookie`: names one life of one `m0_ha`. Pid, start time, a word of ones, a uuid; only ever
/// compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub [u64; 5]);

impl Cookie {
    /// No life is known (`m0_ha_cookie_no_record`).
    pub const NONE: Self = Self([u64::MAX; 5]);

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self([from.u64()?, from.u64()?, from.u64()?, from.u64()?, from.u64()?]))
    }

    pub(crate) fn encode(&self, out: &mut impl Put) {
        for word in self.0 {
            out.u64(word);
        }
    }
}
