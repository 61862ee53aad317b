//! The port between a machine and the host's runner of short programs: event handlers, tasks, hooks,
//! `systemctl`.
//!
//! A *helper* is one such program with all processes in its process group. It has a deadline, and it ends
//! with its daemon. A program that must outlive the daemon is a service and not a helper.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::errno::Errno;
use crate::base::id::ExecId;

/// A command for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Starts a helper. The host reports [`Event::Refused`] and nothing else, or [`Event::Started`], any
    /// number of [`Event::Output`] and exactly one [`Event::Exited`], in this order.
    Spawn(Box<Spawn>),
    /// Ends a helper before its deadline: SIGTERM to its process group, and SIGKILL after its grace. No
    /// effect if it has ended, or is being ended already.
    Kill {
        /// The helper.
        id: ExecId,
    },
}

/// A helper to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The id of the helper.
    pub id: ExecId,
    /// The origin of the command line.
    pub origin: Origin,
    /// The program, as an absolute path, and its arguments.
    pub argv: Box<[Box<str>]>,
    /// Environment variables. They are added to the few of every helper, or replace them. Nothing is
    /// inherited from the daemon.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// The complete standard input; the helper need not read it.
    pub stdin: Bytes,
    /// The maximum run time from the start. At its end the helper gets a SIGTERM.
    pub deadline: Duration,
    /// The maximum time after a SIGTERM. At its end the helper gets a SIGKILL.
    pub grace: Duration,
    /// The maximum of bytes passed on from each of its two outputs. The rest is read, counted and dropped, so
    /// a helper with too much output does not block.
    pub output_max: usize,
    /// Whether the processes that are left in its group live on once it has ended by itself: it starts daemons, as
    /// the agents of Pacemaker do. Else they are killed.
    pub leaves_daemons: bool,
}

/// The origin of a command line.
///
/// A writer to Consul must not become root. So a command line from Consul may only name programs that the
/// node's administrator has put into the folders for that purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// hax itself, by a name in its own code.
    Own,
    /// A record, a request or a setting.
    Configured,
}

/// An event of a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The helper runs.
    Started {
        /// The helper.
        id: ExecId,
    },
    /// The helper could not be started, and there was no effect. No event with this id follows.
    Refused {
        /// The helper.
        id: ExecId,
        /// The reason.
        why: Refusal,
    },
    /// The helper has written output. A piece may end anywhere, in a line or in a character.
    Output {
        /// The helper.
        id: ExecId,
        /// The output stream.
        stream: Stream,
        /// The bytes, at least one.
        bytes: Bytes,
    },
    /// The helper and its process group have ended. No event with this id follows.
    Exited {
        /// The helper.
        id: ExecId,
        /// The exit status.
        status: Status,
        /// The cause of the end.
        cause: Cause,
        /// The omitted output.
        unheard: Unheard,
    },
}

impl Event {
    /// Returns the helper.
    #[must_use]
    pub const fn id(&self) -> ExecId {
        match self {
            Self::Started { id }
            | Self::Refused { id, .. }
            | Self::Output { id, .. }
            | Self::Exited { id, .. } => *id,
        }
    }
}

/// The reason why a helper could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The limit of running helpers is reached.
    TooMany,
    /// The program is missing or not an absolute path, or a string contains a NUL.
    Malformed,
    /// The program is in none of the folders for [`Origin::Configured`] programs.
    Elsewhere,
    /// Another user could write to the program or to a folder on its path.
    Untrusted,
    /// The program does not exist.
    Missing,
    /// The program may not be executed.
    Denied,
    /// The daemon is stopping.
    Stopping,
    /// The operating system reports an error.
    Failed(Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "too many programs run already",
            Self::Malformed => "a program is an absolute path, and no word of it has a NUL",
            Self::Elsewhere => "the program is in none of the allowed folders",
            Self::Untrusted => "others may write to the program or to a folder on the way to it",
            Self::Missing => "there is no such program",
            Self::Denied => "it is no program that may be executed",
            Self::Stopping => "hax is stopping",
            Self::Failed(errno) => return write!(f, "it cannot be started: {errno}"),
        })
    }
}

/// An output stream of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The exit status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The process ended by itself with this exit code.
    Code(i32),
    /// The process was ended by this signal.
    Signal(i32),
    /// The exit code is unknown: another process has collected it.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("an unknown exit code"),
        }
    }
}

/// The cause of a helper's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The helper ended by itself, or was killed from outside.
    Itself,
    /// The deadline has passed.
    Deadline,
    /// [`Command::Kill`], or the end of the daemon.
    Killed,
}

/// The omitted output of a helper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    /// The number of bytes beyond [`Spawn::output_max`].
    pub dropped: u64,
    /// Whether an output was still open when the host stopped reading: a process left behind by the helper
    /// holds it.
    pub open: bool,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn what_went_wrong_is_said_in_words() {
        let why = Refusal::Failed(Errno::EAGAIN).to_string();
        assert_eq!(why, "it cannot be started: EAGAIN");
        assert_eq!(Status::Code(3).to_string(), "exit code 3");
        assert_eq!(Status::Signal(9).to_string(), "signal 9");
    }

    /// Events are part of every machine's inputs and outputs.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 56, "{}", size_of::<Event>());
        assert!(size_of::<Command>() <= 16, "{}", size_of::<Command>());
    }
}
