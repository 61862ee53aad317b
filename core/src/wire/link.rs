//! One end of an HA link (`ha/link.c`), the same for both sides.
//!
//! Each direction has one message in flight. Delivery is determined by the peer's `in_delivered`, never by a
//! reply.
//!
//! A link that was taken over from the last life of hax is *unproved* until the peer has answered a 207
//! without a message: no tag is used before. So the peer's positions show whether the kept state is the last
//! one. A contradiction at any later time shows it too.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::{MsgId, SendId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::ha::message::Message;
use crate::ha::motr::Purpose;
use crate::wire::codec::fop::{Fop, LinkMsg, opcode};
use crate::wire::codec::packet::Payload;
use crate::wire::codec::params::LinkIds;
use crate::wire::conns::Out;
use crate::wire::hand::Hand;
use crate::wire::queue::{InQueue, OutQueue, Sent};
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
    /// The contents of the unacknowledged messages, if the link's state is kept.
    pub(crate) hand: Option<Hand>,
    /// The state to be kept has changed.
    pub(crate) changed: bool,
    /// Whether and how far the link is one of the last life.
    pub(crate) origin: Origin,
    /// The unacknowledged messages of the last life. They are worked again once the peer has shown that the
    /// kept state is the last one: an older one has messages that were acknowledged since.
    held: Vec<(MsgId, Box<Message>)>,
    /// The peer has sent no message that the kept state does not know, or has sent the next one just now.
    is_last: bool,
    /// The peer has answered a 207 since this was last reset.
    pub(crate) answered: bool,
}

/// The origin of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The link began in this life.
    Ours,
    /// The link was taken over, and the peer has not answered yet.
    Unproved,
    /// The link was taken over, and the peer's answer fits.
    Proved,
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
    /// The peer knows more than the kept state of the link.
    Contradicted { why: &'static str },
    /// The peer refused the 207. Its message is put back, and the link pauses.
    Refused { rc: i32 },
    /// It is not the reply to a 207 in flight.
    Unexpected,
}

impl Link {
    pub(crate) fn new(ids: LinkIds, sent: OutQueue, received: InQueue, client: ClientId) -> Self {
        let (state, asks, tells_once) = (State::Opening, false, false);
        Self {
            ids,
            sent,
            received,
            client,
            state,
            asks,
            confirms_on_send: tells_once,
            seq: 0,
            hand: None,
            changed: true,
            origin: Origin::Ours,
            held: Vec::new(),
            is_last: false,
            answered: false,
        }
    }

    /// Returns the same link as one that was taken over from the last life, with its unacknowledged messages.
    pub(crate) fn of_last_life(self, hand: Hand, held: Vec<(MsgId, Box<Message>)>) -> Self {
        Self { hand: Some(hand), origin: Origin::Unproved, changed: false, held, ..self }
    }

    /// Returns whether a received 207 has the message that follows those of the kept state.
    pub(crate) fn is_next(&mut self, msg: &LinkMsg) -> bool {
        let follows = msg.nr != 0 && msg.tag == self.received.assign();
        let is_next = self.origin != Origin::Ours && follows && !self.is_contradicted_by(msg);
        self.is_last |= is_next;
        is_next
    }

    /// Returns the messages of the last life, once it is known that nothing came after them.
    pub(crate) fn take_held(&mut self) -> Vec<(MsgId, Box<Message>)> {
        if self.is_last { core::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// Returns whether the peer has answered, and has sent a message that the kept state of the last life does
    /// not know.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.origin == Origin::Proved && !self.is_last
    }

    /// Returns whether a message is in flight.
    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.state, State::Waiting { message: true, .. })
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, sent: Sent) {
        self.changed |= sent.purpose == Purpose::News;
        self.sent.push(sent);
    }

    /// Records the application's acknowledgement of a message. Returns `false` if it was acknowledged before.
    pub(crate) fn ack(&mut self, msg: MsgId) -> bool {
        let tag = self.received.tag(msg);
        if let (Some(hand), Some(tag)) = (&mut self.hand, tag) {
            hand.remove(tag);
        }
        self.changed |= tag.is_some();
        self.received.ack(msg)
    }

    /// Records the peer's position, and passes on the delivered messages of this life. Returns a wrong
    /// position.
    fn raise(&mut self, in_delivered: u64, delivered: &mut Vec<SendId>) -> Option<u64> {
        let mut answered = Vec::new();
        let raised = self.sent.raise(in_delivered, |sent| match (sent.send, sent.purpose) {
            (Some(send), _) => delivered.push(send),
            // The last life would have acknowledged the request now.
            (None, Purpose::Answer(msg)) => answered.push(msg),
            (None, Purpose::States | Purpose::News) => {}
        });
        answered.into_iter().for_each(|msg| {
            self.ack(msg);
        });
        raised.err().map(|_| in_delivered)
    }

    /// Returns why the peer's positions show that the kept state of the link is not the last one.
    ///
    /// `out_next` is at most one message ahead: one may be in flight.
    fn contradiction(&self, out_next: u64, in_delivered: u64) -> Option<&'static str> {
        if self.origin == Origin::Ours {
            return None;
        }
        if !self.sent.may_be_delivered(in_delivered) {
            return Some("the process has received more than was kept");
        }
        let ahead = out_next > self.received.assign().saturating_add(2);
        ahead.then_some("the process has sent more than was kept")
    }

    /// Returns whether a received 207 says that the kept state of the link is not the last one.
    pub(crate) fn is_contradicted_by(&self, msg: &LinkMsg) -> bool {
        let ahead = msg.nr != 0 && msg.tag > self.received.assign();
        ahead && self.origin != Origin::Ours
            || self.contradiction(msg.out_next, msg.in_delivered).is_some()
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
        let proves = self.origin == Origin::Unproved && !mutant(Mutant::NotProved);
        let message = if proves { None } else { self.sent.take() };
        if message.is_none() && !self.received.has_unconfirmed() && !self.asks && !proves {
            return;
        }
        self.asks = false;
        self.changed |= message.is_some();
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
        let (State::Waiting { told, .. }, Fop::LinkMsgRep { rc, out_next, in_delivered }) =
            (self.state, fop)
        else {
            return ReplyOutcome::Unexpected;
        };
        if *rc != 0 {
            self.on_failed();
            return ReplyOutcome::Refused { rc: *rc };
        }
        self.state = State::Idle;
        self.answered = true;
        if let Some(why) = self.contradiction(*out_next, *in_delivered) {
            return ReplyOutcome::Contradicted { why };
        }
        if self.origin == Origin::Unproved {
            self.origin = Origin::Proved;
        }
        // Otherwise its next message is in flight and arrives again, or was received after this state was kept.
        self.is_last |= *out_next <= self.received.assign();
        self.received.on_confirmed(told);
        ReplyOutcome::Done { wrong: self.raise(*in_delivered, delivered) }
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
        let wrong = self.raise(msg.in_delivered, delivered);
        let (out_next, in_delivered) = (self.sent.next(), self.received.delivered());
        Received { reply: Fop::LinkMsgRep { rc: 0, out_next, in_delivered }, message, wrong }
    }

    /// Accepts the message under a new id.
    pub(crate) fn accept(&mut self, next_id: &mut MsgId, message: &Message) -> MsgId {
        let (msg, tag) = (next_id.mint(), self.received.assign());
        self.received.accept(msg);
        if let Some(hand) = &mut self.hand {
            hand.put(tag, message);
        }
        self.changed = true;
        msg
    }
}

/// Returns the reply to an undeliverable 207.
pub(crate) fn refusal(errno: Errno) -> Fop {
    Fop::LinkMsgRep { rc: errno.to_rc(), out_next: 0, in_delivered: 0 }
}
