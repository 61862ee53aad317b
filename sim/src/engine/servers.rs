//! Faults of Consul's servers and their agents in any world.

use bytes::Bytes;
use hax_core::consul::port;

use super::World;
use super::calls::answer_of;
use super::cast::Cast;
use super::event::Ev;
use crate::consul::{ELECTION, Output, Request};

impl<C: Cast> World<'_, C> {
    /// Takes the leader from Consul for `lasts` µs.
    pub(crate) fn drop_leader(&mut self, lasts: u64) {
        let until = self.sim.now() + lasts;
        self.consul.leaderless_until = until;
        self.with_consul(|double, now, out| double.set_leader(now, false, out));
        self.sim.push(until, Ev::RestoreLeader);
    }

    /// Gives Consul a leader again, unless it is to have none for longer.
    pub(super) fn restore_leader(&mut self) {
        if self.consul.leaderless_until <= self.sim.now() {
            self.with_consul(|double, now, out| double.set_leader(now, true, out));
        }
    }

    /// Makes the servers elect another leader, unless they have no leader at all.
    pub(crate) fn elect_server(&mut self) {
        if self.consul.double.has_leader() {
            self.with_consul(|double, now, out| double.elect(now, ELECTION, out));
        }
    }

    /// Cuts the connection between an agent and the servers.
    pub(crate) fn disconnect_agent(&mut self, agent: usize) {
        self.sim.log(|| format!("the agent of node {agent} is cut off"));
        self.with_consul(|double, now, out| double.disconnect(now, agent, out));
    }

    /// Reconnects an agent to the servers if it was cut off.
    pub(crate) fn reconnect_agent(&mut self, agent: usize) {
        if self.consul.double.is_disconnected(agent) {
            self.sim.log(|| format!("the agent of node {agent} finds the servers"));
            self.with_consul(|double, now, out| double.reconnect(now, agent, out));
        }
    }

    /// Makes an agent leave the cluster.
    pub(crate) fn leave_cluster(&mut self, agent: usize) {
        self.sim.log(|| format!("the agent of node {agent} leaves the cluster"));
        self.with_consul(|double, now, out| double.leave(now, agent, out));
        C::on_consul_write(self, None, &[]);
        self.break_calls_of(agent);
    }

    /// Restarts an agent under another name. The old name remains in the catalog. Returns false if the agent
    /// cannot reach a leader.
    pub(crate) fn rename_agent(&mut self, agent: usize, name: &str) -> bool {
        let away = self.consul.double.is_disconnected(agent) || self.consul.double.has_left(agent);
        if away || !self.consul.double.has_leader() {
            return false;
        }
        self.sim.log(|| format!("the agent of node {agent} is called {name}"));
        self.with_consul(|double, now, out| double.rename(now, agent, name, out));
        C::on_consul_write(self, None, &[]);
        self.break_calls_of(agent);
        true
    }

    /// Takes a snapshot of Consul, or restores the last snapshot. The cast is notified just before a restore.
    pub(crate) fn snapshot_or_restore(&mut self) {
        let Some(snapshot) = self.consul.snapshot.take() else {
            self.consul.snapshot = Some(self.consul.double.snapshot());
            return;
        };
        if self.consul.double.has_leader() {
            self.sim.log(|| "a snapshot is restored".into());
            C::on_restore(self);
            self.with_consul(|double, now, out| double.restore(now, &snapshot, out));
            C::on_consul_write(self, None, &[]);
        }
    }

    /// Changes a node's token. The token permits everything, or it is unknown, or it may not read below one
    /// of three API paths.
    pub(crate) fn change_token(&mut self, hidden: [&str; 3]) {
        let node = self.sim.index(self.hosts.len());
        match self.sim.index(2 + hidden.len()) {
            0 => self.token(node).restore(),
            1 => {
                self.sim.log(|| format!("the token of {} {node} is revoked", C::NODE));
                self.token(node).revoke();
            }
            n => {
                let path = hidden[n - 2];
                self.sim.log(|| {
                    format!("the token of {} {node} may not read {path} any more", C::NODE)
                });
                self.token(node).hide(path);
            }
        }
    }

    /// Loses all messages between a node and its agent for `lasts` µs.
    pub(crate) fn cut_from_agent(&mut self, node: usize, lasts: u64) {
        self.sim.log(|| format!("{} {node} does not reach its agent", C::NODE));
        self.consul.apart_until.insert(node, self.sim.now() + lasts);
    }

    /// Returns whether no message passes between a node and its agent.
    pub(super) fn is_apart(&self, node: usize) -> bool {
        self.consul.apart_until.get(&node).is_some_and(|until| self.sim.now() < *until)
    }

    /// Sends a request of another program on a node, such as a helper. Returns the response, if it comes at
    /// once. A request without one may still be carried out later.
    pub(crate) fn ask_consul(
        &mut self,
        node: usize,
        (method, target): (&str, &str),
        body: impl Into<Bytes>,
    ) -> Option<port::Answer> {
        if self.is_apart(node) || self.sim.now() < self.consul.down_until {
            return None;
        }
        self.consul.last_request += 1;
        let mut request = Request::new(self.consul.last_request, method, target, body);
        request.agent = node;
        let id = request.id;
        let (now, mut out) = (self.sim.clocks(), Vec::new());
        let next = self.consul.double.handle(now, request, &mut out);
        let is_its = |output: &Output| match output {
            Output::Response(response) => response.id == id,
            Output::Retry(_) | Output::Post(_) => false,
        };
        let found = out.iter().position(is_its).map(|at| out.remove(at));
        C::on_consul_write(self, None, &[]);
        self.after_consul(out, next);
        match found {
            Some(Output::Response(response)) => Some(answer_of(&response)),
            _ => None,
        }
    }
}
