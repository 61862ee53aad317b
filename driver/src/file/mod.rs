//! Files that a machine reads and writes: the port of [`hax_core::file`], with one implementation for every
//! runtime.
//!
//! One thread carries out all commands one after another, so the order is kept for each file. The thread
//! waits for the disk and for room in the machine's inbox; the machine waits for neither.

#[cfg(test)]
mod tests;
pub(crate) mod whole;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::thread;

use async_channel::{Receiver, Sender};
use hax_core::base::errno::Errno;
use hax_core::base::id::FileId;
use hax_core::file::{Command, Event, Failure, Write};

use whole::Target;

/// The stack size of the thread, in bytes.
const STACK: usize = 128 << 10;

/// The maximum number of directories that are remembered as swept. A machine uses one or two.
const SWEPT: usize = 64;

/// The files of one machine.
#[derive(Debug)]
pub struct Files {
    /// The queue of commands; `None` after the shutdown. It holds only commands without an event yet, and
    /// machines bound the number of those.
    queue: Option<mpsc::Sender<Command>>,
    ended: Receiver<Infallible>,
}

impl Files {
    /// Starts the thread. `wrap` converts the events into the machine's inputs, which are put in `inbox`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub fn start<I: Send + 'static>(inbox: Sender<I>, wrap: fn(Event) -> I) -> io::Result<Self> {
        let (queue, commands) = mpsc::channel();
        let (end, ended) = async_channel::bounded(1);
        let work = move || {
            let mut swept = BTreeSet::new();
            for command in commands {
                // A command that was accepted is carried out even if the inbox is closed.
                let _ = inbox.send_blocking(wrap(carry_out(command, &mut swept)));
            }
            end.close();
        };
        thread::Builder::new().name("file".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { queue: Some(queue), ended })
    }

    /// Queues a command and returns at once. Commands after [`Self::shut_down`] are dropped.
    pub fn execute(&self, command: Command) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(command);
        }
    }

    /// Stops accepting commands and waits for the accepted ones. It completes when they are carried out and
    /// their events are in the inbox, or the inbox is closed.
    pub async fn shut_down(&mut self) {
        self.queue = None;
        // Nothing is ever sent on this channel; it only closes.
        let _ = self.ended.recv().await;
    }
}

fn carry_out(command: Command, swept: &mut BTreeSet<Box<str>>) -> Event {
    match command {
        Command::Write(write) => {
            let Write { id, path, mode, content } = *write;
            let written = open(&path, swept).and_then(|place| place.write(mode, &content, |_| {}));
            done(id, written)
        }
        Command::Read { id, path, max } => {
            match open(&path, swept).and_then(|place| place.read(max)) {
                Ok(Some(content)) => Event::Content { id, content },
                // If the directory does not exist, the file does not exist either.
                Ok(None) | Err(Failure::System(Errno::ENOENT)) => Event::Missing { id },
                Err(why) => Event::Failed { id, why },
            }
        }
        Command::Remove { id, path } => match open(&path, swept).and_then(|place| place.remove()) {
            Err(Failure::System(Errno::ENOENT)) => Event::Done { id },
            removed => done(id, removed),
        },
    }
}

fn done(id: FileId, result: Result<(), Failure>) -> Event {
    match result {
        Ok(()) => Event::Done { id },
        Err(why) => Event::Failed { id, why },
    }
}

/// Opens the directory of a file. The first time that a directory exists, its left-behind temporaries are
/// removed.
fn open<'a>(path: &'a str, swept: &mut BTreeSet<Box<str>>) -> Result<Target<'a>, Failure> {
    let place = Target::open(path)?;
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if !swept.contains(folder) {
        if swept.len() == SWEPT {
            swept.clear();
        }
        swept.insert(folder.into());
        if let Err(why) = place.sweep() {
            tracing::debug!(target: "hax", folder, %why, "what was left of written files stays");
        }
    }
    Ok(place)
}
