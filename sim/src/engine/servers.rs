//! What befalls Consul's servers and their agents in any world.

use super::World;
use super::cast::Cast;
use super::event::Ev;
use crate::consul::ELECTION;

impl<C: Cast> World<'_, C> {
    /// Consul has no leader for so many µs.
    pub(crate) fn behead(&mut self, lasts: u64) {
        let until = self.sim.now() + lasts;
        self.consul.headless_until = until;
        self.at_consul(|double, now, out| double.set_leader(now, false, out));
        self.sim.push(until, Ev::Head);
    }

    /// Consul has a leader again, unless it has lost it for longer.
    pub(super) fn head(&mut self) {
        if self.consul.headless_until <= self.sim.now() {
            self.at_consul(|double, now, out| double.set_leader(now, true, out));
        }
    }

    /// The servers elect another leader, unless they have none anyway.
    pub(crate) fn servers_elect(&mut self) {
        if self.consul.double.has_leader() {
            self.at_consul(|double, now, out| double.elect(now, ELECTION, out));
        }
    }

    /// Nothing passes between an agent and the servers any more.
    pub(crate) fn cut_agent(&mut self, agent: usize) {
        self.sim.say(|| format!("the agent of node {agent} is cut off"));
        self.at_consul(|double, now, out| double.cut(now, agent, out));
    }

    /// An agent that was cut off finds the servers.
    pub(crate) fn mend_agent(&mut self, agent: usize) {
        if self.consul.double.is_cut(agent) {
            self.sim.say(|| format!("the agent of node {agent} finds the servers"));
            self.at_consul(|double, now, out| double.mend(now, agent, out));
        }
    }

    /// An agent leaves the cluster.
    pub(crate) fn leave_cluster(&mut self, agent: usize) {
        self.sim.say(|| format!("the agent of node {agent} leaves the cluster"));
        self.at_consul(|double, now, out| double.leave(now, agent, out));
        C::on_consul_write(self, None, &[]);
        self.break_calls_of(agent);
    }

    /// An agent starts anew under another name. The old one lingers. False if there is nobody to tell.
    pub(crate) fn rename_agent(&mut self, agent: usize, name: &str) -> bool {
        let away = self.consul.double.is_cut(agent) || self.consul.double.has_left(agent);
        if away || !self.consul.double.has_leader() {
            return false;
        }
        self.sim.say(|| format!("the agent of node {agent} is called {name}"));
        self.at_consul(|double, now, out| double.rename(now, agent, name, out));
        C::on_consul_write(self, None, &[]);
        self.break_calls_of(agent);
        true
    }

    /// What Consul holds is written down, or is again what was written down before. The cast is told just
    /// before that.
    pub(crate) fn restore(&mut self) {
        let Some(saved) = self.consul.saved.take() else {
            self.consul.saved = Some(self.consul.double.snapshot());
            return;
        };
        if self.consul.double.has_leader() {
            self.sim.say(|| "a snapshot is restored".into());
            C::on_restore(self);
            self.at_consul(|double, now, out| double.restore(now, &saved, out));
            C::on_consul_write(self, None, &[]);
        }
    }

    /// The token of a node may do all, or is not known any more, or may not read what is below one of three
    /// paths of the API.
    pub(crate) fn change_token(&mut self, hidden: [&str; 3]) {
        let node = self.sim.index(self.hosts.len());
        match self.sim.index(2 + hidden.len()) {
            0 => self.token(node).mend(),
            1 => {
                self.sim.say(|| format!("the token of {} {node} is revoked", C::NODE));
                self.token(node).revoke();
            }
            n => {
                let path = hidden[n - 2];
                self.sim.say(|| {
                    format!("the token of {} {node} may not read {path} any more", C::NODE)
                });
                self.token(node).hide(path);
            }
        }
    }
}
