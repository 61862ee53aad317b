//! The road from an agent to the servers' leader: what becomes of a request when there is none.
//!
//! An agent that is cut off takes what concerns itself alone. Whatever needs the servers hangs first, for
//! nobody has noticed yet; once gossip has found it out, a client refuses at once, and a server that has
//! lost its peers looks for a leader for some seconds. It shows its copy of the state to whoever reads
//! `?stale`. All of it was measured with three servers and a client, some of them stopped.

use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::agent::{Cut, Presence};
use super::blocking::Parked;
use super::delays::{ELECTION, FOUND_AFTER, HANG, HOLD};
use super::http::{AgentId, Answer, Request, Target, failed};
use super::store::Store;
use super::{Consul, Output, RequestId, Timer};

/// A request that waits for a road to the leader.
#[derive(Clone, Debug)]
pub(super) struct Held {
    request: Request,
    /// What it is told in the end.
    refusal: &'static str,
    /// Somebody waits for the answer.
    heard: bool,
}

const NO_LEADER: &str = "No cluster leader";
const NO_SERVERS: &str = "No known Consul servers";
const BROKEN: &str = "rpc error making call: EOF";

/// A failure of what an agent asks the servers. All but the answers about keys have an index even then.
pub(super) fn refusal(request: &Request, text: &str) -> Answer {
    let told = ["/v1/health/", "/v1/catalog/", "/v1/session/"];
    let target = request.target.as_str();
    let plain = target.starts_with("/v1/catalog/datacenters");
    if request.method != "GET" || plain || !told.iter().any(|group| target.starts_with(group)) {
        return failed(text);
    }
    failed(text)
        .with("X-Consul-Index", "1")
        .with("X-Consul-Knownleader", "false")
        .with("X-Consul-Lastcontact", "0")
}

impl Consul {
    /// Nothing passes between an agent and the others from now on. What was sent to the servers hangs for
    /// 35 s and fails; so does what is asked in the next 5 s, until gossip has found out that the agent is
    /// gone: then its `serfHealth` is critical, and it refuses what it cannot answer itself. If it is the
    /// server that leads, the others [elect](Self::elect) another meanwhile.
    pub fn cut(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].cut.is_none() {
            let since = self.store.now;
            let copy = self.agents[agent].server.then(|| Box::new(self.store.clone()));
            self.agents[agent].cut = Some(Cut { since, found: false, copy });
            self.timers.arm(Timer::Cut(agent), since.after(FOUND_AFTER));
            self.strand(agent);
            if self.agents[agent].leads {
                self.begin_election(ELECTION, out);
            }
        }
        self.settle(out)
    }

    /// The road is open again. What still hangs is done now, and the agent tells what it was told
    /// meanwhile; the real one takes up to 3 s for that.
    pub fn mend(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].cut.take().is_some() {
            self.timers.disarm(Timer::Cut(agent));
            self.reconcile(agent);
            self.compare_all(agent);
            self.try_again(out);
        }
        self.settle(out)
    }

    /// Whether nothing passes between an agent and the others.
    #[must_use]
    pub fn is_cut(&self, agent: AgentId) -> bool {
        self.agents[agent].cut.is_some()
    }

    /// Gossip has found that an agent is cut off.
    pub(super) fn find_cut(&mut self, agent: AgentId) {
        if let Some(cut) = &mut self.agents[agent].cut {
            cut.found = true;
            self.reconcile(agent);
        }
    }

    /// What an agent has under way at the servers hangs. A server that led, or that was asked for what it
    /// has, looks at its own copy.
    fn strand(&mut self, agent: AgentId) {
        let local = &self.agents[agent];
        let keeps = |parked: &Parked| local.server && (local.leads || parked.query.is_stale());
        let lost = self.parked.iter().filter(|(_, parked)| parked.request.agent == agent);
        let lost: Vec<RequestId> =
            lost.filter(|(_, parked)| !keeps(parked)).map(|(id, _)| *id).collect();
        for id in lost {
            self.timers.disarm(Timer::Wait(id));
            if let Some(parked) = self.parked.remove(&id) {
                self.hold(parked.request, HANG, BROKEN);
            }
        }
    }

    /// What becomes of a request that needs the leader, or any server: it waits, it is refused, or there
    /// is a road. `stale` says that any server will do.
    pub(super) fn turned_away(&mut self, request: &Request, stale: bool) -> Option<Option<Answer>> {
        let local = &self.agents[request.agent];
        let (server, now) = (local.server, self.store.now);
        match &local.cut {
            Some(_) if server && stale => None,
            Some(cut) if !cut.found => {
                let left = cut.since.after(HANG).since(now);
                self.hold(request.clone(), left, BROKEN);
                Some(None)
            }
            Some(_) if !server => Some(Some(refusal(request, NO_SERVERS))),
            None if self.leader || stale => None,
            _ => {
                self.hold(request.clone(), HOLD, NO_LEADER);
                Some(None)
            }
        }
    }

    /// As [`Self::turned_away`], for what is no question that can wait.
    pub(super) fn info_turned_away(
        &mut self,
        request: &Request,
        target: &Target,
    ) -> Option<Option<Answer>> {
        let local = target.path.starts_with("/v1/agent/") || self.agents[request.agent].server;
        if local { None } else { self.turned_away(request, true) }
    }

    fn hold(&mut self, request: Request, long: Duration, refusal: &'static str) {
        self.serial += 1;
        self.timers.arm(Timer::Held(self.serial), self.store.now.after(long));
        self.held.insert(self.serial, Held { request, refusal, heard: true });
    }

    /// A request has waited long enough for a road.
    pub(super) fn refuse_held(&mut self, serial: u64, out: &mut Vec<Output>) {
        let Some(held) = self.held.remove(&serial).filter(|held| held.heard) else { return };
        out.push(Output::Response(refusal(&held.request, held.refusal).to(held.request.id)));
    }

    /// Gives the host the requests that have a road again.
    pub(super) fn try_again(&mut self, out: &mut Vec<Output>) {
        let open = self
            .held
            .iter()
            .filter(|(_, held)| self.leader && self.agents[held.request.agent].cut.is_none());
        let open: Vec<u64> = open.map(|(serial, _)| *serial).collect();
        for serial in open {
            self.timers.disarm(Timer::Held(serial));
            out.extend(self.held.remove(&serial).map(|held| Output::Again(held.request)));
        }
    }

    /// Nobody waits for the answer to a request any more. A write is tried again nevertheless.
    pub(super) fn forget_held(&mut self, id: RequestId) {
        let found = self.held.iter_mut().find(|(_, held)| held.request.id == id);
        let Some((serial, held)) = found else { return };
        held.heard = false;
        if held.request.method == "GET" {
            let serial = *serial;
            self.timers.disarm(Timer::Held(serial));
            self.held.remove(&serial);
        }
    }

    /// An agent has ended, and with it what it had under way.
    pub(super) fn hang_up(&mut self, agent: AgentId) {
        let gone = self.parked.values().map(|parked| &parked.request);
        let gone = gone.chain(self.held.values().map(|held| &held.request));
        let gone: Vec<_> =
            gone.filter(|request| request.agent == agent).map(|request| request.id).collect();
        gone.into_iter().for_each(|id| self.forget(id));
    }

    /// The state that a question is answered from.
    pub(super) fn seen_by(&self, agent: AgentId, stale: bool) -> &Store {
        let local = &self.agents[agent];
        match (&local.cut, &self.behind) {
            (Some(Cut { copy: Some(copy), .. }), _) => copy,
            (None, Some(behind)) if stale && !local.leads => behind,
            _ => &self.store,
        }
    }

    /// What an answer says of the leader: whether one is known, and how long ago it was heard, in ms.
    pub(super) fn word_of_leader(&self, agent: AgentId) -> (bool, u128) {
        let silent = match &self.agents[agent].cut {
            Some(cut) => Some((!cut.found, cut.since)),
            None => (!self.leader).then_some((false, self.headless_since)),
        };
        silent.map_or((true, 0), |(known, since)| (known, self.store.now.since(since).as_millis()))
    }

    /// Whether the servers take an agent for alive.
    pub(super) fn is_well(&self, agent: AgentId) -> bool {
        let local = &self.agents[agent];
        local.presence == Presence::Alive && !local.cut.as_ref().is_some_and(|cut| cut.found)
    }
}
