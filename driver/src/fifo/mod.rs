//! Named pipes for requests of clients to a machine: the port of [`hax_core::fifo`], with one implementation
//! for every runtime, and the client side of it.
//!
//! One thread reads the announcements of the clients and serves all of them. It never blocks on a client. A
//! client that dies at any byte leaves a pipe that ends, or two files that are removed later.

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

/// The stack size of the thread, in bytes.
const STACK: usize = 128 << 10;

/// The clients of one machine.
#[derive(Debug)]
pub struct Fifo {
    queue: Arc<Queue>,
    ended: Receiver<Infallible>,
}

impl Fifo {
    /// Starts the thread. `wrap` converts the requests into inputs, which are put in `inbox`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread or open a descriptor.
    pub fn start<I: Send + 'static>(
        folder: Folder,
        inbox: Sender<I>,
        wrap: fn(Request) -> I,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new()?);
        let (end, ended) = async_channel::bounded(1);
        let reactor = Reactor::new(folder, Arc::clone(&queue));
        let run = move || {
            // The thread waits while the inbox is full. The machine never waits for this thread.
            reactor.run(|request| drop(inbox.send_blocking(wrap(request))));
            end.close();
        };
        thread::Builder::new().name("fifo".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { queue, ended })
    }

    /// Queues the reply to a request and returns at once. The reply is dropped if its client is gone.
    pub fn respond(&self, response: Response) {
        self.queue.say(Word::Respond(response));
    }

    /// Stops accepting requests, writes the pending replies within this time, and removes the pipe.
    pub async fn shut_down(&self, within: Duration) {
        self.queue.say(Word::Stop(within));
        // Nothing is ever sent on this channel; it only closes.
        let _ = self.ended.recv().await;
    }
}

/// Stops the server.
impl Drop for Fifo {
    fn drop(&mut self) {
        self.queue.say(Word::Stop(Duration::ZERO));
    }
}
