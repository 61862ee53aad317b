//! The bridge's cast: one to three nodes with their haxes and Motr processes, and the other parties of a
//! cluster.
//!
//! Each hax is the production [`Node`] with its wire. The `oracle` holds the rules.

mod act;
mod cache;
mod environment;
mod event;
mod field_faults;
mod hax;
mod model;
mod motr;
mod mutant;
pub(crate) mod oracle;
mod raw_client;
mod receive;
mod replay;
mod rest;
mod servers;
mod spiel;
mod swarm;
mod trace;

use std::rc::Rc;

use hax_core::base::fid::Fid;
use hax_core::base::id::CallId;
use hax_core::base::time::Next;
use hax_core::ha::fact::Fact;
use hax_core::ha::spiel as port;
use hax_core::http::port::Request;
use hax_core::journal;
use hax_core::machine::Output;
use hax_core::net as tcp;
use hax_core::node::Node;
use hax_core::wire::process;

use crate::engine::choice::Choice;
use crate::engine::replay::{JournalError, Opened};
use crate::engine::{Built, Cast, Odds, Party, S, Times, Violation, World};
pub use act::Act;
pub use cache::Cache;
use event::Ev;
use hax::Hax;
use motr::SimProcess;
pub use mutant::{Inside, Mutant};
use oracle::Oracle;
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
        rest_timeout: 180 * S,
        check_interval: 7 * S,
        quiet: 10 * S,
        // A stopping hax disconnects its links.
        stop_margin: 6 * S,
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

    type Cache = Cache;
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

    fn build(cache: &mut Cache, swarm: &Swarm) -> Built<Self> {
        cache.build(swarm)
    }

    fn begin(world: &mut World<'_, Self>) {
        world.begin();
    }

    // ---- haxes ------------------------------------------------------------------------------------

    fn start(world: &mut World<'_, Self>, hax: usize) -> Node {
        world.start_hax(hax)
    }

    fn on_death(world: &mut World<'_, Self>, hax: usize) {
        world.cast.oracle.on_death(hax);
    }

    fn on_spiel_call(world: &mut World<'_, Self>, hax: usize, call: port::Call) {
        world.on_spiel(hax, &call);
    }

    fn on_fact(world: &mut World<'_, Self>, hax: usize, fact: &Fact) {
        world.on_hax_fact(hax, fact);
    }

    fn drain_time(world: &World<'_, Self>) -> u64 {
        world.max_drain_time()
    }

    fn begin_journal(world: &World<'_, Self>, hax: usize) -> Vec<u8> {
        world.cast.hax[hax].config.as_ref().map(journal::begin).unwrap_or_default()
    }

    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Node>, JournalError> {
        replay::open(journal)
    }

    // ---- events -----------------------------------------------------------------------------------

    fn on_event(world: &mut World<'_, Self>, event: Ev) {
        match event {
            Ev::ProcessTick(i) => world.tick_process(i),
            Ev::Spiel(hax, life, reply) => world.on_library_reply(hax, life, *reply),
            Ev::Elect => world.elect(),
            Ev::StartProcess(i) => world.start_process(i, false),
            Ev::NextStep(i, life) => world.next_step(i, life),
            Ev::Ack(i, life, msg) => world.acknowledge(i, life, msg),
            Ev::Check(i) => world.check_process(i),
            Ev::RejoinAgent(agent) => world.rejoin_agent(agent),
        }
    }

    fn on_net(world: &mut World<'_, Self>, motr: usize, event: tcp::Event) {
        world.feed_process(motr, process::Input::Net(event));
    }

    fn act(world: &mut World<'_, Self>) -> u64 {
        world.act_once()
    }

    fn write_concurrently(world: &mut World<'_, Self>) {
        world.write_record();
    }

    fn on_restore(world: &mut World<'_, Self>) {
        world.record_evidence(|_| true);
    }

    fn repair(world: &mut World<'_, Self>) {
        world.repair_all();
    }

    fn heal(world: &mut World<'_, Self>) {
        world.restart_processes();
    }

    fn nudge(world: &mut World<'_, Self>) {
        world.nudge_all();
    }

    fn describe(bytes: &bytes::Bytes) -> String {
        trace::frames(bytes)
    }

    // ---- the rules --------------------------------------------------------------------------------

    fn on_step(world: &mut World<'_, Self>, hax: usize, out: &[Output], node: &Node) {
        world.sim.check(world.cast.oracle.on_step(hax, out, node));
    }

    fn on_request(world: &mut World<'_, Self>, hax: usize, request: &Request) {
        world.cast.oracle.on_request(hax, request.id);
    }

    fn on_write(world: &mut World<'_, Self>, who: Party, bytes: &bytes::Bytes) {
        world.sim.check(world.cast.oracle.on_frame(world.sim.now(), who, bytes));
    }

    fn on_consul_write(world: &mut World<'_, Self>, by: Option<usize>, body: &[u8]) {
        world.sim.check(world.cast.oracle.on_consul_write(by, body, &world.consul.double));
    }

    fn on_reply(world: &mut World<'_, Self>, hax: usize, call: CallId) {
        world.cast.oracle.on_reply(hax, call);
    }

    fn on_post(world: &mut World<'_, Self>, hax: usize, path: &str) {
        if path == "/" {
            world.cast.hax[hax].last_post = Some(world.sim.now());
        }
    }

    fn notification_counts(world: &World<'_, Self>) -> Vec<u64> {
        world.cast.motr.iter().map(|process| process.notifications).collect()
    }

    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        world.first_busy_reason()
    }

    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        world.cast.oracle.check_rest(&world.consul.double)
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
