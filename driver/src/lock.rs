//! The lock that gives a file or a folder to one daemon at a time.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

/// The number of attempts, and the pause between them: half a second in all.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Locks the open file until its descriptor and all of that descriptor's copies are closed. Several attempts
/// are made, since a child between fork and exec has a copy: of a daemon that has ended while it started a
/// program, the child holds the lock for a moment longer.
///
/// # Errors
///
/// `WOULDBLOCK` if another daemon has the lock, or why the system call has failed.
pub(crate) fn lock(file: impl AsFd) -> Result<()> {
    let attempt = || flock(&file, FlockOperation::NonBlockingLockExclusive);
    for _ in 0..TRIES {
        match attempt() {
            Err(Errno::WOULDBLOCK) => thread::park_timeout(PAUSE),
            locked => return locked,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_that_closes_soon_is_waited_for() {
        let path = std::env::temp_dir().join(format!("hax-lock-{}", std::process::id()));
        let first = File::create(&path).unwrap();
        lock(&first).unwrap();
        // A child between fork and exec has such a copy.
        let copy = first.try_clone().unwrap();
        drop(first);
        let child = thread::spawn(|| {
            thread::park_timeout(PAUSE * 3);
            drop(copy);
        });
        lock(File::open(&path).unwrap()).unwrap();
        child.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
