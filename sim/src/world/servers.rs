//! What happens between Consul's servers and their agents.

use super::World;
use super::queue::{Ev, S};
use crate::consul::ELECTION;

impl World<'_> {
    /// Nothing passes between an agent and the servers any more, or it has left the cluster.
    pub(super) fn part(&mut self, agent: usize, leaves: bool) {
        self.doubt(|actor| actor.hax == agent);
        if leaves {
            self.say(|| format!("the agent of node {agent} leaves the cluster"));
            self.at_consul(|double, now, out| double.leave(now, agent, out));
            self.oracle.consul_wrote(None, &[], &self.consul.double);
            self.break_calls_of(agent);
        } else {
            self.say(|| format!("the agent of node {agent} is cut off"));
            self.at_consul(|double, now, out| double.cut(now, agent, out));
        }
    }

    /// An agent is one of the cluster again.
    pub(super) fn reunite(&mut self, agent: usize) {
        self.doubt(|actor| actor.hax == agent);
        if self.consul.double.is_cut(agent) {
            self.say(|| format!("the agent of node {agent} finds the servers"));
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
        let name = format!("{}:{:08x}", self.hax[agent].name, self.steps);
        self.say(|| format!("the agent of node {agent} is called {name}"));
        self.at_consul(|double, now, out| double.rename(now, agent, &name, out));
        self.oracle.consul_wrote(None, &[], &self.consul.double);
        self.break_calls_of(agent);
        // Nobody plays the check of hax itself: it passes.
        let own = format!("service:{}", self.hax[agent].fid.key);
        self.at_consul(|double, now, out| double.set_check(now, agent, &own, "passing", "", out));
        for i in 0..self.cast.len() {
            if self.cast[i].hax == agent {
                self.queue.push(self.now + S, Ev::Check(i));
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
            self.say(|| "a snapshot is restored".into());
            self.doubt(|_| true);
            self.at_consul(|double, now, out| double.restore(now, &saved, out));
            self.oracle.consul_wrote(None, &[], &self.consul.double);
        }
    }
}
