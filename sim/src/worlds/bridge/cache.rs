//! The initial state of a world: a configuration in Consul, and haxes and processes that are down.

use std::collections::BTreeMap;
use std::rc::Rc;

use hax_core::base::fid::Fid;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::wire::name;

use super::hax::Hax;
use super::model::Model;
use super::motr::SimProcess;
use super::oracle::{Oracle, Topology};
use super::swarm::Swarm;
use super::{Bridge, field_faults};
use crate::cluster::{Agents, Cluster, Endpoints, Shape};
use crate::consul::{Consul, Output, Request};
use crate::engine::Built;

/// The loaded Consul for each size of a cluster. It is kept, since a load takes longer than many runs.
#[derive(Default)]
pub struct Cache {
    loaded: BTreeMap<(u8, u8), Loaded>,
}

/// The loaded Consul, its cluster, and the transactions that import the configuration again.
type Loaded = (Consul, Cluster, Rc<[String]>);

impl Cache {
    /// Returns the initial state of a world of this swarm.
    pub(super) fn build(&mut self, swarm: &Swarm) -> Built<Bridge> {
        let size = (swarm.nodes, swarm.clients);
        let (consul, cluster, import) = self.loaded.entry(size).or_insert_with(|| load(swarm));
        let mut topology = Topology::default();
        let (mut hax, mut motr) = (Vec::new(), Vec::new());
        for (i, node) in cluster.catalog.iter().enumerate() {
            for service in &node.services {
                let key = service.id.parse().expect("a service id is a process's key");
                let endpoint = format!("{}@{}", service.address, service.port);
                let addr = name::parse(&endpoint).expect("the generator's endpoints are names");
                let fid = Fid::process(key);
                if service.name == "hax" {
                    topology.haxes.push((fid, node.name.clone()));
                    hax.push(Hax::new(fid, &node.name, addr));
                    continue;
                }
                let mut process = SimProcess::new(fid, addr, i, &service.name);
                let steps = cluster.steps(&cluster.catalog[0].name, Agents::Each);
                let named = format!(r#""ID":"{key}""#);
                let step = steps.iter().find(|step| step.agent == i && step.body.contains(&named));
                process.registration = step.map(|step| step.body.clone()).unwrap_or_default();
                if process.is_confd() {
                    topology.confds.push(endpoint);
                }
                topology.motr.push((fid, i, addr, process.is_confd()));
                motr.push(process);
            }
        }
        let others = [Fid::typed(b'o', 1, 0), Fid::typed(b't', 1, 0)];
        let objects = Model::of(consul).objects().chain(others).collect();
        let cast = Bridge {
            swarm: swarm.clone(),
            objects,
            import: Rc::clone(import),
            oracle: Oracle::new(topology, consul),
            out: Vec::new(),
            motr,
            hax,
        };
        Built { consul: consul.clone(), nodes: cast.hax.len(), cast }
    }
}

fn load(swarm: &Swarm) -> Loaded {
    let mut shape = Shape::like_hare(swarm.nodes).with_endpoints(Endpoints::Sock);
    shape.drives = 1;
    for node in &mut shape.nodes {
        node.clients.truncate(swarm.clients.into());
    }
    let cluster = Cluster::generate(&shape);
    let mut consul = Consul::new("ssu1");
    for i in 2..=swarm.nodes {
        consul.add_agent(&format!("ssu{i}"), &format!("127.0.1.{i}"));
    }
    let now = Now { mono: Instant::from_micros(1), wall: WallClock(0) };
    cluster.load_double(now, &mut consul, "ssu1", Agents::Each);
    // No process has started yet.
    let request = Request::new(1, "DELETE", "/v1/kv/processes/?recurse", "");
    let mut out: Vec<Output> = Vec::new();
    let _ = consul.handle(now, request, &mut out);
    consul.configure();
    let import = field_faults::import_of(&cluster.kv).into();
    (consul, cluster, import)
}
