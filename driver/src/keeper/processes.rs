//! Information about processes from `/proc`, and signals to one process. A signal cannot reach another
//! process with a reused pid.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::{Process, Stat};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

/// The environment variables for finding an instance's processes without cgroups: the instance's name, and
/// the keeper's folder. The folder is needed because keepers of several folders may have instances with the
/// same name.
pub(super) const INSTANCE: &str = "HAX_INSTANCE";
pub(super) const KEEPER: &str = "HAX_KEEPER";

/// The maximum number of bytes to read of a process's environment.
const ENVIRON_MAX: u64 = 1 << 20;

pub(super) fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Returns the keeper's own pid.
pub(super) fn own() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Reads the current state of a process.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&stat_line(pid)?)
}

/// Reads the `stat` line of a process as the kernel writes it.
pub(super) fn stat_line(pid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/stat")).ok()
}

/// Reads the boot id of this node.
pub(super) fn boot(path: &Path) -> io::Result<Box<str>> {
    let text = fs::read_to_string(path)?;
    match text.trim() {
        "" => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        boot => Ok(boot.into()),
    }
}

/// Returns the pids of all processes.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the children of the keeper, with the zombies among them. All are children of the main thread,
/// since it starts them, and since the kernel gives the orphans to it.
pub(super) fn children() -> Vec<u32> {
    let own = own();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // The kernel was built without CONFIG_PROC_CHILDREN.
        Err(_) => all().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == own)).collect(),
    }
}

/// Returns all living processes with the variables of this keeper's instance.
pub(super) fn marked(keeper: &Path, instance: &InstanceId) -> Vec<Process> {
    let mark = format!("{INSTANCE}={instance}");
    let of_keeper = [KEEPER.as_bytes(), b"=", keeper.as_os_str().as_encoded_bytes()].concat();
    let is_marked = |pid: u32| {
        let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
        let mut environ = Vec::new();
        let read = io::Read::read_to_end(&mut io::Read::take(file, ENVIRON_MAX), &mut environ);
        let mut words = environ.split(|byte| *byte == 0);
        read.is_ok()
            && words.clone().any(|word| *word == *of_keeper)
            && words.any(|word| is_mark(word, mark.as_bytes()))
    };
    let own = own();
    let alive = |pid| stat(pid).filter(|stat| !stat.is_zombie).map(|stat| stat.process);
    all().filter(|pid| *pid != own && is_marked(*pid)).filter_map(alive).collect()
}

/// Returns whether a variable names this instance. `HAX_INSTANCE` is the instance's name, followed by a colon
/// and the capability if the instance has one.
fn is_mark(word: &[u8], mark: &[u8]) -> bool {
    word.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
}

/// Returns a descriptor for the end of this process. It becomes readable when the process has ended. `None`
/// if the kernel does not support it.
///
/// # Errors
///
/// If the process has ended. Its pid may belong to another process then.
pub(super) fn watch(process: Process) -> io::Result<Option<OwnedFd>> {
    let gone = || io::Error::from(rustix::io::Errno::SRCH);
    let number = pid(process.pid).ok_or_else(gone)?;
    let file = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(file) => Some(file),
        // The kernel is older than Linux 5.3, or the keeper runs in a sandbox that does not know the system
        // call.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => None,
        Err(why) => return Err(why.into()),
    };
    // The process may have ended before its pid was opened, and the pid may have been reused.
    let is_it = stat(process.pid).is_some_and(|stat| stat.process == process);
    if is_it { Ok(file) } else { Err(gone()) }
}

/// Sends a signal to this process, and to no later process with the same pid.
pub(super) fn signal(process: Process, signal: Signal) {
    let Ok(watch) = watch(process) else { return };
    let sent = match (watch, pid(process.pid)) {
        (Some(file), _) => pidfd_send_signal(file, signal),
        (None, Some(number)) => kill_process(number, signal),
        (None, None) => return,
    };
    if let Err(why) = sent {
        tracing::debug!(target: "hax", %process, %why, "no signal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_whole() {
        for (word, expected) in [
            ("HAX_INSTANCE=a", true),
            ("HAX_INSTANCE=a:secret", true),
            ("HAX_INSTANCE=ab", false),
            ("XHAX_INSTANCE=a", false),
            ("HAX_INSTANCE=", false),
        ] {
            assert_eq!(is_mark(word.as_bytes(), b"HAX_INSTANCE=a"), expected, "{word}");
        }
    }

    #[test]
    fn a_process_is_watched_by_who_it_is() {
        let me = stat(own()).unwrap().process;
        assert!(watch(me).unwrap().is_some());
        let earlier = Process { started: me.started - 1, ..me };
        assert!(watch(earlier).is_err());
    }
}
