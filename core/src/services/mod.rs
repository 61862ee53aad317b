//! Supervised services (the RFC "Services"): types, their instances on the nodes, and the recovery
//! coordinator.
//!
//! [`Services`] is a state machine with two parts that speak through Consul only. The *node's part* runs the
//! instances of this node with the keeper, and reports what it sees. The *coordinator* is one in the cluster;
//! it decides. Neither acts without the other: the node never starts an instance by itself, and the
//! coordinator writes what it wants.

mod api;
mod coord;
pub mod fact;
pub mod facts;
pub mod health;
pub mod model;
mod node;
mod refusal;
mod voice;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::fact::Metric;
use crate::base::id::CallId;
use crate::base::time::{Next, Now};
use crate::http::port::Request;
use crate::machine::{ExitReason, Input, Machine, Output, Status};
use api::Api;
use coord::Coordinator;
use coord::programs::FIRST;
use facts::ServicesFact;
use model::name::NodeName;
use model::place::Labels;
use node::Node;

pub use api::has_path;
pub use coord::fact as coord_fact;
pub use coord::programs::{KINDS as EVENT_KINDS, Programs};
pub use voice::{CapabilityKey, InstanceSocket, TELL_PATH};

/// The configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the node.
    pub node: NodeName,
    /// The labels of the node.
    pub labels: Labels,
    /// The path of the program hax, for probes.
    pub program: Box<str>,
    /// A number that is higher than in earlier runs on this node, as far as the host knows: the wall clock at
    /// the start, in nanoseconds.
    pub generation: u64,
    /// The time without heartbeats after which a node counts as down, and a coordinator as gone. At least one
    /// second, which is Consul's minimum.
    pub ttl: Duration,
    /// The time for which Consul withholds a lost lease.
    pub hold: Duration,
    /// The socket for instances, if there is one.
    pub instances: Option<InstanceSocket>,
    /// The rule programs of this node, by the kind of event.
    pub programs: Programs,
    /// The number of the first of the three machines behind the host that this one counts as.
    pub machine: u8,
    /// The seed for jitter.
    pub seed: u64,
}

/// The state machine of services. See the module.
#[derive(Debug)]
pub struct Services {
    node: Node,
    coord: Coordinator,
    desk: Api,
    machine: u8,
    is_stopping: bool,
    is_over: bool,
}

impl Services {
    /// Creates the machine, before its first input.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config { machine, seed, ttl, hold, .. } = config;
        let holder = config.node.as_str().into();
        let desk = Api::new(
            config.node.clone(),
            config.generation,
            CallId::first(machine + 2),
            seed.wrapping_add(2),
        );
        let node = node::Config {
            node: config.node,
            labels: config.labels,
            program: config.program,
            generation: config.generation,
            ttl,
            hold,
            instances: config.instances,
        };
        let coord = coord::Config { holder, ttl, hold, programs: config.programs };
        Self {
            node: Node::new(node, CallId::first(machine), seed),
            coord: Coordinator::new(coord, CallId::first(machine + 1), seed.wrapping_add(1)),
            desk,
            machine,
            is_stopping: false,
            is_over: false,
        }
    }

    /// Returns the reason why this node cannot start or stop instances now.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.is_stopping { Some("hax is stopping") } else { self.node.obstacle() }
    }

    /// Answers a probe at once. Other requests are the desk's.
    fn on_http(&mut self, now: Now, request: &Request, out: &mut Vec<Output<ServicesFact>>) {
        if self.node.on_http(now, request, out) {
            return;
        }
        match health::answer(self, &request.method, &request.target) {
            Some(answer) => out.push(Box::new(answer.response(request.id)).into()),
            None => self.desk.on_http(now, request, out),
        }
    }

    /// Returns whether this node has the recovery coordinator, as far as it knows.
    #[must_use]
    pub fn coordinates(&self) -> bool {
        self.coord.leads()
    }
}

impl Machine for Services {
    type Fact = ServicesFact;

    const GAUGES: &'static [Metric] = &[
        Metric { name: "hax_services_instances", help: "Instances of this node." },
        Metric { name: "hax_services_living", help: "Instances of this node that live." },
        Metric { name: "hax_coordinator", help: "Whether this node has the recovery coordinator." },
    ];

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output<ServicesFact>>) -> Next {
        if self.is_over {
            return Next::Exit;
        }
        match input {
            Input::Consul(reply) => match reply.id.machine().wrapping_sub(self.machine) {
                0 => self.node.on_reply(now, &reply, out),
                1 => self.coord.on_reply(now, &reply, out),
                _ => self.desk.on_reply(now, &reply, out),
            },
            Input::Keeper(event) => self.node.on_keeper(now, event, out),
            Input::Exec(event) if event.id() >= FIRST => self.coord.on_exec(now, event, out),
            Input::Exec(event) => self.node.on_exec(now, event, out),
            Input::Http(request) => self.on_http(now, &request, out),
            Input::HttpStream(closed) => self.desk.on_closed(now, closed, out),
            Input::Stop => {
                self.is_stopping = true;
                self.desk.stop(now, out);
                self.coord.stop(now, out);
                self.node.stop(now, out);
            }
            Input::Tick | Input::Net(_) | Input::Spiel(_) | Input::File(_) | Input::Fifo(_) => {}
        }
        let (node, coord) = (self.node.go_on(now, out), self.coord.go_on(now, out));
        let desk = self.desk.go_on(now, out);
        match (node, coord) {
            (Next::Exit, Next::Exit) => {
                self.is_over = true;
                out.push(fact::Fact::Left {}.into());
                Next::Exit
            }
            (Next::Exit, next) | (next, Next::Exit) => next,
            (node, coord) if self.is_stopping => node.earlier(coord),
            (node, coord) => node.earlier(coord).earlier(desk),
        }
    }

    fn blocking_queries(&self) -> usize {
        // The instances of the node, events, nodes, the two leases, the open responses, requests that wait, and instances
        // that ask.
        6 + api::CHANGES_MAX + node::QUESTIONS_MAX
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        let (instances, living) = self.node.counts();
        [instances as u64, living as u64, u64::from(self.coord.leads())].into_iter()
    }

    fn status(&self) -> Status {
        let text = if self.is_stopping { "Stopping" } else { "Managing services" };
        Status { text, stopping: self.is_stopping }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}
