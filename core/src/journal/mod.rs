//! The journal of a node: its configuration, followed by all its inputs with both clocks.
//!
//! A [`Node`](crate::node::Node) with the same configuration and the same inputs produces the same outputs,
//! byte for byte. So a journal written in production can be replayed elsewhere. The simulator writes the same
//! format. A journal that ends in the middle of a record, as after a crash, is read up to that record.
//!
//! | what | how |
//! |---|---|
//! | header | [`MAGIC`], [`VERSION`] (u16), the configuration |
//! | record | its length (u32), monotonic µs, wall-clock ns, kind (u8), what came |
//!
//! All numbers are little-endian; a text or body is its length (u32) and its bytes.

mod config;
mod field;
mod programs;
mod spiel;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::id::{CallId, ConnId, FifoId, HttpId};
use crate::base::time::{Instant, Now, WallClock};
use crate::consul::port::{Answer, Reply, Unanswered};
use crate::fifo;
use crate::http::port::{Request, Trust};
use crate::http::stream::{Closed, Why};
use crate::keeper::port as keeper;
use crate::net::Event;
use crate::node::{Config, Input};
use field::{Cursor, Field};

/// The first bytes of a journal.
pub const MAGIC: [u8; 8] = *b"haxjrnl\n";
/// The version of the format. It also changes with the fields of the configuration.
pub const VERSION: u16 = 5;
/// The maximum size of a record: the largest response of Consul, and some space.
pub const RECORD_MAX: usize = 80 << 20;

/// The reason why a journal cannot be read (any further).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// It does not begin with [`MAGIC`].
    NotAJournal,
    /// It has another version.
    Version(u16),
    /// It ends in the middle of a record.
    CutOff,
    /// This field has an invalid value.
    Field(&'static str),
}

/// Returns the beginning of a journal.
#[must_use]
pub fn begin(config: &Config) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    VERSION.put(&mut out);
    config.put(&mut out);
    out
}

/// Appends one record.
///
/// # Panics
///
/// If the input is longer than [`RECORD_MAX`], which no configuration allows.
pub fn put(out: &mut Vec<u8>, now: Now, input: &Input) {
    let start = out.len();
    0_u32.put(out);
    now.mono.as_micros().put(out);
    now.wall.0.put(out);
    input.put(out);
    let len = out.len() - start - 4;
    assert!(len <= RECORD_MAX, "an input of {len} bytes");
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Opens a journal.
///
/// # Errors
///
/// If it is not a journal, or has another version.
pub fn open(journal: &[u8]) -> Result<(Config, Records<'_>), JournalError> {
    let rest = journal.strip_prefix(&MAGIC).ok_or(JournalError::NotAJournal)?;
    let mut from = Cursor(rest);
    let version = u16::take(&mut from)?;
    if version != VERSION {
        return Err(JournalError::Version(version));
    }
    let config = Config::take(&mut from)?;
    Ok((config, Records { rest: from.0 }))
}

/// The records of a journal, in order. The iterator ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl Records<'_> {
    fn record(&mut self) -> Result<(Now, Input), JournalError> {
        let mut from = Cursor(self.rest);
        let len = u32::take(&mut from)? as usize;
        if len > RECORD_MAX {
            return Err(JournalError::Field("a record's length"));
        }
        let mut record = Cursor(from.bytes(len)?);
        self.rest = from.0;
        let whole = |bad| {
            if bad == JournalError::CutOff { JournalError::Field("a record's length") } else { bad }
        };
        let read = |record: &mut Cursor<'_>| {
            let mono = Instant::from_micros(u64::take(record)?);
            let wall = WallClock(u64::take(record)?);
            Ok((Now { mono, wall }, Input::take(record)?))
        };
        let read = read(&mut record).map_err(whole)?;
        if record.0.is_empty() { Ok(read) } else { Err(JournalError::Field("a record's length")) }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(Now, Input), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl Field for Input {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Tick => 0_u8.put(out),
            Self::Net(event) => {
                1_u8.put(out);
                event.put(out);
            }
            Self::Consul(reply) => {
                2_u8.put(out);
                reply.put(out);
            }
            Self::Http(request) => {
                3_u8.put(out);
                request.id.0.put(out);
                request.method.put(out);
                request.target.put(out);
                request.body.put(out);
                let trust = TRUST.iter().position(|trust| *trust == request.trust);
                u8::try_from(trust.unwrap_or_default()).unwrap_or_default().put(out);
            }
            Self::Stop => 4_u8.put(out),
            Self::Spiel(reply) => {
                5_u8.put(out);
                reply.put(out);
            }
            Self::Exec(event) => {
                6_u8.put(out);
                event.put(out);
            }
            Self::File(event) => {
                7_u8.put(out);
                event.put(out);
            }
            Self::HttpStream(closed) => {
                8_u8.put(out);
                closed.put(out);
            }
            Self::Fifo(request) => {
                9_u8.put(out);
                request.id.0.put(out);
                request.body.put(out);
            }
            Self::Keeper(event) => {
                10_u8.put(out);
                event.put(out);
            }
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        Ok(match u8::take(from)? {
            0 => Self::Tick,
            1 => Self::Net(Event::take(from)?),
            2 => Self::Consul(Reply::take(from)?),
            3 => Self::Http(Box::new(Request {
                id: HttpId(Field::take(from)?),
                method: Field::take(from)?,
                target: Field::take(from)?,
                body: Field::take(from)?,
                trust: *TRUST
                    .get(usize::from(u8::take(from)?))
                    .ok_or(JournalError::Field("what is known of a sender"))?,
            })),
            4 => Self::Stop,
            5 => Self::Spiel(Field::take(from)?),
            6 => Self::Exec(Field::take(from)?),
            7 => Self::File(Field::take(from)?),
            8 => Self::HttpStream(Field::take(from)?),
            9 => Self::Fifo(fifo::Request {
                id: FifoId(Field::take(from)?),
                body: Field::take(from)?,
            }),
            10 => Self::Keeper(Field::take(from)?),
            _ => return Err(JournalError::Field("an input's kind")),
        })
    }
}

/// The events of the keeper are JSON, as they are on its socket.
impl Field for keeper::Event {
    fn put(&self, out: &mut Vec<u8>) {
        Bytes::from(serde_json::to_vec(self).expect("plain data")).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let text = Bytes::take(from)?;
        serde_json::from_slice(&text).map_err(|_| JournalError::Field("an event of the keeper"))
    }
}

/// What can be known of a request's sender, by number.
const TRUST: [Trust; 3] = [Trust::None, Trust::Local, Trust::Authorized];

/// The reasons of a response's end, by number.
const CLOSED: [Why; 4] = [Why::Ended, Why::Client, Why::Slow, Why::TooMany];

impl Field for Closed {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.0.put(out);
        let place = CLOSED.iter().position(|why| *why == self.why).unwrap_or_default();
        u8::try_from(place).unwrap_or(u8::MAX).put(out);
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let id = HttpId(Field::take(from)?);
        let why = CLOSED.get(usize::from(u8::take(from)?));
        Ok(Self { id, why: *why.ok_or(JournalError::Field("why an answer is over"))? })
    }
}

impl Field for Event {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, conn) = match self {
            Self::Accepted { conn, .. } => (0_u8, conn),
            Self::Connected { conn } => (1, conn),
            Self::Received { conn, .. } => (2, conn),
            Self::Written { conn, .. } => (3, conn),
            Self::Closed { conn } => (4, conn),
        };
        kind.put(out);
        conn.0.put(out);
        match self {
            Self::Accepted { peer, .. } => peer.put(out),
            Self::Received { bytes, .. } => bytes.put(out),
            Self::Written { bytes, .. } => bytes.put(out),
            Self::Connected { .. } | Self::Closed { .. } => {}
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let kind = u8::take(from)?;
        let conn = ConnId(Field::take(from)?);
        Ok(match kind {
            0 => Self::Accepted { conn, peer: Field::take(from)? },
            1 => Self::Connected { conn },
            2 => Self::Received { conn, bytes: Field::take(from)? },
            3 => Self::Written { conn, bytes: Field::take(from)? },
            4 => Self::Closed { conn },
            _ => return Err(JournalError::Field("a connection's event")),
        })
    }
}

/// The reasons of a missing response, by number.
const UNANSWERED: [Unanswered; 4] =
    [Unanswered::Refused, Unanswered::Broken, Unanswered::TimedOut, Unanswered::TooLarge];

impl Field for Reply {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.0.put(out);
        match &self.result {
            Ok(Answer { status, index, body }) => {
                0_u8.put(out);
                status.put(out);
                index.put(out);
                body.put(out);
            }
            Err(why) => {
                let place = UNANSWERED.iter().position(|other| other == why).unwrap_or_default();
                u8::try_from(place + 1).unwrap_or(u8::MAX).put(out);
            }
        }
    }

    fn take(from: &mut Cursor<'_>) -> Result<Self, JournalError> {
        let id = CallId(Field::take(from)?);
        let result = match usize::from(u8::take(from)?).checked_sub(1) {
            None => Ok(Answer {
                status: Field::take(from)?,
                index: Field::take(from)?,
                body: Field::take(from)?,
            }),
            Some(place) => {
                Err(*UNANSWERED.get(place).ok_or(JournalError::Field("a call's outcome"))?)
            }
        };
        Ok(Self { id, result })
    }
}
