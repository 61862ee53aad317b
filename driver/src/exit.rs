//! The end of a program: the one table of exit codes.

use std::process::ExitCode;

/// The reason why the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All work was completed.
    Clean,
    /// A failure without a code of its own.
    Failure,
    /// Wrong flags, environment or configuration file.
    Usage,
    /// hax could not listen at an address.
    Listen,
    /// A process sent a message on which the specification demands to stop.
    Unexpected,
    /// The queried hax is not ready.
    NotReady,
    /// What was asked for is under way, and the wait for it is over.
    UnderWay,
    /// A second signal arrived during the drain.
    Interrupted,
}

/// The table as `--help` shows it.
pub const HELP: &str = "\
Exit codes:
  0    stopped cleanly, all work is done; all that was asked for is well
  1    failed for another reason, or stopped with events not written; hax check: something is not well
  2    wrong flags, environment or configuration file
  3    cannot listen at an address (in use, not of this host, no permission)
  4    stopped on an unexpected message (see --on-unexpected-message)
  5    hax status: hax answers and is not ready
  130  another SIGTERM or SIGINT came, more than a second after the first, before the stop was complete";

impl Exit {
    /// Returns the exit code, as in [`HELP`].
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Listen => 3,
            Self::Unexpected | Self::UnderWay => 4,
            Self::NotReady => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The failure of a command, with its exit code.
#[derive(Debug)]
pub struct CommandError(pub Exit, pub anyhow::Error);

impl From<anyhow::Error> for CommandError {
    fn from(why: anyhow::Error) -> Self {
        Self(Exit::Failure, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let all = [
            Exit::Clean,
            Exit::Failure,
            Exit::Usage,
            Exit::Listen,
            Exit::Unexpected,
            Exit::NotReady,
            Exit::Interrupted,
        ];
        for exit in all {
            assert!(HELP.contains(&format!("\n  {} ", exit.code())), "{exit:?}");
        }
    }
}
