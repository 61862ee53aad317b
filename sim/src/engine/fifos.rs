//! The machines' clients over named pipes.

use std::collections::BTreeSet;

use bytes::Bytes;
use hax_core::fifo::{self, Response};
use hax_core::machine::Input;

use super::cast::Cast;
use super::event::Ev;
use super::{Violation, World};
use crate::fifo::{Behavior, ClientId, Happening, PipeOutcome, Pipes};

/// The clients of one host.
#[derive(Debug)]
pub(super) struct Piping {
    double: Pipes,
    /// The clients with a right to an answer as long as their server lives.
    owed: BTreeSet<ClientId>,
    wake: u64,
}

impl Piping {
    pub(super) fn new(clients_max: usize) -> Self {
        Self { double: Pipes::new(clients_max), owed: BTreeSet::new(), wake: u64::MAX }
    }

    /// Makes a daemon serve from now on.
    pub(super) fn serve(&mut self) {
        self.double.serve();
    }

    /// Returns a waiting client.
    pub(super) fn waiting(&self) -> Option<ClientId> {
        self.double.waiting().next()
    }
}

impl<C: Cast> World<'_, C> {
    /// Sends a client's request to a machine over named pipes.
    pub(crate) fn ask_over_pipes(&mut self, i: usize, body: &[u8], behavior: Behavior) -> ClientId {
        let is_owed = self.hosts[i].is_up() && behavior.is_in_time(body.len() + fifo::LENGTH);
        let id = self.write_to_pipes(i, fifo::frame(body).into(), behavior);
        if is_owed {
            self.hosts[i].piping.owed.insert(id);
        }
        id
    }

    /// Makes a client write arbitrary bytes.
    pub(crate) fn write_to_pipes(
        &mut self,
        i: usize,
        bytes: Bytes,
        behavior: Behavior,
    ) -> ClientId {
        self.clients += 1;
        let (id, now) = (ClientId(self.clients), self.sim.clocks().mono);
        self.sim.say(|| format!("{id:?} of {} {i}: {} bytes, {behavior:?}", C::NODE, bytes.len()));
        self.hosts[i].piping.double.come(now, id, bytes, behavior);
        self.wake_for_pipes(i);
        id
    }

    pub(super) fn on_fifo(&mut self, i: usize, response: &Response) {
        let now = self.sim.clocks().mono;
        self.hosts[i].piping.double.respond(now, response);
        self.wake_for_pipes(i);
    }

    fn wake_for_pipes(&mut self, i: usize) {
        let piping = &mut self.hosts[i].piping;
        let Some(at) = piping.double.next_at() else { return };
        let at = at.as_micros().max(self.sim.now());
        if at != piping.wake {
            piping.wake = at;
            self.sim.push(at, Ev::Pipes(i));
        }
    }

    /// Processes all due events of a host's clients.
    pub(super) fn tick_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].piping.wake = u64::MAX;
        while let Some(happening) = self.hosts[i].piping.double.pop(now) {
            match happening {
                Happening::Asked(client, request) => {
                    C::on_asked(self, i, client, &request);
                    self.feed(i, Input::Fifo(request));
                }
                Happening::Answered(client, body) => {
                    self.come_to(i, client, &PipeOutcome::Answered(body));
                }
                Happening::Ended(client) => self.come_to(i, client, &PipeOutcome::Ended),
                Happening::Died(client) => self.come_to(i, client, &PipeOutcome::Died),
            }
        }
        self.wake_for_pipes(i);
    }

    fn come_to(&mut self, i: usize, client: ClientId, outcome: &PipeOutcome) {
        self.sim.say(|| format!("{client:?} of {} {i}: {outcome:?}", C::NODE));
        let is_owed = self.hosts[i].piping.owed.remove(&client);
        if is_owed && !matches!(outcome, PipeOutcome::Answered(_)) {
            let rule = "a client over pipes is answered while its server lives";
            self.sim.check(Violation::of(rule, format!("{} {i}: {client:?}", C::NODE)));
        }
        C::on_pipe_outcome(self, i, client, outcome);
    }

    /// Makes slow clients fast.
    pub(super) fn behave_at_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].piping.double.behave(now);
        self.wake_for_pipes(i);
    }

    /// Handles the exit of a machine: the clients read its answers.
    pub(super) fn finish_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].piping.double.machine_exited(now);
    }

    /// Handles the death of a machine: its clients see the end.
    pub(super) fn break_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        let piping = &mut self.hosts[i].piping;
        piping.owed.clear();
        piping.double.daemon_gone(now);
        self.wake_for_pipes(i);
    }
}
