//! Two routers, each with a server of redundancy nodes, a disk, event handlers, and clients over named pipes.
//! The rules compare the answers to clients with the file, and the answers to events with the output of the
//! handlers.

mod act;
mod ask;
mod handler;
mod model;
mod oracle;
mod provider;
mod server;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hax_core::base::id::HttpId;
use hax_core::base::time::Next;
use hax_core::http::port::{Request, Response};
use hax_core::machine::{Input, Output};
use hax_core::route::fact::Fact;
use hax_core::route::provider::Provider;
use hax_core::route::{Config, Rules};
use hax_core::{exec, fifo};

use crate::consul::Consul;
use crate::engine::choice::Choice;
use crate::engine::replay::{self, JournalError, MachineRules, Opened, Simple};
use crate::engine::{Built, Cast, Odds, S, Times, Violation, World};
use crate::exec::Program;
use crate::fifo::ClientId;
use ask::Ask;
use oracle::{FILE, Handlers, Router};
use provider::Kind;
pub use server::{Bug, Subject};
pub use swarm::{Act, Swarm};

/// The number of routers.
const NODES: usize = NAMES.len();
/// The names of the routers.
const NAMES: [&str; 2] = ["router1", "router2"];
/// The servers' directory, and the event handler's program.
const FOLDER: &str = "/var/lib/hax/route";
const PROGRAM: &str = "/usr/bin/hax";
/// The wait of a stop for event handlers, plus their grace period.
const DRAIN: Duration = Duration::from_millis(5_200);

/// The cast: the state of its parties, and their rules.
pub struct Route {
    swarm: Swarm,
    /// The seed of each server's last life.
    seeds: [u64; NODES],
    routers: [Router; NODES],
    /// The clients' requests before their arrival at the server. A request may arrive after its client has
    /// died.
    asks: BTreeMap<ClientId, Ask>,
    /// The HTTP requests for all redundancy nodes.
    readers: BTreeSet<(usize, HttpId)>,
    /// The number of started event handlers.
    started: u64,
}

/// The events of this cast, in addition to the events of every world.
#[derive(Clone, Copy, Debug)]
pub enum Ev {
    /// A damaged file is repaired.
    Mend(usize),
}

/// The reason why facts of groups and of the other router's service are not reached.
const GROUPS: &str = "no server asks Consul; `sim/tests/route/` has pairs of routers with groups";

/// The reason why facts of sweeps are not reached.
const SWEEP: &str = "no server sweeps; `sim/tests/route/` has servers that do";

/// Creates a server for a new life. The second server has a default provider.
fn server(node: usize, seed: u64, bug: Option<Bug>) -> Subject {
    let default_provider = default_of(node).map(|_| Provider::Linux);
    let (dir, program) = (FOLDER.into(), PROGRAM.into());
    // No node belongs to a group, and no sweep wakes a server at rest.
    let (env, consul, rules, sweep) = (Box::default(), None, Rules::default(), Duration::ZERO);
    let config = Config { dir, program, env, default_provider, consul, rules, sweep, seed };
    Subject::new(config, bug)
}

fn default_of(node: usize) -> Option<Kind> {
    (node == 1).then_some(Kind::Linux)
}

impl Cast for Route {
    const NAME: &'static str = "route";
    const NODE: &'static str = "router";
    // A handler of a cloud may take three minutes.
    const TIMES: Times = Times { rest_timeout: 400 * S, ..Times::SHORT };
    const UNREACHED: &'static [(&'static str, &'static str)] = &[
        ("Asked", GROUPS),
        ("Asks", GROUPS),
        ("Confirmed", SWEEP),
        ("ConsulFailed", GROUPS),
        ("Contested", SWEEP),
        ("Gained", GROUPS),
        ("HandedOver", GROUPS),
        ("Lapsed", GROUPS),
        ("Lost", GROUPS),
        ("Mended", SWEEP),
        ("PeerFailed", GROUPS),
        ("PeerUnknown", GROUPS),
        ("PeerWell", GROUPS),
        ("Proved", GROUPS),
        ("Returned", GROUPS),
    ];

    type Cache = ();
    type Swarm = Swarm;
    type Machine = Subject;
    type Event = Ev;
    type Mutant = Bug;

    fn draw(choice: &mut dyn Choice) -> Swarm {
        Swarm::draw(choice)
    }

    fn odds(swarm: &Swarm) -> Odds {
        swarm.odds.clone()
    }

    fn build((): &mut (), swarm: &Swarm) -> Built<Self> {
        let cast = Self {
            swarm: swarm.clone(),
            seeds: [0; NODES],
            routers: [0, 1].map(|node| Router::new(default_of(node))),
            asks: BTreeMap::new(),
            readers: BTreeSet::new(),
            started: 0,
        };
        Built { consul: Consul::cluster(&NAMES), nodes: NODES, cast }
    }

    // ---- servers ----------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, node: usize) -> Subject {
        let seed = world.sim.clocks().wall.0.wrapping_add(node as u64);
        world.cast.seeds[node] = seed;
        server(node, seed, world.mutant())
    }

    fn on_death(world: &mut World<'_, Self>, node: usize) {
        world.cast.routers[node].died();
        world.cast.readers.retain(|(of, _)| *of != node);
        world.check_file(node);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &Fact) {
        if let Fact::Stopping {} | Fact::Erased { .. } | Fact::Unusable { .. } = fact {
            world.hosts[node].mark_stopping();
        }
    }

    fn program(world: &mut World<'_, Self>, _: usize, spawn: &exec::Spawn) -> Program {
        match &*spawn.argv {
            [program, verb] if **program == *PROGRAM && **verb == *"event-handler" => {
                world.cast.started += 1;
                let n = world.cast.started;
                handler::program(n, |n| world.sim.choose(n))
            }
            _ => Program::missing(),
        }
    }

    fn drain_time(_: &World<'_, Self>) -> u64 {
        u64::try_from(DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn begin_journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        replay::begin_simple(NAMES[node], world.cast.seeds[node])
    }

    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Subject>, JournalError> {
        let Simple { name, seed, records } = replay::open_simple(journal)?;
        let node = NAMES.iter().position(|of| **of == *name);
        let machine = server(node.ok_or(JournalError::Field("a router"))?, seed, None);
        Ok(Opened { machine, rules: Box::new(Handlers::default()), records })
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Mend(node) => world.mend(node),
        }
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn repair(world: &mut World<'_, Self>) {
        (0..NODES).for_each(|node| world.mend(node));
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_power_loss(world: &mut World<'_, Self>, node: usize) {
        world.check_file(node);
    }

    fn on_pipe_request(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        request: &fifo::Request,
    ) {
        if let Some(ask) = world.cast.asks.remove(&client) {
            world.cast.routers[node].arrives(request.id, ask);
        }
    }

    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        world.cast.routers[node].takes(input);
    }

    fn on_step(world: &mut World<'_, Self>, node: usize, out: &[Output<Fact>], server: &Subject) {
        let file = world.file(node, FILE).cloned();
        let result = world.cast.routers[node].gives(out, server, file.as_ref());
        world.sim.check(result);
    }

    fn on_request(world: &mut World<'_, Self>, node: usize, request: &Request) {
        if &*request.target == "/v1/route" {
            world.cast.readers.insert((node, request.id));
        }
    }

    fn on_response(world: &mut World<'_, Self>, node: usize, response: &Response) {
        if world.cast.readers.remove(&(node, response.id)) {
            let result = world.cast.routers[node].answers_http(&response.body);
            world.sim.check(result);
        }
    }

    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        let down = world.hosts.iter().position(|host| !host.is_up() || host.is_stopping());
        let down = down.map(|i| format!("router {i} is down, or stops"));
        down.or_else(|| world.cast.routers.iter().find_map(Router::busy_reason))
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    fn mutants() -> Vec<Bug> {
        Bug::ALL.into()
    }

    fn mutate_exit(mutant: Bug, next: Next) -> Next {
        if mutant == Bug::SpeaksAfterExit { Next::Wait } else { next }
    }
}

impl World<'_, Route> {
    /// Checks the content of the file, whatever faults have occurred.
    fn check_file(&mut self, node: usize) {
        let file = self.file(node, FILE).cloned();
        let result = self.cast.routers[node].file(file.as_ref());
        self.sim.check(result);
    }
}

/// The rules for a single server.
impl MachineRules<Subject> for Handlers {
    fn on_input(&mut self, input: &Input) {
        self.begin_input();
        if let Input::Exec(event) = input {
            self.hears(event);
        }
    }

    fn on_outputs(&mut self, _: u64, out: &[Output<Fact>], _: &Subject) -> Result<(), Violation> {
        out.iter().try_for_each(|output| match output {
            Output::Exec(command) => self.gives(command, None),
            _ => Ok(()),
        })
    }
}
