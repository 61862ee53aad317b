//! One helper, from its start to its exit code.
//!
//! ```text
//! Running ──its deadline, Kill──▶ Ending (SIGTERM) ──its grace──▶ Ending (SIGKILL)
//!    └──────────── it has ended ──────┴──▶ Over ── its outputs are at their end, or DRAIN ──▶ Exited
//! ```
//!
//! The exit status is collected last. Until then the pid, which is also the id of the process group, is not
//! reused.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::base::time::Instant;
use hax_core::exec::{Cause, Event, Spawn, Status, Stream, Unheard};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::pipes::{Input, Output};
use super::{child, ended};

/// The maximum time for reading the outputs of an ended helper, if a process that it left behind keeps them
/// open.
const DRAIN: Duration = Duration::from_millis(500);

/// An event source of a helper.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Ended,
    Stdin,
    Output(usize),
}

/// The state of a helper.
#[derive(Clone, Copy, Debug)]
enum HelperState {
    Running {
        until: Instant,
    },
    /// The helper has been signalled to end. `kill_at` is `None` once it has been killed.
    Ending {
        kill_at: Option<Instant>,
    },
    /// The helper has ended, and its outputs are still read.
    Over {
        until: Instant,
    },
}

/// A running helper; see the module.
pub(super) struct Helper {
    id: ExecId,
    child: Child,
    pid: Pid,
    ended: OwnedFd,
    stdin: Option<Input>,
    outputs: [Output; 2],
    stage: HelperState,
    cause: Cause,
    grace: Duration,
    leaves_daemons: bool,
}

impl Helper {
    /// Starts a helper. `program` is the file that its name resolves to.
    pub(super) fn spawn(
        program: &Path,
        spawn: Spawn,
        watch: fn(Pid) -> io::Result<OwnedFd>,
        now: Instant,
    ) -> io::Result<Self> {
        let mut child = child::spawn(program, &spawn)?;
        let pid = Pid::from_child(&child);
        match Self::adopt(&mut child, pid, &spawn, watch) {
            Ok((ended, stdin, outputs)) => {
                let stage = HelperState::Running { until: now.after(spawn.deadline) };
                let Spawn { id, grace, leaves_daemons, .. } = spawn;
                let cause = Cause::Itself;
                Ok(Self {
                    id,
                    child,
                    pid,
                    ended,
                    stdin,
                    outputs,
                    stage,
                    cause,
                    grace,
                    leaves_daemons,
                })
            }
            Err(why) => {
                // The helper may have done something already, but its end could not be observed.
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = child.wait();
                Err(why)
            }
        }
    }

    fn adopt(
        child: &mut Child,
        pid: Pid,
        spawn: &Spawn,
        watch: fn(Pid) -> io::Result<OwnedFd>,
    ) -> io::Result<(OwnedFd, Option<Input>, [Output; 2])> {
        let stdin = child.stdin.take().map(|pipe| Input::new(pipe, spawn.stdin.clone()));
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdout = child.stdout.take().ok_or_else(missing)?.into();
        let stderr = child.stderr.take().ok_or_else(missing)?.into();
        let outputs = [
            Output::new(Stream::Stdout, stdout, spawn.output_max)?,
            Output::new(Stream::Stderr, stderr, spawn.output_max)?,
        ];
        Ok((watch(pid)?, stdin.transpose()?, outputs))
    }

    /// Returns all descriptors to poll for this helper.
    pub(super) fn sources(
        &self,
        now: Instant,
        blocked: bool,
    ) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let over = matches!(self.stage, HelperState::Over { .. });
        let ended = (!over).then(|| (Source::Ended, self.ended.as_fd()));
        let stdin = self.stdin.as_ref().map(|stdin| (Source::Stdin, stdin.as_fd()));
        let outputs = self.outputs.iter().enumerate();
        let outputs = outputs
            .filter_map(move |(n, output)| Some((Source::Output(n), output.wanted(now, blocked)?)));
        ended.into_iter().chain(stdin).chain(outputs)
    }

    /// Returns the latest time for the next call of [`tend`](Self::tend).
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let stage = match self.stage {
            HelperState::Running { until } | HelperState::Over { until } => Some(until),
            HelperState::Ending { kill_at } => kill_at,
        };
        self.outputs.iter().filter_map(|output| output.next_at(now)).chain(stage).min()
    }

    /// Handles a ready descriptor.
    pub(super) fn on_ready(&mut self, source: Source, now: Instant, events: &mut Vec<Event>) {
        match source {
            Source::Ended => {
                let drained = now.after(DRAIN);
                let until = match self.stage {
                    // The other processes of its group may still be ending, too.
                    HelperState::Ending { kill_at: Some(at) } => drained.max(at),
                    HelperState::Running { .. }
                    | HelperState::Ending { .. }
                    | HelperState::Over { .. } => drained,
                };
                self.stage = HelperState::Over { until };
                self.stdin = None;
            }
            Source::Stdin => {
                if !self.stdin.as_mut().is_some_and(Input::write) {
                    self.stdin = None;
                }
            }
            Source::Output(n) => self.outputs[n].read(now, &mut saying(self.id, events)),
        }
    }

    /// Carries out the due steps. Returns whether the helper is finished; the last event is its exit then.
    pub(super) fn tend(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        match self.stage {
            HelperState::Running { until } if until <= now => {
                self.end(Cause::Deadline, self.grace, now)
            }
            HelperState::Ending { kill_at: Some(at) } if at <= now => {
                self.signal(Signal::KILL);
                self.stage = HelperState::Ending { kill_at: None };
            }
            HelperState::Over { until } => {
                if until <= now || !self.outputs.iter().any(Output::is_open) {
                    self.finish(now, events);
                    return true;
                }
            }
            HelperState::Running { .. } | HelperState::Ending { .. } => {}
        }
        false
    }

    /// Handles [`Command::Kill`](hax_core::exec::Command::Kill).
    pub(super) fn kill(&mut self, now: Instant) {
        self.end(Cause::Killed, self.grace, now);
    }

    /// Ends the helper for the shutdown of the daemon, within the time `within` at most.
    pub(super) fn hurry(&mut self, within: Duration, now: Instant) {
        let grace = self.grace.min(within);
        self.end(Cause::Killed, grace, now);
        let latest = now.after(within);
        match &mut self.stage {
            HelperState::Ending { kill_at: Some(at) } | HelperState::Over { until: at } => {
                *at = latest.min(*at);
            }
            HelperState::Running { .. } | HelperState::Ending { .. } => {}
        }
    }

    fn end(&mut self, cause: Cause, grace: Duration, now: Instant) {
        if matches!(self.stage, HelperState::Running { .. }) {
            self.signal(Signal::TERM);
            // A stopped process handles no SIGTERM before it continues.
            self.signal(Signal::CONT);
            self.cause = cause;
            self.stage = HelperState::Ending { kill_at: Some(now.after(grace)) };
        }
    }

    /// Signals the helper's process group, or only the helper if it has left the group.
    fn signal(&self, signal: Signal) {
        if kill_process_group(self.pid, signal).is_err() {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn finish(&mut self, now: Instant, events: &mut Vec<Event>) {
        let mut open = false;
        for output in &mut self.outputs {
            open |= !output.finish(now, &mut saying(self.id, events));
        }
        let status = if ended::is_ours(self.pid) {
            if !self.leaves_daemons || self.cause != Cause::Itself {
                self.signal(Signal::KILL);
            }
            self.child.wait().map_or(Status::Unknown, status)
        } else {
            Status::Unknown
        };
        let dropped = self.outputs.iter().map(Output::dropped).sum();
        let unheard = Unheard { dropped, open };
        events.push(Event::Exited { id: self.id, status, cause: self.cause, unheard });
    }
}

/// Returns a function for converting the output of helper `id` into events.
fn saying(id: ExecId, events: &mut Vec<Event>) -> impl FnMut(Stream, Bytes) {
    move |stream, bytes| events.push(Event::Output { id, stream, bytes })
}

fn status(status: ExitStatus) -> Status {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, Some(signal)) => Status::Signal(signal),
        (None, None) => Status::Unknown,
    }
}
