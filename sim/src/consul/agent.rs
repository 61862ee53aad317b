//! The agents: the services and checks of each agent, and their registration in the catalog.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::time::Instant;
use serde::Deserialize;

use super::catalog::{Register, RegisterCheck, RegisterService};
use super::define::{CheckDefinition, ServiceDefinition, Source};
use super::http::{AgentId, Answer, bad, decode, failed};
use super::rows::{Check, Service, Texts};
use super::store::Store;
use super::{Consul, Timer, Write};

/// The maximum length of a check's output, in bytes. Consul cuts off the rest.
const MAX_OUTPUT: usize = 4096;

/// A check that an agent runs.
#[derive(Clone, Debug)]
pub(super) struct LocalCheck {
    /// Identifies the timers of the check.
    pub(super) serial: u64,
    pub(super) check: Check,
    source: Source,
    in_sync: bool,
}

/// The state of an agent as the other agents know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Alive,
    /// The agent does not respond to gossip.
    Failed,
    /// The agent left the cluster gracefully.
    Left,
}

/// The state of an agent that is cut off: no message passes between it and the others.
#[derive(Clone, Debug)]
pub(super) struct Disconnection {
    pub(super) since: Instant,
    /// Gossip has detected the cut, on both sides.
    pub(super) detected: bool,
    /// The server's own copy of the state, from before the cut.
    pub(super) copy: Option<Box<Store>>,
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) id: String,
    pub(super) address: String,
    /// The agent is a server.
    pub(super) server: bool,
    /// The agent's server leads the servers.
    pub(super) leads: bool,
    pub(super) presence: Presence,
    pub(super) disconnection: Option<Disconnection>,
    pub(super) services: BTreeMap<String, (Service, bool)>,
    pub(super) checks: BTreeMap<String, LocalCheck>,
    /// The services in the agent's configuration, if the test has set them. The other services are lost with
    /// the agent's directory.
    configured: Option<BTreeSet<String>>,
    deregistered_services: BTreeSet<String>,
    deregistered_checks: BTreeSet<String>,
}

/// The body of `agent/check/update`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Update {
    status: String,
    output: String,
}

fn valid_status(status: &str) -> bool {
    matches!(status, "passing" | "warning" | "critical")
}

impl Agent {
    pub(super) fn new(node: &str, id: String, address: &str) -> Self {
        Self {
            node: node.to_owned(),
            id,
            address: address.to_owned(),
            server: false,
            leads: false,
            presence: Presence::Alive,
            disconnection: None,
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            configured: None,
            deregistered_services: BTreeSet::new(),
            deregistered_checks: BTreeSet::new(),
        }
    }

    /// The addresses with which the agent registers its node.
    pub(super) fn tagged_addresses(&self) -> Texts {
        let tags = ["lan", "lan_ipv4", "wan", "wan_ipv4"];
        Some(tags.map(|tag| (tag.to_owned(), self.address.clone())).into())
    }

    /// Makes the agent's present services its configuration.
    pub(super) fn configure(&mut self) {
        self.configured = Some(self.services.keys().cloned().collect());
    }

    /// Starts the agent again, under another name and with the services of its configuration. Returns the old
    /// name.
    pub(super) fn restart_as(&mut self, node: &str, id: String) -> String {
        self.id = id;
        self.presence = Presence::Alive;
        self.deregistered_services.clear();
        self.deregistered_checks.clear();
        if let Some(configured) = &self.configured {
            self.services.retain(|id, _| configured.contains(id));
            self.checks.retain(|_, local| configured.contains(&local.check.service_id));
        }
        self.services.values_mut().for_each(|(_, in_sync)| *in_sync = false);
        for local in self.checks.values_mut() {
            node.clone_into(&mut local.check.node);
            "critical".clone_into(&mut local.check.status);
            local.check.output.clear();
            local.in_sync = false;
        }
        std::mem::replace(&mut self.node, node.to_owned())
    }

    /// Marks the differences between the agent's services and checks and the node's rows in the catalog.
    pub(super) fn mark_differences(&mut self, store: &Store) {
        let services = store.services_of(&self.node).map(|service| &service.id);
        let strange = services.filter(|id| *id != "consul" && !self.services.contains_key(*id));
        self.deregistered_services.extend(strange.cloned());
        let checks = store.checks_of(&self.node);
        let strange = checks.filter(|check| {
            check.id != "serfHealth"
                && !self.checks.contains_key(&check.id)
                && !self.deregistered_services.contains(&check.service_id)
        });
        self.deregistered_checks.extend(strange.map(|check| check.id.clone()));
        for (id, (service, in_sync)) in &mut self.services {
            let held = store.services.get(&(self.node.clone(), id.clone()));
            let same =
                |held: &Service| Service { create_index: 0, modify_index: 0, ..held.clone() };
            *in_sync &= held.is_some_and(|held| same(held) == *service);
        }
        for (id, local) in &mut self.checks {
            let held = store.checks.get(&(self.node.clone(), id.clone()));
            let own = &local.check;
            // Consul syncs outputs by a timer of their own.
            local.in_sync &= held.is_some_and(|held| {
                held.status == own.status
                    && held.name == own.name
                    && held.notes == own.notes
                    && held.service_id == own.service_id
            });
        }
    }

    fn register(&self, service: Option<&Service>, checks: Vec<RegisterCheck>) -> Register {
        Register {
            id: self.id.clone(),
            node: self.node.clone(),
            address: self.address.clone(),
            service: service.map(|service| RegisterService {
                id: service.id.clone(),
                service: service.name.clone(),
                tags: Some(service.tags.clone()),
                address: service.address.clone(),
                meta: service.meta.clone(),
                port: service.port,
                weights: Some(service.weights),
                enable_tag_override: service.enable_tag_override,
            }),
            checks: Some(checks),
            skip_node_update: true,
            ..Register::default()
        }
    }
}

fn registered(check: &Check) -> RegisterCheck {
    RegisterCheck {
        node: check.node.clone(),
        id: check.id.clone(),
        name: check.name.clone(),
        status: check.status.clone(),
        notes: check.notes.clone(),
        output: check.output.clone(),
        service_id: check.service_id.clone(),
        service_name: check.service_name.clone(),
        service_tags: Some(check.service_tags.clone()),
        kind: check.kind,
    }
}

impl Consul {
    /// Routes the writes of `/v1/agent/`.
    pub(super) fn agent_write(&mut self, agent: AgentId, write: &Write<'_>) -> Option<Answer> {
        let rest = write.target.path.strip_prefix("/v1/agent/")?;
        let note = write.target.text("note");
        let id_after = |prefix: &str| rest.strip_prefix(prefix);
        let result = if rest == "service/register" {
            self.service_register(agent, write.body)
        } else if rest == "check/register" {
            self.check_register(agent, write.body)
        } else if let Some(id) = id_after("service/deregister/") {
            self.service_deregister(agent, id)
        } else if let Some(id) = id_after("check/deregister/") {
            self.remove_check(agent, id);
            Ok(())
        } else if let Some(id) = id_after("check/pass/") {
            self.update_ttl(agent, id, "passing", note)
        } else if let Some(id) = id_after("check/warn/") {
            self.update_ttl(agent, id, "warning", note)
        } else if let Some(id) = id_after("check/fail/") {
            self.update_ttl(agent, id, "critical", note)
        } else if let Some(id) = id_after("check/update/") {
            self.check_update(agent, id, write.body)
        } else {
            return None;
        };
        self.sync(agent);
        Some(result.map_or_else(|refusal| refusal, |()| Answer::empty(200)))
    }

    fn service_register(&mut self, agent: AgentId, body: &[u8]) -> Result<(), Answer> {
        let ask: ServiceDefinition =
            decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?;
        if ask.name.is_empty() {
            return Err(bad("Missing service name"));
        }
        let service = ask.service();
        let checks = ask.into_checks();
        for check in &checks {
            check.source().map_err(|e| bad(format!("Invalid check: {e}")))?;
        }
        if checks.iter().any(|c| !c.status.is_empty() && !valid_status(&c.status)) {
            return Err(bad("Status for checks must 'passing', 'warning', 'critical'"));
        }
        let id = service.id.clone();
        let local = &mut self.agents[agent];
        local.deregistered_services.remove(&id);
        // Consul registers a service again even if its definition has not changed.
        local.services.insert(id, (service, false));
        for check in checks {
            self.add_check(agent, check);
        }
        Ok(())
    }

    fn check_register(&mut self, agent: AgentId, body: &[u8]) -> Result<(), Answer> {
        let mut ask: CheckDefinition =
            decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?;
        if ask.name.is_empty() {
            return Err(bad("Missing check name"));
        }
        if !ask.status.is_empty() && !valid_status(&ask.status) {
            return Err(bad("Bad check status"));
        }
        ask.source().map_err(|e| bad(format!("Invalid check: {e}")))?;
        if ask.id.is_empty() {
            ask.id.clone_from(&ask.name);
        }
        let services = &self.agents[agent].services;
        if !ask.service_id.is_empty() && !services.contains_key(&ask.service_id) {
            return Err(failed(format!("ServiceID {:?} does not exist", ask.service_id)));
        }
        self.add_check(agent, ask);
        Ok(())
    }

    fn add_check(&mut self, agent: AgentId, ask: CheckDefinition) {
        let source = ask.source().expect("the caller has looked");
        self.serial += 1;
        let fresh = self.serial;
        let local = &mut self.agents[agent];
        let service = local.services.get(&ask.service_id).map(|(service, _)| service.clone());
        let service = service.unwrap_or_default();
        let old = local.checks.get(&ask.id);
        let status = if ask.status.is_empty() { "critical".to_owned() } else { ask.status };
        // A check that is defined again keeps its status, whatever the definition says.
        let (status, output) = match old {
            Some(old) => (old.check.status.clone(), old.check.output.clone()),
            None => (status, String::new()),
        };
        let check = Check {
            node: local.node.clone(),
            id: ask.id.clone(),
            name: ask.name,
            status,
            notes: ask.notes,
            output,
            service_id: service.id,
            service_name: service.name,
            service_tags: service.tags,
            kind: source.kind(),
            ..Check::default()
        };
        let serial = old.map_or(fresh, |old| old.serial);
        local.deregistered_checks.remove(&ask.id);
        local.checks.insert(ask.id.clone(), LocalCheck { serial, check, source, in_sync: false });
        self.timers.disarm(Timer::Output(agent, serial));
        self.arm_ttl(agent, &ask.id);
    }

    fn arm_ttl(&mut self, agent: AgentId, id: &str) {
        let Some(local) = self.agents[agent].checks.get(id) else { return };
        let timer = Timer::Ttl(agent, local.serial);
        match local.source {
            Source::Ttl(ttl) => self.timers.arm(timer, self.store.now.after(ttl)),
            Source::Agent(_) => self.timers.disarm(timer),
        }
    }

    /// Resets the timers of an agent's checks after its start: the timers of its earlier life have ended.
    pub(super) fn start_checks(&mut self, agent: AgentId) {
        let checks = self.agents[agent].checks.values();
        let checks: Vec<_> = checks.map(|local| (local.check.id.clone(), local.serial)).collect();
        for (id, serial) in checks {
            self.timers.disarm(Timer::Output(agent, serial));
            self.arm_ttl(agent, &id);
        }
    }

    fn service_deregister(&mut self, agent: AgentId, id: &str) -> Result<(), Answer> {
        if id.is_empty() {
            return Err(failed("ServiceID missing"));
        }
        let local = &mut self.agents[agent];
        if local.services.remove(id).is_none() {
            return Ok(());
        }
        local.deregistered_services.insert(id.to_owned());
        let checks = local.checks.values().filter(|local| local.check.service_id == id);
        let checks: Vec<String> = checks.map(|local| local.check.id.clone()).collect();
        for check in checks {
            self.remove_check(agent, &check);
            // The check leaves the catalog with its service.
            self.agents[agent].deregistered_checks.remove(&check);
        }
        Ok(())
    }

    fn remove_check(&mut self, agent: AgentId, id: &str) {
        if let Some(local) = self.agents[agent].checks.remove(id) {
            self.timers.disarm(Timer::Ttl(agent, local.serial));
            self.timers.disarm(Timer::Output(agent, local.serial));
            self.agents[agent].deregistered_checks.insert(id.to_owned());
        }
    }

    fn check_update(&mut self, agent: AgentId, id: &str, body: &[u8]) -> Result<(), Answer> {
        let ask: Update = decode(body).map_err(|e| bad(format!("Request decode failed: {e}")))?;
        if !valid_status(&ask.status) {
            return Err(bad(format!("Invalid check status: '{}'", ask.status)));
        }
        self.update_ttl(agent, id, &ask.status, &ask.output)
    }

    fn update_ttl(
        &mut self,
        agent: AgentId,
        id: &str,
        status: &str,
        output: &str,
    ) -> Result<(), Answer> {
        let local = self.agents[agent].checks.get(id);
        if !local.is_some_and(|local| matches!(local.source, Source::Ttl(_))) {
            return Err(failed(format!("CheckID {id:?} does not have associated TTL")));
        }
        self.set_local(agent, id, status, output);
        self.arm_ttl(agent, id);
        Ok(())
    }

    /// Sets the status and the output of a check. A change of the status goes to the catalog at once, a
    /// change of the output alone minutes later.
    pub(super) fn set_local(&mut self, agent: AgentId, id: &str, status: &str, output: &str) {
        let Some(local) = self.agents[agent].checks.get_mut(id) else { return };
        let mut output = output.to_owned();
        if output.len() > MAX_OUTPUT {
            let cut = (0..=MAX_OUTPUT).rev().find(|at| output.is_char_boundary(*at));
            let full = output.len();
            output.truncate(cut.unwrap_or(0));
            output = format!("{output} ... (captured {MAX_OUTPUT} of {full} bytes)");
        }
        let check = &mut local.check;
        let timer = Timer::Output(agent, local.serial);
        if check.status == status {
            if check.output != output {
                check.output = output;
                self.timers.arm_no_later(timer, self.store.now.after(super::OUTPUT_DELAY));
            }
            return;
        }
        status.clone_into(&mut check.status);
        check.output = output;
        local.in_sync = false;
        self.timers.disarm(timer);
    }

    /// Fails a check whose TTL has expired.
    pub(super) fn expire_check(&mut self, agent: AgentId, serial: u64) {
        let local = &self.agents[agent];
        if local.presence != Presence::Alive {
            return;
        }
        let found = local.checks.values().find(|local| local.serial == serial);
        let Some(check) = found.map(|local| local.check.clone()) else { return };
        let mut output = "TTL expired".to_owned();
        if !check.output.is_empty() {
            output += &format!(" (last output before timeout follows): {}", check.output);
        }
        self.set_local(agent, &check.id, "critical", &output);
        self.sync(agent);
    }

    /// Syncs the output of a check, whose delay has passed.
    pub(super) fn flush_output(&mut self, agent: AgentId, serial: u64) {
        let checks = &mut self.agents[agent].checks;
        if let Some(local) = checks.values_mut().find(|local| local.serial == serial) {
            local.in_sync = false;
        }
        self.sync(agent);
    }

    /// Removes an agent's node from the catalog. The agent has to register everything again.
    pub(super) fn unregister(&mut self, agent: AgentId) {
        let local = &mut self.agents[agent];
        local.services.values_mut().for_each(|(_, in_sync)| *in_sync = false);
        local.checks.values_mut().for_each(|check| check.in_sync = false);
        let index = self.store.next_index();
        self.store.delete_node(index, &local.node);
    }

    /// Syncs the agent's services and checks to the catalog, if the agent can reach a leader.
    pub(super) fn sync(&mut self, agent: AgentId) {
        let local = &mut self.agents[agent];
        if !self.leader || local.presence != Presence::Alive || local.disconnection.is_some() {
            return;
        }
        for id in std::mem::take(&mut local.deregistered_services) {
            let index = self.store.next_index();
            self.store.delete_service(index, &local.node, &id);
        }
        for id in std::mem::take(&mut local.deregistered_checks) {
            let index = self.store.next_index();
            self.store.delete_check(index, &local.node, &id);
        }
        let mut asks = Vec::new();
        let new: Vec<Service> =
            local.services.values().filter(|(_, sync)| !sync).map(|(s, _)| s.clone()).collect();
        for service in new {
            // One write registers a service and those of its checks that are not in sync.
            let checks = local.checks.values_mut();
            let checks = checks.filter(|c| !c.in_sync && c.check.service_id == service.id);
            let checks = checks.map(|local| {
                local.in_sync = true;
                registered(&local.check)
            });
            let checks = checks.collect();
            asks.push(local.register(Some(&service), checks));
            local.services.entry(service.id).and_modify(|(_, sync)| *sync = true);
        }
        let late: Vec<Check> =
            local.checks.values().filter(|c| !c.in_sync).map(|c| c.check.clone()).collect();
        for check in late {
            let service = local.services.get(&check.service_id).map(|(service, _)| service);
            asks.push(local.register(service, vec![registered(&check)]));
            local.checks.entry(check.id).and_modify(|local| local.in_sync = true);
        }
        for ask in asks {
            self.store.register(ask).expect("what an agent registers is consistent");
        }
    }
}
