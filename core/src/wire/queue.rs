//! The two queues of a link (`ha/lq.c`): what was sent until it is delivered, and what was received
//! until it is acknowledged.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::params::Tags;
use crate::base::id::{MsgId, SendId};

/// Tags of one direction go in steps of two.
const STEP: u64 = 2;

/// Messages to the peer. Kept until the peer says that its application has taken them in.
#[derive(Debug)]
pub(crate) struct OutQueue {
    delivered: u64,
    next: u64,
    /// The highest `next` so far: no message from there on can have been delivered.
    reached: u64,
    /// The tag of the first message kept. What lies below was sent by an earlier life: the peer may
    /// still confirm it, and nobody here waits for that.
    first: u64,
    kept: VecDeque<(SendId, Bytes)>,
}

/// A peer claims to have taken in what it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongTag;

impl OutQueue {
    pub(crate) fn new(first: u64) -> Self {
        Self { delivered: first, next: first, reached: first, first, kept: VecDeque::new() }
    }

    /// Goes on where an earlier life stopped, with nothing of what it kept: the peer has received
    /// all below `next` and taken in all below `delivered`.
    pub(crate) fn resumed(delivered: u64, next: u64) -> Self {
        Self { delivered, next, reached: next, first: next, kept: VecDeque::new() }
    }

    pub(crate) fn tags(&self) -> Tags {
        let assign = self.assign();
        Tags { confirmed: self.delivered, delivered: self.delivered, next: self.next, assign }
    }

    pub(crate) fn assign(&self) -> u64 {
        self.first + STEP * self.kept.len() as u64
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Messages kept, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn push(&mut self, send: SendId, body: Bytes) {
        self.kept.push_back((send, body));
    }

    /// The next message for the wire and its tag.
    pub(crate) fn take(&mut self) -> Option<(u64, Bytes)> {
        let place = usize::try_from((self.next - self.first) / STEP).ok()?;
        let (_, body) = self.kept.get(place)?;
        let tag = self.next;
        self.next += STEP;
        self.reached = self.reached.max(self.next);
        Some((tag, body.clone()))
    }

    /// The message taken last goes back: it could not be sent.
    pub(crate) fn untake(&mut self) {
        self.next = (self.next - STEP).max(self.delivered).max(self.first);
    }

    /// All that is not known to be delivered is to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.next = self.delivered.max(self.first);
    }

    /// Whether something was sent of which nobody knows yet whether it was delivered.
    pub(crate) fn awaits(&self) -> bool {
        self.delivered < self.reached
    }

    /// The peer says that all below `in_delivered` is delivered. Smaller values say nothing new.
    pub(crate) fn raise(
        &mut self,
        in_delivered: u64,
        delivered: &mut alloc::vec::Vec<SendId>,
    ) -> Result<(), WrongTag> {
        if in_delivered > self.reached || in_delivered % STEP != self.first % STEP {
            return Err(WrongTag);
        }
        while self.delivered < in_delivered {
            if self.delivered < self.first {
                self.delivered = self.first.min(in_delivered);
                continue;
            }
            self.delivered += STEP;
            self.first += STEP;
            delivered.extend(self.kept.pop_front().map(|(send, _)| send));
        }
        self.next = self.next.max(self.delivered);
        Ok(())
    }

    /// Empties the part that was never sent, or all.
    pub(crate) fn give_up(&mut self, all: bool) -> impl Iterator<Item = SendId> + use<'_> {
        let sent =
            usize::try_from(self.next.saturating_sub(self.first) / STEP).unwrap_or(usize::MAX);
        let from = if all { 0 } else { sent.min(self.kept.len()) };
        self.kept.drain(from..).map(|(send, _)| send)
    }
}

/// Messages from the peer. Handed to the application at once; the peer is told when the
/// application has acknowledged all up to some tag.
#[derive(Debug)]
pub(crate) struct InQueue {
    confirmed: u64,
    delivered: u64,
    assign: u64,
    /// What the application has not acknowledged.
    open: BTreeMap<MsgId, u64>,
    /// Acknowledged out of order: kept until all before are, too.
    early: BTreeSet<u64>,
}

impl InQueue {
    pub(crate) fn new(first: u64) -> Self {
        let (open, early) = (BTreeMap::new(), BTreeSet::new());
        Self { confirmed: first, delivered: first, assign: first, open, early }
    }

    pub(crate) fn tags(&self) -> Tags {
        let Self { confirmed, delivered, assign, .. } = *self;
        Tags { confirmed, delivered, next: assign, assign }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages between the first unacknowledged and the last received.
    pub(crate) fn held(&self) -> usize {
        usize::try_from((self.assign - self.delivered) / STEP).unwrap_or(usize::MAX)
    }

    /// Whether the message is the one expected now. Motr takes a message without a tag for that,
    /// too (`link.c:ha_link_msg_received`).
    pub(crate) fn expects(&self, tag: u64) -> bool {
        tag == self.assign || tag == 0
    }

    /// Takes in the expected message under the name `msg`.
    pub(crate) fn accept(&mut self, msg: MsgId) {
        self.open.insert(msg, self.assign);
        self.assign += STEP;
    }

    /// The application has acknowledged `msg`. False if it had before.
    pub(crate) fn ack(&mut self, msg: MsgId) -> bool {
        let Some(tag) = self.open.remove(&msg) else { return false };
        self.early.insert(tag);
        while self.early.remove(&self.delivered) {
            self.delivered += STEP;
        }
        true
    }

    /// Whether the peer is to be told something.
    pub(crate) fn owes(&self) -> bool {
        self.confirmed < self.delivered
    }

    /// The peer has been told `in_delivered` by a 207 of ours.
    pub(crate) fn told(&mut self, in_delivered: u64) {
        self.confirmed = self.confirmed.max(in_delivered);
    }
}
