//! What the keeper's host has of an instance that has not ended.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hax_core::base::time::Instant;
use hax_core::exec::Status;
use hax_core::keeper::process::Process;
use hax_core::keeper::request::Start;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::group::Group;
use super::output::Output;
use super::processes;

/// See the module.
pub(super) struct Held {
    pub(super) start: Box<Start>,
    pub(super) group: Group,
    /// Its main process. None where an earlier keeper had it and it is gone.
    pub(super) main: Option<Main>,
    /// Its output, if that is a file's, until nobody says anything more.
    pub(super) output: Option<Output>,
    /// Its stop command, while that runs: nothing is made of the end of the main process before.
    pub(super) stop_command: Option<Process>,
    /// How the main process has ended, meanwhile.
    pub(super) ended: Option<Status>,
    /// How much of its output is lost and not told yet, and when that may be told.
    pub(super) dropped: (u64, Instant),
}

impl Held {
    pub(super) fn new(
        start: Box<Start>,
        group: Group,
        main: Option<Main>,
        output: Option<Output>,
    ) -> Self {
        let dropped = (0, Instant::default());
        Self { start, group, main, output, stop_command: None, ended: None, dropped }
    }

    /// Whether something besides its main process is there.
    pub(super) fn is_left(&self) -> bool {
        let main = self.main.as_ref().map(|main| main.process);
        self.group.members().into_iter().any(|member| Some(member) != main)
    }

    /// The number of its main process, if it cannot be another's by now.
    pub(super) fn leader(&self) -> Option<u32> {
        let main = self.main.as_ref()?;
        let is_it = main.is_child || !main.has_ended;
        is_it.then_some(main.process.pid)
    }
}

/// The main process of an instance.
pub(super) struct Main {
    pub(super) process: Process,
    /// Readable once it has ended; none where the kernel has no such thing.
    watch: Option<OwnedFd>,
    /// Its exit code is ours. It is taken last: until then its number belongs to nobody else.
    pub(super) is_child: bool,
    pub(super) has_ended: bool,
}

impl Main {
    /// Watches a process.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(super) fn new(process: Process) -> io::Result<Self> {
        let watch = processes::watch(process)?;
        let stat = processes::stat(process.pid);
        let is_child = stat.is_some_and(|stat| stat.parent == processes::own());
        Ok(Self { process, watch, is_child, has_ended: false })
    }

    /// What becomes readable when it ends.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().filter(|_| !self.has_ended).map(|watch| watch.as_fd())
    }

    /// It has to be looked at by itself.
    pub(super) fn is_unwatched(&self) -> bool {
        self.watch.is_none() && !self.has_ended
    }

    /// How it has ended, if it has; told once.
    pub(super) fn ended(&mut self) -> Option<Status> {
        if self.has_ended {
            return None;
        }
        let status = if self.is_child {
            status_of(self.process.pid, WaitIdOptions::NOWAIT)
        } else {
            let lives =
                processes::stat(self.process.pid).is_some_and(|stat| stat.is_alive(self.process));
            (!lives).then_some(Status::Unknown)
        };
        self.has_ended = status.is_some();
        status
    }

    /// Gives its number back.
    pub(super) fn reap(&mut self) {
        if self.is_child && self.has_ended {
            status_of(self.process.pid, WaitIdOptions::empty());
            self.is_child = false;
        }
    }
}

/// How a child has ended, if it has.
pub(super) fn status_of(pid: u32, options: WaitIdOptions) -> Option<Status> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(processes::pid(pid)?), options) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Status::Code(code),
            (None, Some(signal)) => Status::Signal(signal),
            (None, None) => Status::Unknown,
        }),
        Ok(None) => None,
        // It is no child of ours, or nobody's any more.
        Err(_) => Some(Status::Unknown),
    }
}
