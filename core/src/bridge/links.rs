//! Links: who is there, what was sent to whom, and what each is owed.
//!
//! Every link is told every change. Beyond a few messages in flight, and while a link is down, what
//! it is owed is kept as the latest note per object, so a slow or dead peer costs no more than the
//! configuration has objects.

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
    /// A link that is up may want everything.
    snapshot_wanted: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) process: Fid,
    pub(crate) up: bool,
    /// When it came up or went down.
    pub(crate) since: Instant,
    /// Messages on their way.
    pub(crate) in_flight: usize,
    pending: BTreeMap<Fid, ObjectState>,
    /// Objects whose last life has ended, which it is told before what they are now.
    ended: BTreeSet<Fid>,
    /// Answers on their way and the questions that they answer.
    answers: BTreeMap<SendId, MsgId>,
    /// It was away and asks for nothing by itself: it is told everything once it is known.
    needs_snapshot: bool,
}

impl Link {
    /// How many notes it is owed.
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

    /// Whether a process is at the other end of a link; nothing if it never was.
    pub(crate) fn is_here(&self, process: Fid) -> Option<bool> {
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
            cx.arm(Timer::Grace(id), grace);
        }
    }

    pub(crate) fn on_back(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        cx.disarm(Timer::Grace(id));
        if let Some(link) = self.links.get_mut(&id) {
            if !core::mem::replace(&mut link.up, true) {
                link.since = cx.now().mono;
            }
            self.snapshot_wanted |= link.needs_snapshot;
            self.flush(cx, id);
        }
    }

    pub(crate) fn on_closed(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        cx.disarm(Timer::Grace(id));
        self.drop_pending(cx, id);
        self.links.remove(&id);
    }

    /// A link was down for too long: what it was owed counts as not delivered. If it comes back
    /// after all it is told everything.
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

    /// A sent message has its outcome.
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

    /// Answers a message of one link. It is acknowledged when its answer is delivered: a process
    /// that lost the answer would wait for it for ever, and asks again only what is not acknowledged.
    pub(crate) fn answer(&mut self, cx: &mut Cx<'_>, id: LinkId, question: MsgId, body: Body) {
        if let Some(link) = self.links.get_mut(&id) {
            link.in_flight += 1;
            link.answers.insert(cx.send([id].into(), body), question);
        }
    }

    /// Tells all links what is news. Returns which links that are up are told of the end of a life, by
    /// process, and in which message; nothing if that has to wait until the link takes more.
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

    /// Tells all links but those of one process; what it would be told of itself would make it
    /// close its own sessions.
    fn send_all(
        &mut self,
        cx: &mut Cx<'_>,
        notes: &[Note],
        but: Option<Fid>,
    ) -> Vec<(LinkId, Option<SendId>)> {
        let mut sent = Vec::new();
        for notes in notes.chunks(NOTES_MAX) {
            let max = cx.config().limit.sends_per_link;
            let mut to = Vec::new();
            for (id, link) in &mut self.links {
                if link.needs_snapshot || but == Some(link.process) {
                    continue;
                }
                if link.up && link.pending_count() == 0 && link.in_flight < max {
                    link.in_flight += 1;
                    to.push(*id);
                } else if but.is_some() {
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

    /// Whether a link has still to be told that the last life of `process` is over.
    pub(crate) fn has_pending_end(&self, link: LinkId, process: Fid) -> bool {
        self.links.get(&link).is_some_and(|link| link.ended.contains(&process))
    }

    /// Says to each link what it knows already. A process notices that we are gone when it cannot
    /// confirm what we said (`ha/link.c`), and only then says again what we did not acknowledge: one that
    /// has nothing else to say, as one that is stopping, would wait for that for ever.
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

    /// Tells everything to the links that want it.
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

    /// Sends what a link is owed, as far as it may have it.
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
    // A receiver passes over what it knows already.
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 1, notes };
    let send = cx.send(to, Body::Nvec(Box::new(nvec)));
    cx.fact(Fact::NotesSent { send, notes: n, links });
    send
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
