//! The ports that have a thread each: helper programs, files and named pipes. The first two are started when the
//! machine first asks something of them; most machines never do. Pipes are, where there is a folder for them.

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

/// See the module.
#[derive(Debug)]
pub struct Workers {
    settings: Settings,
    inbox: Sender<Input>,
    exec: Option<Exec>,
    files: Option<Files>,
    fifo: Option<Fifo>,
}

impl Workers {
    /// What happens is put in `inbox`. Whose pipes lie in `folder`, if there is one, is served from now on.
    ///
    /// # Errors
    ///
    /// The system has no thread for them.
    pub fn new(
        settings: Settings,
        folder: Option<Folder>,
        inbox: Sender<Input>,
    ) -> io::Result<Self> {
        let start = |folder| Fifo::start(folder, inbox.clone(), Input::Fifo);
        let fifo = folder.map(start).transpose()?;
        Ok(Self { settings, inbox, exec: None, files: None, fifo })
    }

    /// Starts what the machine asks for, or returns what it is to be told: that there can be no thread.
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

    /// The same with files.
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

    /// Ends all helpers and hands over the last answers, within this time, and writes what is left to be written,
    /// however long that takes: the machine has asked for it.
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

/// Why there can be no thread; EAGAIN if the system does not say.
fn errno(why: &io::Error) -> Errno {
    why.raw_os_error().map_or(Errno::EAGAIN, Errno)
}
