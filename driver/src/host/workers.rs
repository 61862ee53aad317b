//! The ports with a thread each: helper programs, files and named pipes. The threads for programs and files
//! are started at the machine's first command; most machines never use them. The thread for pipes is started
//! if there is a folder for them.

use std::io;
use std::time::Duration;

use async_channel::Sender;
use futures_lite::future::zip;
use hax_core::base::errno::Errno;
use hax_core::exec::{self, Refusal};
use hax_core::fifo;
use hax_core::file::{self, Failure};
use hax_core::machine::Input;

use crate::exec::Exec;
pub use crate::exec::Settings;
use crate::fifo::Fifo;
pub use crate::fifo::Folder;
use crate::file::Files;

/// The workers of one machine; see the module.
#[derive(Debug)]
pub struct Workers {
    settings: Settings,
    inbox: Sender<Input>,
    exec: Option<Exec>,
    files: Option<Files>,
    fifo: Option<Fifo>,
}

impl Workers {
    /// Creates the workers; their events are put in `inbox`. The pipes in `folder`, if there is one, are
    /// served from now on.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread for the pipes.
    pub fn new(
        settings: Settings,
        folder: Option<Folder>,
        inbox: Sender<Input>,
    ) -> io::Result<Self> {
        let start = |folder| Fifo::start(folder, inbox.clone(), Input::Fifo);
        let fifo = folder.map(start).transpose()?;
        Ok(Self { settings, inbox, exec: None, files: None, fifo })
    }

    /// Executes a command. If no thread can be started, returns the event of the failure.
    pub fn exec(&mut self, command: exec::Command) -> Option<Input> {
        if self.exec.is_none() {
            match Exec::start(self.settings.clone(), self.inbox.clone(), Input::Exec) {
                Ok(exec) => self.exec = Some(exec),
                Err(failed) => {
                    let exec::Command::Spawn(spawn) = command else { return None };
                    let (id, why) = (spawn.id, Refusal::Failed(errno(&failed)));
                    return Some(Input::Exec(exec::Event::Refused { id, why }));
                }
            }
        }
        self.exec.as_ref()?.execute(command);
        None
    }

    /// Executes a command to files, in the same way.
    pub fn file(&mut self, command: file::Command) -> Option<Input> {
        if self.files.is_none() {
            match Files::start(self.inbox.clone(), Input::File) {
                Ok(files) => self.files = Some(files),
                Err(failed) => {
                    let (id, why) = (command.id(), Failure::System(errno(&failed)));
                    return Some(Input::File(file::Event::Failed { id, why }));
                }
            }
        }
        self.files.as_ref()?.execute(command);
        None
    }

    /// Answers a request that came over pipes.
    pub fn fifo(&self, response: fifo::Response) {
        if let Some(fifo) = &self.fifo {
            fifo.respond(response);
        }
    }

    /// Ends all helper programs and delivers the last responses, within this time. It completes all writes to
    /// files, however long that takes, since the machine has asked for them.
    pub async fn shut_down(&mut self, within: Duration) {
        let helpers = async {
            if let Some(exec) = &self.exec {
                exec.shut_down(within).await;
            }
        };
        let files = async {
            if let Some(files) = &mut self.files {
                files.shut_down().await;
            }
        };
        let pipes = async {
            if let Some(fifo) = &self.fifo {
                fifo.shut_down(within).await;
            }
        };
        zip(helpers, zip(files, pipes)).await;
    }
}

/// Returns the error code of a failed thread start; EAGAIN if the system gives none.
fn errno(why: &io::Error) -> Errno {
    why.raw_os_error().map_or(Errno::EAGAIN, Errno)
}
