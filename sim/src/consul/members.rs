//! Membership: agents join, die, leave, and return under another name.
//!
//! Agents detect each other's presence by gossip. The leader of the servers writes the result into the
//! catalog as the check `serfHealth`, and removes the nodes of agents that have left.

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::time::{Next, Now};

use super::agent::{Agent, Presence};
use super::catalog::{Register, RegisterCheck, RegisterService};
use super::delays::GOSSIP_DELAY;
use super::http::AgentId;
use super::{Consul, Output, Timer, info, mix};

/// The minimum time between two full comparisons of an agent with the catalog. The maximum is twice as long.
const FULL_SYNC_EVERY: Duration = Duration::from_secs(60);

/// The former name of an agent that has returned under another name.
#[derive(Clone, Debug)]
pub(super) struct FormerName {
    node: String,
    /// Gossip has detected that no agent uses the name.
    detected: bool,
}

impl Consul {
    /// Creates a cluster of these nodes. The first node has the server, the others have client agents.
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

    /// Adds a node with a client agent to the cluster.
    pub fn add_agent(&mut self, node: &str, address: &str) -> AgentId {
        self.join(node, address, false)
    }

    /// Adds a node with a server agent to the cluster.
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

    /// Reports an agent as failed or as alive, as gossip reports it to the servers.
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
        self.finish(out)
    }

    /// Removes a failed agent with all its registrations, as autopilot's `CleanupDeadServers` and the reaping
    /// of failed members do.
    ///
    /// Once [alive](Self::set_alive) again, the agent registers everything anew. An agent that has not failed
    /// is not removed.
    pub fn reap(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        if self.agents[agent].presence == Presence::Failed {
            self.unregister(agent);
        }
        self.finish(out)
    }

    /// Makes an agent leave the cluster gracefully, as at the end of its service.
    ///
    /// One write removes its node from the catalog at once, with all checks and services of that node,
    /// whoever registered them, and with its sessions. The agent has ended: nothing may be sent to it, and
    /// clients that wait for its responses get none. Once [alive](Self::set_alive) again, it registers
    /// everything anew.
    pub fn leave(&mut self, now: Now, agent: AgentId, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.drop_requests(agent);
        self.agents[agent].presence = Presence::Left;
        self.unregister(agent);
        self.finish(out)
    }

    /// Makes the present services of all agents, with their checks, their configuration.
    ///
    /// An agent that [starts under another name](Self::rename) has the services of its configuration again,
    /// and none that were registered later. Before this call all services count as configured.
    pub fn configure(&mut self) {
        self.agents.iter_mut().for_each(Agent::configure);
    }

    /// Makes an agent die and start under another name and with another id, as an agent with a generated name
    /// does after the loss of its directory.
    ///
    /// The new node passes at once. It has all services and checks of the agent's configuration, and each
    /// check is critical until it is updated. The old node stays in the catalog unchanged. After 5 s gossip
    /// detects that no agent uses its name. From then on its `serfHealth` is critical, which ends its
    /// sessions. The checks of its services keep their last status. The old node stays in the catalog until
    /// somebody deregisters it (the servers do that after 72 h). Clients that wait for the agent's responses
    /// get none. The name must not have been used before.
    pub fn rename(&mut self, now: Now, agent: AgentId, node: &str, out: &mut Vec<Output>) -> Next {
        self.advance(now, out);
        self.drop_requests(agent);
        let id = self.mint_uuid();
        let old = self.agents[agent].restart_as(node, id);
        self.timers
            .arm(Timer::FormerName(self.former_names.len()), self.store.now.after(GOSSIP_DELAY));
        self.former_names.push(FormerName { node: old, detected: false });
        let checks = Some(vec![serf_health(node, true)]);
        let ask = Register { checks, ..self.agents[agent].node() };
        self.store.register(ask).expect("a new node is consistent");
        let ask = self.agents[agent].node_itself();
        self.store.register(ask).expect("a node alone is consistent");
        self.start_checks(agent);
        self.sync(agent);
        self.finish(out)
    }

    /// Records that gossip has detected that no agent uses a former name.
    pub(super) fn on_former_name_detected(&mut self, former: usize) {
        self.former_names[former].detected = true;
        self.fail_former_names();
    }

    /// Sets `serfHealth` of the former names that no agent uses to critical.
    ///
    /// Somebody may have removed some of these nodes from the catalog.
    pub(super) fn fail_former_names(&mut self) {
        let found = self.former_names.iter().filter(|former| former.detected && self.leader);
        let found: Vec<String> = found.map(|former| former.node.clone()).collect();
        for node in found {
            let Some(known) = self.store.nodes.get(&node) else { continue };
            let ask = Register {
                id: known.id.clone(),
                address: known.address.clone(),
                ..Register::default()
            };
            self.write_health(Register { node, ..ask }, false);
        }
    }

    /// Updates an agent's `serfHealth` in the catalog according to gossip.
    pub(super) fn reconcile(&mut self, agent: AgentId) {
        let (local, well) = (&self.agents[agent], self.is_healthy(agent));
        let known = self.store.nodes.contains_key(&local.node);
        // A failed node that is not in the catalog is not added to it.
        if self.leader && local.presence != Presence::Left && (well || known) {
            self.write_health(local.node(), well);
        }
    }

    fn write_health(&mut self, ask: Register, well: bool) {
        let check = serf_health(&ask.node, well);
        let held = self.store.checks.get(&(ask.node.clone(), check.id.clone()));
        if held.is_none_or(|held| held.status != check.status) {
            let ask = Register { checks: Some(vec![check]), skip_node_update: true, ..ask };
            self.store.register(ask).expect("a check of a node is consistent");
        }
    }

    /// Schedules a full comparison of an agent with the catalog in one to two minutes.
    pub(super) fn full_sync_later(&mut self, agent: AgentId) {
        self.serial += 1;
        let part = Duration::from_millis(mix(self.serial) % 60_000);
        let at = self.store.now.after(FULL_SYNC_EVERY + part);
        self.timers.arm_no_later(Timer::FullSync(agent), at);
    }

    /// Schedules a comparison for the agent of a node that a client has written about.
    pub(super) fn on_catalog_write(&mut self, node: &str) {
        if let Some(agent) = self.agents.iter().position(|agent| agent.node == node) {
            self.full_sync_later(agent);
        }
    }

    /// Compares an agent with the node's rows in the catalog, and syncs the differences: anti-entropy. Rows
    /// that others have registered there are removed.
    pub(super) fn full_sync(&mut self, agent: AgentId) {
        let local = &self.agents[agent];
        if !self.leader || local.presence != Presence::Alive || local.disconnection.is_some() {
            return self.full_sync_later(agent);
        }
        self.timers.disarm(Timer::FullSync(agent));
        let ask = local.node_itself();
        let known = self.store.nodes.get(&local.node);
        if known.is_none_or(|known| {
            known.id != ask.id || known.tagged_addresses != ask.tagged_addresses
        }) {
            self.store.register(ask).expect("a node alone is consistent");
        }
        self.agents[agent].mark_differences(&self.store);
        self.sync(agent);
    }
}

impl Agent {
    /// Returns the fields that identify the node in a registration.
    fn node(&self) -> Register {
        Register {
            id: self.id.clone(),
            node: self.node.clone(),
            address: self.address.clone(),
            ..Register::default()
        }
    }

    /// Returns the node's own registration.
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
