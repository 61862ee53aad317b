//! The rpc connections and sessions opened by peers (`rpc/conn.c`, `rpc/session.c`), and the rules of the xid
//! (`rpc/item.c:m0_rpc_item_xid_check`): a request that arrives twice is served once.

use alloc::collections::{BTreeMap, VecDeque};
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;

use crate::base::time::Instant;
use crate::wire::codec::fop::Fop;
use crate::wire::codec::item::{self, ItemHeader};
use crate::wire::codec::packet::Item;
use crate::wire::codec::params::Uint128;

/// The time limit of keeping a reply to be sent again (`rpc/item.h`).
pub(crate) const KEEP: Duration = Duration::from_secs(100);
/// The maximum number of replies kept for one session. A real sender has one request in flight on each.
const REPLIES_MAX: usize = 16;
/// The maximum number of items waiting for earlier ones, in one session and in all sessions.
const HELD_MAX: usize = 16;
const HELD_ALL_MAX: usize = 256;
/// The maximum number of sessions of one connection. Real peers have one.
const SESSIONS_MAX: usize = 8;
/// The maximum number of connections of one peer. Real peers have two or three; nobody closes those of dead
/// peers.
const CONNS_PER_PEER_MAX: usize = 32;

/// The generator of connection and session ids, cookies and uuids.
///
/// It starts at the generation, the clock's nanoseconds at the start of this life, and counts more slowly
/// than any clock. So no life repeats an id of an earlier one.
#[derive(Debug)]
pub(crate) struct IdGenerator(pub(crate) u64);

impl IdGenerator {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        // 0 and all ones have a special meaning.
        if self.0 == item::NONE {
            self.0 = 1;
        }
        self.0
    }
}

/// The decision about a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the next request and is served.
    Serve,
    /// It was answered before: the same reply is sent again.
    Resend(Bytes),
    /// It was served before, and there is no reply yet or any more.
    Drop,
    /// It was answered so long ago that the reply is not kept any more.
    Forgotten,
    /// It arrived before an earlier request.
    Early,
    /// The connection or the session is unknown.
    Unknown,
    /// It has the xid of another request: a peer that does this gets the other request's reply.
    Changed,
    /// Its xids are invalid.
    Bad(&'static str),
}

#[derive(Debug)]
struct Served {
    xid: u64,
    digest: u64,
    at: Instant,
    answered: bool,
    reply: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Session {
    last: u64,
    served: VecDeque<Served>,
    buffered: BTreeMap<u64, Item>,
}

#[derive(Debug)]
struct Conn {
    uuid: Uint128,
    sessions: BTreeMap<u64, Session>,
    used: u64,
}

type Key = (SocketAddr, u64);

#[derive(Debug)]
pub(crate) struct RpcServer {
    conns: BTreeMap<Key, Conn>,
    conns_max: usize,
    reply_bytes: usize,
    reply_bytes_max: usize,
    uses: u64,
    /// The server is stopping: nothing is opened any more.
    pub(crate) closed: bool,
}

impl RpcServer {
    pub(crate) fn new(conns_max: usize, reply_bytes_max: usize) -> Self {
        let (conns, ends) = (BTreeMap::new(), false);
        Self { conns, conns_max, reply_bytes: 0, reply_bytes_max, uses: 0, closed: ends }
    }

    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Opens a connection for `addr`. A repeated opening returns the same connection.
    pub(crate) fn open(&mut self, addr: SocketAddr, uuid: Uint128, ids: &mut IdGenerator) -> u64 {
        let of_peer = || (addr, 0)..=(addr, u64::MAX);
        if let Some(((_, sender), _)) = self.conns.range(of_peer()).find(|(_, c)| c.uuid == uuid) {
            return *sender;
        }
        let mut sender = ids.next();
        while self.conns.contains_key(&(addr, sender)) {
            sender = ids.next();
        }
        self.insert((addr, sender), uuid);
        sender
    }

    /// Opens a session on a known connection.
    pub(crate) fn open_session(&mut self, key: Key, session: u64) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        if conn.sessions.len() > SESSIONS_MAX {
            // Session 0 is kept: it is the first one, and all others are opened over it.
            let oldest = conn.sessions.keys().copied().find(|id| *id != 0);
            let old = oldest.and_then(|id| conn.sessions.remove(&id));
            self.reply_bytes -= old.map_or(0, |s| s.reply_bytes());
        }
        let old = conn.sessions.insert(session, Session::default());
        self.reply_bytes -= old.map_or(0, |s| s.reply_bytes());
    }

    /// Records the request's connection and session as known. A peer that knew an earlier life, or that was
    /// dropped because of a limit, does not notice it that way.
    pub(crate) fn accept_unknown(&mut self, addr: SocketAddr, header: &ItemHeader) {
        let key = (addr, header.sender);
        if !self.conns.contains_key(&key) {
            self.insert(key, header.uuid);
        }
        // The caller sends the same request once more, so its session must exist then.
        if header.session != 0 || self.session(addr, header).is_none() {
            self.open_session(key, header.session);
        }
        if let Some(session) = self.session(addr, header) {
            session.last = header.xid.wrapping_sub(1);
        }
    }

    /// Ends a session if it is known. Session 0 ends with its connection, since others are opened over it.
    pub(crate) fn close_session(&mut self, key: Key, session: u64) -> bool {
        if session == 0 {
            return false;
        }
        let removed = self.conns.get_mut(&key).and_then(|c| c.sessions.remove(&session));
        self.reply_bytes -= removed.as_ref().map_or(0, Session::reply_bytes);
        removed.is_some()
    }

    pub(crate) fn close(&mut self, key: Key) -> bool {
        let removed = self.conns.remove(&key);
        let bytes = |c: &Conn| c.sessions.values().map(Session::reply_bytes).sum::<usize>();
        self.reply_bytes -= removed.as_ref().map_or(0, bytes);
        removed.is_some()
    }

    /// Returns whether and how a request is served. If it is, its xid is recorded.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        header: &ItemHeader,
        digest: u64,
    ) -> Admission {
        let ItemHeader { xid, xid_min, .. } = *header;
        if xid_min == 0 || xid_min == item::NONE {
            return Admission::Bad("xid_min of 0 or -1");
        }
        if xid == 0 || xid == item::NONE {
            return Admission::Bad("xid of 0 or -1");
        }
        self.uses += 1;
        let clock = self.uses;
        let Some(conn) = self.conns.get_mut(&(addr, header.sender)) else {
            return Admission::Unknown;
        };
        conn.used = clock;
        let Some(session) = conn.sessions.get_mut(&header.session) else {
            return Admission::Unknown;
        };
        // The sender has given up all lower xids: they will never arrive.
        if session.last < xid_min - 1 {
            session.last = xid_min - 1;
            session.buffered = session.buffered.split_off(&xid_min);
        }
        if xid == session.last + 1 {
            session.last = xid;
            self.reply_bytes -= session.begin_serving(now, xid, digest);
            return Admission::Serve;
        }
        if xid > session.last {
            return Admission::Early;
        }
        match session.served.iter_mut().find(|s| s.xid == xid) {
            Some(served) if served.digest != digest => Admission::Changed,
            Some(Served { reply: Some(reply), at, .. }) if now.since(*at) < KEEP => {
                Admission::Resend(reply.clone())
            }
            Some(served) if served.answered && now.since(served.at) >= KEEP => {
                // The request may be served once more; meanwhile it may be repeated.
                served.answered = false;
                Admission::Forgotten
            }
            _ => Admission::Drop,
        }
    }

    /// Revokes an admission: the request counts as lost on the network.
    pub(crate) fn rollback(&mut self, addr: SocketAddr, header: &ItemHeader) {
        if let Some(session) = self.session(addr, header)
            && session.last == header.xid
        {
            session.last -= 1;
            let before = session.reply_bytes();
            session.served.retain(|s| s.xid != header.xid);
            let dropped = before - session.reply_bytes();
            self.reply_bytes -= dropped;
        }
    }

    /// Keeps a request with a later xid than the next one, within the limits.
    pub(crate) fn buffer(&mut self, addr: SocketAddr, item: Item) {
        let sessions = self.conns.values().flat_map(|c| c.sessions.values());
        let all: usize = sessions.map(|s| s.buffered.len()).sum();
        if let Some(session) = self.session(addr, &item.header)
            && session.buffered.len() < HELD_MAX
            && all < HELD_ALL_MAX
        {
            session.buffered.insert(item.header.xid, item);
        }
    }

    /// Returns the next request from the kept ones.
    pub(crate) fn take_buffered(&mut self, addr: SocketAddr, header: &ItemHeader) -> Option<Item> {
        let session = self.session(addr, header)?;
        session.buffered.remove(&(session.last + 1))
    }

    /// Keeps the reply to an admitted request.
    pub(crate) fn keep_reply(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        header: &ItemHeader,
        reply: &Bytes,
    ) {
        let Some(session) = self.session(addr, header) else { return };
        let Some(served) = session.served.iter_mut().find(|s| s.xid == header.xid) else { return };
        (served.at, served.answered) = (now, true);
        let before = served.reply.replace(reply.clone()).map_or(0, |old| old.len());
        self.reply_bytes = self.reply_bytes - before + reply.len();
        while self.reply_bytes > self.reply_bytes_max {
            if !self.forget_replies() {
                break;
            }
        }
    }

    /// Drops the replies too old to be requested.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let sessions = self.conns.values_mut().flat_map(|c| c.sessions.values_mut());
        let old = |s: &&mut Served| now.since(s.at) >= KEEP;
        for served in sessions.flat_map(|s| s.served.iter_mut()).filter(old) {
            self.reply_bytes -= served.reply.take().map_or(0, |r| r.len());
        }
    }

    pub(crate) fn keeps_replies(&self) -> bool {
        self.reply_bytes > 0
    }

    fn session(&mut self, addr: SocketAddr, header: &ItemHeader) -> Option<&mut Session> {
        self.conns.get_mut(&(addr, header.sender))?.sessions.get_mut(&header.session)
    }

    fn insert(&mut self, key: Key, uuid: Uint128) {
        let of_peer = (key.0, 0)..=(key.0, u64::MAX);
        if self.conns.range(of_peer.clone()).count() >= CONNS_PER_PEER_MAX {
            let oldest = self.conns.range(of_peer).min_by_key(|(_, c)| c.used).map(|(k, _)| *k);
            oldest.map(|k| self.close(k));
        } else if self.conns.len() >= self.conns_max {
            let oldest = self.conns.iter().min_by_key(|(_, c)| c.used).map(|(k, _)| *k);
            oldest.map(|k| self.close(k));
        }
        self.uses += 1;
        let sessions = BTreeMap::from([(0, Session::default())]);
        self.conns.insert(key, Conn { uuid, sessions, used: self.uses });
    }

    /// Drops the replies of the least recently used connection.
    fn forget_replies(&mut self) -> bool {
        let with_replies = |c: &&mut Conn| c.sessions.values().any(|s| s.reply_bytes() > 0);
        let conn = self.conns.values_mut().filter(with_replies).min_by_key(|c| c.used);
        let Some(conn) = conn else { return false };
        for session in conn.sessions.values_mut() {
            self.reply_bytes -= session.reply_bytes();
            session.served.iter_mut().for_each(|s| s.reply = None);
        }
        true
    }
}

impl Session {
    /// Records that `xid` is being served; returns the number of bytes freed by dropping an older reply.
    fn begin_serving(&mut self, at: Instant, xid: u64, digest: u64) -> usize {
        let full = self.served.len() >= REPLIES_MAX;
        let old = if full { self.served.pop_front() } else { None };
        self.served.push_back(Served { xid, digest, at, answered: false, reply: None });
        old.and_then(|s| s.reply).map_or(0, |r| r.len())
    }

    fn reply_bytes(&self) -> usize {
        self.served.iter().filter_map(|s| s.reply.as_ref()).map(Bytes::len).sum()
    }
}

/// Returns a digest of a request for detecting the reuse of an xid.
pub(crate) fn digest(fop: &Fop) -> u64 {
    match fop {
        Fop::LinkMsg(msg) => msg.seq.rotate_left(32) ^ msg.tag ^ msg.nr.rotate_left(62),
        Fop::EntrypointReq(req) => req.generation,
        fop => fop.opcode().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::fop::Fop;

    const NOW: Instant = Instant::from_micros(0);

    struct Peer {
        server: RpcServer,
        addr: SocketAddr,
        header: ItemHeader,
    }

    impl Peer {
        fn new() -> Self {
            let addr = SocketAddr::from(([127, 0, 0, 1], 2));
            let mut server = RpcServer::new(8, 1000);
            let uuid = Uint128 { hi: 1, lo: 2 };
            let sender = server.open(addr, uuid, &mut IdGenerator(100));
            server.open_session((addr, sender), 7);
            let cookie = Uint128::default();
            let header = ItemHeader::unsequenced(207, uuid, sender, cookie);
            Self { server, addr, header: ItemHeader { session: 7, ..header } }
        }

        fn admit(&mut self, xid: u64, xid_min: u64) -> Admission {
            self.header = ItemHeader { xid, xid_min, ..self.header };
            self.server.admit(NOW, self.addr, &self.header, xid)
        }
    }

    #[test]
    fn a_doubled_opening_opens_one_connection() {
        let mut peer = Peer::new();
        let sender = peer.header.sender;
        assert_eq!(peer.server.open(peer.addr, peer.header.uuid, &mut IdGenerator(500)), sender);
        assert_eq!(peer.server.len(), 1);
        let other = Uint128 { hi: 1, lo: 3 };
        assert_ne!(peer.server.open(peer.addr, other, &mut IdGenerator(500)), sender);
    }

    #[test]
    fn requests_are_served_once_and_in_order() {
        let mut peer = Peer::new();
        assert_eq!(peer.admit(1, 1), Admission::Serve);
        assert_eq!(peer.admit(1, 1), Admission::Drop, "being served");
        let reply = Bytes::from_static(b"reply");
        peer.server.keep_reply(NOW, peer.addr, &peer.header.clone(), &reply);
        assert_eq!(peer.admit(1, 1), Admission::Resend(reply));
        assert_eq!(peer.admit(3, 1), Admission::Early);
        let item = Item { header: peer.header, fop: Fop::ConnEstablish };
        peer.server.buffer(peer.addr, item.clone());
        assert_eq!(peer.server.take_buffered(peer.addr, &peer.header), None);
        assert_eq!(peer.admit(2, 1), Admission::Serve);
        assert_eq!(peer.server.take_buffered(peer.addr, &peer.header), Some(item));
        assert_eq!(peer.admit(3, 1), Admission::Serve);
        assert_eq!(peer.admit(9, 9), Admission::Serve, "the ones between were given up");
        assert_eq!(peer.admit(5, 5), Admission::Drop);
    }

    #[test]
    fn a_lost_request_may_come_again() {
        let mut peer = Peer::new();
        assert_eq!(peer.admit(1, 1), Admission::Serve);
        peer.server.rollback(peer.addr, &peer.header.clone());
        assert_eq!(peer.admit(1, 1), Admission::Serve);
    }

    #[test]
    fn another_request_with_the_same_xid_is_found_out() {
        let mut peer = Peer::new();
        assert_eq!(peer.admit(1, 1), Admission::Serve);
        assert_eq!(peer.server.admit(NOW, peer.addr, &peer.header, 99), Admission::Changed);
    }

    #[test]
    fn an_adopted_session_goes_on_where_it_was() {
        let mut peer = Peer::new();
        peer.header.session = 8;
        assert_eq!(peer.admit(70, 60), Admission::Unknown);
        peer.server.accept_unknown(peer.addr, &peer.header.clone());
        assert_eq!(peer.admit(70, 60), Admission::Serve);
    }

    #[test]
    fn f16_a_request_whose_answer_is_forgotten_is_served_once_more_and_not_each_time_it_comes() {
        let mut peer = Peer::new();
        assert_eq!(peer.admit(1, 1), Admission::Serve);
        peer.server.keep_reply(NOW, peer.addr, &peer.header.clone(), &Bytes::from_static(b"old"));
        let (header, late) = (peer.header, NOW.after(KEEP));
        let mut again = |now| peer.server.admit(now, peer.addr, &header, 1);
        assert_eq!(again(late), Admission::Forgotten);
        assert_eq!(again(late), Admission::Drop, "being served");
        assert_eq!(again(late.after(KEEP)), Admission::Drop, "however long that takes");
        let (reply, now) = (Bytes::from_static(b"new"), late.after(KEEP));
        peer.server.keep_reply(now, peer.addr, &header, &reply);
        assert_eq!(peer.server.admit(now, peer.addr, &header, 1), Admission::Resend(reply));
    }

    #[test]
    fn replies_are_bounded_in_time_and_bytes() {
        let mut peer = Peer::new();
        for xid in 1..=5 {
            assert_eq!(peer.admit(xid, 1), Admission::Serve);
            let reply = Bytes::from(alloc::vec![0; 300]);
            peer.server.keep_reply(NOW, peer.addr, &peer.header.clone(), &reply);
            assert!(peer.server.reply_bytes <= 1000);
        }
        assert!(peer.server.keeps_replies());
        peer.server.sweep(NOW.after(KEEP));
        assert!(!peer.server.keeps_replies());
        assert_eq!(peer.admit(5, 1), Admission::Drop);
        let header = peer.header;
        let late = peer.server.admit(NOW.after(KEEP), peer.addr, &header, 5);
        assert_eq!(late, Admission::Forgotten, "who still asks has not had the answer");
    }
}
