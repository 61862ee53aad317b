//! Links: their peers, the messages in flight and the pending notes.
//!
//! Every link is sent every change. While a link is down or has several messages in flight, its pending notes
//! are kept as the latest note per object. So the memory for a slow or dead peer is bounded by the number of
//! objects in the configuration.
//!
//! A link that was taken over from the last life of hax is *untried* until its process has answered or is
//! found to be unreachable: it proves neither life nor death. It is sent all states, and before them the ends
//! of lives that the last life owed to it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, MsgId, SendId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::cluster::{Changes, Cluster};
use crate::ha::fact::Fact;
use crate::ha::message::{Body, Message};
use crate::ha::motr::{self, Purpose};
use crate::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};

#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<LinkId, Link>,
    /// The links that may need a snapshot now.
    returned: BTreeSet<LinkId>,
    snapshot: Snapshot,
    /// The links whose owed news may have changed.
    owes: BTreeSet<LinkId>,
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
    /// The link was taken over from the last life of hax.
    pub(crate) kept: bool,
    /// The link was taken over, and nothing is known of its process.
    untried: bool,
    /// The ends of lives that the link is owed although it needs a snapshot: its process believes that it
    /// misses nothing.
    owed_ends: Option<BTreeSet<Fid>>,
    /// The owed news as reported to the wire.
    reported: Vec<Note>,
}

impl Link {
    /// Returns the number of pending notes.
    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len() + self.ended.len()
    }

    /// Returns the pending notes that no snapshot replaces.
    fn news(&self) -> Vec<Note> {
        let ends = self.ended.iter().map(|fid| Note { fid: *fid, state: ObjectState::Failed });
        let others = self.pending.iter().map(|(fid, state)| Note { fid: *fid, state: *state });
        ends.chain(others.filter(is_news)).collect()
    }
}

impl Link {
    fn new(now: Instant, process: Fid, needs_snapshot: bool) -> Self {
        Self {
            process,
            up: true,
            since: now,
            in_flight: 0,
            pending: BTreeMap::new(),
            ended: BTreeSet::new(),
            answers: BTreeMap::new(),
            needs_snapshot,
            kept: false,
            untried: false,
            owed_ends: None,
            reported: Vec::new(),
        }
    }

    /// Keeps the end of a life for later.
    fn owe_ends(&mut self, notes: &[Note]) {
        for note in notes {
            self.pending.remove(&note.fid);
            self.ended.insert(note.fid);
            if let Some(ends) = &mut self.owed_ends {
                ends.insert(note.fid);
            }
        }
    }

    /// Makes all states pending. A process that is announced as failed is not announced as transient after
    /// that, nor as failed again.
    fn owe_all(&mut self, all: &[Note]) {
        let ends = self.owed_ends.take().unwrap_or_default();
        let down = [ObjectState::Transient, ObjectState::Failed];
        let due = |note: &&Note| !down.contains(&note.state) || !ends.contains(&note.fid);
        let due = all.iter().filter(due).map(|note| (note.fid, note.state));
        // A map is built faster than it is extended.
        self.pending.append(&mut due.collect());
    }

    /// Returns whether nothing is owed to the link but all states, and they can be sent in this many messages.
    fn takes_all(&self, messages: usize, sends_max: usize) -> bool {
        let owes_ends = self.owed_ends.as_ref().is_some_and(|ends| !ends.is_empty());
        self.pending_count() == 0 && !owes_ends && self.in_flight + messages <= sends_max
    }

    /// Keeps what the snapshot will not contain; returns whether there is any.
    fn owe_news(&mut self, notes: &[Note], ends: bool) -> bool {
        if ends {
            self.owe_ends(notes);
        } else {
            let others = notes.iter().filter(|note| is_news(note));
            self.pending.extend(others.map(|note| (note.fid, note.state)));
        }
        ends || notes.iter().any(is_news)
    }
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn on_up(&mut self, cx: &Cx<'_>, link: LinkId, process: Fid, wants_all: bool) {
        self.links.insert(link, Link::new(cx.now().mono, process, wants_all));
        if wants_all {
            self.returned.insert(link);
        }
    }

    /// Adds a link that was taken over.
    pub(crate) fn on_kept(&mut self, cx: &Cx<'_>, id: LinkId, process: Fid, owed: &[Note]) {
        let mut link = Link::new(cx.now().mono, process, true);
        (link.up, link.kept, link.untried) = (false, true, true);
        link.owed_ends = Some(BTreeSet::new());
        for note in owed {
            if is_news(note) {
                link.pending.insert(note.fid, note.state);
            } else {
                link.owe_ends(&[*note]);
            }
        }
        link.reported = owed.to_vec();
        self.links.insert(id, link);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// Returns whether a process's link is up; `None` if the process has no link, or an untried one.
    pub(crate) fn is_link_up(&self, process: Fid) -> Option<bool> {
        let own = self.links.values().filter(|link| link.process == process && !link.untried);
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
            link.untried = false;
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
            link.untried = false;
            if link.needs_snapshot {
                self.returned.insert(id);
            }
            self.flush(cx, id);
        }
    }

    pub(crate) fn on_closed(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        cx.disarm(Timer::LinkGrace(id));
        self.drop_pending(cx, id);
        self.links.remove(&id);
        self.owes.remove(&id);
    }

    /// Drops the pending notes of a link after it was down for too long; they count as not delivered. If the
    /// link comes back, it is sent all states.
    pub(crate) fn on_grace_over(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        self.drop_pending(cx, id);
        if let Some(link) = self.links.get_mut(&id) {
            link.needs_snapshot = true;
            link.owed_ends = None;
        }
    }

    fn drop_pending(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (process, notes) = (link.process, link.pending_count());
        link.pending.clear();
        link.ended.clear();
        if !link.reported.is_empty() {
            self.owes.insert(id);
        }
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
            let send = cx.send([id].into(), body, Purpose::Answer(question));
            link.answers.insert(send, question);
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
                if ended == Some(link.process) || link.needs_snapshot && link.owed_ends.is_none() {
                    continue;
                }
                if link.needs_snapshot {
                    if link.owe_news(notes, ended.is_some()) {
                        self.owes.insert(*id);
                    }
                } else if link.up && link.pending_count() == 0 && link.in_flight < max {
                    link.in_flight += 1;
                    to.push(*id);
                } else if ended.is_some() {
                    link.owe_ends(notes);
                    self.owes.insert(*id);
                    if link.up {
                        sent.push((*id, None));
                    }
                } else if !mutant(Mutant::OwedForgotten) {
                    link.pending.extend(notes.iter().map(|note| (note.fid, note.state)));
                    if notes.iter().any(is_news) {
                        self.owes.insert(*id);
                    }
                }
            }
            if !to.is_empty() {
                let send = send_notes(cx, to.clone(), notes.into(), ended.is_some());
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
            send_notes(cx, to, [known].into(), false);
        }
    }

    /// Sends all states to the links in need of a snapshot.
    pub(crate) fn catch_up(&mut self, cx: &mut Cx<'_>, cluster: &mut Cluster) {
        let sends_max = cx.config().limit.sends_per_link;
        for id in core::mem::take(&mut self.returned) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            if !link.up || !core::mem::take(&mut link.needs_snapshot) {
                continue;
            }
            self.snapshot.update(cx, cluster.snapshot());
            if !link.takes_all(self.snapshot.messages.len(), sends_max) {
                link.owe_all(&self.snapshot.notes);
                self.flush(cx, id);
                continue;
            }
            link.owed_ends = None;
            link.in_flight += self.snapshot.messages.len();
            if !link.reported.is_empty() {
                self.owes.insert(id);
            }
            self.snapshot.send(cx, id);
        }
    }

    /// Reports to the wire what is owed to the links beyond all states.
    pub(crate) fn report_owed(&mut self, cx: &mut Cx<'_>) {
        for id in core::mem::take(&mut self.owes) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let news = link.news();
            if news != link.reported {
                cx.motr(motr::Command::Owe { link: id, notes: news.clone().into() });
                link.reported = news;
            }
        }
    }

    /// Sends the pending notes of a link, within the limit of messages in flight.
    fn flush(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let max = cx.config().limit.sends_per_link;
        let Some(link) = self.links.get_mut(&id) else { return };
        while link.up && link.pending_count() > 0 && link.in_flight < max {
            if !link.reported.is_empty() || !link.ended.is_empty() {
                self.owes.insert(id);
            }
            let mut notes = Vec::new();
            while notes.len() < NOTES_MAX
                && let Some(fid) = link.ended.pop_first()
            {
                notes.push(Note { fid, state: ObjectState::Failed });
            }
            if !notes.is_empty() {
                link.in_flight += 1;
                send_notes(cx, [id].into(), notes, true);
                continue;
            }
            while notes.len() < NOTES_MAX
                && let Some((fid, state)) = link.pending.pop_first()
            {
                notes.push(Note { fid, state });
            }
            link.in_flight += 1;
            send_notes(cx, [id].into(), notes, false);
        }
    }
}

/// All states as messages. Links that return while the states are unchanged share them.
#[derive(Debug, Default)]
struct Snapshot {
    notes: Arc<[Note]>,
    messages: Vec<Arc<Message>>,
}

impl Snapshot {
    fn update(&mut self, cx: &Cx<'_>, notes: Arc<[Note]>) {
        if Arc::ptr_eq(&self.notes, &notes) {
            return;
        }
        let message = |notes: &[Note]| Arc::new(Message::new(cx.now().wall, states(notes.into())));
        self.messages = notes.chunks(NOTES_MAX).map(message).collect();
        self.notes = notes;
    }

    fn send(&self, cx: &mut Cx<'_>, to: LinkId) {
        for (message, notes) in self.messages.iter().zip(self.notes.chunks(NOTES_MAX)) {
            let send = cx.send_message([to].into(), Arc::clone(message), Purpose::States);
            cx.fact(Fact::NotesSent { send, notes: count(notes.len()), links: 1 });
        }
    }
}

/// Sends notes. `ends` is whether they are the end of a life.
fn send_notes(cx: &mut Cx<'_>, to: Vec<LinkId>, notes: Vec<Note>, ends: bool) -> SendId {
    let (links, n) = (count(to.len()), count(notes.len()));
    let news = ends || notes.iter().any(is_news);
    let purpose = if news { Purpose::News } else { Purpose::States };
    let send = cx.send(to, states(notes), purpose);
    cx.fact(Fact::NotesSent { send, notes: n, links });
    send
}

fn states(notes: Vec<Note>) -> Body {
    // A receiver ignores a state that it knows already.
    Body::Nvec(Box::new(Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 1, notes }))
}

/// Returns whether a note is about an object without a state of its own: no snapshot contains it.
fn is_news(note: &Note) -> bool {
    !Cluster::is_stateful(note.fid)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
