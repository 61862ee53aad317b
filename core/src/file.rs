//! The port between a machine and the files in which it keeps what must outlive it.
//!
//! A file is written whole or not at all: whoever reads it, after whatever crash, finds the old content or the
//! new one. Commands about one path are carried out in the order in which they were given.

use alloc::boxed::Box;
use core::fmt;

use bytes::Bytes;

use crate::base::errno::Errno;
use crate::base::id::FileId;

/// Only the owner may read and write.
pub const PRIVATE: u32 = 0o600;

/// What the host is to do with a file. All paths are absolute, and their folders exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Puts a file in the place of what is there. Owed: [`Event::Done`] or [`Event::Failed`].
    Write(Box<Write>),
    /// Reads a file. Owed: [`Event::Content`], [`Event::Missing`] or [`Event::Failed`].
    Read {
        /// Names this command.
        id: FileId,
        /// The file.
        path: Box<str>,
        /// The longest content that is accepted, in bytes.
        max: usize,
    },
    /// Removes a file; it need not be there. Owed: [`Event::Done`] or [`Event::Failed`].
    Remove {
        /// Names this command.
        id: FileId,
        /// The file.
        path: Box<str>,
    },
}

impl Command {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> FileId {
        match self {
            Self::Write(write) => write.id,
            Self::Read { id, .. } | Self::Remove { id, .. } => *id,
        }
    }
}

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Names this command.
    pub id: FileId,
    /// The file.
    pub path: Box<str>,
    /// Its permission bits, [`PRIVATE`] for instance; the process's umask takes nothing from them.
    pub mode: u32,
    /// All that is in it.
    pub content: Bytes,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The file is written, or gone, and stays so if the machine loses its power now.
    Done {
        /// Of which command.
        id: FileId,
    },
    /// What is in the file, and stays in it if the machine loses its power now.
    Content {
        /// Of which command.
        id: FileId,
        /// All of it.
        content: Bytes,
    },
    /// There is no such file.
    Missing {
        /// Of which command.
        id: FileId,
    },
    /// It cannot be done. What was to be changed is as it was or as it was to be, and may become the other at
    /// a crash.
    Failed {
        /// Of which command.
        id: FileId,
        /// Why.
        why: Failure,
    },
}

/// Why something cannot be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The path is not absolute, ends in no name, or has a NUL.
    Malformed,
    /// There is something else by this name: a folder, a pipe, a symbolic link. Links are not followed, as
    /// whoever can set one could have any file read or written.
    NoFile,
    /// It is longer than the reader accepts.
    TooLong,
    /// The system cannot do it.
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

    /// They travel in every machine's inputs and outputs.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 48, "{}", size_of::<Event>());
        assert!(size_of::<Command>() <= 40, "{}", size_of::<Command>());
    }
}
