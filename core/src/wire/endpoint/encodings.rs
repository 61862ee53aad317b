//! The encodings of messages that their senders keep, since they may be sent again.
//!
//! After a restart each of a thousand links is sent all states. They are encoded once, and the queues of all
//! links share the bytes.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::ha::message::Message;
use crate::wire::codec::message;

/// The maximum number of kept encodings.
const KEPT_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Encodings {
    kept: VecDeque<(Arc<Message>, Option<Bytes>)>,
}

impl Encodings {
    /// Returns the encoded message; `None` for one that must not be sent.
    pub(crate) fn encode(&mut self, message: &Arc<Message>) -> Option<Bytes> {
        // Only its sender holds it beside this call and the encodings.
        if Arc::strong_count(message) == 1 {
            return encoded(message);
        }
        if let Some((_, body)) = self.kept.iter().find(|(kept, _)| Arc::ptr_eq(kept, message)) {
            return body.clone();
        }
        self.kept.retain(|(kept, _)| Arc::strong_count(kept) > 1);
        self.kept.truncate(KEPT_MAX - 1);
        let body = encoded(message);
        self.kept.push_front((Arc::clone(message), body.clone()));
        body
    }
}

fn encoded(message: &Message) -> Option<Bytes> {
    if !message::is_sendable(message) || message::harm(message).is_some() {
        return None;
    }
    let mut body = Vec::new();
    message::encode(message, &mut body);
    Some(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallClock;
    use crate::ha::message::Body;

    fn message() -> Arc<Message> {
        Arc::new(Message::new(WallClock(1), Body::KeepaliveReq((1, 2))))
    }

    #[test]
    fn a_message_that_its_sender_keeps_is_encoded_once() {
        let mut encodings = Encodings::default();
        let kept = message();
        let sent = Arc::clone(&kept);
        let first = encodings.encode(&sent).expect("sendable");
        assert_eq!(first.as_ptr(), encodings.encode(&sent).expect("sendable").as_ptr());
        drop((kept, sent));
        // Others come one at a time and are not kept, nor is what its sender has dropped.
        assert!(encodings.encode(&message()).is_some());
        let many: Vec<_> = (0..2 * KEPT_MAX).map(|_| message()).collect();
        many.iter().for_each(|message| drop(encodings.encode(&Arc::clone(message))));
        assert!(encodings.kept.len() <= KEPT_MAX);
        drop(many);
        let last = message();
        let _ = encodings.encode(&Arc::clone(&last));
        assert_eq!(encodings.kept.len(), 1);
    }
}
