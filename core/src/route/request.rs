//! The requests of clients and the replies to them. Both are JSON texts that pass through a client's pipes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::decide::Event;
use super::node::{Index, Mode};
use super::provider::Provider;

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Adds a redundancy node. If it exists, the given properties are changed.
    CreateNode {
        /// The index.
        index: Index,
        /// The provider, mode and parameters.
        set: Set,
    },
    /// Changes the given properties of a redundancy node.
    SetParams {
        /// The index.
        index: Index,
        /// The parameters to change.
        set: Set,
    },
    /// Removes parameters from a redundancy node.
    ClearParams {
        /// The index.
        index: Index,
        /// The parameters to remove.
        clear: Clear,
    },
    /// Shows one redundancy node or all of them.
    ShowNode {
        /// The index. None means all.
        index: Option<Index>,
    },
    /// Deletes a redundancy node. It need not exist.
    DeleteNode {
        /// The index.
        index: Index,
    },
    /// Reports an event.
    NodeEvent {
        /// The redundancy nodes of the event.
        nodes: Nodes,
        /// The event.
        event: Event,
        /// Whether the reply is sent when the event has been handled, or at once.
        wait: bool,
    },
    /// Checks whether a server responds.
    Ping,
    /// Deletes all state and ends the server.
    Stop,
    /// Shows the server's state and its work in progress.
    Status,
}

/// The redundancy nodes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nodes {
    /// One node, which has to exist.
    One(Index),
    /// All existing nodes from one index to another, inclusive.
    Range(Index, Index),
    /// All existing nodes.
    All,
}

/// The given properties of a redundancy node. The node's provider determines the parameters that are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The provider.
    pub provider: Option<Provider>,
    /// The mode of this router.
    pub mode: Option<Mode>,
    /// The values of parameters, by flag.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
}

/// The properties to remove from a redundancy node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// Whether the mode is removed.
    pub mode: bool,
    /// The flags of the parameters to remove.
    pub parameters: BTreeSet<Box<str>>,
}

/// The reply to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The exit code of the client, from [`exit`].
    pub exit: u8,
    /// The text that the client prints. It goes to standard error unless the exit code is 0.
    pub text: String,
}

/// The exit codes of the scripts.
pub mod exit {
    /// Success.
    pub const OK: u8 = 0;
    /// The command line is invalid.
    pub const USAGE: u8 = 2;
    /// `create_node`, `set_params`, `clear_params` or `show_node` failed.
    pub const NODE: u8 = 3;
    /// `delete_node` or `ha_api` failed, or no server responds.
    pub const SERVER: u8 = 4;
    /// `node_event` failed.
    pub const EVENT: u8 = 7;
}

impl Request {
    /// Returns the exit code of the client if the request fails.
    #[must_use]
    pub const fn failure(&self) -> u8 {
        match self {
            Self::CreateNode { .. }
            | Self::SetParams { .. }
            | Self::ClearParams { .. }
            | Self::ShowNode { .. } => exit::NODE,
            Self::DeleteNode { .. } | Self::Ping | Self::Stop | Self::Status => exit::SERVER,
            Self::NodeEvent { .. } => exit::EVENT,
        }
    }

    /// Returns the request as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        // The request contains only text and numbers, so it can always be serialized.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Answer {
    /// Creates a reply of success.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self { exit: exit::OK, text: text.into() }
    }

    /// Creates a reply of failure.
    #[must_use]
    pub fn failed(exit: u8, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// Returns the reply as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
