//! The rpc layer of one machine, between TCP and the links and entrypoints. It opens and closes connections
//! and sessions of peers by itself.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is no step of the protocol is a request")]

pub(crate) mod client;
pub(crate) mod event;
pub(crate) mod server;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::ConnId;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{Instant, Next};
use crate::base::timers::Timers;
use crate::ha::fact::Fact;
use crate::net;
use crate::wire::codec::fop::Fop;
use crate::wire::codec::frame::End;
use crate::wire::codec::item;
use crate::wire::codec::packet::{self, Ends, Frame, Item, Payload, Writer};
use crate::wire::conns::accepted::ConnEvent;
use crate::wire::conns::{Conns, Limits, Out};
use crate::wire::rpc::client::{Action, ClientId, RESEND, RpcClient};
use crate::wire::rpc::event::{RequestOrigin, RpcEvent};
use crate::wire::rpc::server::{Admission, IdGenerator, KEEP, RpcServer, digest};

#[derive(Debug)]
enum Arrived {
    Item(RequestOrigin, Fop),
    Event(RpcEvent),
}

/// The settings of the rpc layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) me: SocketAddr,
    pub(crate) generation: u64,
    pub(crate) conns: Limits,
    pub(crate) rpc_conns_max: usize,
    pub(crate) reply_bytes_max: usize,
    /// Whether requests on unknown sessions are answered. Motr's library drops them silently, so that a
    /// process needs 14 to 16 s to find a restarted peer again instead of 1 s.
    pub(crate) answers_unknown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Client(ClientId),
    Sweep,
}

#[derive(Debug)]
pub(crate) struct Rpc {
    settings: Settings,
    pub(crate) conns: Conns,
    pub(crate) server: RpcServer,
    clients: BTreeMap<ClientId, RpcClient>,
    next_client: u64,
    pub(crate) ids: IdGenerator,
    frames: u64,
    writer: Writer,
    timers: Timers<Timer>,
    /// The arrived items and events, drained within each call of the machine.
    arrived: VecDeque<Arrived>,
}

impl Rpc {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            conns: Conns::new(settings.me, settings.conns),
            server: RpcServer::new(settings.rpc_conns_max, settings.reply_bytes_max),
            clients: BTreeMap::new(),
            next_client: 0,
            ids: IdGenerator(settings.generation),
            frames: 0,
            writer: Writer::default(),
            timers: Timers::default(),
            arrived: VecDeque::new(),
        }
    }

    pub(crate) fn on_net(&mut self, now: Instant, event: net::Event, out: &mut dyn Out) {
        let mut events = Vec::new();
        self.conns.on_event(now, event, &mut events, out);
        self.on_conn_events(events, out);
    }

    pub(crate) fn on_time(&mut self, now: Instant, out: &mut dyn Out) {
        let mut events = Vec::new();
        self.conns.on_time(now, &mut events, out);
        self.on_conn_events(events, out);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Sweep => {
                    self.server.sweep(now);
                    if self.server.keeps_replies() {
                        self.timers.arm(Timer::Sweep, now.after(KEEP));
                    }
                }
                Timer::Client(id) => {
                    let action = self.clients.get_mut(&id).map(|c| c.on_time(&mut self.ids));
                    self.act(now, id, action, out);
                }
            }
        }
    }

    pub(crate) fn next(&self) -> Next {
        let timer = self.timers.first().map(|(at, timer)| match timer {
            Timer::Client(_) => (at, "resend"),
            Timer::Sweep => (at, "sweep"),
        });
        self.conns
            .deadlines()
            .chain(timer)
            .fold(Next::Wait, |next, (at, why)| next.earlier(Next::WaitUntil { at, why }))
    }

    /// Returns the next event. The caller repeats the call until there is none.
    pub(crate) fn next_event(&mut self, now: Instant, out: &mut dyn Out) -> Option<RpcEvent> {
        while let Some(arrived) = self.arrived.pop_front() {
            let event = match arrived {
                Arrived::Event(event) => Some(event),
                Arrived::Item(at, fop) => self.on_item(now, at, fop, out),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    // ---- clients ----------------------------------------------------------------------------

    /// Opens an rpc connection and a session to a peer.
    pub(crate) fn start(&mut self, now: Instant, to: SocketAddr, out: &mut dyn Out) -> ClientId {
        self.next_client += 1;
        let id = ClientId(self.next_client);
        let mut client = RpcClient::new(id, to);
        let action = client.begin(&mut self.ids);
        self.clients.insert(id, client);
        self.act(now, id, Some(action), out);
        id
    }

    /// Sends a request with a payload of three parts; the middle one is shared.
    pub(crate) fn call(
        &mut self,
        now: Instant,
        id: ClientId,
        opcode: u32,
        payload: Payload<'_>,
        sends_max: Option<u32>,
        out: &mut dyn Out,
    ) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        debug_assert!(client.is_open() && !client.is_busy(), "one at a time");
        let header = client.header(opcode, &mut self.ids);
        let src = source(self.settings.me, &mut self.frames);
        let ends = Ends { src, dst: destination(client.to) };
        client.start_call(&header, self.writer.encode_around(ends, &header, payload), sends_max);
        if client.paused {
            return;
        }
        let to = client.to;
        let action = client.on_time(&mut self.ids);
        if let Action::Send(key, frame) = action {
            self.transmit(now, id, to, key, frame, out);
        } else {
            self.act(now, id, Some(action), out);
        }
    }

    /// Stops sending, since the peer is gone.
    pub(crate) fn pause(&mut self, id: ClientId) {
        self.timers.disarm(Timer::Client(id));
        if let Some(client) = self.clients.get_mut(&id) {
            client.paused = true;
        }
    }

    /// Sends the request in flight at once, since the peer is back.
    pub(crate) fn resume(&mut self, now: Instant, id: ClientId, out: &mut dyn Out) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.paused = false;
            client.renew();
            if client.is_busy() || !client.is_open() {
                self.send_now(now, id, out);
            }
        }
    }

    /// Ends the session and the connection politely. [`RpcEvent::Ended`] follows.
    pub(crate) fn close(&mut self, now: Instant, id: ClientId, out: &mut dyn Out) {
        self.timers.disarm(Timer::Client(id));
        self.retract(id);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.paused = false;
        let action = client.close(&mut self.ids);
        self.act(now, id, Some(action), out);
    }

    /// Drops a client without ending its session, which the peer would not understand. No event follows.
    pub(crate) fn forget(&mut self, id: ClientId) {
        self.timers.disarm(Timer::Client(id));
        self.retract(id);
        self.clients.remove(&id);
    }

    /// Drops a frame in flight still waiting for a connection, since its request is given up.
    fn retract(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id) else { return };
        if let Some(key) = client.in_flight() {
            self.conns.unqueue(client.to, key);
        }
    }

    fn send_now(&mut self, now: Instant, id: ClientId, out: &mut dyn Out) {
        let action = self.clients.get_mut(&id).filter(|c| !c.paused);
        let action = action.map(|c| c.on_time(&mut self.ids));
        self.act(now, id, action, out);
    }

    fn transmit(
        &mut self,
        now: Instant,
        id: ClientId,
        to: SocketAddr,
        key: u64,
        frame: Frame,
        out: &mut dyn Out,
    ) {
        if !mutant(Mutant::ResendLost) {
            self.timers.arm(Timer::Client(id), now.after(RESEND));
        }
        self.conns.send(now, to, key, frame, out);
    }

    fn act(&mut self, now: Instant, id: ClientId, action: Option<Action>, out: &mut dyn Out) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let event = match action {
            None | Some(Action::Nothing) => return,
            Some(Action::Send(key, frame)) => {
                let to = client.to;
                return self.transmit(now, id, to, key, frame, out);
            }
            Some(Action::Request(header, fop, sends_max)) => {
                let src = source(self.settings.me, &mut self.frames);
                let frame = packet::encode(src, destination(client.to), &[Item { header, fop }]);
                client.start_call(&header, Arc::new([frame.into()]), sends_max);
                return self.send_now(now, id, out);
            }
            Some(Action::Opened) => RpcEvent::Opened(id),
            Some(Action::Reply(fop)) => RpcEvent::Reply(id, fop),
            Some(Action::Failed(key)) => {
                self.conns.unqueue(client.to, key);
                // An opening starts again after the pause. The layer above decides about an open client.
                if !client.is_open() {
                    self.timers.arm(Timer::Client(id), now.after(RESEND));
                    return self.arrived.push_back(Arrived::Event(RpcEvent::Failed(id)));
                }
                RpcEvent::Failed(id)
            }
            Some(Action::Ended) => {
                self.clients.remove(&id);
                RpcEvent::Ended(id)
            }
        };
        self.timers.disarm(Timer::Client(id));
        self.arrived.push_back(Arrived::Event(event));
    }

    // ---- requests ---------------------------------------------------------------------------

    /// Sends the reply to a request.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        origin: &RequestOrigin,
        fop: Fop,
        out: &mut dyn Out,
    ) {
        let header = origin.header.reply(fop.opcode());
        let (src, dst) = (source(self.settings.me, &mut self.frames), destination(origin.addr));
        // The frame is kept for a while, so its memory must match its counted size.
        let frame = packet::encode(src, dst, &[Item { header, fop }]).into_boxed_slice();
        let frame = Bytes::from(frame);
        self.server.keep_reply(now, origin.addr, &origin.header, &frame);
        self.timers.arm_no_later(Timer::Sweep, now.after(KEEP));
        self.send_reply(now, origin, frame, out);
    }

    /// Treats an admitted request as if it had been lost on the network: it will be repeated.
    pub(crate) fn drop_as_lost(&mut self, origin: &RequestOrigin) {
        self.server.rollback(origin.addr, &origin.header);
    }

    /// Treats a request on an unknown session as the first one, and makes the session known.
    pub(crate) fn accept_unknown(&mut self, origin: RequestOrigin, fop: Fop) {
        self.server.accept_unknown(origin.addr, &origin.header);
        self.arrived.push_front(Arrived::Item(origin, fop));
    }

    pub(crate) fn send_reply(
        &mut self,
        now: Instant,
        origin: &RequestOrigin,
        frame: Bytes,
        out: &mut dyn Out,
    ) {
        // The key of a reply in the queue is derived from the request; the top bit separates it from
        // requests.
        let key = origin.header.cookie.lo ^ origin.header.xid.rotate_left(48) | 1 << 63;
        self.conns.send(now, origin.addr, key, Arc::new([frame]), out);
    }

    fn on_conn_events(&mut self, events: Vec<ConnEvent>, out: &mut dyn Out) {
        for event in events {
            let event = match event {
                ConnEvent::Frame { conn, from, payload } => {
                    self.on_packet(conn, from, &payload, out);
                    continue;
                }
                ConnEvent::Gone(addr) => RpcEvent::PeerGone(addr),
                ConnEvent::ConnectFailed(addr) => RpcEvent::ConnectFailed(addr),
                ConnEvent::Reached(addr) => RpcEvent::Connected(addr),
            };
            self.arrived.push_back(Arrived::Event(event));
        }
    }

    fn on_packet(&mut self, conn: ConnId, from: SocketAddr, raw: &[u8], out: &mut dyn Out) {
        let items = match packet::decode(raw) {
            Ok(items) => items,
            Err(why) => return out.fact(Fact::BadPacket { conn, why: why.0 }),
        };
        for item in items {
            match item {
                Ok(Item { header, fop }) => {
                    let at = RequestOrigin { conn, addr: from, header };
                    self.arrived.push_back(Arrived::Item(at, fop));
                }
                Err(why) => out.fact(Fact::BadPacket { conn, why: why.0 }),
            }
        }
    }

    fn on_item(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        fop: Fop,
        out: &mut dyn Out,
    ) -> Option<RpcEvent> {
        match fop {
            Fop::Unknown { opcode } => out.fact(Fact::UnknownOpcode { conn: origin.conn, opcode }),
            // The peer repeats these requests, also to a later run of this server.
            Fop::ConnEstablish | Fop::SessionEstablish { .. } if self.server.closed => {}
            Fop::ConnEstablish => {
                let sender = self.server.open(origin.addr, origin.header.uuid, &mut self.ids);
                self.reply(now, &origin, Fop::ConnEstablishRep { rc: 0, sender }, out);
            }
            Fop::ConnTerminate { sender } => {
                let known = self.server.close((origin.addr, sender));
                if known || self.settings.answers_unknown {
                    self.reply(now, &origin, Fop::ConnTerminateRep { rc: 0, sender }, out);
                }
            }
            fop if fop.is_reply() => {
                let id = ClientId(origin.header.cookie.hi);
                let client = self.clients.get_mut(&id);
                let action =
                    client.map(|c| c.on_reply(origin.addr, &origin.header, fop, &mut self.ids));
                self.act(now, id, action, out);
            }
            fop => return self.on_request(now, origin, fop, out),
        }
        None
    }

    fn on_request(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        fop: Fop,
        out: &mut dyn Out,
    ) -> Option<RpcEvent> {
        match self.server.admit(now, origin.addr, &origin.header, digest(&fop)) {
            Admission::Serve => {
                let event = self.serve(now, origin, fop, out);
                if let Some(Item { header, fop }) =
                    self.server.take_buffered(origin.addr, &origin.header)
                {
                    self.arrived.push_front(Arrived::Item(RequestOrigin { header, ..origin }, fop));
                }
                return event;
            }
            Admission::Resend(reply) if matches!(fop, Fop::LinkMsg(_)) => {
                return Some(RpcEvent::Repeated { origin, fop, reply });
            }
            Admission::Resend(reply) => self.send_reply(now, &origin, reply, out),
            // A process repeats this request until it gets a reply, however long it was unreachable.
            Admission::Forgotten if matches!(fop, Fop::EntrypointReq(_)) => {
                return Some(RpcEvent::Forgotten { origin, fop });
            }
            Admission::Drop | Admission::Forgotten => {}
            Admission::Early => {
                let item = Item { header: origin.header, fop };
                self.server.buffer(origin.addr, item);
            }
            Admission::Unknown => return self.on_unknown_session(now, origin, fop, out),
            Admission::Changed => {
                out.fact(Fact::BadItem {
                    conn: origin.conn,
                    why: "an xid used again for another request",
                });
                return Some(RpcEvent::Violation("an xid used again for another request"));
            }
            Admission::Bad(why) => {
                out.fact(Fact::BadItem { conn: origin.conn, why });
                return Some(RpcEvent::Violation(why));
            }
        }
        None
    }

    fn serve(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        fop: Fop,
        out: &mut dyn Out,
    ) -> Option<RpcEvent> {
        match fop {
            Fop::SessionEstablish { sender } => {
                let session = self.ids.next();
                self.server.open_session((origin.addr, origin.header.sender), session);
                self.reply(now, &origin, Fop::SessionEstablishRep { rc: 0, session, sender }, out);
                None
            }
            Fop::SessionTerminate { sender, session } => {
                let known = self.server.close_session((origin.addr, origin.header.sender), session);
                let rc = if known { 0 } else { Errno::ENOENT.to_rc() };
                self.reply(now, &origin, Fop::SessionTerminateRep { rc, session, sender }, out);
                None
            }
            fop => Some(RpcEvent::Request { origin, fop }),
        }
    }

    /// Handles a request on a session of an earlier life, or on one closed in favour of others.
    fn on_unknown_session(
        &mut self,
        now: Instant,
        origin: RequestOrigin,
        fop: Fop,
        out: &mut dyn Out,
    ) -> Option<RpcEvent> {
        if !self.settings.answers_unknown {
            return None;
        }
        match fop {
            // The sender waits for the reply without a time limit, and aborts on an error.
            Fop::SessionEstablish { .. } => {
                self.accept_unknown(origin, fop);
                None
            }
            Fop::SessionTerminate { sender, session } => {
                self.reply(now, &origin, Fop::SessionTerminateRep { rc: 0, session, sender }, out);
                None
            }
            fop => Some(RpcEvent::UnknownSession { origin, fop }),
        }
    }
}

/// Returns the source end of a frame. Its cookie must not be zero (`net/sock/sock.c`); there is no other
/// requirement.
fn source(me: SocketAddr, frames: &mut u64) -> End {
    *frames = (*frames % item::NONE) + 1;
    End { addr: me, cookie: (*frames, 0) }
}

fn destination(to: SocketAddr) -> End {
    End { addr: to, cookie: (0, 0) }
}
