//! A child, as it is made: what it has of the daemon, and what not.
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

/// What every child's environment has.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// How many files a child may have open unless it asks for more: what Linux gives to everybody. The daemon
/// has raised its own limit, and a program that uses select(2) fails beyond this one.
const FILES: u64 = 1024;

/// What a child does between fork and exec, in this order. It is data, so that nothing but system calls is made
/// there.
pub(crate) struct Before {
    /// Whose child it is: until its program begins it ends with the thread that made it (`PR_SET_PDEATHSIG` of
    /// prctl(2)).
    daemon: Pid,
    /// The same goes for its program.
    pub(crate) dies_with_daemon: bool,
    /// It leads a session of its own.
    pub(crate) leads_session: bool,
    /// It joins the cgroup of this `cgroup.procs`.
    pub(crate) cgroup: Option<OwnedFd>,
    /// Its `/proc/self/oom_score_adj`, if it is to be another than the daemon's.
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    /// Its file mode creation mask, if it is to be another than the daemon's.
    pub(crate) umask: Option<Mode>,
    /// Where its `/proc/self/stat` is copied to. From then on it may outlive the daemon.
    pub(crate) record: Option<OwnedFd>,
    /// Its limits.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// As whom it runs, if not as the daemon.
    pub(crate) credentials: Option<Credentials>,
    /// The folder that it runs in.
    pub(crate) dir: CString,
}

/// As whom a child runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Its other groups.
    pub(crate) groups: Vec<Gid>,
}

impl Before {
    /// As the daemon, but for the number of open files, in the root folder.
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

    /// Has the children of `command` do it.
    pub(crate) fn apply(self, command: &mut Command) {
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || Ok(self.run()?)) };
    }

    fn run(&self) -> Result<(), Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before it could be told.
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
        // Nothing is opened from here on: of the daemon's files, which are open still, there may be more already.
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

/// Starts `program`, the file that the first word of `spawn.argv` leads to, in a process group of its own, in
/// the root folder.
///
/// The helper gets a SIGKILL when the *thread* that called this ends: so it is called on one that lives as long
/// as the daemon. The standard library empties the signal mask and sets SIGPIPE to its default; handlers end
/// with exec.
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

/// Has all files but the first three closed when the program begins. Ours are opened with `O_CLOEXEC`; what the
/// daemon was started with may not be, nor what Motr's library opens. Where there is no `/proc` they stay.
fn close_the_rest() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty()) else { return };
    let mut room = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(folder, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(number @ 3..) = number {
            // SAFETY: nothing is closed before exec, and no other thread is left that could.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
}
