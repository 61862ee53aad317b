//! What happens between Consul's servers and their agents.

use super::event::Ev;
use super::{Bridge, World};
use crate::consul::ELECTION;
use crate::engine::{Cast, S};

impl World<'_, Bridge> {
    /// Nothing passes between an agent and the servers any more, or it has left the cluster.
    pub(super) fn part(&mut self, agent: usize, leaves: bool) {
        self.doubt(|actor| actor.hax == agent);
        if leaves {
            self.sim.say(|| format!("the agent of node {agent} leaves the cluster"));
            self.at_consul(|double, now, out| double.leave(now, agent, out));
            <Bridge as Cast>::on_consul_write(self, None, &[]);
            self.break_calls_of(agent);
        } else {
            self.sim.say(|| format!("the agent of node {agent} is cut off"));
            self.at_consul(|double, now, out| double.cut(now, agent, out));
        }
    }

    /// An agent is one of the cluster again.
    pub(super) fn reunite(&mut self, agent: usize) {
        self.doubt(|actor| actor.hax == agent);
        if self.consul.double.is_cut(agent) {
            self.sim.say(|| format!("the agent of node {agent} finds the servers"));
            self.at_consul(|double, now, out| double.mend(now, agent, out));
        }
        if self.consul.double.has_left(agent) {
            self.set_agent(agent, true);
        }
    }

    /// An agent starts anew under another name, and looks at its processes a second later. The old name
    /// lingers, and its last word on each of them with it: nothing of that speaks against any process.
    pub(super) fn rename(&mut self, agent: usize) {
        let away = self.consul.double.is_cut(agent) || self.consul.double.has_left(agent);
        if away || !self.consul.double.has_leader() {
            return;
        }
        let name = format!("{}:{:08x}", self.cast.hax[agent].name, self.sim.steps());
        self.sim.say(|| format!("the agent of node {agent} is called {name}"));
        self.at_consul(|double, now, out| double.rename(now, agent, &name, out));
        <Bridge as Cast>::on_consul_write(self, None, &[]);
        self.break_calls_of(agent);
        // Nobody plays the check of hax itself: it passes.
        let own = format!("service:{}", self.cast.hax[agent].fid.key);
        self.at_consul(|double, now, out| double.set_check(now, agent, &own, "passing", "", out));
        for i in 0..self.cast.motr.len() {
            if self.cast.motr[i].hax == agent {
                self.sim.later(self.sim.now() + S, Ev::Check(i));
            }
        }
    }

    /// The servers elect another leader, unless they have none anyway.
    pub(super) fn servers_elect(&mut self) {
        if self.consul.double.has_leader() {
            self.at_consul(|double, now, out| double.elect(now, ELECTION, out));
        }
    }

    /// What Consul holds is written down, or is again what was written down before.
    pub(super) fn restore(&mut self) {
        let Some(saved) = self.consul.saved.take() else {
            self.consul.saved = Some(self.consul.double.snapshot());
            return;
        };
        if self.consul.double.has_leader() {
            self.sim.say(|| "a snapshot is restored".into());
            self.doubt(|_| true);
            self.at_consul(|double, now, out| double.restore(now, &saved, out));
            <Bridge as Cast>::on_consul_write(self, None, &[]);
        }
    }
}
