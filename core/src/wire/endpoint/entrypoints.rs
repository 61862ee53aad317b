//! Entrypoint requests: from the process to the bridge, and the reply with a link.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::time::Instant;
use crate::ha::entrypoint::{Entrypoint, EntrypointRequest};
use crate::ha::fact::Fact;
use crate::ha::motr::Event;
use crate::wire::codec::fop::{EntrypointReq, Fop};
use crate::wire::codec::params::{Cookie, LinkIds, Uint128};
use crate::wire::conns::Out;
use crate::wire::endpoint::Endpoint;
use crate::wire::endpoint::entry::{self, Entry, LinkDecision};
use crate::wire::endpoint::io::{Output, Stop};
use crate::wire::endpoint::peer::Peer;
use crate::wire::link::{Link, Origin};
use crate::wire::name::Name;
use crate::wire::rpc::event::RequestOrigin;

/// The maximum length of a reported version of Motr, in bytes.
const GIT_REV_MAX: usize = 64;

/// The link created by a reply, with its ids from our point of view.
struct NewLink {
    link: LinkId,
    entry: EntryId,
    decision: LinkDecision,
    cookie: Cookie,
    ids: LinkIds,
}

impl Endpoint {
    pub(crate) fn on_asked(
        &mut self,
        origin: RequestOrigin,
        req: Box<EntrypointReq>,
        out: &mut Vec<Output>,
    ) {
        let conn = origin.conn;
        if !entry::is_sound(&req) {
            return out.fact(Fact::BadItem { conn, why: "an entrypoint request with wrong tags" });
        }
        let process = req.process;
        let stranger = self.configured.as_ref().is_some_and(|known| !known.contains(&process));
        if stranger && self.config.known_only {
            let why = Fact::StrangerRefused { conn, peer: origin.addr.ip(), process };
            return self.rpc.conns.refuse(conn, why, out);
        }
        if self.stop != Stop::No {
            // The process repeats the request to the next run of this server.
            return self.rpc.drop_as_lost(&origin);
        }
        if self.entries.len() >= self.config.entries_max {
            self.rpc.drop_as_lost(&origin);
            return out.fact(Fact::EntriesFull { conn });
        }
        let entry = self.next_entry.mint();
        let git_rev = req.git_rev.get(..GIT_REV_MAX).unwrap_or(&req.git_rev);
        out.push(Output::Motr(Event::Asked(Box::new(EntrypointRequest {
            entry,
            process: req.process,
            endpoint: format!("{}", Name(origin.addr)).into(),
            pid: req.pid,
            first: req.first != 0,
            git_rev: String::from_utf8_lossy(git_rev).into(),
        }))));
        // A process opens a session for each request and sends the request right after that, so the session's
        // id dates the request. An earlier life's ids are higher than ours if the clock was turned back since.
        let opened_since =
            self.last_end < origin.header.session && origin.header.session <= self.rpc.ids.0;
        let old = self.known(&req).is_some() || !opened_since;
        self.entries.insert(entry, Entry { origin, req, maybe_outdated: old });
    }

    /// Returns whether a request may be answered however old it is: it describes no link, or a link that
    /// continues.
    pub(crate) fn may_be_old(&self, req: &EntrypointReq) -> bool {
        req.first != 0 || self.known(req).is_some()
    }

    /// Makes a process describe its link again. Its request was made in an earlier life, or on a session that
    /// was closed in favour of others, or was answered long ago and repeated since.
    pub(crate) fn ask_anew(
        &mut self,
        now: Instant,
        origin: &RequestOrigin,
        req: &EntrypointReq,
        out: &mut Vec<Output>,
    ) {
        let answer = entry::answer(req, LinkDecision::Again, req.cookie_expected, None);
        self.rpc.reply(now, origin, Fop::EntrypointRep(answer.into()), out);
    }

    /// Sends the bridge's reply, completed by the link's part.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        entry: EntryId,
        waiting: &Entry,
        reply: Result<Arc<Entrypoint>, Errno>,
        out: &mut Vec<Output>,
    ) {
        let Entry { origin, req, .. } = waiting;
        let entrypoint = reply.ok().filter(|e| entry::fits(e));
        let known = self.known(req);
        if req.first != 0 && self.is_outdated(entry, req.process) {
            // The requester is an earlier life of a process that has its link already.
            return out.fact(Fact::EntryOutdated { entry, process: req.process });
        }
        let (decision, cookie) = self.decide(entry, waiting, known);
        if let LinkDecision::New(_) | LinkDecision::Reconnect(_) = decision {
            self.make_room(now, req.process, out);
        }
        let answer = entry::answer(req, decision, cookie, entrypoint.as_deref());
        self.rpc.reply(now, origin, Fop::EntrypointRep(answer.into()), out);
        match (decision, known) {
            (LinkDecision::New(ids) | LinkDecision::Reconnect(ids), _) => {
                let link = self.next_link.mint();
                let reconnected = matches!(decision, LinkDecision::Reconnect(_));
                let process = req.process;
                out.push(Output::Motr(Event::LinkUp { link, entry, process, reconnected }));
                out.fact(Fact::LinkUp { link, process, reconnected });
                let new = NewLink { link, entry, decision, cookie, ids: ids.inverted() };
                self.add(now, waiting, new, out);
            }
            (LinkDecision::Reuse, Some(link)) => {
                out.push(Output::Motr(Event::LinkReused { link, entry }));
                self.on_alive(now, link, out);
                self.request_delivered(now, link, out);
            }
            _ => {}
        }
    }

    /// Returns whether a later request has created a link of the same process.
    fn is_outdated(&self, entry: EntryId, process: Fid) -> bool {
        let link = self.links.of_process(process).and_then(|id| self.links.get(id));
        link.is_some_and(|peer| peer.entry > entry)
    }

    fn decide(
        &mut self,
        entry: EntryId,
        waiting: &Entry,
        known: Option<LinkId>,
    ) -> (LinkDecision, Cookie) {
        let Entry { req, maybe_outdated: old, .. } = waiting;
        match known {
            _ if req.first != 0 => (LinkDecision::New(self.new_ids(req.generation)), self.cookie),
            Some(link) => {
                (LinkDecision::Reuse, self.links.get(link).map_or(self.cookie, |p| p.cookie))
            }
            None if self.ended.contains(&req.params.ids.inverted()) => {
                (LinkDecision::Ended, req.cookie_expected)
            }
            None if *old || self.is_outdated(entry, req.process) => {
                (LinkDecision::Again, req.cookie_expected)
            }
            None => (
                LinkDecision::Reconnect(self.new_ids(req.generation)),
                self.new_cookie(req.cookie_expected),
            ),
        }
    }

    /// Returns the link described by a request.
    ///
    /// A link that was just resumed is also known by its cookie, which no other link has. A process that gets
    /// QUERY asks again before it has switched to the new ids, and aborts if its messages have moved on when
    /// it gets `do_reconnect` a second time. The ids in its request may be those of any earlier link: it may
    /// have been about to switch from one to another when it made the request that resumed this link.
    ///
    /// A process that knows another cookie than the link of the last life has got it with a later link: the
    /// kept state is not the last one.
    fn known(&self, req: &EntrypointReq) -> Option<LinkId> {
        let ours = req.params.ids.inverted();
        let ids = [self.links.of_end(ours.local), self.links.of_process(req.process)];
        ids.into_iter().flatten().find(|id| {
            self.links.get(*id).is_some_and(|p| {
                let is_last = p.link.origin == Origin::Ours || p.cookie == req.cookie_expected;
                let taken_on = p.link.ids == ours && is_last;
                let not_yet = p.resumed && p.cookie == req.cookie_expected;
                p.process == req.process && (taken_on || not_yet)
            })
        })
    }

    /// Returns ids for a new link from the process's point of view.
    fn new_ids(&mut self, generation: u64) -> LinkIds {
        let hi = self.config.generation;
        let mut id = || Uint128 { hi, lo: self.rpc.ids.next() };
        let (local, remote) = (id(), id());
        let connection = Uint128 { hi: generation, lo: self.rpc.ids.next() };
        LinkIds { local, remote, connection }
    }

    /// Returns a cookie that no process knows.
    fn new_cookie(&mut self, expected: Cookie) -> Cookie {
        let mut cookie = self.cookie;
        while [self.cookie, expected].contains(&cookie) {
            cookie.0[4] = self.rpc.ids.next();
        }
        cookie
    }

    /// Ends the older link of the process, and another link if there are too many.
    fn make_room(&mut self, now: Instant, process: Fid, out: &mut Vec<Output>) {
        if let Some(link) = self.links.of_process(process) {
            // The process at its other end is dead or has forgotten it.
            self.end(now, link, false, out);
        }
        while self.links.len() >= self.config.links_max.max(1)
            && let Some(link) = self.links.least_needed()
            && let Some(process) = self.links.get(link).map(|peer| peer.process)
        {
            out.fact(Fact::LinkEvicted { link, process });
            self.end(now, link, true, out);
        }
    }

    fn add(&mut self, now: Instant, waiting: &Entry, new: NewLink, out: &mut Vec<Output>) {
        let NewLink { link: id, entry, decision, cookie, ids } = new;
        let (addr, process) = (waiting.origin.addr, waiting.req.process);
        let (sent, received) = entry::queues(&waiting.req, decision);
        let client = self.rpc.start(now, addr, out);
        self.rpc.conns.link(now, addr);
        let link = Link::new(ids, sent, received, client);
        let (used, away, ending) = (0, None, false);
        let resumed = matches!(decision, LinkDecision::Reconnect(_));
        let (slot, owed, refusals, doubts) = (None, Vec::new(), 0, 0);
        let mut peer = Peer {
            link,
            process,
            addr,
            entry,
            cookie,
            resumed,
            away,
            ending,
            used,
            slot,
            owed,
            refusals,
            doubts,
        };
        self.add_slot(id, &mut peer);
        self.links.insert(id, peer);
    }
}
