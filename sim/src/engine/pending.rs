//! The pending answers of every machine: to requests over named pipes, and to requests for a streaming
//! response.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::id::{FifoId, HttpId};
use hax_core::http::stream::{Begin, Command};
use hax_core::machine::{Input, Output};

use super::Violation;

/// The pending answers of one life of a machine, and the rules for them.
#[derive(Debug, Default)]
pub(super) struct PendingAnswers {
    /// The requests without an answer.
    http: BTreeSet<HttpId>,
    /// The open streaming responses in the machine's view, and whether it has ended them.
    streams: BTreeMap<HttpId, bool>,
    /// The requests over named pipes without an answer.
    pipes: BTreeSet<FifoId>,
}

impl PendingAnswers {
    /// Observes an input before the machine takes it.
    pub(super) fn on_input(&mut self, input: &Input) -> Result<(), Violation> {
        match input {
            Input::Http(request) => {
                self.http.insert(request.id);
            }
            Input::HttpStream(closed) => {
                if self.streams.remove(&closed.id).is_none() {
                    return Violation::of("an answer is closed once", format!("{closed:?}"));
                }
            }
            Input::Fifo(request) => {
                self.pipes.insert(request.id);
            }
            Input::Tick
            | Input::Net(_)
            | Input::Consul(_)
            | Input::Spiel(_)
            | Input::Exec(_)
            | Input::File(_)
            | Input::Keeper(_)
            | Input::Stop => {}
        }
        Ok(())
    }

    /// Checks the outputs of the last input.
    pub(super) fn on_outputs<F>(&mut self, out: &[Output<F>]) -> Result<(), Violation> {
        out.iter().try_for_each(|output| match output {
            Output::Http(response) => {
                self.http.remove(&response.id);
                if self.streams.contains_key(&response.id) {
                    let text = response.id.to_string();
                    return Violation::of("an answer is given or begun, not both", text);
                }
                Ok(())
            }
            Output::HttpStream(command) => self.on_stream_command(command),
            Output::Fifo(response) if self.pipes.remove(&response.id) => Ok(()),
            Output::Fifo(response) => {
                let text = response.id.to_string();
                Violation::of("each request over pipes has one answer", text)
            }
            Output::Net(_)
            | Output::Consul(_)
            | Output::Spiel(_)
            | Output::Exec(_)
            | Output::File(_)
            | Output::Keeper(_)
            | Output::State(_)
            | Output::Fact(_) => Ok(()),
        })
    }

    /// Checks that no answer is pending when the machine exits.
    pub(super) fn on_exit(&self) -> Result<(), Violation> {
        match self.pipes.first() {
            None => Ok(()),
            Some(id) => Violation::of("what was asked is answered before an exit", id.to_string()),
        }
    }

    /// Checks a command for a streaming response. The machine sends data only after the beginning and before
    /// the end of the response, and not after it was informed that the client has gone.
    fn on_stream_command(&mut self, command: &Command) -> Result<(), Violation> {
        let may = match command {
            Command::Begin(Begin { id, .. }) => {
                self.streams.insert(*id, false);
                self.http.remove(id)
            }
            Command::Chunk { id, .. } => self.streams.get(id) == Some(&false),
            Command::End { id } => match self.streams.get_mut(id) {
                Some(ended) => !std::mem::replace(ended, true),
                None => false,
            },
        };
        if may {
            return Ok(());
        }
        let name = command.id();
        let text = match command {
            Command::Begin(_) => format!("{name} is begun and does not wait"),
            Command::Chunk { .. } | Command::End { .. } => format!("{name} is not open"),
        };
        Violation::of("an answer is begun once and said nothing of after its end", text)
    }
}
