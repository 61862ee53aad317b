//! The interface of a cast: the machines under test, the parties around them, the faults that can occur, and
//! the rules that must hold in spite of them.

use std::fmt;

use hax_core::base::id::{CallId, ExecId, HttpId};
use hax_core::base::time::Next;
use hax_core::ha::spiel;
use hax_core::http::port as http;
use hax_core::keeper::port as keeper;
use hax_core::machine::{Input, Machine, Output};
use hax_core::net as tcp;
use hax_core::{exec, fifo};

use super::choice::Choice;
use super::event::{Party, S};
use super::replay::{JournalError, Opened};
use super::swarm::Odds;
use super::{Violation, World};
use crate::consul::Consul;
use crate::exec::Program;
use crate::fifo::{ClientId, PipeOutcome};
use crate::stream::StreamEvent;

/// The durations of the parts of a run, in µs of virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The maximum duration of the faults.
    pub faults: u64,
    /// The time limit for reaching rest after the last fault.
    pub rest_timeout: u64,
    /// The interval between two checks for rest. It is longer than the longest pause between two retries.
    pub check_interval: u64,
    /// The observation time of a rest. The world must stay quiet for it.
    pub quiet: u64,
    /// The additional time for a stop, beyond the machine's time for its pending work.
    pub stop_margin: u64,
}

impl Times {
    /// The durations for machines with retries within seconds.
    pub const SHORT: Self = Self {
        faults: 120 * S,
        rest_timeout: 60 * S,
        check_interval: 5 * S,
        quiet: 5 * S,
        stop_margin: 2 * S,
    };
}

/// The facts and outputs of a cast's machine.
pub(super) type FactOf<C> = <<C as Cast>::Machine as Machine>::Fact;
pub(super) type OutputOf<C> = Output<FactOf<C>>;

/// The initial state of a world.
pub struct Built<C> {
    /// Consul with its data. Each machine under test has the agent of the same number.
    pub consul: Consul,
    /// The number of machines under test.
    pub nodes: usize,
    /// The cast itself.
    pub cast: C,
}

/// A cast of a world. It acts on the world through the [`World`] that it receives; its own state is
/// `world.cast`.
pub trait Cast: Sized {
    /// The name of the cast on the command line.
    const NAME: &'static str;
    /// The name of one of its machines in a trace.
    const NODE: &'static str = Self::NAME;
    /// The durations of the parts of a run.
    const TIMES: Times = Times::SHORT;
    /// The names of the facts beyond the reach of any seed, each with the reason. All other facts must be
    /// reached.
    const UNREACHED: &'static [(&'static str, &'static str)] = &[];

    /// The shared state of many worlds. It takes long to build.
    type Cache: Default;
    /// The drawn configuration of a world.
    type Swarm: Clone + fmt::Display;
    /// The machine under test.
    type Machine: Machine;
    /// The events of this cast, in addition to the events of every world.
    type Event;
    /// A planted bug.
    type Mutant: Copy + fmt::Debug + PartialEq;

    // ---- before the beginning ---------------------------------------------------------------------

    /// Draws a swarm.
    fn draw(choice: &mut dyn Choice) -> Self::Swarm;

    /// Returns the engine's part of the swarm.
    fn odds(swarm: &Self::Swarm) -> Odds;

    /// Builds the initial state of a world of this swarm.
    fn build(cache: &mut Self::Cache, swarm: &Self::Swarm) -> Built<Self>;

    /// Begins the world: starts the machines and the parties around them.
    fn begin(world: &mut World<'_, Self>) {
        world.start_all();
    }

    // ---- the machines under test ------------------------------------------------------------------

    /// Creates a machine for a new life and registers its listening address.
    fn start(world: &mut World<'_, Self>, node: usize) -> Self::Machine;

    /// Handles the death of a machine.
    fn on_death(world: &mut World<'_, Self>, node: usize) {
        let _ = (world, node);
    }

    /// Handles a machine's call to Motr's library. There is no such library, unless the cast simulates it.
    fn on_spiel_call(world: &mut World<'_, Self>, node: usize, call: spiel::Call) {
        let _ = (world, node, call);
    }

    /// Handles a machine's request to the keeper of its node. There is no keeper, unless the cast has one.
    fn on_keeper(world: &mut World<'_, Self>, node: usize, command: keeper::Command) {
        world.refuse_keeper(node, &command);
    }

    /// Returns the behavior of a helper at its start by a machine. There is no such program, unless the cast
    /// knows it.
    fn program(world: &mut World<'_, Self>, node: usize, spawn: &exec::Spawn) -> Program {
        let _ = (world, node, spawn);
        Program::missing()
    }

    /// Observes a reported fact of a machine.
    fn on_fact(world: &mut World<'_, Self>, node: usize, fact: &FactOf<Self>) {
        let _ = (world, node, fact);
    }

    /// Returns a machine's time limit for its stop, in µs.
    fn drain_time(world: &World<'_, Self>) -> u64 {
        let _ = world;
        0
    }

    // ---- journals ---------------------------------------------------------------------------------

    /// Returns the beginning of the journal of a starting machine. A cast without this keeps no journals.
    fn begin_journal(world: &World<'_, Self>, node: usize) -> Vec<u8> {
        let _ = (world, node);
        Vec::new()
    }

    /// Opens a journal.
    ///
    /// # Errors
    ///
    /// If it is not a journal of this cast.
    fn open_journal(journal: &[u8]) -> Result<Opened<'_, Self::Machine>, JournalError> {
        let _ = journal;
        Err(JournalError::NotAJournal)
    }

    // ---- events -----------------------------------------------------------------------------------

    /// Handles an event of the cast.
    fn on_event(world: &mut World<'_, Self>, event: Self::Event) {
        let _ = (world, event);
    }

    /// Handles an event of a peer's connection.
    fn on_net(world: &mut World<'_, Self>, peer: usize, event: tcp::Event) {
        let _ = (world, peer, event);
    }

    /// Performs one act on the world. The default is an act that fits any machine. Returns the pause until
    /// the next act, in ms.
    fn act(world: &mut World<'_, Self>) -> u64 {
        world.default_act()
    }

    /// Observes an event of a helper. Its machine receives the event now, or once it is no longer frozen.
    fn on_helper(world: &mut World<'_, Self>, node: usize, event: &exec::Event) {
        let _ = (world, node, event);
    }

    /// Handles an act of a helper, as listed in its [`program`](Self::program).
    fn on_helper_act(world: &mut World<'_, Self>, node: usize, helper: ExecId, act: u32) {
        let _ = (world, node, helper, act);
    }

    /// Handles a loss of power of a node. Its disk has lost data that was not synced.
    fn on_power_loss(world: &mut World<'_, Self>, node: usize) {
        let _ = (world, node);
    }

    /// Makes another writer write just before a write of a machine under test.
    fn write_concurrently(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Prepares for the restore of an earlier state of Consul.
    fn on_restore(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Repairs all damage, so that the world can come to rest.
    fn repair(world: &mut World<'_, Self>) {
        world.reconnect_agents();
    }

    /// Brings back all required members of the cast.
    fn heal(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Acts before each check for rest, after everything is healed.
    fn nudge(world: &mut World<'_, Self>) {
        let _ = world;
    }

    /// Describes bytes on a connection in a few words.
    fn describe(bytes: &bytes::Bytes) -> String {
        format!("{} bytes", bytes.len())
    }

    // ---- the rules --------------------------------------------------------------------------------

    /// Observes an input of a machine.
    fn on_input(world: &mut World<'_, Self>, node: usize, input: &Input) {
        let _ = (world, node, input);
    }

    /// Observes the result of a machine's input.
    fn on_step(
        world: &mut World<'_, Self>,
        node: usize,
        out: &[OutputOf<Self>],
        machine: &Self::Machine,
    ) {
        let _ = (world, node, out, machine);
    }

    /// Observes a write of a machine or a peer to a connection.
    fn on_write(world: &mut World<'_, Self>, who: Party, bytes: &bytes::Bytes) {
        let _ = (world, who, bytes);
    }

    /// Observes a completed write at Consul. `by` is the machine under test, or none for another writer.
    fn on_consul_write(world: &mut World<'_, Self>, by: Option<usize>, body: &[u8]) {
        let _ = (world, by, body);
    }

    /// Observes the reply to a machine's call.
    fn on_reply(world: &mut World<'_, Self>, node: usize, call: CallId) {
        let _ = (world, node, call);
    }

    /// Observes the arrival of a watch's post at a machine.
    fn on_post(world: &mut World<'_, Self>, node: usize, path: &str) {
        let _ = (world, node, path);
    }

    /// Observes the arrival of a request at the host of a machine.
    fn on_request(world: &mut World<'_, Self>, node: usize, request: &http::Request) {
        let _ = (world, node, request);
    }

    /// Observes a machine's response to a client. Responses to watches are excluded.
    fn on_response(world: &mut World<'_, Self>, node: usize, response: &http::Response) {
        let _ = (world, node, response);
    }

    /// Observes an event of a streaming response at its client.
    fn on_stream_event(
        world: &mut World<'_, Self>,
        node: usize,
        answer: HttpId,
        heard: &StreamEvent,
    ) {
        let _ = (world, node, answer, heard);
    }

    /// Observes a client's request just before it reaches a machine over named pipes.
    fn on_pipe_request(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        request: &fifo::Request,
    ) {
        let _ = (world, node, client, request);
    }

    /// Observes the outcome of a client over named pipes.
    fn on_pipe_outcome(
        world: &mut World<'_, Self>,
        node: usize,
        client: ClientId,
        outcome: &PipeOutcome,
    ) {
        let _ = (world, node, client, outcome);
    }

    /// Returns the number of notifications of each listener. At rest the numbers stay the same.
    fn notification_counts(world: &World<'_, Self>) -> Vec<u64> {
        let _ = world;
        Vec::new()
    }

    /// Returns the reason why the world is not at rest yet.
    fn busy_reason(world: &World<'_, Self>) -> Option<String> {
        let _ = world;
        None
    }

    /// Checks the rules for a world at rest.
    ///
    /// # Errors
    ///
    /// If a rule does not hold.
    fn at_rest(world: &World<'_, Self>) -> Result<(), Violation> {
        let _ = world;
        Ok(())
    }

    // ---- planted bugs -----------------------------------------------------------------------------

    /// Returns all plantable bugs.
    fn mutants() -> Vec<Self::Mutant> {
        Vec::new()
    }

    /// Plants a bug inside the machine, or none. Bugs between the machine and its host are planted elsewhere.
    fn plant(mutant: Option<Self::Mutant>) {
        let _ = mutant;
    }

    /// Replaces the outputs of a machine with a bug.
    fn mutate(
        world: &mut World<'_, Self>,
        mutant: Self::Mutant,
        out: &mut Vec<OutputOf<Self>>,
        next: Next,
    ) -> Next {
        let _ = (world, mutant, out);
        next
    }

    /// Replaces the result of a machine with a bug after its exit.
    fn mutate_exit(mutant: Self::Mutant, next: Next) -> Next {
        let _ = mutant;
        next
    }
}
