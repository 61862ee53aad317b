//! The engine of the worlds: it runs a [`Cast`] in one process and virtual time, driven by choices.
//!
//! It knows no machine of its own. It has the hosts of the machines under test, with their helper programs and
//! disks, the network, and the way to Consul and back; what happens next, by time; the decisions, from a seed
//! or from a tape; the trace. While the choices last, things go wrong as the cast's swarm weighs them; then
//! everything heals and must come to rest; then every machine is stopped and must exit in time. After every
//! step the cast's rules must hold.

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
pub mod hunt;
mod net;
mod open;
mod owed;
mod phases;
mod queue;
pub mod replay;
pub(crate) mod rules;
mod servers;
mod sim;
mod streams;
pub(crate) mod swarm;
pub mod trace;

pub use cast::{Built, Cast, Times};
use choice::Choice;
pub use event::Who;
pub(crate) use event::{MS, S};
pub use fault::Fault;
pub(crate) use host::{Client, Host};
pub use hunt::Hunt;
pub use swarm::Odds;

use calls::Side;
use cast::{FactOf, OutputOf};
use event::Ev;
use hax_core::base::fact::Report as _;
use net::Net;
use sim::Sim;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// This rule does not hold.
    pub(crate) fn of(rule: &'static str, what: impl Into<String>) -> Result<(), Self> {
        Err(Self { rule, what: what.into() })
    }
}

/// What a run is asked for besides its choices.
pub struct Wanted<C: Cast> {
    /// The bug that is planted.
    pub mutant: Option<C::Mutant>,
    /// So many of the last lines, and the journals.
    pub lines: usize,
}

impl<C: Cast> Wanted<C> {
    /// With a bug in it.
    #[must_use]
    pub fn with(mutant: C::Mutant) -> Self {
        Self { mutant: Some(mutant), lines: 0 }
    }

    /// The same, with so many of the last lines, and the journals.
    #[must_use]
    pub fn lines(self, lines: usize) -> Self {
        Self { lines, ..self }
    }
}

impl<C: Cast> Default for Wanted<C> {
    fn default() -> Self {
        Self { mutant: None, lines: 0 }
    }
}

impl<C: Cast> Clone for Wanted<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Cast> Copy for Wanted<C> {}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was drawn, in words.
    pub swarm: String,
    /// All inputs and outputs of all machines under test, as one number.
    pub hash: trace::Hash,
    /// Events that were worked.
    pub steps: u64,
    /// Virtual time that passed, in µs.
    pub time: u64,
    /// How often each kind of fact was reported, by its place among all kinds.
    pub facts: Vec<u64>,
    /// The last lines, if they were wanted.
    pub lines: Vec<String>,
    /// The journal of the last life of each machine, if they were wanted.
    pub journals: Vec<Vec<u8>>,
}

/// A world, and who plays in it.
pub struct World<'c, C: Cast> {
    pub(crate) sim: Sim<'c, C>,
    pub(crate) net: Net,
    pub(crate) consul: Side,
    pub(crate) hosts: Vec<Host<C::Machine>>,
    /// Everybody else, and the rules.
    pub(crate) cast: C,
    odds: Odds,
    mutant: Option<C::Mutant>,
    keep_journals: bool,
    /// Payloads of watches on their way.
    posts: usize,
    /// Clients over named pipes that have come.
    clients: u64,
    facts: Vec<u64>,
    out: Vec<OutputOf<C>>,
}

/// Runs a world with this swarm.
pub fn run<C: Cast>(
    stage: &mut C::Stage,
    swarm: &C::Swarm,
    choice: &mut dyn Choice,
    wanted: Wanted<C>,
) -> Outcome {
    let mut world = World::<C>::new(stage, swarm, choice, wanted);
    C::plant(wanted.mutant);
    world.sim.say(|| swarm.to_string());
    world.play();
    C::plant(None);
    let World { sim, hosts, facts, .. } = world;
    let (violation, steps, time, trace) = sim.end();
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
        stage: &mut C::Stage,
        swarm: &C::Swarm,
        choice: &'c mut dyn Choice,
        wanted: Wanted<C>,
    ) -> Self {
        let Built { mut consul, nodes, cast } = C::build(stage, swarm);
        let odds = C::odds(swarm);
        consul.set_lag(std::time::Duration::from_millis(odds.late_ms));
        Self {
            sim: Sim::new(choice, wanted.lines),
            net: Net::default(),
            consul: Side::new(consul),
            hosts: (0..nodes).map(|_| Host::new(&odds)).collect(),
            cast,
            odds,
            mutant: wanted.mutant,
            keep_journals: wanted.lines > 0,
            posts: 0,
            clients: 0,
            facts: vec![0; FactOf::<C>::KINDS.len()],
            out: Vec::new(),
        }
    }

    /// The next thing that happens, if it is due by `end`. False if nothing is, or if a rule is broken.
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
            Ev::Overdue(node, life, call) => self.on_overdue(node, life, call),
            Ev::Consul => self.tick_consul(),
            Ev::Head => self.head(),
            Ev::Post { node, path, watch, body } => {
                self.posts -= 1;
                C::on_post(self, node, &path);
                self.request(node, "POST", &path, body, Client::Watch(watch));
            }
            Ev::Posted(watch) => self.on_posted(watch),
            Ev::Act => self.act(),
            Ev::Own(event) => C::on_event(self, event),
        }
        true
    }

    /// Lets time pass, as far as the rules hold.
    fn run_to(&mut self, end: u64) {
        while self.step(end) {}
        self.sim.pass_to(end);
    }

    /// The bug that is planted.
    pub(crate) fn mutant(&self) -> Option<C::Mutant> {
        self.mutant
    }

    /// Payloads of watches that are on their way.
    pub(crate) fn posts(&self) -> usize {
        self.posts
    }
}
