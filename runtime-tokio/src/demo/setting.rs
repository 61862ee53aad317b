//! The contents of Consul for the demo: hare's configuration of three nodes, all on this host.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;
use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_sim::cluster::{Agents, Cluster, Endpoints, SESSION, Shape};
use hyper::Method;
use serde_json::Value;

use super::api::Api;
use super::cast::Role;

/// The addresses and processes of the demo.
pub struct Setting {
    /// The host name of the demo's node.
    pub node: String,
    /// hax's endpoint for Motr.
    pub hax: String,
    /// hax's base URL.
    pub hax_http: String,
    /// The Motr processes of the node.
    pub roles: Vec<Role>,
    /// A further process of the node. It is not part of the demo, and the user may run it.
    pub spare: Option<Role>,
    /// The configuration in a few words.
    pub summary: String,
}

/// Fails if Consul is in use.
pub async fn refuse_used(consul: &Api) -> anyhow::Result<()> {
    let used = consul.send(Method::GET, "/v1/kv/m0conf/?keys&separator=/", Bytes::new()).await?;
    if used.status != 404 {
        bail!(
            "the Consul at {} holds a configuration (m0conf/) that the demo would overwrite; --force \
             does that",
            consul.base()
        );
    }
    Ok(())
}

impl Setting {
    /// Loads the configuration like hare's bootstrap: keys, services with passing checks, the leader's lock.
    pub async fn load(consul: &Api) -> anyhow::Result<Self> {
        let agent = consul.get("/v1/agent/self").await?;
        let Some(first) = agent["Config"]["NodeName"].as_str() else {
            bail!("{} does not say what its node is called", consul.base());
        };
        let mut ports = free_ports(18)?;
        let shape = Shape::like_hare(3)
            .with_endpoints(Endpoints::Sock)
            .at_one_address("127.0.0.1", || ports.pop().unwrap_or_default());
        let cluster = Cluster::generate(&shape);
        let mut session = String::new();
        for step in cluster.steps(first, Agents::One) {
            let target = step.target.replace(SESSION, &session);
            let body = consul.done(step.method.parse()?, &target, step.body).await?;
            if let Ok(made) = serde_json::from_slice::<Value>(&body)
                && let Some(id) = made["ID"].as_str()
            {
                id.clone_into(&mut session);
            }
        }
        // No process has started yet, so the records of an earlier demo are deleted.
        consul.done(Method::DELETE, "/v1/kv/processes/?recurse", Bytes::new()).await?;
        let node = &cluster.catalog[0];
        let (mut roles, mut spare) = (Vec::new(), None);
        let mut hax = String::new();
        for service in &node.services {
            let endpoint = format!("{}@{}", service.address, service.port);
            let (name, kind) = match service.name.as_str() {
                "hax" => {
                    hax = endpoint;
                    continue;
                }
                "confd" => ("confd", "m0d"),
                "ios" => ("ios", "m0d"),
                _ => ("client", "other"),
            };
            let fid = Fid::process(service.id.parse()?);
            let check = format!("service:{}", service.id);
            let role = Role { name, fid, endpoint, kind, check };
            if roles.len() < 3 {
                roles.push(role);
            } else {
                spare = Some(role);
            }
        }
        let services: usize = cluster.catalog.iter().map(|node| node.services.len()).sum();
        let summary = format!(
            "{} nodes, {services} processes, {} keys",
            cluster.catalog.len(),
            cluster.kv.len()
        );
        let hax_http = format!("http://127.0.0.1:{}", shape.nodes[0].http);
        Ok(Self { node: node.name.clone(), hax, hax_http, roles, spare, summary })
    }
}

/// Returns currently free ports. Another process may take them before their use, which is reported then. To
/// make this rare, they are below the range for outgoing connections.
fn free_ports(n: usize) -> anyhow::Result<Vec<u16>> {
    const LOWEST: u16 = 21_000;
    const COUNT: u32 = 11_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two demos at the same time begin at different ports.
    let begin = std::process::id().wrapping_mul(131);
    let next = || begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let candidates = (0..COUNT).map(|_| next());
    let ports: Vec<u16> = candidates
        .filter_map(|offset| LOWEST.checked_add(u16::try_from(offset).ok()?))
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(n)
        .collect();
    if ports.len() < n {
        bail!("there are no {n} free ports on this machine");
    }
    Ok(ports)
}
