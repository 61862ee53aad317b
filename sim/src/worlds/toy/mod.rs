//! A small cast: three counters that share one count and one lease in Consul, each with a file of its own and
//! a helper program, and their clients. It shows the requirements of a cast, and that the engine drives any
//! machine.

mod act;
mod bug;
mod context;
mod fact;
mod helper;
mod listeners;
mod machine;
mod oracle;
mod received;
mod step;
mod swarm;
mod tally;

use hax_core::base::id::{ExecId, HttpId};
use hax_core::base::time::Next;
use hax_core::exec;
use hax_core::http::port::{Request, Response};
use hax_core::http::stream;
use hax_core::machine::{Input, Output};

use crate::consul::Consul;
use crate::engine::choice::Choice;
use crate::engine::replay::{self, JournalError, MachineRules, Opened, Simple};
use crate::engine::{Built, Cast, Host, Odds, Times, Violation, World};
use crate::exec::Program;
use crate::fifo::{ClientId, PipeOutcome};
use crate::stream::StreamEvent;
pub use bug::Bug;
pub use fact::Fact;
use helper::Helpers;
pub use machine::Counter;
use oracle::Oracle;
use received::Received;
pub use swarm::{Act, Swarm};

/// The number of counters.
const NODES: usize = NAMES.len();
/// The names of the counters.
const NAMES: [&str; 3] = ["toy1", "toy2", "toy3"];

/// The cast: the state of its parties, and their rules.
pub struct Toy {
    swarm: Swarm,
    /// The number of increments with a name.
    increments: u64,
    /// The seed of each machine's last life.
    seeds: [u64; NODES],
    oracle: Oracle,
    helpers: Helpers,
    received: Received,
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

    type Cache = ();
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
        let received = Received::default();
        let cast = Self { swarm, increments: 0, seeds: [0; NODES], oracle, helpers, received };
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

    fn on_death(world: &mut World<'_, Self>, node: usize) {
        world.cast.oracle.on_death(node);
        world.cast.helpers.on_death(node);
    }

    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &Fact) {
        match fact {
            Fact::Stopping {} => world.hosts[node].mark_stopping(),
            Fact::Stepped {} => {
                let now = world.sim.clocks().mono;
                let term = world.hosts[node].machine().and_then(|counter| counter.term(now));
                world.sim.check(world.cast.helpers.on_step_done(node, now, term));
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

    fn drain_time(_: &World<'_, Self>) -> u64 {
        u64::try_from(machine::DRAIN.as_micros()).unwrap_or(0)
    }

    // ---- journals ---------------------------------------------------------------------------------

    fn begin_journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        replay::begin_simple(NAMES[node], world.cast.seeds[node])
    }

    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Counter>, JournalError> {
        let Simple { name, seed, records } = replay::open_simple(journal)?;
        let machine = Counter::new(&name, seed, None);
        Ok(Opened { machine, rules: Box::new(Limits), records })
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Agent(agent) => world.revive(agent),
            Ev::Listen(node) => world.open_tally_stream(node),
        }
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn write_concurrently(world: &mut World<'_, Self>) {
        world.increment_concurrently();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        let now = world.sim.clocks().mono;
        world.cast.oracle.on_restore(now, &world.consul.double);
    }

    fn repair(world: &mut World<'_, Self>) {
        for agent in 0..NODES {
            world.token(agent).restore();
            world.revive(agent);
        }
        world.with_consul(|double, now, out| double.full_sync_agents(now, out));
    }

    fn heal(world: &mut World<'_, Self>) {
        world.cast.helpers.on_healed(world.sim.clocks().mono);
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        let now = world.sim.clocks().mono;
        world.cast.helpers.on_event(node, now, event);
    }

    fn on_helper_act(world: &mut World<'_, Self>, node: usize, helper: ExecId, _: u32) {
        let now = world.sim.clocks().mono;
        let others = world.hosts.iter().enumerate().filter(|(i, _)| *i != node);
        let holds = |(_, host): (_, &Host<Counter>)| host.machine()?.term(now);
        let restored = world.cast.oracle.was_restored(now);
        let other = others.clone().find_map(holds).filter(|_| !restored);
        world.sim.check(world.cast.helpers.check_act(node, helper, other));
    }

    fn on_power_loss(world: &mut World<'_, Self>, node: usize) {
        world.check_tally(node);
    }

    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        if let Input::Exec(event) = input {
            world.sim.check(world.cast.helpers.on_machine_event(node, event));
        }
    }

    fn on_step(world: &mut World<'_, Self>, node: usize, out: &[Output<Fact>], counter: &Counter) {
        let now = world.sim.clocks().mono;
        world.sim.check(world.cast.helpers.on_outputs(node, now, out, counter));
        let others = world.hosts.iter().enumerate();
        let others = others.map(|(i, host)| (i, host.life(), host.machine()));
        let this = (node, world.hosts[node].life(), Some(counter));
        let holders = others
            .chain([this])
            .filter_map(|(i, life, machine)| machine?.term(now).map(|term| ((i, life), term)));
        let holders: Vec<_> = holders.collect();
        world.sim.check(world.cast.oracle.check_holders(now, &holders));
        world.sim.check(Oracle::check_limits(counter));
        for output in out {
            if let Output::HttpStream(stream::Command::Begin(begin)) = output {
                world.cast.oracle.on_stream_begun(node, begin.id);
            }
        }
    }

    fn on_stream_event(
        world: &mut World<'_, Self>,
        node: usize,
        answer: HttpId,
        heard: &StreamEvent,
    ) {
        world.sim.check(world.cast.received.on_stream_event(node, answer, heard));
        world.check_tally(node);
        match heard {
            StreamEvent::Data(_) => {}
            StreamEvent::Ended
            | StreamEvent::Refused
            | StreamEvent::Broken
            | StreamEvent::Disconnected => world.draw_listener_return(),
        }
    }

    fn on_consul_write(world: &mut World<'_, Self>, _: Option<usize>, _: &[u8]) {
        world.sim.check(world.cast.oracle.check_count(&world.consul.double));
    }

    fn on_request(world: &mut World<'_, Self>, node: usize, request: &Request) {
        let name = String::from_utf8_lossy(&request.body).into_owned();
        world.cast.oracle.on_request(node, request.id, name);
    }

    fn on_response(world: &mut World<'_, Self>, node: usize, response: &Response) {
        let consul = &world.consul.double;
        world.sim.check(world.cast.oracle.on_response(consul, node, response));
        world.check_tally(node);
    }

    fn on_pipe_outcome(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        outcome: &PipeOutcome,
    ) {
        world.sim.check(world.cast.received.on_outcome(node, client, outcome));
        world.check_tally(node);
    }

    fn notification_counts(_: &World<'_, Self>) -> Vec<u64> {
        Vec::new()
    }

    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        let down = world.hosts.iter().position(|host| !host.is_up() || host.is_stopping());
        let down = down.map(|i| format!("toy {i} is down, or stops"));
        let now = world.sim.clocks().mono;
        let holds = |host: &Host<Counter>| host.machine().is_some_and(|m| m.term(now).is_some());
        let nobody = !world.hosts.iter().any(holds);
        let Self { oracle, helpers, .. } = &world.cast;
        down.or_else(|| oracle.unanswered())
            .or_else(|| (!helpers.has_stepped()).then(|| "no step is taken".to_owned()))
            .or_else(|| nobody.then(|| "nobody holds the lease".to_owned()))
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        for node in 0..NODES {
            let found = world.file(node, tally::FILE).and_then(|content| tally::number_in(content));
            world.cast.received.check_rest(node, found)?;
        }
        world.cast.oracle.check_rest(&world.consul.double)
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
            && world.sim.mutant_acts(3)
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
        self.sim.check(self.cast.oracle.check_file(node, found));
        self.sim.check(self.cast.received.check_file(node, found));
    }
}

/// The rules for a single counter.
struct Limits;

impl MachineRules<Counter> for Limits {
    fn on_input(&mut self, _: &Input) {}

    fn on_outputs(
        &mut self,
        _: u64,
        _: &[Output<Fact>],
        counter: &Counter,
    ) -> Result<(), Violation> {
        Oracle::check_limits(counter)
    }
}
