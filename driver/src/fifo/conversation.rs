//! The conversation with one client: its request is read, and its reply is written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::time::Instant;
use hax_core::fifo::{LENGTH, Progress, frame, progress};
use rustix::event::PollFlags;
use rustix::io::Errno;

/// The time limit of a client for writing its request, and for reading its reply.
const WITHIN: Duration = Duration::from_secs(2);

/// The maximum number of bytes of one read.
const PART: usize = 16 << 10;

/// A conversation; see the module.
#[derive(Debug)]
pub(super) struct Conversation {
    answer: OwnedFd,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading { request: OwnedFd, read: Vec<u8>, until: Instant },
    Waiting,
    Writing { left: Bytes, until: Instant },
}

/// The result of a step in a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    GoesOn,
    /// The request is complete.
    Asked(Bytes),
    /// The conversation is over.
    Over,
}

impl Conversation {
    pub(super) fn new(request: OwnedFd, answer: OwnedFd, now: Instant) -> Self {
        let state = State::Reading { request, read: Vec::new(), until: now.after(WITHIN) };
        Self { answer, state }
    }

    /// Returns the descriptor and the events to poll. poll(2) reports the end of a reply's reader without
    /// being asked for it (POLLERR).
    pub(super) fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.state {
            State::Reading { request, .. } => (request.as_fd(), PollFlags::IN),
            State::Waiting => (self.answer.as_fd(), PollFlags::empty()),
            State::Writing { .. } => (self.answer.as_fd(), PollFlags::OUT),
        }
    }

    /// Returns the deadline of the client, if it has one now.
    pub(super) fn until(&self) -> Option<Instant> {
        match &self.state {
            State::Reading { until, .. } | State::Writing { until, .. } => Some(*until),
            State::Waiting => None,
        }
    }

    /// Begins to write the machine's reply.
    pub(super) fn respond(&mut self, body: &[u8], now: Instant) -> Step {
        let State::Waiting = self.state else { return Step::GoesOn };
        self.state = State::Writing { left: frame(body).into(), until: now.after(WITHIN) };
        self.write()
    }

    /// Returns whether the reply is being written. If so, the machine has replied.
    pub(super) fn is_writing(&self) -> bool {
        matches!(self.state, State::Writing { .. })
    }

    /// Handles the readiness of the descriptor.
    pub(super) fn on_ready(&mut self) -> Step {
        match self.state {
            State::Reading { .. } => self.read(),
            State::Waiting => Step::Over,
            State::Writing { .. } => self.write(),
        }
    }

    fn read(&mut self) -> Step {
        let State::Reading { request, read, .. } = &mut self.state else { return Step::GoesOn };
        let lacks = match progress(read) {
            Progress::Lacks(lacks) => lacks.min(PART),
            Progress::Complete | Progress::Malformed => return Step::Over,
        };
        let before = read.len();
        read.resize(before + lacks, 0);
        match rustix::io::read(&*request, &mut read[before..]) {
            Ok(0) => return Step::Over,
            Ok(taken) => read.truncate(before + taken),
            Err(Errno::AGAIN | Errno::INTR) => {
                read.truncate(before);
                return Step::GoesOn;
            }
            Err(_) => return Step::Over,
        }
        match progress(read) {
            Progress::Lacks(_) => Step::GoesOn,
            Progress::Malformed => Step::Over,
            Progress::Complete => {
                let body = Bytes::from(std::mem::take(read)).slice(LENGTH..);
                self.state = State::Waiting;
                Step::Asked(body)
            }
        }
    }

    fn write(&mut self) -> Step {
        let State::Writing { left, .. } = &mut self.state else { return Step::GoesOn };
        while !left.is_empty() {
            match rustix::io::write(&self.answer, left) {
                Ok(written) => drop(left.split_to(written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Step::GoesOn,
                Err(_) => return Step::Over,
            }
        }
        Step::Over
    }
}
