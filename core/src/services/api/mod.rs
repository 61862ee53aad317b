//! The HTTP routes of services.
//!
//! A request is answered from one reading of all records, so every node gives the same answers. A changing
//! request becomes a transaction with an event for the coordinator, and is answered once the instances are as
//! was asked, or have failed, or the time is over. Changing requests need a trusted sender, and may be
//! repeated.

mod builtin;
mod change;
mod context;
mod graph;
mod route;
mod snapshot;
mod stream;
mod view;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::json;

use super::fact::Fact;
use super::facts::ServicesFact;
use super::model::name::NodeName;
use super::refusal::refuse;
use crate::base::id::{CallId, HttpId};
use crate::base::time::{Next, Now};
use crate::consul::port::{self as consul, Reply};
use crate::http::answer::Answer;
use crate::http::port::{Request, Response, Trust};
use crate::http::stream::Closed;
use crate::machine::{Kept, Limits, Output};
use crate::store::{txn, watch};
use change::{Change, Waiting};
use context::{ApiKinds, Call, Cx, Timer};
use graph::Graph;
pub use route::has_path;
use route::{Query, Route};
use snapshot::Snapshot;
use stream::Streams;

/// The maximum number of requests that wait.
const REQUESTS_MAX: usize = 128;
/// The maximum number of changing requests that wait. Each has a blocking query at Consul.
pub(super) const CHANGES_MAX: usize = 64;
/// The maximum size of a body.
const BODY_MAX: usize = 64 << 10;
/// The maximum size of Consul's answers.
const ANSWER_MAX: usize = 64 << 20;
/// How often a changing request is tried when others change the same.
const TRIES: u32 = 4;

/// The part that answers HTTP requests.
#[derive(Debug)]
pub(super) struct Api {
    kept: Kept<ApiKinds>,
    state: State,
}

#[derive(Debug)]
struct State {
    node: NodeName,
    generation: u64,
    next_event: u64,
    pending: BTreeMap<HttpId, Pending>,
    streams: Streams,
    is_stopping: bool,
}

/// A request that waits.
#[derive(Debug)]
enum Pending {
    /// For the records.
    Query(Query),
    /// For the records, for a transaction, for the coordinator, or for the instances.
    Change(Box<Change>),
}

impl Api {
    pub(super) fn new(node: NodeName, generation: u64, first: CallId, seed: u64) -> Self {
        let limits = Limits { call: Duration::from_secs(5), answer_bytes: ANSWER_MAX };
        let state = State {
            node,
            generation,
            next_event: 0,
            pending: BTreeMap::new(),
            streams: Streams::default(),
            is_stopping: false,
        };
        Self { kept: Kept::new(first, seed, limits, ()), state }
    }

    pub(super) fn on_http(
        &mut self,
        now: Now,
        request: &Request,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        state.on_request(&mut kept.cx(now, out), request);
    }

    pub(super) fn on_closed(
        &mut self,
        now: Now,
        closed: Closed,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        state.streams.on_closed(&mut kept.cx(now, out), closed);
    }

    pub(super) fn on_reply(
        &mut self,
        now: Now,
        reply: &Reply,
        out: &mut Vec<Output<ServicesFact>>,
    ) {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        let Some(call) = cx.take(reply.id) else { return };
        let outcome = cx.outcome(call, reply);
        state.on_answer(&mut cx, call, outcome.answer());
    }

    /// Fires the timers that are due.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) -> Next {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        while let Some(timer) = cx.next_due() {
            match timer {
                Timer::Over(id) => state.on_over(&mut cx, id),
                Timer::Watch => state.streams.watch(&mut cx),
            }
        }
        if state.is_stopping { Next::Exit } else { kept.next() }
    }

    /// Answers all requests that wait: the machine stops.
    pub(super) fn stop(&mut self, now: Now, out: &mut Vec<Output<ServicesFact>>) {
        let Self { kept, state } = self;
        let mut cx = kept.cx(now, out);
        state.is_stopping = true;
        cx.cancel_where(|_| true);
        for id in core::mem::take(&mut state.pending).into_keys() {
            cx.http(id, Answer::stopping());
        }
        state.streams.end(&mut cx);
    }
}

impl State {
    fn on_request(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let route = match Route::of(request) {
            Ok(route) => route,
            Err(answer) => return self.answer(cx, request.id, answer),
        };
        if self.is_stopping {
            return cx.http(request.id, Answer::stopping());
        }
        if request.body.len() > BODY_MAX {
            return self.answer(cx, request.id, refuse(413, "the body is too large"));
        }
        let is_change = |pending: &&Pending| matches!(pending, Pending::Change(_));
        let changes = self.pending.values().filter(is_change).count();
        let has_room = match route {
            Route::Change(_) => changes < CHANGES_MAX,
            Route::Query(_) | Route::Stream => true,
        };
        if self.pending.len() >= REQUESTS_MAX || !has_room {
            let why = "too many requests wait already; try again later";
            return self.answer(cx, request.id, refuse(503, why));
        }
        let pending = match route {
            Route::Stream => return self.streams.begin(cx, request.id),
            Route::Query(query) => Pending::Query(query),
            Route::Change(_) if request.trust < Trust::Authorized => {
                let why = "a changing request needs the token (--http-token-file) or the local socket (--http-socket)";
                return self.answer(cx, request.id, refuse(403, why));
            }
            Route::Change(asked) => match Change::new(asked, request) {
                Ok(change) => {
                    cx.arm(Timer::Over(request.id), change.within);
                    Pending::Change(Box::new(change))
                }
                Err(answer) => return self.answer(cx, request.id, answer),
            },
        };
        self.pending.insert(request.id, pending);
        self.read(cx, request.id);
    }

    fn read(&self, cx: &mut Cx<'_>, id: HttpId) {
        txn::send(cx, Call::Read(id), &Snapshot::ops());
    }

    fn answer(&mut self, cx: &mut Cx<'_>, id: HttpId, answer: Answer) {
        self.pending.remove(&id);
        cx.disarm(Timer::Over(id));
        if answer.status >= 400 && answer.status != 404 {
            cx.emit(Fact::Refused { why: answer.reason.clone() });
        }
        cx.http(id, answer);
    }

    fn on_answer(&mut self, cx: &mut Cx<'_>, call: Call, answer: Option<&consul::Answer>) {
        match call {
            Call::Watch => self.streams.on_watched(cx, answer),
            Call::Read(id) => match (self.pending.get(&id), Snapshot::of(answer)) {
                (None, _) => {}
                (Some(Pending::Change(change)), None) if change.waiting != Waiting::Plan => {
                    let why =
                        "the request is written; Consul does not answer what has become of it";
                    self.answer(cx, id, refuse(504, why));
                }
                (Some(_), None) => {
                    let why = "Consul does not answer; nothing was changed";
                    self.answer(cx, id, refuse(503, why));
                }
                (Some(Pending::Query(query)), Some(all)) => {
                    let query = query.clone();
                    self.show(cx, id, &query, &all);
                }
                (Some(Pending::Change(_)), Some(all)) => self.go_on(cx, id, &all),
            },
            Call::Write(id) => self.on_written(cx, id, answer),
            // Whatever the answer is, the records tell.
            Call::Worked(id) | Call::Settled(id) => {
                if self.pending.contains_key(&id) {
                    self.read(cx, id);
                }
            }
        }
    }

    fn show(&mut self, cx: &mut Cx<'_>, id: HttpId, query: &Query, all: &Snapshot) {
        let missing = || refuse(404, "there is no such type, or no such instance of it");
        let answer = match query {
            Query::Types => {
                let types = all.types.keys().filter_map(|kind| view::kind(all, kind));
                let types: Vec<_> = builtin::types(all).into_iter().chain(types).collect();
                Answer::new(200, format!("{}", json!(types)))
            }
            Query::Type(kind) if builtin::is_builtin(kind) => {
                Answer::new(200, format!("{}", builtin::kind(all, kind)))
            }
            Query::Type(kind) => view::kind(all, kind)
                .map_or_else(missing, |kind| Answer::new(200, format!("{kind}"))),
            Query::Instances(None, _) => {
                let mut found = builtin::instances(all, None, None);
                found.extend(view::instances(all, None, None));
                Answer::new(200, format!("{}", json!(found)))
            }
            Query::Instances(Some(kind), node) => {
                let mut found = builtin::instances(all, Some(kind), node.as_ref());
                found.extend(view::instances(all, Some(kind), node.as_ref()));
                let is_known = builtin::is_builtin(kind) || all.kind(kind).is_some();
                match (node, found.first()) {
                    _ if !is_known && found.is_empty() => missing(),
                    (None, _) => Answer::new(200, format!("{}", json!(found))),
                    (Some(_), Some(one)) => Answer::new(200, format!("{one}")),
                    (Some(_), None) => missing(),
                }
            }
            Query::Why(kind, node) if builtin::is_builtin(kind) => {
                let nodes = all.nodes.keys().filter(|on| node.as_ref().is_none_or(|of| of == *on));
                let why = nodes.map(|on| json!({ "node": on, "why": builtin::why(all, kind, on) }));
                Answer::new(200, format!("{}", json!(why.collect::<Vec<_>>())))
            }
            Query::Why(kind, _) if all.kind(kind).is_none() => missing(),
            Query::Why(kind, node) => {
                let mut nodes = all.places(kind);
                nodes.extend(
                    all.rows.keys().filter(|(of, _)| of == kind).map(|(_, node)| node.clone()),
                );
                nodes.extend(node.clone());
                nodes.sort_unstable();
                nodes.dedup();
                nodes.retain(|other| node.as_ref().is_none_or(|node| node == other));
                let why = nodes
                    .iter()
                    .map(|node| json!({ "node": node, "why": view::why(all, kind, node) }));
                Answer::new(200, format!("{}", json!(why.collect::<Vec<_>>())))
            }
            Query::Graph { dot: false } => Answer::new(200, format!("{}", Graph::of(all).json())),
            Query::Graph { dot: true } => {
                let body = Graph::of(all).dot().into_bytes().into();
                let content_type = "text/vnd.graphviz; charset=utf-8";
                self.pending.remove(&id);
                let response = Response { id, status: 200, content_type, allow: "", body };
                return cx.emit(Box::new(response));
            }
        };
        self.answer(cx, id, answer);
    }

    // ---- changes ----------------------------------------------------------------------------------

    /// Continues a changing request with the records.
    fn go_on(&mut self, cx: &mut Cx<'_>, id: HttpId, all: &Snapshot) {
        let Some(Pending::Change(change)) = self.pending.get_mut(&id) else { return };
        let step = match change.waiting {
            Waiting::Plan => {
                self.next_event += 1;
                let key = format!(
                    "{}{}/{:016x}.{:08x}",
                    super::model::keys::EVENTS,
                    self.node,
                    self.generation,
                    self.next_event
                );
                change.plan(&self.node, &key, &format!("{}", cx.now().wall), all)
            }
            Waiting::Written | Waiting::Worked => change.look(all),
        };
        match step {
            change::Step::Answer(answer) => self.answer(cx, id, answer),
            change::Step::Write(ops) => {
                txn::send(cx, Call::Write(id), &ops);
            }
            change::Step::Wait(target, index) => {
                watch::send(cx, Call::Settled(id), &target, index, change.within);
            }
        }
    }

    fn on_written(&mut self, cx: &mut Cx<'_>, id: HttpId, answer: Option<&consul::Answer>) {
        let Some(Pending::Change(change)) = self.pending.get_mut(&id) else { return };
        match txn::Outcome::of(answer) {
            txn::Outcome::Applied(results) => {
                let entries = results.iter().filter_map(|result| result.kv.as_ref());
                let index = entries.map(|entry| entry.modify_index).max().unwrap_or(0);
                change.waiting = Waiting::Written;
                let (what, of) = (change.word(), change.subject().into());
                cx.emit(Fact::Asked { what, of, by: change.by() });
                let target = change.event_target();
                watch::send(cx, Call::Worked(id), &target, index, change.within);
            }
            txn::Outcome::Conflict(_) if change.tries < TRIES => {
                change.tries += 1;
                self.read(cx, id);
            }
            txn::Outcome::Conflict(_) => {
                let why = "others change the same all the time; nothing was changed";
                self.answer(cx, id, refuse(503, why));
            }
            txn::Outcome::Denied(why) => self.answer(cx, id, refuse(503, &why)),
            txn::Outcome::Unknown(_) => {
                let why = "Consul does not answer; it is unknown whether the request is written. It may be repeated";
                self.answer(cx, id, refuse(504, why));
            }
        }
    }

    fn on_over(&mut self, cx: &mut Cx<'_>, id: HttpId) {
        let Some(Pending::Change(change)) = self.pending.get(&id) else { return };
        let answer = change.under_way();
        cx.cancel_where(|call| {
            [Call::Read(id), Call::Write(id), Call::Worked(id), Call::Settled(id)].contains(&call)
        });
        self.answer(cx, id, answer);
    }
}
