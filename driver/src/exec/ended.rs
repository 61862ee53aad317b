//! Detection of a child's end. The exit status is not collected here: until it is collected, the kernel does
//! not reuse the child's pid. So the child's process group can be signalled without hitting an unrelated
//! process.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// The stack size of a waiting thread, in bytes.
const STACK: usize = 64 << 10;

/// Returns a descriptor that becomes readable, or hangs up, when this child of the daemon has ended.
pub(crate) fn watch(pid: Pid) -> io::Result<OwnedFd> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The kernel is older than Linux 5.3, or the daemon runs in a sandbox that does not know the system
        // call.
        Err(Errno::NOSYS | Errno::PERM) => by_thread(pid),
        opened => Ok(opened?),
    }
}

/// Does the same as [`watch`] on any kernel: a thread waits for this child alone. SIGCHLD would need a
/// handler for the whole process, and the runtime and Motr's library have their handlers there.
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

/// Returns whether this child has ended and its exit status can still be collected. It cannot if other code
/// in this process waits for any child, or if SIGCHLD is ignored. Then the pid may belong to an unrelated
/// process.
pub(crate) fn is_ours(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(pid), options).is_ok()
}
