//! The state that hare's bootstrap leaves in Consul, and the requests that create it.
//!
//! [`Cluster::generate`] makes a cluster of any size. [`Cluster::parse`] reads one that hare's own generator
//! wrote. [`Cluster::steps`] returns the requests: keys in transactions, services with passing checks, the
//! record of each process, and the leader's lock.

mod generate;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_core::base::fid::Fid;
use hax_core::base::time::Now;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::consul::{AgentId, Consul, Output, Request};
pub use generate::{Endpoints, NodeShape, Shape};

/// A placeholder in a [`Step`]'s target, for the id of the session that the previous step created.
pub const SESSION: &str = "{session}";

/// The maximum number of operations in one transaction.
const TXN: usize = 64;

/// A service in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// The key of the process fid in decimal.
    pub id: String,
    /// `hax`, `confd`, `ios` or `s3service`.
    pub name: String,
    /// The endpoint without its port.
    pub address: String,
    /// The endpoint's port.
    pub port: u16,
}

/// A node in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// The host name.
    #[serde(rename = "node")]
    pub name: String,
    /// The address of the node.
    pub ip: String,
    /// The services of the node.
    pub services: Vec<Service>,
}

/// The state to be loaded into Consul.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Keys and values, in the order of their writes.
    pub kv: Vec<(String, String)>,
    /// The nodes. The first is that of the agent that receives the requests.
    pub catalog: Vec<Node>,
    /// The HTTP port of each node's hax, by node name.
    pub http_ports: BTreeMap<String, u16>,
}

/// One request of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The agent that receives the request. It is always the first unless each node has its own.
    pub agent: AgentId,
    /// The HTTP method.
    pub method: &'static str,
    /// The target, which may contain [`SESSION`].
    pub target: String,
    /// The body.
    pub body: String,
}

/// The place where the services of all nodes but the first are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agents {
    /// In the catalog, as services of external nodes: there is only one agent.
    One,
    /// At the agent of each service's own node. Agents are numbered like the nodes.
    Each,
}

impl Cluster {
    /// Reads the two files of hare's generator: a list of keys and a list of nodes.
    pub fn parse(kv: &str, catalog: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Pair {
            key: String,
            value: String,
        }
        let pairs: Vec<Pair> = serde_json::from_str(kv)?;
        let mut kv: Vec<(String, String)> = Vec::new();
        let mut places = BTreeMap::new();
        for Pair { key, value } in pairs {
            // Some keys are written several times. The last value counts, at the position of the first.
            let at = *places.entry(key.clone()).or_insert(kv.len());
            if at == kv.len() {
                kv.push((key, value));
            } else {
                kv[at].1 = value;
            }
        }
        let catalog = serde_json::from_str(catalog)?;
        Ok(Self { kv, catalog, http_ports: BTreeMap::new() })
    }

    /// Returns the requests, for an agent whose node is called `first` in Consul.
    #[must_use]
    pub fn steps(&self, first: &str, agents: Agents) -> Vec<Step> {
        let mut steps = self.transactions(first, agents);
        for (i, node) in self.catalog.iter().enumerate() {
            for service in &node.services {
                steps.push(if i == 0 || agents == Agents::Each {
                    self.at_agent(i, node, service)
                } else {
                    self.in_catalog(node, service)
                });
            }
        }
        steps.extend(self.leader(first));
        steps
    }

    /// Performs the steps.
    ///
    /// `send` gets each step with its final target, and returns the body of a successful response.
    pub fn load<E>(
        &self,
        first: &str,
        send: impl FnMut(&Step, &str) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        perform(&self.steps(first, Agents::One), send)
    }

    /// Loads the double. With several agents, each node's services are registered at its own agent.
    ///
    /// # Panics
    ///
    /// If a request fails: the double does not fit the cluster.
    pub fn load_double(&self, now: Now, consul: &mut Consul, first: &str, agents: Agents) {
        let mut out = Vec::new();
        let done = perform(&self.steps(first, agents), |step, target| {
            let mut request = Request::new(u64::MAX, step.method, target, step.body.clone());
            request.agent = step.agent;
            let _ = consul.handle(now, request, &mut out);
            let found = out.drain(..).find_map(|output| match output {
                Output::Response(response) if response.id == u64::MAX => Some(response),
                _ => None,
            });
            match found {
                Some(response) if response.status == 200 => Ok(response.body.to_vec()),
                other => Err(format!("{target}: {other:?}")),
            }
        });
        done.expect("an empty Consul takes a cluster");
    }

    fn transactions(&self, first: &str, agents: Agents) -> Vec<Step> {
        let mut pairs: Vec<(String, String)> =
            self.kv.iter().filter(|(key, _)| key != "leader").cloned().collect();
        for (i, node) in self.catalog.iter().enumerate() {
            let name = match i {
                0 => first.to_owned(),
                _ if agents == Agents::Each => node.name.clone(),
                _ => external(node),
            };
            pairs.push((format!("consul/node/{}", node.name), name));
        }
        for (id, kind) in self.processes() {
            let key: u64 = id.parse().unwrap_or_default();
            let value =
                format!(r#"{{"state": "M0_CONF_HA_PROCESS_DTM_RECOVERED", "type": "{kind}"}}"#);
            pairs.push((format!("processes/{}", Fid::process(key)), value));
        }
        pairs.push(("events/subscription/node".into(), r#"["health_message"]"#.into()));
        let ops: Vec<Value> = pairs.iter().map(|(key, value)| set(key, value)).collect();
        let bodies = ops.chunks(TXN).map(|ops| Value::from(ops).to_string());
        bodies.map(|body| step("PUT", "/v1/txn", body)).collect()
    }

    /// Returns each process, by its service id, with the type that it reports.
    fn processes(&self) -> Vec<(&str, &'static str)> {
        let services = || self.catalog.iter().flat_map(|node| &node.services);
        let servers = services().filter(|s| matches!(s.name.as_str(), "ios" | "confd"));
        let servers: BTreeSet<&str> = servers.map(|s| s.id.as_str()).collect();
        let kind = |service: &Service| match service.name.as_str() {
            "hax" => "M0_CONF_HA_PROCESS_HA",
            _ if servers.contains(service.id.as_str()) => "M0_CONF_HA_PROCESS_M0D",
            _ => "M0_CONF_HA_PROCESS_OTHER",
        };
        services().map(|service| (service.id.as_str(), kind(service))).collect()
    }

    fn meta(&self, node: &Node, service: &Service) -> Value {
        if service.name != "hax" {
            return json!({ "transport_type": "libfab" });
        }
        let port = self.http_ports.get(&node.name).copied().unwrap_or(8008);
        json!({
            "transport_type": "libfab",
            "http_port": port.to_string(),
            "http_protocol": "http",
        })
    }

    fn at_agent(&self, agent: AgentId, node: &Node, service: &Service) -> Step {
        let body = json!({
            "ID": service.id, "Name": service.name,
            "Address": service.address, "Port": service.port,
            "Meta": self.meta(node, service),
            "Check": {
                "CheckID": format!("service:{}", service.id), "TTL": "100h", "Status": "passing",
            },
        });
        Step { agent, ..step("PUT", "/v1/agent/service/register", body.to_string()) }
    }

    /// Registers a service and a check of its node in the catalog.
    ///
    /// The node's check is not called `serfHealth`: the real servers remove a node with that check if no
    /// agent belongs to it.
    fn in_catalog(&self, node: &Node, service: &Service) -> Step {
        let name = external(node);
        let body = json!({
            "Node": name, "Address": node.ip,
            "Service": {
                "ID": service.id, "Service": service.name,
                "Address": service.address, "Port": service.port,
                "Meta": self.meta(node, service),
            },
            "Checks": [
                { "Node": name, "CheckID": "nodeHealth", "Name": "Node", "Status": "passing" },
                {
                    "Node": name, "CheckID": format!("service:{}", service.id),
                    "Name": format!("Service '{}' check", service.name),
                    "ServiceID": service.id, "Status": "passing",
                },
            ],
        });
        step("PUT", "/v1/catalog/register", body.to_string())
    }

    fn leader(&self, first: &str) -> Vec<Step> {
        let Some(node) = self.catalog.first() else { return Vec::new() };
        let own = node.services.iter().filter(|s| matches!(s.name.as_str(), "hax" | "confd"));
        let mut checks = vec!["serfHealth".to_owned()];
        checks.extend(own.map(|service| format!("service:{}", service.id)));
        let session = json!({
            "Name": "leader", "Node": first, "Checks": checks, "LockDelay": "2s",
        });
        vec![
            step("PUT", "/v1/session/create", session.to_string()),
            step("PUT", &format!("/v1/kv/leader?acquire={SESSION}"), node.name.clone()),
        ]
    }
}

pub(crate) fn perform<E>(
    steps: &[Step],
    mut send: impl FnMut(&Step, &str) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let mut session = String::new();
    for step in steps {
        let body = send(step, &step.target.replace(SESSION, &session))?;
        if let Ok(made) = serde_json::from_slice::<Value>(&body)
            && let Some(id) = made["ID"].as_str()
        {
            id.clone_into(&mut session);
        }
    }
    Ok(())
}

/// Returns the Consul node name of a host without an agent here. Hare's names contain the agent's uuid.
fn external(node: &Node) -> String {
    format!("{}:0a1b2c3d", node.name)
}

fn step(method: &'static str, target: &str, body: String) -> Step {
    Step { agent: 0, method, target: target.to_owned(), body }
}

fn set(key: &str, value: &str) -> Value {
    json!({ "KV": { "Verb": "set", "Key": key, "Value": STANDARD.encode(value) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Cluster {
        let kv = include_str!("../fixtures/n3/kv.json");
        Cluster::parse(kv, include_str!("../fixtures/n3/catalog.json")).unwrap()
    }

    #[test]
    fn what_is_generated_for_three_nodes_is_what_hare_generates() {
        let generated = Cluster::generate(&Shape::like_hare(3));
        let fixture = fixture();
        assert_eq!(generated.catalog, fixture.catalog);
        let pairs = |cluster: &Cluster| cluster.kv.iter().cloned().collect::<BTreeMap<_, _>>();
        let (ours, theirs) = (pairs(&generated), pairs(&fixture));
        for (key, value) in &theirs {
            assert_eq!(ours.get(key), Some(value), "{key}");
        }
        let more: Vec<_> = ours.keys().filter(|key| !theirs.contains_key(*key)).collect();
        assert!(more.is_empty(), "{more:?}");
        assert_eq!(ours.len(), generated.kv.len(), "each key once");
    }

    #[test]
    fn the_objects_are_those_that_the_fixture_lists() {
        let objects = include_str!("../fixtures/n3/objects.json");
        let objects: BTreeMap<String, Vec<String>> = serde_json::from_str(objects).unwrap();
        let cluster = Cluster::generate(&Shape::like_hare(3));
        for fid in objects.values().flatten() {
            let named = |key: &str| key.split('/').any(|part| part == fid);
            assert!(cluster.kv.iter().any(|(key, _)| named(key)), "{fid}");
        }
    }

    #[test]
    fn it_loads_with_one_agent_and_with_many() {
        let cluster = Cluster::generate(&Shape::like_hare(3));
        for agents in [Agents::One, Agents::Each] {
            let mut consul = Consul::new("ssu1");
            if agents == Agents::Each {
                consul.add_agent("ssu2", "127.0.1.2");
                consul.add_agent("ssu3", "127.0.1.3");
            }
            cluster.load_double(Now::default(), &mut consul, "ssu1", agents);
            let mut out = Vec::new();
            let ask = Request::new(1, "GET", "/v1/health/service/confd?passing", "");
            let _ = consul.handle(Now::default(), ask, &mut out);
            let Some(Output::Response(response)) = out.pop() else { panic!("no response") };
            let found: Vec<Value> = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(found.len(), 3, "{agents:?}");
        }
    }
}
