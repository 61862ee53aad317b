//! The non-blocking reads of an agent about itself and the cluster.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Consul;
use super::agent::{Agent, Presence};
use super::http::{AgentId, Answer, Target};
use super::view::AgentService;

/// The port of the RPC between servers.
pub(super) const SERVER_PORT: u16 = 8300;
const SERF_PORT: u16 = 8301;
const VERSION: &str = "1.8.7";

/// The metadata of a server in the catalog.
pub(super) fn server_meta() -> BTreeMap<String, String> {
    let meta = [
        ("non_voter", "false"),
        ("raft_version", "3"),
        ("serf_protocol_current", "2"),
        ("serf_protocol_max", "5"),
        ("serf_protocol_min", "1"),
        ("version", VERSION),
    ];
    meta.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

impl Consul {
    /// Answers a `GET` that the agent serves without the servers' tables.
    pub(super) fn info(&self, agent: AgentId, target: &Target) -> Answer {
        let pretty = self.pretty || target.has("pretty");
        let local = &self.agents[agent];
        let server = format!("{}:{SERVER_PORT}", self.agents[0].address);
        match target.path.as_str() {
            "/v1/agent/self" => Answer::json(&self.self_answer(agent), pretty),
            "/v1/agent/members" => {
                let members = self.agents.iter().map(member);
                Answer::json(&members.collect::<Vec<_>>(), pretty)
            }
            "/v1/agent/services" => {
                let services = local.services.iter();
                let services = services.map(|(id, (service, _))| (id, AgentService::from(service)));
                Answer::json(&services.collect::<BTreeMap<_, _>>(), pretty)
            }
            "/v1/agent/checks" => {
                let checks = local.checks.iter().map(|(id, local)| (id, &local.check));
                Answer::json(&checks.collect::<BTreeMap<_, _>>(), pretty)
            }
            "/v1/status/leader" if self.last_contact(agent).0 => Answer::json(&server, pretty),
            "/v1/status/leader" => Answer::json(&"", pretty),
            "/v1/status/peers" => Answer::json(&[server], pretty),
            "/v1/catalog/datacenters" => Answer::json(&["dc1"], pretty),
            path => match path.strip_prefix("/v1/agent/service/") {
                Some(id) => match local.services.get(id) {
                    Some((service, _)) => Answer::json(&AgentService::from(service), pretty),
                    None => Answer::text(404, format!("unknown service ID: {id}")),
                },
                None => Answer::empty(404),
            },
        }
    }

    fn self_answer(&self, agent: AgentId) -> Value {
        let local = &self.agents[agent];
        json!({
            "Config": {
                "Datacenter": "dc1",
                "NodeName": local.node,
                "NodeID": local.id,
                "Revision": "",
                "Server": local.server,
                "Version": VERSION,
            },
            "DebugConfig": { "NodeName": local.node, "NodeID": local.id },
            "Member": member(local),
            "Stats": {
                "agent": {
                    "checks": local.checks.len().to_string(),
                    "services": local.services.len().to_string(),
                },
                "raft": { "applied_index": self.store.index.to_string() },
            },
            "Meta": { "consul-network-segment": "" },
        })
    }
}

fn member(agent: &Agent) -> Value {
    let server = agent.server;
    let mut tags = json!({
        "build": format!("{VERSION}:"),
        "dc": "dc1",
        "id": agent.id,
        "role": if server { "consul" } else { "node" },
        "segment": "",
        "vsn": "2",
        "vsn_max": "3",
        "vsn_min": "2",
    });
    if server {
        tags["port"] = SERVER_PORT.to_string().into();
        tags["raft_vsn"] = "3".into();
    }
    json!({
        "Name": agent.node,
        "Addr": agent.address,
        "Port": SERF_PORT,
        "Tags": tags,
        // The numbers are Serf's.
        "Status": match agent.presence {
            Presence::Alive => 1,
            Presence::Left => 3,
            Presence::Failed => 4,
        },
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}
