//! The classes of failures and ends.

use serde::{Deserialize, Serialize};

/// The class of a failure or an end, for rules and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It ended with exit code 0, without having been asked to.
    Clean,
    /// It ended with another exit code.
    Exit,
    /// A signal ended it.
    Signal,
    /// It ended, and nobody knows how.
    Unknown,
    /// The keeper could not start it.
    NotStarted,
    /// Another instance holds its service name.
    NameHeld,
    /// It was not ready in time.
    NotReady,
    /// It did not pass its check.
    Check,
    /// It could not be stopped.
    NotStopped,
    /// Its configuration or its installation is wrong, so another start would fail, too.
    Config,
    /// Its node was restarted.
    Reboot,
    /// It has told so itself.
    Told,
    /// It had announced its end.
    Announced,
}
