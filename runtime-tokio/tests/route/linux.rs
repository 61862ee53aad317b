//! Tests with the routes of a real kernel, in network namespaces. `ip` reads them back. The tests need root
//! and a machine that permits namespaces.

use std::process::Command;

use crate::router::{Router, said};

/// A network namespace with an interface, the addresses of two routers behind it, and a route to the first
/// one.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Option<Self> {
        let name = format!("hax-{name}-{}", std::process::id());
        let (code, text) = said(Command::new("ip").args(["netns", "add", &name]));
        if code != 0 {
            println!("no network namespaces here: {text}");
            return None;
        }
        let namespace = Self(name);
        for line in [
            "link add lan type veth peer name wan",
            "addr add 10.0.0.100/24 dev lan",
            "addr add 2001:db8:1::100/64 dev lan nodad",
            "link set lan up",
            "link set wan up",
            "route add 192.0.2.0/24 via 10.0.0.1 table 1000",
            "route add 192.0.2.0/24 via 10.0.0.1 table 1001",
            "route add 2001:db8:2::/64 via 2001:db8:1::1 table 1000",
        ] {
            if namespace.ip(line).0 != 0 {
                println!("no interfaces here: {}", namespace.ip(line).1);
                return None;
            }
        }
        Some(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn ip(&self, line: &str) -> (i32, String) {
        said(Command::new("ip").args(["-n", &self.0]).args(line.split(' ')))
    }

    /// Returns the gateways of a route according to `ip`.
    pub(crate) fn gateways(&self, route: &str, table: u32) -> Vec<String> {
        let family = if route.contains(':') { "-6" } else { "-4" };
        let (_, text) = self.ip(&format!("-j {family} route show table {table} exact {route}"));
        let routes: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
        routes.iter().map(|route| route["gateway"].as_str().unwrap_or_default().into()).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = said(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

#[test]
fn r12_r13_r14_events_move_real_routes() {
    let Some(namespace) = Namespace::new("events") else { return };
    let router = Router::serving("events");
    let ns = &namespace.0;
    let create = "create_node -p linux -t 1000 -r 192.0.2.0/24 -n 10.0.0.2";
    router.ok(&format!("{create} -i 1 -ns {ns}"));
    let gateways = || namespace.gateways("192.0.2.0/24", 1000);
    let verified = router.ok("node_event -i 1 -e verify");
    assert!(verified.contains("10.0.0.1"), "{verified}");
    assert_eq!(gateways(), ["10.0.0.1"], "a verify leaves the route as it is");
    router.ok("node_event -i 1 -e revert");
    assert_eq!(gateways(), ["10.0.0.1"], "a secondary's revert does nothing");
    let moved = router.ok("node_event -i 1 -e peerFail");
    assert!(moved.contains("led to 10.0.0.1 and leads to 10.0.0.2"), "{moved}");
    assert_eq!(gateways(), ["10.0.0.2"]);
    assert_eq!(namespace.gateways("192.0.2.0/24", 1001), ["10.0.0.1"], "r02: another table");
    assert!(router.ok("node_event -i 1 -e peerFail").contains("already"));
    router.ok("set_params -i 1 -m primary -n 10.0.0.1 -dev lan");
    router.ok("node_event -i 1 -e revert");
    assert_eq!(gateways(), ["10.0.0.1"]);
}

#[test]
fn routes_of_ipv6_move_too() {
    let Some(namespace) = Namespace::new("ipv6") else { return };
    let router = Router::serving("ipv6");
    let ns = &namespace.0;
    let create = "create_node -p linux -t 1000 -r 2001:db8:2::/64 -n 2001:db8:1::2";
    router.ok(&format!("{create} -i 1 -ns {ns} -dev lan"));
    router.ok("node_event -i 1 -e verify");
    assert_eq!(namespace.gateways("2001:db8:2::/64", 1000), ["2001:db8:1::1"]);
    router.ok("node_event -i 1 -e peerFail");
    assert_eq!(namespace.gateways("2001:db8:2::/64", 1000), ["2001:db8:1::2"]);
}

#[test]
fn a_route_that_is_not_there_is_made_and_what_cannot_be_is_told() {
    let Some(namespace) = Namespace::new("missing") else { return };
    let router = Router::serving("missing");
    let ns = &namespace.0;
    router.ok(&format!("create_node -i 1 -p linux -t 7 -r 198.51.100.0/24 -n 10.0.0.2 -ns {ns}"));
    let (code, text) = router.run("node_event -i 1 -e verify");
    assert!(code == 7 && text.contains("no route to 198.51.100.0/24"), "{text}");
    router.ok("node_event -i 1 -e peerFail");
    assert_eq!(namespace.gateways("198.51.100.0/24", 7), ["10.0.0.2"]);
    router.ok("set_params -i 1 -n 203.0.113.1");
    let (code, text) = router.run("node_event -i 1 -e peerFail");
    assert!(code == 7 && text.contains("writing the route"), "{text}");
    assert_eq!(namespace.gateways("198.51.100.0/24", 7), ["10.0.0.2"]);
    router.ok("set_params -i 1 -n 10.0.0.2 -ns no-such-namespace");
    assert_eq!(router.run("node_event -i 1 -e verify").0, 7);
    router.ok(&format!("set_params -i 1 -ns {ns} -dev no-such-device"));
    assert_eq!(router.run("node_event -i 1 -e peerFail").0, 7);
}
