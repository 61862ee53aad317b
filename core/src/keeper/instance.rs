//! One instance, from the request to start it to its end.
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

/// An instance in the keeper's table.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) key: Key,
    pub(super) start: Box<Start>,
    pub(super) asked_by: u32,
    pub(super) generation: u64,
    pub(super) adopted: bool,
    pub(super) stage: Stage,
    pub(super) process: Option<Process>,
    /// The deadline of a counted instance.
    pub(super) until: Option<Instant>,
    /// The cause of the end.
    pub(super) cause: Option<Cause>,
    /// The exit status of the main process, once it has ended.
    pub(super) status: Option<Status>,
    pub(super) left: bool,
    /// The number of bytes of output that are lost.
    pub(super) dropped: u64,
    /// The clients and ids of start requests that have no reply yet.
    pub(super) waiting: Vec<(ClientId, u64)>,
}

/// The stage of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The intent is being written.
    Storing,
    /// The instance is being started.
    Starting,
    Running,
    /// The instance has been asked to stop. It is killed at the time limit.
    Stopping {
        /// The number of kills so far.
        kills: u32,
    },
    /// The main process has ended, and the keeper looks for the process that continues the instance.
    Following,
    /// The main process has ended, and the remaining processes are being killed.
    Clearing {
        /// The end of the attempts. After it the instance counts as ended, even if processes remain.
        until: Instant,
        /// The delay until the next check for remaining processes.
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

    /// Returns whether the instance continues when its program ended with `status` and other processes
    /// remain.
    pub(super) fn goes_on(&self, status: Status) -> bool {
        // A failed program leaves no processes worth keeping. A daemon may end with any status while others
        // live.
        self.start.forks && (status == Status::Code(0) || self.status.is_some())
    }

    pub(super) fn view(&self) -> View {
        View {
            instance: self.start.instance.clone(),
            name: self.start.name.clone(),
            tag: self.start.tag.clone(),
            capability: self.start.capability.clone(),
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
    /// Returns the cause as text for the log.
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
