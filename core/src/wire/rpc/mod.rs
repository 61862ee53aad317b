//! The rpc layer of one machine: TCP below it, links and entrypoints above. Serves the opening and
//! closing of connections and sessions by itself.

pub(crate) mod client;
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
use crate::wire::codec::item::{self, ItemHeader};
use crate::wire::codec::packet::{self, Frame, Item, Writer};
use crate::wire::conns::accepted::Seen;
use crate::wire::conns::{Conns, Limits, Out};
use crate::wire::rpc::client::{Caller, CallerId, RESEND, Then};
use crate::wire::rpc::server::{Incoming, KEEP, Mint, Verdict};

/// A request and where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The connection on which it came.
    pub(crate) conn: ConnId,
    /// Where its sender listens.
    pub(crate) addr: SocketAddr,
    pub(crate) header: ItemHeader,
}

/// What rises from the rpc layer.
#[derive(Debug)]
pub(crate) enum Up {
    /// A request, seen for the first time.
    Request { at: Place, fop: Fop },
    /// A request on a session that is not known here.
    Stray { at: Place, fop: Fop },
    /// A message of a link that was answered before, and that answer.
    Repeated { at: Place, fop: Fop, reply: Bytes },
    /// A request that was answered so long ago that the answer is not kept.
    Forgotten { at: Place, fop: Fop },
    /// A caller is open.
    Opened(CallerId),
    /// A caller's request has its answer.
    Reply(CallerId, Fop),
    /// A caller's request stays without one.
    Failed(CallerId),
    /// A caller has ended.
    Ended(CallerId),
    /// The last connection from a peer has closed.
    Gone(SocketAddr),
    /// A peer cannot be connected to.
    Refused(SocketAddr),
    /// A connection to a peer is up.
    Reached(SocketAddr),
    /// A peer did what makes a real one abort.
    Broken(&'static str),
}

#[derive(Debug)]
enum Arrived {
    Item(Place, Fop),
    Up(Up),
}

/// How the rpc layer behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) me: SocketAddr,
    pub(crate) generation: u64,
    pub(crate) conns_max: usize,
    pub(crate) backlog_bytes_max: usize,
    pub(crate) rpc_conns_max: usize,
    pub(crate) reply_bytes_max: usize,
    /// Whether what belongs to no known session is answered. Motr's library drops it silently, and
    /// then it takes a process 14 to 16 s to find a restarted peer again, instead of 1 s.
    pub(crate) answers_strangers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Caller(CallerId),
    Sweep,
}

#[derive(Debug)]
pub(crate) struct Rpc {
    settings: Settings,
    pub(crate) conns: Conns,
    pub(crate) incoming: Incoming,
    callers: BTreeMap<CallerId, Caller>,
    next_caller: u64,
    pub(crate) mint: Mint,
    frames: u64,
    writer: Writer,
    timers: Timers<Timer>,
    /// Drained within each call of the machine.
    arrived: VecDeque<Arrived>,
}

impl Rpc {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { me, conns_max, backlog_bytes_max, answers_strangers: hurries, .. } =
            settings;
        Self {
            settings,
            conns: Conns::new(me, Limits { conns_max, backlog_bytes_max, hurries }),
            incoming: Incoming::new(settings.rpc_conns_max, settings.reply_bytes_max),
            callers: BTreeMap::new(),
            next_caller: 0,
            mint: Mint(settings.generation),
            frames: 0,
            writer: Writer::default(),
            timers: Timers::default(),
            arrived: VecDeque::new(),
        }
    }

    pub(crate) fn on_net(&mut self, now: Instant, event: net::Event, out: &mut dyn Out) {
        let mut seen = Vec::new();
        self.conns.on_event(now, event, &mut seen, out);
        self.take_in(seen, out);
    }

    pub(crate) fn on_time(&mut self, now: Instant, out: &mut dyn Out) {
        let mut seen = Vec::new();
        self.conns.on_time(now, &mut seen, out);
        self.take_in(seen, out);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Sweep => {
                    self.incoming.sweep(now);
                    if self.incoming.keeps_replies() {
                        self.timers.arm(Timer::Sweep, now.after(KEEP));
                    }
                }
                Timer::Caller(id) => {
                    let then = self.callers.get_mut(&id).map(|c| c.on_time(&mut self.mint));
                    self.follow(now, id, then, out);
                }
            }
        }
    }

    pub(crate) fn next(&self) -> Next {
        let timer = self.timers.first().map(|(at, timer)| match timer {
            Timer::Caller(_) => (at, "resend"),
            Timer::Sweep => (at, "sweep"),
        });
        self.conns
            .deadlines()
            .chain(timer)
            .fold(Next::Wait, |next, (at, why)| next.earlier(Next::WaitUntil { at, why }))
    }

    /// What rises next; to be asked for until there is nothing more.
    pub(crate) fn rise(&mut self, now: Instant, out: &mut dyn Out) -> Option<Up> {
        while let Some(arrived) = self.arrived.pop_front() {
            let up = match arrived {
                Arrived::Up(up) => Some(up),
                Arrived::Item(at, fop) => self.on_item(now, at, fop, out),
            };
            if up.is_some() {
                return up;
            }
        }
        None
    }

    // ---- callers ----------------------------------------------------------------------------

    /// Opens an rpc connection and a session to a peer.
    pub(crate) fn start(&mut self, now: Instant, to: SocketAddr, out: &mut dyn Out) -> CallerId {
        self.next_caller += 1;
        let id = CallerId(self.next_caller);
        let mut caller = Caller::new(id, to);
        let then = caller.begin(&mut self.mint);
        self.callers.insert(id, caller);
        self.follow(now, id, Some(then), out);
        id
    }

    /// Sends a request whose payload is given in three parts, of which the middle one is shared.
    pub(crate) fn call(
        &mut self,
        now: Instant,
        id: CallerId,
        opcode: u32,
        parts: (&[u8], Bytes, &[u8]),
        sends_max: Option<u32>,
        out: &mut dyn Out,
    ) {
        let Some(caller) = self.callers.get_mut(&id) else { return };
        debug_assert!(caller.is_open() && !caller.is_busy(), "one at a time");
        let header = caller.header(opcode, &mut self.mint);
        let ends = (source(self.settings.me, &mut self.frames), destination(caller.to));
        caller.put(&header, self.writer.encode_around(ends, &header, parts), sends_max);
        if caller.paused {
            return;
        }
        let to = caller.to;
        match caller.on_time(&mut self.mint) {
            Then::Send(key, frame) => self.transmit(now, id, to, (key, frame), out),
            then => self.follow(now, id, Some(then), out),
        }
    }

    /// Stops sending: the peer is gone.
    pub(crate) fn pause(&mut self, id: CallerId) {
        self.timers.disarm(Timer::Caller(id));
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.paused = true;
        }
    }

    /// The peer is there again: sends at once what is in flight.
    pub(crate) fn resume(&mut self, now: Instant, id: CallerId, out: &mut dyn Out) {
        if let Some(caller) = self.callers.get_mut(&id) {
            caller.paused = false;
            caller.renew();
            if caller.is_busy() || !caller.is_open() {
                self.send_now(now, id, out);
            }
        }
    }

    /// Ends session and connection, politely. [`Up::Ended`] follows.
    pub(crate) fn close(&mut self, now: Instant, id: CallerId, out: &mut dyn Out) {
        self.timers.disarm(Timer::Caller(id));
        self.take_back(id);
        let Some(caller) = self.callers.get_mut(&id) else { return };
        caller.paused = false;
        let then = caller.close(&mut self.mint);
        self.follow(now, id, Some(then), out);
    }

    /// Drops a caller whose peer would not understand an end. Nothing follows.
    pub(crate) fn forget(&mut self, id: CallerId) {
        self.timers.disarm(Timer::Caller(id));
        self.take_back(id);
        self.callers.remove(&id);
    }

    /// Drops what is in flight if it still waits for a connection: it is being given up.
    fn take_back(&mut self, id: CallerId) {
        let Some(caller) = self.callers.get(&id) else { return };
        if let Some(key) = caller.in_flight() {
            self.conns.unqueue(caller.to, key);
        }
    }

    fn send_now(&mut self, now: Instant, id: CallerId, out: &mut dyn Out) {
        let then = self.callers.get_mut(&id).filter(|c| !c.paused);
        let then = then.map(|c| c.on_time(&mut self.mint));
        self.follow(now, id, then, out);
    }

    fn transmit(
        &mut self,
        now: Instant,
        id: CallerId,
        to: SocketAddr,
        (key, frame): (u64, Frame),
        out: &mut dyn Out,
    ) {
        if !mutant(Mutant::ResendLost) {
            self.timers.arm(Timer::Caller(id), now.after(RESEND));
        }
        self.conns.send(now, to, key, frame, out);
    }

    fn follow(&mut self, now: Instant, id: CallerId, then: Option<Then>, out: &mut dyn Out) {
        let Some(caller) = self.callers.get_mut(&id) else { return };
        let up = match then {
            None | Some(Then::Nothing) => return,
            Some(Then::Send(key, frame)) => {
                let to = caller.to;
                return self.transmit(now, id, to, (key, frame), out);
            }
            Some(Then::Request(header, fop, sends_max)) => {
                let ends = (source(self.settings.me, &mut self.frames), destination(caller.to));
                let frame = packet::encode(ends.0, ends.1, &[Item { header, fop }]);
                caller.put(&header, Arc::new([frame.into()]), sends_max);
                return self.send_now(now, id, out);
            }
            Some(Then::Opened) => Up::Opened(id),
            Some(Then::Reply(fop)) => Up::Reply(id, fop),
            Some(Then::Failed(key)) => {
                self.conns.unqueue(caller.to, key);
                // An opening begins anew after the pause; an open caller is told what to do.
                if !caller.is_open() {
                    self.timers.arm(Timer::Caller(id), now.after(RESEND));
                    return self.arrived.push_back(Arrived::Up(Up::Failed(id)));
                }
                Up::Failed(id)
            }
            Some(Then::Ended) => {
                self.callers.remove(&id);
                Up::Ended(id)
            }
        };
        self.timers.disarm(Timer::Caller(id));
        self.arrived.push_back(Arrived::Up(up));
    }

    // ---- requests ---------------------------------------------------------------------------

    /// Answers a request.
    pub(crate) fn reply(&mut self, now: Instant, at: &Place, fop: Fop, out: &mut dyn Out) {
        let header = at.header.reply(fop.opcode());
        let (src, dst) = (source(self.settings.me, &mut self.frames), destination(at.addr));
        // It is kept for a while, so it takes no more than it is counted as.
        let frame = packet::encode(src, dst, &[Item { header, fop }]).into_boxed_slice();
        let frame = Bytes::from(frame);
        self.incoming.answered(now, at.addr, &at.header, &frame);
        self.timers.arm_no_later(Timer::Sweep, now.after(KEEP));
        self.send_reply(now, at, frame, out);
    }

    /// Treats an admitted request as if it had been lost on the wire: it will come again.
    pub(crate) fn lose(&mut self, at: &Place) {
        self.incoming.unserve(at.addr, &at.header);
    }

    /// Treats a stray request as the first on a session that is known from now on.
    pub(crate) fn adopt(&mut self, at: Place, fop: Fop) {
        self.incoming.adopt(at.addr, &at.header);
        self.arrived.push_front(Arrived::Item(at, fop));
    }

    pub(crate) fn send_reply(&mut self, now: Instant, at: &Place, frame: Bytes, out: &mut dyn Out) {
        // A reply's place in the queue is that of the request; the top bit keeps the two apart.
        let key = at.header.cookie.lo ^ at.header.xid.rotate_left(48) | 1 << 63;
        self.conns.send(now, at.addr, key, Arc::new([frame]), out);
    }

    fn take_in(&mut self, seen: Vec<Seen>, out: &mut dyn Out) {
        for seen in seen {
            let up = match seen {
                Seen::Frame { conn, from, payload } => {
                    self.take_in_packet(conn, from, &payload, out);
                    continue;
                }
                Seen::Gone(addr) => Up::Gone(addr),
                Seen::Refused(addr) => Up::Refused(addr),
                Seen::Reached(addr) => Up::Reached(addr),
            };
            self.arrived.push_back(Arrived::Up(up));
        }
    }

    fn take_in_packet(&mut self, conn: ConnId, from: SocketAddr, raw: &[u8], out: &mut dyn Out) {
        let items = match packet::decode(raw) {
            Ok(items) => items,
            Err(why) => return out.fact(Fact::BadPacket { conn, why: why.0 }),
        };
        for item in items {
            match item {
                Ok(Item { header, fop }) => {
                    let at = Place { conn, addr: from, header };
                    self.arrived.push_back(Arrived::Item(at, fop));
                }
                Err(why) => out.fact(Fact::BadPacket { conn, why: why.0 }),
            }
        }
    }

    fn on_item(&mut self, now: Instant, at: Place, fop: Fop, out: &mut dyn Out) -> Option<Up> {
        match fop {
            Fop::Unknown { opcode } => out.fact(Fact::UnknownOpcode { conn: at.conn, opcode }),
            // Who asks for these asks again, whoever serves here then.
            Fop::ConnEstablish | Fop::SessionEstablish { .. } if self.incoming.ends => {}
            Fop::ConnEstablish => {
                let sender = self.incoming.open(at.addr, at.header.uuid, &mut self.mint);
                self.reply(now, &at, Fop::ConnEstablishRep { rc: 0, sender }, out);
            }
            Fop::ConnTerminate { sender } => {
                let known = self.incoming.close((at.addr, sender));
                if known || self.settings.answers_strangers {
                    self.reply(now, &at, Fop::ConnTerminateRep { rc: 0, sender }, out);
                }
            }
            fop if fop.is_reply() => {
                let id = CallerId(at.header.cookie.hi);
                let caller = self.callers.get_mut(&id);
                let then = caller.map(|c| c.on_reply(at.addr, &at.header, fop, &mut self.mint));
                self.follow(now, id, then, out);
            }
            fop => return self.on_request(now, at, fop, out),
        }
        None
    }

    fn on_request(&mut self, now: Instant, at: Place, fop: Fop, out: &mut dyn Out) -> Option<Up> {
        match self.incoming.admit(now, at.addr, &at.header, digest(&fop)) {
            Verdict::Serve => {
                let up = self.serve(now, at, fop, out);
                if let Some(Item { header, fop }) = self.incoming.unhold(at.addr, &at.header) {
                    self.arrived.push_front(Arrived::Item(Place { header, ..at }, fop));
                }
                return up;
            }
            Verdict::Again(reply) if matches!(fop, Fop::LinkMsg(_)) => {
                return Some(Up::Repeated { at, fop, reply });
            }
            Verdict::Again(reply) => self.send_reply(now, &at, reply, out),
            // It is asked for until it is answered, however long the peer could not be reached.
            Verdict::Forgotten if matches!(fop, Fop::EntrypointReq(_)) => {
                return Some(Up::Forgotten { at, fop });
            }
            Verdict::Drop | Verdict::Forgotten => {}
            Verdict::Early => {
                let item = Item { header: at.header, fop };
                self.incoming.hold(at.addr, item);
            }
            Verdict::Unknown => return self.on_stray(now, at, fop, out),
            Verdict::Changed => {
                out.fact(Fact::BadItem {
                    conn: at.conn,
                    why: "an xid used again for another request",
                });
                return Some(Up::Broken("an xid used again for another request"));
            }
            Verdict::Bad(why) => {
                out.fact(Fact::BadItem { conn: at.conn, why });
                return Some(Up::Broken(why));
            }
        }
        None
    }

    fn serve(&mut self, now: Instant, at: Place, fop: Fop, out: &mut dyn Out) -> Option<Up> {
        match fop {
            Fop::SessionEstablish { sender } => {
                let session = self.mint.next();
                self.incoming.open_session((at.addr, at.header.sender), session);
                self.reply(now, &at, Fop::SessionEstablishRep { rc: 0, session, sender }, out);
                None
            }
            Fop::SessionTerminate { sender, session } => {
                let known = self.incoming.close_session((at.addr, at.header.sender), session);
                let rc = if known { 0 } else { Errno::ENOENT.to_rc() };
                self.reply(now, &at, Fop::SessionTerminateRep { rc, session, sender }, out);
                None
            }
            fop => Some(Up::Request { at, fop }),
        }
    }

    /// A request for a session of an earlier life, or of one that had to make room.
    fn on_stray(&mut self, now: Instant, at: Place, fop: Fop, out: &mut dyn Out) -> Option<Up> {
        if !self.settings.answers_strangers {
            return None;
        }
        match fop {
            // Its sender waits for it without limit, and takes an error for the end of the world.
            Fop::SessionEstablish { .. } => {
                self.adopt(at, fop);
                None
            }
            Fop::SessionTerminate { sender, session } => {
                self.reply(now, &at, Fop::SessionTerminateRep { rc: 0, session, sender }, out);
                None
            }
            fop => Some(Up::Stray { at, fop }),
        }
    }
}

/// Enough of a request to tell whether an xid is used again for another one.
fn digest(fop: &Fop) -> u64 {
    match fop {
        Fop::LinkMsg(msg) => msg.seq.rotate_left(32) ^ msg.tag ^ msg.nr.rotate_left(62),
        Fop::EntrypointReq(req) => req.generation,
        fop => fop.opcode().into(),
    }
}

/// A source's cookie must not be zero (`net/sock/sock.c`); nothing else is asked of it.
fn source(me: SocketAddr, frames: &mut u64) -> End {
    *frames = (*frames % item::NONE) + 1;
    End { addr: me, cookie: (*frames, 0) }
}

fn destination(to: SocketAddr) -> End {
    End { addr: to, cookie: (0, 0) }
}
