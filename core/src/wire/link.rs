//! One end of an HA link (`ha/link.c`), the same for both sides: one message in flight in each
//! direction, and what counts as delivered is what the peer's `in_delivered` says, never a reply.

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

/// Sends of one 207 before it counts as failed (`ha.c:HA_NR_SENT_MAX`).
const SENDS: u32 = 10;
/// What stands in a 207 for no message.
static NO_MESSAGE: [u8; 72] = [0; 72];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The rpc connection is being opened.
    Opening,
    /// Nothing is in flight.
    Idle,
    /// A 207 is in flight: whether a message is in it, and which `in_delivered`.
    Waiting { message: bool, told: u64 },
    /// The last 207 failed; a second later the next one goes out.
    Pausing,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ids: LinkIds,
    pub(crate) sent: OutQueue,
    pub(crate) received: InQueue,
    pub(crate) client: ClientId,
    pub(crate) state: State,
    /// A 207 is to be sent although nothing is new, for the `in_delivered` of its answer.
    pub(crate) asks: bool,
    /// What was delivered counts as told when it is sent, not when that is answered: so do real
    /// processes (`link.c:ha_link_q_in_confirm_all`), and do not tell it again if it was lost.
    tells_once: bool,
    seq: u64,
}

/// What a 207 brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// What is to be answered.
    pub(crate) reply: Fop,
    /// The message, if it is the one that was expected.
    pub(crate) message: Option<Box<Message>>,
    /// The peer's claim to have what it cannot have.
    pub(crate) wrong: Option<u64>,
}

/// What a 208 brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyOutcome {
    /// The 207 is done.
    Done { wrong: Option<u64> },
    /// The peer refused it. It goes back; its sender pauses.
    Refused { rc: i32 },
    /// It answers nothing.
    Unexpected,
}

impl Link {
    pub(crate) fn new(ids: LinkIds, sent: OutQueue, received: InQueue, client: ClientId) -> Self {
        let (state, asks, tells_once) = (State::Opening, false, false);
        Self { ids, sent, received, client, state, asks, tells_once, seq: 0 }
    }

    /// The same, telling once as a process does.
    pub(crate) fn of_process(self) -> Self {
        Self { tells_once: true, ..self }
    }

    /// Sends what there is to send, if nothing is in flight.
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
        if self.tells_once {
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

    /// The rpc connection is open.
    pub(crate) fn on_opened(&mut self) {
        self.state = State::Idle;
    }

    /// The pause is over.
    pub(crate) fn on_pause_over(&mut self) {
        if self.state == State::Pausing {
            self.state = State::Idle;
        }
    }

    /// The 207 in flight has an answer. `delivered` gets what the peer has taken in.
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

    /// The 207 in flight stays without an answer: its message goes back and keeps its tag.
    pub(crate) fn on_failed(&mut self) {
        if let State::Waiting { message, .. } = self.state {
            if message {
                self.sent.put_back();
            }
            self.state = State::Pausing;
        }
    }

    /// A 207 came. The message, if any, is to be named by [`InQueue::accept`].
    pub(crate) fn on_message(&mut self, msg: LinkMsg, delivered: &mut Vec<SendId>) -> Received {
        // One that is not expected is dropped and answered all the same: `in_delivered` tells.
        let expected = self.received.expects(msg.tag);
        let message = msg.message.filter(|_| expected);
        let wrong = self.sent.raise(msg.in_delivered, delivered).err().map(|_| msg.in_delivered);
        let (out_next, in_delivered) = (self.sent.next(), self.received.delivered());
        Received { reply: Fop::LinkMsgRep { rc: 0, out_next, in_delivered }, message, wrong }
    }

    /// Takes in a message under a new name.
    pub(crate) fn accept(&mut self, names: &mut MsgId) -> MsgId {
        let msg = names.mint();
        self.received.accept(msg);
        msg
    }
}

/// The answer to a 207 that cannot be delivered.
pub(crate) fn refusal(errno: Errno) -> Fop {
    Fop::LinkMsgRep { rc: errno.to_rc(), out_next: 0, in_delivered: 0 }
}
