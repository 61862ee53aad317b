//! One rpc connection with one session to a peer (`rpc/link.c`).
//!
//! It is opened in two steps, used for one request at a time, and closed in two steps. A request without a
//! reply is sent again each second.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

use crate::wire::codec::fop::{Fop, opcode};
use crate::wire::codec::item::{self, ItemHeader};
use crate::wire::codec::packet::Frame;
use crate::wire::codec::params::Uint128;
use crate::wire::rpc::server::IdGenerator;

/// The interval between two sends of the same item (`rpc/item.h`).
pub(crate) const RESEND: Duration = Duration::from_secs(1);
/// The number of tries of one step of the opening before it starts from the beginning.
const OPEN_SENDS: u32 = 10;
/// The number of tries to end a session and a connection (`ha.c:HA_DISCONNECT_TIMEOUT`: 5 s for both).
const CLOSE_SESSION_SENDS: u32 = 4;
const CLOSE_CONN_SENDS: u32 = 1;

/// The id of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    OpeningConn,
    OpeningSession,
    Open,
    ClosingSession,
    ClosingConn,
    Closed,
}

/// The request in flight.
#[derive(Debug)]
struct Call {
    reply: u32,
    cookie: Uint128,
    frame: Frame,
    sends: u32,
    sends_max: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct RpcClient {
    pub(crate) to: SocketAddr,
    id: ClientId,
    uuid: Uint128,
    sender: u64,
    session: u64,
    /// The last xid of session 0 and of the session.
    xids: (u64, u64),
    phase: Phase,
    call: Option<Call>,
    pub(crate) paused: bool,
}

/// The action of a client after an event.
#[derive(Debug)]
pub(crate) enum Action {
    Nothing,
    /// A request to encode and send.
    Request(ItemHeader, Fop, Option<u32>),
    /// The request in flight, to be sent (again).
    Send(u64, Frame),
    /// The client is open.
    Opened,
    /// The reply to a request.
    Reply(Fop),
    /// The request got no reply, or the opening was refused. The frame with this key is given up.
    Failed(u64),
    /// The client has ended.
    Ended,
}

impl RpcClient {
    pub(crate) fn new(id: ClientId, to: SocketAddr) -> Self {
        Self {
            to,
            id,
            uuid: Uint128::default(),
            sender: item::NONE,
            session: 0,
            xids: (0, 0),
            phase: Phase::OpeningConn,
            call: None,
            paused: false,
        }
    }

    /// Starts opening the connection, for the first time or again.
    pub(crate) fn begin(&mut self, ids: &mut IdGenerator) -> Action {
        self.uuid = Uint128 { hi: ids.next(), lo: ids.next() };
        self.phase = Phase::OpeningConn;
        (self.sender, self.xids) = (item::NONE, (0, 0));
        let cookie = self.cookie(ids);
        let header = ItemHeader::unsequenced(opcode::CONN_ESTABLISH, self.uuid, item::NONE, cookie);
        Action::Request(header, Fop::ConnEstablish, Some(OPEN_SENDS))
    }

    /// Returns the header of the next request on the session.
    pub(crate) fn header(&mut self, opcode: u32, ids: &mut IdGenerator) -> ItemHeader {
        self.xids.1 += 1;
        let (session, xid) = (self.session, self.xids.1);
        ItemHeader { session, xid, xid_min: xid, ..self.unsequenced(opcode, ids) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.call.is_some()
    }

    /// Returns the request in flight's key in the queue of a connection.
    pub(crate) fn in_flight(&self) -> Option<u64> {
        self.call.as_ref().map(|call| call.cookie.lo)
    }

    /// Records a request as in flight.
    pub(crate) fn start_call(&mut self, header: &ItemHeader, frame: Frame, sends_max: Option<u32>) {
        let reply = header.opcode + 1;
        self.call = Some(Call { reply, cookie: header.cookie, frame, sends: 0, sends_max });
    }

    /// Sends the request in flight again, or gives it up.
    pub(crate) fn on_time(&mut self, ids: &mut IdGenerator) -> Action {
        match &mut self.call {
            Some(call) if call.sends_max.is_none_or(|max| call.sends < max) => {
                call.sends = call.sends.saturating_add(1);
                Action::Send(call.cookie.lo, Arc::clone(&call.frame))
            }
            call => {
                let failed = call.take().map(|c| c.cookie.lo);
                match (self.phase, failed) {
                    (Phase::OpeningConn | Phase::OpeningSession | Phase::Open, Some(key)) => {
                        Action::Failed(key)
                    }
                    (Phase::OpeningConn | Phase::OpeningSession, None) => self.begin(ids),
                    (Phase::Open, None) => Action::Nothing,
                    (Phase::ClosingSession, _) => self.close_conn(ids),
                    (Phase::ClosingConn | Phase::Closed, _) => self.end(),
                }
            }
        }
    }

    /// Resets the number of tries of the request in flight, since the peer is reachable again.
    pub(crate) fn renew(&mut self) {
        if let Some(call) = &mut self.call {
            call.sends = 0;
        }
    }

    /// Handles a reply with this client's cookie.
    pub(crate) fn on_reply(
        &mut self,
        from: SocketAddr,
        header: &ItemHeader,
        fop: Fop,
        ids: &mut IdGenerator,
    ) -> Action {
        let due =
            |c: &mut Call| c.cookie == header.cookie && c.reply == fop.opcode() && from == self.to;
        if self.call.take_if(due).is_none() {
            return Action::Nothing;
        }
        match (self.phase, fop) {
            (Phase::OpeningConn, Fop::ConnEstablishRep { rc: 0, sender }) => {
                self.phase = Phase::OpeningSession;
                self.sender = sender;
                let header = self.header0(opcode::SESSION_ESTABLISH, ids);
                Action::Request(header, Fop::SessionEstablish { sender }, Some(OPEN_SENDS))
            }
            (Phase::OpeningSession, Fop::SessionEstablishRep { rc: 0, session, .. }) => {
                self.phase = Phase::Open;
                self.session = session;
                Action::Opened
            }
            (Phase::OpeningConn | Phase::OpeningSession, _) => Action::Failed(header.cookie.lo),
            (Phase::Open, fop) => Action::Reply(fop),
            (Phase::ClosingSession, _) => self.close_conn(ids),
            (Phase::ClosingConn | Phase::Closed, _) => self.end(),
        }
    }

    /// Ends the session and the connection. A request in flight is given up.
    pub(crate) fn close(&mut self, ids: &mut IdGenerator) -> Action {
        self.call = None;
        match self.phase {
            Phase::Open => {
                self.phase = Phase::ClosingSession;
                let (sender, session) = (self.sender, self.session);
                let header = self.header0(opcode::SESSION_TERMINATE, ids);
                let fop = Fop::SessionTerminate { sender, session };
                Action::Request(header, fop, Some(CLOSE_SESSION_SENDS))
            }
            Phase::OpeningSession => self.close_conn(ids),
            Phase::OpeningConn => self.end(),
            Phase::ClosingSession | Phase::ClosingConn | Phase::Closed => Action::Nothing,
        }
    }

    fn close_conn(&mut self, ids: &mut IdGenerator) -> Action {
        self.phase = Phase::ClosingConn;
        let fop = Fop::ConnTerminate { sender: self.sender };
        Action::Request(self.unsequenced(opcode::CONN_TERMINATE, ids), fop, Some(CLOSE_CONN_SENDS))
    }

    fn end(&mut self) -> Action {
        self.phase = Phase::Closed;
        Action::Ended
    }

    fn header0(&mut self, opcode: u32, ids: &mut IdGenerator) -> ItemHeader {
        self.xids.0 += 1;
        let xid = self.xids.0;
        ItemHeader { xid, xid_min: xid, ..self.unsequenced(opcode, ids) }
    }

    fn unsequenced(&self, opcode: u32, ids: &mut IdGenerator) -> ItemHeader {
        ItemHeader::unsequenced(opcode, self.uuid, self.sender, self.cookie(ids))
    }

    fn cookie(&self, ids: &mut IdGenerator) -> Uint128 {
        Uint128 { hi: self.id.0, lo: ids.next() }
    }
}
