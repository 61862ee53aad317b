//! A node with Motr's library: the bridge alone, with the inputs and outputs of a whole node.

use std::sync::Arc;

use async_channel::Receiver;
use hax_core::base::fact::Metric;
use hax_core::base::time::{Next, Now};
use hax_core::bridge::config;
use hax_core::bridge::{Bridge, View, io};
use hax_core::ha::fact::Fact;
use hax_core::ha::motr::Event;
use hax_core::ha::spiel::Reply;
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use hax_core::node;

use super::{EVENTS, Libmotr};

/// The counterpart of [`Node`](hax_core::node::Node), which speaks the wire.
pub struct LibraryNode {
    bridge: Bridge,
    motr: Arc<Libmotr>,
    events: Receiver<Event>,
    replies: Receiver<Reply>,
    outputs: Vec<io::Output>,
}

impl LibraryNode {
    /// Creates a node with an empty bridge and a library that is starting.
    #[must_use]
    pub fn new(config: config::Config, motr: Arc<Libmotr>) -> Self {
        let (events, replies) = (motr.events(), motr.replies());
        Self { bridge: Bridge::new(config), motr, events, replies, outputs: Vec::new() }
    }

    /// Returns the view of the bridge.
    #[must_use]
    pub fn view(&self) -> View {
        self.bridge.view()
    }
}

impl Machine for LibraryNode {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = node::GAUGES;

    /// Handles one input and the library's events since the last call. The library wakes the machine by a
    /// tick after each event, unless the inbox is full; then one of the waiting inputs serves the purpose.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let input = match input {
            // There is no wire, so it has no events. This machine runs no programs, keeps no files, and
            // leaves no responses open.
            Input::Tick
            | Input::Net(_)
            | Input::Exec(_)
            | Input::File(_)
            | Input::Fifo(_)
            | Input::Keeper(_)
            | Input::HttpStream(_) => io::Input::Tick,
            Input::Consul(reply) => io::Input::Consul(reply),
            Input::Spiel(reply) => io::Input::Spiel(reply),
            Input::Http(request) => io::Input::Http(request),
            Input::Stop => io::Input::Stop,
        };
        let mut next = self.bridge.handle(now, input, &mut self.outputs);
        for _ in 0..EVENTS {
            let Ok(event) = self.events.try_recv() else { break };
            if next == Next::Exit {
                break;
            }
            next = self.bridge.handle(now, io::Input::Motr(event), &mut self.outputs);
        }
        while next != Next::Exit
            && let Ok(reply) = self.replies.try_recv()
        {
            next = self.bridge.handle(now, io::Input::Spiel(reply), &mut self.outputs);
        }
        for output in self.outputs.drain(..) {
            match output {
                io::Output::Motr(command) => self.motr.execute(command),
                io::Output::Spiel(call) => self.motr.call(call),
                io::Output::Consul(command) => out.push(Output::Consul(command)),
                io::Output::Http(response) => out.push(Output::Http(response)),
                io::Output::Fact(fact) => out.push(Output::Fact(fact)),
            }
        }
        next
    }

    fn blocking_queries(&self) -> usize {
        Bridge::BLOCKING_QUERIES
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        node::gauges(self.bridge.view())
    }

    fn status(&self) -> Status {
        node::status(self.bridge.view())
    }

    fn exit(&self) -> ExitReason {
        ExitReason::of(self.bridge.view())
    }
}
