//! The workers of a program without helper programs, files and pipes: each command is refused.

use std::io;
use std::time::Duration;

use async_channel::Sender;
use hax_core::base::errno::Errno;
use hax_core::exec::{self, Refusal};
use hax_core::fifo;
use hax_core::file::{self, Failure};
use hax_core::machine::Input;

/// The settings, which are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings;

/// The folder with pipes, which never exists.
#[derive(Debug)]
pub enum Folder {}

/// The workers; see the module.
#[derive(Clone, Copy, Debug)]
pub struct Workers;

/// EOPNOTSUPP.
const NOT_BUILT: Errno = Errno(95);

impl Workers {
    /// Creates workers that refuse each command.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(_: Settings, _: Option<Folder>, _: Sender<Input>) -> io::Result<Self> {
        Ok(Self)
    }

    /// Does nothing: no request came over pipes.
    #[expect(clippy::unused_self, reason = "as where there are workers")]
    pub fn fifo(&self, _: fifo::Response) {}

    /// Returns the event of a refused command.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "as where there are workers"
    )]
    pub fn exec(&mut self, command: exec::Command) -> Option<Input> {
        let exec::Command::Spawn(spawn) = command else { return None };
        let (id, why) = (spawn.id, Refusal::Failed(NOT_BUILT));
        Some(Input::Exec(exec::Event::Refused { id, why }))
    }

    /// Returns the event of a refused command to files.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "as where there are workers"
    )]
    pub fn file(&mut self, command: file::Command) -> Option<Input> {
        let (id, why) = (command.id(), Failure::System(NOT_BUILT));
        Some(Input::File(file::Event::Failed { id, why }))
    }

    /// Does nothing: there is no pending work.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "as where there are workers"
    )]
    pub fn shut_down(&mut self, _: Duration) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
