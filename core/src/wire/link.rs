//! One end of an HA link (`ha/link.c`), the same for both sides.
//!
//! Each direction has one message in flight. Delivery is determined by the peer's `in_delivered`, never by a
//! reply.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::{MsgId, SendId};
use crate::base::time::Instant;
use crate::ha::message::Message;
use crate::wire::codec::fop::{Fop, LinkMsg, opcode};
use crate::wire::codec::packet::Payload;
use crate::wire::codec::params::LinkIds;
use crate::wire::conns::Out;
use crate::wire::queue::{InQueue, OutQueue};
use crate::wire::rpc::Rpc;
use crate::wire::rpc::client::ClientId;

/// The number of tries of one 207 before it fails (`ha.c:HA_NR_SENT_MAX`).
const SENDS: u32 = 10;
/// The placeholder in a 207 without a message.
static NO_MESSAGE: [u8; 72] = [0; 72];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The rpc connection is being opened.
    Opening,
    /// Nothing is in flight.
    Idle,
    /// A 207 is in flight, with or without a message; `told` is its `in_delivered`.
    Waiting { message: bool, told: u64 },
    /// The last 207 failed; the next one is sent a second later.
    Pausing,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ids: LinkIds,
    pub(crate) sent: OutQueue,
    pub(crate) received: InQueue,
    pub(crate) client: ClientId,
    pub(crate) state: State,
    /// A 207 must be sent although there is no news, to get the `in_delivered` of its reply.
    pub(crate) asks: bool,
    /// The delivered position counts as confirmed when it is sent, not when the reply arrives. Real processes
    /// do the same (`link.c:ha_link_q_in_confirm_all`), and do not repeat a lost confirmation.
    confirms_on_send: bool,
    seq: u64,
}

/// The result of a received 207.
#[derive(Debug)]
pub(crate) struct Received {
    /// The reply to send.
    pub(crate) reply: Fop,
    /// The message, if it is the expected one.
    pub(crate) message: Option<Box<Message>>,
    /// An invalid `in_delivered` of the peer.
    pub(crate) wrong: Option<u64>,
}

/// The result of a received 208.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyOutcome {
    /// The 207 is complete.
    Done { wrong: Option<u64> },
    /// The peer refused the 207. Its message is put back, and the link pauses.
    Refused { rc: i32 },
    /// It is not the reply to a 207 in flight.
    Unexpected,
}

impl Link {
    pub(crate) fn new(ids: LinkIds, sent: OutQueue, received: InQueue, client: ClientId) -> Self {
        let (state, asks, tells_once) = (State::Opening, false, false);
        Self { ids, sent, received, client, state, asks, confirms_on_send: tells_once, seq: 0 }
    }

    /// Returns the same link with the confirmation rule of a process.
    pub(crate) fn of_process(self) -> Self {
        Self { confirms_on_send: true, ..self }
    }

    /// Sends the next 207 if there is one and nothing is in flight.
    pub(crate) fn pump(&mut self, now: Instant, rpc: &mut Rpc, out: &mut dyn Out) {
        if self.state != State::Idle {
            return;
        }
        let message = self.sent.take();
        if message.is_none() && !self.received.has_unconfirmed() && !self.asks {
            return;
        }
        self.asks = false;
        self.seq += 1;
        let told = self.received.delivered();
        if self.confirms_on_send {
            self.received.on_confirmed(told);
        }
        self.state = State::Waiting { message: message.is_some(), told };
        let nr = u64::from(message.is_some());
        let (tag, body) = message.unwrap_or_else(|| (0, Bytes::from_static(&NO_MESSAGE)));
        let (out_next, in_delivered) = (self.sent.next(), told);
        let (ids, seq) = (self.ids, self.seq);
        let tail = LinkMsg { nr, message: None, tag, ids, out_next, in_delivered, seq }.tail();
        let parts = Payload { before: &nr.to_le_bytes(), body, after: &tail };
        rpc.call(now, self.client, opcode::LINK_MSG, parts, Some(SENDS), out);
    }

    /// Handles the opening of the rpc connection.
    pub(crate) fn on_opened(&mut self) {
        self.state = State::Idle;
    }

    /// Handles the end of the pause.
    pub(crate) fn on_pause_over(&mut self) {
        if self.state == State::Pausing {
            self.state = State::Idle;
        }
    }

    /// Handles the reply to the 207 in flight. Appends the delivered messages to `delivered`.
    pub(crate) fn on_reply(&mut self, fop: &Fop, delivered: &mut Vec<SendId>) -> ReplyOutcome {
        let (State::Waiting { told, .. }, Fop::LinkMsgRep { rc, in_delivered, .. }) =
            (self.state, fop)
        else {
            return ReplyOutcome::Unexpected;
        };
        if *rc != 0 {
            self.on_failed();
            return ReplyOutcome::Refused { rc: *rc };
        }
        self.state = State::Idle;
        self.received.on_confirmed(told);
        let raised = self.sent.raise(*in_delivered, delivered);
        ReplyOutcome::Done { wrong: raised.err().map(|_| *in_delivered) }
    }

    /// Handles a 207 without a reply: its message is put back and keeps its tag.
    pub(crate) fn on_failed(&mut self) {
        if let State::Waiting { message, .. } = self.state {
            if message {
                self.sent.put_back();
            }
            self.state = State::Pausing;
        }
    }

    /// Handles a received 207. The caller must pass the message, if there is one, to [`InQueue::accept`].
    pub(crate) fn on_message(&mut self, msg: LinkMsg, delivered: &mut Vec<SendId>) -> Received {
        // An unexpected message is dropped and still answered; `in_delivered` informs the sender.
        let expected = self.received.expects(msg.tag);
        let message = msg.message.filter(|_| expected);
        let wrong = self.sent.raise(msg.in_delivered, delivered).err().map(|_| msg.in_delivered);
        let (out_next, in_delivered) = (self.sent.next(), self.received.delivered());
        Received { reply: Fop::LinkMsgRep { rc: 0, out_next, in_delivered }, message, wrong }
    }

    /// Accepts the message under a new id.
    pub(crate) fn accept(&mut self, next_id: &mut MsgId) -> MsgId {
        let msg = next_id.mint();
        self.received.accept(msg);
        msg
    }
}

/// Returns the reply to an undeliverable 207.
pub(crate) fn refusal(errno: Errno) -> Fop {
    Fop::LinkMsgRep { rc: errno.to_rc(), out_next: 0, in_delivered: 0 }
}
