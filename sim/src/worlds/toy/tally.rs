//! The number of a counter's acknowledged increments, in a file. The file outlives the counter. Each
//! acknowledgement has its number, and no number is used twice, not even after a loss of power.

use bytes::Bytes;
use hax_core::base::id::FileId;
use hax_core::base::retry::Backoff;
use hax_core::file::{Command, Event, PRIVATE, Write};
use hax_core::machine::Output;

use super::bug::Bug;
use super::context::{Cx, Timer};
use super::fact::Fact;

/// The path of the file.
pub(super) const FILE: &str = "/var/lib/hax/toy/tally";
/// The limit of the file's length, more than a number takes.
const LENGTH_MAX: usize = 32;

/// A change of the tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The number of earlier acknowledgements is known.
    Read,
    /// This number of acknowledgements is written, including the pending one.
    Written(u64),
}

/// The tally of one counter.
#[derive(Debug)]
pub(super) struct Tally {
    /// The number in the file, or none before the file was read.
    number: Option<u64>,
    /// The file has to be written.
    writing: bool,
    next: FileId,
    backoff: Backoff,
    bug: Option<Bug>,
}

impl Tally {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        let backoff = Backoff::default();
        Self { number: None, writing: false, next: FileId(0), backoff, bug }
    }

    /// Returns whether an acknowledgement can be added.
    pub(super) fn is_ready(&self) -> bool {
        self.number.is_some() && !self.writing
    }

    /// Returns the number in the file, if it is known.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// Reads the file, unless the read has begun before.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.next == FileId(0) {
            self.work(cx);
        }
    }

    /// Adds one acknowledgement. Returns its number if the increment may be acknowledged at once, which
    /// happens only with a bug.
    pub(super) fn add(&mut self, cx: &mut Cx<'_>) -> Option<u64> {
        self.writing = true;
        self.work(cx);
        (self.bug == Some(Bug::AcknowledgedUnwritten)).then_some(self.number? + 1)
    }

    /// Reads the file, or writes it.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) {
        let id = self.next.mint();
        let command = match self.number {
            None => Command::Read { id, path: FILE.into(), max: LENGTH_MAX },
            Some(number) => {
                let content = Bytes::from((number + 1).to_string());
                Command::Write(Box::new(Write { id, path: FILE.into(), mode: PRIVATE, content }))
            }
        };
        cx.emit(Output::File(command));
    }

    pub(super) fn on_event(&mut self, cx: &mut Cx<'_>, event: &Event) -> Option<Change> {
        match (event, self.number) {
            (Event::Missing { .. }, None) => self.read(0),
            (Event::Content { content, .. }, None) => match number_in(content) {
                Some(number) => self.read(number),
                None => self.failed(cx),
            },
            (Event::Done { .. }, Some(number)) => self.written(number),
            (Event::Failed { .. }, Some(number)) if self.bug == Some(Bug::FailureIgnored) => {
                self.written(number)
            }
            _ => self.failed(cx),
        }
    }

    fn read(&mut self, number: u64) -> Option<Change> {
        self.backoff.reset();
        self.number = Some(number);
        Some(Change::Read)
    }

    fn written(&mut self, number: u64) -> Option<Change> {
        self.backoff.reset();
        self.writing = false;
        self.number = Some(number + 1);
        Some(Change::Written(number + 1))
    }

    /// Handles a failed command. The content of the file is unknown now, so the read or the write is retried.
    fn failed(&mut self, cx: &mut Cx<'_>) -> Option<Change> {
        cx.emit(Output::Fact(Fact::TallyFailed {}));
        cx.retry(Timer::Tally, &mut self.backoff);
        None
    }
}

/// Parses the number in a file.
pub(super) fn number_in(content: &[u8]) -> Option<u64> {
    std::str::from_utf8(content).ok()?.parse().ok()
}
