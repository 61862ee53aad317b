//! Named pipes over which clients ask a machine: the port of [`hax_core::fifo`], one code for every runtime, and
//! the clients' side of it.
//!
//! One thread reads what clients announce and serves them all; it waits for none. A client that dies at any byte
//! leaves a pipe that ends, or two files that are swept away.

mod ask;
mod conversation;
mod folder;
mod reactor;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::fifo::{Request, Response};

pub use crate::folder::FolderError;
pub use ask::{AskError, ask};
pub use folder::Folder;

use reactor::{Queue, Reactor, Word};

/// What the thread needs.
const STACK: usize = 128 << 10;

/// The clients of one machine.
#[derive(Debug)]
pub struct Fifo {
    queue: Arc<Queue>,
    ended: Receiver<Infallible>,
}

impl Fifo {
    /// Starts the thread. Requests are put in `inbox`, as `wrap` makes them inputs.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file left.
    pub fn start<I: Send + 'static>(
        folder: Folder,
        inbox: Sender<I>,
        wrap: fn(Request) -> I,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new()?);
        let (end, ended) = async_channel::bounded(1);
        let reactor = Reactor::new(folder, Arc::clone(&queue));
        let run = move || {
            // A full inbox is waited for: the machine never waits for this thread.
            reactor.run(|request| drop(inbox.send_blocking(wrap(request))));
            end.close();
        };
        thread::Builder::new().name("fifo".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { queue, ended })
    }

    /// Answers a request and returns at once; nothing if its client is gone.
    pub fn respond(&self, response: Response) {
        self.queue.say(Word::Respond(response));
    }

    /// Takes no more requests, hands over the answers that there are, within this time, and removes the pipe.
    pub async fn shut_down(&self, within: Duration) {
        self.queue.say(Word::Stop(within));
        // Nothing is ever sent.
        let _ = self.ended.recv().await;
    }
}

/// Serves nobody any more.
impl Drop for Fifo {
    fn drop(&mut self) {
        self.queue.say(Word::Stop(Duration::ZERO));
    }
}
