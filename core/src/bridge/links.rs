//! Links: their peers, the messages in flight and the pending notes.
//!
//! Every link is sent every change. While a link is down or has several messages in flight, its pending notes
//! are kept as the latest note per object. So the memory for a slow or dead peer is bounded by the number of
//! objects in the configuration.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, MsgId, SendId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::cluster::Changes;
use crate::ha::fact::Fact;
use crate::ha::message::Body;
use crate::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};

#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<LinkId, Link>,
    /// Some link may need a snapshot.
    snapshot_wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) process: Fid,
    pub(crate) up: bool,
    /// The time of the link's last change between up and down.
    pub(crate) since: Instant,
    /// The number of messages in flight.
    pub(crate) in_flight: usize,
    pending: BTreeMap<Fid, ObjectState>,
    /// The objects with an ended last life. The link is notified of it before their current states.
    ended: BTreeSet<Fid>,
    /// The replies in flight and their requests.
    answers: BTreeMap<SendId, MsgId>,
    /// The link was away, and its process will not request the states itself: it is sent all states once they
    /// are known.
    needs_snapshot: bool,
}

impl Link {
    /// Returns the number of pending notes.
    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len() + self.ended.len()
    }
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn on_up(&mut self, cx: &Cx<'_>, link: LinkId, process: Fid, wants_all: bool) {
        let new = Link {
            process,
            up: true,
            since: cx.now().mono,
            in_flight: 0,
            pending: BTreeMap::new(),
            ended: BTreeSet::new(),
            answers: BTreeMap::new(),
            needs_snapshot: wants_all,
        };
        self.links.insert(link, new);
        self.snapshot_wanted |= wants_all;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Returns whether a process's link is up; `None` if the process has no link.
    pub(crate) fn is_link_up(&self, process: Fid) -> Option<bool> {
        let own = self.links.values().filter(|link| link.process == process);
        own.map(|link| link.up).reduce(|a, b| a || b)
    }

    pub(crate) fn process(&self, link: LinkId) -> Option<Fid> {
        self.links.get(&link).map(|link| link.process)
    }

    pub(crate) fn on_down(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            if core::mem::replace(&mut link.up, false) {
                link.since = cx.now().mono;
            }
            let grace = cx.config().time.link_grace;
            cx.arm(Timer::LinkGrace(id), grace);
        }
    }

    pub(crate) fn on_back(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        cx.disarm(Timer::LinkGrace(id));
        if let Some(link) = self.links.get_mut(&id) {
            if !core::mem::replace(&mut link.up, true) {
                link.since = cx.now().mono;
            }
            self.snapshot_wanted |= link.needs_snapshot;
            self.flush(cx, id);
        }
    }

    pub(crate) fn on_closed(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        cx.disarm(Timer::LinkGrace(id));
        self.drop_pending(cx, id);
        self.links.remove(&id);
    }

    /// Drops the pending notes of a link after it was down for too long; they count as not delivered. If the
    /// link comes back, it is sent all states.
    pub(crate) fn on_grace_over(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        self.drop_pending(cx, id);
        if let Some(link) = self.links.get_mut(&id) {
            link.needs_snapshot = true;
        }
    }

    fn drop_pending(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (process, notes) = (link.process, link.pending_count());
        link.pending.clear();
        link.ended.clear();
        if notes > 0 {
            cx.fact(Fact::OwedDropped { link: id, process, notes: count(notes) });
        }
    }

    /// Handles the outcome of a sent message.
    pub(crate) fn on_outcome(
        &mut self,
        cx: &mut Cx<'_>,
        id: LinkId,
        send: SendId,
        delivered: bool,
    ) {
        cx.fact(if delivered {
            Fact::Delivered { link: id, send }
        } else {
            Fact::Undelivered { link: id, send }
        });
        if let Some(link) = self.links.get_mut(&id) {
            link.in_flight = link.in_flight.saturating_sub(1);
            if let Some(question) = link.answers.remove(&send).filter(|_| delivered) {
                cx.ack(id, question);
            }
            self.flush(cx, id);
        }
    }

    /// Sends a reply to a message of one link.
    ///
    /// The message is acknowledged when the reply is delivered. A process that lost the reply would wait for
    /// it for ever, since it repeats only unacknowledged messages.
    pub(crate) fn answer(&mut self, cx: &mut Cx<'_>, id: LinkId, question: MsgId, body: Body) {
        if let Some(link) = self.links.get_mut(&id) {
            link.in_flight += 1;
            link.answers.insert(cx.send([id].into(), body), question);
        }
    }

    /// Sends changes to all links.
    ///
    /// Returns the links that are up and are notified of the end of a life, with the process and the message.
    /// The message is `None` if the note is pending until the link accepts more.
    pub(crate) fn broadcast(
        &mut self,
        cx: &mut Cx<'_>,
        news: &Changes,
    ) -> Vec<(Fid, LinkId, Option<SendId>)> {
        let mut sent = Vec::new();
        for (process, notes) in &news.ends {
            let to = self.send_all(cx, notes, Some(*process));
            sent.extend(to.into_iter().map(|(link, send)| (*process, link, send)));
        }
        self.send_all(cx, &news.notes, None);
        sent
    }

    /// Sends notes to all links except those of one process. A process that is notified of its own failure
    /// would close its own sessions.
    fn send_all(
        &mut self,
        cx: &mut Cx<'_>,
        notes: &[Note],
        ended: Option<Fid>,
    ) -> Vec<(LinkId, Option<SendId>)> {
        let mut sent = Vec::new();
        for notes in notes.chunks(NOTES_MAX) {
            let max = cx.config().limit.sends_per_link;
            let mut to = Vec::new();
            for (id, link) in &mut self.links {
                if link.needs_snapshot || ended == Some(link.process) {
                    continue;
                }
                if link.up && link.pending_count() == 0 && link.in_flight < max {
                    link.in_flight += 1;
                    to.push(*id);
                } else if ended.is_some() {
                    for note in notes {
                        link.pending.remove(&note.fid);
                        link.ended.insert(note.fid);
                    }
                    if link.up {
                        sent.push((*id, None));
                    }
                } else if !mutant(Mutant::OwedForgotten) {
                    link.pending.extend(notes.iter().map(|note| (note.fid, note.state)));
                }
            }
            if !to.is_empty() {
                let send = send_notes(cx, to.clone(), notes.into());
                sent.extend(to.into_iter().map(|link| (link, Some(send))));
            }
        }
        sent
    }

    /// Returns whether the notification that the last life of `process` has ended is pending for a link.
    pub(crate) fn has_pending_end(&self, link: LinkId, process: Fid) -> bool {
        self.links.get(&link).is_some_and(|link| link.ended.contains(&process))
    }

    /// Sends each idle link a note already known to its process.
    ///
    /// A process notices that hax is gone when it cannot confirm a message from hax (`ha/link.c`). Only then
    /// does it repeat its unacknowledged messages. A process without further messages, such as one that is
    /// stopping, would wait for ever otherwise.
    pub(crate) fn nudge(&mut self, cx: &mut Cx<'_>, known: Note) {
        let mut to = Vec::new();
        for (id, link) in &mut self.links {
            if link.up && link.in_flight == 0 {
                link.in_flight += 1;
                to.push(*id);
            }
        }
        if !to.is_empty() {
            send_notes(cx, to, [known].into());
        }
    }

    /// Sends all states to the links in need of a snapshot.
    pub(crate) fn catch_up(&mut self, cx: &mut Cx<'_>, all: impl Fn() -> Vec<Note>) {
        if !core::mem::take(&mut self.snapshot_wanted) {
            return;
        }
        let wanting = |(_, link): &(&LinkId, &Link)| link.up && link.needs_snapshot;
        let ids: Vec<LinkId> = self.links.iter().filter(wanting).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(link) = self.links.get_mut(&id) {
                link.needs_snapshot = false;
                link.pending.extend(all().into_iter().map(|note| (note.fid, note.state)));
            }
            self.flush(cx, id);
        }
    }

    /// Sends the pending notes of a link, within the limit of messages in flight.
    fn flush(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let max = cx.config().limit.sends_per_link;
        let Some(link) = self.links.get_mut(&id) else { return };
        while link.up && link.pending_count() > 0 && link.in_flight < max {
            let mut notes = Vec::new();
            while notes.len() < NOTES_MAX
                && let Some(fid) = link.ended.pop_first()
            {
                notes.push(Note { fid, state: ObjectState::Failed });
            }
            if !notes.is_empty() {
                link.in_flight += 1;
                send_notes(cx, [id].into(), notes);
                continue;
            }
            while notes.len() < NOTES_MAX
                && let Some((fid, state)) = link.pending.pop_first()
            {
                notes.push(Note { fid, state });
            }
            link.in_flight += 1;
            send_notes(cx, [id].into(), notes);
        }
    }
}

fn send_notes(cx: &mut Cx<'_>, to: Vec<LinkId>, notes: Vec<Note>) -> SendId {
    let (links, n) = (count(to.len()), count(notes.len()));
    // A receiver ignores a state that it knows already.
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 1, notes };
    let send = cx.send(to, Body::Nvec(Box::new(nvec)));
    cx.fact(Fact::NotesSent { send, notes: n, links });
    send
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
