//! The encoding of helper programs' and files' events in a journal.

use alloc::vec::Vec;

use super::JournalError;
use super::field::{Cursor, Field};
use crate::base::errno::Errno;
use crate::base::id::{ExecId, FileId};
use crate::exec::{Cause, Event, Refusal, Status, Stream, Unheard};
use crate::file::{self, Failure};

impl Field for Event {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, id) = match self {
            Self::Started { id } => (0_u8, id),
            Self::Refused { id, .. } => (1, id),
            Self::Output { id, stream: Stream::Stdout, .. } => (2, id),
            Self::Output { id, stream: Stream::Stderr, .. } => (3, id),
            Self::Exited { id, .. } => (4, id),
        };
        kind.put(out);
        id.0.put(out);
        match self {
            Self::Started { .. } => {}
            Self::Refused { why, .. } => why.put(out),
            Self::Output { bytes, .. } => bytes.put(out),
            Self::Exited { status, cause, unheard, .. } => {
                status.put(out);
                put_place(&CAUSES, cause, out);
                unheard.put(out);
            }
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let kind = u8::take(from)?;
        let id = ExecId(Field::take(from)?);
        Ok(match kind {
            0 => Self::Started { id },
            1 => Self::Refused { id, why: Field::take(from)? },
            2 => Self::Output { id, stream: Stream::Stdout, bytes: Field::take(from)? },
            3 => Self::Output { id, stream: Stream::Stderr, bytes: Field::take(from)? },
            4 => {
                let status = Field::take(from)?;
                let cause =
                    take_place(&CAUSES, from)?.ok_or(JournalError::Field("who ended a program"))?;
                Self::Exited { id, status, cause, unheard: Field::take(from)? }
            }
            _ => return Err(JournalError::Field("a program's event")),
        })
    }
}

/// The causes of a helper's end, by number.
const CAUSES: [Cause; 3] = [Cause::Itself, Cause::Deadline, Cause::Killed];

/// The reasons of a refused start, by number. The next number is an error of the system.
const REFUSALS: [Refusal; 7] = [
    Refusal::TooMany,
    Refusal::Malformed,
    Refusal::Elsewhere,
    Refusal::Untrusted,
    Refusal::Missing,
    Refusal::Denied,
    Refusal::Stopping,
];

/// The reasons of a failed file operation, by number. The next number is an error of the system.
const FAILURES: [Failure; 3] = [Failure::Malformed, Failure::NoFile, Failure::TooLong];

/// Writes the index of `what` in its table, or the table's length if it is not there.
fn put_place<T: PartialEq>(table: &[T], what: &T, out: &mut Vec<u8>) {
    let place = table.iter().position(|other| other == what).unwrap_or(table.len());
    u8::try_from(place).unwrap_or(u8::MAX).put(out);
}

/// Returns the value with this index; `None` for the table's length.
fn take_place<T: Copy>(table: &[T], from: &mut Cursor<'_>) -> Result<Option<T>, JournalError> {
    let place = usize::from(u8::take(from)?);
    if place > table.len() {
        return Err(JournalError::Field("a reason"));
    }
    Ok(table.get(place).copied())
}

impl Field for Refusal {
    fn put(&self, out: &mut Vec<u8>) {
        put_place(&REFUSALS, self, out);
        if let Self::Failed(errno) = self {
            errno.put(out);
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        match take_place(&REFUSALS, from)? {
            Some(why) => Ok(why),
            None => Ok(Self::Failed(Field::take(from)?)),
        }
    }
}

impl Field for Failure {
    fn put(&self, out: &mut Vec<u8>) {
        put_place(&FAILURES, self, out);
        if let Self::System(errno) = self {
            errno.put(out);
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        match take_place(&FAILURES, from)? {
            Some(why) => Ok(why),
            None => Ok(Self::System(Field::take(from)?)),
        }
    }
}

impl Field for Errno {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.cast_unsigned().put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        u32::take(from).map(|n| Self(n.cast_signed()))
    }
}

impl Field for Status {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, number) = match self {
            Self::Code(code) => (0_u8, *code),
            Self::Signal(signal) => (1, *signal),
            Self::Unknown => (2, 0),
        };
        kind.put(out);
        number.cast_unsigned().put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let kind = u8::take(from)?;
        let number = u32::take(from)?.cast_signed();
        match kind {
            0 => Ok(Self::Code(number)),
            1 => Ok(Self::Signal(number)),
            2 => Ok(Self::Unknown),
            _ => Err(JournalError::Field("how a program ended")),
        }
    }
}

super::config::in_order!(Unheard { dropped, open });

impl Field for file::Event {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, id) = match self {
            Self::Done { id } => (0_u8, id),
            Self::Content { id, .. } => (1, id),
            Self::Missing { id } => (2, id),
            Self::Failed { id, .. } => (3, id),
        };
        kind.put(out);
        id.0.put(out);
        match self {
            Self::Done { .. } | Self::Missing { .. } => {}
            Self::Content { content, .. } => content.put(out),
            Self::Failed { why, .. } => why.put(out),
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let kind = u8::take(from)?;
        let id = FileId(Field::take(from)?);
        Ok(match kind {
            0 => Self::Done { id },
            1 => Self::Content { id, content: Field::take(from)? },
            2 => Self::Missing { id },
            3 => Self::Failed { id, why: Field::take(from)? },
            _ => return Err(JournalError::Field("a file's event")),
        })
    }
}
