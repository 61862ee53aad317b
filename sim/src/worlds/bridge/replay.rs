//! The replay of a hax's journal.

use hax_core::consul::port;
use hax_core::journal;
use hax_core::machine::{Input, Output};
use hax_core::node::Node;

use super::oracle::NodeRules;
use crate::engine::Violation;
use crate::engine::replay::{self, JournalError, Opened};

pub(super) fn open(journal: &[u8]) -> Result<Opened<'_, Node>, JournalError> {
    let (config, records) = journal::open(journal)?;
    Ok(Opened {
        rules: Box::new(NodeRules::new(&config)),
        machine: Node::new(config),
        records: Box::new(records),
    })
}

impl replay::MachineRules<Node> for NodeRules {
    fn on_input(&mut self, input: &Input) {
        match input {
            Input::Http(request) => self.on_request(request.id),
            Input::Consul(port::Reply { id, .. }) => self.on_reply(*id),
            Input::Spiel(reply) => self.on_library_reply(reply),
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

    fn on_outputs(&mut self, now: u64, out: &[Output], node: &Node) -> Result<(), Violation> {
        self.on_step(out, node)?;
        out.iter().try_for_each(|output| match output {
            Output::Fact(fact) => self.on_fact(now, fact),
            _ => Ok(()),
        })
    }
}
