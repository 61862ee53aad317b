//! The paths, and what they ask for.

use alloc::boxed::Box;

use super::refuse;
use crate::http::answer::Answer;
use crate::http::port::Request;
use crate::http::router::{self, query};
use crate::services::health::STATUS_PATH;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::record::Verb;
use crate::services::voice::TELL_PATH;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Query(Query),
    Change(Asked),
    /// An open response with all changes.
    Stream,
}

/// A request that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Types,
    Type(TypeName),
    Instances(Option<TypeName>, Option<NodeName>),
    Why(TypeName, Option<NodeName>),
    Graph { dot: bool },
}

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Defines a type. With `check` the type is only checked.
    Define { check: bool },
    /// Stores parameters of a type.
    Configure(TypeName),
    /// Starts, stops or restarts instances.
    Move(Verb, TypeName, Option<NodeName>),
    /// Deletes all records of a node that does not return.
    Forget(NodeName),
}

impl Route {
    /// Returns what a request asks for.
    ///
    /// # Errors
    ///
    /// The answer: there is nothing at the path, or it has another method.
    pub(super) fn of(request: &Request) -> Result<Self, Answer> {
        let path = router::path(&request.target);
        let (segments, is_whole) = segments(path);
        let route = segments
            .filter(|_| is_whole)
            .and_then(|of| route(of, &request.target, &*request.method == "POST"));
        let route = route.ok_or_else(|| Answer::not_found(path))??;
        let is_get = matches!(&*request.method, "GET" | "HEAD");
        match &route {
            Self::Change(_) if &*request.method != "POST" => Err(Answer::not_allowed("POST")),
            Self::Query(_) | Self::Stream if !is_get => Err(Answer::not_allowed("GET, HEAD")),
            Self::Change(_) | Self::Query(_) | Self::Stream => Ok(route),
        }
    }
}

/// Returns whether a path is of services. The bridge has other paths below `/v1/`.
#[must_use]
pub fn has_path(path: &str) -> bool {
    let first = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next());
    matches!(first, Some("types" | "services" | "graph" | "nodes"))
        || matches!(path, "/v1/events/stream" | STATUS_PATH | TELL_PATH)
}

/// Returns up to three segments of a path below `/v1/`, and whether these are all.
fn segments(path: &str) -> (Option<[&str; 4]>, bool) {
    let Some(rest) = path.strip_prefix("/v1/") else { return (None, false) };
    let mut parts = rest.split('/');
    let mut next = || parts.next().unwrap_or("");
    let segments = [next(), next(), next(), next()];
    (Some(segments), parts.next().is_none())
}

fn route(segments: [&str; 4], target: &str, is_post: bool) -> Option<Result<Route, Answer>> {
    let kind = |text: &str| {
        TypeName::new(text).ok_or_else(|| refuse(404, "a type's name is a lower-case word"))
    };
    let node =
        |text: &str| NodeName::new(text).ok_or_else(|| refuse(404, "this is no node's name"));
    let asked = |verb: Verb, of: &str| {
        let node = query(target, "node").map(&node).transpose()?;
        Ok(Route::Change(Asked::Move(verb, kind(of)?, node)))
    };
    Some(match segments {
        ["types", "", "", ""] if is_post => Ok(Route::Change(Asked::Define { check: false })),
        ["types", "", "", ""] => Ok(Route::Query(Query::Types)),
        ["types", "check", "", ""] if is_post => Ok(Route::Change(Asked::Define { check: true })),
        ["types", of, "", ""] => kind(of).map(|kind| Route::Query(Query::Type(kind))),
        ["types", of, "reconfigure", ""] => {
            kind(of).map(|kind| Route::Change(Asked::Configure(kind)))
        }
        ["graph", "", "", ""] => {
            let dot = query(target, "format") == Some("dot");
            Ok(Route::Query(Query::Graph { dot }))
        }
        ["events", "stream", "", ""] => Ok(Route::Stream),
        ["nodes", on, "forget", ""] => node(on).map(|node| Route::Change(Asked::Forget(node))),
        ["services", "", "", ""] => Ok(Route::Query(Query::Instances(None, None))),
        ["services", of, "", ""] => {
            kind(of).map(|kind| Route::Query(Query::Instances(Some(kind), None)))
        }
        ["services", of, "start", ""] => asked(Verb::Start, of),
        ["services", of, "stop", ""] => asked(Verb::Stop, of),
        ["services", of, "restart", ""] => asked(Verb::Restart, of),
        ["services", of, "why", ""] => kind(of).and_then(|kind| {
            let node = query(target, "node").map(node).transpose()?;
            Ok(Route::Query(Query::Why(kind, node)))
        }),
        ["services", of, on, ""] => kind(of)
            .and_then(|kind| Ok(Route::Query(Query::Instances(Some(kind), Some(node(on)?))))),
        _ => return None,
    })
}

/// Returns a type's name as text for an error.
pub(super) fn unknown(kind: &TypeName) -> Box<str> {
    alloc::format!("{kind} is not defined").into()
}
