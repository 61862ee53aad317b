//! The broadcast queue's receiving side: what old daemons and operators' tools tell every hax
//! (15/BQ, `hax.md` 1.7, D21).
//!
//! A watch posts the whole queue at each change. Anybody can post, so that is a hint: the queue is read from
//! Consul, and what lies beyond our offset is worked in order. The offset `bq-delivered/<node>` moves when it
//! is done, in the transaction that keeps our node's view of the processes. A node without an offset begins
//! at the queue's end: history is not replayed.

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

/// The whole queue.
const QUEUE: &str = "bq/";

/// What bad answers are said to be about.
const OFFSET: &str = "the queue's offset";

#[derive(Debug, Default)]
pub(crate) struct BqReceiver {
    /// What is to be worked.
    read: BTreeMap<u64, Message>,
    /// The queue is to be read.
    hinted: bool,
    /// The requests that gave the hint, and those that gave it before the reading in flight.
    hints: Vec<Hint>,
    reading: Vec<Hint>,
    /// Where we are is wanted, whether anything is posted or not.
    begun: bool,
    /// All up to here is worked; nothing until our offset is read.
    processed: Option<u64>,
    /// All up to here is known to be worked by Consul.
    stored: u64,
    /// The index of our offset's key, 0 if there is none; it is read again after it met another writer.
    index: Option<u64>,
    /// The newest write of an entry that was read.
    newest: u64,
    /// What the messages said of processes, not stored yet.
    views: BTreeMap<Fid, ProcessRecord>,
    /// A call is in flight.
    calling: bool,
    /// What is being stored, and the offset with the last of it.
    storing: BTreeMap<Fid, ProcessRecord>,
    offset: Option<u64>,
    /// A message's devices are being written.
    pub(crate) busy: bool,
    /// The requests that wait for the work up to an entry.
    waiting: Vec<(Hint, u64)>,
    backoff: Backoff,
}

/// A request that waits, and until when.
#[derive(Clone, Copy, Debug)]
struct Hint {
    http: HttpId,
    until: Instant,
}

impl BqReceiver {
    /// The queue is to be read: something may have come.
    pub(crate) fn on_hint(&mut self) {
        self.hinted = true;
    }

    /// A watch has posted the queue. Returns what is wrong with it, if anything; else the request is
    /// answered when all that Consul has in the queue is worked. A post without an entry of the queue that
    /// has others is of another prefix.
    ///
    /// A post that is refused is a hint all the same: Consul's watch does not repeat it.
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
        cx.arm_no_later(Timer::Hints, until);
        Ok(())
    }

    /// Takes the queue as Consul has it. A key that is no entry of it is passed over.
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
            // Its counter has begun anew (D21 f): all that there is, is new.
            *worked = 0;
            // What is being stored is of its former life, and so is what waits.
            (self.stored, self.offset) = (0, None);
            self.read.clear();
            let over = self.waiting.drain(..);
            over.for_each(|(hint, _)| cx.http(hint.http, answer::Answer::done()));
        }
        let worked = self.processed.unwrap_or(0);
        let mut news = messages.into_iter().filter(|(n, _)| *n > worked);
        let most = cx.config().limit.queued_entries;
        self.read = news.by_ref().take(most).collect();
        // What is too much now is read again when this is worked.
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

    /// Reads where we are, and what is beyond: what was appended while we were away was posted to nobody.
    /// What is appended from now on is not history.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>) {
        (self.begun, self.hinted) = (true, true);
        self.call(cx, BqCall::Offset);
    }

    /// Works what can be worked now; what one node alone is to do, if `leader` is given.
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
            // Our replica has it from the process's own key.
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
            // Each hax gets it: the others leave it to the leader (D21 e).
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
            Message::Passed(why) => return cx.fact(Fact::QueueSkipped { n, why }),
        };
        cx.fact(Fact::QueueWorked { n });
        if let Some(note) = note {
            self.busy = true;
            let what = Operation::Devices { notes: Vec::from([note]), ack: None, queued: true };
            lanes.push(LaneKey::Devices, WorkItem::new(cx.now().mono, what));
        }
    }

    fn call(&mut self, cx: &mut Cx<'_>, part: BqCall) {
        if self.calling || cx.is_armed(Timer::Inbox) {
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

    /// Stores what the messages said of processes, and with the last of that the offset.
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
        // A compare-and-set: one that was given up and comes late must not move the offset back.
        let index = self.index.unwrap_or(0);
        let op = |n| Op::cas(key, format!("{n}").as_bytes(), index);
        ops.extend(self.offset.map(op));
        txn::send(cx, Continuation::BqReceiver(BqCall::Store), &ops);
    }

    /// A call of ours has its answer.
    pub(crate) fn on_answer(&mut self, cx: &mut Cx<'_>, part: BqCall, answer: Option<&Answer>) {
        self.calling = false;
        match (part, answer.map(|answer| (answer.status, answer))) {
            (BqCall::Offset, Some((200, answer))) if number(answer).is_some() => {
                let (offset, index) = number(answer).unwrap_or_default();
                self.index = Some(index);
                if self.processed.is_none() {
                    // It was written when all up to there had been read.
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
                        // Whoever has nothing new to tell does not have it read all the time.
                        if self.read.is_empty() {
                            let pause = cx.config().time.watch_interval_min;
                            cx.arm(Timer::Inbox, pause);
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
                cx.retry(Timer::Inbox, &mut self.backoff);
            }
        }
    }

    /// The offset was written, with what the messages up to it say, or was not.
    fn on_stored(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        match Outcome::of(answer) {
            Outcome::Applied(results) => {
                self.backoff.reset();
                self.storing.clear();
                if let Some(offset) = self.offset {
                    self.stored = self.stored.max(offset);
                    self.answer_waiting(cx);
                    // The offset is written last.
                    let last = results.last().and_then(|result| result.kv.as_ref());
                    self.index = last.map(|entry| entry.modify_index).or(self.index);
                }
                return;
            }
            // Another writer has been at the offset.
            Outcome::Conflict(_) => self.index = None,
            Outcome::Denied(why) => cx.fact(Fact::ConsulBadAnswer { what: OFFSET, why }),
            Outcome::Unknown(_) => {}
        }
        for (process, record) in core::mem::take(&mut self.storing) {
            self.views.entry(process).or_insert(record);
        }
        cx.retry(Timer::Inbox, &mut self.backoff);
    }

    /// The queue could not be read.
    fn read_again(&mut self, cx: &mut Cx<'_>) {
        self.hinted = true;
        cx.retry(Timer::Inbox, &mut self.backoff);
    }

    /// Answers the posts of which all is worked.
    fn answer_waiting(&mut self, cx: &mut Cx<'_>) {
        let stored = self.stored;
        self.waiting.retain(|(hint, last)| {
            if *last <= stored {
                cx.http(hint.http, answer::Answer::done());
            }
            *last > stored
        });
    }

    /// Tells those who have waited long enough to come again. What they hinted at is worked all the same,
    /// once Consul lets it be.
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
            cx.arm_no_later(Timer::Hints, next);
        }
    }

    fn begin_at(&mut self, cx: &mut Cx<'_>, offset: u64, stored: bool) {
        self.backoff.reset();
        if let Some(worked) = &mut self.processed {
            // Another writer has moved it. Forwards is an operator's wish; backwards, a late write.
            *worked = offset.max(*worked);
            self.stored = offset.max(self.stored);
            self.answer_waiting(cx);
            return;
        }
        // An offset that is not Consul's yet is written even if nothing follows.
        self.processed = Some(offset);
        self.stored = if stored { offset } else { offset.saturating_sub(1) };
        self.answer_waiting(cx);
    }

    /// Consul's indexes have begun anew: those that were read say nothing any more.
    pub(crate) fn indexes_begin_anew(&mut self) {
        self.newest = 0;
    }

    /// Answers all that wait as a stopping bridge does.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        let waiting = core::mem::take(&mut self.waiting).into_iter().map(|(hint, _)| hint);
        let hints = self.hints.drain(..).chain(self.reading.drain(..)).chain(waiting);
        hints.for_each(|hint| cx.http(hint.http, answer::Answer::stopping()));
        (self.hinted, self.read) = (false, BTreeMap::new());
    }
}

/// The number that a key holds, and the key's index.
fn number(answer: &Answer) -> Option<(u64, u64)> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(&answer.body).ok()?;
    Some((entry.number()?, entry.modify_index))
}

/// Which entry of the queue a key is. Nobody has counted so far that nothing could come after it.
fn number_of(key: &str) -> Option<u64> {
    key.strip_prefix("bq/")?.parse().ok().filter(|n| *n < u64::MAX / 2)
}
