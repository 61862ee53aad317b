//! The common parameters of both ends of a link (`ha/link.h`: `m0_ha_link_params`, `ha/cookie.h`).

use crate::wire::codec::bytes::{DecodeError, Put, Reader};

pub use crate::wire::codec::bytes::Uint128;

/// `m0_ha_link_tags`: the state of a queue. Tags increase in steps of two; all tags of one queue have the
/// same parity (`ha/lq.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// All lower tags were reported to the application (out) or confirmed to the peer (in).
    pub confirmed: u64,
    /// All lower tags are delivered.
    pub delivered: u64,
    /// The next tag to send (out) or to pass to the application (in).
    pub next: u64,
    /// The next tag to assign (out) or to expect (in).
    pub assign: u64,
}

impl Tags {
    /// Returns the tags of a new queue.
    #[must_use]
    pub const fn fresh(tag: u64) -> Self {
        Self { confirmed: tag, delivered: tag, next: tag, assign: tag }
    }

    /// Returns whether the tags of a queue with this `first` tag are valid (`m0_ha_lq_invariant`). Very large
    /// tags are invalid too, so that counting cannot overflow.
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

/// The first tag of messages from the entrypoint's server (`link.c:m0_ha_link_tags_initial`).
pub const FIRST_TAG_SERVER: u64 = 1;
/// The first tag of messages from the process.
pub const FIRST_TAG_PROCESS: u64 = 2;

/// The ids of a link, from the point of view of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIds {
    /// The id of this end.
    pub local: Uint128,
    /// The id of the other end.
    pub remote: Uint128,
    /// The id of the connection, new for each new link and each reconnect.
    pub connection: Uint128,
}

impl LinkIds {
    /// Returns the ids from the other end's point of view.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self { local: self.remote, remote: self.local, connection: self.connection }
    }
}

/// `m0_ha_link_params`: 112 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkParams {
    /// The link's ids.
    pub ids: LinkIds,
    /// The out queue of this end.
    pub tags_local: Tags,
    /// The in queue of this end.
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

/// `m0_ha_cookie`: the id of one life of one `m0_ha`. It consists of pid, start time, a word of ones and a
/// uuid; it is only ever compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub [u64; 5]);

impl Cookie {
    /// The value for an unknown life (`m0_ha_cookie_no_record`).
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
