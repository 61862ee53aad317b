//! The port to the keeper in a program without services: each request is refused.

use std::io;
use std::path::PathBuf;

use async_channel::Sender;
use hax_core::keeper::port::{Command, Event, Unanswered};
use hax_core::machine::Input;

/// No connection to a keeper.
#[derive(Clone, Copy, Debug)]
pub struct Keeper;

impl Keeper {
    /// Creates a port that refuses each request.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(_: Option<PathBuf>, _: Sender<Input>) -> io::Result<Self> {
        Ok(Self)
    }

    /// Returns the event of the refused request.
    #[expect(clippy::unused_self, reason = "as where there are services")]
    pub fn execute(&self, command: Command) -> Option<Input> {
        let result = Err(Unanswered::NotSent);
        Some(Input::Keeper(Event::Answered { id: command.id, result }))
    }

    /// Does nothing.
    #[expect(clippy::unused_self, reason = "as where there are services")]
    pub fn shut_down(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
