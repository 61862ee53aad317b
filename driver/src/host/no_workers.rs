//! A program that was built without helper programs, files and pipes: whatever a machine asks of them is refused.

use std::io;
use std::time::Duration;

use async_channel::Sender;
use hax_core::base::errno::Errno;
use hax_core::exec::{self, Refusal};
use hax_core::fifo;
use hax_core::file::{self, Failure};
use hax_core::machine::Input;

/// There is nothing to set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings;

/// There is no folder with pipes.
#[derive(Debug)]
pub enum Folder {}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Workers;

/// EOPNOTSUPP.
const NOT_BUILT: Errno = Errno(95);

impl Workers {
    /// Nobody works.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(_: Settings, _: Option<Folder>, _: Sender<Input>) -> io::Result<Self> {
        Ok(Self)
    }

    /// Nobody has asked.
    #[expect(clippy::unused_self, reason = "as where there are workers")]
    pub fn fifo(&self, _: fifo::Response) {}

    /// What the machine is told of what it asks for.
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

    /// The same with files.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "as where there are workers"
    )]
    pub fn file(&mut self, command: file::Command) -> Option<Input> {
        let (id, why) = (command.id(), Failure::System(NOT_BUILT));
        Some(Input::File(file::Event::Failed { id, why }))
    }

    /// Nothing is left to be done.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "as where there are workers"
    )]
    pub fn shut_down(&mut self, _: Duration) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
