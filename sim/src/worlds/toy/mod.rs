//! A small cast: three counters that share one count and one lease in Consul, each with a file of its own and
//! a helper program, and their clients. It shows the requirements of a cast, and that the engine drives any
//! machine.

mod act;
mod bug;
mod context;
mod fact;
mod hearing;
mod helper;
mod listeners;
mod machine;
mod oracle;
mod step;
mod swarm;
mod tally;

use hax_core::base::fid::Fid;
use hax_core::base::id::{ExecId, HttpId};
use hax_core::base::time::{Next, Now};
use hax_core::bridge::config;
use hax_core::exec;
use hax_core::http::port::{Request, Response};
use hax_core::http::stream;
use hax_core::journal;
use hax_core::machine::{Input, Output};
use hax_core::{node, wire};

use crate::consul::Consul;
use crate::engine::choice::Choice;
use crate::engine::replay::{Alone, JournalError, Opened};
use crate::engine::{Built, Cast, Host, Odds, Times, Violation, World};
use crate::exec::Program;
use crate::fifo::{ClientId, PipeOutcome};
use crate::stream::StreamEvent;
pub use bug::Bug;
pub use fact::Fact;
use hearing::Hearing;
use helper::Helpers;
pub use machine::Counter;
use oracle::Oracle;
pub use swarm::{Act, Swarm};

/// The number of counters.
const NODES: usize = NAMES.len();
/// The names of the counters.
const NAMES: [&str; 3] = ["toy1", "toy2", "toy3"];

/// The cast: the state of its parties, and their rules.
pub struct Toy {
    swarm: Swarm,
    /// The number of increments with a name.
    names: u64,
    /// The seed of each machine's last life.
    seeds: [u64; NODES],
    oracle: Oracle,
    helpers: Helpers,
    hearing: Hearing,
}

/// The events of this cast, in addition to the events of every world.
#[derive(Clone, Copy, Debug)]
pub enum Ev {
    /// A node's agent becomes healthy again.
    Agent(usize),
    /// A client listens to the tally of a machine again.
    Listen(usize),
}

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A bug in the machine.
    Inside(Bug),
    /// A request gets two responses.
    ResponseTwice,
    /// A request over named pipes gets two responses.
    PipeTwice,
    /// After its exit a counter requests more.
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
        let (swarm, oracle, helpers) = (swarm.clone(), Oracle::default(), Helpers::default());
        let hearing = Hearing::default();
        let cast = Self { swarm, names: 0, seeds: [0; NODES], oracle, helpers, hearing };
        Built { consul: Consul::cluster(&NAMES), nodes: NODES, cast }
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
        world.cast.helpers.died(node);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &Fact) {
        match fact {
            Fact::Stopping {} => world.hosts[node].stops(),
            Fact::Stepped {} => {
                let now = world.sim.clocks().mono;
                let term = world.hosts[node].machine().and_then(|counter| counter.term(now));
                world.sim.check(world.cast.helpers.stepped(node, now, term));
            }
            _ => {}
        }
    }

    fn program(_: &mut World<'_, Self>, _: usize, spawn: &exec::Spawn) -> Program {
        match &*spawn.argv {
            [program, _] if **program == *step::PROGRAM => helper::program(),
            _ => Program::missing(),
        }
    }

    fn drain(_: &World<'_, Self>) -> u64 {
        u64::try_from(machine::DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        // A counter needs its name and the seed from a node's configuration.
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

    fn open(journal: &[u8]) -> Result<Opened<'_, Counter>, JournalError> {
        let (config, records) = journal::open(journal)?;
        Ok(Opened {
            machine: Counter::new(&config.bridge.node, config.wire.seed, None),
            alone: Box::new(Limits),
            records: Box::new(records),
        })
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Agent(agent) => world.revive(agent),
            Ev::Listen(node) => world.listen_to(node),
        }
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn write_beside(world: &mut World<'_, Self>) {
        world.count_beside();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        let now = world.sim.clocks().mono;
        world.cast.oracle.restored(now, &world.consul.double);
    }

    fn put_right(world: &mut World<'_, Self>) {
        for agent in 0..NODES {
            world.token(agent).mend();
            world.revive(agent);
        }
        world.at_consul(|double, now, out| double.compare_agents(now, out));
    }

    fn heal(world: &mut World<'_, Self>) {
        world.cast.helpers.healed(world.sim.clocks().mono);
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        let now = world.sim.clocks().mono;
        world.cast.helpers.happened(node, now, event);
    }

    fn on_helper_act(world: &mut World<'_, Self>, node: usize, helper: ExecId, _: u32) {
        let now = world.sim.clocks().mono;
        let others = world.hosts.iter().enumerate().filter(|(i, _)| *i != node);
        let holds = |(_, host): (_, &Host<Counter>)| host.machine()?.term(now);
        let restored = world.cast.oracle.was_restored(now);
        let other = others.clone().find_map(holds).filter(|_| !restored);
        world.sim.check(world.cast.helpers.acted(node, helper, other));
    }

    fn power_lost(world: &mut World<'_, Self>, node: usize) {
        world.check_tally(node);
    }

    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        if let Input::Exec(event) = input {
            world.sim.check(world.cast.helpers.heard_of(node, event));
        }
    }

    fn on_step(world: &mut World<'_, Self>, node: usize, out: &[Output<Fact>], counter: &Counter) {
        let now = world.sim.clocks().mono;
        world.sim.check(world.cast.helpers.gave(node, now, out, counter));
        let others = world.hosts.iter().enumerate();
        let others = others.map(|(i, host)| (i, host.life(), host.machine()));
        let this = (node, world.hosts[node].life(), Some(counter));
        let holders = others
            .chain([this])
            .filter_map(|(i, life, machine)| machine?.term(now).map(|term| ((i, life), term)));
        let holders: Vec<_> = holders.collect();
        world.sim.check(world.cast.oracle.one_holds(now, &holders));
        world.sim.check(Oracle::keeps_its_limits(counter));
        for output in out {
            if let Output::HttpStream(stream::Command::Begin(begin)) = output {
                world.cast.oracle.begun(node, begin.id);
            }
        }
    }

    fn on_stream_event(
        world: &mut World<'_, Self>,
        node: usize,
        answer: HttpId,
        heard: &StreamEvent,
    ) {
        world.sim.check(world.cast.hearing.heard(node, answer, heard));
        world.check_tally(node);
        match heard {
            StreamEvent::Said(_) => {}
            StreamEvent::Ended | StreamEvent::Refused | StreamEvent::Broken | StreamEvent::Left => {
                world.may_come_back()
            }
        }
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
        world.check_tally(node);
    }

    fn on_pipe_outcome(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        outcome: &PipeOutcome,
    ) {
        world.sim.check(world.cast.hearing.comes_to(node, client, outcome));
        world.check_tally(node);
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
        let Self { oracle, helpers, .. } = &world.cast;
        down.or_else(|| oracle.owed())
            .or_else(|| (!helpers.has_stepped()).then(|| "no step is taken".to_owned()))
            .or_else(|| nobody.then(|| "nobody holds the lease".to_owned()))
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        for node in 0..NODES {
            let found = world.file(node, tally::FILE).and_then(|content| tally::number_in(content));
            world.cast.hearing.at_rest(node, found)?;
        }
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
            Bug::StepKept,
            Bug::StepLong,
            Bug::StepTakenLate,
            Bug::AcknowledgedUnwritten,
            Bug::FailureIgnored,
            Bug::NumberLeftOut,
            Bug::NumberEarly,
            Bug::ListenerKept,
            Bug::PipeForgotten,
            Bug::PipeEarly,
        ];
        let outside = [Mutant::ResponseTwice, Mutant::PipeTwice, Mutant::SpeaksAfterExit];
        inside.map(Mutant::Inside).into_iter().chain(outside).collect()
    }

    fn mutate(
        world: &mut World<'_, Self>,
        mutant: Mutant,
        out: &mut Vec<Output<Fact>>,
        next: Next,
    ) -> Next {
        let doubled = |output: &&Output<Fact>| match mutant {
            Mutant::ResponseTwice => matches!(output, Output::Http(_)),
            Mutant::PipeTwice => matches!(output, Output::Fifo(_)),
            Mutant::Inside(_) | Mutant::SpeaksAfterExit => false,
        };
        if let Some(response) = out.iter().find(doubled).cloned()
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

impl World<'_, Toy> {
    /// Checks that the acknowledged numbers are in the file, whatever faults have occurred.
    fn check_tally(&mut self, node: usize) {
        let found = self.file(node, tally::FILE).and_then(|content| tally::number_in(content));
        self.sim.check(self.cast.oracle.is_in_file(node, found));
        self.sim.check(self.cast.hearing.is_in_file(node, found));
    }
}

/// The rules for a single counter.
struct Limits;

impl Alone<Counter> for Limits {
    fn takes(&mut self, _: &Input) {}

    fn gave(&mut self, _: u64, _: &[Output<Fact>], counter: &Counter) -> Result<(), Violation> {
        Oracle::keeps_its_limits(counter)
    }
}
