//! Services beside the bridge: one program, one HTTP port, one set of metrics.

use std::time::Duration;

use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available, client, port};

use crate::cluster::{IDLE, Node};
use crate::common::program::{command, holds};

#[test]
fn a_node_of_motr_has_services_too() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("ssu1")).unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let endpoint = format!("inet:stream:127.0.0.1@{}", port());
    let mut node = Node::new("ssu1", &consul, &["--motr-endpoint", &endpoint, "--no-elect"]);
    node.start_hax_without_keeper();
    let get = |node: &Node, target: &str| {
        let within = Duration::from_secs(5);
        let reply = client::request(node.http.parse().unwrap(), within, "GET", target, b"");
        reply.map_or((0, String::new()), |reply| {
            (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
        })
    };
    // The bridge is ready, and the node is not: its services have no keeper.
    assert!(holds(|| get(&node, "/status").1.contains("\"ready\":true")
        || get(&node, "/status").1.contains("\"ready\": true")));
    let (status, why) = get(&node, "/readyz");
    assert!(status == 503 && why.contains("keeper"), "{status} {why}");
    node.start_keeper();
    assert!(holds(|| get(&node, "/readyz").0 == 200));
    node.define("idle", IDLE);
    assert!(node.done(&["start", "idle"]).contains("running"));
    let (_, metrics) = get(&node, "/metrics");
    for line in [
        "hax_ready 1",
        "hax_services_living 1",
        "hax_facts_total{fact=\"Ready\",level=\"info\"} 1",
        "hax_facts_total{fact=\"Runs\",level=\"info\",machine=\"services\"} 1",
    ] {
        assert!(metrics.lines().any(|of| of == line), "{line}: {metrics}");
    }
    let (status, fids) = get(&node, "/v1/cluster/fetch-fids");
    assert!(status == 200 && fids.contains("0x"), "{status} {fids}");
    let status = command(&["status", "--http", &node.http]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("Services\nnode         ssu1\nready        yes"), "{status}");
    let (pids, hax) = (node.pids("idle"), node.hax.as_mut().unwrap());
    hax.signal("TERM");
    assert_eq!(hax.code(), 0, "{:#?}", hax.log());
    assert!(pids.values().all(|pid| crate::cluster::lives(*pid)));
}
