//! The slots of links whose state is kept for the next life of hax.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::BytesMut;

use crate::base::id::LinkId;
use crate::state::{Command, Slots};
use crate::wire::endpoint::kept::{self, Owner};
use crate::wire::endpoint::peer::Peer;

/// The size of the memory blocks for values; most values need a twentieth of one.
const PIECE: usize = 8 << 10;

/// The slots, with what has to be done about them.
#[derive(Debug)]
pub(crate) struct SlotTable {
    pub(crate) owner: Owner,
    /// A stop ends the links.
    pub(crate) ends_links: bool,
    /// The values of the last life, until they are taken over.
    pub(crate) found: Slots,
    /// The link of each slot.
    links: Vec<Option<LinkId>>,
    /// The changed slots, in any order and perhaps several times.
    changed: Vec<u32>,
    /// The slots of links with too much in hand.
    unkept: BTreeSet<u32>,
    /// The value being encoded.
    own: Vec<u8>,
    piece: BytesMut,
}

impl SlotTable {
    pub(crate) fn new(owner: Owner, ends_links: bool, found: Slots) -> Self {
        Self {
            owner,
            ends_links,
            found,
            links: Vec::new(),
            changed: Vec::new(),
            unkept: BTreeSet::new(),
            own: Vec::new(),
            piece: BytesMut::new(),
        }
    }

    /// Takes the lowest free slot for a new link.
    pub(crate) fn take_free(&mut self, link: LinkId) -> u32 {
        let free = self.links.iter().position(Option::is_none).unwrap_or(self.links.len());
        let slot = u32::try_from(free).unwrap_or(u32::MAX);
        self.take(slot, link);
        self.mark(slot);
        slot
    }

    /// Takes this slot for a link of the last life.
    pub(crate) fn take(&mut self, slot: u32, link: LinkId) {
        let place = slot as usize;
        if self.links.len() <= place {
            self.links.resize(place + 1, None);
        }
        self.links[place] = Some(link);
    }

    /// Frees the slot of an ended link.
    pub(crate) fn release(&mut self, slot: u32) {
        if let Some(link) = self.links.get_mut(slot as usize) {
            *link = None;
        }
        self.mark(slot);
    }

    /// Marks the state of a slot as changed.
    pub(crate) fn mark(&mut self, slot: u32) {
        self.changed.push(slot);
    }

    /// Returns whether the state of a link could not be kept. It may be less by now.
    pub(crate) fn is_unkept(&self, slot: u32) -> bool {
        self.unkept.contains(&slot)
    }

    /// Appends the commands for the changed slots: first the free ones, so that no two slots ever hold
    /// links of one process. `peer` returns the peer of a link.
    pub(crate) fn commands<'a>(
        &mut self,
        peer: impl Fn(LinkId) -> Option<&'a Peer>,
        out: &mut Vec<Command>,
    ) {
        let mut changed = core::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for slot in &changed {
            if self.link(*slot).is_none() {
                self.unkept.remove(slot);
                out.push(Command::Empty { slot: *slot });
            }
        }
        for slot in &changed {
            if let Some(peer) = self.link(*slot).and_then(&peer) {
                out.push(self.keep(*slot, peer));
            }
        }
        changed.clear();
        self.changed = changed;
    }

    fn link(&self, slot: u32) -> Option<LinkId> {
        self.links.get(slot as usize).copied().flatten()
    }

    /// Returns the command for the state of a link. A link with too much in hand is not kept.
    fn keep(&mut self, slot: u32, peer: &Peer) -> Command {
        self.own.clear();
        if !kept::encode(&self.owner, peer, &mut self.own) {
            self.unkept.insert(slot);
            return Command::Empty { slot };
        }
        self.unkept.remove(&slot);
        if self.piece.capacity() < self.own.len() {
            self.piece.reserve(PIECE.max(self.own.len()));
        }
        self.piece.extend_from_slice(&self.own);
        Command::Keep { slot, value: self.piece.split().freeze() }
    }
}
