//! Links that outlive hax: the state for the next life, and the links of the last one.
//!
//! A process does not notice that hax has begun a new life if its link goes on with the same ids, tags and
//! cookie (wire.md 12): its rpc sessions are accepted as they are, and a new connection is opened to it. So a
//! process that has nothing to say has its link at once, instead of when it next says something.
//!
//! What must not be contradicted is kept before it is sent: a tag belongs to its content for ever, and what
//! was acknowledged is never expected again. A process whose positions contradict the kept state has its link
//! ended; it begins anew as without any kept state.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::Instant;
use crate::ha::fact::Fact;
use crate::ha::motr::{Event, Purpose};
use crate::ha::note::Note;
use crate::state::Command;
use crate::wire::conns::Out;
use crate::wire::endpoint::Endpoint;
use crate::wire::endpoint::io::{Output, Timer};
use crate::wire::endpoint::kept::{self, KeptLink, Open, Unfit};
use crate::wire::endpoint::peer::{Away, Peer};
use crate::wire::hand::Hand;
use crate::wire::link::{Link, Origin};
use crate::wire::queue::{InQueue, OutQueue, Sent};

/// The maximum number of slots. It only guards against a host that counts wrong.
const SLOTS_MAX: u32 = 1 << 20;
/// The maximum number of refusals of a link that was taken over. A process refuses a link that it does not
/// know, and also one that it is about to know.
const REFUSALS_MAX: u8 = 10;
/// The period with which a process that has sent one message more than was kept is asked for its positions.
const DOUBT: Duration = Duration::from_secs(1);
/// The number of answers in a row, one each period, without that message. It is repeated each second for ten
/// seconds (`ha.c:HA_NR_SENT_MAX`), and after that as soon as the process has its link again.
const DOUBTS_MAX: u8 = 15;

impl Endpoint {
    /// Appends the commands for the states that have changed since the last call. They have to be carried out
    /// before the outputs of [`handle`](Self::handle) since then.
    pub fn keep(&mut self, out: &mut Vec<Command>) {
        let Self { slots, links, .. } = self;
        if let Some(slots) = slots {
            slots.commands(|id| links.get(id), out);
        }
    }

    /// Marks a link whose state has changed.
    pub(crate) fn mark(&mut self, id: LinkId) {
        let Some(slots) = &mut self.slots else { return };
        let Some(peer) = self.links.get_mut(id) else { return };
        if let Some(slot) = peer.slot
            && (core::mem::take(&mut peer.link.changed) || slots.is_unkept(slot))
        {
            slots.mark(slot);
        }
    }

    /// Gives a new link its slot.
    pub(crate) fn add_slot(&mut self, id: LinkId, peer: &mut Peer) {
        if let Some(slots) = &mut self.slots {
            peer.slot = Some(slots.take_free(id));
            peer.link.hand = Some(Hand::default());
        }
    }

    /// Records what is owed to a link.
    pub(crate) fn owe(&mut self, id: LinkId, notes: Box<[Note]>) {
        if let Some(peer) = self.links.get_mut(id) {
            peer.owed = notes.into();
            peer.link.changed = true;
            self.mark(id);
        }
    }

    /// Takes over the links of the last life.
    pub(crate) fn take_over(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(slots) = &mut self.slots else { return };
        let mut lost: BTreeMap<Unfit, u32> = BTreeMap::new();
        let mut kept: BTreeMap<Fid, (u32, KeptLink)> = BTreeMap::new();
        for (slot, value) in core::mem::take(&mut slots.found) {
            // What is not taken over is removed.
            slots.mark(slot);
            let value = if slot < SLOTS_MAX { &value[..] } else { &[] };
            match kept::decode(&slots.owner, value) {
                Ok(link) => {
                    let newer = |(_, other): &(u32, KeptLink)| other.ids.local < link.ids.local;
                    if kept.get(&link.process).is_none_or(newer) {
                        kept.insert(link.process, (slot, link));
                    }
                }
                Err(why) => *lost.entry(why).or_default() += 1,
            }
        }
        for (slot, link) in kept.into_values() {
            if self.links.len() < self.config.links_max {
                self.adopt(now, slot, link, out);
            } else {
                *lost.entry(Unfit("there are too many links")).or_default() += 1;
            }
        }
        for (why, links) in lost {
            out.fact(Fact::LinksLost { links, why: why.0 });
        }
    }

    fn adopt(&mut self, now: Instant, slot: u32, kept: KeptLink, out: &mut Vec<Output>) {
        let id = self.next_link.mint();
        let (addr, process) = (kept.addr, kept.process);
        out.push(Output::Motr(Event::LinkKept {
            link: id,
            process,
            owed: kept.owed.clone().into(),
        }));
        out.fact(Fact::LinkKept { link: id, process });
        let client = self.rpc.start(now, addr, out);
        self.rpc.conns.link(now, addr);
        let (mut hand, mut held) = (Hand::default(), Vec::new());
        let (mut open, mut answered) = (BTreeMap::new(), BTreeMap::new());
        for (tag, message) in kept.open {
            let msg = self.next_msg.mint();
            open.insert(msg, tag);
            match message {
                Open::AnsweredBy(answer) => drop(answered.insert(answer, msg)),
                Open::Message(message) => {
                    hand.put(tag, &message);
                    held.push((msg, message));
                }
            }
        }
        let each_tag = (kept.out.first..).step_by(2);
        let sent = each_tag.zip(kept.sent).map(|(tag, sent)| {
            let purpose = answered.get(&tag).map_or(sent.purpose, |msg| Purpose::Answer(*msg));
            Sent { send: None, purpose, body: sent.body }
        });
        let mut sent: VecDeque<Sent> = sent.collect();
        let mut tags = kept.out;
        if mutant(Mutant::TagUsedAgain) {
            tags.reached = tags.next;
            sent.truncate(usize::try_from((tags.next - tags.first) / 2).unwrap_or(0));
        }
        let sent = OutQueue::kept(tags, sent);
        let (delivered, assign) = kept.received;
        let received = InQueue::kept(delivered, assign, open);
        let peer = Peer {
            link: Link::new(kept.ids, sent, received, client).of_last_life(hand, held),
            process,
            addr,
            // All requests of this life are later.
            entry: EntryId(0),
            cookie: if mutant(Mutant::CookieForgotten) { self.cookie } else { kept.cookie },
            resumed: kept.resumed,
            away: Some(Away::Untried),
            ending: false,
            used: 0,
            slot: Some(slot),
            owed: kept.owed,
            refusals: 0,
            doubts: 0,
        };
        if let Some(slots) = &mut self.slots {
            slots.take(slot, id);
        }
        self.links.insert(id, peer);
    }

    /// Works the messages of the last life again, once it is known that nothing came after them.
    pub(crate) fn work_again(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let Some(peer) = self.links.get_mut(id) else { return };
        if !peer.link.is_doubtful() {
            self.timers.disarm(Timer::Doubt(id));
        } else if !self.timers.is_armed(Timer::Doubt(id)) {
            self.timers.arm(Timer::Doubt(id), now.after(DOUBT));
        }
        for (msg, message) in peer.link.take_held() {
            if !mutant(Mutant::NotWorkedAgain) {
                out.push(Output::Motr(Event::Received { link: id, msg, message }));
            }
        }
    }

    /// Ends a link whose process has sent one message more than was kept, and does not send it again.
    pub(crate) fn end_if_doubtful(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) {
        let peer = self.links.get_mut(id).filter(|peer| peer.link.is_doubtful());
        let Some(peer) = peer else { return };
        // A process that cannot answer cannot send it again either.
        let answered = core::mem::take(&mut peer.link.answered);
        peer.doubts = if answered { peer.doubts + 1 } else { 0 };
        if peer.doubts >= DOUBTS_MAX {
            return self.contradict(now, id, "the process has sent more than was kept", out);
        }
        peer.link.asks = true;
        self.timers.arm(Timer::Doubt(id), now.after(DOUBT));
        self.pump(now, id, out);
    }

    /// Ends a link whose kept state was not the last one.
    pub(crate) fn contradict(
        &mut self,
        now: Instant,
        id: LinkId,
        why: &'static str,
        out: &mut Vec<Output>,
    ) {
        if let Some(peer) = self.links.get(id) {
            out.fact(Fact::LinkContradicted { link: id, process: peer.process, why });
            self.end(now, id, false, out);
        }
    }

    /// Handles a refusal of a 207. A link that was taken over and is refused again and again is ended.
    /// Returns whether it was ended.
    pub(crate) fn on_refused(&mut self, now: Instant, id: LinkId, out: &mut Vec<Output>) -> bool {
        let Some(peer) = self.links.get_mut(id) else { return false };
        if peer.link.origin != Origin::Unproved {
            return false;
        }
        peer.refusals += 1;
        let ends = peer.refusals >= REFUSALS_MAX;
        if ends {
            self.contradict(now, id, "the process does not know it", out);
        }
        ends
    }
}
