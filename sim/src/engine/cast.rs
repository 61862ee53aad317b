//! What plays in a world: the machines under test, whoever surrounds them, what may befall them, and what
//! must hold whatever does.

use std::fmt;

use hax_core::base::id::{CallId, ExecId, HttpId};
use hax_core::base::time::{Next, Now};
use hax_core::ha::spiel;
use hax_core::http::port as http;
use hax_core::machine::{Input, Machine, Output};
use hax_core::net as tcp;
use hax_core::{exec, fifo};

use super::choice::Choice;
use super::event::{S, Who};
use super::replay::{JournalError, Opened};
use super::swarm::Odds;
use super::{Violation, World};
use crate::consul::Consul;
use crate::exec::Program;
use crate::fifo::{ClientId, PipeOutcome};
use crate::stream::StreamEvent;

/// How long the parts of a run last, in µs of the world's time.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The longest that faults last.
    pub faults: u64,
    /// Within this everything rests once nothing goes wrong any more.
    pub rest_within: u64,
    /// How often it is looked whether it is a rest: later than the longest pause between two tries.
    pub look_every: u64,
    /// How long a rest is watched for its quiet.
    pub quiet: u64,
    /// What a stop takes beyond the time that a machine has for what it began.
    pub leave: u64,
}

impl Times {
    /// What suits machines that try again within seconds.
    pub const SHORT: Self = Self {
        faults: 120 * S,
        rest_within: 60 * S,
        look_every: 5 * S,
        quiet: 5 * S,
        leave: 2 * S,
    };
}

/// What a cast's machine reports and puts out.
pub(super) type FactOf<C> = <<C as Cast>::Machine as Machine>::Fact;
pub(super) type OutputOf<C> = Output<FactOf<C>>;

/// What a world begins with.
pub struct Built<C> {
    /// Consul, loaded. Each machine under test has the agent of the same number.
    pub consul: Consul,
    /// How many machines are tested.
    pub nodes: usize,
    /// Everything else.
    pub cast: C,
}

/// One cast. What it does to the world it does through the [`World`] that it is handed: its own part is
/// `world.cast`.
pub trait Cast: Sized {
    /// Its name on the command line.
    const NAME: &'static str;
    /// What one of its machines is called in a trace.
    const NODE: &'static str = Self::NAME;
    /// How long the parts of a run last.
    const TIMES: Times = Times::SHORT;
    /// Facts that no seed can bring about, by their names, and why. All others must be reached.
    const UNREACHED: &'static [(&'static str, &'static str)] = &[];

    /// What many worlds may share: what takes long to make.
    type Stage: Default;
    /// What is drawn before a world begins.
    type Swarm: Clone + fmt::Display;
    /// The machine under test.
    type Machine: Machine;
    /// What happens besides what happens in every world.
    type Event;
    /// A planted bug.
    type Mutant: Copy + fmt::Debug + PartialEq;

    // ---- before it begins -------------------------------------------------------------------------

    /// Draws a swarm.
    fn draw(choice: &mut dyn Choice) -> Self::Swarm;

    /// What of it the engine needs.
    fn odds(swarm: &Self::Swarm) -> Odds;

    /// Builds what a world of this swarm begins with.
    fn build(stage: &mut Self::Stage, swarm: &Self::Swarm) -> Built<Self>;

    /// The world begins: machines are started, and whoever surrounds them.
    fn begin(world: &mut World<'_, Self>) {
        world.start_all();
    }

    // ---- the machines under test ------------------------------------------------------------------

    /// Makes a machine for a new life, and says where it listens.
    fn start(world: &mut World<'_, Self>, node: usize) -> Self::Machine;

    /// A machine has died.
    fn died(world: &mut World<'_, Self>, node: usize) {
        let _ = (world, node);
    }

    /// A machine asks Motr's library: there is none, unless the cast plays it.
    fn spiel(world: &mut World<'_, Self>, node: usize, call: spiel::Call) {
        let _ = (world, node, call);
    }

    /// What a helper does that a machine starts: there is no such program, unless the cast knows it.
    fn program(world: &mut World<'_, Self>, node: usize, spawn: &exec::Spawn) -> Program {
        let _ = (world, node, spawn);
        Program::missing()
    }

    /// A machine reports a fact.
    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &FactOf<Self>) {
        let _ = (world, node, fact);
    }

    /// So long a machine may take over its stop, in µs.
    fn drain(world: &World<'_, Self>) -> u64 {
        let _ = world;
        0
    }

    // ---- journals ---------------------------------------------------------------------------------

    /// The beginning of the journal of a machine that starts. A cast keeps none unless it has all three of
    /// these.
    fn journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        let _ = (world, node);
        Vec::new()
    }

    /// Appends one input to a journal.
    fn record(journal: &mut Vec<u8>, now: Now, input: &Input) {
        let _ = (journal, now, input);
    }

    /// Opens a journal.
    ///
    /// # Errors
    ///
    /// If it is no journal of this cast.
    fn open(journal: &[u8]) -> Result<Opened<'_, Self::Machine>, JournalError> {
        let _ = journal;
        Err(JournalError::NotAJournal)
    }

    // ---- what happens -----------------------------------------------------------------------------

    /// Something of the cast's own happens.
    fn on_event(world: &mut World<'_, Self>, event: Self::Event) {
        let _ = (world, event);
    }

    /// Something comes to a peer's connection.
    fn on_net(world: &mut World<'_, Self>, peer: usize, event: tcp::Event) {
        let _ = (world, peer, event);
    }

    /// Does one thing to the world, here one that may befall any machine. Gives how long nothing else is done
    /// to it, in ms.
    fn act(world: &mut World<'_, Self>) -> u64 {
        world.befall()
    }

    /// Something happens to a helper. Its machine hears of it now, or once it goes on.
    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        let _ = (world, node, event);
    }

    /// A helper does what its [`program`](Self::program) calls an act.
    fn on_helper_act(world: &mut World<'_, Self>, node: usize, helper: ExecId, act: u32) {
        let _ = (world, node, helper, act);
    }

    /// A node has lost its power, and its disk what was not taken to it.
    fn power_lost(world: &mut World<'_, Self>, node: usize) {
        let _ = (world, node);
    }

    /// Another writer comes just before a write of a machine under test.
    fn write_beside(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Consul is about to hold again what it held once.
    fn on_restore(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// What was broken is put right, so that everything can come to rest.
    fn put_right(world: &mut World<'_, Self>) {
        world.mend_agents();
    }

    /// All of the cast who are to be there come back.
    fn heal(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Everything is healed, and it is time to look again whether it rests.
    fn nudge(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// A few words for what passes over a connection.
    fn describe(bytes: &bytes::Bytes) -> String {
        format!("{} bytes", bytes.len())
    }

    // ---- the rules --------------------------------------------------------------------------------

    /// A machine takes an input.
    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        let _ = (world, node, input);
    }

    /// A machine took an input: this comes of it.
    fn on_step(
        world: &mut World<'_, Self>,
        node: usize,
        out: &[OutputOf<Self>],
        machine: &Self::Machine,
    ) {
        let _ = (world, node, out, machine);
    }

    /// A machine or a peer writes to a connection.
    fn on_write(world: &mut World<'_, Self>, who: Who, bytes: &bytes::Bytes) {
        let _ = (world, who, bytes);
    }

    /// Consul has worked a write: of a machine under test, or of somebody else.
    fn on_consul_write(world: &mut World<'_, Self>, by: Option<usize>, body: &[u8]) {
        let _ = (world, by, body);
    }

    /// A call of a machine has its reply.
    fn on_reply(world: &mut World<'_, Self>, node: usize, call: CallId) {
        let _ = (world, node, call);
    }

    /// A watch's post reaches a machine.
    fn on_post(world: &mut World<'_, Self>, node: usize, path: &str) {
        let _ = (world, node, path);
    }

    /// A request reaches the host of a machine.
    fn on_request(world: &mut World<'_, Self>, node: usize, request: &http::Request) {
        let _ = (world, node, request);
    }

    /// A machine answers a request that no watch has made.
    fn on_response(world: &mut World<'_, Self>, node: usize, response: &http::Response) {
        let _ = (world, node, response);
    }

    /// A client hears something of an answer that stays open.
    fn on_stream_event(
        world: &mut World<'_, Self>,
        node: usize,
        answer: HttpId,
        heard: &StreamEvent,
    ) {
        let _ = (world, node, answer, heard);
    }

    /// A client's request is about to reach a machine over named pipes.
    fn on_asked(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        request: &fifo::Request,
    ) {
        let _ = (world, node, client, request);
    }

    /// This is what a client over named pipes comes to.
    fn on_pipe_outcome(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        outcome: &PipeOutcome,
    ) {
        let _ = (world, node, client, outcome);
    }

    /// How often each of those who listen was told something: at rest it stays as it is.
    fn heard(world: &World<'_, Self>) -> Vec<u64> {
        let _ = world;
        Vec::new()
    }

    /// Why it is not a rest yet.
    fn unrest(world: &World<'_, Self>) -> Option<String> {
        let _ = world;
        None
    }

    /// What must hold at rest.
    ///
    /// # Errors
    ///
    /// If it does not.
    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        let _ = world;
        Ok(())
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    /// All bugs that can be planted.
    fn mutants() -> Vec<Self::Mutant> {
        Vec::new()
    }

    /// Plants a bug where it is not in the host's way, or none.
    fn plant(mutant: Option<Self::Mutant>) {
        let _ = mutant;
    }

    /// What a machine with a bug puts out instead.
    fn mutate(
        world: &mut World<'_, Self>,
        mutant: Self::Mutant,
        out: &mut Vec<OutputOf<Self>>,
        next: Next,
    ) -> Next {
        let _ = (world, mutant, out);
        next
    }

    /// What a machine with a bug gives after its exit instead.
    fn mutate_exit(mutant: Self::Mutant, next: Next) -> Next {
        let _ = mutant;
        next
    }
}
