//! A small cast: three counters that share one count and one lease in Consul, and clients. It shows what a cast needs, and
//! that the engine drives any machine.

mod act;
mod bug;
mod fact;
mod machine;
mod oracle;
mod swarm;

use hax_core::base::fid::Fid;
use hax_core::base::time::{Next, Now};
use hax_core::bridge::config;
use hax_core::http::port::{Request, Response};
use hax_core::journal;
use hax_core::machine::{Input, Output};
use hax_core::{node, wire};

use crate::consul::Consul;
use crate::engine::choice::Choice;
use crate::engine::replay::{Alone, Bad, Opened};
use crate::engine::{Built, Cast, Host, Odds, Times, Violation, World};
pub use bug::Bug;
pub use fact::Fact;
pub use machine::Counter;
use oracle::Oracle;
pub use swarm::{Act, Swarm};

/// How many counters there are.
const NODES: usize = NAMES.len();
/// What they are called.
const NAMES: [&str; 3] = ["toy1", "toy2", "toy3"];

/// All who play, and their rules.
pub struct Toy {
    swarm: Swarm,
    /// Increments that have a name.
    names: u64,
    /// The seed of each machine's last life.
    seeds: [u64; NODES],
    oracle: Oracle,
}

/// What happens besides what happens in every world.
#[derive(Clone, Copy, Debug)]
pub enum Ev {
    /// Consul has a leader again.
    Head,
    /// A node's agent is found alive again.
    Agent(usize),
}

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// In the machine.
    Inside(Bug),
    /// A request has two responses.
    ResponseTwice,
    /// After its exit a counter asks for more.
    SpeaksAfterExit,
}

impl Cast for Toy {
    const NAME: &'static str = "toy";
    const NODE: &'static str = "toy";
    const TIMES: Times = Times::SHORT;
    const UNREACHED: &'static [(&'static str, &'static str)] = &[];

    type Stage = ();
    type Swarm = Swarm;
    type Machine = Counter;
    type Event = Ev;
    type Mutant = Mutant;

    fn draw(choice: &mut dyn Choice) -> Swarm {
        Swarm::draw(choice)
    }

    fn odds(swarm: &Swarm) -> Odds {
        swarm.odds.clone()
    }

    fn build((): &mut (), swarm: &Swarm) -> Built<Self> {
        let mut consul = Consul::new(NAMES[0]);
        for (i, name) in NAMES.iter().enumerate().skip(1) {
            consul.add_agent(name, &format!("127.0.1.{}", i + 1));
        }
        let (swarm, oracle) = (swarm.clone(), Oracle::default());
        let cast = Self { swarm, names: 0, seeds: [0; NODES], oracle };
        Built { consul, nodes: NODES, cast }
    }

    fn begin(world: &mut World<'_, Self>) {
        world.start_all();
    }

    // ---- counters ---------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, node: usize) -> Counter {
        let seed = world.sim.clocks().wall.0.wrapping_add(node as u64);
        world.cast.seeds[node] = seed;
        let bug = match world.mutant() {
            Some(Mutant::Inside(bug)) => Some(bug),
            _ => None,
        };
        Counter::new(NAMES[node], seed, bug)
    }

    fn died(world: &mut World<'_, Self>, node: usize) {
        world.cast.oracle.died(node);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &Fact) {
        if *fact == Fact::Stopping {
            world.hosts[node].stops();
        }
    }

    fn drain(_: &World<'_, Self>) -> u64 {
        u64::try_from(machine::DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        // Of a node's configuration a counter needs its name and the seed.
        let seed = world.cast.seeds[node];
        let addr = ([127, 0, 0, 1], 1).into();
        journal::begin(&node::Config {
            bridge: config::Config::new(Fid::default(), NAMES[node], seed),
            wire: wire::Config::new(addr, seed, seed),
        })
    }

    fn record(journal: &mut Vec<u8>, now: Now, input: &Input) {
        journal::put(journal, now, input);
    }

    fn open(journal: &[u8]) -> Result<Opened<'_, Counter>, Bad> {
        let (config, records) = journal::open(journal)?;
        Ok(Opened {
            machine: Counter::new(&config.bridge.node, config.wire.seed, None),
            alone: Box::new(Limits),
            records: Box::new(records),
        })
    }

    // ---- what happens -----------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Head => world.at_consul(|double, now, out| double.set_leader(now, true, out)),
            Ev::Agent(agent) => world.revive(agent),
        }
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn write_beside(world: &mut World<'_, Self>) {
        world.count_beside();
    }

    fn put_right(world: &mut World<'_, Self>) {
        world.at_consul(|double, now, out| double.set_leader(now, true, out));
        (0..NODES).for_each(|agent| world.revive(agent));
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_step(world: &mut World<'_, Self>, node: usize, _: &[Output<Fact>], counter: &Counter) {
        let now = world.sim.clocks().mono;
        let others = world.hosts.iter().enumerate();
        let others = others.map(|(i, host)| (i, host.life(), host.machine()));
        let this = (node, world.hosts[node].life(), Some(counter));
        let holders = others
            .chain([this])
            .filter_map(|(i, life, machine)| machine?.term(now).map(|term| ((i, life), term)));
        let holders: Vec<_> = holders.collect();
        world.sim.check(world.cast.oracle.one_holds(&holders));
        world.sim.check(Oracle::keeps_its_limits(counter.waiting()));
    }

    fn on_consul_write(world: &mut World<'_, Self>, _: Option<usize>, _: &[u8]) {
        world.sim.check(world.cast.oracle.counts_once(&world.consul.double));
    }

    fn on_request(world: &mut World<'_, Self>, node: usize, request: &Request) {
        let name = String::from_utf8_lossy(&request.body).into_owned();
        world.cast.oracle.asked(node, request.id, name);
    }

    fn on_response(world: &mut World<'_, Self>, node: usize, response: &Response) {
        let consul = &world.consul.double;
        world.sim.check(world.cast.oracle.answered(consul, node, response));
    }

    fn heard(_: &World<'_, Self>) -> Vec<u64> {
        Vec::new()
    }

    fn unrest(world: &World<'_, Self>) -> Option<String> {
        let down = world.hosts.iter().position(|host| !host.is_up() || host.is_stopping());
        let down = down.map(|i| format!("toy {i} is down, or stops"));
        let now = world.sim.clocks().mono;
        let holds = |host: &Host<Counter>| host.machine().is_some_and(|m| m.term(now).is_some());
        let nobody = !world.hosts.iter().any(holds);
        down.or_else(|| world.cast.oracle.owed())
            .or_else(|| nobody.then(|| "nobody holds the lease".to_owned()))
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        world.cast.oracle.at_rest(&world.consul.double)
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    fn mutants() -> Vec<Mutant> {
        let inside = [
            Bug::CountSet,
            Bug::AcknowledgedEarly,
            Bug::NameLost,
            Bug::RetryLost,
            Bug::LeaseKept,
            Bug::TermLost,
        ];
        let outside = [Mutant::ResponseTwice, Mutant::SpeaksAfterExit];
        inside.map(Mutant::Inside).into_iter().chain(outside).collect()
    }

    fn mutate(
        world: &mut World<'_, Self>,
        mutant: Mutant,
        out: &mut Vec<Output<Fact>>,
        next: Next,
    ) -> Next {
        let response = out.iter().find(|output| matches!(output, Output::Http(_))).cloned();
        if let (Mutant::ResponseTwice, Some(response)) = (mutant, response)
            && world.sim.is_turn(3)
        {
            out.push(response);
        }
        next
    }

    fn mutate_exit(mutant: Mutant, next: Next) -> Next {
        if mutant == Mutant::SpeaksAfterExit { Next::Wait } else { next }
    }
}

/// What holds for a counter alone.
struct Limits;

impl Alone<Counter> for Limits {
    fn takes(&mut self, _: &Input) {}

    fn gave(&mut self, _: u64, _: &[Output<Fact>], counter: &Counter) -> Result<(), Violation> {
        Oracle::keeps_its_limits(counter.waiting())
    }
}
