//! The port to the keeper of the node, for a machine with services.

use std::io;
use std::path::PathBuf;

use async_channel::Sender;
use hax_core::keeper::port::{Command, Event, Unanswered};
use hax_core::machine::Input;

use crate::keeper::Connection;

/// The connection to the keeper, if the machine has one.
#[derive(Debug)]
pub struct Keeper(Option<Connection>);

impl Keeper {
    /// Connects to the keeper of this folder, if there is a folder. The events are put in `inbox`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub fn new(folder: Option<PathBuf>, inbox: Sender<Input>) -> io::Result<Self> {
        let start = |folder: PathBuf| Connection::start(&folder, inbox, Input::Keeper);
        folder.map(start).transpose().map(Self)
    }

    /// Executes a request. Without a connection, returns the event of its refusal.
    pub fn execute(&self, command: Command) -> Option<Input> {
        let Some(connection) = &self.0 else {
            let result = Err(Unanswered::NotSent);
            return Some(Input::Keeper(Event::Answered { id: command.id, result }));
        };
        connection.execute(command);
        None
    }

    /// Closes the connection.
    pub async fn shut_down(&self) {
        if let Some(connection) = &self.0 {
            connection.shut_down().await;
        }
    }
}
