//! What `/proc` says of processes, and signals to one of them that cannot reach another of the same number.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::{Process, Stat};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

/// The variables by which processes of an instance are known where there are no cgroups: its name, and its keeper's
/// folder, since keepers of several folders may have instances of one name.
pub(super) const INSTANCE: &str = "HAX_INSTANCE";
pub(super) const KEEPER: &str = "HAX_KEEPER";

/// How much of a process's environment is looked at, in bytes.
const ENVIRON_MAX: u64 = 1 << 20;

pub(super) fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// The keeper's own number.
pub(super) fn own() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// What is said of a process now.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&stat_line(pid)?)
}

/// The same as the kernel writes it.
pub(super) fn stat_line(pid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/stat")).ok()
}

/// The boot of this node.
pub(super) fn boot(path: &Path) -> io::Result<Box<str>> {
    let text = fs::read_to_string(path)?;
    match text.trim() {
        "" => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        boot => Ok(boot.into()),
    }
}

/// All processes.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The children of the keeper, those included that have ended and whose exit code is not taken. The main thread has
/// them all: it starts them, and the kernel gives it the orphans.
pub(super) fn children() -> Vec<u32> {
    let own = own();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // The kernel was built without CONFIG_PROC_CHILDREN.
        Err(_) => all().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == own)).collect(),
    }
}

/// All processes that live and have the marks of this keeper's instance.
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

/// `HAX_INSTANCE` is the instance's name, and a colon and its capability if it has one.
fn is_mark(word: &[u8], mark: &[u8]) -> bool {
    word.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
}

/// Becomes readable when this process has ended. None where the kernel has no such thing.
///
/// # Errors
///
/// It has ended, and its number may be another's.
pub(super) fn watch(process: Process) -> io::Result<Option<OwnedFd>> {
    let gone = || io::Error::from(rustix::io::Errno::SRCH);
    let number = pid(process.pid).ok_or_else(gone)?;
    let file = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(file) => Some(file),
        // Linux before 5.3, or a sandbox that was written before it.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => None,
        Err(why) => return Err(why.into()),
    };
    // It may have ended, and its number be used again, before it was opened.
    let is_it = stat(process.pid).is_some_and(|stat| stat.process == process);
    if is_it { Ok(file) } else { Err(gone()) }
}

/// Sends a signal to this process and to no later one of its number.
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
