//! The engine of the worlds: it runs a [`Cast`] in one process and in virtual time. Choices drive it.
//!
//! The engine has no machine of its own. It has the hosts of the machines under test with their helper
//! programs and disks, the network, and the path to Consul and back. It has the queue of events by time, the
//! decisions from a seed or a tape, and the trace.
//!
//! While the choices last, faults occur with the weights of the cast's swarm. Then everything heals and must
//! come to rest. Then every machine is stopped and must exit in time. After every step the cast's rules must
//! hold.

mod api;
mod calls;
mod cast;
pub mod choice;
mod disks;
mod event;
mod fault;
mod fifos;
pub mod findings;
mod helpers;
mod host;
mod kept_state;
mod net;
mod pending;
mod phases;
mod queue;
pub mod replay;
pub(crate) mod rules;
pub mod search;
mod servers;
mod sim;
mod streams;
pub(crate) mod swarm;
pub mod trace;

pub use cast::{Built, Cast, Times};
use choice::Choice;
pub use event::Party;
pub(crate) use event::{MS, S};
pub use fault::Fault;
pub(crate) use host::{Client, Host};
pub use search::Search;
pub use swarm::Odds;

use calls::ConsulHost;
use cast::{FactOf, OutputOf};
use event::Ev;
use hax_core::base::fact::Report as _;
use net::Net;
use sim::Sim;

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// The observation.
    pub what: String,
}

impl Violation {
    /// Returns a violation of this rule as an error.
    pub(crate) fn of(rule: &'static str, what: impl Into<String>) -> Result<(), Self> {
        Err(Self { rule, what: what.into() })
    }
}

/// The options of a run, besides its choices.
pub struct RunOptions<C: Cast> {
    /// The planted bug.
    pub mutant: Option<C::Mutant>,
    /// The number of last lines to keep. The journals are kept as well, if it is not 0.
    pub lines: usize,
}

impl<C: Cast> RunOptions<C> {
    /// Creates options with a planted bug.
    #[must_use]
    pub fn with_mutant(mutant: C::Mutant) -> Self {
        Self { mutant: Some(mutant), lines: 0 }
    }

    /// Requests the last `lines` lines and the journals.
    #[must_use]
    pub fn lines(self, lines: usize) -> Self {
        Self { lines, ..self }
    }
}

impl<C: Cast> Default for RunOptions<C> {
    fn default() -> Self {
        Self { mutant: None, lines: 0 }
    }
}

impl<C: Cast> Clone for RunOptions<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Cast> Copy for RunOptions<C> {}

/// The outcome of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The broken rule, if any.
    pub violation: Option<Violation>,
    /// A description of the drawn swarm.
    pub swarm: String,
    /// The hash of all inputs and outputs of all machines under test.
    pub hash: trace::Hash,
    /// The number of processed events.
    pub steps: u64,
    /// The duration of the run in virtual time, in µs.
    pub time: u64,
    /// The number of reports of each kind of fact, in the order of the kinds.
    pub facts: Vec<u64>,
    /// The last lines, if they were requested.
    pub lines: Vec<String>,
    /// The journal of the last life of each machine, if the journals were requested.
    pub journals: Vec<Vec<u8>>,
}

/// A world and its cast.
pub struct World<'c, C: Cast> {
    pub(crate) sim: Sim<'c, C>,
    pub(crate) net: Net,
    pub(crate) consul: ConsulHost,
    pub(crate) hosts: Vec<Host<C::Machine>>,
    /// The parties around the machines, and the rules.
    pub(crate) cast: C,
    odds: Odds,
    mutant: Option<C::Mutant>,
    keep_journals: bool,
    /// The number of watch payloads in transit.
    posts: usize,
    /// The number of clients over named pipes so far.
    clients: u64,
    facts: Vec<u64>,
    out: Vec<OutputOf<C>>,
}

/// Runs a world with this swarm.
pub fn run<C: Cast>(
    cache: &mut C::Cache,
    swarm: &C::Swarm,
    choice: &mut dyn Choice,
    options: RunOptions<C>,
) -> Outcome {
    let mut world = World::<C>::new(cache, swarm, choice, options);
    C::plant(options.mutant);
    world.sim.log(|| swarm.to_string());
    world.run_phases();
    C::plant(None);
    let World { sim, hosts, facts, .. } = world;
    let (violation, steps, time, trace) = sim.finish();
    Outcome {
        violation,
        swarm: swarm.to_string(),
        hash: trace.hash,
        steps,
        time,
        facts,
        lines: trace.lines.into(),
        journals: hosts.into_iter().map(|host| host.journal).collect(),
    }
}

impl<'c, C: Cast> World<'c, C> {
    fn new(
        cache: &mut C::Cache,
        swarm: &C::Swarm,
        choice: &'c mut dyn Choice,
        options: RunOptions<C>,
    ) -> Self {
        let Built { mut consul, nodes, cast } = C::build(cache, swarm);
        let odds = C::odds(swarm);
        consul.set_lag(std::time::Duration::from_millis(odds.server_lag_ms));
        Self {
            sim: Sim::new(choice, options.lines),
            net: Net::default(),
            consul: ConsulHost::new(consul),
            hosts: (0..nodes).map(|_| Host::new(&odds)).collect(),
            cast,
            odds,
            mutant: options.mutant,
            keep_journals: options.lines > 0,
            posts: 0,
            clients: 0,
            facts: vec![0; FactOf::<C>::KINDS.len()],
            out: Vec::new(),
        }
    }

    /// Processes the next event, if it is due by `end`. Returns false if there is none, or if a rule is
    /// broken.
    fn step(&mut self, end: u64) -> bool {
        let Some(ev) = self.sim.next(end) else { return false };
        match ev {
            Ev::Tick(node) => self.tick(node),
            Ev::Thaw(node, life, input) => self.thaw(node, life, *input),
            Ev::Start(node) => self.start(node),
            Ev::Helpers(node) => self.tick_helpers(node),
            Ev::Disk(node) => self.tick_disk(node),
            Ev::Streams(node) => self.tick_streams(node),
            Ev::Pipes(node) => self.tick_pipes(node),
            Ev::Accept(id) => self.on_accept(id),
            Ev::Connected(id) => self.on_connected(id),
            Ev::Data(id, bytes) => self.on_data(id, bytes),
            Ev::Fin(id, end) => self.on_fin(id, end),
            Ev::Written(id, bytes) => self.on_written(id, bytes),
            Ev::Call(sent) => self.on_call_arrived(*sent),
            Ev::Reply(node, life, reply) => self.on_reply(node, life, *reply),
            Ev::CallTimeout(node, life, call) => self.on_call_timeout(node, life, call),
            Ev::ConsulTick => self.tick_consul(),
            Ev::RestoreLeader => self.restore_leader(),
            Ev::Post { node, path, watch, body } => {
                self.posts -= 1;
                C::on_post(self, node, &path);
                self.request(node, "POST", &path, body, Client::Watch(watch));
            }
            Ev::PostDone(watch) => self.on_post_done(watch),
            Ev::Act => self.act(),
            Ev::Cast(event) => C::on_event(self, event),
        }
        true
    }

    /// Lets time pass, as long as the rules hold.
    fn run_to(&mut self, end: u64) {
        while self.step(end) {}
        self.sim.advance_to(end);
    }

    /// Returns the planted bug.
    pub(crate) fn mutant(&self) -> Option<C::Mutant> {
        self.mutant
    }

    /// Returns the number of watch payloads in transit.
    pub(crate) fn posts(&self) -> usize {
        self.posts
    }
}
