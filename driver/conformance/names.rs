//! hare's watches post to the name of the node, which may have another address than the agent advertises.

use std::process::Command;

use hax_sim::real::client;

use crate::daemon::{Hax, LIMIT, Place, double, until};
use crate::fixture::stop;
use crate::script::{Act, Script};

/// A node whose agent advertises one address and whose name has another. The name is an address in text, so
/// it resolves to that address.
struct Node {
    advertised: Place,
    named: Place,
    script: Script,
}

impl Node {
    fn new() -> Self {
        let (advertised, named) = (Place::new(), Place::new());
        Self { advertised, named, script: Script::new(double::consul()) }
    }

    /// Returns the flags of a hax on the node `name`; it finds the rest in Consul.
    fn flags(&self, name: &str) -> Vec<String> {
        let ip = self.advertised.motr().ip();
        let entry = format!(
            r#"[{{"Node": "{name}", "Address": "{ip}", "ServiceID": "0", "ServicePort": 22001,
                "ServiceAddress": "inet:stream:{ip}", "ServiceMeta": {{"http_port": "8008"}}}}]"#
        );
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Consul-Index: 9\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{entry}", entry.len()).into_bytes();
        self.script.set(move |asked| {
            if asked.target.starts_with("/v1/catalog/service/hax") {
                Act::Say(answer.clone())
            } else {
                Act::Pass
            }
        });
        let consul = format!("http://{}", self.script.address);
        ["--consul", &consul, "--node", name, "--no-elect"].map(str::to_owned).to_vec()
    }

    fn name(&self) -> String {
        self.named.motr().ip().to_string()
    }
}

/// Returns whether a watch's post is received there.
fn hears(place: &Place) -> bool {
    let reply = client::request(place.http(), LIMIT, "POST", "/", b"[]");
    reply.is_ok_and(|reply| reply.status == 200)
}

/// Returns the line of `hax check` about watches.
fn check(flags: &[String]) -> String {
    let output = Command::new(crate::hax::HAX).arg("check").args(flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line[6..].starts_with("watches: "));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn f12_watches_are_heard_at_the_address_of_the_node_s_name_too() {
    let node = Node::new();
    let mut hax = Hax::start(&node.flags(&node.name()));
    node.advertised.ready();
    assert!(hears(&node.advertised));
    until("they are heard at the name", || hears(&node.named));
    assert_eq!(stop(&mut hax), 0);
    assert!(!hears(&node.named));
}

#[test]
fn f12_where_an_address_is_given_only_that_is_listened_at() {
    let node = Node::new();
    let mut flags = node.flags(&node.name());
    flags.extend(["--http".to_owned(), node.advertised.http().to_string()]);
    let _hax = Hax::start(&flags);
    node.advertised.ready();
    assert!(hears(&node.advertised) && !hears(&node.named));
}

#[test]
fn f12_a_name_without_an_address_is_said_and_no_reason_to_fail() {
    let node = Node::new();
    let mut hax = Hax::start(&node.flags("nobody.invalid"));
    node.advertised.ready();
    let says = |line: &serde_json::Value| {
        let text = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN"
            && ["nobody.invalid", "/etc/hosts"].iter().all(|part| text.contains(part))
    };
    until("it says what to do", || hax.log().iter().any(says));
    assert_eq!(hax.log().iter().filter(|line| says(line)).count(), 1);
    assert!(hears(&node.advertised));
    assert_eq!(stop(&mut hax), 0);
}

#[test]
fn f12_check_follows_the_road_of_a_watch() {
    let node = Node::new();
    let flags = node.flags(&node.name());
    let free = check(&flags);
    assert!(free.starts_with("ok ") && free.contains(&node.name()), "{free}");
    let _hax = Hax::start(&flags);
    until("it hears", || hears(&node.named));
    let heard = check(&flags);
    assert!(heard.starts_with("ok ") && heard.contains("by the hax that runs"), "{heard}");
    // The same hax listens at the advertised address, and this name leads to another address.
    let deaf = check(&node.flags(&Place::new().motr().ip().to_string()));
    assert!(deaf.starts_with("FAIL ") && deaf.contains("restart hax"), "{deaf}");
    let foreign = check(&node.flags("192.0.2.1"));
    assert!(foreign.starts_with("FAIL ") && foreign.contains("/etc/hosts"), "{foreign}");
    let nowhere = check(&node.flags("nobody.invalid"));
    assert!(nowhere.starts_with("note ") && nowhere.contains("/etc/hosts"), "{nowhere}");
}
