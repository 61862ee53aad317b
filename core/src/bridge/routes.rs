//! The HTTP routes.

use alloc::format;
use alloc::string::String;

use super::Parts;
use super::cx::Cx;
use super::tables;
use crate::base::fact::Fact;
use crate::consul::replica::Table;
use crate::http::answer::Answer;
use crate::http::payload;
use crate::http::port::Request;

/// Every route, its methods and what they do.
pub(crate) fn handle(parts: &mut Parts, cx: &mut Cx<'_>, request: &Request) {
    let path = request.target.split('?').next().unwrap_or("");
    let get = matches!(&*request.method, "GET" | "HEAD");
    let answer = match (path, &*request.method) {
        // As the old daemon: a text that claims to be JSON.
        ("/", _) if get => Answer::say(200, "I'm alive! Sincerely, HaX"),
        ("/", "POST") => service_health(parts, cx, request),
        ("/healthz", _) if get => Answer::say(200, r#"{"alive": true}"#),
        ("/readyz", _) if get => ready(parts),
        ("/", _) => not_allowed("GET, HEAD, POST"),
        ("/healthz" | "/readyz", _) => not_allowed("GET, HEAD"),
        _ => Answer::refuse(404, "HTTPNotFound", path, "There is nothing at this path"),
    };
    if answer.status >= 400 {
        let why = format!("{} {}", request.method, path.chars().take(100).collect::<String>());
        cx.fact(Fact::HttpRefused { http: request.id, status: answer.status, why: why.into() });
    }
    cx.http(request.id, answer);
}

fn not_allowed(allow: &'static str) -> Answer {
    let answer =
        Answer::refuse(405, "HTTPMethodNotAllowed", allow, "This path knows other methods");
    Answer { allow, ..answer }
}

/// The service-health watch (5/HAX, "Incoming HTTP requests"). Nothing of a payload that cannot be
/// parsed whole is taken.
fn service_health(parts: &mut Parts, cx: &mut Cx<'_>, request: &Request) -> Answer {
    if parts.stopping() {
        return Answer::refuse(503, "HTTPServiceUnavailable", "", "hax is stopping");
    }
    if request.body.len() > cx.config().limit.body_bytes {
        return Answer::refuse(413, "HTTPRequestEntityTooLarge", "", "The body is too large");
    }
    match payload::checks(&request.body) {
        Err(why) => Answer::refuse(400, "JSONDecodeError", &why, "Bad JSON provided"),
        Ok(checks) => {
            let n = u32::try_from(checks.len()).unwrap_or(u32::MAX);
            cx.fact(Fact::WatchPost { http: request.id, checks: n });
            checks
                .iter()
                .filter_map(tables::check)
                .for_each(|check| parts.cluster.take_check(check));
            Answer::done()
        }
    }
}

/// Ready: Consul answers, the replicas are loaded, and no stop has begun.
fn ready(parts: &Parts) -> Answer {
    let mut waits = String::new();
    for table in Table::ALL {
        if !parts.tables.replica(table).is_loaded() {
            waits.push_str(if waits.is_empty() { "" } else { ", " });
            waits.push_str(&format!("\"{}\"", table.name()));
        }
    }
    let consul = parts.tables.consul_answers;
    let ready = parts.ready && consul && !parts.stopping();
    let stopping = parts.stopping();
    let body = format!(
        r#"{{"ready": {ready}, "consul": {consul}, "stopping": {stopping}, "waits_for": [{waits}]}}"#
    );
    Answer::say(if ready { 200 } else { 503 }, body)
}
