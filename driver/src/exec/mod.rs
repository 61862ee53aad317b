//! Short programs that are run for a machine: the port of [`hax_core::exec`], with one implementation for
//! every runtime.
//!
//! One thread starts all helpers and waits for all of them. The thread lives as long as the daemon, because
//! the kernel ends a helper with the thread that created it. It waits for each helper by its pid, because
//! waiting for "any child" would collect the exit codes of other children of the same process. Neither a
//! runtime nor a handler of SIGCHLD is needed.
//!
//! When the program of a helper has ended, the rest of its process group is killed. A process that should
//! live on has to leave the group (`setsid`, `systemd-run`). If the daemon is killed, the kernel kills the
//! program of each helper. The processes that the program had started are then ended by the daemon's own unit
//! (systemd's `KillMode=control-group`).
//!
//! A slow machine exerts back pressure: while its inbox is full no output is read, and nothing is lost.
//! Deadlines hold nevertheless.

mod bell;
pub(crate) mod child;
pub(crate) mod ended;
mod helper;
mod outbox;
mod pipes;
mod programs;
mod reactor;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::exec::{Command, Event};
use rustix::process::Pid;

pub(crate) use bell::Bell;
pub use programs::{Distrust, Programs};

use crate::host::clock::Clock;
use outbox::Outbox;
use reactor::{Queue, Reactor, Word};

/// The stack size of the thread, in bytes. It includes what the creation of a process needs.
const STACK: usize = 256 << 10;

/// The settings for running helpers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The permitted programs.
    pub programs: Programs,
    /// The maximum number of running helpers. Beyond that the machine's command is refused, and the machine
    /// waits or gives up: only the machine knows which helper is more important. Each helper takes up to four
    /// descriptors of the daemon.
    pub running_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { programs: Programs::new([]), running_max: 128 }
    }
}

/// The helpers of one machine.
#[derive(Debug)]
pub struct Exec {
    queue: Arc<Queue>,
    ended: Receiver<Infallible>,
}

impl Exec {
    /// Starts the thread. `wrap` converts the events into the machine's inputs, which are put in `inbox`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread or open a descriptor.
    pub fn start<I: Send + 'static>(
        settings: Settings,
        inbox: Sender<I>,
        wrap: fn(Event) -> I,
    ) -> io::Result<Self> {
        Self::start_watching(settings, inbox, wrap, ended::watch)
    }

    fn start_watching<I: Send + 'static>(
        settings: Settings,
        inbox: Sender<I>,
        wrap: fn(Event) -> I,
        watch: fn(Pid) -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new()?);
        let outbox = Outbox::new(inbox, wrap, Waker::from(Arc::clone(&queue.bell)));
        let (end, ended) = async_channel::bounded(1);
        let reactor = Reactor {
            settings,
            watch,
            queue: Arc::clone(&queue),
            outbox,
            ended: end,
            clock: Clock::new(),
            helpers: BTreeMap::new(),
            stops_at: None,
        };
        thread::Builder::new().name("exec".into()).stack_size(STACK).spawn(|| reactor.run())?;
        Ok(Self { queue, ended })
    }

    /// Queues the machine's command and returns at once.
    pub fn execute(&self, command: Command) {
        self.queue.say(Word::Do(command));
    }

    /// Ends all helpers: a SIGTERM at once, and a SIGKILL when the grace of the helper or `within` is over.
    /// It completes when no helper is left, and half a second after `within` at the latest.
    pub async fn shut_down(&self, within: Duration) {
        self.queue.say(Word::Stop(within));
        // Nothing is ever sent on this channel; it only closes.
        let _ = self.ended.recv().await;
    }
}

/// Kills the running helpers.
impl Drop for Exec {
    fn drop(&mut self) {
        self.queue.say(Word::Stop(Duration::ZERO));
    }
}
