//! Several servers that form one cluster, each with its own agent.

use std::io;
use std::thread;
use std::time::Instant;

use serde_json::json;

use super::{LOOK, Options, READY, RealConsul};
use crate::cluster::{Agents, Cluster};

/// What an agent is made to tell the servers, one after the other.
const TOLD: [&str; 4] = ["told-1", "told-2", "told-3", "told-4"];

impl RealConsul {
    /// Starts one server for each of these and waits until they have a leader and each knows all
    /// nodes. Their gossip is quick, so that a dead one is found in less than a second.
    pub fn start_servers(options: Vec<Options>) -> io::Result<Vec<Self>> {
        let expect = options.len();
        let mut servers: Vec<Self> = Vec::new();
        for mut options in options {
            options.durable = true;
            servers.push(Self::prepare(options)?);
        }
        let join: Vec<String> =
            servers.iter().map(|server| format!("127.0.0.1:{}", server.ports[2])).collect();
        let config = json!({
            "bootstrap_expect": expect,
            "retry_join": join,
            "retry_interval": "100ms",
            "gossip_lan": {
                "probe_interval": "200ms", "probe_timeout": "100ms", "suspicion_mult": 2,
                "gossip_interval": "50ms",
            },
        });
        for server in &mut servers {
            server.options.config = config.clone();
            server.launch()?;
        }
        let deadline = Instant::now() + READY;
        while !servers.iter().all(|server| server.sees(expect)) {
            if Instant::now() >= deadline {
                return Err(servers[0].trouble("does not see the others"));
            }
            thread::sleep(LOOK);
        }
        servers.iter().try_for_each(Self::tells_at_once)?;
        Ok(servers)
    }

    /// Waits until the agent tells the servers at once what changes. When a server has joined, an agent
    /// tells them nothing for up to 3 s and then everything (Consul's anti-entropy, `serverUpInterval`).
    /// What is in the catalog first was told before that or after it. If another server joined meanwhile,
    /// the agent does so once more, but may tell the second service before: it takes one of both by
    /// chance. The third comes after all that.
    fn tells_at_once(&self) -> io::Result<()> {
        for id in TOLD {
            let service = json!({ "Name": id }).to_string();
            self.request("PUT", "/v1/agent/service/register", service.as_bytes())?;
            let deadline = Instant::now() + READY;
            let target = format!("/v1/catalog/service/{id}");
            while self.request("GET", &target, b"")?.text() == "[]" {
                if Instant::now() >= deadline {
                    return Err(self.trouble("does not tell the servers of a service"));
                }
                thread::sleep(LOOK);
            }
        }
        for id in TOLD {
            self.request("PUT", &format!("/v1/agent/service/deregister/{id}"), b"")?;
        }
        Ok(())
    }

    /// Starts a dead server again, without waiting for the others.
    pub fn rejoin(&mut self) -> io::Result<()> {
        self.kill();
        self.launch()
    }

    /// Whether its agent has a leader and knows so many nodes that are well.
    #[must_use]
    pub fn sees(&self, nodes: usize) -> bool {
        let well = self.request("GET", "/v1/health/state/passing", b"");
        let Ok(reply) = well else { return false };
        let checks: Vec<serde_json::Value> =
            serde_json::from_slice(&reply.body).unwrap_or_default();
        checks.iter().filter(|check| check["CheckID"] == "serfHealth").count() >= nodes
    }

    /// Whether it is the servers' leader.
    #[must_use]
    pub fn leads_servers(&self) -> bool {
        let reply = self.request("GET", "/v1/status/leader", b"");
        reply.is_ok_and(|reply| reply.text() == format!("\"127.0.0.1:{}\"", self.ports[1]))
    }

    /// Loads a cluster of as many nodes as there are servers, each node's services at its own.
    pub fn load_servers(servers: &[Self], cluster: &Cluster) -> io::Result<()> {
        let steps = cluster.steps(&servers[0].options.node, Agents::Each);
        crate::cluster::perform(&steps, |step, target| {
            let server = &servers[step.agent];
            let reply = server.request(step.method, target, step.body.as_bytes())?;
            if reply.status == 200 {
                return Ok(reply.body);
            }
            Err(io::Error::other(format!("{target}: {} {}", reply.status, reply.text())))
        })
    }
}
