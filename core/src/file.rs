//! The port between a machine and its files with persistent data.
//!
//! A file is written atomically: a reader finds the old content or the new one, even after a crash. Commands
//! for one path are executed in the order in which they were given.

use alloc::boxed::Box;
use core::fmt;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::FileId;

/// The permission bits for reading and writing by the owner only.
pub const PRIVATE: u32 = 0o600;

/// A command for a file. All paths are absolute, and their folders exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes or replaces a file. The host reports [`Event::Done`] or [`Event::Failed`].
    Write(Box<Write>),
    /// Reads a file. The host reports [`Event::Content`], [`Event::Missing`] or [`Event::Failed`].
    Read {
        /// The id of the command.
        id: FileId,
        /// The path of the file.
        path: Box<str>,
        /// The maximum size of the content, in bytes.
        max: usize,
    },
    /// Removes a file, if it exists. The host reports [`Event::Done`] or [`Event::Failed`].
    Remove {
        /// The id of the command.
        id: FileId,
        /// The path of the file.
        path: Box<str>,
    },
}

impl Command {
    /// Returns the id of the command.
    #[must_use]
    pub fn id(&self) -> FileId {
        match self {
            Self::Write(write) => write.id,
            Self::Read { id, .. } | Self::Remove { id, .. } => *id,
        }
    }
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The id of the command.
    pub id: FileId,
    /// The path of the file.
    pub path: Box<str>,
    /// The permission bits, for instance [`PRIVATE`]; the process's umask does not apply.
    pub mode: u32,
    /// The complete content.
    pub content: Bytes,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The file is written or removed. The result is durable, even after a power failure.
    Done {
        /// The id of the command.
        id: FileId,
    },
    /// The content of the file. It is durable, even after a power failure.
    Content {
        /// The id of the command.
        id: FileId,
        /// The complete content.
        content: Bytes,
    },
    /// The file does not exist.
    Missing {
        /// The id of the command.
        id: FileId,
    },
    /// The command failed. The file is in its old or its new state, and may change to the other one at a
    /// crash.
    Failed {
        /// The id of the command.
        id: FileId,
        /// The reason.
        why: Failure,
    },
}

/// The reason of a failed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The path is not absolute, does not end in a name, or contains a NUL.
    Malformed,
    /// The path names something else: a folder, a pipe, a symbolic link. Links are not followed: a user who
    /// can create one could have any file read or written.
    NoFile,
    /// The file is longer than the reader accepts.
    TooLong,
    /// The operating system reports an error.
    System(Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the path is not absolute, or names no file",
            Self::NoFile => "what has this name is a folder, a link or no file at all",
            Self::TooLong => "the file is too long",
            Self::System(errno) => return errno.fmt(f),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events are part of every machine's inputs and outputs.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 48, "{}", size_of::<Event>());
        assert!(size_of::<Command>() <= 40, "{}", size_of::<Command>());
    }
}
