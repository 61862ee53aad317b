//! The machines' clients over named pipes.

use std::collections::BTreeSet;

use bytes::Bytes;
use hax_core::fifo::{self, Response};
use hax_core::machine::Input;

use super::cast::Cast;
use super::event::Ev;
use super::{Violation, World};
use crate::fifo::{Behavior, ClientId, PipeOutcome, Pipes, SimEvent};

/// The clients of one host.
#[derive(Debug)]
pub(super) struct PipeHost {
    double: Pipes,
    /// The clients with a right to an answer as long as their server lives.
    pending: BTreeSet<ClientId>,
    wake: u64,
}

impl PipeHost {
    pub(super) fn new(clients_max: usize) -> Self {
        Self { double: Pipes::new(clients_max), pending: BTreeSet::new(), wake: u64::MAX }
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
    pub(crate) fn request_over_pipes(
        &mut self,
        i: usize,
        body: &[u8],
        behavior: Behavior,
    ) -> ClientId {
        let is_owed = self.hosts[i].is_up() && behavior.is_in_time(body.len() + fifo::LENGTH);
        let id = self.write_to_pipes(i, fifo::frame(body).into(), behavior);
        if is_owed {
            self.hosts[i].pipe_host.pending.insert(id);
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
        self.sim.log(|| format!("{id:?} of {} {i}: {} bytes, {behavior:?}", C::NODE, bytes.len()));
        self.hosts[i].pipe_host.double.add_client(now, id, bytes, behavior);
        self.wake_for_pipes(i);
        id
    }

    pub(super) fn on_fifo(&mut self, i: usize, response: &Response) {
        let now = self.sim.clocks().mono;
        self.hosts[i].pipe_host.double.respond(now, response);
        self.wake_for_pipes(i);
    }

    fn wake_for_pipes(&mut self, i: usize) {
        let pipe_host = &mut self.hosts[i].pipe_host;
        let Some(at) = pipe_host.double.next_at() else { return };
        let at = at.as_micros().max(self.sim.now());
        if at != pipe_host.wake {
            pipe_host.wake = at;
            self.sim.push(at, Ev::Pipes(i));
        }
    }

    /// Processes all due events of a host's clients.
    pub(super) fn tick_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].pipe_host.wake = u64::MAX;
        while let Some(happening) = self.hosts[i].pipe_host.double.pop(now) {
            match happening {
                SimEvent::Asked(client, request) => {
                    C::on_pipe_request(self, i, client, &request);
                    self.feed(i, Input::Fifo(request));
                }
                SimEvent::Answered(client, body) => {
                    self.on_client_outcome(i, client, &PipeOutcome::Answered(body));
                }
                SimEvent::Ended(client) => self.on_client_outcome(i, client, &PipeOutcome::Ended),
                SimEvent::Died(client) => self.on_client_outcome(i, client, &PipeOutcome::Died),
            }
        }
        self.wake_for_pipes(i);
    }

    fn on_client_outcome(&mut self, i: usize, client: ClientId, outcome: &PipeOutcome) {
        self.sim.log(|| format!("{client:?} of {} {i}: {outcome:?}", C::NODE));
        let is_owed = self.hosts[i].pipe_host.pending.remove(&client);
        if is_owed && !matches!(outcome, PipeOutcome::Answered(_)) {
            let rule = "a client over pipes is answered while its server lives";
            self.sim.check(Violation::of(rule, format!("{} {i}: {client:?}", C::NODE)));
        }
        C::on_pipe_outcome(self, i, client, outcome);
    }

    /// Makes slow clients fast.
    pub(super) fn end_pipe_faults(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].pipe_host.double.end_faults(now);
        self.wake_for_pipes(i);
    }

    /// Handles the exit of a machine: the clients read its answers.
    pub(super) fn finish_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        self.hosts[i].pipe_host.double.machine_exited(now);
    }

    /// Handles the death of a machine: its clients see the end.
    pub(super) fn break_pipes(&mut self, i: usize) {
        let now = self.sim.clocks().mono;
        let pipe_host = &mut self.hosts[i].pipe_host;
        pipe_host.pending.clear();
        pipe_host.double.daemon_killed(now);
        self.wake_for_pipes(i);
    }
}
