//! What it means for processes when something happens between Consul's servers and their agents.

use super::event::Ev;
use super::{Bridge, World};
use crate::engine::S;

impl World<'_, Bridge> {
    /// Nothing passes between an agent and the servers any more, or it has left the cluster.
    pub(super) fn part(&mut self, agent: usize, leaves: bool) {
        self.doubt(|process| process.hax == agent);
        if leaves {
            self.leave_cluster(agent);
        } else {
            self.cut_agent(agent);
        }
    }

    /// An agent is one of the cluster again.
    pub(super) fn reunite(&mut self, agent: usize) {
        self.doubt(|process| process.hax == agent);
        self.mend_agent(agent);
        if self.consul.double.has_left(agent) {
            self.set_agent(agent, true);
        }
    }

    /// An agent starts anew under another name, and looks at its processes a second later. The old name's last
    /// word on each of them lingers: nothing of that speaks against any process.
    pub(super) fn rename(&mut self, agent: usize) {
        let name = format!("{}:{:08x}", self.cast.hax[agent].name, self.sim.steps());
        if !self.rename_agent(agent, &name) {
            return;
        }
        // Nobody plays the check of hax itself: it passes.
        let own = format!("service:{}", self.cast.hax[agent].fid.key);
        self.at_consul(|double, now, out| double.set_check(now, agent, &own, "passing", "", out));
        for i in 0..self.cast.motr.len() {
            if self.cast.motr[i].hax == agent {
                self.sim.later(self.sim.now() + S, Ev::Check(i));
            }
        }
    }
}
