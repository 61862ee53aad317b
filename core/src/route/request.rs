//! What clients ask of the server, and what they are answered: the two texts that go through a client's pipes,
//! JSON both.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::decide::Event;
use super::node::{Index, Mode};
use super::provider::Provider;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Add a redundancy node; change what is given of one that exists.
    CreateNode {
        /// Which.
        index: Index,
        /// Its parameters.
        set: Set,
    },
    /// Change what is given of a redundancy node.
    SetParams {
        /// Which.
        index: Index,
        /// The parameters to change.
        set: Set,
    },
    /// Take parameters away from a redundancy node.
    ClearParams {
        /// Which.
        index: Index,
        /// The parameters.
        clear: Clear,
    },
    /// Show one redundancy node, or all of them.
    ShowNode {
        /// Which, if not all.
        index: Option<Index>,
    },
    /// Take a redundancy node away; it need not be there.
    DeleteNode {
        /// Which.
        index: Index,
    },
    /// An event has occurred.
    NodeEvent {
        /// On which redundancy nodes.
        nodes: Nodes,
        /// What.
        event: Event,
        /// Whether the answer comes when the event has been worked; else at once.
        wait: bool,
    },
    /// Answer, if you serve.
    Ping,
    /// Delete all state and end.
    Stop,
    /// What the server holds and does.
    Status,
}

/// The redundancy nodes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nodes {
    /// One, which has to be there.
    One(Index),
    /// Those that there are from one index to another, both included.
    Range(Index, Index),
    /// All that there are.
    All,
}

/// What is given of a redundancy node; of which provider the parameters are, the node decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its provider.
    pub provider: Option<Provider>,
    /// Which of the two routers this is.
    pub mode: Option<Mode>,
    /// Values by their flags.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
}

/// What is to be taken away from a redundancy node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The mode.
    pub mode: bool,
    /// Parameters by their flags.
    pub parameters: BTreeSet<Box<str>>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// With what the client ends: [`exit`].
    pub exit: u8,
    /// What it says, on standard error unless all is well.
    pub text: String,
}

/// The exit codes of the scripts.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// `create_node`, `set_params`, `clear_params` or `show_node` failed.
    pub const NODE: u8 = 3;
    /// `delete_node` or `ha_api` failed, or no server answers.
    pub const SERVER: u8 = 4;
    /// `node_event` failed.
    pub const EVENT: u8 = 7;
}

impl Request {
    /// With what its client ends if it fails.
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

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> String {
        // Nothing in it is other than texts and numbers.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Answer {
    /// All is well.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Self {
        Self { exit: exit::OK, text: text.into() }
    }

    /// It failed.
    #[must_use]
    pub fn failed(exit: u8, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
