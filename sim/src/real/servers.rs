//! Several servers that form one cluster, each with its own agent.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{self, Reply};
use super::{LOOK, Options, READY, RealConsul};
use crate::cluster::{Agents, Cluster};

/// Within this an agent that has heard of a server compares all that it has (`serverUpInterval`), on a busy
/// machine, too.
const SERVER_UP: Duration = Duration::from_millis(3_500);

/// The configuration of an agent that joins these. Its gossip is quick, so that a dead one is found in
/// less than a second.
fn join(servers: &[RealConsul]) -> Value {
    let join: Vec<String> =
        servers.iter().map(|server| format!("127.0.0.1:{}", server.ports[2])).collect();
    json!({
        "retry_join": join,
        "retry_interval": "100ms",
        "gossip_lan": {
            "probe_interval": "200ms", "probe_timeout": "100ms", "suspicion_mult": 2,
            "gossip_interval": "50ms",
        },
    })
}

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
        let mut config = join(&servers);
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

    /// Starts an agent that is a client of these servers, and waits until it is one of `nodes`.
    pub fn start_client(servers: &[Self], node: &str, nodes: usize) -> io::Result<Self> {
        let mut options = Options::new(node);
        options.durable = true;
        let mut client = Self::prepare(options)?;
        client.options.config = join(servers);
        client.options.config["server"] = false.into();
        client.options.config["bootstrap_expect"] = 0.into();
        client.launch()?;
        client.await_that("is not one of them", |client| client.sees(nodes))?;
        client.tells_at_once()?;
        Ok(client)
    }

    /// Waits until the agent has compared all that it has with the catalog as often as it does because it has
    /// just found its servers: each time up to 3 s after it heard of one, and what it heard meanwhile counts
    /// for another time. What is not its own goes from its node then; where it stays for so long, no other
    /// time comes but the one that comes every minute.
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

    /// Kills it and starts it under another name with nothing that it had, as an agent with a generated
    /// name comes back whose directory is lost. Waits until its servers know it.
    pub fn rename(&mut self, node: &str) -> io::Result<()> {
        self.kill();
        std::fs::remove_dir_all(self.dir.join("data"))?;
        node.clone_into(&mut self.options.node);
        self.launch()?;
        self.await_that("is not known to its servers", Self::is_known)
    }

    /// Makes it take its leave, and ends it as soon as this server has heard of it: it would go on for
    /// 3 s and might register itself anew meanwhile.
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
        // It has no answer.
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
        let checks: Vec<Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
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
