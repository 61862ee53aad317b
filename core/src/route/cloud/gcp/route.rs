//! A route of Compute Engine, and the operations on it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::super::parameters::split_cidr;
use super::super::http::Reply;
use super::super::said::{bounded, refusal};

/// The maximum length of an operation's name: more than Google has.
const NAME_MAX: usize = 256;

/// A route, with the fields that a redundancy node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Route {
    pub(super) name: Box<str>,
    #[serde(default)]
    pub(super) dest_range: Box<str>,
    #[serde(default)]
    pub(super) network: Box<str>,
    #[serde(default)]
    pub(super) priority: u32,
    #[serde(default)]
    pub(super) next_hop_ip: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Box<str>>,
}

impl Route {
    /// Reads a route. None means that there is none.
    pub(super) fn read(what: &str, reply: &Reply) -> Result<Option<Self>, String> {
        match reply.status {
            404 if is_missing(reply) => Ok(None),
            200 => serde_json::from_slice(&reply.body)
                .map(Some)
                .map_err(|_| format!("{what}: the reply is no route")),
            _ => Err(refusal(what, reply)),
        }
    }

    /// Returns the route as JSON.
    pub(super) fn encode(&self) -> String {
        // The route contains only text and numbers, so it can always be serialized.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the first difference from the wanted route, as text.
    pub(super) fn difference(&self, wanted: &Self) -> Option<String> {
        let differs = |what: &str, found: &str, wanted: &str| {
            Some(format!("its {what} is {} and not {wanted}", bounded(found)))
        };
        if split_cidr(&self.dest_range) != split_cidr(&wanted.dest_range) {
            return differs("destRange", &self.dest_range, &wanted.dest_range);
        }
        let hop = |text: &str| text.parse::<IpAddr>().ok();
        if hop(&self.next_hop_ip).is_none() || hop(&self.next_hop_ip) != hop(&wanted.next_hop_ip) {
            return differs("nextHopIp", &self.next_hop_ip, &wanted.next_hop_ip);
        }
        if self.priority != wanted.priority {
            let (found, wanted) = (self.priority.to_string(), wanted.priority.to_string());
            return differs("priority", &found, &wanted);
        }
        // The reply has a whole URL, with the version of the API before the project.
        let tail = |network: &str| network.rsplit("/projects/").next().map(String::from);
        let wanted_network = wanted.network.strip_prefix("projects/").unwrap_or(&wanted.network);
        if tail(&self.network).as_deref() != Some(wanted_network) {
            return differs("network", &self.network, &wanted.network);
        }
        None
    }
}

/// Returns whether a reply of 404 is about the resource, and not about the path or a proxy.
fn is_missing(reply: &Reply) -> bool {
    serde_json::from_slice::<serde_json::Value>(&reply.body)
        .is_ok_and(|value| value["error"]["code"].as_u64() == Some(404))
}

/// An operation. Its errors are in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    name: Box<str>,
    status: Box<str>,
    #[serde(default)]
    error: Option<Errors>,
    #[serde(default)]
    http_error_message: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: alloc::vec::Vec<OperationError>,
}

#[derive(Debug, Deserialize)]
struct OperationError {
    #[serde(default)]
    code: Box<str>,
    #[serde(default)]
    message: Box<str>,
}

/// The state of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, under this name.
    Running(Box<str>),
    Done,
}

/// Reads the state of an operation.
///
/// # Errors
///
/// The operation was refused, or it failed.
pub(super) fn operation(what: &str, reply: &Reply) -> Result<State, String> {
    if reply.status != 200 {
        return Err(refusal(what, reply));
    }
    let operation: Operation = serde_json::from_slice(&reply.body)
        .map_err(|_| format!("{what}: the reply is no operation"))?;
    if &*operation.status != "DONE" {
        let is_name = (1..=NAME_MAX).contains(&operation.name.len());
        let bad = || format!("{what}: the operation has no name");
        return if is_name { Ok(State::Running(operation.name)) } else { Err(bad()) };
    }
    let first = operation.error.unwrap_or_default().errors.into_iter().next();
    match (first, operation.http_error_message) {
        (Some(OperationError { code, message }), _) => {
            Err(format!("{what}: {}", bounded(&format!("{code}: {message}"))))
        }
        (None, Some(message)) => Err(format!("{what}: {}", bounded(&message))),
        (None, None) => Ok(State::Done),
    }
}
