//! The end of links, and the end of the endpoint.

use alloc::vec::Vec;
use core::time::Duration;

use crate::base::id::LinkId;
use crate::base::time::Instant;
use crate::ha::fact::Fact;
use crate::ha::motr::Event;
use crate::wire::conns::Out;
use crate::wire::endpoint::Endpoint;
use crate::wire::endpoint::io::{Output, Stop, Timer};
use crate::wire::endpoint::peer::Away;

/// The time limit of a stop.
const STOP_FOR: Duration = Duration::from_secs(2);
/// The part of it for sending the links' pending messages.
const DRAIN_FOR: Duration = Duration::from_secs(1);
/// The maximum number of remembered ended links, for informing their processes.
const ENDED_MAX: usize = 4096;

impl Endpoint {
    /// Ends the link of a process considered dead by the bridge. If the process lives, its next message is
    /// refused, and its next request for an entrypoint makes it abort.
    pub(crate) fn disconnect(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get(id) else { return };
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(peer.link.ids);
        self.end(now, id, true, out);
    }

    /// Ends a link for good. If `polite`, a reachable peer is notified.
    pub(crate) fn end(&mut self, now: Instant, id: LinkId, polite: bool, out: &mut Vec<Output>) {
        let Some(mut peer) = self.links.remove(id) else { return };
        self.last_end = self.rpc.ids.0;
        let client = peer.link.client;
        if let (Some(slots), Some(slot)) = (&mut self.slots, peer.slot) {
            slots.release(slot);
        }
        self.rpc.conns.unlink(now, peer.addr);
        self.timers.disarm(Timer::Pause(id));
        self.timers.disarm(Timer::Probe(id));
        self.timers.disarm(Timer::Doubt(id));
        for send in peer.link.sent.give_up(true) {
            out.push(Output::Motr(Event::Undelivered { link: id, send }));
        }
        out.push(Output::Motr(Event::LinkClosed { link: id }));
        out.fact(Fact::LinkClosed { link: id, process: peer.process });
        if polite && peer.away.is_none() {
            self.closing.insert(client, peer.addr);
            self.rpc.close(now, client, out);
        } else {
            self.rpc.forget(client);
        }
    }

    /// Ends links to unconfigured processes, created before the configuration was known. A later link is not
    /// ended, since its process may just be in the course of being removed.
    pub(crate) fn end_strangers(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(known) = &self.configured else { return };
        let strangers = self.links.iter().filter(|(_, peer)| !known.contains(&peer.process));
        let strangers: Vec<LinkId> = strangers.map(|(id, _)| id).collect();
        strangers.into_iter().for_each(|id| self.end(now, id, true, out));
    }

    pub(crate) fn begin_stop(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.stop != Stop::No {
            return;
        }
        self.stop = Stop::Links;
        self.entries.clear();
        self.rpc.server.closed = true;
        self.timers.arm(Timer::Exit, now.after(STOP_FOR));
        if self.slots.as_ref().is_some_and(|slots| !slots.ends_links) {
            return self.leave_links(out);
        }
        self.timers.arm(Timer::LinkDrain, now.after(DRAIN_FOR));
        for id in self.links.ids() {
            let Some(peer) = self.links.get_mut(id) else { continue };
            if peer.away.is_some_and(|a| matches!(a, Away::Gone | Away::Silent)) {
                self.end(now, id, false, out);
                continue;
            }
            peer.ending = true;
            for send in peer.link.sent.give_up(false) {
                out.push(Output::Motr(Event::Undelivered { link: id, send }));
            }
            self.pump(now, id, out);
        }
    }

    /// Leaves the links to the next life, and closes the connections.
    fn leave_links(&mut self, out: &mut Vec<Output>) {
        for id in self.links.ids() {
            self.timers.disarm(Timer::Pause(id));
            self.timers.disarm(Timer::Probe(id));
            self.timers.disarm(Timer::Doubt(id));
            if let Some(peer) = self.links.get(id) {
                self.rpc.forget(peer.link.client);
            }
        }
        for client in core::mem::take(&mut self.closing).into_keys() {
            self.rpc.forget(client);
        }
        self.stop = Stop::Conns;
        self.rpc.conns.close_all(out);
    }

    /// Continues a stop when nothing delays it any more.
    pub(crate) fn check_stop(&mut self, out: &mut Vec<Output>) {
        if self.stop == Stop::Links && self.links.is_empty() && self.closing.is_empty() {
            self.stop = Stop::Conns;
            self.rpc.conns.close_all(out);
        }
        if self.stop == Stop::Conns && self.rpc.conns.is_quiet() {
            self.stop = Stop::Done;
        }
    }
}
