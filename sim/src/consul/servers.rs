//! The servers as a group: who leads them, how far the others are behind, and what a restored snapshot
//! does to all of them.

use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::http::AgentId;
use super::road::refusal;
use super::store::Store;
use super::{Consul, Output, RequestId, Timer};

/// What a restore takes in the log, with the new term of the leader that follows it.
const RESTORE_ENTRIES: u64 = 3;

/// What the servers hold, as `consul snapshot save` writes it down.
#[derive(Clone, Debug)]
pub struct Snapshot(Store);

impl Consul {
    /// The cluster loses its leader, or has one again. Meanwhile what needs it waits for 7 s; what reads
    /// `?stale` is answered.
    pub fn set_leader(&mut self, now: Now, leader: bool, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.timers.disarm(Timer::Elected);
        if leader {
            self.take_the_lead(out);
        } else {
            self.lose_the_lead();
        }
        self.settle(out)
    }

    /// The servers' leader dies, and the others elect another, which takes so long. What was under way
    /// there breaks. All sessions have their whole time before them then: who counts is new.
    pub fn elect(&mut self, now: Now, lasts: Duration, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.begin_election(lasts, out);
        self.settle(out)
    }

    /// The server of this agent leads the others, or none of those that have a name here. Nothing else
    /// changes. At first it is the first agent's.
    pub fn seat_leader(&mut self, leading: Option<AgentId>) {
        for (id, agent) in self.agents.iter_mut().enumerate() {
            agent.leads = agent.server && leading == Some(id);
        }
    }

    /// From now on all servers but the leader's show what is new so much later: an entry of the log is
    /// known to be safe when the leader's next message says so, 50 to 100 ms later. Who asks them for
    /// `?stale` sees it, and so do clients, whose questions go to any server.
    pub fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
        self.behind = (!lag.is_zero()).then(|| Box::new(self.store.clone()));
    }

    /// What the servers hold.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.store.clone())
    }

    /// The servers hold again what they held once: `consul snapshot restore`. The log goes on, so what is
    /// written later has higher indexes than ever; but what is read has the old ones again. Who waits is
    /// answered with what there was before; who asks with the index of that waits until the old index is
    /// passed. Sessions and locks are back, with their whole time before them. What agents have registered
    /// since is missing until they compare all that they have, one to two minutes later.
    pub fn restore(&mut self, now: Now, snapshot: &Snapshot, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        let waiting = self.parked.iter();
        let waiting = waiting.filter(|(_, parked)| !self.is_cut(parked.request.agent));
        let waiting: Vec<RequestId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.timers.disarm(Timer::Wait(id));
            self.give_up(id, out);
        }
        let Snapshot(store) = snapshot.clone();
        let old = std::mem::replace(&mut self.store, store);
        self.store.now = old.now;
        self.store.index = old.index + RESTORE_ENTRIES;
        // Only a leader knows these, and a new term begins.
        self.store.lock_delays.clear();
        let gone = old.sessions.into_keys().map(|id| (id, false));
        let back = self.store.sessions.keys().map(|id| (id.clone(), true));
        self.store.session_changes = gone.chain(back).collect();
        for agent in 0..self.agents.len() {
            self.reconcile(agent);
            self.compare_later(agent);
        }
        self.miss_former();
        self.settle(out)
    }

    /// Each agent compares all that it has with the catalog, as each does every one to two minutes: what
    /// it does not know of its own node it takes out, whoever put it there.
    pub fn compare_agents(&mut self, now: Now, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        (0..self.agents.len()).for_each(|agent| self.compare_all(agent));
        self.settle(out)
    }

    /// The leader is lost.
    fn lose_the_lead(&mut self) {
        if self.leader {
            self.leader = false;
            self.headless_since = self.store.now;
        }
    }

    pub(super) fn begin_election(&mut self, lasts: Duration, out: &mut Vec<Output>) {
        self.lose_the_lead();
        self.timers.arm(Timer::Elected, self.store.now.after(lasts));
        let broken = self.parked.iter().filter(|(_, parked)| {
            let local = &self.agents[parked.request.agent];
            !parked.query.is_stale() && !local.leads && local.cut.is_none()
        });
        let broken: Vec<RequestId> = broken.map(|(id, _)| *id).collect();
        for id in broken {
            self.timers.disarm(Timer::Wait(id));
            if let Some(parked) = self.parked.remove(&id) {
                let answer = refusal(&parked.request, "rpc error making call: EOF");
                out.push(Output::Response(answer.to(id)));
            }
        }
    }

    /// Another server leads.
    pub(super) fn elected(&mut self, out: &mut Vec<Output>) {
        let able = |id: &AgentId| {
            let local = &self.agents[*id];
            local.server && local.cut.is_none() && self.is_well(*id)
        };
        let old = self.agents.iter().position(|agent| agent.leads);
        let able: Vec<AgentId> = (0..self.agents.len()).filter(able).collect();
        let next = able.iter().find(|id| Some(**id) > old).or_else(|| able.first());
        self.seat_leader(next.copied());
        self.take_the_lead(out);
    }

    fn take_the_lead(&mut self, out: &mut Vec<Output>) {
        let new = !self.leader;
        self.leader = true;
        if new {
            let sessions: Vec<String> = self.store.sessions.keys().cloned().collect();
            sessions.iter().for_each(|id| self.arm_session(id));
            (0..self.agents.len()).for_each(|agent| self.reconcile(agent));
            self.miss_former();
            self.try_again(out);
        }
        (0..self.agents.len()).for_each(|agent| self.sync(agent));
    }

    /// The followers know what the leader knows.
    pub(super) fn catch_up(&mut self) {
        if self.behind.is_some() {
            self.behind = Some(Box::new(self.store.clone()));
        }
    }

    /// Has the followers catch up when it is time.
    pub(super) fn follow(&mut self) {
        let late = self.behind.as_ref().is_some_and(|behind| behind.index != self.store.index);
        if late && !self.timers.is_armed(Timer::CatchUp) {
            self.timers.arm(Timer::CatchUp, self.store.now.after(self.lag));
        }
    }
}
