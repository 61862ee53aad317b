//! The standard input and the standard output of an event handler: one line of JSON each.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide::{Event, Response};
use super::node::{Mode, Node};
use super::provider::Provider;

/// The maximum time for which a handler may continue after it was asked to terminate.
pub const GRACE: Duration = Duration::from_millis(200);

/// The environment variable with the time that a handler has, in milliseconds. A handler ends itself then: its
/// server may stand still, and another router may write meanwhile.
pub const WITHIN: &str = "HAX_HANDLER_WITHIN";

/// The job of one event handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The event.
    pub event: Event,
    /// The response to the event.
    pub response: Response,
    /// The provider of the route table.
    pub provider: Provider,
    /// The mode of this router.
    pub mode: Mode,
    /// The redundancy node's parameters, by the names under which they are stored.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
    /// The lease under which the route is written, if the node has a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The maximum duration of the handler, in milliseconds. None means that of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// The token that an earlier handler with the same credentials obtained, if it is still valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// The result of a login at a cloud: an access token, or temporary credentials. The server keeps it in memory
/// for the next handler. It is neither stored nor shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The token, in the form of its provider.
    pub value: Box<str>,
    /// The second of UNIX time at which it expires.
    pub expires: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(token, expires {})", self.expires)
    }
}

/// The data by which a route table that can compare refuses a router that has lost its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The lease's key.
    pub key: Box<str>,
    /// The session that holds the lease.
    pub session: Box<str>,
    /// The term of the lease. A route that was written in a later term is not written.
    pub term: u64,
}

impl Job {
    /// Creates the job of an event on a redundancy node.
    #[must_use]
    pub fn new(event: Event, response: Response, node: &Node, fence: Option<Fence>) -> Self {
        let own = node.parameters.iter().map(|(name, value)| ((*name).into(), value.clone()));
        let (provider, mode) = (node.provider, node.mode());
        let (parameters, within_ms, token) = (own.collect(), None, None);
        Self { event, response, provider, mode, parameters, fence, within_ms, token }
    }
}

/// The result of an event handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The outcome.
    pub outcome: Outcome,
    /// A description of the findings and actions, as text.
    pub detail: String,
    /// The later term in which the route has been written, if that prevented the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The token of this handler's login, for the next handler with the same credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

impl Done {
    /// Creates a result without a term and a token.
    #[must_use]
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), term: None, token: None }
    }
}

/// The outcome of an event handler. A write counts only after it has been read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The route has been changed and leads to this router.
    Updated,
    /// The route led to this router already.
    Unchanged,
    /// The route was read and written back.
    WrittenBack,
    /// The response could not be carried out.
    Failed,
}
