//! A whole node: the bridge and the wire under one clock, as the daemon and the simulator run it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::base::config;
use crate::base::fact::Fact;
use crate::base::time::{Next, Now};
use crate::bridge::{Bridge, View, io};
use crate::ha::spiel;
use crate::wire::endpoint::{self, Endpoint};
use crate::{consul, http, wire};

/// The configuration of both machines.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge's.
    pub bridge: config::Config,
    /// The wire's.
    pub wire: endpoint::Config,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection of the wire.
    Net(wire::net::Event),
    /// Consul answered, or will not.
    Consul(consul::port::Reply),
    /// Motr's library answered a call, or refuses it.
    Spiel(spiel::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// Finish what was begun and exit.
    Stop,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// With a TCP connection of the wire.
    Net(wire::net::Command),
    /// At Consul.
    Consul(consul::port::Command),
    /// Ask Motr's library; not unless the configuration says that there is one.
    Spiel(spiel::Call),
    /// Answer an HTTP request.
    Http(Box<http::port::Response>),
    /// Log and count.
    Fact(Fact),
}

/// Why a node has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to.
    Stopped,
    /// It was told to, and had to leave events that are not written.
    DrainTimedOut,
    /// A message on which the specification demands it.
    UnexpectedMessage,
}

impl ExitReason {
    /// Why a bridge with this last view has exited.
    #[must_use]
    pub fn of(view: View) -> Self {
        match (view.unexpected, view.timed_out) {
            (true, _) => Self::UnexpectedMessage,
            (false, true) => Self::DrainTimedOut,
            (false, false) => Self::Stopped,
        }
    }
}

/// A bridge and its wire.
pub struct Node {
    bridge: Bridge,
    endpoint: Endpoint,
    bridge_next: Next,
    endpoint_next: Next,
    from_bridge: Vec<io::Output>,
    from_endpoint: Vec<endpoint::Output>,
}

impl Node {
    /// A node that knows nothing yet; its first `Tick` begins.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            bridge: Bridge::new(config.bridge),
            endpoint: Endpoint::new(config.wire),
            bridge_next: Next::Wait,
            endpoint_next: Next::Wait,
            from_bridge: Vec::new(),
            from_endpoint: Vec::new(),
        }
    }

    /// Takes one input and appends all that follows from it, in both machines. What is due fires in the
    /// same call, also in the machine that the input is not for: else a busy wire would starve the
    /// bridge's timers.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let mut to_bridge = VecDeque::new();
        let mut to_endpoint = VecDeque::new();
        match input {
            Input::Tick => {
                to_bridge.push_back(io::Input::Tick);
                to_endpoint.push_back(endpoint::Input::Tick);
            }
            Input::Net(event) => to_endpoint.push_back(endpoint::Input::Net(event)),
            Input::Consul(reply) => to_bridge.push_back(io::Input::Consul(reply)),
            Input::Spiel(reply) => to_bridge.push_back(io::Input::Spiel(reply)),
            Input::Http(request) => to_bridge.push_back(io::Input::Http(request)),
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

    /// What the bridge believes.
    #[must_use]
    pub fn view(&self) -> View {
        self.bridge.view()
    }

    /// What the wire holds.
    #[must_use]
    pub fn wire(&self) -> endpoint::View {
        self.endpoint.view()
    }

    /// Why it has exited.
    #[must_use]
    pub fn exit(&self) -> ExitReason {
        ExitReason::of(self.bridge.view())
    }
}

fn is_due(next: Next, now: Now) -> bool {
    matches!(next, Next::WaitUntil { at, .. } if at <= now.mono)
}
