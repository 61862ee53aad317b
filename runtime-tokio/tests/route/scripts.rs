//! Tests of the scripts and their exit codes.

use std::thread;

use crate::hax::HAX;
use crate::router::{Router, said};

const NODE: &str = "-p consul -t table -r 192.0.2.0/24 -n 10.0.0.2";

#[test]
fn r07_every_script_has_help_without_a_server() {
    let router = Router::new("r07");
    for name in [
        "create_node",
        "set_params",
        "clear_params",
        "show_node",
        "delete_node",
        "node_event",
        "ha_api",
    ] {
        let (code, text) = router.run(&format!("{name} -h"));
        assert!(code == 0 && text.starts_with(&format!("Usage: {name}")), "{text}");
    }
    let (_, text) = router.run("create_node -p gcp -h");
    assert!(text.contains("-o          the priority"), "{text}");
}

#[test]
fn r08_to_r11_nodes_come_change_and_go() {
    let router = Router::serving("nodes");
    assert_eq!(router.ok(&format!("create_node -i 7 {NODE} -m primary")), "node 7: created");
    assert_eq!(router.ok("set_params -i 7 -n 10.0.0.9 -t other"), "node 7: changed");
    let shown = router.ok("show_node -i 7");
    for part in ["\"nextHop\":\"10.0.0.9\"", "\"table\":\"other\"", "\"mode\":\"primary\""] {
        assert!(shown.contains(part), "{shown}");
    }
    router.ok("clear_params -i 7 -m -n");
    let shown = router.ok("show_node -i 7");
    assert!(shown.contains("secondary") && !shown.contains("nextHop"), "{shown}");
    router.ok("delete_node -i 7");
    router.ok("delete_node -i 7");
    assert_eq!(router.run("show_node -i 7"), (3, "show_node: there is no node 7".into()));
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let router = Router::serving("codes");
    for (line, code) in [
        ("create_node -i 0", 2),
        ("create_node -i 1024 -p linux", 2),
        ("create_node -i 01 -p linux", 2),
        ("create_node -i 1 -x y", 2),
        ("create_node -i 1 -t table", 2),
        ("set_params -i 1 -n 10.0.0.1", 3),
        ("clear_params -i 1 -m", 3),
        ("show_node -i 1", 3),
        ("delete_node -i 1", 0),
        ("node_event -i 1 -e peerFail", 7),
        ("node_event -i 1 -e bogus", 2),
        ("node_event -i all -e peerFail", 2),
        ("node_event", 2),
        ("ha_api -c ping", 0),
        ("ha_api -c dance", 2),
    ] {
        let (found, text) = router.run(line);
        assert_eq!(found, code, "{line}: {text}");
    }
    let nobody = Router::new("nobody");
    for line in
        ["show_node -i 1", "delete_node -i 1", "node_event -i 1 -e revert", "ha_api -c ping"]
    {
        assert_eq!(nobody.run(line).0, 4, "{line}");
    }
}

#[test]
fn an_event_of_a_cloud_outside_of_it_says_so() {
    let mut router = Router::new("aws");
    let mut command = router.command(HAX, "route serve");
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    router.serve_by(command);
    router.ok("create_node -i 1 -p aws -t rtb-12345678 -rg us-east-1 -n eni-12345678");
    let (code, text) = router.run("node_event -i 1 -e verify");
    assert!(code == 7 && text.contains("and no instance"), "{text}");
    // A secondary has nothing to do, whichever router is in the table.
    router.ok("node_event -i 1 -e revert");
}

#[test]
fn values_may_have_spaces_quotes_and_be_long() {
    let router = Router::serving("values");
    for value in ["two words", "\"quotes\" 'both'", "é -m $(x)", &"x".repeat(100_000)] {
        let mut create = router.script("create_node -i 7 -p consul -r 192.0.2.0/24 -n 10.0.0.2 -t");
        let (code, text) = said(create.arg(value));
        assert_eq!(code, 0, "{text}");
        let shown: serde_json::Value = serde_json::from_str(&router.ok("show_node -i 7")).unwrap();
        assert_eq!(shown["parameters"]["table"], value);
    }
    let mut create = router.script("create_node -i 8 -p consul -r 192.0.2.0/24 -n 10.0.0.2 -t");
    assert_eq!(said(create.arg("two\nlines")).0, 2);
}

#[test]
fn r04_a_hundred_scripts_at_once_are_answered() {
    let router = Router::serving("hundred");
    thread::scope(|scope| {
        for index in 1..=100 {
            let router = &router;
            scope.spawn(move || router.ok(&format!("create_node -i {index} {NODE}")));
        }
    });
    assert_eq!(router.ok("show_node").lines().count(), 100);
    let status = said(&mut router.command(HAX, "route status"));
    assert!(status.0 == 0 && status.1.starts_with("100 redundancy nodes"), "{}", status.1);
}
