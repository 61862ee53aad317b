//! When a child has ended. Its exit code is left where it is: until it is taken the kernel gives the child's
//! number to nobody else, and so its process group can be signalled without hitting a stranger.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// What a thread that only waits needs.
const STACK: usize = 64 << 10;

/// Becomes readable, or hangs up, when this child of ours has ended.
pub(crate) fn watch(pid: Pid) -> io::Result<OwnedFd> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Linux before 5.3, or a sandbox that was written before it.
        Err(Errno::NOSYS | Errno::PERM) => by_thread(pid),
        opened => Ok(opened?),
    }
}

/// The same on any kernel: a thread waits for this child alone. SIGCHLD would need a handler for the whole
/// process, where the runtime and Motr's library have theirs.
pub(super) fn by_thread(pid: Pid) -> io::Result<OwnedFd> {
    let (end, held) = io::pipe()?;
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        drop(held);
    };
    thread::Builder::new().name("exec-wait".into()).stack_size(STACK).spawn(wait)?;
    Ok(end.into())
}

/// Whether this child has ended and its exit code is still ours to take. It is not if somebody in this process
/// waits for any child, or if SIGCHLD is ignored; its number may then be a stranger's.
pub(crate) fn is_ours(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(pid), options).is_ok()
}
