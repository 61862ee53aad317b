//! The effect of events between Consul's servers and their agents on the processes.

use super::event::Ev;
use super::{Bridge, World};
use crate::engine::S;

impl World<'_, Bridge> {
    /// Cuts an agent off from the servers, or makes it leave the cluster.
    pub(super) fn separate_agent(&mut self, agent: usize, leaves: bool) {
        self.record_evidence(|process| process.hax == agent);
        if leaves {
            self.leave_cluster(agent);
        } else {
            self.disconnect_agent(agent);
        }
    }

    /// Makes an agent a member of the cluster again.
    pub(super) fn rejoin_agent(&mut self, agent: usize) {
        self.record_evidence(|process| process.hax == agent);
        self.reconnect_agent(agent);
        if self.consul.double.has_left(agent) {
            self.set_agent(agent, true);
        }
    }

    /// Starts an agent anew under another name. It checks its processes a second later.
    ///
    /// The last checks under the old name remain in the catalog. They are no evidence against any process.
    pub(super) fn rename(&mut self, agent: usize) {
        let name = format!("{}:{:08x}", self.cast.hax[agent].name, self.sim.steps());
        if !self.rename_agent(agent, &name) {
            return;
        }
        // No machine here runs the check of hax itself, so it is set to passing.
        let own = format!("service:{}", self.cast.hax[agent].fid.key);
        self.with_consul(|double, now, out| double.set_check(now, agent, &own, "passing", "", out));
        for i in 0..self.cast.motr.len() {
            if self.cast.motr[i].hax == agent {
                self.sim.schedule(self.sim.now() + S, Ev::Check(i));
            }
        }
    }
}
