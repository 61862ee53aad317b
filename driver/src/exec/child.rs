//! The creation of a child process: its attributes, and what it inherits from the daemon.
#![expect(unsafe_code, reason = "what a child does before its program begins is its own affair")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hax_core::exec::Spawn;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Gid, Pid, Resource, Rlimit, Signal, Uid, getpid, getppid, getrlimit,
    set_parent_process_death_signal, setrlimit,
};

/// The environment variables of every child.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// The default limit of open files of a child, equal to the default of Linux. The daemon has raised its own
/// limit, and a program that uses select(2) fails beyond this one.
const FILES: u64 = 1024;

/// The steps of a child between fork and exec, in this order. They are prepared as data, so that only system
/// calls are made between fork and exec.
pub(crate) struct Before {
    /// The parent process. Until the child's program begins, the child ends with the thread that created it
    /// (`PR_SET_PDEATHSIG` of prctl(2)).
    daemon: Pid,
    /// Whether the child's program ends with its creating thread, too.
    pub(crate) dies_with_daemon: bool,
    /// Whether the child leads a session of its own.
    pub(crate) leads_session: bool,
    /// The `cgroup.procs` file of the child's cgroup.
    pub(crate) cgroup: Option<OwnedFd>,
    /// The child's `/proc/self/oom_score_adj`, if it differs from the daemon's.
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    /// The child's file mode creation mask, if it differs from the daemon's.
    pub(crate) umask: Option<Mode>,
    /// The file for a copy of the child's `/proc/self/stat`. After writing it the child may outlive the
    /// daemon.
    pub(crate) record: Option<OwnedFd>,
    /// The child's resource limits.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// The user and groups of the child, if they differ from the daemon's.
    pub(crate) credentials: Option<Credentials>,
    /// The working directory of the child.
    pub(crate) dir: CString,
}

/// The user and the groups of a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// The supplementary groups.
    pub(crate) groups: Vec<Gid>,
}

impl Before {
    /// Returns the daemon's attributes, with the default limit of open files and the root directory as the
    /// working directory.
    pub(crate) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let files = limit.maximum.map_or(FILES, |max| max.min(FILES));
        Self {
            daemon: getpid(),
            dies_with_daemon: true,
            leads_session: false,
            cgroup: None,
            oom_score_adj: None,
            limits: vec![(Resource::Nofile, Rlimit { current: Some(files), ..limit })],
            umask: None,
            record: None,
            credentials: None,
            dir: c"/".to_owned(),
        }
    }

    /// Makes the children of `command` run these steps.
    pub(crate) fn apply(self, command: &mut Command) {
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || Ok(self.run()?)) };
    }

    fn run(&self) -> Result<(), Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The daemon may have died before the child had set its death signal.
        if getppid() != Some(self.daemon) {
            return Err(Errno::NOENT);
        }
        if self.leads_session {
            rustix::process::setsid()?;
        }
        if let Some(cgroup) = &self.cgroup {
            rustix::io::write(cgroup, b"0")?;
        }
        if let Some(score) = &self.oom_score_adj {
            write_to(c"/proc/self/oom_score_adj", score)?;
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(mask);
        }
        if let Some(record) = &self.record {
            say_who_it_is(record)?;
        }
        close_the_rest();
        // The child opens no file after this point: the daemon's files are still open in it, and they may
        // already exceed the limit.
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit)?;
        }
        if !self.dies_with_daemon {
            set_parent_process_death_signal(None)?;
        }
        if let Some(Credentials { uid, gid, groups }) = &self.credentials {
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
        }
        rustix::process::chdir(self.dir.as_c_str())
    }
}

fn write_to(path: &std::ffi::CStr, text: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

fn say_who_it_is(record: &OwnedFd) -> Result<(), Errno> {
    let stat =
        rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut line = [0; 1024];
    let n = rustix::io::read(&stat, &mut line)?;
    let written = rustix::io::write(record, &line[..n])?;
    if written == n { Ok(()) } else { Err(Errno::NOSPC) }
}

/// Starts `program` in a process group of its own and in the root directory. `program` is the file that the
/// first argument of `spawn.argv` resolves to.
///
/// The helper gets a SIGKILL when the *thread* that called this function ends. So it is called on a thread
/// that lives as long as the daemon. The standard library empties the signal mask and sets SIGPIPE to its
/// default; exec resets the handlers.
pub(super) fn spawn(program: &Path, spawn: &Spawn) -> io::Result<Child> {
    let [name, arguments @ ..] = &*spawn.argv else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let stdin = if spawn.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut command = Command::new(program);
    command.arg0(&**name).args(arguments.iter().map(|word| &**word)).env_clear().envs(ENVIRONMENT);
    command.envs(spawn.env.iter().map(|(name, value)| (&**name, &**value)));
    command.process_group(0);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    Before::new().apply(&mut command);
    command.spawn()
}

/// Marks all descriptors but the first three as close-on-exec. The daemon opens its own with `O_CLOEXEC`, but
/// the descriptors that it inherited and those that Motr's library opens may lack the flag. Without `/proc`
/// they stay open.
fn close_the_rest() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty()) else { return };
    let mut room = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(folder, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(number @ 3..) = number {
            // SAFETY: nothing is closed before exec, and the child has no other thread that could close a
            // descriptor.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
}
