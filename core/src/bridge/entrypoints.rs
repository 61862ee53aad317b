//! Entrypoint requests: one round of reads answers all waiting requests (DESIGN "Consul: fresh and cheap").
//!
//! Replies are sent in the order of the requests. A round starts after the arrival of the requests that it
//! answers; at most one round is in flight. A failed round answers all waiting requests with EAGAIN, each at
//! least a second after its arrival, since a Motr process retries at once. The first request of a process is
//! held until Consul has counted the start and, if the process has restarted, until the other processes have
//! been notified of the end of its last life.
//!
//! A stopping bridge answers first requests with an empty entrypoint. That ends the start of a process, which
//! would retry for ever otherwise. A process that repeats its request has its configuration already, and
//! shuts itself down on such a reply (seen with a real I/O service). Its request gets no reply; the process
//! repeats it to the next run of the bridge.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::{CallId, EntryId};
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::CallSeq;
use crate::base::time::Instant;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, RoundPart, Timer};
use crate::cluster::health::{host_of, process_of_service_id};
use crate::consul::json::{self, Elements, Instance, KvEntry, Session};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::entrypoint::{Confd, Entrypoint, EntrypointRequest};
use crate::ha::fact::Fact;
use crate::ha::motr::Command;

/// The period of waiting for the next requests of a batch's requesters.
///
/// Without it, the requesters that ask during a round and the requesters that it answers would alternate for
/// ever, in twice as many rounds.
const COALESCE_WINDOW: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(crate) struct Entrypoints {
    waiting: VecDeque<Waiting>,
    round: Option<Round>,
    /// The session of the last leader and its node. A session never changes its node.
    session: Option<(Box<str>, Box<str>)>,
    /// The expected number of requests in the next round, and the end of the wait for them.
    expected_batch: Option<(usize, Instant)>,
    /// The reason of the last round's failure.
    last_failure: Option<&'static str>,
}

#[derive(Debug)]
struct Waiting {
    entry: EntryId,
    process: Fid,
    /// Whether this is the first request of the process's life.
    first: bool,
    arrived: Instant,
    call_seq: CallSeq,
    /// The request may only be answered with EAGAIN until the writes and deliveries about its process are
    /// done.
    held: bool,
    /// The result of a round. It is sent when it is due and all earlier requests are answered.
    answer: Option<PendingReply>,
}

#[derive(Debug)]
struct PendingReply {
    due: Instant,
    reply: Result<Arc<Entrypoint>, Errno>,
}

#[derive(Debug)]
struct Round {
    began: CallSeq,
    calls: BTreeMap<CallId, RoundPart>,
    leader: Option<Box<str>>,
    node: Option<Box<str>>,
    confds: Option<BTreeMap<Fid, Found>>,
    rms: Option<BTreeMap<Fid, Fid>>,
}

#[derive(Debug)]
struct Found {
    node: Box<str>,
    endpoint: Box<str>,
    index: u64,
}

impl Entrypoints {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the leader's host according to the last round.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.session.as_ref().map(|(_, node)| host_of(node))
    }

    /// Handles an entrypoint request.
    ///
    /// `held` is whether the request waits for a [`Self::release`], or `None` if it is to be answered with
    /// EAGAIN.
    pub(crate) fn on_request(
        &mut self,
        cx: &mut Cx<'_>,
        request: &EntrypointRequest,
        held: Option<bool>,
        stopping: bool,
    ) {
        let EntrypointRequest { entry, process, first, .. } = *request;
        cx.fact(Fact::EntrypointAsked { entry, process, first });
        let (arrived, moment) = (cx.now().mono, cx.call_seq());
        let refused = held.is_none() || self.waiting.len() >= cx.config().limit.entries;
        let held = held.unwrap_or_default();
        let waiting =
            Waiting { entry, process, first, arrived, call_seq: moment, held, answer: None };
        if stopping {
            return answer_stopping(cx, &waiting);
        }
        if refused {
            reply(cx, &waiting, Err(Errno::EAGAIN));
            return;
        }
        self.waiting.push_back(waiting);
        self.begin(cx);
    }

    /// Answers all waiting requests because of a stop.
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.end_round(cx);
        for waiting in core::mem::take(&mut self.waiting) {
            answer_stopping(cx, &waiting);
        }
    }

    /// Releases the requests of a process: the writes and deliveries that they waited for are done.
    pub(crate) fn release(&mut self, cx: &mut Cx<'_>, process: Fid) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.process == process) {
            waiting.held = false;
        }
        self.send_due(cx);
    }

    /// Returns the number of requests without a result. They stand behind those with a result.
    fn unanswered(&self) -> usize {
        self.waiting.len() - self.waiting.partition_point(|waiting| waiting.answer.is_some())
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let asking = if self.round.is_none() { self.unanswered() } else { 0 };
        if asking == 0 {
            return;
        }
        if let Some((crowd, until)) = self.expected_batch
            && asking < crowd
            && cx.now().mono < until
        {
            return cx.arm_no_later(Timer::EntrypointReplies, until);
        }
        self.expected_batch = None;
        let mut calls = BTreeMap::new();
        for (part, target) in
            [(RoundPart::Leader, url::key("leader")), (RoundPart::Confds, url::service("confd"))]
        {
            calls.insert(ask(cx, part, target), part);
        }
        let (leader, node) = (None, None);
        let began = cx.call_seq();
        self.round = Some(Round { began, calls, leader, node, confds: None, rms: None });
        // The session is nearly always the last round's, so its node is read at the same time.
        if let Some((_, node)) = self.session.clone() {
            self.read_node(cx, &node);
        }
        let within = cx.config().time.round;
        cx.arm(Timer::Round, within);
    }

    fn read_node(&mut self, cx: &mut Cx<'_>, node: &str) {
        let Some(round) = &mut self.round else { return };
        let target = url::tree(&format!("m0conf/nodes/{}/", host_of(node)));
        round.calls.insert(ask(cx, RoundPart::Node, target), RoundPart::Node);
        round.node = Some(node.into());
        round.rms = None;
    }

    pub(crate) fn on_answer(&mut self, cx: &mut Cx<'_>, call: CallId, answer: Option<&Answer>) {
        let Some(part) = self.round.as_mut().and_then(|round| round.calls.remove(&call)) else {
            return;
        };
        let taken = match answer {
            None => Err("Consul does not answer"),
            Some(answer) => self.apply(cx, part, answer),
        };
        match taken {
            Err(why) => self.fail(cx, why),
            Ok(()) => self.finish(cx),
        }
    }

    fn apply(
        &mut self,
        cx: &mut Cx<'_>,
        part: RoundPart,
        answer: &Answer,
    ) -> Result<(), &'static str> {
        let body = &answer.body;
        match (part, answer.status) {
            (RoundPart::Leader, 404) => Err("there is no leader"),
            (RoundPart::Node, 404) => {
                // The node may belong to a former leader.
                self.session = None;
                Err("the leader's node is not configured")
            }
            (RoundPart::Session, 404) => Err("the leader's session has ended"),
            (_, status) if status != 200 => Err("Consul is not operational"),
            (RoundPart::Leader, _) => self.on_leader(cx, body),
            (RoundPart::Session, _) => {
                let session: Option<[Session<'_>; 1]> = json::parse(body).unwrap_or(None);
                let node: Box<str> = match session {
                    Some([session]) => session.node.into(),
                    None => return Err("the leader's session has ended"),
                };
                let leader = self.round.as_ref().and_then(|round| round.leader.clone());
                self.session = leader.map(|leader| (leader, node.clone()));
                self.read_node(cx, &node);
                Ok(())
            }
            (RoundPart::Confds, _) => {
                let found = confds(answer).ok_or("Consul's list of confds is not understood")?;
                if let Some(round) = &mut self.round {
                    round.confds = Some(found);
                }
                Ok(())
            }
            (RoundPart::Node, _) => {
                let found = rms(answer).ok_or("the leader's node in m0conf is not understood")?;
                if let Some(round) = &mut self.round {
                    round.rms = Some(found);
                }
                Ok(())
            }
        }
    }

    fn on_leader(&mut self, cx: &mut Cx<'_>, body: &[u8]) -> Result<(), &'static str> {
        let [entry]: [KvEntry<'_>; 1] =
            json::parse(body).map_err(|_| "the key leader is not understood")?;
        let session = entry.session.filter(|session| !session.is_empty());
        let session: Box<str> = session.ok_or("there is no leader")?.into();
        let Some(round) = &mut self.round else { return Ok(()) };
        round.leader = Some(session.clone());
        if self.session.as_ref().is_none_or(|(known, _)| *known != session) {
            // The node that is being read is not the leader's: its read is cancelled.
            let node = |part: &RoundPart| *part == RoundPart::Node;
            let stale = round.calls.iter().find(|(_, part)| node(part)).map(|(call, _)| *call);
            round.node = None;
            if let Some(call) = stale {
                round.calls.remove(&call);
                cx.cancel(call);
            }
            let call = ask(cx, RoundPart::Session, url::session(&session));
            if let Some(round) = &mut self.round {
                round.calls.insert(call, RoundPart::Session);
            }
        }
        Ok(())
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        let Some(round) = &self.round else { return };
        if !round.calls.is_empty() {
            return;
        }
        match round.entrypoint() {
            Err(why) => self.fail(cx, why),
            Ok(entrypoint) => {
                let began = round.began;
                self.last_failure = None;
                self.end_round(cx);
                let entrypoint = Arc::new(entrypoint);
                let due = cx.now().mono;
                let asking = self.unanswered();
                for waiting in self.waiting.iter_mut().take_while(|w| w.call_seq <= began) {
                    if !matches!(&waiting.answer, Some(PendingReply { reply: Ok(_), .. })) {
                        waiting.answer =
                            Some(PendingReply { due, reply: Ok(Arc::clone(&entrypoint)) });
                    }
                }
                // The requester of a round with one request is not waited for.
                let answered = asking - self.unanswered();
                self.expected_batch =
                    (answered > 1).then_some((asking, due.after(COALESCE_WINDOW)));
                self.send_due(cx);
            }
        }
    }

    pub(crate) fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        self.fail(cx, "Consul does not answer in time");
    }

    fn fail(&mut self, cx: &mut Cx<'_>, why: &'static str) {
        let said = self.last_failure.replace(why) == Some(why);
        cx.fact(if said { Fact::RoundFailsStill { why } } else { Fact::RoundFailed { why } });
        self.end_round(cx);
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.answer.is_none()) {
            let due = waiting.arrived.after(cx.config().time.eagain_delay);
            waiting.answer = Some(PendingReply { due, reply: Err(Errno::EAGAIN) });
        }
        self.send_due(cx);
    }

    fn end_round(&mut self, cx: &mut Cx<'_>) {
        cx.disarm(Timer::Round);
        for call in self.round.take().map(|round| round.calls).unwrap_or_default().into_keys() {
            cx.cancel(call);
        }
    }

    /// Sends the due replies in order.
    pub(crate) fn send_due(&mut self, cx: &mut Cx<'_>) {
        while let Some(waiting) = self.waiting.front() {
            let give_up = waiting.arrived.after(cx.config().time.held_max);
            let (due, answer) = match &waiting.answer {
                // The restart is still being handled; the next request will wait for it.
                Some(PendingReply { reply: Ok(_), .. }) if waiting.held => {
                    (give_up, Err(Errno::EAGAIN))
                }
                Some(PendingReply { due, reply }) => (*due, reply.clone()),
                None => break,
            };
            if due > cx.now().mono {
                cx.arm_at(Timer::EntrypointReplies, due);
                break;
            }
            reply(cx, waiting, answer);
            self.waiting.pop_front();
        }
        self.begin(cx);
    }
}

impl Round {
    fn entrypoint(&self) -> Result<Entrypoint, &'static str> {
        let found = self.confds.as_ref().ok_or("there is no confd")?;
        let node = self.node.as_ref().ok_or("there is no leader")?;
        let here = |name: &str| name == &**node;
        let at_leader = found.iter().find(|(_, confd)| here(&confd.node));
        let at_host = || found.iter().find(|(_, confd)| host_of(&confd.node) == host_of(node));
        let (fid, leader) =
            at_leader.or_else(at_host).ok_or("there is no confd on the leader's node")?;
        let rms = self.rms.as_ref().ok_or("the leader's node is not configured")?;
        let rm = *rms.get(fid).ok_or("the leader's confd has no resource manager in m0conf")?;
        let confd =
            |(fid, found): (&Fid, &Found)| Confd { fid: *fid, endpoint: found.endpoint.clone() };
        let quorum = u32::try_from(found.len() / 2 + 1).unwrap_or(u32::MAX);
        let rm_endpoint = leader.endpoint.clone();
        Ok(Entrypoint { quorum, confds: found.iter().map(confd).collect(), rm, rm_endpoint })
    }
}

fn ask(cx: &mut Cx<'_>, part: RoundPart, target: String) -> CallId {
    cx.get(Continuation::Round(part), url::consistent(target))
}

fn answer_stopping(cx: &mut Cx<'_>, waiting: &Waiting) {
    let Waiting { entry, process, first, .. } = *waiting;
    if first || mutant(Mutant::EmptyAgain) {
        reply(cx, waiting, Ok(Arc::default()));
    } else {
        cx.fact(Fact::EntrypointLeft { entry, process });
    }
}

fn reply(cx: &mut Cx<'_>, waiting: &Waiting, reply: Result<Arc<Entrypoint>, Errno>) {
    let Waiting { entry, process, arrived, .. } = *waiting;
    cx.fact(match &reply {
        Ok(answer) => {
            let confds = u32::try_from(answer.confds.len()).unwrap_or(u32::MAX);
            let us = cx.now().mono.micros_since(arrived);
            Fact::EntrypointAnswered { entry, process, confds, us }
        }
        Err(_) => Fact::EntrypointAgain { entry, process },
    });
    if mutant(Mutant::ReplyTwice) {
        cx.motr(Command::Reply { entry, reply: reply.clone() });
    }
    cx.motr(Command::Reply { entry, reply });
}

/// Returns the configured confds by process. The newer of two registrations of one process counts.
fn confds(answer: &Answer) -> Option<BTreeMap<Fid, Found>> {
    let mut found: BTreeMap<Fid, Found> = BTreeMap::new();
    let mut elements = Elements::new(answer.body.clone());
    while let Some(instance) = elements.next::<Instance<'_>>() {
        let instance = instance.ok()?;
        let Some(fid) = process_of_service_id(&instance.service_id) else { continue };
        let index = instance.modify_index;
        if found.get(&fid).is_none_or(|old| old.index < index) {
            let (node, endpoint) = (instance.node.as_ref().into(), instance.endpoint());
            found.insert(fid, Found { node, endpoint, index });
        }
    }
    Some(found)
}

/// Returns the resource manager of each process on a node, from `…/processes/<key>/services/rms`.
fn rms(answer: &Answer) -> Option<BTreeMap<Fid, Fid>> {
    let mut found = BTreeMap::new();
    let mut elements = Elements::new(answer.body.clone());
    while let Some(entry) = elements.next::<KvEntry<'_>>() {
        let entry = entry.ok()?;
        let mut parts = entry.key.rsplit('/');
        if parts.next() != Some("rms") || parts.next() != Some("services") {
            continue;
        }
        let key = parts.next().and_then(|key| key.parse().ok());
        let value = entry.bytes().and_then(|v| core::str::from_utf8(&v).ok()?.parse().ok());
        if let (Some(key), Some(service)) = (key, value) {
            found.insert(Fid::process(key), Fid::service(service));
        }
    }
    Some(found)
}
