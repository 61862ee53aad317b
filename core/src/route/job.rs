//! What an event handler is given on its standard input, and what it says on its standard output: one line of JSON
//! each.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide::{Event, Response};
use super::node::{Mode, Node};
use super::provider::Provider;

/// How long a handler may go on after it was told to end.
pub const GRACE: Duration = Duration::from_millis(200);

/// The work of one event handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What has occurred.
    pub event: Event,
    /// How it is responded to.
    pub response: Response,
    /// Who has the route table.
    pub provider: Provider,
    /// Which router this is.
    pub mode: Mode,
    /// The redundancy node's parameters, by the names under which they are stored.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
    /// Under which lease, where its node has a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// What keeps out a router that has lost its lease, where the route table can compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The lease's key.
    pub key: Box<str>,
    /// The session that holds it.
    pub session: Box<str>,
    /// Its term: a route that was written in a later one is not written.
    pub term: u64,
}

impl Job {
    /// The work of an event on a redundancy node.
    #[must_use]
    pub fn new(event: Event, response: Response, node: &Node, fence: Option<Fence>) -> Self {
        let own = node.parameters.iter().map(|(name, value)| ((*name).into(), value.clone()));
        let (provider, mode) = (node.provider, node.mode());
        Self { event, response, provider, mode, parameters: own.collect(), fence }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// What was found and done, in words.
    pub detail: String,
    /// The later term in which the route has been written, where that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

impl Done {
    /// That it ended so.
    #[must_use]
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), term: None }
    }
}

/// How the work of an event handler ended. Nothing counts as written that was not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The route leads to this router now.
    Updated,
    /// It did already.
    Unchanged,
    /// It was read and written back.
    WrittenBack,
    /// Something is in the way.
    Failed,
}
