//! Several servers and their clients: agents join, leave, and return under another name.

use std::time::Duration;

use hax_sim::consul::Consul;
use hax_sim::real::{Options, RealConsul};

use super::pair::{Ask, Pair};
use super::session;

/// The names of the three servers. There is one client besides.
pub(crate) const SERVERS: [&str; 3] = ["srv1", "srv2", "srv3"];
pub(crate) const CLIENT: usize = 3;

/// The reads with responses that do not depend on the order in which the servers discovered each other.
const OF_CLIENTS: &[&str] = &[
    "kv/lock",
    "kv/?keys",
    "session/list",
    "session/node/c1",
    "catalog/service/A",
    "catalog/node/c1",
    "catalog/node/c1:0000aaaa",
    "health/node/c1",
    "health/node/c1:0000aaaa",
    "health/service/A",
    "health/service/A?passing",
    "health/checks/A",
    "health/state/critical",
];

pub(crate) fn cluster() -> Pair {
    let servers = SERVERS.map(Options::new).into();
    let mut reals = RealConsul::start_servers(servers).expect("the servers start");
    let mut double = Consul::new(SERVERS[0]);
    for (i, name) in SERVERS.iter().enumerate().skip(1) {
        double.add_server(name, &format!("127.0.0.{i}"));
    }
    reals.push(RealConsul::start_client(&reals, "c1", 4).expect("the client starts"));
    double.add_agent("c1", "127.0.0.1");
    let mut pair = Pair::of(reals, double);
    // Each real agent has registered services that are gone now.
    pair.at = CLIENT;
    for (target, body) in [("register", r#"{"Name":"told"}"#), ("deregister/told", "")] {
        pair.ask_double("PUT", &format!("/v1/agent/service/{target}"), body, &mut Vec::new());
    }
    pair
}

fn compare(pair: &mut Pair) {
    for read in OF_CLIENTS {
        pair.settled(read);
    }
}

/// Creates the same cluster. Its client writes nothing by itself for a while.
pub(crate) fn quiet_cluster() -> Pair {
    let pair = cluster();
    pair.reals[CLIENT].compares_no_more().expect("it comes to rest");
    pair
}

/// Registers a service of the agent's own.
pub(crate) fn register(pair: &mut Pair) {
    pair.at = CLIENT;
    let body = r#"{"ID":"1","Name":"A","Check":{"CheckID":"k","TTL":"100h","Status":"passing"}}"#;
    pair.ask(&Ask("PUT", "agent/service/register", body));
    compare(pair);
}

/// Creates a session bound to the node, a lock, and registrations of other clients on the node.
fn furnish(pair: &mut Pair) {
    pair.at = CLIENT;
    let s = session(pair, r#"{"Checks":["serfHealth"],"LockDelay":"0s"}"#);
    pair.ask(&Ask("PUT", &format!("kv/lock?acquire={s}"), "x"));
    pair.at = 0;
    for body in [
        r#"{"Node":"c1","SkipNodeUpdate":true,"Check":{"CheckID":"foreign","Name":"f","Status":"passing"}}"#,
        r#"{"Node":"c1","SkipNodeUpdate":true,"Service":{"ID":"f","Service":"A"}}"#,
        r#"{"Node":"apart","Address":"1.1.1.1","Service":{"ID":"9","Service":"A"},
            "Check":{"CheckID":"a","Name":"a","Status":"passing","ServiceID":"9"}}"#,
    ] {
        pair.ask(&Ask("PUT", "catalog/register", body));
    }
    compare(pair);
}

#[test]
fn an_agent_leaves_and_its_node_is_gone_at_once() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = quiet_cluster();
    register(&mut pair);
    furnish(&mut pair);
    let (now, mut out) = (pair.now(), Vec::new());
    let (servers, clients) = pair.reals.split_at_mut(CLIENT);
    clients[0].leave(&servers[0]).expect("it leaves");
    let _ = pair.double.leave(now, CLIENT, &mut out);
    compare(&mut pair);
    pair.ask(&Ask("PUT", "kv/after", "x"));
    pair.ask(&Ask("GET", "kv/after", ""));
}

#[test]
fn an_agent_comes_back_under_another_name_and_the_old_one_stays_critical() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = quiet_cluster();
    furnish(&mut pair);
    let (now, mut out) = (pair.now(), Vec::new());
    // The agent has no services then: the configuration of the real one has none.
    pair.reals[CLIENT].rename("c1:0000aaaa").expect("it starts");
    let _ = pair.double.rename(now, CLIENT, "c1:0000aaaa", &mut out);
    pair.pass(Duration::from_secs(6));
    // The order of the new node's registration and the detection of the old one's failure is random.
    let alike = |pair: &mut Pair| {
        OF_CLIENTS
            .iter()
            .filter(|read| !read.contains("catalog/node"))
            .for_each(|r| pair.settled(r));
    };
    alike(&mut pair);
    // The new node passed before the old one failed, and the indexes show it.
    let indexes = ["c1", "c1:0000aaaa"].map(|node| {
        let found = pair.ask(&Ask("GET", &format!("health/node/{node}"), ""));
        let found: serde_json::Value = serde_json::from_slice(&found.body).expect("JSON");
        let serf = found.as_array().into_iter().flatten().find(|c| c["CheckID"] == "serfHealth");
        serf.and_then(|check| check["ModifyIndex"].as_u64()).expect("an index")
    });
    assert!(indexes[0] > indexes[1], "{indexes:?}");
    pair.ask(&Ask("PUT", "catalog/deregister", r#"{"Node":"c1"}"#));
    alike(&mut pair);
}
