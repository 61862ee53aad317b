//! The connection from an agent to the servers' leader, and the fate of requests without one.
//!
//! An agent that is cut off handles the requests that concern only itself. A request that needs the servers
//! hangs at first, as the cut is not detected yet. After gossip has detected it, a client refuses such a
//! request at once, and a server without its peers looks for a leader for some seconds. A server answers
//! `?stale` reads from its copy of the state. All of it was measured with three servers and a client, some of
//! them stopped.

use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::agent::{Cut, Presence};
use super::blocking::Parked;
use super::delays::{ELECTION, FOUND_AFTER, HANG, HOLD};
use super::http::{AgentId, Answer, Request, Target, failed};
use super::store::Store;
use super::{Consul, Output, RequestId, Timer};

/// A request that waits until the leader is reachable.
#[derive(Clone, Debug)]
pub(super) struct Held {
    request: Request,
    /// The error text of the response, if the wait ends without a leader.
    refusal: &'static str,
    /// The client still waits for the response.
    heard: bool,
}

const NO_LEADER: &str = "No cluster leader";
const NO_SERVERS: &str = "No known Consul servers";
const BROKEN: &str = "rpc error making call: EOF";

/// Builds the response to a request that failed at the servers. All such responses have an index, except
/// those about keys.
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
    /// Cuts an agent off: no message passes between it and the others from now on.
    ///
    /// A request that was forwarded to the servers hangs for 35 s and fails. So does a request made within
    /// the next 5 s, before gossip detects the cut. Then the agent's `serfHealth` is critical, and the agent
    /// refuses what it cannot answer itself. If the agent is the leading server, the others
    /// [elect](Self::elect) another one meanwhile.
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

    /// Ends the cut of an agent.
    ///
    /// The requests that still hang are executed now, and the agent syncs the registrations that it received
    /// meanwhile. The real one takes up to 3 s for that.
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

    /// Returns whether an agent is cut off from the others.
    #[must_use]
    pub fn is_cut(&self, agent: AgentId) -> bool {
        self.agents[agent].cut.is_some()
    }

    /// Records that gossip has detected the cut of an agent.
    pub(super) fn find_cut(&mut self, agent: AgentId) {
        if let Some(cut) = &mut self.agents[agent].cut {
            cut.found = true;
            self.reconcile(agent);
        }
    }

    /// Makes the requests hang that an agent has forwarded to the servers.
    ///
    /// The server that led keeps its parked queries, and any server keeps its `?stale` queries: they read its
    /// own copy.
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

    /// Decides about a request that needs the leader or any server: it waits, it is refused, or it proceeds.
    ///
    /// `stale` says that any server may answer.
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

    /// Does the same as [`Self::turned_away`], for a read that does not block.
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

    /// Refuses a request that has waited long enough for the leader.
    pub(super) fn refuse_held(&mut self, serial: u64, out: &mut Vec<Output>) {
        let Some(held) = self.held.remove(&serial).filter(|held| held.heard) else { return };
        out.push(Output::Response(refusal(&held.request, held.refusal).to(held.request.id)));
    }

    /// Appends the requests whose agents can reach the leader again.
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

    /// Records that the client of a request has gone. A write is tried again nevertheless.
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

    /// Ends the pending requests of an agent that has ended.
    pub(super) fn hang_up(&mut self, agent: AgentId) {
        let gone = self.parked.values().map(|parked| &parked.request);
        let gone = gone.chain(self.held.values().map(|held| &held.request));
        let gone: Vec<_> =
            gone.filter(|request| request.agent == agent).map(|request| request.id).collect();
        gone.into_iter().for_each(|id| self.forget(id));
    }

    /// Returns the state that answers a read.
    pub(super) fn seen_by(&self, agent: AgentId, stale: bool) -> &Store {
        let local = &self.agents[agent];
        match (&local.cut, &self.behind) {
            (Some(Cut { copy: Some(copy), .. }), _) => copy,
            (None, Some(behind)) if stale && !local.leads => behind,
            _ => &self.store,
        }
    }

    /// Returns the leader headers of a response: whether a leader is known, and the time since its last
    /// contact, in ms.
    pub(super) fn word_of_leader(&self, agent: AgentId) -> (bool, u128) {
        let silent = match &self.agents[agent].cut {
            Some(cut) => Some((!cut.found, cut.since)),
            None => (!self.leader).then_some((false, self.headless_since)),
        };
        silent.map_or((true, 0), |(known, since)| (known, self.store.now.since(since).as_millis()))
    }

    /// Returns whether the servers consider an agent alive.
    pub(super) fn is_well(&self, agent: AgentId) -> bool {
        let local = &self.agents[agent];
        local.presence == Presence::Alive && !local.cut.as_ref().is_some_and(|cut| cut.found)
    }
}
