//! The contents of received messages without an acknowledgement, for the next life of hax: their senders do
//! not send them again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ha::message::Message;
use crate::state::VALUE_MAX;
use crate::wire::codec::message;

/// The messages in hand, by tag. The memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    bytes: Vec<u8>,
    places: VecDeque<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u64,
    /// The first byte and the number of bytes; `None` if the message cannot be kept.
    at: Option<(usize, usize)>,
    /// The number of zeros after these bytes.
    zeros: usize,
}

/// The content of a message, with the number of zeros after these bytes.
pub(crate) type Content<'a> = (&'a [u8], usize);

impl Hand {
    /// Keeps the content of a message. If there is no room, the message cannot be kept.
    pub(crate) fn put(&mut self, tag: u64, message: &Message) {
        if self.bytes.len() > VALUE_MAX {
            self.compact();
        }
        let start = self.bytes.len();
        let (mut at, mut zeros) = (None, 0);
        if message::is_sendable(message) && start <= VALUE_MAX {
            zeros = message::encode_short(message, &mut self.bytes);
            at = Some((start, self.bytes.len() - start));
        }
        self.places.push_back(Place { tag, at, zeros });
    }

    /// Forgets a message.
    pub(crate) fn remove(&mut self, tag: u64) {
        self.places.retain(|place| place.tag != tag);
        if self.places.is_empty() {
            self.bytes.clear();
        }
    }

    /// Returns the content of a message; `None` if it cannot be kept.
    pub(crate) fn get(&self, tag: u64) -> Option<Content<'_>> {
        let place = self.places.iter().find(|place| place.tag == tag)?;
        let (start, len) = place.at?;
        Some((self.bytes.get(start..start + len)?, place.zeros))
    }

    /// Moves the contents together, over those of forgotten messages.
    fn compact(&mut self) {
        let mut end = 0;
        for (start, len) in self.places.iter_mut().filter_map(|place| place.at.as_mut()) {
            self.bytes.copy_within(*start..*start + *len, end);
            *start = end;
            end += *len;
        }
        self.bytes.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallClock;
    use crate::ha::message::Body;

    fn message(n: u64) -> Message {
        Message::new(WallClock(n), Body::Rpc { attempts: n, state: 1 })
    }

    #[test]
    fn contents_are_kept_in_bounded_memory() {
        let mut hand = Hand::default();
        let whole = |n| {
            let mut whole = Vec::new();
            message::encode(&message(n), &mut whole);
            whole
        };
        // The first message stays while many others come and go.
        hand.put(2, &message(2));
        for tag in (4..4_000).step_by(2) {
            hand.put(tag, &message(tag));
            assert_eq!(hand.get(tag), Some((&whole(tag)[..], 0)));
            assert_eq!(hand.get(2), Some((&whole(2)[..], 0)));
            hand.remove(tag);
            assert!(hand.bytes.len() < VALUE_MAX + 1_000);
        }
        // Too many stay.
        for tag in (4..2_000).step_by(2) {
            hand.put(tag, &message(tag));
        }
        assert!(hand.bytes.len() < VALUE_MAX + 1_000);
        assert!(hand.get(4).is_some() && hand.get(1_998).is_none());
        for tag in (2..2_000).step_by(2) {
            hand.remove(tag);
        }
        assert!(hand.bytes.is_empty() && hand.get(4).is_none());
        let malformed = Body::Malformed { kind: 2, why: "no" };
        hand.put(2, &Message::new(WallClock(0), malformed));
        assert_eq!(hand.get(2), None);
    }
}
