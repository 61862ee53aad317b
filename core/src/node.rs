//! A whole node: the bridge and the wire under one clock. The daemon and the simulator run it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::base::fact::Metric;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::{Next, Now};
use crate::bridge::config;
use crate::bridge::{Bridge, View, io};
use crate::ha::fact::Fact;
use crate::machine::{Machine, Status};
use crate::state;
use crate::wire::endpoint::{self, Endpoint};

pub use crate::machine::{ExitReason, Input, Output};

/// The configuration of both machines.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge's configuration.
    pub bridge: config::Config,
    /// The wire's configuration.
    pub wire: endpoint::Config,
}

impl ExitReason {
    /// Returns the exit reason of a bridge with this last view.
    #[must_use]
    pub fn of(view: View) -> Self {
        match (view.unexpected, view.timed_out) {
            (true, _) => Self::UnexpectedMessage,
            (false, true) => Self::DrainTimedOut,
            (false, false) => Self::Stopped,
        }
    }
}

/// The gauges of a bridge, in the order of [`gauges`].
pub const GAUGES: &[Metric] = &[
    Metric {
        name: "hax_ready",
        help: "Whether hax serves all that it is for (1) or not (0), as /readyz.",
    },
    Metric { name: "hax_consul_answers", help: "Whether Consul answers (1) or not (0)." },
    Metric { name: "hax_leading", help: "Whether this node leads (1) or not (0)." },
    Metric { name: "hax_stopping", help: "Whether a stop has begun (1) or not (0)." },
    Metric {
        name: "hax_links",
        help: "HA links to Motr processes, those whose process is away for now included.",
    },
    Metric { name: "hax_lanes", help: "Processes with events that Consul does not hold yet." },
    Metric {
        name: "hax_entrypoints_waiting",
        help: "Entrypoint requests that wait for their answer.",
    },
    Metric {
        name: "hax_questions_waiting",
        help: "Questions for states that wait for their answer.",
    },
];

/// Returns the values of [`GAUGES`].
pub fn gauges(view: View) -> impl Iterator<Item = u64> {
    let flags = [view.is_ready(), view.consul, view.leads, view.stopping].map(u64::from);
    let counts = [view.links, view.lanes, view.entries, view.questions];
    flags.into_iter().chain(counts.map(|n| u64::try_from(n).unwrap_or(u64::MAX)))
}

/// Returns the status of a bridge.
#[must_use]
pub fn status(view: View) -> Status {
    let words = match (view.ready, view.consul) {
        (false, _) => "Serving; Consul's configuration is not loaded yet",
        (true, true) => "Ready",
        (true, false) => "Consul does not answer",
    };
    Status { text: words, stopping: view.stopping }
}

/// A bridge and its wire.
pub struct Node {
    bridge: Bridge,
    endpoint: Endpoint,
    bridge_next: Next,
    endpoint_next: Next,
    from_bridge: Vec<io::Output>,
    from_endpoint: Vec<endpoint::Output>,
    to_keep: Vec<state::Command>,
    to_bridge: VecDeque<io::Input>,
    to_endpoint: VecDeque<endpoint::Input>,
}

impl Node {
    /// Creates a node without any state; its first `Tick` starts it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            bridge: Bridge::new(config.bridge),
            endpoint: Endpoint::new(config.wire),
            bridge_next: Next::Wait,
            endpoint_next: Next::Wait,
            from_bridge: Vec::new(),
            from_endpoint: Vec::new(),
            to_keep: Vec::new(),
            to_bridge: VecDeque::new(),
            to_endpoint: VecDeque::new(),
        }
    }

    /// Returns the bridge's view.
    #[must_use]
    pub fn view(&self) -> View {
        self.bridge.view()
    }

    /// Returns the wire's view.
    #[must_use]
    pub fn wire(&self) -> endpoint::View {
        self.endpoint.view()
    }
}

impl Machine for Node {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = GAUGES;

    /// Takes one input and appends the resulting outputs of both machines.
    ///
    /// Due timers fire in the same call, also in the machine that does not get the input. Otherwise a busy
    /// wire would starve the bridge's timers.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let start = out.len();
        let next = self.exchange(now, input, out);
        self.endpoint.keep(&mut self.to_keep);
        if !self.to_keep.is_empty() {
            // What is kept is never behind what a peer was sent.
            let at = if mutant(Mutant::KeptLate) { out.len() } else { start };
            out.splice(at..at, self.to_keep.drain(..).map(Output::State));
        }
        next
    }

    fn blocking_queries(&self) -> usize {
        Bridge::BLOCKING_QUERIES
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        gauges(self.bridge.view())
    }

    fn status(&self) -> Status {
        status(self.bridge.view())
    }

    fn exit(&self) -> ExitReason {
        ExitReason::of(self.bridge.view())
    }
}

impl Node {
    /// Hands the input, and what follows from it, from machine to machine.
    fn exchange(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let Self { to_bridge, to_endpoint, .. } = self;
        match input {
            Input::Tick => {
                to_bridge.push_back(io::Input::Tick);
                to_endpoint.push_back(endpoint::Input::Tick);
            }
            Input::Net(event) => to_endpoint.push_back(endpoint::Input::Net(event)),
            Input::Consul(reply) => to_bridge.push_back(io::Input::Consul(reply)),
            Input::Spiel(reply) => to_bridge.push_back(io::Input::Spiel(reply)),
            Input::Http(request) => to_bridge.push_back(io::Input::Http(request)),
            // A node runs no programs and no services, keeps no files, has no pipes and leaves no response
            // open.
            Input::Exec(_)
            | Input::File(_)
            | Input::Fifo(_)
            | Input::Keeper(_)
            | Input::HttpStream(_) => {}
            Input::Stop => to_bridge.push_back(io::Input::Stop),
        }
        loop {
            if let Some(input) = to_endpoint.pop_front() {
                self.endpoint_next = self.endpoint.handle(now, input, &mut self.from_endpoint);
                for output in self.from_endpoint.drain(..) {
                    match output {
                        endpoint::Output::Net(command) => out.push(Output::Net(command)),
                        endpoint::Output::Motr(event) => {
                            to_bridge.push_back(io::Input::Motr(event))
                        }
                        endpoint::Output::Fact(fact) => out.push(Output::Fact(fact)),
                    }
                }
            } else if let Some(input) = to_bridge.pop_front() {
                self.bridge_next = self.bridge.handle(now, input, &mut self.from_bridge);
                for output in self.from_bridge.drain(..) {
                    match output {
                        io::Output::Motr(command) => {
                            to_endpoint.push_back(endpoint::Input::Motr(command));
                        }
                        io::Output::Consul(command) => out.push(Output::Consul(command)),
                        io::Output::Spiel(call) => out.push(Output::Spiel(call)),
                        io::Output::Http(response) => out.push(Output::Http(response)),
                        io::Output::Fact(fact) => out.push(Output::Fact(fact)),
                    }
                }
            } else if is_due(self.endpoint_next, now) {
                to_endpoint.push_back(endpoint::Input::Tick);
            } else if is_due(self.bridge_next, now) {
                to_bridge.push_back(io::Input::Tick);
            } else {
                break;
            }
        }
        match (self.bridge_next, self.endpoint_next) {
            (Next::Exit, next) => next,
            (bridge, Next::Exit) => bridge,
            (bridge, endpoint) => bridge.earlier(endpoint),
        }
    }
}

fn is_due(next: Next, now: Now) -> bool {
    matches!(next, Next::WaitUntil { at, .. } if at <= now.mono)
}
