//! The links of an endpoint: their messages, and the reachability of their peers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::{LinkId, SendId};
use crate::base::time::Instant;
use crate::ha::fact::Fact;
use crate::ha::message::Message;
use crate::ha::motr::{Event, Purpose};
use crate::wire::codec::fop::{Fop, LinkMsg};
use crate::wire::conns::Out;
use crate::wire::endpoint::Endpoint;
use crate::wire::endpoint::io::{Output, Stop, Timer};
use crate::wire::endpoint::peer::Away;
use crate::wire::link::{Origin, ReplyOutcome, State, refusal};
use crate::wire::queue::Sent;
use crate::wire::rpc::client::ClientId;
use crate::wire::rpc::event::{RequestOrigin, RpcEvent};

/// The pause after a failed 207 (`ha.c:HA_RECONNECT_INTERVAL`), and between two checks whether a peer is
/// back.
const PAUSE: Duration = Duration::from_secs(1);
/// The delay of the first check. It is shorter, since connections between living peers are closed too.
const FIRST_PROBE: Duration = Duration::from_millis(100);

impl Endpoint {
    // ---- messages -----------------------------------------------------------------------------

    pub(crate) fn send(
        &mut self,
        now: Instant,
        (send, purpose): (SendId, Purpose),
        to: &[LinkId],
        message: &Arc<Message>,
        out: &mut Vec<Output>,
    ) {
        let body = self.encodings.encode(message);
        if body.is_none() {
            out.fact(Fact::Unsendable { send });
        }
        for id in to {
            let link = *id;
            let Some(peer) = self.links.get_mut(link) else { continue };
            let full = peer.link.sent.len() >= self.config.queue_max;
            let Some(body) = body.clone().filter(|_| !peer.ending && !full) else {
                if body.is_some() && !peer.ending {
                    out.fact(Fact::QueueFull { link, send });
                }
                out.push(Output::Motr(Event::Undelivered { link, send }));
                continue;
            };
            peer.link.push(Sent { send: Some(send), purpose, body });
            if let Some(peer) = self.links.touch(link) {
                peer.pump(now, &mut self.rpc, out);
            }
            self.mark(link);
        }
    }

    /// Handles a 207 of a process.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        msg: LinkMsg,
        out: &mut Vec<Output>,
    ) {
        let (id, rc) = self.find(&origin, &msg);
        let found = id.and_then(|id| Some((id, self.links.get_mut(id)?)));
        let Some((id, peer)) = found.filter(|_| rc.is_none()) else {
            if self.stop != Stop::No {
                // After a refusal, the sender would connect to us again at once.
                return self.rpc.drop_as_lost(&origin);
            }
            let rc = rc.unwrap_or(Errno::ENOLINK);
            out.fact(Fact::LinkUnknown { conn: origin.conn, rc: rc.to_rc() });
            return self.rpc.reply(now, &origin, refusal(rc), out);
        };
        if peer.link.is_next(&msg) {
            // Nothing has come between this message and those in hand.
            self.work_again(now, id, out);
        }
        let Some(peer) = self.links.get_mut(id) else { return };
        let full = peer.link.received.held() >= self.config.unacked_max;
        if full && msg.nr != 0 && peer.link.received.expects(msg.tag) {
            out.fact(Fact::UnackedFull { link: id });
            self.rpc.drop_as_lost(&origin);
            // The process cannot tell that it has received the answers that would make room: its next 207 waits
            // for the end of this one.
            return self.request_delivered(now, id, out);
        }
        if peer.link.is_contradicted_by(&msg) {
            // Anybody at that address can send a message. The process itself shows what is true by its next
            // reply, and repeats the message.
            peer.link.asks = true;
            self.rpc.drop_as_lost(&origin);
            return self.pump(now, id, out);
        }
        let mut delivered = Vec::new();
        let received = peer.link.on_message(msg, &mut delivered);
        let message = received.message.map(|m| (peer.link.accept(&mut self.next_msg, &m), m));
        // The peer listens, so a 207 that it refused before it knew its link need not wait any longer.
        peer.link.on_pause_over();
        self.timers.disarm(Timer::Pause(id));
        self.rpc.reply(now, &origin, received.reply, out);
        self.on_alive(now, id, out);
        report_delivered(id, delivered, received.wrong, out);
        if let Some((msg, message)) = message {
            out.push(Output::Motr(Event::Received { link: id, msg, message }));
        }
        self.pump(now, id, out);
    }

    /// Handles a 207 on an unknown session. If its link is known, the session was closed in favour of others,
    /// and a refusal would make the sender repeat the 207 for ever.
    pub(crate) fn on_unknown_session(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        msg: alloc::boxed::Box<LinkMsg>,
        out: &mut Vec<Output>,
    ) {
        match self.find(&origin, &msg) {
            (Some(_), None) => self.rpc.accept_unknown(origin, Fop::LinkMsg(msg)),
            (_, rc) => {
                let rc = rc.unwrap_or(Errno::ENOLINK);
                out.fact(Fact::LinkUnknown { conn: origin.conn, rc: rc.to_rc() });
                self.rpc.reply(now, &origin, refusal(rc), out);
            }
        }
    }

    /// Handles a repeated 207 after its reply was lost.
    ///
    /// The reply contains the position up to which messages were received on the link. If the link has ended,
    /// a process aborts on such a reply after it has described the link in a request.
    pub(crate) fn on_repeated(
        &mut self,
        now: Instant,
        origin: &RequestOrigin,
        fop: &Fop,
        reply: Bytes,
        out: &mut Vec<Output>,
    ) {
        let Fop::LinkMsg(msg) = fop else { return };
        match self.find(origin, msg) {
            (Some(_), None) => self.rpc.send_reply(now, origin, reply, out),
            (_, rc) => self.rpc.reply(now, origin, refusal(rc.unwrap_or(Errno::ENOLINK)), out),
        }
    }

    /// Returns the link of a 207 (`link_service.c:ha_link_service_find`), or the error to refuse it with.
    fn find(&self, origin: &RequestOrigin, msg: &LinkMsg) -> (Option<LinkId>, Option<Errno>) {
        let id = self.links.of_end(msg.ids.remote);
        let id = id.filter(|id| self.links.get(*id).is_some_and(|p| p.addr == origin.addr));
        let connection = id.and_then(|id| self.links.get(id)).map(|p| p.link.ids.connection);
        match connection {
            None => (None, Some(Errno::ENOLINK)),
            Some(connection) if connection != msg.ids.connection => (id, Some(Errno::EBADSLT)),
            Some(_) => (id, None),
        }
    }

    pub(crate) fn on_opened(&mut self, now: Instant, client: ClientId, out: &mut Vec<Output>) {
        let Some(id) = self.links.of_client(client) else { return };
        let mut known = true;
        if let Some(peer) = self.links.get_mut(id) {
            peer.link.on_opened();
            // A new life of the process accepts connections too.
            known = peer.link.origin != Origin::Unproved;
        }
        if known {
            self.on_alive(now, id, out);
        }
        self.pump(now, id, out);
    }

    /// Handles a 208.
    pub(crate) fn on_reply(
        &mut self,
        now: Instant,
        client: ClientId,
        fop: &Fop,
        out: &mut Vec<Output>,
    ) {
        let Some(id) = self.links.of_client(client) else { return };
        let Some(peer) = self.links.get_mut(id) else { return };
        let mut delivered = Vec::new();
        match peer.link.on_reply(fop, &mut delivered) {
            ReplyOutcome::Done { wrong } => {
                self.on_alive(now, id, out);
                report_delivered(id, delivered, wrong, out);
                self.work_again(now, id, out);
                self.pump(now, id, out);
            }
            ReplyOutcome::Contradicted { why } => self.contradict(now, id, why, out),
            ReplyOutcome::Refused { rc } => {
                out.fact(Fact::LinkRefused { link: id, rc });
                if self.on_refused(now, id, out) {
                    return;
                }
                self.timers.arm(Timer::Pause(id), now.after(PAUSE));
                self.pump(now, id, out);
            }
            ReplyOutcome::Unexpected => {}
        }
    }

    /// Sends the next 207 if there is one; ends the link if only that was pending.
    pub(crate) fn pump(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.touch(id) else { return };
        peer.pump(now, &mut self.rpc, out);
        if peer.ending && !matches!(peer.link.state, State::Waiting { .. }) {
            return self.end(now, id, true, out);
        }
        self.mark(id);
    }

    // ---- reachability --------------------------------------------------------------------------

    /// Handles a request without a reply for ten seconds.
    pub(crate) fn on_failed(&mut self, now: Instant, client: ClientId, out: &mut Vec<Output>) {
        let Some(id) = self.links.of_client(client) else { return };
        let Some(peer) = self.links.get_mut(id) else { return };
        out.fact(Fact::LinkSilent { link: id });
        if let State::Waiting { .. } = peer.link.state {
            peer.link.on_failed();
            self.timers.arm(Timer::Pause(id), now.after(PAUSE));
        }
        let addr = peer.addr;
        self.on_away(id, Away::Silent, out);
        // The route may have changed; a new connection finds out sooner.
        self.rpc.conns.reset(addr, out);
        self.pump(now, id, out);
    }

    /// Handles the loss of a peer: it closed its last connection or refuses ours.
    pub(crate) fn on_gone(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        event: RpcEvent,
        out: &mut Vec<Output>,
    ) {
        let refused = matches!(event, RpcEvent::ConnectFailed(_));
        if refused {
            let gone: Vec<_> =
                self.closing.iter().filter(|(_, a)| **a == addr).map(|(c, _)| *c).collect();
            for client in gone {
                self.rpc.forget(client);
                self.closing.remove(&client);
            }
        }
        for id in self.links.at(addr, |_| true) {
            self.on_away(id, Away::Gone, out);
            let look = self.rng.around(if refused { PAUSE } else { FIRST_PROBE });
            self.timers.arm_no_later(Timer::Probe(id), now.after(look));
            if self.links.get(id).is_some_and(|p| p.ending) {
                self.end(now, id, false, out);
            }
        }
    }

    pub(crate) fn on_connected(&mut self, now: Instant, addr: SocketAddr, out: &mut Vec<Output>) {
        for id in self.links.at(addr, |p| p.away == Some(Away::Gone)) {
            self.try_again(now, id, out);
        }
    }

    /// Contacts a peer again after a connection to its address succeeded.
    ///
    /// A new life of the process accepts connections too, before it requests its entrypoint. So only a reply
    /// shows that the peer still knows the link.
    fn try_again(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get_mut(id) else { return };
        peer.away = Some(Away::Silent);
        self.timers.disarm(Timer::Probe(id));
        self.rpc.resume(now, peer.link.client, out);
        self.request_delivered(now, id, out);
    }

    /// Checks whether a peer is back.
    pub(crate) fn probe(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get(id).filter(|p| p.away == Some(Away::Gone)) else { return };
        let addr = peer.addr;
        if self.rpc.conns.is_up(addr) {
            return self.try_again(now, id, out);
        }
        self.rpc.conns.open(now, addr, out);
        self.timers.arm(Timer::Probe(id), now.after(self.rng.around(PAUSE)));
    }

    fn on_away(&mut self, id: LinkId, away: Away, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get_mut(id) else { return };
        // A peer that is gone does not become merely silent: its client pauses until the peer is back.
        let gone = peer.away == Some(Away::Gone);
        let before = peer.away.replace(if gone { Away::Gone } else { away });
        if away == Away::Gone {
            self.rpc.pause(peer.link.client);
        }
        if matches!(before, None | Some(Away::Untried)) {
            out.push(Output::Motr(Event::LinkDown { link: id }));
            out.fact(Fact::LinkDown { link: id, process: peer.process });
        }
    }

    /// Handles a sign of life.
    pub(crate) fn on_alive(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get_mut(id) else { return };
        let Some(away) = peer.away.take() else { return };
        self.timers.disarm(Timer::Probe(id));
        out.push(Output::Motr(Event::LinkBack { link: id }));
        out.fact(Fact::LinkBack { link: id, process: peer.process });
        if away == Away::Gone {
            self.rpc.resume(now, peer.link.client, out);
        }
        self.request_delivered(now, id, out);
    }

    /// Requests the process's position of delivered messages. It may have sent it while it was unreachable,
    /// and does not send it twice.
    pub(crate) fn request_delivered(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        if let Some(peer) = self.links.get_mut(id) {
            peer.link.asks |= peer.link.sent.awaits();
            self.pump(now, id, out);
        }
    }

    pub(crate) fn on_timer(&mut self, now: Instant, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Pause(id) => {
                if let Some(peer) = self.links.get_mut(id) {
                    peer.link.on_pause_over();
                    self.pump(now, id, out);
                }
            }
            Timer::Probe(id) => self.probe(now, id, out),
            Timer::Doubt(id) => self.end_if_doubtful(now, id, out),
            Timer::LinkDrain => {
                for id in self.links.ids() {
                    self.end(now, id, true, out);
                }
            }
            Timer::Exit => self.stop = Stop::Done,
        }
    }
}

/// Reports the delivered messages.
fn report_delivered(
    link: LinkId,
    delivered: Vec<SendId>,
    wrong: Option<u64>,
    out: &mut Vec<Output>,
) {
    for send in delivered {
        out.push(Output::Motr(Event::Delivered { link, send }));
    }
    if let Some(told) = wrong {
        out.fact(Fact::BadDelivered { link, told });
    }
}
