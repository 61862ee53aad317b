//! The bridge's cast: one to three nodes with their haxes and Motr processes, and the other parties of a
//! cluster.
//!
//! Each hax is the production [`Node`] with its wire. The `oracle` holds the rules.

mod act;
mod event;
mod field;
mod hax;
mod hears;
mod model;
mod motr;
mod mutant;
pub(crate) mod oracle;
mod others;
mod replay;
mod rest;
mod servers;
mod spiel;
mod stage;
mod stranger;
mod swarm;
mod trace;

use std::rc::Rc;

use hax_core::base::fid::Fid;
use hax_core::base::id::CallId;
use hax_core::base::time::{Next, Now};
use hax_core::ha::fact::Fact;
use hax_core::ha::spiel as port;
use hax_core::http::port::Request;
use hax_core::journal;
use hax_core::machine::{Input, Output};
use hax_core::net as tcp;
use hax_core::node::Node;
use hax_core::wire::process;

use crate::engine::choice::Choice;
use crate::engine::replay::{JournalError, Opened};
use crate::engine::{Built, Cast, Odds, S, Times, Violation, Who, World};
pub use act::Act;
use event::Ev;
use hax::Hax;
use motr::SimProcess;
pub use mutant::{Inside, Mutant};
use oracle::Oracle;
pub use stage::Stage;
pub use swarm::Swarm;

/// The machines of the world, and their rules.
pub struct Bridge {
    swarm: Swarm,
    hax: Vec<Hax>,
    motr: Vec<SimProcess>,
    /// All objects with a state, and some without.
    objects: Vec<Fid>,
    /// The transactions that import the configuration.
    import: Rc<[String]>,
    oracle: Oracle,
    out: Vec<process::Output>,
}

impl Cast for Bridge {
    const NAME: &'static str = "bridge";
    const NODE: &'static str = "hax";
    const TIMES: Times = Times {
        faults: 400 * S,
        // The longest chain is that of a process that has just begun to wait for a dead connection: 8 s, ten
        // sends, 5 s to connect, and all of it once more.
        rest_within: 180 * S,
        look_every: 7 * S,
        quiet: 10 * S,
        // A stopping hax disconnects its links.
        leave: 6 * S,
    };

    const UNREACHED: &'static [(&'static str, &'static str)] = &[
        ("EntryUnknown", "a bug of the bridge's: the oracle refuses it"),
        ("Unsendable", "a bug of the bridge's: the oracle refuses it"),
        ("QueueFull", "the bridge has fewer messages in flight than the wire keeps"),
        ("JournalEnded", "it is the host's"),
        ("TableEmpty", "nobody deletes the whole configuration"),
        ("ProcessMissing", "nobody takes a hax's own process out of the configuration"),
        ("ProcessFound", "nobody puts one back"),
        ("ProcessRetyped", "nobody gives a process in its own place another service there"),
    ];

    type Stage = Stage;
    type Swarm = Swarm;
    type Machine = Node;
    type Event = Ev;
    type Mutant = Mutant;

    fn draw(choice: &mut dyn Choice) -> Swarm {
        Swarm::draw(choice)
    }

    fn odds(swarm: &Swarm) -> Odds {
        swarm.odds.clone()
    }

    fn build(stage: &mut Stage, swarm: &Swarm) -> Built<Self> {
        stage.set(swarm)
    }

    fn begin(world: &mut World<'_, Self>) {
        world.begin();
    }

    // ---- haxes ------------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, hax: usize) -> Node {
        world.start_hax(hax)
    }

    fn died(world: &mut World<'_, Self>, hax: usize) {
        world.cast.oracle.died(hax);
    }

    fn spiel(world: &mut World<'_, Self>, hax: usize, call: port::Call) {
        world.on_spiel(hax, &call);
    }

    fn on_fact(world: &mut World<'_, Self>, hax: usize, fact: &Fact) {
        world.on_hax_fact(hax, fact);
    }

    fn drain(world: &World<'_, Self>) -> u64 {
        world.drain()
    }

    fn journal(world: &World<'_, Self>, hax: usize) -> Vec<u8> {
        world.cast.hax[hax].config.as_ref().map(journal::begin).unwrap_or_default()
    }

    fn record(journal: &mut Vec<u8>, now: Now, input: &Input) {
        journal::put(journal, now, input);
    }

    fn open(journal: &[u8]) -> Result<Opened<'_, Node>, JournalError> {
        replay::open(journal)
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::Wake(i) => world.tick_process(i),
            Ev::Spiel(hax, life, reply) => world.on_library_answer(hax, life, *reply),
            Ev::Elect => world.elect(),
            Ev::Boot(i) => world.boot(i, false),
            Ev::Cue(i, life) => world.cue(i, life),
            Ev::Ack(i, life, msg) => world.acknowledge(i, life, msg),
            Ev::Check(i) => world.look_at(i),
            Ev::Reunite(agent) => world.reunite(agent),
        }
    }

    fn on_net(world: &mut World<'_, Self>, motr: usize, event: tcp::Event) {
        world.feed_process(motr, process::Input::Net(event));
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn write_beside(world: &mut World<'_, Self>) {
        world.write_beside();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        world.doubt(|_| true);
    }

    fn put_right(world: &mut World<'_, Self>) {
        world.put_right();
    }

    fn heal(world: &mut World<'_, Self>) {
        world.come_back();
    }

    fn nudge(world: &mut World<'_, Self>) {
        world.nudge_all();
    }

    fn describe(bytes: &bytes::Bytes) -> String {
        trace::frames(bytes)
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_step(world: &mut World<'_, Self>, hax: usize, out: &[Output], node: &Node) {
        world.sim.check(world.cast.oracle.step(hax, out, node));
    }

    fn on_request(world: &mut World<'_, Self>, hax: usize, request: &Request) {
        world.cast.oracle.asked(hax, request.id);
    }

    fn on_write(world: &mut World<'_, Self>, who: Who, bytes: &bytes::Bytes) {
        world.sim.check(world.cast.oracle.wrote(world.sim.now(), who, bytes));
    }

    fn on_consul_write(world: &mut World<'_, Self>, by: Option<usize>, body: &[u8]) {
        world.sim.check(world.cast.oracle.consul_wrote(by, body, &world.consul.double));
    }

    fn on_reply(world: &mut World<'_, Self>, hax: usize, call: CallId) {
        world.cast.oracle.replied(hax, call);
    }

    fn on_post(world: &mut World<'_, Self>, hax: usize, path: &str) {
        if path == "/" {
            world.cast.hax[hax].posted = Some(world.sim.now());
        }
    }

    fn heard(world: &World<'_, Self>) -> Vec<u64> {
        world.cast.motr.iter().map(|process| process.heard).collect()
    }

    fn unrest(world: &World<'_, Self>) -> Option<String> {
        world.unrest_of_all()
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        world.cast.oracle.rest(&world.consul.double)
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    fn mutants() -> Vec<Mutant> {
        Mutant::all().collect()
    }

    fn plant(mutant: Option<Mutant>) {
        mutant::plant(mutant);
    }

    fn mutate(
        world: &mut World<'_, Self>,
        mutant: Mutant,
        out: &mut Vec<Output>,
        next: Next,
    ) -> Next {
        world.mutate(mutant, out, next)
    }

    fn mutate_exit(mutant: Mutant, next: Next) -> Next {
        if mutant == Mutant::SpeaksAfterExit { Next::Wait } else { next }
    }
}
