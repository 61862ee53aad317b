//! Process events: Consul first, then the acknowledgement.
//!
//! A lane is the queue of one process's events; they are handled one after another, and no lane
//! waits for another. Lanes that are ready together share a transaction. Every write is a
//! compare-and-set, so a write that was given up and arrives late changes nothing.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::cx::{Cx, Job, Timer};
use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::id::{CallId, LinkId, MsgId};
use crate::base::retry::Backoff;
use crate::base::time::Instant;
use crate::consul::json::{self, KvEntry, Transaction};
use crate::consul::port::{Answer, Method};
use crate::ha::note::Note;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::model::Cluster;
use crate::model::states::ProcessWord;

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<Fid, Lane>,
    transactions: BTreeMap<CallId, Vec<Fid>>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Lane {
    work: VecDeque<Work>,
    stage: Stage,
}

#[derive(Debug)]
struct Work {
    word: ProcessWord,
    /// Whom to acknowledge it to; nobody for our own events.
    ack: Option<(LinkId, MsgId)>,
    arrived: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// May join the next transaction.
    Ready,
    /// In a transaction.
    Writing,
    /// Its key is read again.
    Rereading,
    /// Waits for the next try; the next step is to read its key again or not.
    Waiting { reread: bool },
}

impl Lanes {
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn push(
        &mut self,
        arrived: Instant,
        process: Fid,
        word: ProcessWord,
        ack: Option<(LinkId, MsgId)>,
    ) {
        let none = || Lane { work: VecDeque::new(), stage: Stage::Ready };
        self.lanes.entry(process).or_insert_with(none).work.push_back(Work { word, ack, arrived });
    }

    /// A closed link is owed no acknowledgement; what it said is written all the same.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        for work in self.lanes.values_mut().flat_map(|lane| &mut lane.work) {
            if work.ack.is_some_and(|(l, _)| l == link) {
                work.ack = None;
            }
        }
    }

    /// Writes what is ready, within Consul's limits on a transaction.
    pub(crate) fn write(&mut self, cx: &mut Cx<'_>, cluster: &Cluster) {
        while self.transactions.len() < cx.config().limit.transactions {
            let mut body = String::from("[");
            let mut batch = Vec::new();
            for (process, lane) in &mut self.lanes {
                if lane.stage != Stage::Ready || batch.len() == cx.config().limit.transaction_ops {
                    continue;
                }
                let Some(op) = lane.work.front().and_then(|work| op(cluster, *process, work))
                else {
                    continue;
                };
                if body.len() + op.len() + 2 > cx.config().limit.transaction_bytes {
                    break;
                }
                if !batch.is_empty() {
                    body.push(',');
                }
                body.push_str(&op);
                lane.stage = Stage::Writing;
                batch.push(*process);
            }
            if batch.is_empty() {
                return;
            }
            body.push(']');
            let within = cx.config().time.call;
            let call =
                cx.call(Job::Transaction, Method::Put, "/v1/txn".into(), body.into(), within);
            self.transactions.insert(call, batch);
        }
    }

    pub(crate) fn written(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        call: CallId,
        answer: Option<&Answer>,
        news: &mut Vec<Note>,
    ) {
        let Some(batch) = self.transactions.remove(&call) else { return };
        let Some(answer) = answer else { return self.wait(cx, &batch, false) };
        match (answer.status, json::parse::<Transaction<'_>>(&answer.body)) {
            (200, Ok(Transaction { results: Some(results), .. }))
                if results.len() == batch.len() =>
            {
                self.backoff.worked();
                for (process, result) in batch.iter().zip(&results) {
                    let index = result.kv.as_ref().map_or(0, |kv| kv.modify_index);
                    self.committed(cx, cluster, *process, Some(index), news);
                }
            }
            (409, Ok(Transaction { errors: Some(errors), .. })) => {
                self.backoff.worked();
                let hindered: Vec<Fid> =
                    errors.iter().filter_map(|error| batch.get(error.op_index).copied()).collect();
                for process in batch {
                    let reread = hindered.contains(&process) || hindered.is_empty();
                    self.stage(process, if reread { Stage::Rereading } else { Stage::Ready });
                    if reread {
                        cx.fact(Fact::WriteConflict { process });
                        reread_key(cx, process);
                    }
                }
            }
            (_, parsed) => {
                let why = parsed.err().unwrap_or_else(|| "it is not about what was asked".into());
                cx.fact(Fact::ConsulBadAnswer { what: "transaction", why });
                self.wait(cx, &batch, false);
            }
        }
    }

    /// The key of a lane that met another writer was read again.
    pub(crate) fn reread(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        process: Fid,
        answer: Option<&Answer>,
        news: &mut Vec<Note>,
    ) {
        match answer {
            Some(answer) if answer.status == 404 => {
                cluster.forget_word(process);
                self.stage(process, Stage::Ready);
            }
            Some(answer) if answer.status == 200 => {
                let entry: Result<[KvEntry<'_>; 1], Box<str>> = json::parse(&answer.body);
                let [entry] = match entry {
                    Ok(entry) => entry,
                    Err(why) => {
                        cx.fact(Fact::ConsulBadAnswer { what: "processes", why });
                        return self.wait(cx, &[process], true);
                    }
                };
                let there = entry.bytes().and_then(|value| ProcessWord::from_json(&value));
                // What was known has just been refused, whatever its index.
                cluster.forget_word(process);
                cluster.take_word(process, there, entry.modify_index);
                let wanted = self.lanes.get(&process).and_then(|lane| lane.work.front());
                // Our own write whose answer was lost, or another's of the same: it holds.
                let holds = wanted
                    .is_some_and(|work| there == Some(cluster.stored_event(process, work.word)));
                if holds {
                    self.committed(cx, cluster, process, None, news);
                } else {
                    self.stage(process, Stage::Ready);
                }
            }
            _ => self.wait(cx, &[process], true),
        }
    }

    /// The pause after a failure is over.
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_>) {
        let mut again = Vec::new();
        for (process, lane) in &mut self.lanes {
            if let Stage::Waiting { reread } = lane.stage {
                lane.stage = if reread { Stage::Rereading } else { Stage::Ready };
                if reread {
                    again.push(*process);
                }
            }
        }
        again.into_iter().for_each(|process| reread_key(cx, process));
    }

    fn stage(&mut self, process: Fid, stage: Stage) {
        if let Some(lane) = self.lanes.get_mut(&process) {
            lane.stage = stage;
        }
    }

    fn wait(&mut self, cx: &mut Cx<'_>, batch: &[Fid], reread: bool) {
        for process in batch {
            self.stage(*process, Stage::Waiting { reread });
        }
        let pause = self.backoff.failed(&mut cx.shared.jitter);
        let at = cx.now.mono.after(pause);
        cx.shared.timers.arm_no_later(Timer::Lanes, at);
    }

    fn committed(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &mut Cluster,
        process: Fid,
        index: Option<u64>,
        news: &mut Vec<Note>,
    ) {
        let Some(lane) = self.lanes.get_mut(&process) else { return };
        lane.stage = Stage::Ready;
        let Some(work) = lane.work.pop_front() else { return };
        if lane.work.is_empty() {
            self.lanes.remove(&process);
        }
        let stored = cluster.stored_event(process, work.word);
        if let Some(index) = index {
            cluster.take_word(process, Some(stored), index);
        }
        let us = cx.now.mono.micros_since(work.arrived);
        cx.fact(Fact::ProcessCommitted { process, state: stored.state.name(), us });
        if let Some((link, msg)) = work.ack {
            cx.ack(link, msg);
        }
        if stored.state == ProcessEventKind::Stopped && stored.kind != ProcessType::Mkfs {
            cluster.tell_stopped(process, news);
        }
    }
}

fn reread_key(cx: &mut Cx<'_>, process: Fid) {
    cx.get(Job::Reread(process), format!("/v1/kv/processes/{process}?consistent"));
}

fn op(cluster: &Cluster, process: Fid, work: &Work) -> Option<String> {
    let value = json::base64(cluster.stored_event(process, work.word).to_json()?.as_bytes());
    let index = cluster.word(process).1;
    Some(format!(
        r#"{{"KV":{{"Verb":"cas","Key":"processes/{process}","Value":"{value}","Index":{index}}}}}"#
    ))
}
