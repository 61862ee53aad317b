//! One instance, from the wish to start it to its end.
//!
//! ```text
//! Storing ─▶ Starting ─▶ Running ─▶ Stopping ─┐
//!    └ not stored └ not started │             ▼
//!                               └──────▶ main has ended: Following (forks) or Clearing ─▶ Ended
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::answer::{Cause, State, View};
use super::process::Process;
use super::request::Start;
use super::{ClientId, Key};
use crate::base::time::Instant;
use crate::exec::Status;

/// An instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) key: Key,
    pub(super) start: Box<Start>,
    pub(super) asked_by: u32,
    pub(super) generation: u64,
    pub(super) adopted: bool,
    pub(super) stage: Stage,
    pub(super) process: Option<Process>,
    /// The deadline of a counted one.
    pub(super) until: Option<Instant>,
    /// Who ends it.
    pub(super) cause: Option<Cause>,
    /// How its main process has ended, once it has.
    pub(super) status: Option<Status>,
    pub(super) left: bool,
    /// How much of its output is lost, in bytes.
    pub(super) dropped: u64,
    /// Who has asked to start it and is not answered yet.
    pub(super) waiting: Vec<(ClientId, u64)>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The intent is being written.
    Storing,
    /// It is being started.
    Starting,
    Running,
    /// It has been told to end, and is killed at a moment.
    Stopping {
        /// It has been killed so often.
        kills: u32,
    },
    /// Its program has ended, and what goes on of it is being looked for.
    Following,
    /// Its main process has ended, and what is left is killed.
    Clearing {
        /// After that it counts as ended, whatever is left.
        until: Instant,
        /// How long until it is looked at again.
        delay: Duration,
    },
    Ended,
}

impl Instance {
    pub(super) fn new(key: Key, start: Box<Start>, asked_by: u32, generation: u64) -> Self {
        let until = start.counted.map(|counted| Instant::from_micros(counted.until_us));
        Self {
            key,
            start,
            asked_by,
            generation,
            adopted: false,
            stage: Stage::Storing,
            process: None,
            until,
            cause: None,
            status: None,
            left: false,
            dropped: 0,
            waiting: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        match self.stage {
            Stage::Storing | Stage::Starting => State::Starting,
            Stage::Running | Stage::Following => State::Running,
            Stage::Stopping { .. } | Stage::Clearing { .. } => State::Stopping,
            Stage::Ended => State::Ended,
        }
    }

    /// What a program that has ended with `status` and left something behind means.
    pub(super) fn goes_on(&self, status: Status) -> bool {
        // A program that failed has started nothing worth to be kept; a daemon may end as it likes while others live.
        self.start.forks && (status == Status::Code(0) || self.status.is_some())
    }

    pub(super) fn view(&self) -> View {
        View {
            instance: self.start.instance.clone(),
            name: self.start.name.clone(),
            state: self.state(),
            pid: self.process.map(|process| process.pid),
            generation: self.generation,
            adopted: self.adopted,
            asked_by: self.asked_by,
            until_us: self.until.map(Instant::as_micros),
            status: self.status.filter(|_| self.stage == Stage::Ended),
            cause: self.cause,
            left: self.left,
            dropped: self.dropped,
        }
    }
}

impl Cause {
    /// The same in words, for the log.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Itself => "by itself",
            Self::Stop => "it was told to stop",
            Self::Kill => "it was told to be killed",
            Self::Deadline => "its deadline was over",
            Self::Reboot => "the node was restarted",
            Self::NotBegun => "the keeper was killed before it began",
        }
    }
}
