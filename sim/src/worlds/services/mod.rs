//! Three nodes with services. Each has the production machine of services, a keeper with processes, and an
//! agent of Consul. Clients define, start and stop types at any node. The rules compare what runs with what
//! was asked for and with what has happened to it.

mod act;
mod clients;
mod connection;
mod event;
mod folder;
mod keeper;
mod model;
mod probes;
mod process;
mod rest;
mod subject;
mod swarm;
mod transactions;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::base::time::Next;
use hax_core::consul::port as consul;
use hax_core::exec;
use hax_core::http::port::{Request, Response};
use hax_core::http::stream;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::port as keeper_port;
use hax_core::keeper::request::Ask;
use hax_core::machine::{Input, Output};
use hax_core::services::fact::Fact;
use hax_core::services::facts::ServicesFact;
use hax_core::services::model::name::NodeName;
use hax_core::services::{CapabilityKey, Config, InstanceSocket};

use crate::consul::Consul;
use crate::engine::choice::Choice;
use crate::engine::replay::{self, JournalError, MachineRules, Opened, Simple};
use crate::engine::{Built, Cast, MS, Odds, S, Times, Violation, World};
use crate::exec::Program;
use clients::Clients;
pub use event::Ev;
use keeper::KeeperHost;
use model::{Definition, Model, RACKS};
pub use subject::{Bug, Subject};
pub use swarm::{Act, Swarm};
use truth::Slot;

/// The names of the nodes.
const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// The path of hax, for probes.
const PROGRAM: &str = "/usr/bin/hax";
/// The time for which a stop of hax waits for Consul.
const DRAIN: Duration = Duration::from_millis(1_000);

/// One node around its hax.
#[derive(Debug)]
struct Node {
    keeper: KeeperHost,
    /// One for each type.
    slots: Vec<Slot>,
    /// Another writer has removed or damaged a record of this node.
    is_meddled: bool,
    /// Another program has started an instance.
    has_stranger: bool,
    /// The configuration of hax's life.
    config: Option<Config>,
    /// The types of the helpers, and whether each is a check.
    helpers: BTreeMap<ExecId, (usize, bool)>,
}

/// The cast: the state of its parties, and what the rules remember.
pub struct Services {
    swarm: Swarm,
    nodes: Vec<Node>,
    clients: Clients,
    /// All definitions, by their version.
    definitions: Vec<Definition>,
    model: Model,
    /// The model at the time of the last snapshot.
    at_snapshot: Model,
    /// The index of the last event of an operator.
    event_index: u64,
    /// A snapshot was restored: nothing can be said of causes until the world rests.
    is_void: bool,
    /// The damaged records, with their contents and those before.
    damaged: BTreeMap<String, (Bytes, Bytes)>,
    /// The types whose instances end soon after each start.
    broken: BTreeSet<usize>,
    /// The instances of which it is not known what is to become of them.
    fuzzy: BTreeSet<(usize, usize)>,
    /// The time at which the world was healed, until the next act.
    healed_at: Option<u64>,
}

impl Services {
    /// Returns the last definition of a type.
    fn definition(&self, kind: usize) -> Option<&Definition> {
        let version = *self.model.types.get(&kind)?;
        self.definitions.get(usize::try_from(version).ok()?)
    }
}

impl Cast for Services {
    const NAME: &'static str = "services";
    const NODE: &'static str = "hax";
    const TIMES: Times = Times { faults: 120 * S, rest_timeout: 300 * S, ..Times::SHORT };

    const UNREACHED: &'static [(&'static str, &'static str)] = &[
        ("CannotDo", "a request that cannot be carried out is refused before it is written"),
        ("Announced", TELLS),
        ("Holds", TELLS),
        ("LetGo", TELLS),
        ("Sends", TELLS),
        ("StatusOf", TELLS),
        ("RuleRuns", PROGRAMS),
        ("RuleFailed", PROGRAMS),
        ("RuleMissing", PROGRAMS),
        ("NodeForgotten", "no client of a world forgets a node; sim/tests/services does"),
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
        let node = |_| Node {
            keeper: KeeperHost::new(swarm.keeps_folder),
            slots: vec![Slot::default(); model::KINDS.len()],
            is_meddled: false,
            has_stranger: false,
            config: None,
            helpers: BTreeMap::new(),
        };
        let cast = Self {
            swarm: swarm.clone(),
            nodes: (0..NAMES.len()).map(node).collect(),
            clients: Clients::default(),
            definitions: Vec::new(),
            model: Model::default(),
            at_snapshot: Model::default(),
            event_index: 0,
            is_void: false,
            damaged: BTreeMap::new(),
            broken: BTreeSet::new(),
            fuzzy: BTreeSet::new(),
            healed_at: None,
        };
        Built { consul: Consul::cluster(&NAMES), nodes: NAMES.len(), cast }
    }

    fn begin(world: &mut World<'_, Self>) {
        (0..NAMES.len()).for_each(|node| world.start_keeper(node));
        world.start_all();
        // What needs another type is defined after it.
        world.sim.schedule(world.sim.now() + S, Ev::Begin);
        world.sim.schedule(world.sim.now() + S + 300 * MS, Ev::Begin);
    }

    // ---- machines ---------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, node: usize) -> Subject {
        let generation = world.sim.clocks().wall.0;
        let config = config(node, generation, world.cast.swarm.lease);
        world.cast.nodes[node].config = Some(config.clone());
        world.cast.nodes[node].helpers.clear();
        world.connect_later(node, MS);
        Subject::new(config, world.mutant())
    }

    fn on_death(world: &mut World<'_, Self>, node: usize) {
        world.cast.clients.died(node);
        world.hang_up(node);
    }

    fn on_keeper(world: &mut World<'_, Self>, node: usize, command: keeper_port::Command) {
        world.ask_keeper(node, command);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &ServicesFact) {
        world.hears_fact(node, fact);
    }

    fn program(world: &mut World<'_, Self>, node: usize, spawn: &exec::Spawn) -> Program {
        world.probe(node, spawn)
    }

    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        world.probed(node, event);
    }

    fn drain_time(_: &World<'_, Self>) -> u64 {
        u64::try_from(DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn begin_journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        let (ttl, hold) = world.cast.swarm.lease;
        let name = format!("{}/{ttl}/{hold}", NAMES[node]);
        let generation = world.cast.nodes[node].config.as_ref().map_or(0, |of| of.generation);
        replay::begin_simple(&name, generation)
    }

    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Subject>, JournalError> {
        let Simple { name, seed, records } = replay::open_simple(journal)?;
        let mut parts = name.split('/');
        let node = parts.next().and_then(model::node_of);
        let node = node.ok_or(JournalError::Field("a node"))?;
        let mut time = || parts.next()?.parse().ok();
        let lease = time().zip(time()).ok_or(JournalError::Field("a time"))?;
        let machine = Subject::new(config(node, seed, lease), None);
        Ok(Opened { machine, rules: Box::new(Alone { node }), records })
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        world.happens(event);
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        if world.cast.healed_at.take().is_some() {
            world.rebase();
        }
        world.act_once()
    }

    fn write_concurrently(world: &mut World<'_, Self>) {
        world.touch_a_record();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        world.cast.is_void = true;
        world.cast.model = world.cast.at_snapshot.clone();
    }

    fn repair(world: &mut World<'_, Self>) {
        (0..NAMES.len()).for_each(|node| world.reconnect_agent(node));
        let damaged: Vec<String> = world.cast.damaged.keys().cloned().collect();
        damaged.iter().for_each(|key| world.repair_record(key));
    }

    fn nudge(world: &mut World<'_, Self>) {
        world.define_all();
        world.grow_impatient();
    }

    fn heal(world: &mut World<'_, Self>) {
        world.cast.healed_at = Some(world.sim.now());
        world.heal_nodes();
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        if let Input::Http(request) = input {
            world.arrives(node, request.id);
        }
    }

    fn on_step(
        world: &mut World<'_, Self>,
        node: usize,
        out: &[Output<ServicesFact>],
        _: &Subject,
    ) {
        let result = transactions::check(node, out);
        world.sim.check(result);
        for output in out {
            if let Output::HttpStream(stream::Command::Begin(begin)) = output {
                world.begins_stream(node, begin.id);
            }
        }
    }

    fn on_consul_write(world: &mut World<'_, Self>, _: Option<usize>, _: &[u8]) {
        world.look_at_events();
        world.look_at_wanted();
    }

    fn on_request(world: &mut World<'_, Self>, node: usize, request: &Request) {
        world.is_asked(node, request.id);
    }

    fn on_response(world: &mut World<'_, Self>, node: usize, response: &Response) {
        world.responds(node, response);
    }

    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        world.unrest().map(|(rule, why)| format!("{rule}: {why}"))
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        match world.unrest() {
            None => Ok(()),
            Some((rule, why)) => Violation::of(rule, why),
        }
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    fn mutants() -> Vec<Bug> {
        Bug::all().collect()
    }

    fn plant(mutant: Option<Bug>) {
        subject::plant(mutant);
    }

    fn mutate_exit(mutant: Bug, next: Next) -> Next {
        if mutant == Bug::SpeaksAfterExit { Next::Wait } else { next }
    }
}

/// Why no World reports what instances tell and are told.
const TELLS: &str = "no process of a world tells or hears anything; sim/tests/services does";
/// Why no World reports anything of rule programs.
const PROGRAMS: &str = "no node of a world has rule programs; sim/tests/services does";

/// Returns the configuration of a life of hax.
fn config(node: usize, generation: u64, (ttl, hold): (u64, u64)) -> Config {
    Config {
        node: NodeName::new(NAMES[node]).expect("a name"),
        labels: [("rack".into(), RACKS[node].into())].into(),
        program: PROGRAM.into(),
        generation,
        ttl: Duration::from_secs(ttl),
        hold: Duration::from_secs(hold),
        instances: Some(InstanceSocket {
            path: "/run/hax/instance/socket".into(),
            key: CapabilityKey(u128::from(generation).to_le_bytes()),
        }),
        programs: Default::default(),
        machine: 0,
        seed: generation.wrapping_add(node as u64),
    }
}

impl World<'_, Services> {
    fn happens(&mut self, event: Ev) {
        match event {
            Ev::StartKeeper(node) => self.start_keeper(node),
            Ev::Connect { node, life } => self.connect(node, life),
            Ev::ToHax { node, life, event } => self.hear_keeper(node, life, *event),
            Ev::ToKeeper { node, life, input } => self.reach_keeper(node, life, *input),
            Ev::TickKeeper { node, life } => self.tick_keeper(node, life),
            Ev::Synced { node, life, instance } => self.synced(node, life, instance),
            Ev::Ends { node, instance, process, status } => {
                let group = self.cast.nodes[node].keeper.processes.get(&instance);
                let is_it = group.is_some_and(|of| of.main == Some(process) && !of.is_hanging);
                if is_it && !self.sim.are_faults_off() {
                    self.end_main(node, &instance, status, false);
                }
            }
            Ev::Well { node, instance } => {
                if self.cast.nodes[node].keeper.processes.get(&instance).is_some() {
                    self.cast.nodes[node].keeper.processes.group(&instance).is_sick = false;
                }
            }
            Ev::Unhang(node) => self.unhang(node),
            Ev::Room(node) => self.cast.nodes[node].keeper.is_full = false,
            Ev::Leaves { node, instance } => {
                self.ask_keeper_as_other(node, Ask::Kill { instance: instance.clone() });
                self.ask_keeper_as_other(node, Ask::Forget { instance });
            }
            Ev::Reunite(node) => self.reconnect_agent(node),
            Ev::Repair(key) => self.repair_record(&key),
            Ev::Works(kind) => drop(self.cast.broken.remove(&kind)),
            Ev::Begin => self.define_all(),
        }
    }

    /// Clients define all types.
    fn define_all(&mut self) {
        for kind in 0..self.cast.swarm.types {
            if !self.cast.model.types.contains_key(&kind) {
                self.define(kind % NAMES.len(), kind);
            }
        }
    }

    fn hears_fact(&mut self, node: usize, fact: &ServicesFact) {
        match fact {
            ServicesFact::Node(Fact::Leaving {}) => self.hosts[node].mark_stopping(),
            ServicesFact::Node(Fact::Left {}) => self.left(node),
            _ => {}
        }
    }

    fn heal_nodes(&mut self) {
        self.cast.broken.clear();
        for node in 0..NAMES.len() {
            self.heal_keeper(node);
            for n in 0..3 {
                let instance = InstanceId::new(&format!("stranger-{n}")).expect("a name");
                self.sim.schedule(self.sim.now() + 5 * S, Ev::Leaves { node, instance });
            }
        }
    }
}

/// The rules for a single machine.
struct Alone {
    node: usize,
}

impl MachineRules<Subject> for Alone {
    fn on_input(&mut self, _: &Input) {}

    fn on_outputs(
        &mut self,
        _: u64,
        out: &[Output<ServicesFact>],
        _: &Subject,
    ) -> Result<(), Violation> {
        transactions::check(self.node, out)
    }
}

/// Returns the body of each transaction among some outputs.
fn transactions_of(out: &[Output<ServicesFact>]) -> impl Iterator<Item = &consul::Call> {
    out.iter().filter_map(|output| match output {
        Output::Consul(consul::Command::Call(call)) if &*call.target == "/v1/txn" => Some(&**call),
        _ => None,
    })
}
