//! The rules: restarts and giving up, needs, names, new configurations, nodes.

use std::time::Duration;

use hax_core::exec::Status;
use serde_json::json;

use super::field::Field;
use super::seen::{kind, with_web};

/// Kills the instance as soon as it runs, and returns the time until the next start.
fn next_start(field: &mut Field) -> Duration {
    let starts = field.starts(0, "web");
    field.until_state(0, "web", "running");
    field.kill_9(0, "web");
    field.until(120_000, |field| field.starts(0, "web") == starts + 1)
}

#[test]
fn restarts_are_delayed_more_and_more_and_given_up_for_a_while() {
    let mut field = with_web(1, &json!({}));
    let delays: Vec<u64> = (0..4).map(|_| next_start(&mut field).as_secs()).collect();
    assert_eq!(delays, [0, 1, 2, 4]);
    field.until_state(0, "web", "running");
    field.kill_9(0, "web");
    field.until(5_000, |field| field.wanted(0, "web").unwrap()["want"] == "resting");
    assert_eq!(field.job(0, "web").unwrap()["phase"], "given_up");
    field.until(1_000, |field| field.record("ha/name/n1/web").is_none());
    let (_, why) = field.call(0, "GET", "/v1/services/web/why", "");
    let why = why[0]["why"].as_str().unwrap();
    for part in
        ["has failed: signal 9", "5 in 300s lives were too short", "It is tried again 600s after"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    let starts = field.starts(0, "web");
    field.run(590_000);
    assert_eq!(field.starts(0, "web"), starts);
    field.until(15_000, |field| field.starts(0, "web") == starts + 1);
    assert_eq!(field.all_saw("GaveUp"), 1);
}

#[test]
fn a_stable_life_makes_the_next_restart_immediate() {
    let mut field = with_web(1, &json!({}));
    for _ in 0..8 {
        assert!(next_start(&mut field) < Duration::from_millis(10));
        field.run(11_000);
    }
    field.until_state(0, "web", "running");
    assert_eq!(field.job(0, "web"), None, "nothing is remembered");
}

#[test]
fn the_policy_says_what_is_started_again() {
    for (policy, status, starts) in [
        ("never", Status::Signal(9), 1),
        ("never", Status::Code(0), 1),
        ("on-failure", Status::Code(0), 1),
        ("on-failure", Status::Code(1), 2),
        ("on-failure", Status::Signal(15), 2),
        ("always", Status::Code(0), 2),
        ("always", Status::Code(1), 2),
    ] {
        let mut field = with_web(1, &json!({ "restart": { "policy": policy } }));
        field.run(15_000);
        field.end(0, "web", status);
        field.run(120_000);
        assert_eq!(field.starts(0, "web"), starts, "{policy} {status}");
        // No other event starts it either.
        field.restart(0);
        field.restart_keeper(0);
        field.run(60_000);
        assert_eq!(field.starts(0, "web"), starts, "{policy} {status}");
        let state = field.state(0, "web");
        let expected = match (starts, status) {
            (2, _) => "running",
            (_, Status::Code(0)) => "absent",
            _ => "failed",
        };
        assert_eq!(state, expected, "{policy} {status}");
        field.ask("start", "web", None);
        field.until_state(0, "web", "running");
    }
}

#[test]
fn h23_what_cannot_be_started_says_why_and_leaves_nothing() {
    let mut field = Field::new(1);
    field.nodes[0].keeper.broken.insert("web".into(), "no such program".into());
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", None);
    field.until_state(0, "web", "failed");
    let observed = field.observed(0, "web").unwrap();
    assert_eq!(observed["reason"]["class"], "not_started");
    assert!(observed["reason"]["text"].as_str().unwrap().contains("no such program"));
    assert_eq!(observed["pid"], serde_json::Value::Null);
    field.until(120_000, |field| field.wanted(0, "web").unwrap()["want"] == "resting");
    assert_eq!(field.starts(0, "web"), 0);
    field.until(1_000, |field| field.consul.entries("ha/name/").count() == 0);
    // It is repaired, and asked for again.
    field.nodes[0].keeper.broken.clear();
    field.ask("start", "web", None);
    field.until_state(0, "web", "running");
}

#[test]
fn needs_are_started_before_and_stopped_after() {
    let mut field = Field::new(2);
    field.define(&kind("db", &json!({})));
    field.define(&kind("web", &json!({ "needs": ["db"] })));
    field.define(&kind("shop", &json!({ "needs": ["web", "db"] })));
    field.ask("start", "shop", Some(1));
    field.until_state(1, "shop", "running");
    let order = |field: &Field| -> Vec<String> {
        let starts = field.nodes[1].keeper.starts.iter();
        starts.map(|(_, start)| start.name.as_str().to_owned()).collect()
    };
    assert_eq!(order(&field), ["db", "web", "shop"]);
    assert_eq!(field.starts(0, "db"), 0);
    field.ask("stop", "db", Some(1));
    field.until(20_000, |field| field.state(1, "db") == "absent");
    assert_eq!([field.state(1, "shop"), field.state(1, "web")], ["absent", "absent"]);
    let stopped: Vec<String> =
        field.nodes[1].facts.iter().map(|(_, said)| said.to_string()).collect();
    let stopped: Vec<&str> =
        stopped.iter().filter(|said| said.contains("is stopped")).map(|said| &**said).collect();
    let order: Vec<bool> = ["shop", "web", "db"]
        .iter()
        .enumerate()
        .map(|(nth, kind)| stopped[nth].contains(&format!("{kind}:")))
        .collect();
    assert_eq!(order, [true; 3], "{stopped:?}");
    field.until(5_000, |field| field.consul.entries("ha/job/").count() == 0 && field.events() == 0);
}

#[test]
fn h41_two_types_with_one_name_do_not_run_on_one_node() {
    let mut field = Field::new(2);
    for name in ["a", "b"] {
        let more = json!({ "holds": "db", "restart": { "give_up": "never" } });
        field.define(&kind(name, &more));
    }
    field.ask("start", "a", Some(0));
    field.until_state(0, "a", "running");
    field.ask("start", "b", None);
    field.until_state(1, "b", "running");
    field.until_state(0, "b", "failed");
    let reason = field.observed(0, "b").unwrap()["reason"].clone();
    assert_eq!(reason["class"], "name_held");
    let holder = field.living(0, "a").unwrap();
    assert!(reason["text"].as_str().unwrap().contains(holder.as_str()), "h40: {reason}");
    field.ask("stop", "a", None);
    field.until(60_000, |field| field.state(0, "b") == "running");
    assert_eq!(field.living(0, "a"), None);
}

#[test]
fn h44_a_new_configuration_is_tried_and_becomes_current() {
    let mut field = with_web(2, &json!({}));
    let old = field.observed(0, "web").unwrap()["revision"].clone();
    field.define(&kind("web", &json!({ "env": { "A": "1" } })));
    let is_new = |field: &Field, nth| field.observed(nth, "web").unwrap()["revision"] != old;
    field.until(10_000, |field| is_new(field, 0) && is_new(field, 1));
    field.until_state(0, "web", "running");
    assert_eq!((field.starts(0, "web"), field.starts(1, "web")), (2, 2));
    assert_eq!(field.job(0, "web").unwrap()["trying"]["last"]["revision"], old, "not proved yet");
    field.until(20_000, |field| field.job(0, "web").is_none() && field.job(1, "web").is_none());
    field.run(100);
    assert_eq!((field.all_saw("Current"), field.all_saw("Returned")), (2, 0));
    // The same again changes nothing.
    field.define(&kind("web", &json!({ "env": { "A": "1" } })));
    field.run(5_000);
    assert_eq!(field.starts(0, "web"), 2);
}

#[test]
fn h44_a_bad_configuration_is_taken_back_with_one_alert() {
    let mut field = with_web(1, &json!({}));
    let old = field.observed(0, "web").unwrap()["revision"].clone();
    field.nodes[0].probes.insert("bad".into(), 1);
    let bad = json!({ "ready": { "exec": ["/usr/lib/hax/ready", "bad"] }, "start_timeout": "1s" });
    field.define(&kind("web", &bad));
    field.until(60_000, |field| {
        field.all_saw("Returned") == 1 && field.state(0, "web") == "running"
    });
    assert_eq!(field.observed(0, "web").unwrap()["revision"], old);
    assert_eq!(field.starts(0, "web"), 5, "the old, three tries, the old");
    field.run(60_000);
    assert_eq!((field.all_saw("Returned"), field.starts(0, "web")), (1, 5));
    assert_eq!(field.job(0, "web"), None, "nothing is tried any more");
}

#[test]
fn a_check_that_fails_restarts_the_instance() {
    let check = json!({ "exec": ["/usr/lib/hax/check", "web"], "every": "1s", "timeout": "1s" });
    let mut field = with_web(1, &json!({ "check": check }));
    field.run(20_000);
    let first = field.living(0, "web").unwrap();
    field.nodes[0].probes.insert("web".into(), 1);
    let took = field.until(3_000, |field| field.starts(0, "web") == 2);
    assert!(took <= Duration::from_millis(1_100), "{took:?}");
    field.nodes[0].probes.clear();
    field.until_state(0, "web", "running");
    assert_ne!(field.living(0, "web"), Some(first));
    field.run(20_000);
    assert_eq!(field.starts(0, "web"), 2);
}

#[test]
fn an_instance_is_ready_when_its_probe_says_so() {
    let mut field = Field::new(1);
    field.nodes[0].probes.insert("127.0.0.1:80".into(), 1);
    field.define(&kind("web", &json!({ "ready": "tcp:80" })));
    field.ask("start", "web", None);
    field.run(5_000);
    assert_eq!(field.state(0, "web"), "starting");
    assert!(
        field.nodes[0].helpers.values().all(|argv| argv[..3] == ["/usr/bin/hax", "probe", "tcp"])
    );
    field.nodes[0].probes.clear();
    field.until_state(0, "web", "running");
}

#[test]
fn h43_a_node_that_comes_up_gets_what_is_to_run_there() {
    let mut field = Field::cold(3);
    field.set_label(2, "rack", "b");
    field.start(0);
    field.start(1);
    field.until(10_000, |field| field.coordinator().is_some());
    field.define(&kind("web", &json!({})));
    field.define(&kind("rack", &json!({ "place": { "labels": { "rack": "b" } } })));
    for name in ["web", "rack"] {
        field.ask("start", name, None);
    }
    field.until_state(1, "web", "running");
    field.start(2);
    field.until_state(2, "web", "running");
    field.until_state(2, "rack", "running");
    assert_eq!(field.starts(0, "rack") + field.starts(1, "rack"), 0);
}

/// Returns two nodes, the second of which is the place of a type by its label, and runs it.
fn with_rack() -> Field {
    let mut field = Field::cold(2);
    field.set_label(1, "rack", "b");
    field.start(0);
    field.start(1);
    field.until(10_000, |field| field.coordinator().is_some());
    field.define(&kind("rack", &json!({ "place": { "labels": { "rack": "b" } } })));
    field.ask("start", "rack", None);
    field.until_state(1, "rack", "running");
    field
}

#[test]
fn a_node_that_comes_up_with_other_labels_loses_what_has_no_place_there() {
    let mut field = with_rack();
    field.kill(1);
    field.set_label(1, "rack", "a");
    field.start(1);
    field.until(20_000, |field| field.living(1, "rack").is_none());
    field.until_state(1, "rack", "absent");
    field.run(20_000);
    assert_eq!(field.starts(1, "rack"), 1);
}

/// Without its record nothing is known of a node's labels: the node may be the place of all that runs there.
#[test]
fn a_node_whose_record_is_gone_loses_nothing() {
    for what in ["DELETE", "PUT"] {
        let mut field = with_rack();
        field.tell_consul(what, "/v1/kv/ha/node/n2/record", "junk");
        field.run(30_000);
        field.define(&kind("rack", &json!({ "place": { "labels": { "rack": "b" } }, "dir": "/" })));
        field.run(30_000);
        assert!(field.living(1, "rack").is_some(), "{what}");
        assert_eq!(field.state(1, "rack"), "running", "{what}");
    }
}

/// What another type needs is started beside it, and stays there.
#[test]
fn a_needed_type_runs_outside_its_place() {
    let mut field = Field::new(2);
    field.define(&kind("web", &json!({ "place": { "nodes": ["n1"] } })));
    field.define(&kind("app", &json!({ "needs": ["web"] })));
    field.ask("start", "app", Some(1));
    field.until_state(1, "app", "running");
    let coordinator = field.coordinator().unwrap();
    field.restart(coordinator);
    field.run(60_000);
    assert_eq!((field.starts(1, "web"), field.starts(1, "app")), (1, 1));
    assert_eq!(field.state(1, "web"), "running");
    // Nothing needs it any more.
    field.ask("stop", "app", Some(1));
    field.until_state(1, "app", "absent");
    field.restart(0);
    field.restart(1);
    field.until_state(1, "web", "absent");
}

#[test]
fn a_node_that_is_down_is_inhibited_and_nothing_of_it_is_moved() {
    let mut field = with_web(3, &json!({}));
    let coordinator = field.coordinator().unwrap();
    let node = (0..3).find(|nth| *nth != coordinator).unwrap();
    field.kill(node);
    field.until(10_000, |field| field.all_saw("NodeDown") == 1);
    let name = field.nodes[node].name.clone();
    let (status, found) = field.call(coordinator, "GET", &format!("/v1/services/web/{name}"), "");
    assert_eq!((status, &found["state"]), (200, &json!("inhibited")));
    // A stop that is asked for meanwhile is carried out when the node is back.
    field.ask("stop", "web", Some(node));
    field.run(30_000);
    assert!(field.living(node, "web").is_some());
    field.start(node);
    field.until(20_000, |field| field.living(node, "web").is_none());
    field.until_state(node, "web", "absent");
    field.run(10_000);
    assert_eq!((field.events(), field.job(node, "web")), (0, None));
}

#[test]
fn a_type_that_leaves_a_node_s_place_is_stopped_there() {
    let mut field = with_web(2, &json!({}));
    field.define(&kind("web", &json!({ "place": { "nodes": ["n1"] } })));
    field.until(10_000, |field| field.living(1, "web").is_none());
    assert_eq!(field.starts(0, "web"), 1);
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", None);
    field.until_state(1, "web", "running");
}

/// Returns the sets of the supervisors.
fn supervision(field: &Field) -> Vec<Option<Vec<String>>> {
    let nodes = 1..=field.nodes.len();
    let of = |nth: usize| {
        let record = field.record(&format!("ha/sup/n{nth}"))?;
        serde_json::from_value(record["watches"].clone()).ok()
    };
    nodes.map(of).collect()
}

#[test]
fn h30_what_a_supervisor_watches_is_stored_and_the_same_when_it_is_back() {
    let mut field = Field::new(4);
    field.run(1_000);
    let words = |all: &[&str]| Some(all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let before = supervision(&field);
    assert_eq!(
        before,
        [words(&["n3", "n4"]), words(&["n1", "n4"]), words(&["n1", "n2"]), words(&["n2", "n3"])]
    );
    let other = (field.coordinator().unwrap() + 1) % 4;
    field.kill(other);
    field.until(30_000, |field| supervision(field)[other].is_none());
    let name = format!("n{}", other + 1);
    let others = supervision(&field);
    assert!(others.iter().flatten().all(|set| set.len() == 2 && !set.contains(&name)));
    field.start(other);
    field.until(30_000, |field| supervision(field) == before);
    let coordinator = field.coordinator().unwrap();
    field.kill(coordinator);
    field.until(60_000, |field| {
        field.coordinator().is_some_and(|now| now != coordinator)
            && supervision(field)[coordinator].is_none()
    });
    field.start(coordinator);
    field.until(30_000, |field| supervision(field) == before);
}
