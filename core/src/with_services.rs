//! A node with services: a machine, and the machine of services, behind one host.
//!
//! Both share the clock, the clients and the HTTP port. They do not speak with each other. A node without
//! services is the machine alone.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::base::fact::{Kind, Metric, Report, joined};
use crate::base::time::{Next, Now};
use crate::ha::fact::{Fact, FactKind};
use crate::http::answer::Answer;
use crate::http::port::Request;
use crate::http::router;
use crate::machine::{ExitReason, Input, Machine, Output, Status};
use crate::node;
use crate::services::facts::ServicesFact;
use crate::services::{self, Services};

/// The number of the first machine of services behind the host. The node is number 0, and has finished its
/// discovery, which is number 1.
pub const FIRST_MACHINE: u8 = 1;

/// A fact of a node with services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeFact {
    /// Of the bridge or the wire.
    Ha(Fact),
    /// Of the services.
    Services(ServicesFact),
}

const HA: usize = FactKind::KINDS.len();

/// The kinds of both, those of the bridge and the wire first.
const KINDS: [Kind; HA + ServicesFact::KINDS.len()] = joined(FactKind::KINDS, ServicesFact::KINDS);

impl Report for NodeFact {
    const KINDS: &'static [Kind] = &KINDS;

    const LATENCIES: &'static [Metric] = Fact::LATENCIES;

    fn nth(&self) -> usize {
        match self {
            Self::Ha(fact) => fact.nth(),
            Self::Services(fact) => HA + fact.nth(),
        }
    }

    fn took(&self) -> Option<(usize, Duration)> {
        match self {
            Self::Ha(fact) => fact.took(),
            Self::Services(_) => None,
        }
    }
}

impl fmt::Display for NodeFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ha(fact) => fact.fmt(f),
            Self::Services(fact) => fact.fmt(f),
        }
    }
}

const NODES: usize = node::GAUGES.len();

/// The gauges of both, those of the bridge first.
const GAUGES: [Metric; NODES + Services::GAUGES.len()] = {
    let mut all = [node::GAUGES[0]; NODES + Services::GAUGES.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < NODES { node::GAUGES[at] } else { Services::GAUGES[at - NODES] };
        at += 1;
    }
    all
};

/// A machine and its services.
#[derive(Debug)]
pub struct WithServices<M> {
    machine: Part<M, Fact>,
    services: Part<Services, ServicesFact>,
    is_stopping: bool,
}

/// One of the two machines.
#[derive(Debug)]
struct Part<M, F> {
    machine: M,
    next: Next,
    out: Vec<Output<F>>,
}

impl<M: Machine> Part<M, M::Fact> {
    fn new(machine: M) -> Self {
        Self { machine, next: Next::Wait, out: Vec::new() }
    }

    fn is_over(&self) -> bool {
        self.next == Next::Exit
    }

    fn is_due(&self, now: Now) -> bool {
        matches!(self.next, Next::WaitUntil { at, .. } if at <= now.mono)
    }

    /// Handles an input, unless the machine has exited. Converts the facts of the outputs.
    fn handle(
        &mut self,
        (now, input): (Now, Input),
        out: &mut Vec<Output<NodeFact>>,
        fact: fn(M::Fact) -> NodeFact,
    ) {
        if self.is_over() {
            // The other machine may still work for a while. Each request has a response.
            if let Input::Http(request) = input {
                out.push(Box::new(Answer::stopping().response(request.id)).into());
            }
            return;
        }
        self.next = self.machine.handle(now, input, &mut self.out);
        out.extend(self.out.drain(..).map(|output| output.map_fact(fact)));
    }
}

/// Who gets an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Machine,
    Services,
    Both,
}

impl<M: Machine<Fact = Fact>> WithServices<M> {
    /// Combines a machine and the services of its node.
    #[must_use]
    pub fn new(machine: M, services: services::Config) -> Self {
        const { assert!(M::GAUGES.len() == NODES, "the machine has a bridge") };
        let services = Part::new(Services::new(services));
        Self { machine: Part::new(machine), services, is_stopping: false }
    }

    fn receiver(&self, input: &Input) -> Receiver {
        match input {
            Input::Tick | Input::Stop => Receiver::Both,
            Input::Consul(reply) if reply.id.machine() >= FIRST_MACHINE => Receiver::Services,
            Input::Consul(_)
            | Input::Net(_)
            | Input::Spiel(_)
            | Input::File(_)
            | Input::Fifo(_) => Receiver::Machine,
            Input::Http(request) if self.is_of_services(request) => Receiver::Services,
            Input::Http(_) => Receiver::Machine,
            // The machine has no open responses, runs no programs and has no keeper.
            Input::HttpStream(_) | Input::Exec(_) | Input::Keeper(_) => Receiver::Services,
        }
    }

    /// Returns whether the services answer a request. The node is ready if both machines are.
    fn is_of_services(&self, request: &Request) -> bool {
        match router::path(&request.target) {
            "/readyz" => !self.services.is_over() && self.services.machine.obstacle().is_some(),
            path => services::has_path(path),
        }
    }

    fn machine(&mut self, now: Now, input: Input, out: &mut Vec<Output<NodeFact>>) {
        self.machine.handle((now, input), out, NodeFact::Ha);
    }

    fn services(&mut self, now: Now, input: Input, out: &mut Vec<Output<NodeFact>>) {
        self.services.handle((now, input), out, NodeFact::Services);
    }
}

impl<M: Machine<Fact = Fact>> Machine for WithServices<M> {
    type Fact = NodeFact;

    const GAUGES: &'static [Metric] = &GAUGES;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<NodeFact>>) -> Next {
        self.is_stopping |= input == Input::Stop;
        match self.receiver(&input) {
            Receiver::Machine => self.machine(now, input, out),
            Receiver::Services => self.services(now, input, out),
            Receiver::Both => {
                self.machine(now, input.clone(), out);
                self.services(now, input, out);
            }
        }
        // A machine exits by itself when it must not go on. Then the services leave, too.
        if self.machine.is_over() && !self.is_stopping {
            self.is_stopping = true;
            self.services(now, Input::Stop, out);
        }
        // A busy machine must not starve the timers of the other.
        if self.machine.is_due(now) {
            self.machine(now, Input::Tick, out);
        }
        if self.services.is_due(now) {
            self.services(now, Input::Tick, out);
        }
        match (self.machine.next, self.services.next) {
            (Next::Exit, next) | (next, Next::Exit) => next,
            (machine, services) => machine.earlier(services),
        }
    }

    fn blocking_queries(&self) -> usize {
        self.machine.machine.blocking_queries() + self.services.machine.blocking_queries()
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        self.machine.machine.gauges().chain(self.services.machine.gauges())
    }

    fn status(&self) -> Status {
        self.machine.machine.status()
    }

    fn exit(&self) -> ExitReason {
        self.machine.machine.exit()
    }
}
