//! The host's resources for an instance that has not ended.

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

/// The resources of one instance; see the module.
pub(super) struct Held {
    pub(super) start: Box<Start>,
    pub(super) group: Group,
    /// The main process. `None` if an earlier keeper started it and it is gone.
    pub(super) main: Option<Main>,
    /// The reader of the instance's output, if that goes to a file. `None` once no process has the pipe open.
    pub(super) output: Option<Output>,
    /// The stop command, while it runs. The end of the main process is not reported before the stop command
    /// has ended.
    pub(super) stop_command: Option<Process>,
    /// The exit status of an ended main process, kept while the stop command still runs.
    pub(super) ended: Option<Status>,
    /// The number of lost and unreported bytes of output, and the earliest time of the next report.
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

    /// Returns whether a process besides the main process is left.
    pub(super) fn is_left(&self) -> bool {
        let main = self.main.as_ref().map(|main| main.process);
        self.group.members().into_iter().any(|member| Some(member) != main)
    }

    /// Returns the pid of the main process, if it cannot have been reused.
    pub(super) fn leader(&self) -> Option<u32> {
        let main = self.main.as_ref()?;
        let is_it = main.is_child || !main.has_ended;
        is_it.then_some(main.process.pid)
    }
}

/// The main process of an instance.
pub(super) struct Main {
    pub(super) process: Process,
    /// A descriptor that is readable once the process has ended. `None` if the kernel does not support it.
    watch: Option<OwnedFd>,
    /// Whether the process is a child of the keeper. If so, the keeper collects its exit status. It does so
    /// last: until then the pid is not reused.
    pub(super) is_child: bool,
    pub(super) has_ended: bool,
}

impl Main {
    /// Watches a process.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub(super) fn new(process: Process) -> io::Result<Self> {
        let watch = processes::watch(process)?;
        let stat = processes::stat(process.pid);
        let is_child = stat.is_some_and(|stat| stat.parent == processes::own());
        Ok(Self { process, watch, is_child, has_ended: false })
    }

    /// Returns the descriptor for the end of the process. It is readable after the end.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().filter(|_| !self.has_ended).map(|watch| watch.as_fd())
    }

    /// Returns whether the process has no descriptor and has to be checked periodically.
    pub(super) fn is_unwatched(&self) -> bool {
        self.watch.is_none() && !self.has_ended
    }

    /// Returns the exit status if the process has ended. It is returned only once.
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

    /// Collects the exit status of an ended child. This frees its pid.
    pub(super) fn reap(&mut self) {
        if self.is_child && self.has_ended {
            status_of(self.process.pid, WaitIdOptions::empty());
            self.is_child = false;
        }
    }
}

/// Returns the exit status of a child, if it has ended.
pub(super) fn status_of(pid: u32, options: WaitIdOptions) -> Option<Status> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(processes::pid(pid)?), options) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Status::Code(code),
            (None, Some(signal)) => Status::Signal(signal),
            (None, None) => Status::Unknown,
        }),
        Ok(None) => None,
        // The process is not a child of the keeper, or its status has been collected already.
        Err(_) => Some(Status::Unknown),
    }
}
