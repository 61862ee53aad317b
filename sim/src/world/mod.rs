//! The World: the whole product in one process and virtual time, driven by choices.
//!
//! One to three nodes, each with its hax — the production [`Node`](hax_core::node::Node), wire and
//! all —, the Motr processes of each node, and the Consul double between them. While the choices last,
//! things go wrong as the [`Swarm`] weighs them; then everything heals and must come to rest; then every
//! hax is stopped and must exit in time. After every step the oracle looks whether all rules hold.

mod act;
pub mod choice;
mod consul;
mod fault;
mod field;
mod hax;
pub mod hunt;
mod model;
mod motr;
pub mod mutant;
mod net;
pub(crate) mod oracle;
mod others;
mod phase;
mod queue;
pub mod replay;
mod servers;
mod spiel;
mod stage;
mod stranger;
mod swarm;
pub mod trace;

use hax_core::base::fact::FactKind;
use hax_core::base::fid::Fid;
use hax_core::base::time::{Instant, Now, Wall};
use hax_core::node;
use hax_core::wire::{net as tcp, process};

pub use act::Act;
use choice::Choice;
use consul::Side;
pub use fault::Fault;
use hax::Hax;
use motr::Actor;
use mutant::Mutant;
use net::Net;
use oracle::Oracle;
pub use oracle::Violation;
use queue::{Ev, Queue, Who};
pub use stage::Stage;
pub use swarm::Swarm;
use trace::Trace;

/// UNIX time at which all worlds begin, in ns.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// What a run is asked for besides its choices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The bug that is planted.
    pub mutant: Option<Mutant>,
    /// So many of the last lines, and the journals.
    pub lines: usize,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was drawn.
    pub swarm: Option<Swarm>,
    /// All inputs and outputs of all haxes, as one number.
    pub hash: trace::Hash,
    /// Events that were worked.
    pub steps: u64,
    /// Virtual time that passed, in µs.
    pub time: u64,
    /// How often each kind of fact was reported, by `FactKind as usize`.
    pub facts: Vec<u64>,
    /// The last lines, if they were wanted.
    pub lines: Vec<String>,
    /// The journal of the last life of each hax, if they were wanted.
    pub journals: Vec<Vec<u8>>,
}

/// The world.
pub struct World<'c> {
    now: u64,
    /// What the wall clock is off by, in ns.
    skew: i64,
    choice: &'c mut dyn Choice,
    swarm: Swarm,
    mutant: Option<Mutant>,
    mutated: u64,
    queue: Queue,
    net: Net,
    hax: Vec<Hax>,
    cast: Vec<Actor>,
    consul: Side,
    /// Payloads of watches on their way.
    posts: usize,
    /// All objects with a state, and some without.
    objects: Vec<Fid>,
    /// The transactions that import the configuration.
    import: std::rc::Rc<[String]>,
    oracle: Oracle,
    trace: Trace,
    keep_journals: bool,
    journals: Vec<Vec<u8>>,
    facts: Vec<u64>,
    steps: u64,
    /// Nothing goes wrong.
    calm: bool,
    out: Vec<node::Output>,
    out_process: Vec<process::Output>,
}

/// Draws a swarm and runs it.
pub fn run(stage: &mut Stage, choice: &mut dyn Choice, wanted: Wanted) -> Outcome {
    let swarm = Swarm::draw(choice);
    run_swarm(stage, swarm, choice, wanted)
}

/// Runs this swarm.
pub fn run_swarm(
    stage: &mut Stage,
    swarm: Swarm,
    choice: &mut dyn Choice,
    wanted: Wanted,
) -> Outcome {
    let mut world = World::new(stage, swarm, choice, wanted);
    mutant::plant(wanted.mutant);
    world.play();
    mutant::plant(None);
    let World { oracle, swarm, trace, steps, now, facts, journals, .. } = world;
    Outcome {
        violation: oracle.violation,
        swarm: Some(swarm),
        hash: trace.hash,
        steps,
        time: now,
        facts,
        lines: trace.lines.into(),
        journals,
    }
}

impl<'c> World<'c> {
    fn new(stage: &mut Stage, swarm: Swarm, choice: &'c mut dyn Choice, wanted: Wanted) -> Self {
        let stage::Set { mut consul, haxes, cast, objects, people, import } = stage.set(&swarm);
        consul.set_lag(std::time::Duration::from_millis(swarm.late_ms));
        let oracle = Oracle::new(people, &consul);
        Self {
            now: queue::S,
            skew: 0,
            choice,
            swarm,
            mutant: wanted.mutant,
            mutated: 0,
            queue: Queue::default(),
            net: Net::default(),
            journals: vec![Vec::new(); haxes.len()],
            hax: haxes,
            cast,
            consul: Side::new(consul),
            posts: 0,
            objects,
            import,
            oracle,
            trace: Trace { keep: wanted.lines, ..Trace::default() },
            keep_journals: wanted.lines > 0,
            facts: vec![0; FactKind::ALL.len()],
            steps: 0,
            calm: false,
            out: Vec::new(),
            out_process: Vec::new(),
        }
    }

    /// The next thing that happens, if it is due by `end`. False if nothing is, or if a rule is broken.
    fn step(&mut self, end: u64) -> bool {
        if self.oracle.violation.is_some() || self.queue.next_at().is_none_or(|at| at > end) {
            return false;
        }
        let Some((at, ev)) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        self.steps += 1;
        match ev {
            Ev::Tick(who) => self.tick(who),
            Ev::Accept(id) => self.on_accept(id),
            Ev::Connected(id) => self.on_connected(id),
            Ev::Data(id, bytes) => self.on_data(id, bytes),
            Ev::Fin(id, end) => self.on_fin(id, end),
            Ev::Written(id, bytes) => self.on_written(id, bytes),
            Ev::Call(sent) => self.on_call_arrived(*sent),
            Ev::Reply(hax, life, reply) => self.on_reply(hax, life, *reply),
            Ev::Overdue(hax, life, call) => self.on_overdue(hax, life, call),
            Ev::Spiel(hax, life, reply) => self.on_library_answer(hax, life, *reply),
            Ev::Consul => self.tick_consul(),
            Ev::Post { hax, path, watch, body } => {
                self.posts -= 1;
                if path == "/" {
                    self.hax[hax].posted = Some(self.now);
                }
                self.request(hax, "POST", path, body, hax::Client::Watch(watch));
            }
            Ev::Posted(watch) => self.on_posted(watch),
            Ev::Elect => self.elect(),
            Ev::StartHax(hax) => self.start_hax(hax),
            Ev::Boot(i) => self.boot(i, false),
            Ev::Cue(i, life) => self.cue(i, life),
            Ev::Ack(i, life, msg) => self.acknowledge(i, life, msg),
            Ev::Check(i) => self.look_at(i),
            Ev::Act => self.act(),
            Ev::Head => self.head(),
            Ev::Reunite(agent) => self.reunite(agent),
        }
        true
    }

    /// Lets time pass, as far as the rules hold.
    fn run_to(&mut self, end: u64) {
        while self.step(end) {}
        if self.oracle.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    fn now_both(&self) -> Now {
        let wall = (EPOCH + self.now * 1_000).saturating_add_signed(self.skew);
        Now { mono: Instant::from_micros(self.now), wall: Wall(wall) }
    }

    fn choose(&mut self, n: u64) -> u64 {
        if self.calm { 0 } else { self.choice.below(n) }
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.choose(n as u64)).unwrap_or(0)
    }

    /// Whether something happens that does so this often in a thousand times.
    fn chance(&mut self, permille: u64) -> bool {
        !self.calm && (permille >= 1000 || self.choice.below(1000) >= 1000 - permille)
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }

    fn life(&self, who: Who) -> u32 {
        match who {
            Who::Hax(i) => self.hax[i].life,
            Who::Motr(i) => self.cast[i].life,
            Who::Stranger => 0,
        }
    }

    fn feed_net(&mut self, who: Who, event: tcp::Event) {
        match who {
            Who::Hax(i) => self.feed(i, node::Input::Net(event)),
            Who::Motr(i) => self.feed_process(i, process::Input::Net(event)),
            Who::Stranger => {}
        }
    }
}
