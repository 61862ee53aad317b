//! The payloads of watch handlers (5/HAX, "Incoming HTTP requests").

use serde_json::{Value, json};

use crate::daemon::Ham;
use crate::fixture::Fixture;

/// The specification's sample, byte for byte: the services of one node, all passing.
const SAMPLE: &str = include_str!("sample.json");

/// The key of the sample's process.
const PROCESS: u64 = 4;

fn post(fixture: &Fixture, body: &str) -> u16 {
    fixture.place.ask("POST", "/", body.as_bytes()).status
}

/// Returns the sample for the node that the process is configured on, with another status of its service's
/// check, which changed at `index`.
fn changed(status: &str, index: u64) -> Value {
    let mut sample: Value = serde_json::from_str(SAMPLE).unwrap();
    for check in sample[0]["Checks"].as_array_mut().unwrap() {
        check["Node"] = "ssu1".into();
    }
    let check = &mut sample[0]["Checks"][1];
    check["Status"] = status.into();
    check["ModifyIndex"] = index.into();
    sample
}

/// Takes the sample's process out of Consul's catalog, and waits until hax knows: of a process whose checks
/// a read shows, hax believes no payload that is older than the read.
fn unregister(fixture: &Fixture) {
    fixture.done("PUT", &format!("/v1/agent/service/deregister/{PROCESS}"), "");
    fixture.age();
}

/// Requests the state of the sample's process.
fn state(ham: &mut Ham) -> String {
    ham.say(&format!("nvec-get {}", crate::daemon::fid(PROCESS)));
    let said = ham.hears("the answer", |said| said["nvec"] == "set" && said["id_of_get"] != 0);
    said["notes"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn d35_the_sample_its_variants_and_consuls_own() {
    let Some(fixture) = Fixture::watching() else { return };
    let _hax = fixture.start();
    // A process with a link gets a grace period before its failing check makes it stopped.
    let mut hams = [1, 3, PROCESS].map(|key| fixture.linked(key));
    unregister(&fixture);
    assert_eq!(state(&mut hams[0]), "ONLINE");
    for body in [SAMPLE, "null", "[]", " [ ] ", &changed("critical", 100).to_string()] {
        assert_eq!(post(&fixture, body), 200, "{body}");
    }
    hams.iter().for_each(|ham| ham.is_told(PROCESS, "TRANSIENT"));
    // An older check has no effect, and neither has a payload that cannot be parsed completely.
    assert_eq!(post(&fixture, SAMPLE), 200);
    let passing = changed("passing", 101).to_string();
    assert_eq!(post(&fixture, passing.trim_end_matches(']')), 400);
    assert_eq!(post(&fixture, SAMPLE.trim_end().trim_end_matches(']')), 400);
    assert_eq!(state(&mut hams[0]), "TRANSIENT");
    assert_eq!(post(&fixture, &passing), 200);
    hams.iter().for_each(|ham| ham.is_told(PROCESS, "ONLINE"));
    // Only the status `passing` counts as good.
    for (n, status) in ["warning", "passing", "maintenance", "passing"].into_iter().enumerate() {
        let payload = changed(status, 102 + n as u64);
        assert_eq!(post(&fixture, &payload.to_string()), 200);
        let state = if status == "passing" { "ONLINE" } else { "TRANSIENT" };
        hams.iter().for_each(|ham| ham.is_told(PROCESS, state));
    }
}

#[test]
fn many_nodes_other_services_and_unknown_fields() {
    let Some(fixture) = Fixture::watching() else { return };
    let _hax = fixture.start();
    let mut ham = fixture.linked(1);
    unregister(&fixture);
    let mut payload = changed("critical", 100);
    payload[0]["Checks"][1]["Of another version"] = json!({ "a": [[[{ "b": null }]]], "c": 1e300 });
    payload[0]["Node"]["Partition"] = json!(["x", -1]);
    payload[0]["New"] = payload[0].clone();
    let ours = payload[0].clone();
    let mut nodes: Vec<Value> = Vec::new();
    for n in 0..2_000 {
        let mut other = changed("critical", 100)[0].clone();
        for check in other["Checks"].as_array_mut().unwrap() {
            check["Node"] = format!("other{n}").into();
            // These services are not Motr's, or belong to processes that are not configured.
            check["ServiceID"] =
                if n % 2 == 0 { format!("web-{n}") } else { format!("{}", 100_000 + n) }.into();
        }
        nodes.push(other);
    }
    nodes.insert(1_000, ours);
    nodes.push(json!({ "Node": {}, "Checks": null }));
    nodes.push(json!({}));
    assert_eq!(post(&fixture, &Value::from(nodes).to_string()), 200);
    ham.is_told(PROCESS, "TRANSIENT");
    assert_eq!(state(&mut ham), "TRANSIENT");
    // No other process has changed.
    ham.say(&format!("nvec-get {}", crate::daemon::fid(2)));
    let said = ham.hears("the answer", |said| said["nvec"] == "set" && said["id_of_get"] != 0);
    assert_eq!(said["notes"][0]["state"], "ONLINE");
}

#[test]
fn a_real_watch_reaches_every_link() {
    let Some(fixture) = Fixture::watching() else { return };
    let hax = fixture.start();
    let hams = [1, 3, 4].map(|key| fixture.linked(key));
    let posts = hax.facts("WatchPost").len();
    fixture.done("PUT", "/v1/agent/check/fail/service:2", "");
    hams.iter().for_each(|ham| ham.is_told(2, "TRANSIENT"));
    hax.says(posts, "WatchPost", "");
    fixture.done("PUT", "/v1/agent/check/pass/service:2", "");
    hams.iter().for_each(|ham| ham.is_told(2, "ONLINE"));
}
