//! The HTTP routes.

pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod subscribe;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde_json::json;

use crate::base::fid::Fid;
use crate::bridge::State;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Report;
use crate::bridge::replicas::Tables;
use crate::bridge::replicas::decoding;
use crate::bridge::spiel::sns;
use crate::cluster::replica::Table;
use crate::cluster::states::ProcessRecord;
use crate::consul::json::{self, KvEntry};
use crate::ha::fact::Fact;
use crate::http::answer::Answer;
use crate::http::payload::Payload;
use crate::http::port::{Request, Trust};
use crate::http::router::{self, Route, get, post};

/// The result of a request with a body: a response now, or `None` if the response comes later. The error
/// describes what is wrong with the body.
type Handled = Result<Option<Answer>, Box<str>>;

/// The handler of a route.
#[derive(Clone, Copy)]
enum Handler {
    /// Responds from the current state.
    Answer(fn(&State, &Cx<'_>) -> Answer),
    /// Reports on the cluster.
    Report(Report),
    /// Processes a request body.
    Change(fn(&mut State, &mut Cx<'_>, &Request) -> Handled),
}

/// The path for posts of the watch of the broadcast queue.
pub const BQ_WATCH_PATH: &str = "/watcher/bq";
/// The path for posts of the watch of processes.
pub const PROCESS_WATCH_PATH: &str = "/watcher/processes";

const ROUTES: [Route<Handler>; 12] = [
    // The old daemon's response: a plain text with the content type of JSON.
    get("/", Handler::Answer(|_, _| Answer::new(200, "I'm alive! Sincerely, HaX"))),
    post("/", Handler::Change(service_health)),
    post(BQ_WATCH_PATH, Handler::Change(queue)),
    post(PROCESS_WATCH_PATH, Handler::Change(process)),
    post("/v1/events/subscribe", Handler::Change(subscribe)),
    post("/v1/events/unsubscribe", Handler::Change(unsubscribe)),
    get("/healthz", Handler::Answer(|_, _| Answer::new(200, r#"{"alive": true}"#))),
    get("/readyz", Handler::Answer(ready)),
    get("/status", Handler::Answer(status::status)),
    get("/v1/cluster/status", Handler::Report(Report::Status)),
    get("/v1/cluster/status/bytecount", Handler::Report(Report::ByteCount)),
    get("/v1/cluster/fetch-fids", Handler::Report(Report::Fids)),
];

pub(crate) fn handle(state: &mut State, cx: &mut Cx<'_>, request: &Request) {
    let path = router::path(&request.target);
    let answer = match path.strip_prefix("/api/v1/sns/") {
        Some(name) => operation(state, cx, request, name),
        None => match router::find(&ROUTES, &request.method, path) {
            Ok(Handler::Answer(say)) => Some(say(state, cx)),
            Ok(Handler::Report(which)) => report(state, cx, request, which),
            Ok(Handler::Change(take)) => change(state, cx, request, take),
            Err(answer) => Some(answer),
        },
    };
    if let Some(answer) = answer {
        reply(cx, request, answer);
    }
}

fn reply(cx: &mut Cx<'_>, request: &Request, answer: Answer) {
    let path = router::path(&request.target);
    // "Not ready" is a normal response to a readiness probe, so it is not reported as a refusal.
    if answer.status >= 400 && path != "/readyz" {
        let start = |text: &str, most| text.chars().take(most).collect::<String>();
        let (path, reason) = (start(path, 100), start(&answer.reason, 200));
        let why = format!("{} {path}: {reason}", request.method);
        cx.fact(Fact::HttpRefused { http: request.id, status: answer.status, why: why.into() });
    }
    cx.http(request.id, answer);
}

/// Handles an operation on a pool, if the path names one.
fn operation(state: &mut State, cx: &mut Cx<'_>, request: &Request, name: &str) -> Option<Answer> {
    let get = matches!(&*request.method, "GET" | "HEAD");
    match sns::Route::named(name) {
        None => Some(Answer::not_found(&request.target)),
        Some(route) if route.is_get() && !get => Some(Answer::not_allowed("GET, HEAD")),
        Some(route) if !route.is_get() && &*request.method != "POST" => {
            Some(Answer::not_allowed("POST"))
        }
        Some(route) => change(state, cx, request, |state, cx, request| {
            sns::on_request(state, cx, request, &route)
        }),
    }
}

/// Starts a report on the cluster, once the replicas are loaded.
fn report(state: &State, cx: &mut Cx<'_>, request: &Request, which: Report) -> Option<Answer> {
    if state.stopping() {
        return Some(Answer::stopping());
    }
    if !state.ready {
        return Some(Answer::not_ready());
    }
    report::on_request(cx, which, request.id);
    None
}

/// Handles a modifying request, within the limits and not during a stop. A malformed body is rejected as a
/// whole.
///
/// `take` returns the response, if it is known now, or an error for a malformed body.
fn change(
    state: &mut State,
    cx: &mut Cx<'_>,
    request: &Request,
    take: impl FnOnce(&mut State, &mut Cx<'_>, &Request) -> Handled,
) -> Option<Answer> {
    if state.stopping() {
        return Some(Answer::stopping());
    }
    if request.body.len() > cx.config().limit.body_bytes {
        if router::path(&request.target) == BQ_WATCH_PATH && cx.config().bq {
            state.bq_receiver.on_hint();
        }
        return Some(Answer::refuse(413, "HTTPRequestEntityTooLarge", "", "The body is too large"));
    }
    take(state, cx, request).unwrap_or_else(|why| {
        Some(Answer::refuse(400, "JSONDecodeError", &why, "Bad JSON provided"))
    })
}

/// Handles a post of the service-health watch (5/HAX, "Incoming HTTP requests").
///
/// A watch either runs on our node or presents hax's token. A post from another sender is only a hint: hax
/// reads Consul, and announces the change when Consul has confirmed it.
fn service_health(state: &mut State, cx: &mut Cx<'_>, request: &Request) -> Handled {
    let payload = Payload::read(&request.body)?;
    let n = u32::try_from(payload.checks().count()).unwrap_or(u32::MAX);
    cx.fact(Fact::WatchPost { http: request.id, checks: n });
    let most = cx.config().limit.posted_checks;
    let mut newest = 0;
    for check in payload.checks().filter_map(decoding::check) {
        let index = check.index;
        let replica = state.tables.replica(Table::Health).index;
        if request.trust == Trust::None {
            if index > replica {
                Tables::on_hint(cx);
            }
        } else if state.cluster.apply_posted(check, replica, most) {
            newest = newest.max(index);
            if index <= replica {
                Tables::schedule_recheck(cx);
            }
        }
    }
    state.tables.on_posted(cx, Table::Health, newest);
    Ok(Some(Answer::done()))
}

/// Handles a post of the broadcast queue's watch. The request is answered when all its entries are processed.
fn queue(state: &mut State, cx: &mut Cx<'_>, request: &Request) -> Handled {
    if !cx.config().bq {
        return Ok(Some(Answer::done()));
    }
    state.bq_receiver.on_post(cx, request.id, &request.body).map(|()| None)
}

/// Handles a post of the watch of one process's key.
///
/// The posted value is in Consul, so it is read there. Acting on the post alone would let any sender end a
/// process's life.
fn process(state: &mut State, cx: &mut Cx<'_>, request: &Request) -> Handled {
    let entry: Option<KvEntry<'_>> = json::parse(&request.body)?;
    if let Some(entry) = entry {
        let process: Option<Fid> =
            entry.key.strip_prefix("processes/").and_then(|fid| fid.parse().ok());
        let process = process.ok_or("the key is not processes/<fid>")?;
        let record = entry.bytes().and_then(|value| ProcessRecord::from_kv(&value, entry.flags));
        let _valid = record.ok_or("the value is not that of a process")?;
        if state.cluster.conf().get_process(process).is_some() {
            state.tables.on_posted(cx, Table::Processes, entry.modify_index);
        }
    }
    Ok(Some(Answer::done()))
}

fn subscribe(state: &mut State, cx: &mut Cx<'_>, request: &Request) -> Handled {
    state.subscriptions.on_request(cx, request.id, true, &request.body).map(|()| None)
}

fn unsubscribe(state: &mut State, cx: &mut Cx<'_>, request: &Request) -> Handled {
    state.subscriptions.on_request(cx, request.id, false, &request.body).map(|()| None)
}

/// Answers a readiness probe.
///
/// hax is ready when Consul responds and permits the requests that hax needs, the replicas are loaded, and no
/// stop has begun.
fn ready(state: &State, cx: &Cx<'_>) -> Answer {
    let (now, refusals) = (cx.now().mono, cx.refusals());
    let (waits, why) = state.waits_for(refusals, now);
    let (consul, stopping) = (state.is_served(refusals, now), state.stopping());
    let ready = state.has_all() && consul && !stopping;
    let (waits, why) = (json!(waits), json!(why));
    let body = format!(
        r#"{{"ready": {ready}, "consul": {consul}, "stopping": {stopping}, "waits_for": {waits}, "why": {why}}}"#
    );
    Answer::new(if ready { 200 } else { 503 }, body)
}
