//! The port between a machine and the keeper of its node ([`hax_core::keeper::port`]), with one implementation
//! for every runtime.
//!
//! One thread keeps a connection to the keeper's socket. It subscribes to all events first, and opens the
//! connection again when it is lost. While there is no connection, requests are answered at once.

mod reactor;
mod session;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::keeper::port::{Command, Event};

use reactor::{Queue, Reactor, Word};

/// The stack size of the thread, in bytes.
const STACK: usize = 128 << 10;

/// The maximum time for an answer. A keeper that is slower is frozen. A start is answered once its record is on
/// the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The connection of one machine to the keeper; see the module.
#[derive(Debug)]
pub struct Connection {
    queue: Arc<Queue>,
    ended: Receiver<Infallible>,
}

impl Connection {
    /// Starts the thread, which connects to the keeper of this folder. `wrap` converts the events into inputs,
    /// which are put in `inbox`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread or open a descriptor.
    pub fn start<I: Send + 'static>(
        folder: &Path,
        inbox: Sender<I>,
        wrap: fn(Event) -> I,
    ) -> io::Result<Self> {
        Self::start_within(folder, inbox, wrap, ANSWER_WITHIN)
    }

    fn start_within<I: Send + 'static>(
        folder: &Path,
        inbox: Sender<I>,
        wrap: fn(Event) -> I,
        within: Duration,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new()?);
        let (end, ended) = async_channel::bounded(1);
        let reactor = Reactor::new(folder, Arc::clone(&queue), within);
        let run = move || {
            // The thread waits while the inbox is full. The machine never waits for this thread.
            reactor.run(|event| inbox.send_blocking(wrap(event)).is_ok());
            end.close();
        };
        thread::Builder::new().name("keeper".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { queue, ended })
    }

    /// Queues a request and returns at once.
    pub fn execute(&self, command: Command) {
        self.queue.say(Word::Ask(Box::new(command)));
    }

    /// Sends the requests that are queued, and closes the connection. It does not wait for their answers: the
    /// instances continue to run, and the next daemon finds them.
    pub async fn shut_down(&self) {
        self.queue.say(Word::Stop);
        // Nothing is ever sent on this channel; it only closes.
        let _ = self.ended.recv().await;
    }
}

/// Closes the connection.
impl Drop for Connection {
    fn drop(&mut self) {
        self.queue.say(Word::Stop);
    }
}
