//! The replay of a hax's journal.

use hax_core::consul::port;
use hax_core::journal;
use hax_core::machine::{Input, Output};
use hax_core::node::Node;

use super::oracle::Alone;
use crate::engine::Violation;
use crate::engine::replay::{self, JournalError, Opened};

pub(super) fn open(journal: &[u8]) -> Result<Opened<'_, Node>, JournalError> {
    let (config, records) = journal::open(journal)?;
    Ok(Opened {
        alone: Box::new(Alone::new(&config)),
        machine: Node::new(config),
        records: Box::new(records),
    })
}

impl replay::Alone<Node> for Alone {
    fn takes(&mut self, input: &Input) {
        match input {
            Input::Http(request) => self.asked(request.id),
            Input::Consul(port::Reply { id, .. }) => self.replied(*id),
            Input::Spiel(reply) => self.library_answered(reply),
            Input::Tick
            | Input::Net(_)
            | Input::HttpStream(_)
            | Input::Exec(_)
            | Input::File(_)
            | Input::Fifo(_)
            | Input::Keeper(_)
            | Input::Stop => {}
        }
    }

    fn gave(&mut self, now: u64, out: &[Output], node: &Node) -> Result<(), Violation> {
        self.step(out, node)?;
        out.iter().try_for_each(|output| match output {
            Output::Fact(fact) => self.fact(now, fact),
            _ => Ok(()),
        })
    }
}
