//! The receiving side of the broadcast queue: messages of old daemons and operators' tools to every hax
//! (15/BQ, `hax.md` 1.7, D21).
//!
//! A watch posts the whole queue at each change. Anybody can post, so a post is only a hint: hax reads the
//! queue from Consul and processes the entries beyond its offset in order. The offset `bq-delivered/<node>`
//! is advanced after that, in the transaction that stores our node's view of the processes. A node without an
//! offset starts at the queue's end, so history is not replayed.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::fid::Fid;
use crate::base::id::HttpId;
use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::bridge::bq::message::{Message, message, passed};
use crate::bridge::context::Cx;
use crate::bridge::continuation::{BqCall, Continuation, LaneKey, Timer};
use crate::bridge::process::lanes::Lanes;
use crate::bridge::process::work::{self, Operation, WorkItem};
use crate::bridge::spiel::Spiel;
use crate::cluster::Cluster;
use crate::cluster::states::ProcessRecord;
use crate::consul::json::{self, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::ha::note::{Note, ObjectState};
use crate::http::answer;
use crate::store::txn::{self, Outcome};

/// The prefix of the queue.
const QUEUE: &str = "bq/";

/// The subject of facts about invalid values.
const OFFSET: &str = "the queue's offset";

#[derive(Debug, Default)]
pub(crate) struct BqReceiver {
    /// The entries to process.
    read: BTreeMap<u64, Message>,
    /// The queue has to be read.
    hinted: bool,
    /// The requests with a hint since the read in flight began.
    hints: Vec<Hint>,
    reading: Vec<Hint>,
    /// The offset has to be read, even without a post.
    begun: bool,
    /// The last processed entry; `None` until our offset is read.
    processed: Option<u64>,
    /// The last processed entry according to the offset in Consul.
    stored: u64,
    /// The index of our offset's key, 0 if the key does not exist. `None` after a conflict: the key has to be
    /// read.
    index: Option<u64>,
    /// The largest `ModifyIndex` of the entries read so far.
    newest: u64,
    /// The processes' states from messages, not stored yet.
    views: BTreeMap<Fid, ProcessRecord>,
    /// A call is in flight.
    calling: bool,
    /// The states being stored, and the offset, if it is part of the same transaction.
    storing: BTreeMap<Fid, ProcessRecord>,
    offset: Option<u64>,
    /// The device states of a message are being written.
    pub(crate) busy: bool,
    /// The waiting requests, each with the entry to be processed before the response.
    waiting: Vec<(Hint, u64)>,
    backoff: Backoff,
}

/// A waiting request and its deadline.
#[derive(Clone, Copy, Debug)]
struct Hint {
    http: HttpId,
    until: Instant,
}

impl BqReceiver {
    /// Schedules a read of the queue after a hint.
    pub(crate) fn on_hint(&mut self) {
        self.hinted = true;
    }

    /// Handles a post of the queue by a watch. Returns an error for an invalid body.
    ///
    /// Otherwise the request is answered when all entries that Consul has in the queue are processed. A post
    /// with entries, none of which belongs to the queue, is of another prefix.
    ///
    /// A rejected post counts as a hint too: Consul's watch does not repeat it.
    pub(crate) fn on_post(
        &mut self,
        cx: &mut Cx<'_>,
        http: HttpId,
        body: &[u8],
    ) -> Result<(), Box<str>> {
        self.on_hint();
        let entries: Option<Vec<KvEntry<'_>>> = json::parse(body)?;
        let entries = entries.unwrap_or_default();
        if let Some(odd) = entries.first()
            && entries.iter().all(|entry| number_of(&entry.key).is_none())
        {
            return Err(format!("not an entry of the queue: {:.100}", odd.key).into());
        }
        let until = cx.now().mono.after(cx.config().time.call);
        self.hints.push(Hint { http, until });
        cx.arm_no_later(Timer::BqPosts, until);
        Ok(())
    }

    /// Takes over the queue as read from Consul. Keys that are not entries of the queue are skipped.
    fn apply(&mut self, cx: &mut Cx<'_>, body: &[u8]) -> Result<(), Box<str>> {
        let entries: Option<Vec<KvEntry<'_>>> = json::parse(body)?;
        let mut messages = BTreeMap::new();
        let mut newest = 0;
        for entry in entries.unwrap_or_default() {
            let Some(n) = number_of(&entry.key) else {
                cx.skip_malformed(&entry.key, entry.modify_index);
                continue;
            };
            newest = newest.max(entry.modify_index);
            messages.insert(n, entry.bytes().map_or_else(|| passed("no base64"), |v| message(&v)));
        }
        let last = messages.keys().next_back().copied().unwrap_or(0);
        let unchanged = newest <= self.newest;
        self.newest = self.newest.max(newest);
        if let Some(worked) = &mut self.processed
            && last < *worked
            && !unchanged
        {
            // The queue's counter has restarted (D21 f): all its entries are new.
            *worked = 0;
            // The store in flight and the waiting requests belong to the former numbering.
            (self.stored, self.offset) = (0, None);
            self.read.clear();
            let over = self.waiting.drain(..);
            over.for_each(|(hint, _)| cx.http(hint.http, answer::Answer::done()));
        }
        let worked = self.processed.unwrap_or(0);
        let mut news = messages.into_iter().filter(|(n, _)| *n > worked);
        let most = cx.config().limit.queued_entries;
        self.read = news.by_ref().take(most).collect();
        // The entries beyond the limit are read again after these are processed.
        self.hinted |= news.next().is_some();
        for hint in core::mem::take(&mut self.reading) {
            if self.processed.is_some() && last <= self.stored {
                cx.http(hint.http, answer::Answer::done());
            } else {
                self.waiting.push((hint, last));
            }
        }
        Ok(())
    }

    /// Reads our offset, and then the entries beyond it.
    ///
    /// The entries that were appended while hax was down were not posted to it. Entries appended from now on
    /// are not history.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>) {
        (self.begun, self.hinted) = (true, true);
        self.call(cx, BqCall::Offset);
    }

    /// Processes as many entries as possible now. `leader` is given if this node is the leader: some
    /// operations are for one node only.
    pub(crate) fn work(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        lanes: &mut Lanes,
        mut leader: Option<&mut Spiel>,
    ) {
        let Some(mut worked) = self.processed else {
            if self.begun || self.hinted {
                self.call(cx, BqCall::Offset);
            }
            return;
        };
        while !self.busy
            && let Some((n, message)) = self.read.pop_first()
        {
            if n > worked {
                self.work_one(cx, cluster, lanes, leader.as_deref_mut(), n, message);
                worked = n;
            }
        }
        self.processed = Some(worked);
        if self.busy {
            return;
        }
        if worked > self.stored {
            self.call(cx, if self.index.is_some() { BqCall::Store } else { BqCall::Offset });
        } else if self.hinted {
            self.call(cx, BqCall::Queue);
        }
    }

    fn work_one(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        lanes: &mut Lanes,
        leader: Option<&mut Spiel>,
        n: u64,
        message: Message,
    ) {
        let note = match message {
            // Our replica gets the state from the process's own key.
            Message::Process(process, record) => {
                if !cluster.is_local(process) {
                    self.views.insert(process, record);
                }
                None
            }
            Message::Device { node, path, state } => match cluster.conf().sdev_at(&node, &path) {
                Some(fid) => Some(Note { fid, state }),
                None => {
                    let why =
                        format!("there is no device {path:.64?} on a node {node:.64?}").into();
                    return cx.fact(Fact::QueueSkipped { n, why });
                }
            },
            Message::StobIoq(Fid::ZERO) => None,
            Message::StobIoq(fid) if work::device(fid, cluster).is_none() => {
                let why = format!("there is no device {fid}").into();
                return cx.fact(Fact::QueueSkipped { n, why });
            }
            Message::StobIoq(fid) => Some(Note { fid, state: ObjectState::Failed }),
            // Each hax receives this message. The others leave it to the leader (D21 e).
            Message::Sns(pool, op) => {
                let begun =
                    leader.map_or(Ok(()), |spiel| spiel.operate(cx, cluster, pool, op, None));
                match begun {
                    Ok(()) => None,
                    Err(refusal) => {
                        return cx.fact(Fact::QueueSkipped { n, why: refusal.why().into() });
                    }
                }
            }
            Message::Skipped(why) => return cx.fact(Fact::QueueSkipped { n, why }),
        };
        cx.fact(Fact::QueueWorked { n });
        if let Some(note) = note {
            self.busy = true;
            let what = Operation::Devices { notes: Vec::from([note]), ack: None, queued: true };
            lanes.push(LaneKey::Devices, WorkItem::new(cx.now().mono, what));
        }
    }

    fn call(&mut self, cx: &mut Cx<'_>, part: BqCall) {
        if self.calling || cx.is_armed(Timer::BqReceiver) {
            return;
        }
        self.calling = true;
        let key = format!("bq-delivered/{}", cx.config().node);
        match part {
            BqCall::Offset => drop(cx.get(Continuation::BqReceiver(part), url::read(&key))),
            BqCall::End => drop(cx.get(Continuation::BqReceiver(part), url::read("epoch"))),
            BqCall::Queue => {
                self.hinted = false;
                self.reading.append(&mut self.hints);
                let _call =
                    cx.get(Continuation::BqReceiver(part), url::consistent(url::tree(QUEUE)));
            }
            BqCall::Store => self.store(cx, &key),
        }
    }

    /// Stores the processes' states from the messages, and together with the last of them the offset.
    fn store(&mut self, cx: &mut Cx<'_>, key: &str) {
        let max = cx.config().limit.transaction_ops - 1;
        let rest = self.views.keys().nth(max).copied();
        let rest = rest.map_or_else(BTreeMap::new, |first| self.views.split_off(&first));
        self.storing = core::mem::replace(&mut self.views, rest);
        let node = &cx.config().node;
        let view = |(process, record): (&Fid, &ProcessRecord)| {
            Some(Op::set(&format!("{node}/processes/{process}"), record.to_json()?.as_bytes()))
        };
        let mut ops: Vec<Op> = self.storing.iter().filter_map(view).collect();
        self.offset = if self.views.is_empty() { self.processed } else { None };
        // A compare-and-set: a cancelled write that arrives late must not move the offset back.
        let index = self.index.unwrap_or(0);
        let op = |n| Op::cas(key, format!("{n}").as_bytes(), index);
        ops.extend(self.offset.map(op));
        txn::send(cx, Continuation::BqReceiver(BqCall::Store), &ops);
    }

    /// Handles the reply to a call of the receiver.
    pub(crate) fn on_answer(&mut self, cx: &mut Cx<'_>, part: BqCall, answer: Option<&Answer>) {
        self.calling = false;
        match (part, answer.map(|answer| (answer.status, answer))) {
            (BqCall::Offset, Some((200, answer))) if number(answer).is_some() => {
                let (offset, index) = number(answer).unwrap_or_default();
                self.index = Some(index);
                if self.processed.is_none() {
                    // The offset was written after all entries up to it had been read.
                    self.newest = self.newest.max(index);
                }
                self.begin_at(cx, offset, true);
            }
            (BqCall::Offset, Some((404, _))) => {
                self.index = Some(0);
                match self.processed {
                    None => self.call(cx, BqCall::End),
                    Some(_) => self.backoff.reset(),
                }
            }
            (BqCall::End, Some((200, answer))) if number(answer).is_some() => {
                self.begin_at(cx, number(answer).unwrap_or_default().0, false);
            }
            (BqCall::End, Some((404, _))) => self.begin_at(cx, 0, false),
            (BqCall::Store, answer) => self.on_stored(cx, answer.map(|(_, answer)| answer)),
            (BqCall::Queue, Some((200 | 404, answer))) => {
                let none = Bytes::from_static(b"null");
                let body = if answer.status == 404 { &none } else { &answer.body };
                match self.apply(cx, body) {
                    Ok(()) => {
                        self.backoff.reset();
                        // A pause, so that posts without new entries do not cause reads all the time.
                        if self.read.is_empty() {
                            let pause = cx.config().time.watch_interval_min;
                            cx.arm(Timer::BqReceiver, pause);
                        }
                    }
                    Err(why) => {
                        cx.fact(Fact::ConsulBadAnswer { what: "the queue", why });
                        self.read_again(cx);
                    }
                }
            }
            (BqCall::Queue, _) => self.read_again(cx),
            (BqCall::Offset | BqCall::End, answer) => {
                if answer.is_some_and(|(status, _)| status == 200) {
                    let why = "not a number".into();
                    cx.fact(Fact::ConsulBadAnswer { what: OFFSET, why });
                }
                cx.retry(Timer::BqReceiver, &mut self.backoff);
            }
        }
    }

    /// Handles the outcome of storing the offset and the processes' states.
    fn on_stored(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        match Outcome::of(answer) {
            Outcome::Applied(results) => {
                self.backoff.reset();
                self.storing.clear();
                if let Some(offset) = self.offset {
                    self.stored = self.stored.max(offset);
                    self.answer_waiting(cx);
                    // The offset is the last operation of the transaction.
                    let last = results.last().and_then(|result| result.kv.as_ref());
                    self.index = last.map(|entry| entry.modify_index).or(self.index);
                }
                return;
            }
            // Another writer has changed the offset.
            Outcome::Conflict(_) => self.index = None,
            Outcome::Denied(why) => cx.fact(Fact::ConsulBadAnswer { what: OFFSET, why }),
            Outcome::Unknown(_) => {}
        }
        for (process, record) in core::mem::take(&mut self.storing) {
            self.views.entry(process).or_insert(record);
        }
        cx.retry(Timer::BqReceiver, &mut self.backoff);
    }

    /// Schedules another read of the queue after a failed one.
    fn read_again(&mut self, cx: &mut Cx<'_>) {
        self.hinted = true;
        cx.retry(Timer::BqReceiver, &mut self.backoff);
    }

    /// Answers the posts after all their entries are processed.
    fn answer_waiting(&mut self, cx: &mut Cx<'_>) {
        let stored = self.stored;
        self.waiting.retain(|(hint, last)| {
            if *last <= stored {
                cx.http(hint.http, answer::Answer::done());
            }
            *last > stored
        });
    }

    /// Answers the requests with a passed deadline with 503. Their entries are processed nevertheless, once
    /// Consul permits it.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now().mono;
        let mut stays = |hint: &Hint| {
            if hint.until <= now {
                let why = "Consul takes too long; the queue is worked when it answers";
                let answer = answer::Answer::refuse(503, "HTTPServiceUnavailable", "", why);
                cx.http(hint.http, answer);
            }
            hint.until > now
        };
        self.hints.retain(&mut stays);
        self.reading.retain(&mut stays);
        self.waiting.retain(|(hint, _)| stays(hint));
        let all = self.hints.iter().chain(&self.reading).chain(self.waiting.iter().map(|(h, _)| h));
        if let Some(next) = all.map(|hint| hint.until).min() {
            cx.arm_no_later(Timer::BqPosts, next);
        }
    }

    fn begin_at(&mut self, cx: &mut Cx<'_>, offset: u64, stored: bool) {
        self.backoff.reset();
        if let Some(worked) = &mut self.processed {
            // Another writer has moved the offset. A move forwards is an operator's intention; a move
            // backwards is a late write.
            *worked = offset.max(*worked);
            self.stored = offset.max(self.stored);
            self.answer_waiting(cx);
            return;
        }
        // An offset that is not in Consul yet is written even if no entry follows.
        self.processed = Some(offset);
        self.stored = if stored { offset } else { offset.saturating_sub(1) };
        self.answer_waiting(cx);
    }

    /// Discards the known index after Consul's indexes have restarted.
    pub(crate) fn indexes_begin_anew(&mut self) {
        self.newest = 0;
    }

    /// Answers all waiting requests because of a stop.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        let waiting = core::mem::take(&mut self.waiting).into_iter().map(|(hint, _)| hint);
        let hints = self.hints.drain(..).chain(self.reading.drain(..)).chain(waiting);
        hints.for_each(|hint| cx.http(hint.http, answer::Answer::stopping()));
        (self.hinted, self.read) = (false, BTreeMap::new());
    }
}

/// Returns the number stored in a key, and the key's index.
fn number(answer: &Answer) -> Option<(u64, u64)> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
    Some((entry.number()?, entry.modify_index))
}

/// Returns the entry number of a key of the queue. A number near the maximum is rejected: no entry could
/// follow it.
fn number_of(key: &str) -> Option<u64> {
    key.strip_prefix("bq/")?.parse().ok().filter(|n| *n < u64::MAX / 2)
}
