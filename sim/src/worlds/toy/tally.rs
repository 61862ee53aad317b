//! How many increments a counter has acknowledged, in a file that outlives it. Each acknowledgement has its
//! number, and no number is given twice, not even after a loss of power.

use bytes::Bytes;
use hax_core::base::id::FileId;
use hax_core::base::retry::Backoff;
use hax_core::file::{Command, Event, PRIVATE, Write};
use hax_core::machine::Output;

use super::bug::Bug;
use super::context::{Cx, Timer};
use super::fact::Fact;

/// The file.
pub(super) const FILE: &str = "/var/lib/hax/toy/tally";
/// More than a number takes.
const LENGTH_MAX: usize = 32;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is known how many there were before.
    Read,
    /// So many are acknowledged, this one with them.
    Written(u64),
}

/// The tally of one counter.
#[derive(Debug)]
pub(super) struct Tally {
    /// What is in the file; nothing before it was read.
    number: Option<u64>,
    /// The file is to be written.
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

    /// Whether one can be added.
    pub(super) fn is_ready(&self) -> bool {
        self.number.is_some() && !self.writing
    }

    /// What is in the file, if that is known.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// Reads the file, unless that has begun.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.next == FileId(0) {
            self.work(cx);
        }
    }

    /// One more is to be acknowledged. Gives its number if that may be done at once, which only a bug does.
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

    /// What is in the file now is not known: it is read, or written, once more.
    fn failed(&mut self, cx: &mut Cx<'_>) -> Option<Change> {
        cx.emit(Output::Fact(Fact::TallyFailed {}));
        cx.retry(Timer::Tally, &mut self.backoff);
        None
    }
}

/// The number in a file.
pub(super) fn number_in(content: &[u8]) -> Option<u64> {
    std::str::from_utf8(content).ok()?.parse().ok()
}
