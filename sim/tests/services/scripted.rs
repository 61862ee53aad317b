//! OCF agents and units of systemd.

use std::time::Duration;

use serde_json::{Value, json};

use super::field::Field;

const AGENT: &str = "/usr/lib/ocf/resource.d/heartbeat/Dummy";

fn dummy(more: &Value) -> Value {
    let mut record = json!({ "type": "dummy", "runner": "ocf", "agent": "heartbeat:Dummy" });
    for (field, value) in more.as_object().unwrap() {
        record[field] = value.clone();
    }
    record
}

/// Returns a node on which the resource runs.
fn running(more: &Value) -> Field {
    let mut field = Field::new(1);
    field.define(&dummy(more));
    field.ask("start", "dummy", None);
    field.until_state(0, "dummy", "running");
    field.until(5_000, |field| field.events() == 0);
    field
}

/// Returns the actions since the last call.
fn actions(field: &mut Field) -> Vec<String> {
    std::mem::take(&mut field.nodes[0].actions)
}

#[test]
fn h33_an_agent_is_looked_at_started_monitored_and_stopped() {
    let mut field = running(&json!({}));
    assert_eq!(actions(&mut field), ["monitor", "start"]);
    field.run(3_500);
    assert_eq!(actions(&mut field), ["monitor"; 3]);
    assert!(field.record("ha/name/n1/dummy").is_some());
    field.ask("stop", "dummy", None);
    field.until_state(0, "dummy", "absent");
    assert_eq!(actions(&mut field).last().unwrap(), "stop");
    assert!(field.nodes[0].resources.is_empty());
    field.run(3_000);
    assert!(actions(&mut field).is_empty(), "nothing is monitored any more");
    assert_eq!(field.record("ha/name/n1/dummy"), None);
}

#[test]
fn what_runs_already_is_not_started_again() {
    let mut field = Field::new(1);
    field.nodes[0].resources.insert(AGENT.into());
    field.define(&dummy(&json!({})));
    field.ask("start", "dummy", None);
    field.until_state(0, "dummy", "running");
    assert_eq!(actions(&mut field), ["monitor"]);
}

#[test]
fn a_resource_that_has_gone_is_stopped_and_started_again() {
    let mut field = running(&json!({}));
    field.run(15_000);
    actions(&mut field);
    field.nodes[0].resources.clear();
    let took = field.until(3_000, |field| !field.nodes[0].resources.is_empty());
    assert!(took < Duration::from_millis(1_100), "{took:?}");
    assert_eq!(actions(&mut field), ["monitor", "stop", "monitor", "start"]);
    field.until_state(0, "dummy", "running");
}

#[test]
fn a_restart_of_hax_only_looks() {
    let mut field = running(&json!({}));
    actions(&mut field);
    field.restart(0);
    field.run(10_000);
    assert!(actions(&mut field).iter().all(|action| action == "monitor"));
    assert_eq!(field.state(0, "dummy"), "running");
    // What has gone meanwhile is found.
    field.kill(0);
    field.nodes[0].resources.clear();
    field.run(2_000);
    field.start(0);
    field.until(20_000, |field| !field.nodes[0].resources.is_empty());
    field.until_state(0, "dummy", "running");
}

#[test]
fn h23_a_wrong_installation_is_given_up_at_once_with_the_agent_s_reason() {
    let mut field = Field::new(1);
    field.nodes[0].codes.insert("start".into(), 5);
    field.define(&dummy(&json!({})));
    field.ask("start", "dummy", None);
    field.until(5_000, |field| field.all_saw("GaveUp") == 1);
    field.run(30_000);
    let count = actions(&mut field).iter().filter(|action| *action == "start").count();
    assert_eq!(count, 1);
    let (_, why) = field.call(0, "GET", "/v1/services/dummy/why", "");
    let why = why[0]["why"].as_str().unwrap();
    assert!(why.contains("start: not installed (5): it is broken"), "{why}");
    assert!(why.contains("It is tried again 600s after"), "{why}");
    // A change of the type is a reason to try again.
    field.nodes[0].codes.clear();
    field.define(&dummy(&json!({ "kill_after": "11s" })));
    field.until_state(0, "dummy", "running");
}

#[test]
fn what_cannot_be_stopped_is_not_started_and_keeps_its_name() {
    let mut field = running(&json!({}));
    field.nodes[0].codes.insert("stop".into(), 1);
    actions(&mut field);
    field.ask("stop", "dummy", None);
    field.until_state(0, "dummy", "failed");
    field.run(10_000);
    let stops = actions(&mut field).iter().filter(|action| *action == "stop").count();
    assert_eq!(stops, 1);
    assert_eq!(field.observed(0, "dummy").unwrap()["reason"]["class"], "not_stopped");
    assert!(field.record("ha/name/n1/dummy").is_some(), "it may still run");
    field.nodes[0].codes.clear();
    field.ask("start", "dummy", None);
    field.until_state(0, "dummy", "running");
    assert_eq!(actions(&mut field).iter().filter(|action| *action == "stop").count(), 1);
    field.ask("stop", "dummy", None);
    field.until_state(0, "dummy", "absent");
}

#[test]
fn a_degraded_resource_is_left_alone() {
    let mut field = running(&json!({}));
    field.nodes[0].codes.insert("monitor".into(), 190);
    field.until_state(0, "dummy", "degraded");
    field.run(10_000);
    assert!(actions(&mut field).iter().skip(2).all(|action| action == "monitor"));
    field.nodes[0].codes.clear();
    field.until_state(0, "dummy", "running");
}

#[test]
fn a_unit_is_started_through_systemctl_and_one_with_two_managers_is_refused() {
    let mut field = Field::new(1);
    let unit = json!({ "type": "unit", "runner": "systemd", "unit": "x.service" });
    field.define(&unit);
    field.ask("start", "unit", None);
    field.until_state(0, "unit", "running");
    assert_eq!(actions(&mut field), ["show", "start"]);
    field.until(3_000, |field| field.observed(0, "unit").unwrap()["pid"] == 77);
    field.nodes[0].resources.clear();
    field.until(3_000, |field| !field.nodes[0].resources.is_empty());
    field.ask("stop", "unit", None);
    field.until_state(0, "unit", "absent");
    field.nodes[0].is_restarting = true;
    field.ask("start", "unit", None);
    field.until_state(0, "unit", "failed");
    let reason = field.observed(0, "unit").unwrap()["reason"]["text"].clone();
    assert!(reason.as_str().unwrap().contains("Restart=no"), "{reason}");
    assert!(field.nodes[0].resources.is_empty());
}
