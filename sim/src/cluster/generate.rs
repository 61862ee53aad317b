//! Configurations of any size in the format of hare's generator.
//!
//! There are three trees below `m0conf/`. They identify the same objects by host name, by fid and by
//! location.

use std::fmt::Display;

use hax_core::base::fid::Fid;

use super::{Cluster, Node, Service};

/// The form of endpoints, which determines Motr's transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoints {
    /// `inet:stream:IP@PORT`: Motr's own TCP transport.
    #[default]
    Sock,
    /// `inet:tcp:IP@PORT`: libfabric.
    Libfabric,
}

impl Endpoints {
    fn address(self, ip: &str) -> String {
        match self {
            Self::Sock => format!("inet:stream:{ip}"),
            Self::Libfabric => format!("inet:tcp:{ip}"),
        }
    }
}

/// One node with its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeShape {
    /// The host name.
    pub name: String,
    /// The address of all its endpoints.
    pub ip: String,
    /// The port of hax's endpoint for Motr.
    pub hax: u16,
    /// The port of hax for HTTP.
    pub http: u16,
    /// The port of confd.
    pub confd: u16,
    /// The port of the IO service.
    pub ios: u16,
    /// The ports of the clients.
    pub clients: Vec<u16>,
}

/// The parameters of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The nodes. The first one has the leader.
    pub nodes: Vec<NodeShape>,
    /// The form of their endpoints.
    pub endpoints: Endpoints,
    /// The number of data drives of each IO service.
    pub drives: u64,
}

impl Shape {
    /// Returns nodes `ssu1`, `ssu2`, … at 127.0.1.1, …, with the ports that hare assigns, over libfabric.
    #[must_use]
    pub fn like_hare(nodes: u8) -> Self {
        let node = |i: u8| NodeShape {
            name: format!("ssu{i}"),
            ip: format!("127.0.1.{i}"),
            hax: 22001,
            http: 8008,
            confd: 22002,
            ios: 21001,
            clients: vec![21501, 21502],
        };
        Self { nodes: (1..=nodes).map(node).collect(), endpoints: Endpoints::Libfabric, drives: 5 }
    }

    /// Sets another form of endpoints.
    #[must_use]
    pub fn with_endpoints(mut self, endpoints: Endpoints) -> Self {
        self.endpoints = endpoints;
        self
    }

    /// Moves all nodes to one address. `ports` assigns each port, so that no two are the same.
    #[must_use]
    pub fn at_one_address(mut self, ip: &str, mut ports: impl FnMut() -> u16) -> Self {
        for node in &mut self.nodes {
            ip.clone_into(&mut node.ip);
            for port in [&mut node.hax, &mut node.http, &mut node.confd, &mut node.ios]
                .into_iter()
                .chain(&mut node.clients)
            {
                *port = ports();
            }
        }
        self
    }
}

const HAX: &[&str] = &["ha", "rms"];
const CONFD: &[&str] = &["rms", "confd"];
const IOS: &[&str] = &[
    "rms", "ios", "sns_rep", "sns_reb", "dix_rep", "dix_reb", "addb2", "cas", "iscs", "fdmi",
    "fis", "dtm0",
];
const CLIENT: &[&str] = &["rms", "dtm0", "fis", CLIENT_TYPE];
const CLIENT_TYPE: &str = "m0_client_other";

/// One process before it is added to the trees.
struct Process {
    /// Its service in Consul's catalog.
    service: &'static str,
    /// Its name in the tree of fids.
    name: &'static str,
    services: &'static [&'static str],
    port: u16,
}

fn processes(node: &NodeShape) -> Vec<Process> {
    let process = |service, name, services, port| Process { service, name, services, port };
    let mut all = vec![
        process("hax", "hax", HAX, node.hax),
        process("confd", "m0_server", CONFD, node.confd),
        process("ios", "m0_server", IOS, node.ios),
    ];
    all.extend(node.clients.iter().map(|port| process("s3service", CLIENT_TYPE, CLIENT, *port)));
    all
}

fn fid(kind: u8, key: u64) -> Fid {
    Fid::typed(kind, 1, key)
}

/// Formats the value of an object. Every object has a state, which is initially unknown.
fn state(name: &str, value: impl Display) -> String {
    format!(r#"{{"{name}": "{value}", "state": "M0_NC_UNKNOWN"}}"#)
}

/// The counters of the assigned fid keys.
#[derive(Default)]
struct Minted {
    processes: u64,
    services: u64,
    drives: u64,
}

impl Cluster {
    /// Generates the configuration of a shape, with the other keys that hare's bootstrap writes.
    #[must_use]
    pub fn generate(shape: &Shape) -> Self {
        let mut cluster = Self::default();
        let (mut by_fid, mut by_place) = (Vec::new(), Vec::new());
        let site = format!("m0conf/sites/{}", fid(b'S', 0));
        let rack = format!("{site}/racks/{}", fid(b'a', 0));
        for place in [&site, &rack] {
            by_place.push((place.clone(), r#"{"state": "M0_NC_UNKNOWN"}"#.to_owned()));
        }
        let mut minted = Minted::default();
        let mut by_name = Vec::new();
        for (i, node) in (0..).zip(&shape.nodes) {
            let node_fid = fid(b'n', i);
            by_fid.push((format!("m0conf/nodes/{node_fid}"), state("name", &node.name)));
            let enclosure = format!("{rack}/encls/{}", fid(b'e', i));
            by_place.push((enclosure.clone(), {
                format!(r#"{{"node": "{node_fid}", "state": "M0_NC_UNKNOWN"}}"#)
            }));
            let controller = format!("{enclosure}/ctrls/{}", fid(b'c', i));
            by_place.push((controller.clone(), r#"{"state": "M0_NC_UNKNOWN"}"#.to_owned()));
            let mut services = Vec::new();
            for process in processes(node) {
                let key = minted.processes;
                minted.processes += 1;
                let address = shape.endpoints.address(&node.ip);
                let named = format!("m0conf/nodes/{}/processes/{key}", node.name);
                let endpoint = format!("{address}@{}", process.port);
                by_name.push((format!("{named}/endpoint"), endpoint));
                let fidded = format!("m0conf/nodes/{node_fid}/processes/{}", Fid::process(key));
                by_fid.push((fidded.clone(), state("name", process.name)));
                for service in process.services {
                    let key = minted.services;
                    minted.services += 1;
                    by_name.push((format!("{named}/services/{service}"), key.to_string()));
                    // Hare assigns a key to a client's own service, but writes no object for it.
                    if *service == CLIENT_TYPE {
                        continue;
                    }
                    let fidded = format!("{fidded}/services/{}", Fid::service(key));
                    by_fid.push((fidded.clone(), state("name", service)));
                    for (drive, path) in drives(shape, service, i, &mut minted) {
                        let (sdev, drive) = (fid(b'd', drive), fid(b'k', drive));
                        by_fid.push((format!("{fidded}/sdevs/{sdev}"), state("path", path)));
                        by_place
                            .push((format!("{controller}/drives/{drive}"), state("sdev", sdev)));
                    }
                }
                services.push(Service {
                    id: key.to_string(),
                    name: process.service.to_owned(),
                    address,
                    port: process.port,
                });
            }
            cluster.http_ports.insert(node.name.clone(), node.http);
            let (name, ip) = (node.name.clone(), node.ip.clone());
            cluster.catalog.push(Node { name, ip, services });
        }
        cluster.kv = beside(shape, &minted);
        cluster.kv.extend(pools());
        cluster.kv.extend(by_name.into_iter().chain(by_fid).chain(by_place));
        cluster
    }
}

/// Returns the drives of a service: data drives for `ios`, one placeholder for `cas`.
///
/// The placeholders are numbered after all data drives.
fn drives(shape: &Shape, service: &str, node: u64, minted: &mut Minted) -> Vec<(u64, String)> {
    match service {
        "ios" => (1..=shape.drives)
            .map(|n| {
                minted.drives += 1;
                (minted.drives - 1, format!("/dev/vd{}", letters(n)))
            })
            .collect(),
        "cas" => {
            let data = shape.drives * shape.nodes.len() as u64;
            vec![(data + node, "/dev/null".to_owned())]
        }
        _ => Vec::new(),
    }
}

/// Returns the kernel's letters of a disk: a … z, aa, ab, …. The system disk is `a`.
fn letters(mut n: u64) -> String {
    let mut name = String::new();
    loop {
        let letter = u8::try_from(n % 26).unwrap_or(0) + b'a';
        name.insert(0, char::from(letter));
        if n < 26 {
            return name;
        }
        n = n / 26 - 1;
    }
}

fn pools() -> [(String, String); 2] {
    [
        (format!("m0conf/pools/{}", fid(b'o', 0)), "the pool".to_owned()),
        (
            format!("m0conf/profiles/{}", fid(b'p', 0)),
            r#"{"name": "default", "pools": ["the pool", null, null]}"#.to_owned(),
        ),
    ]
}

/// Returns the keys that hare's bootstrap writes besides the configuration: counters, names, ports.
fn beside(shape: &Shape, minted: &Minted) -> Vec<(String, String)> {
    let nodes = shape.nodes.len() as u64;
    let drives = minted.drives + nodes;
    // There are three pools. Each pool version has one objv for each site, rack, enclosure and controller,
    // and one for each drive of the pool: all data drives, or one drive per node.
    let objvs = 3 * (2 + 2 * nodes) + minted.drives + 2 * nodes;
    let last = [
        ("root", 1),
        ("fdmi_flt_grp", 0),
        ("fdmi_filter", 0),
        ("node", nodes),
        ("process", minted.processes),
        ("service", minted.services),
        ("sdev", drives),
        ("site", 1),
        ("rack", 1),
        ("enclosure", nodes),
        ("controller", nodes),
        ("drive", drives),
        ("pool", 3),
        ("pver", 3),
        ("pver_f", 0),
        ("objv", objvs),
        ("profile", 1),
    ];
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut kv = vec![pair("epoch", "1"), pair("eq-epoch", "1"), pair("leader", "")];
    for (kind, key) in last {
        kv.push((format!("last_base_fid_key/{kind}"), key.to_string()));
        kv.push((format!("last_dynamic_fid_key/{kind}"), "0".to_owned()));
    }
    kv.push(pair("failvec", ""));
    for class in ["healthy", "degraded", "critical", "damaged"] {
        kv.push((format!("bytecount/{class}"), "0".to_owned()));
    }
    for node in &shape.nodes {
        kv.push((format!("ports/{}/hax", node.name), format!(r#"{{"http": {}}}"#, node.http)));
    }
    kv.push(pair("m0_client_types", &format!(r#"["{CLIENT_TYPE}"]"#)));
    for (i, node) in (1_u32..).zip(&shape.nodes) {
        let machine = format!("{i:032x}");
        kv.push((machine.clone(), node.name.clone()));
        kv.push((node.name.clone(), machine));
    }
    kv
}
