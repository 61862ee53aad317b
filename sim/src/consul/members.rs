//! Who belongs to the cluster: agents come, die, leave, and come back under another name.
//!
//! Agents find out by gossip who is there; the servers' leader writes what they find into the catalog
//! as the check `serfHealth`, and takes out who has left.

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::agent::{Agent, Presence};
use super::catalog::{Register, RegisterCheck, RegisterService};
use super::delays::FOUND_AFTER;
use super::http::AgentId;
use super::{Consul, Output, Timer, info, mix};

/// How often an agent compares all that it has with the catalog, at most; at least half as often.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// A name that an agent had before it came back under another.
#[derive(Clone, Debug)]
pub(super) struct Former {
    node: String,
    /// Gossip has found that nobody answers to it.
    found: bool,
}

impl Consul {
    /// A cluster of these nodes: the first one's server, and the others' agents.
    ///
    /// # Panics
    ///
    /// If there is no node.
    #[must_use]
    pub fn cluster(nodes: &[&str]) -> Self {
        let mut consul = Self::new(nodes[0]);
        for (i, node) in nodes.iter().enumerate().skip(1) {
            consul.add_agent(node, &format!("127.0.1.{}", i + 1));
        }
        consul
    }

    /// One more node with an agent joins the cluster: a client of the servers.
    pub fn add_agent(&mut self, node: &str, address: &str) -> AgentId {
        self.join(node, address, false)
    }

    /// One more node joins the cluster, whose agent is a server, too.
    pub fn add_server(&mut self, node: &str, address: &str) -> AgentId {
        self.join(node, address, true)
    }

    pub(super) fn join(&mut self, node: &str, address: &str, server: bool) -> AgentId {
        let mut agent = Agent::new(node, self.mint_uuid(), address);
        agent.server = server;
        let service = server.then(|| RegisterService {
            id: "consul".to_owned(),
            service: "consul".to_owned(),
            meta: Some(info::server_meta()),
            port: info::SERVER_PORT.into(),
            ..RegisterService::default()
        });
        let checks = Some(vec![serf_health(node, true)]);
        self.store
            .register(Register { service, checks, ..agent.node() })
            .expect("a new node is consistent");
        self.store.register(agent.node_itself()).expect("a node alone is consistent");
        self.agents.push(agent);
        self.agents.len() - 1
    }

    /// An agent is found dead by the others, or alive again: what gossip tells the servers.
    pub fn set_alive(
        &mut self,
        now: Now,
        agent: AgentId,
        alive: bool,
        out: &mut Vec<Output>,
    ) -> Next {
        self.advance(now, out);
        let presence = if alive { Presence::Alive } else { Presence::Failed };
        self.agents[agent].presence = presence;
        self.reconcile(agent);
        self.sync(agent);
        self.settle(out)
    }

    /// The servers drop an agent that is dead, with all that it registered, as autopilot's
    /// `CleanupDeadServers` and the reaping of failed members do. Once [alive](Self::set_alive) again, it
    /// registers everything anew. One that is not dead is left alone.
    pub fn reap(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].presence == Presence::Failed {
            self.unregister(agent);
        }
        self.settle(out)
    }

    /// An agent leaves the cluster gracefully, as at the end of its service: its node is out of the
    /// catalog at once, in one write, with all checks and services of that node, whoever registered
    /// them, and with its sessions. It has ended: nothing is to be sent to it, and who waits for its
    /// answers gets none. Once [alive](Self::set_alive) again, it registers everything anew.
    pub fn leave(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.hang_up(agent);
        self.agents[agent].presence = Presence::Left;
        self.unregister(agent);
        self.settle(out)
    }

    /// The services that agents have now, with their checks, are in their configuration: an agent that
    /// [starts under another name](Self::rename) has these again, and nothing that it was told later. As long
    /// as this is not said, all of them are.
    pub fn configure(&mut self) {
        self.agents.iter_mut().for_each(Agent::configure);
    }

    /// An agent dies and starts under another name and with another id, as one with a generated name
    /// does whose directory is lost. The new node passes at once, and has what the agent's
    /// configuration has: all its services and checks, each check critical until somebody says
    /// otherwise. The old node stays as it was; 5 s later gossip finds that nobody answers to its name,
    /// and its `serfHealth` is critical from then on, which ends its sessions. Its services' checks stay
    /// as they were last. It is in the catalog until somebody deregisters it (the servers do that after
    /// 72 h). Who waits for the agent's answers gets none. The name has to be a new one.
    pub fn rename(&mut self, now: Now, agent: AgentId, node: &str, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.hang_up(agent);
        let id = self.mint_uuid();
        let old = self.agents[agent].start_as(node, id);
        self.timers.arm(Timer::Former(self.former.len()), self.store.now.after(FOUND_AFTER));
        self.former.push(Former { node: old, found: false });
        let checks = Some(vec![serf_health(node, true)]);
        let ask = Register { checks, ..self.agents[agent].node() };
        self.store.register(ask).expect("a new node is consistent");
        let ask = self.agents[agent].node_itself();
        self.store.register(ask).expect("a node alone is consistent");
        self.start_checks(agent);
        self.sync(agent);
        self.settle(out)
    }

    /// Gossip has found that nobody answers to a former name.
    pub(super) fn miss(&mut self, former: usize) {
        self.former[former].found = true;
        self.miss_former();
    }

    /// The leader tells of the former names that nobody answers to. Somebody may have taken some out of the
    /// catalog.
    pub(super) fn miss_former(&mut self) {
        let found = self.former.iter().filter(|former| former.found && self.leader);
        let found: Vec<String> = found.map(|former| former.node.clone()).collect();
        for node in found {
            let Some(known) = self.store.nodes.get(&node) else { continue };
            let ask = Register {
                id: known.id.clone(),
                address: known.address.clone(),
                ..Register::default()
            };
            self.tell_health(Register { node, ..ask }, false);
        }
    }

    /// The leader brings an agent's `serfHealth` in line with what gossip says.
    pub(super) fn reconcile(&mut self, agent: AgentId) {
        let (local, well) = (&self.agents[agent], self.is_well(agent));
        let known = self.store.nodes.contains_key(&local.node);
        // Of one that has failed nothing is told that the catalog does not know.
        if self.leader && local.presence != Presence::Left && (well || known) {
            self.tell_health(local.node(), well);
        }
    }

    fn tell_health(&mut self, ask: Register, well: bool) {
        let check = serf_health(&ask.node, well);
        let held = self.store.checks.get(&(ask.node.clone(), check.id.clone()));
        if held.is_none_or(|held| held.status != check.status) {
            let ask = Register { checks: Some(vec![check]), skip_node_update: true, ..ask };
            self.store.register(ask).expect("a check of a node is consistent");
        }
    }

    /// Has an agent compare all that it has in one to two minutes.
    pub(super) fn compare_later(&mut self, agent: AgentId) {
        self.serial += 1;
        let part = Duration::from_millis(mix(self.serial) % 60_000);
        let at = self.store.now.after(COMPARE_EVERY + part);
        self.timers.arm_no_later(Timer::Compare(agent), at);
    }

    /// Somebody has written about a node: its agent finds that out when it compares.
    pub(super) fn written_about(&mut self, node: &str) {
        if let Some(agent) = self.agents.iter().position(|agent| agent.node == node) {
            self.compare_later(agent);
        }
    }

    /// An agent compares all that it has with what the catalog has of its node, and brings it in line:
    /// anti-entropy. What others have registered there goes.
    pub(super) fn compare_all(&mut self, agent: AgentId) {
        let local = &self.agents[agent];
        if !self.leader || local.presence != Presence::Alive || local.cut.is_some() {
            return self.compare_later(agent);
        }
        self.timers.disarm(Timer::Compare(agent));
        let ask = local.node_itself();
        let known = self.store.nodes.get(&local.node);
        if known.is_none_or(|known| {
            known.id != ask.id || known.tagged_addresses != ask.tagged_addresses
        }) {
            self.store.register(ask).expect("a node alone is consistent");
        }
        self.agents[agent].compare(&self.store);
        self.sync(agent);
    }
}

impl Agent {
    /// What names the node in a registration.
    fn node(&self) -> Register {
        Register {
            id: self.id.clone(),
            node: self.node.clone(),
            address: self.address.clone(),
            ..Register::default()
        }
    }

    /// The node as its agent registers it.
    fn node_itself(&self) -> Register {
        Register {
            tagged_addresses: self.tagged_addresses(),
            node_meta: Some(BTreeMap::from([("consul-network-segment".into(), String::new())])),
            ..self.node()
        }
    }
}

pub(super) fn serf_health(node: &str, alive: bool) -> RegisterCheck {
    let (status, output) = if alive {
        ("passing", "Agent alive and reachable")
    } else {
        ("critical", "Agent not live or unreachable")
    };
    RegisterCheck {
        node: node.to_owned(),
        id: "serfHealth".to_owned(),
        name: "Serf Health Status".to_owned(),
        status: status.to_owned(),
        output: output.to_owned(),
        ..RegisterCheck::default()
    }
}
