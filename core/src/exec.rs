//! The port between a machine and whatever runs short programs for it: event handlers, tasks, hooks,
//! `systemctl`.
//!
//! A *helper* is one such program with all that it starts in its process group. It has a deadline, and it ends
//! with its daemon. What is to live on is a service, and the keeper's.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::ExecId;

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Starts a helper. Owed: [`Event::Refused`] and nothing else, or [`Event::Started`], any number of
    /// [`Event::Output`] and exactly one [`Event::Exited`], in this order.
    Spawn(Box<Spawn>),
    /// Ends a helper before its deadline: SIGTERM to its process group, SIGKILL once its grace is over.
    /// Nothing if it has ended, or is being ended already.
    Kill {
        /// Which.
        id: ExecId,
    },
}

/// A helper that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Names it.
    pub id: ExecId,
    /// Who says that this program is to be run.
    pub origin: Origin,
    /// The program, as an absolute path, and its arguments.
    pub argv: Box<[Box<str>]>,
    /// Added to the few variables that every helper has, or put in their place: nothing is inherited from
    /// the daemon.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// All that it can read; it need not.
    pub stdin: Bytes,
    /// How long it may run, from its start. Then it gets a SIGTERM.
    pub deadline: Duration,
    /// How long it may go on after a SIGTERM. Then it gets a SIGKILL.
    pub grace: Duration,
    /// How much of each of its two outputs is passed on, in bytes. The rest is read, counted and dropped: a
    /// helper that says too much does not hang on it.
    pub output_max: usize,
}

/// Who says that a program is to be run. Whoever can write to Consul must not become root, so what is read
/// there may only name programs that the node's administrator has put in the folders for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// hax itself, by a name in its own code.
    Own,
    /// A record, a request or a setting.
    Configured,
}

/// What happened to a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Started {
        /// Which.
        id: ExecId,
    },
    /// It could not be started, and nothing has been done. Nothing follows for this name.
    Refused {
        /// Which.
        id: ExecId,
        /// Why.
        why: Refusal,
    },
    /// It has said something. A piece may end anywhere, in a line or in a character.
    Output {
        /// Which.
        id: ExecId,
        /// Where.
        stream: Stream,
        /// At least one.
        bytes: Bytes,
    },
    /// It has ended and so has its process group. Nothing follows for this name.
    Exited {
        /// Which.
        id: ExecId,
        /// How.
        status: Status,
        /// Who ended it.
        cause: Cause,
        /// What it said and what of it was not passed on.
        unheard: Unheard,
    },
}

/// Why a helper could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many helpers run as the host allows.
    TooMany,
    /// No program, or one that is not named by an absolute path, or a NUL in a string.
    Malformed,
    /// The program is in none of the folders that [`Origin::Configured`] programs are run from.
    Elsewhere,
    /// Somebody else could write to the program or to a folder on the way to it.
    Untrusted,
    /// There is no such program.
    Missing,
    /// It may not be executed.
    Denied,
    /// The daemon is stopping.
    Stopping,
    /// The system cannot do it.
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

/// One of a helper's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The system does not say: somebody else has taken the exit code.
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

/// Who ended a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ended by itself, or was killed from outside.
    Itself,
    /// Its deadline was over.
    Deadline,
    /// [`Command::Kill`], or the end of the daemon.
    Killed,
}

/// What a helper said and nobody heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    /// How many bytes of its outputs were beyond [`Spawn::output_max`].
    pub dropped: u64,
    /// Whether an output was still open when it was no longer listened to: something that the helper left
    /// behind has it.
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

    /// They travel in every machine's inputs and outputs.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 56, "{}", size_of::<Event>());
        assert!(size_of::<Command>() <= 16, "{}", size_of::<Command>());
    }
}
