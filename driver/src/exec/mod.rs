//! Short programs that a machine has run for it: the port of [`hax_core::exec`], one code for every runtime.
//!
//! One thread starts them all and waits for them all. It lives as long as the daemon, because the kernel ends a
//! helper with the thread that made it; and it waits for each by its number, because whoever waits for "any
//! child" takes the exit codes of others in the same process. Nothing here needs a runtime or a handler of
//! SIGCHLD.
//!
//! What ends with a helper, and what not: when its program has ended, what is left of its process group is
//! killed. What is to live on has to leave the group (`setsid`, `systemd-run`). If the daemon is killed, the
//! kernel kills the program of each helper; what that had started is for the daemon's own unit to end
//! (systemd's `KillMode=control-group`).
//!
//! Who reads slowly is waited for: while the machine's inbox is full no output is read, and nothing is lost.
//! Deadlines hold all the same.

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

/// What the thread needs, with what is on it when a process is made.
const STACK: usize = 256 << 10;

/// How helpers are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which programs may be run.
    pub programs: Programs,
    /// How many helpers run at a time. Beyond that a machine is refused, and waits or gives up as it sees fit:
    /// only it knows who goes first. Each takes up to four files of the daemon's.
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
    /// Starts the thread. What happens is put in `inbox`, as `wrap` makes it an input.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file left.
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

    /// Starts what the machine asks for and returns at once.
    pub fn execute(&self, command: Command) {
        self.queue.say(Word::Do(command));
    }

    /// Ends all helpers: a SIGTERM at once, a SIGKILL when the grace of each or `within` is over. Completes
    /// when none is left, and half a second after `within` at the latest.
    pub async fn shut_down(&self, within: Duration) {
        self.queue.say(Word::Stop(within));
        // Nothing is ever sent.
        let _ = self.ended.recv().await;
    }
}

/// Kills what still runs.
impl Drop for Exec {
    fn drop(&mut self) {
        self.queue.say(Word::Stop(Duration::ZERO));
    }
}
