//! The servers as a group: their leader, the lag of the followers, and the restore of a snapshot.

use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::http::AgentId;
use super::leader_access::refusal;
use super::store::Store;
use super::{Consul, Output, RequestId, Timer};

/// The number of log entries of a restore, including the new term of the leader that follows it.
const RESTORE_ENTRIES: u64 = 3;

/// The state of the servers, as `consul snapshot save` writes it.
#[derive(Clone, Debug)]
pub struct Snapshot(Store);

impl Consul {
    /// Takes the leader away from the cluster, or gives it one again.
    ///
    /// Without a leader, a request that needs it waits for 7 s, and a `?stale` read is answered.
    pub fn set_leader(&mut self, now: Now, leader: bool, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.timers.disarm(Timer::Elected);
        if leader {
            self.gain_leadership(out);
        } else {
            self.drop_leadership();
        }
        self.finish(out)
    }

    /// Makes the servers' leader die and the others elect another one, which takes `lasts`.
    ///
    /// The requests in progress at the old leader fail. All sessions start their whole TTL again, as another
    /// server counts it.
    pub fn elect(&mut self, now: Now, lasts: Duration, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.begin_election(lasts, out);
        self.finish(out)
    }

    /// Makes the server of this agent the leader, or with `None` a server without an agent here. Nothing else
    /// changes.
    ///
    /// Initially the server of the first agent leads.
    pub fn make_leader(&mut self, leading: Option<AgentId>) {
        for (id, agent) in self.agents.iter_mut().enumerate() {
            agent.leads = agent.server && leading == Some(id);
        }
    }

    /// Sets the delay after which all servers but the leader show a write.
    ///
    /// A follower knows that an entry of the log is committed when the leader's next message says so, 50 to
    /// 100 ms later. The delay is visible to a client that reads `?stale` from a server, and to client
    /// agents, which send their reads to any server.
    pub fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
        self.follower_store = (!lag.is_zero()).then(|| Box::new(self.store.clone()));
    }

    /// Returns the state of the servers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.store.clone())
    }

    /// Restores an earlier state of the servers: `consul snapshot restore`.
    ///
    /// The log goes on, so later writes have higher indexes than ever, but the restored rows have their old
    /// indexes. A waiting query is answered with the state from before the restore. A query with the index of
    /// that response waits until the old index is passed. Sessions and locks are restored, with their whole
    /// TTL. Registrations of agents since the snapshot are missing until the agents compare themselves with
    /// the catalog, one to two minutes later.
    pub fn restore(&mut self, now: Now, snapshot: &Snapshot, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        let waiting = self.blocked.iter();
        let waiting = waiting.filter(|(_, blocked)| !self.is_disconnected(blocked.request.agent));
        let waiting: Vec<RequestId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.timers.disarm(Timer::Wait(id));
            self.answer_blocked(id, out);
        }
        let Snapshot(store) = snapshot.clone();
        let old = std::mem::replace(&mut self.store, store);
        self.store.now = old.now;
        self.store.index = old.index + RESTORE_ENTRIES;
        // Only a leader knows lock delays, and a new term begins.
        self.store.lock_delays.clear();
        let gone = old.sessions.into_keys().map(|id| (id, false));
        let back = self.store.sessions.keys().map(|id| (id.clone(), true));
        self.store.session_changes = gone.chain(back).collect();
        for agent in 0..self.agents.len() {
            self.reconcile(agent);
            self.full_sync_later(agent);
        }
        self.fail_former_names();
        self.finish(out)
    }

    /// Makes each agent compare itself with the catalog, as each does every one to two minutes.
    ///
    /// An agent removes the rows of its node that it does not know, whoever registered them.
    pub fn full_sync_agents(&mut self, now: Now, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        (0..self.agents.len()).for_each(|agent| self.full_sync(agent));
        self.finish(out)
    }

    /// Removes the leader.
    fn drop_leadership(&mut self) {
        if self.leader {
            self.leader = false;
            self.leaderless_since = self.store.now;
        }
    }

    pub(super) fn begin_election(&mut self, lasts: Duration, out: &mut Vec<Output>) {
        self.drop_leadership();
        self.timers.arm(Timer::Elected, self.store.now.after(lasts));
        let broken = self.blocked.iter().filter(|(_, blocked)| {
            let local = &self.agents[blocked.request.agent];
            !blocked.query.is_stale() && !local.leads && local.disconnection.is_none()
        });
        let broken: Vec<RequestId> = broken.map(|(id, _)| *id).collect();
        for id in broken {
            self.timers.disarm(Timer::Wait(id));
            if let Some(blocked) = self.blocked.remove(&id) {
                let answer = refusal(&blocked.request, "rpc error making call: EOF");
                out.push(Output::Response(answer.to(id)));
            }
        }
    }

    /// Makes another server the leader.
    pub(super) fn on_elected(&mut self, out: &mut Vec<Output>) {
        let able = |id: &AgentId| {
            let local = &self.agents[*id];
            local.server && local.disconnection.is_none() && self.is_healthy(*id)
        };
        let old = self.agents.iter().position(|agent| agent.leads);
        let able: Vec<AgentId> = (0..self.agents.len()).filter(able).collect();
        let next = able.iter().find(|id| Some(**id) > old).or_else(|| able.first());
        self.make_leader(next.copied());
        self.gain_leadership(out);
    }

    fn gain_leadership(&mut self, out: &mut Vec<Output>) {
        let new = !self.leader;
        self.leader = true;
        if new {
            let sessions: Vec<String> = self.store.sessions.keys().cloned().collect();
            sessions.iter().for_each(|id| self.arm_session(id));
            (0..self.agents.len()).for_each(|agent| self.reconcile(agent));
            self.fail_former_names();
            self.retry_waiting(out);
        }
        (0..self.agents.len()).for_each(|agent| self.sync(agent));
    }

    /// Copies the leader's state to the followers.
    pub(super) fn replicate(&mut self) {
        if self.follower_store.is_some() {
            self.follower_store = Some(Box::new(self.store.clone()));
        }
    }

    /// Schedules the copy of the leader's state to the followers.
    pub(super) fn schedule_replication(&mut self) {
        let late = self
            .follower_store
            .as_ref()
            .is_some_and(|follower_store| follower_store.index != self.store.index);
        if late && !self.timers.is_armed(Timer::Replicate) {
            self.timers.arm(Timer::Replicate, self.store.now.after(self.lag));
        }
    }
}
