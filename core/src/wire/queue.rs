//! The two queues of a link (`ha/lq.c`): sent messages until they are delivered, and received messages until
//! they are acknowledged.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::base::id::{MsgId, SendId};
use crate::ha::motr::Purpose;
use crate::wire::codec::params::Tags;

/// Tags of one direction increase in steps of two.
const STEP: u64 = 2;

/// Messages to the peer. They are kept until the peer reports that its application has received them.
#[derive(Debug)]
pub(crate) struct OutQueue {
    delivered: u64,
    next: u64,
    /// The highest `next` so far: no message from that tag on can have been delivered.
    reached: u64,
    /// The tag of the first kept message. Lower tags were sent by an earlier life: the peer may still confirm
    /// them, but no sender waits for that.
    first: u64,
    kept: VecDeque<Sent>,
}

/// A message in the queue.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The id; `None` for a message of the last life, whose outcome nobody waits for.
    pub(crate) send: Option<SendId>,
    pub(crate) purpose: Purpose,
    /// The encoded message. A message that was received in the last life has none.
    pub(crate) body: Bytes,
}

impl Sent {
    /// Creates a message without an effect on the next life.
    pub(crate) fn new(send: SendId, body: Bytes) -> Self {
        Self { send: Some(send), purpose: Purpose::States, body }
    }
}

/// What is known of a message in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The peer has received it.
    Received,
    /// It was sent; the peer may have received it. Its tag belongs to its content for ever.
    MaybeReceived,
    Unsent,
}

/// The error of a confirmed tag beyond the sent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongTag;

impl OutQueue {
    pub(crate) fn new(first: u64) -> Self {
        Self { delivered: first, next: first, reached: first, first, kept: VecDeque::new() }
    }

    /// Creates the continuation of an earlier life's queue without its messages: the peer has received all
    /// tags below `next` and delivered all below `delivered`.
    pub(crate) fn resumed(delivered: u64, next: u64) -> Self {
        Self { delivered, next, reached: next, first: next, kept: VecDeque::new() }
    }

    /// Creates the continuation of the last life's queue with its messages. The peer has received the
    /// messages below `next`, and perhaps those below `reached`.
    pub(crate) fn kept(tags: OutTags, kept: VecDeque<Sent>) -> Self {
        let OutTags { delivered, first, next, reached } = tags;
        Self { delivered, next, reached, first, kept }
    }

    /// Returns the tags for the next life. With `in_flight` the last sent message has no reply yet.
    pub(crate) fn out_tags(&self, in_flight: bool) -> OutTags {
        let back = if in_flight { STEP } else { 0 };
        let next = self.next.saturating_sub(back).max(self.first);
        OutTags { delivered: self.delivered, first: self.first, next, reached: self.reached }
    }

    /// Returns the messages with their tags and their progress.
    pub(crate) fn messages(&self, in_flight: bool) -> impl Iterator<Item = (u64, Progress, &Sent)> {
        let OutTags { first, next, reached, .. } = self.out_tags(in_flight);
        self.kept.iter().zip((first..).step_by(2)).map(move |(sent, tag)| {
            let progress = match tag {
                tag if tag < next => Progress::Received,
                tag if tag < reached => Progress::MaybeReceived,
                _ => Progress::Unsent,
            };
            (tag, progress, sent)
        })
    }

    /// Returns whether the peer may say that it has received all tags below `in_delivered`.
    pub(crate) fn may_be_delivered(&self, in_delivered: u64) -> bool {
        in_delivered <= self.reached && in_delivered % STEP == self.first % STEP
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

    /// Returns the number of kept messages, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn push(&mut self, sent: Sent) {
        self.kept.push_back(sent);
    }

    /// Returns the next message to send and its tag.
    pub(crate) fn take(&mut self) -> Option<(u64, Bytes)> {
        let place = usize::try_from((self.next - self.first) / STEP).ok()?;
        let body = self.kept.get(place)?.body.clone();
        let tag = self.next;
        self.next += STEP;
        self.reached = self.reached.max(self.next);
        Some((tag, body))
    }

    /// Puts the message taken last back, since it could not be sent.
    pub(crate) fn put_back(&mut self) {
        self.next = (self.next - STEP).max(self.delivered).max(self.first);
    }

    /// Resets the position, so that all unconfirmed messages are sent again.
    pub(crate) fn rewind(&mut self) {
        self.next = self.delivered.max(self.first);
    }

    /// Returns whether the delivery of a sent message is unknown.
    pub(crate) fn awaits(&self) -> bool {
        self.delivered < self.reached
    }

    /// Records that the peer has delivered all tags below `in_delivered`, and passes on the delivered
    /// messages. Smaller values have no effect.
    pub(crate) fn raise(
        &mut self,
        in_delivered: u64,
        mut each: impl FnMut(Sent),
    ) -> Result<(), WrongTag> {
        if !self.may_be_delivered(in_delivered) {
            return Err(WrongTag);
        }
        while self.delivered < in_delivered {
            if self.delivered < self.first {
                self.delivered = self.first.min(in_delivered);
                continue;
            }
            self.delivered += STEP;
            self.first += STEP;
            if let Some(sent) = self.kept.pop_front() {
                each(sent);
            }
        }
        self.next = self.next.max(self.delivered);
        Ok(())
    }

    /// Removes the unsent messages, or all messages.
    pub(crate) fn give_up(&mut self, all: bool) -> impl Iterator<Item = SendId> + use<'_> {
        let sent =
            usize::try_from(self.next.saturating_sub(self.first) / STEP).unwrap_or(usize::MAX);
        let from = if all { 0 } else { sent.min(self.kept.len()) };
        self.kept.drain(from..).filter_map(|sent| sent.send)
    }
}

/// The tags of an out queue for the next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutTags {
    pub(crate) delivered: u64,
    /// The tag of the first kept message.
    pub(crate) first: u64,
    /// The peer has received all lower tags.
    pub(crate) next: u64,
    /// The peer has not received any tag from this one on.
    pub(crate) reached: u64,
}

impl OutTags {
    /// Returns whether these can be the tags of a queue of `messages` messages whose first tag was `first`.
    pub(crate) fn are_sound(&self, first: u64, messages: usize) -> bool {
        let Self { delivered, first: kept, next, reached } = *self;
        let all = [delivered, kept, next, reached];
        let end = kept.saturating_add(STEP.saturating_mul(messages as u64));
        all.iter().all(|tag| tag % STEP == first % STEP && *tag < 1 << 62)
            && first <= delivered
            && delivered <= kept
            && kept <= next
            && next <= reached
            && reached <= end
    }
}

/// Messages from the peer. They are passed to the application at once. The peer gets a confirmation when the
/// application has acknowledged all messages up to some tag.
#[derive(Debug)]
pub(crate) struct InQueue {
    confirmed: u64,
    delivered: u64,
    assign: u64,
    /// The unacknowledged messages.
    open: BTreeMap<MsgId, u64>,
    /// The tags acknowledged out of order. They are kept until all earlier ones are acknowledged too.
    early: BTreeSet<u64>,
}

impl InQueue {
    pub(crate) fn new(first: u64) -> Self {
        let (open, early) = (BTreeMap::new(), BTreeSet::new());
        Self { confirmed: first, delivered: first, assign: first, open, early }
    }

    /// Creates the continuation of the last life's queue. The messages below `delivered`, and those that are
    /// not `open`, are acknowledged.
    pub(crate) fn kept(delivered: u64, assign: u64, open: BTreeMap<MsgId, u64>) -> Self {
        let tags: BTreeSet<u64> = open.values().copied().collect();
        let early = (delivered..assign).step_by(2).filter(|tag| !tags.contains(tag)).collect();
        // The first 207 of the next life confirms what is delivered.
        Self { confirmed: delivered, delivered, assign, open, early }
    }

    /// Returns the messages without an acknowledgement, with their tags.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = (MsgId, u64)> {
        self.open.iter().map(|(msg, tag)| (*msg, *tag))
    }

    /// Returns the next expected tag.
    pub(crate) fn assign(&self) -> u64 {
        self.assign
    }

    /// Returns the tag of a message without an acknowledgement.
    pub(crate) fn tag(&self, msg: MsgId) -> Option<u64> {
        self.open.get(&msg).copied()
    }

    pub(crate) fn tags(&self) -> Tags {
        let Self { confirmed, delivered, assign, .. } = *self;
        Tags { confirmed, delivered, next: assign, assign }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns the number of messages from the first unacknowledged to the last received one.
    pub(crate) fn held(&self) -> usize {
        usize::try_from((self.assign - self.delivered) / STEP).unwrap_or(usize::MAX)
    }

    /// Returns whether the message is the expected one. Motr accepts a message without a tag too
    /// (`link.c:ha_link_msg_received`).
    pub(crate) fn expects(&self, tag: u64) -> bool {
        tag == self.assign || tag == 0
    }

    /// Accepts the expected message under the id `msg`.
    pub(crate) fn accept(&mut self, msg: MsgId) {
        self.open.insert(msg, self.assign);
        self.assign += STEP;
    }

    /// Records the application's acknowledgement of `msg`. Returns `false` if it was acknowledged before.
    pub(crate) fn ack(&mut self, msg: MsgId) -> bool {
        let Some(tag) = self.open.remove(&msg) else { return false };
        self.early.insert(tag);
        while self.early.remove(&self.delivered) {
            self.delivered += STEP;
        }
        true
    }

    /// Returns whether a confirmation to the peer is pending.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.confirmed < self.delivered
    }

    /// Records that `in_delivered` was confirmed to the peer by a 207 of ours.
    pub(crate) fn on_confirmed(&mut self, in_delivered: u64) {
        self.confirmed = self.confirmed.max(in_delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn filled(n: u64) -> OutQueue {
        let mut queue = OutQueue::new(1);
        (1..=n).for_each(|n| queue.push(Sent::new(SendId(n), Bytes::new())));
        queue
    }

    fn raised(queue: &mut OutQueue, to: u64) -> Result<Vec<u64>, WrongTag> {
        let mut delivered = Vec::new();
        queue.raise(to, |sent| delivered.extend(sent.send.map(|send| send.0)))?;
        Ok(delivered)
    }

    #[test]
    fn what_is_delivered_is_what_the_peer_says() {
        let mut queue = filled(4);
        assert_eq!(raised(&mut queue, 3), Err(WrongTag), "nothing is sent yet");
        let tags: Vec<u64> = core::iter::from_fn(|| queue.take().map(|(tag, _)| tag)).collect();
        assert_eq!(tags, [1, 3, 5, 7]);
        assert_eq!(raised(&mut queue, 5), Ok(alloc::vec![1, 2]));
        assert_eq!(raised(&mut queue, 3), Ok(alloc::vec![]), "smaller ones say nothing");
        assert_eq!(raised(&mut queue, 6), Err(WrongTag));
        assert_eq!(raised(&mut queue, 11), Err(WrongTag));
        assert_eq!(raised(&mut queue, 9), Ok(alloc::vec![3, 4]));
        let tags = Tags { confirmed: 9, delivered: 9, next: 9, assign: 9 };
        assert_eq!(queue.tags(), tags);
    }

    #[test]
    fn what_could_not_be_sent_goes_back_unless_it_arrived_all_the_same() {
        let mut queue = filled(2);
        queue.take();
        queue.put_back();
        assert_eq!(queue.take().map(|(tag, _)| tag), Some(1));
        // The peer has received it and confirms it before the sender gives up.
        assert_eq!(raised(&mut queue, 3), Ok(alloc::vec![1]));
        queue.put_back();
        assert_eq!(queue.take().map(|(tag, _)| tag), Some(3));
        // The sender gives up first, and the confirmation follows.
        queue.put_back();
        assert_eq!(raised(&mut queue, 5), Ok(alloc::vec![2]));
        assert_eq!(queue.take(), None);
        assert_eq!(queue.next(), 5);
    }

    #[test]
    fn what_an_earlier_life_sent_may_still_be_confirmed() {
        let mut queue = OutQueue::resumed(5, 9);
        queue.push(Sent::new(SendId(1), Bytes::new()));
        assert_eq!(queue.tags(), Tags { confirmed: 5, delivered: 5, next: 9, assign: 11 });
        assert_eq!(queue.take().map(|(tag, _)| tag), Some(9));
        assert_eq!(raised(&mut queue, 7), Ok(alloc::vec![]));
        assert_eq!(raised(&mut queue, 11), Ok(alloc::vec![1]));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn giving_up_tells_what_was_sent_from_what_was_not() {
        let mut queue = filled(3);
        queue.take();
        assert_eq!(queue.give_up(false).count(), 2);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.give_up(true).count(), 1);
    }

    #[test]
    fn acknowledgements_count_in_order() {
        let mut queue = InQueue::new(2);
        (1..=3).for_each(|n| queue.accept(MsgId(n)));
        assert!(queue.ack(MsgId(2)) && queue.ack(MsgId(3)) && !queue.ack(MsgId(3)));
        assert_eq!((queue.delivered(), queue.held(), queue.has_unconfirmed()), (2, 3, false));
        assert!(queue.ack(MsgId(1)));
        assert_eq!((queue.delivered(), queue.held(), queue.has_unconfirmed()), (8, 0, true));
        queue.on_confirmed(8);
        assert!(
            !queue.has_unconfirmed() && queue.expects(8) && queue.expects(0) && !queue.expects(6)
        );
    }
}
