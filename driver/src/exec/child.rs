//! A helper's process, as it is made: what it has of the daemon, and what not.
#![expect(unsafe_code, reason = "what a child does before its program begins is its own affair")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hax_core::exec::Spawn;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal,
    setrlimit,
};

/// What every helper's environment has.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// How many files a helper may have open unless it asks for more: what Linux gives to everybody. The daemon
/// has raised its own limit, and a program that uses select(2) fails beyond this one.
const FILES: u64 = 1024;

/// Starts `program`, the file that the first word of `spawn.argv` leads to, in a process group of its own, in
/// the root folder.
///
/// The helper gets a SIGKILL when the *thread* that called this ends (`PR_SET_PDEATHSIG` of prctl(2)): so it
/// is called on one that lives as long as the daemon. The standard library empties the signal mask and sets
/// SIGPIPE to its default; handlers end with exec.
pub(super) fn spawn(program: &Path, spawn: &Spawn) -> io::Result<Child> {
    let [name, arguments @ ..] = &*spawn.argv else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let stdin = if spawn.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut command = Command::new(program);
    command.arg0(&**name).args(arguments.iter().map(|word| &**word)).env_clear().envs(ENVIRONMENT);
    command.envs(spawn.env.iter().map(|(name, value)| (&**name, &**value)));
    command.current_dir("/").process_group(0);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let daemon = getpid();
    let limit = getrlimit(Resource::Nofile);
    let files =
        Rlimit { current: Some(limit.maximum.map_or(FILES, |max| max.min(FILES))), ..limit };
    let begin = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before it could be told.
        if getppid() != Some(daemon) {
            return Err(io::ErrorKind::NotFound.into());
        }
        setrlimit(Resource::Nofile, files)?;
        close_the_rest();
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(begin) };
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
