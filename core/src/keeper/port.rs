//! The port between a machine and the keeper of its node.
//!
//! The host keeps a connection to the keeper, and opens it again when it is lost. It subscribes to all events
//! on its own, so a machine never sends [`Ask::List`] or [`Ask::Watch`].

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::answer::{self, Answer, KeeperView, View};
use super::request::Ask;
use crate::base::id::AskId;

/// A request to the keeper. The host reports exactly one [`Event::Answered`] for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The id of the request, assigned by the machine.
    pub id: AskId,
    /// The requested operation.
    pub ask: Ask,
}

/// An event of the connection to the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The keeper answers. Its instances at that time are listed, and each later event of an instance is
    /// reported, in order, until [`Event::Down`].
    Up {
        /// The keeper.
        keeper: Box<KeeperView>,
        /// All instances in the keeper's table.
        instances: Vec<View>,
    },
    /// The keeper does not answer, or the connection is lost. All earlier requests are answered. A repeated
    /// failure to connect is reported only if its reason is another one.
    Down {
        /// The reason, as text.
        why: Box<str>,
    },
    /// The result of a request.
    Answered {
        /// The request.
        id: AskId,
        /// The keeper's answer, or the reason why there is none.
        result: Result<Answer, Unanswered>,
    },
    /// An instance has changed.
    Changed(answer::Event),
}

/// The reason why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unanswered {
    /// The keeper refuses the request, and nothing has changed.
    Refused(answer::Error),
    /// There is no connection, and the request was not sent.
    NotSent,
    /// The connection was lost before the answer. Whether the request took effect is unknown; the instances
    /// of the next [`Event::Up`] tell.
    Lost,
}
