//! Files that a machine reads and writes: the port of [`hax_core::file`], one code for every runtime.
//!
//! One thread does all that is asked, one thing after another, so that the order is kept for each file. It
//! waits for the disk and for room in the machine's inbox; the machine waits for neither.

#[cfg(test)]
mod tests;
mod whole;

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

/// What the thread needs.
const STACK: usize = 128 << 10;

/// How many folders are known to be swept. A machine has one or two.
const SWEPT: usize = 64;

/// The files of one machine.
#[derive(Debug)]
pub struct Files {
    /// None once it is shut down. No more is in it than the machine has asked for and heard nothing of, and
    /// machines are bounded in that.
    queue: Option<mpsc::Sender<Command>>,
    ended: Receiver<Infallible>,
}

impl Files {
    /// Starts the thread. What comes of commands is put in `inbox`, as `wrap` makes it an input.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn start<I: Send + 'static>(inbox: Sender<I>, wrap: fn(Event) -> I) -> io::Result<Self> {
        let (queue, commands) = mpsc::channel();
        let (end, ended) = async_channel::bounded(1);
        let work = move || {
            let mut swept = BTreeSet::new();
            for command in commands {
                // Who wants to hear no more still wants done what it has asked for.
                let _ = inbox.send_blocking(wrap(carry_out(command, &mut swept)));
            }
            end.close();
        };
        thread::Builder::new().name("file".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { queue: Some(queue), ended })
    }

    /// Starts what the machine asks for and returns at once. Nothing after [`Self::shut_down`].
    pub fn execute(&self, command: Command) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(command);
        }
    }

    /// Takes no more commands; completes when those that it has are carried out, and what came of them is in
    /// the inbox, or the inbox is closed.
    pub async fn shut_down(&mut self) {
        self.queue = None;
        // Nothing is ever sent.
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
                // Nor is there one where there is no folder for it.
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

/// The place of a file. The first time that there is one in its folder, what was left there is swept away.
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
