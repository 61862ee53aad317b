//! Two routers, each with a server of redundancy nodes, a disk, event handlers, and clients over named pipes.
//! The rules compare the answers to clients with the file, and the answers to events with the output of the
//! handlers. In some worlds the routers have groups, whose leases and route tables have rules of their own.

mod act;
mod ask;
mod groups;
mod handler;
mod leases;
mod members;
mod model;
mod oracle;
mod provider;
mod server;
mod swarm;
mod tables;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hax_core::base::id::{ExecId, HttpId};
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
pub use groups::Groups;
use members::{Grouped, journal_name};
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
    /// The groups, in a world with groups.
    grouped: Option<Grouped>,
}

/// The events of this cast, in addition to the events of every world.
#[derive(Clone, Debug)]
pub enum Ev {
    /// A damaged file is repaired.
    Mend(usize),
    /// An agent reaches the servers again.
    Reunite(usize),
    /// The missing members of groups are created.
    Members,
    /// A write to the plain route table takes effect.
    Lands(u16, String),
    /// The last read-back of a holder of a lease has passed.
    Bound {
        /// The router.
        node: usize,
        /// Its life.
        life: u32,
        /// The group.
        group: usize,
        /// The holder's term.
        term: u64,
    },
}

/// Creates a server for a new life. The second server has a default provider.
fn server(node: usize, seed: u64, groups: Option<Groups>, bug: Option<Bug>) -> Subject {
    let default_provider = default_of(node).map(|_| Provider::Linux);
    let (dir, program, env) = (FOLDER.into(), PROGRAM.into(), Box::default());
    let consul = groups.map(|groups| groups.consul(NAMES[node], NAMES[1 - node]));
    let rules = groups.map_or_else(Rules::default, |groups| groups.rules());
    // Without groups, no sweep wakes a server at rest.
    let sweep = groups.map_or(Duration::ZERO, |groups| Duration::from_secs(groups.sweep));
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
            routers: [0, 1].map(|node| Router::new(default_of(node), swarm.groups.is_some())),
            asks: BTreeMap::new(),
            readers: BTreeSet::new(),
            started: 0,
            grouped: swarm.groups.map(Grouped::new),
        };
        Built { consul: Consul::cluster(&NAMES), nodes: NODES, cast }
    }

    fn begin(world: &mut World<'_, Self>) {
        world.start_all();
        world.sim.schedule(world.sim.now() + S, Ev::Members);
    }

    // ---- servers ----------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, node: usize) -> Subject {
        let seed = world.sim.clocks().wall.0.wrapping_add(node as u64);
        world.cast.seeds[node] = seed;
        server(node, seed, world.cast.swarm.groups, world.mutant())
    }

    fn on_death(world: &mut World<'_, Self>, node: usize) {
        world.cast.routers[node].died();
        world.groups_die(node);
        world.cast.readers.retain(|(of, _)| *of != node);
        world.check_file(node);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &Fact) {
        if let Fact::Stopping {} | Fact::Erased { .. } | Fact::Unusable { .. } = fact {
            world.hosts[node].mark_stopping();
        }
        world.on_group_fact(node, fact);
    }

    fn program(world: &mut World<'_, Self>, node: usize, spawn: &exec::Spawn) -> Program {
        match &*spawn.argv {
            [program, verb] if **program == *PROGRAM && **verb == *"event-handler" => {
                world.cast.started += 1;
                let n = world.cast.started;
                let of_member = world.start_worker(n, node, spawn);
                of_member.unwrap_or_else(|| handler::program(n, |n| world.sim.choose(n)))
            }
            _ => Program::missing(),
        }
    }

    fn drain_time(_: &World<'_, Self>) -> u64 {
        u64::try_from(DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn begin_journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        let name = journal_name(node, world.cast.swarm.groups);
        replay::begin_simple(&name, world.cast.seeds[node])
    }

    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Subject>, JournalError> {
        let Simple { name: whole, seed, records } = replay::open_simple(journal)?;
        let (name, groups) = whole.split_once('/').unzip();
        let node = NAMES.iter().position(|known| *known == name.unwrap_or(&whole));
        let node = node.ok_or(JournalError::Field("a router"))?;
        let groups = groups.map(str::parse).transpose().map_err(JournalError::Field)?;
        let machine = server(node, seed, groups, None);
        Ok(Opened { machine, rules: Box::new(Handlers::default()), records })
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Mend(node) => world.mend(node),
            Ev::Reunite(agent) => world.reconnect_agent(agent),
            Ev::Members => world.create_members(),
            Ev::Lands(index, hop) => world.lands(index, hop),
            Ev::Bound { node, life, group, term } => world.check_bound((node, life), group, term),
        }
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn repair(world: &mut World<'_, Self>) {
        (0..NODES).for_each(|node| {
            world.mend(node);
            world.reconnect_agent(node);
        });
    }

    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        world.on_worker(node, event);
    }

    fn on_helper_act(world: &mut World<'_, Self>, node: usize, helper: ExecId, act: u32) {
        world.on_worker_act(node, helper, act);
    }

    fn write_concurrently(world: &mut World<'_, Self>) {
        world.ask_beside();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        world.groups_go_back();
    }

    fn nudge(world: &mut World<'_, Self>) {
        world.create_members();
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
        world.groups_take(node, input);
    }

    fn on_step(world: &mut World<'_, Self>, node: usize, out: &[Output<Fact>], server: &Subject) {
        let file = world.file(node, FILE).cloned();
        let result = world.cast.routers[node].gives(out, server, file.as_ref());
        world.sim.check(result);
        world.groups_give(node, out);
    }

    fn on_consul_write(world: &mut World<'_, Self>, _: Option<usize>, _: &[u8]) {
        world.groups_look();
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
            .or_else(|| world.groups_unrest())
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    fn mutants() -> Vec<Bug> {
        Bug::all().collect()
    }

    fn plant(mutant: Option<Bug>) {
        server::plant(mutant);
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
