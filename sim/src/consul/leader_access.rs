//! The connection from an agent to the servers' leader, and the fate of requests without one.
//!
//! An agent that is cut off handles the requests that concern only itself. A request that needs the servers
//! hangs at first, as the cut is not detected yet. After gossip has detected it, a client refuses such a
//! request at once, and a server without its peers looks for a leader for some seconds. A server answers
//! `?stale` reads from its copy of the state. All of it was measured with three servers and a client, some of
//! them stopped.

use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::agent::{Disconnection, Presence};
use super::blocking::BlockedQuery;
use super::delays::{ELECTION, FORWARD_TIMEOUT, GOSSIP_DELAY, LEADER_SEARCH};
use super::http::{AgentId, Answer, Request, Target, failed};
use super::store::Store;
use super::{Consul, Output, RequestId, Timer};

/// A request that waits until the leader is reachable.
#[derive(Clone, Debug)]
pub(super) struct WaitingRequest {
    request: Request,
    /// The error text of the response, if the wait ends without a leader.
    refusal: &'static str,
    /// The client still waits for the response.
    has_client: bool,
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
    pub fn disconnect(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].disconnection.is_none() {
            let since = self.store.now;
            let copy = self.agents[agent].server.then(|| Box::new(self.store.clone()));
            self.agents[agent].disconnection = Some(Disconnection { since, detected: false, copy });
            self.timers.arm(Timer::Disconnection(agent), since.after(GOSSIP_DELAY));
            self.hang_forwarded(agent);
            if self.agents[agent].leads {
                self.begin_election(ELECTION, out);
            }
        }
        self.finish(out)
    }

    /// Ends the cut of an agent.
    ///
    /// The requests that still hang are executed now, and the agent syncs the registrations that it received
    /// meanwhile. The real one takes up to 3 s for that.
    pub fn reconnect(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].disconnection.take().is_some() {
            self.timers.disarm(Timer::Disconnection(agent));
            self.reconcile(agent);
            self.full_sync(agent);
            self.retry_waiting(out);
        }
        self.finish(out)
    }

    /// Returns whether an agent is cut off from the others.
    #[must_use]
    pub fn is_disconnected(&self, agent: AgentId) -> bool {
        self.agents[agent].disconnection.is_some()
    }

    /// Records that gossip has detected the cut of an agent.
    pub(super) fn on_disconnection_detected(&mut self, agent: AgentId) {
        if let Some(cut) = &mut self.agents[agent].disconnection {
            cut.detected = true;
            self.reconcile(agent);
        }
    }

    /// Makes the requests hang that an agent has forwarded to the servers.
    ///
    /// The server that led keeps its parked queries, and any server keeps its `?stale` queries: they read its
    /// own copy.
    fn hang_forwarded(&mut self, agent: AgentId) {
        let local = &self.agents[agent];
        let keeps =
            |blocked: &BlockedQuery| local.server && (local.leads || blocked.query.is_stale());
        let lost = self.blocked.iter().filter(|(_, blocked)| blocked.request.agent == agent);
        let lost: Vec<RequestId> =
            lost.filter(|(_, blocked)| !keeps(blocked)).map(|(id, _)| *id).collect();
        for id in lost {
            self.timers.disarm(Timer::Wait(id));
            if let Some(blocked) = self.blocked.remove(&id) {
                self.wait_for_leader(blocked.request, FORWARD_TIMEOUT, BROKEN);
            }
        }
    }

    /// Decides about a request that needs the leader or any server: it waits, it is refused, or it proceeds.
    ///
    /// `stale` says that any server may answer.
    pub(super) fn check_access(
        &mut self,
        request: &Request,
        stale: bool,
    ) -> Option<Option<Answer>> {
        let local = &self.agents[request.agent];
        let (server, now) = (local.server, self.store.now);
        match &local.disconnection {
            Some(_) if server && stale => None,
            Some(cut) if !cut.detected => {
                let left = cut.since.after(FORWARD_TIMEOUT).since(now);
                self.wait_for_leader(request.clone(), left, BROKEN);
                Some(None)
            }
            Some(_) if !server => Some(Some(refusal(request, NO_SERVERS))),
            None if self.leader || stale => None,
            _ => {
                self.wait_for_leader(request.clone(), LEADER_SEARCH, NO_LEADER);
                Some(None)
            }
        }
    }

    /// Does the same as [`Self::check_access`], for a read that does not block.
    pub(super) fn check_info_access(
        &mut self,
        request: &Request,
        target: &Target,
    ) -> Option<Option<Answer>> {
        let local = target.path.starts_with("/v1/agent/") || self.agents[request.agent].server;
        if local { None } else { self.check_access(request, true) }
    }

    fn wait_for_leader(&mut self, request: Request, long: Duration, refusal: &'static str) {
        self.serial += 1;
        self.timers.arm(Timer::LeaderWait(self.serial), self.store.now.after(long));
        self.waiting.insert(self.serial, WaitingRequest { request, refusal, has_client: true });
    }

    /// Refuses a request that has waited long enough for the leader.
    pub(super) fn refuse_waiting(&mut self, serial: u64, out: &mut Vec<Output>) {
        let Some(held) = self.waiting.remove(&serial).filter(|held| held.has_client) else {
            return;
        };
        out.push(Output::Response(refusal(&held.request, held.refusal).to(held.request.id)));
    }

    /// Appends the requests whose agents can reach the leader again.
    pub(super) fn retry_waiting(&mut self, out: &mut Vec<Output>) {
        let open = self.waiting.iter().filter(|(_, held)| {
            self.leader && self.agents[held.request.agent].disconnection.is_none()
        });
        let open: Vec<u64> = open.map(|(serial, _)| *serial).collect();
        for serial in open {
            self.timers.disarm(Timer::LeaderWait(serial));
            out.extend(self.waiting.remove(&serial).map(|held| Output::Retry(held.request)));
        }
    }

    /// Records that the client of a request has gone. A write is tried again nevertheless.
    pub(super) fn cancel_waiting(&mut self, id: RequestId) {
        let found = self.waiting.iter_mut().find(|(_, held)| held.request.id == id);
        let Some((serial, held)) = found else { return };
        held.has_client = false;
        if held.request.method == "GET" {
            let serial = *serial;
            self.timers.disarm(Timer::LeaderWait(serial));
            self.waiting.remove(&serial);
        }
    }

    /// Ends the pending requests of an agent that has ended.
    pub(super) fn drop_requests(&mut self, agent: AgentId) {
        let gone = self.blocked.values().map(|blocked| &blocked.request);
        let gone = gone.chain(self.waiting.values().map(|held| &held.request));
        let gone: Vec<_> =
            gone.filter(|request| request.agent == agent).map(|request| request.id).collect();
        gone.into_iter().for_each(|id| self.cancel(id));
    }

    /// Returns the state that answers a read.
    pub(super) fn store_seen_by(&self, agent: AgentId, stale: bool) -> &Store {
        let local = &self.agents[agent];
        match (&local.disconnection, &self.follower_store) {
            (Some(Disconnection { copy: Some(copy), .. }), _) => copy,
            (None, Some(follower_store)) if stale && !local.leads => follower_store,
            _ => &self.store,
        }
    }

    /// Returns the leader headers of a response: whether a leader is known, and the time since its last
    /// contact, in ms.
    pub(super) fn last_contact(&self, agent: AgentId) -> (bool, u128) {
        let silent = match &self.agents[agent].disconnection {
            Some(cut) => Some((!cut.detected, cut.since)),
            None => (!self.leader).then_some((false, self.leaderless_since)),
        };
        silent.map_or((true, 0), |(known, since)| (known, self.store.now.since(since).as_millis()))
    }

    /// Returns whether the servers consider an agent alive.
    pub(super) fn is_healthy(&self, agent: AgentId) -> bool {
        let local = &self.agents[agent];
        local.presence == Presence::Alive
            && !local.disconnection.as_ref().is_some_and(|cut| cut.detected)
    }
}
