//! A cluster of several real servers, each with its own agent.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{self, Reply};
use super::{LOOK, Options, READY, RealConsul};
use crate::cluster::{Agents, Cluster};

/// The time within which an agent that has discovered a server compares itself with the catalog
/// (`serverUpInterval`), even on a busy machine.
const SERVER_UP: Duration = Duration::from_millis(3_500);

/// The pace of gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gossip {
    /// A dead agent is detected in less than a second.
    Fast,
    /// Consul's default: a dead agent is detected in 5 to 8 s.
    Stock,
}

/// Returns the configuration of an agent that joins these servers.
fn join(servers: &[RealConsul], gossip: Gossip) -> Value {
    let join: Vec<String> =
        servers.iter().map(|server| format!("127.0.0.1:{}", server.ports[2])).collect();
    let mut config = json!({ "retry_join": join, "retry_interval": "100ms" });
    if gossip == Gossip::Fast {
        config["gossip_lan"] = json!({
            "probe_interval": "200ms", "probe_timeout": "100ms", "suspicion_mult": 2,
            "gossip_interval": "50ms",
        });
    }
    config
}

/// The services that an agent registers one after the other while the test waits for its sync.
const TOLD: [&str; 4] = ["told-1", "told-2", "told-3", "told-4"];

impl RealConsul {
    /// Starts one server for each of these options and waits until they have a leader and each knows all
    /// nodes.
    ///
    /// Gossip is set to be fast, so that a dead server is detected in less than a second.
    pub fn start_servers(options: Vec<Options>) -> io::Result<Vec<Self>> {
        Self::start_servers_with(options, Gossip::Fast)
    }

    /// Does the same with this pace of gossip.
    pub fn start_servers_with(options: Vec<Options>, gossip: Gossip) -> io::Result<Vec<Self>> {
        let expect = options.len();
        let mut servers: Vec<Self> = Vec::new();
        for mut options in options {
            options.durable = true;
            servers.push(Self::prepare(options)?);
        }
        let mut config = join(&servers, gossip);
        config["bootstrap_expect"] = expect.into();
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

    /// Starts a client agent of these servers, and waits until it is one of `nodes` known nodes.
    pub fn start_client(servers: &[Self], node: &str, nodes: usize) -> io::Result<Self> {
        Self::start_client_with(servers, node, nodes, Gossip::Fast)
    }

    /// Does the same with this pace of gossip.
    pub fn start_client_with(
        servers: &[Self],
        node: &str,
        nodes: usize,
        gossip: Gossip,
    ) -> io::Result<Self> {
        let mut options = Options::new(node);
        options.durable = true;
        let mut client = Self::prepare(options)?;
        client.options.config = join(servers, gossip);
        client.options.config["server"] = false.into();
        client.options.config["bootstrap_expect"] = 0.into();
        client.launch()?;
        client.await_that("is not one of them", |client| client.sees(nodes))?;
        client.tells_at_once()?;
        Ok(client)
    }

    /// Waits until the agent has finished the comparisons with the catalog that follow the discovery of
    /// servers.
    ///
    /// Each such comparison comes up to 3 s after the discovery, and a discovery in the meantime causes
    /// another comparison. A comparison removes foreign rows from the agent's node. If a foreign row remains
    /// for that time, only the comparison of every minute follows.
    pub fn compares_no_more(&self) -> io::Result<()> {
        let node = &self.options.node;
        let strange = json!({
            "Node": node, "SkipNodeUpdate": true, "Service": { "ID": "strange", "Service": "strange" },
        });
        loop {
            self.request("PUT", "/v1/catalog/register", strange.to_string().as_bytes())?;
            let end = Instant::now() + SERVER_UP;
            let stays = || {
                self.request("GET", "/v1/catalog/service/strange", b"").map(|r| r.text() != "[]")
            };
            while stays()? {
                if Instant::now() >= end {
                    let gone = json!({ "Node": node, "ServiceID": "strange" }).to_string();
                    self.request("PUT", "/v1/catalog/deregister", gone.as_bytes())?;
                    return Ok(());
                }
                thread::sleep(LOOK);
            }
        }
    }

    /// Kills the agent and starts it under another name and without its data, as an agent with a generated
    /// name starts after the loss of its directory.
    ///
    /// Waits until its servers know it.
    pub fn rename(&mut self, node: &str) -> io::Result<()> {
        self.kill();
        std::fs::remove_dir_all(self.dir.join("data"))?;
        node.clone_into(&mut self.options.node);
        self.launch()?;
        self.await_that("is not known to its servers", Self::is_known)
    }

    /// Makes the agent leave the cluster, and ends it as soon as this server knows of the leave.
    ///
    /// The agent would run for another 3 s and might register itself again.
    pub fn leave(&mut self, server: &Self) -> io::Result<()> {
        let addr = self.http_addr;
        let leave =
            thread::spawn(move || client::request(addr, READY, "PUT", "/v1/agent/leave", b""));
        let target = format!("/v1/catalog/node/{}", self.options.node);
        let gone = |reply: Reply| reply.text() == "null";
        let result = server.await_that("has not heard of the leave", |server| {
            server.request("GET", &target, b"").is_ok_and(gone)
        });
        self.kill();
        // The leave request has no response.
        let _ = leave.join();
        result
    }

    fn is_known(&self) -> bool {
        let target = format!("/v1/catalog/node/{}", self.options.node);
        let reply = self.request("GET", &target, b"");
        reply.is_ok_and(|reply| reply.text().contains("TaggedAddresses\":{"))
    }

    fn await_that(&self, trouble: &str, so: impl Fn(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + READY;
        while !so(self) {
            if Instant::now() >= deadline {
                return Err(self.trouble(trouble));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until the agent syncs changes to the servers at once.
    ///
    /// After a server has joined, an agent syncs nothing for up to 3 s and then everything (Consul's
    /// anti-entropy, `serverUpInterval`). The service that is in the catalog first was synced before or after
    /// that. If another server joined meanwhile, the agent repeats this once more, but may sync the second
    /// service before: it selects one of both triggers at random. The third service comes after all that.
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

    /// Returns whether its agent has a leader and knows this number of passing nodes.
    #[must_use]
    pub fn sees(&self, nodes: usize) -> bool {
        let well = self.request("GET", "/v1/health/state/passing", b"");
        let Ok(reply) = well else { return false };
        let checks: Vec<Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
        checks.iter().filter(|check| check["CheckID"] == "serfHealth").count() >= nodes
    }

    /// Returns whether it is the servers' leader.
    #[must_use]
    pub fn leads_servers(&self) -> bool {
        let reply = self.request("GET", "/v1/status/leader", b"");
        reply.is_ok_and(|reply| reply.text() == format!("\"127.0.0.1:{}\"", self.ports[1]))
    }

    /// Loads a cluster with one node for each server. Each node's services are registered at its own agent.
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
