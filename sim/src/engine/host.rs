//! The hosts of the machines under test. Each host feeds its machine and carries out its outputs. It may die
//! or freeze at any step.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hax_core::base::fact::Report as _;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::time::Next;
use hax_core::http::{self, port::Trust};
use hax_core::journal;
use hax_core::keeper::port::{Command, Event, Unanswered};
use hax_core::machine::{Input, Machine as _, Output};

use super::calls::PendingCall;
use super::cast::{Cast, OutputOf};
use super::disks::DiskHost;
use super::event::{Ev, Party, S};
use super::fifos::PipeHost;
use super::helpers::HelperHost;
use super::kept_state::KeptState;
use super::pending::PendingAnswers;
use super::streams::StreamHost;
use super::swarm::Odds;
use super::{World, rules};

/// A machine under test and the state of its host.
pub(crate) struct Host<M> {
    /// The machine, or none while it is down.
    machine: Option<Box<M>>,
    pub(super) life: u32,
    wake: u64,
    /// The calls to Consul without a reply.
    pub(super) calls: BTreeMap<CallId, PendingCall>,
    /// The abandoned calls. Their replies still arrive.
    pub(super) abandoned_calls: BTreeSet<CallId>,
    /// The HTTP requests without a response, each with its waiting watch.
    pub(super) http_requests: BTreeMap<HttpId, Option<u64>>,
    pub(super) next_http: HttpId,
    pub(super) helper_host: HelperHost,
    pub(super) disk_host: DiskHost,
    pub(super) stream_host: StreamHost,
    pub(super) pipe_host: PipeHost,
    /// The state for the machine's next life.
    pub(crate) kept_state: KeptState,
    /// The pending answers of the machine.
    pending: PendingAnswers,
    /// The number of further outputs before the machine's death.
    dies_after: Option<u64>,
    /// The end of the machine's freeze. It takes no input before.
    frozen_until: u64,
    /// The machine was told to stop.
    stopping: bool,
    /// The machine is not started again.
    pub(super) retired: bool,
    pub(super) journal: Vec<u8>,
}

impl<M> Host<M> {
    pub(super) fn new(odds: &Odds) -> Self {
        Self {
            machine: None,
            life: 0,
            wake: u64::MAX,
            calls: BTreeMap::new(),
            abandoned_calls: BTreeSet::new(),
            http_requests: BTreeMap::new(),
            next_http: HttpId(1),
            helper_host: HelperHost::default(),
            disk_host: DiskHost::default(),
            stream_host: StreamHost::new(odds.streams),
            pipe_host: PipeHost::new(odds.clients),
            kept_state: KeptState::default(),
            pending: PendingAnswers::default(),
            dies_after: None,
            frozen_until: 0,
            stopping: false,
            retired: false,
            journal: Vec::new(),
        }
    }

    /// Returns the machine, unless it is down.
    pub(crate) fn machine(&self) -> Option<&M> {
        self.machine.as_deref()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Returns the number of the current life.
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// Makes the machine die after this number of further outputs.
    pub(crate) fn die_after(&mut self, outputs: u64) {
        self.dies_after = Some(outputs);
    }

    pub(super) fn cancel_death(&mut self) {
        self.dies_after = None;
    }

    /// Marks the machine as stopping, by itself or by a command.
    pub(crate) fn mark_stopping(&mut self) {
        self.stopping = true;
    }
}

/// The client of an HTTP request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// A watch of the node's own agent, with its number while it waits for the response.
    Watch(Option<u64>),
    /// A client that may change something.
    Authorized,
    /// Any other client.
    Other,
}

impl<C: Cast> World<'_, C> {
    // ---- life -------------------------------------------------------------------------------------

    /// Starts all machines under test now.
    pub(crate) fn start_all(&mut self) {
        for node in 0..self.hosts.len() {
            self.start_after(node, 0);
        }
    }

    /// Starts a machine after `delay` µs.
    pub(crate) fn start_after(&mut self, node: usize, delay: u64) {
        self.sim.push(self.sim.now() + delay, Ev::Start(node));
    }

    pub(super) fn start(&mut self, i: usize) {
        if self.hosts[i].machine.is_some() || self.hosts[i].retired {
            return;
        }
        let machine = C::start(self, i);
        if self.keep_journals {
            self.hosts[i].journal = C::begin_journal(self, i);
        }
        let host = &mut self.hosts[i];
        host.machine = Some(Box::new(machine));
        host.wake = u64::MAX;
        host.stopping = false;
        host.dies_after = None;
        host.pipe_host.serve();
        self.sim.log(|| format!("{} {i} starts", C::NODE));
        self.feed(i, Input::Tick);
    }

    /// Kills a machine. None of its pending actions are carried out.
    pub(crate) fn kill(&mut self, i: usize) {
        if self.hosts[i].machine.take().is_none() {
            return;
        }
        self.sim.log(|| format!("{} {i} is dead", C::NODE));
        self.net.stop_listening(Party::Node(i));
        self.hosts[i].life += 1;
        self.hosts[i].frozen_until = 0;
        self.close_connections(Party::Node(i));
        let host = &mut self.hosts[i];
        host.abandoned_calls.clear();
        host.helper_host.daemon_killed();
        host.disk_host.daemon_killed();
        host.pending = PendingAnswers::default();
        let calls = std::mem::take(&mut host.calls);
        let watches: Vec<u64> =
            std::mem::take(&mut host.http_requests).into_values().flatten().collect();
        for flight in calls.into_values() {
            self.consul.double.cancel(flight.request);
        }
        for watch in watches {
            self.sim.push(self.sim.now(), Ev::PostDone(watch));
        }
        C::on_death(self, i);
        self.break_streams(i);
        self.break_pipes(i);
    }

    /// Tells a machine to stop.
    pub(crate) fn stop(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        if host.machine.is_some() && !host.stopping {
            host.mark_stopping();
            self.feed(i, Input::Stop);
        }
    }

    /// Freezes a machine: its inputs wait for `lasts` µs.
    pub(crate) fn freeze(&mut self, i: usize, lasts: u64) {
        // A frozen machine is not frozen again. Otherwise later inputs would overtake the waiting ones.
        if self.hosts[i].is_up() && !self.is_frozen(i) {
            self.sim.log(|| format!("{} {i} stands still", C::NODE));
            self.hosts[i].frozen_until = self.sim.now() + lasts;
        }
    }

    /// Returns whether a machine is frozen.
    pub(crate) fn is_frozen(&self, i: usize) -> bool {
        self.sim.now() < self.hosts[i].frozen_until
    }

    // ---- steps ------------------------------------------------------------------------------------

    pub(super) fn tick(&mut self, i: usize) {
        if self.hosts[i].wake <= self.sim.now() && self.hosts[i].machine.is_some() {
            self.hosts[i].wake = u64::MAX;
            self.feed(i, Input::Tick);
        }
    }

    /// Feeds a delayed input to a frozen machine.
    pub(super) fn thaw(&mut self, i: usize, life: u32, input: Input) {
        if self.hosts[i].life == life {
            self.feed(i, input);
        }
    }

    /// Feeds one input to a machine and carries out its outputs.
    pub(crate) fn feed(&mut self, i: usize, input: Input) {
        let Host { frozen_until, life, .. } = self.hosts[i];
        if self.sim.now() < frozen_until {
            return self.sim.push(frozen_until, Ev::Thaw(i, life, Box::new(input)));
        }
        let now = self.sim.clocks();
        let Some(mut machine) = self.hosts[i].machine.take() else { return };
        self.sim.trace.input(now.mono.as_micros(), C::NODE, i, &input);
        C::on_input(self, i, &input);
        self.sim.check(self.hosts[i].pending.on_input(&input));
        if !self.hosts[i].journal.is_empty() {
            journal::put(&mut self.hosts[i].journal, now, &input);
        }
        let mut out = std::mem::take(&mut self.out);
        let mut next = machine.handle(now, input, &mut out);
        if let Some(mutant) = self.mutant {
            next = C::mutate(self, mutant, &mut out, next);
        }
        self.sim.check(rules::deadline_is_later(now.mono.as_micros(), next));
        self.sim.check(self.hosts[i].pending.on_outputs(&out));
        C::on_step(self, i, &out, &machine);
        self.hosts[i].machine = Some(machine);
        for output in out.drain(..) {
            self.carry_out(i, output);
        }
        self.out = out;
        self.rearm(i, next);
    }

    fn carry_out(&mut self, i: usize, output: OutputOf<C>) {
        if self.hosts[i].machine.is_none() {
            return;
        }
        self.sim.trace.output(self.sim.now(), C::NODE, i, &output);
        self.execute(i, output);
        if let Some(left) = &mut self.hosts[i].dies_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.kill(i);
                let down = 1 + self.sim.choose(30);
                self.start_after(i, down * S);
            }
        }
    }

    fn execute(&mut self, i: usize, output: OutputOf<C>) {
        match output {
            Output::Net(command) => self.on_net(Party::Node(i), command),
            Output::Consul(command) => self.on_consul(i, command),
            Output::Http(response) => match self.hosts[i].http_requests.remove(&response.id) {
                Some(Some(watch)) => self.sim.push(self.sim.now(), Ev::PostDone(watch)),
                Some(None) | None => C::on_response(self, i, &response),
            },
            Output::Fact(fact) => {
                self.facts[fact.nth()] += 1;
                C::on_fact(self, i, &fact);
            }
            Output::Spiel(call) => C::on_spiel_call(self, i, call),
            Output::HttpStream(command) => self.on_stream(i, command),
            Output::Exec(command) => self.on_exec(i, command),
            Output::File(command) => self.on_file(i, command),
            Output::Fifo(response) => self.on_fifo(i, &response),
            Output::State(command) => self.hosts[i].kept_state.execute(command),
            Output::Keeper(command) => C::on_keeper(self, i, *command),
        }
    }

    /// Answers a request to the keeper of a node without one.
    pub(super) fn refuse_keeper(&mut self, i: usize, command: &Command) {
        let answered = Event::Answered { id: command.id, result: Err(Unanswered::NotSent) };
        let input = Box::new(Input::Keeper(answered));
        self.sim.push(self.sim.now(), Ev::Thaw(i, self.hosts[i].life, input));
    }

    fn rearm(&mut self, i: usize, next: Next) {
        let host = &mut self.hosts[i];
        if host.machine.is_none() {
            return;
        }
        match next {
            Next::Wait => host.wake = u64::MAX,
            Next::WaitUntil { at, .. } => {
                let at = at.as_micros();
                if at != host.wake {
                    host.wake = at;
                    self.sim.push(at.max(self.sim.now()), Ev::Tick(i));
                }
            }
            Next::Exit => self.on_exit(i),
        }
    }

    /// Checks that an exited machine gives no more outputs, whatever input it takes.
    fn on_exit(&mut self, i: usize) {
        let now = self.sim.clocks();
        let host = &mut self.hosts[i];
        if let Some(machine) = &mut host.machine {
            let mut out = Vec::new();
            let mut again = machine.handle(now, Input::Tick, &mut out);
            if let Some(mutant) = self.mutant {
                again = C::mutate_exit(mutant, again);
            }
            self.sim.check(rules::nothing_follows_exit(again, &out));
        }
        self.sim.log(|| format!("{} {i} has exited", C::NODE));
        self.sim.check(self.hosts[i].pending.on_exit());
        self.finish_streams(i);
        self.finish_pipes(i);
        self.kill(i);
        if !self.hosts[i].retired {
            self.start_after(i, 3 * S);
        }
    }

    // ---- HTTP -------------------------------------------------------------------------------------

    /// Delivers an HTTP request to a machine, if one is up.
    pub(crate) fn request(
        &mut self,
        i: usize,
        method: &str,
        target: &str,
        body: Bytes,
        client: Client,
    ) {
        let (watch, trust) = match client {
            Client::Watch(watch) => (watch, Trust::Local),
            Client::Authorized => (None, Trust::Authorized),
            Client::Other => (None, Trust::None),
        };
        if self.hosts[i].machine.is_none() {
            if let Some(watch) = watch {
                self.sim.push(self.sim.now(), Ev::PostDone(watch));
            }
            return;
        }
        let id = self.hosts[i].next_http.mint();
        self.hosts[i].http_requests.insert(id, watch);
        let (method, target) = (method.into(), target.into());
        let request = http::port::Request { id, method, target, body, trust };
        C::on_request(self, i, &request);
        self.feed(i, Input::Http(Box::new(request)));
    }
}
