//! The HTTP routes.

use std::collections::BTreeSet;

use hax_core::base::id::HttpId;
use hax_core::http::port::Trust;
use hax_core::http::stream::{Closed, Why};
use hax_core::machine::Input;
use serde_json::{Value, json};

use super::field::Field;
use super::seen::{kind, with_web};

fn define(field: &mut Field, record: &Value) -> (u16, Value) {
    field.call(0, "POST", "/v1/types", &record.to_string())
}

/// Returns the ids of instances in a list.
fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["instance"].to_string()).collect()
}

#[test]
fn a_service_is_defined_started_shown_and_stopped() {
    let mut field = Field::new(3);
    assert_eq!(define(&mut field, &kind("web", &json!({}))).0, 200);
    let (status, body) = field.call(1, "POST", "/v1/services/web/start", r#"{"by":"ann"}"#);
    assert_eq!((status, &body["already"]), (200, &json!(false)));
    let instances = body["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 3);
    assert!(instances.iter().all(|one| one["state"] == "running" && one["pid"].is_u64()));
    let (status, list) = field.call(2, "GET", "/v1/services/web", "");
    assert_eq!((status, ids(&list)), (200, ids(&body["instances"])));
    let (_, one) = field.call(2, "GET", "/v1/services/web/n2", "");
    assert_eq!(one["instance"], instances[1]["instance"]);
    let (status, again) = field.call(2, "POST", "/v1/services/web/start", "");
    assert_eq!((status, &again["already"]), (200, &json!(true)));
    assert_eq!(ids(&again["instances"]), ids(&list));
    let (status, body) = field.call(2, "POST", "/v1/services/web/stop?node=n2", "");
    assert_eq!((status, &body["instances"][0]["state"]), (200, &json!("absent")));
    assert_eq!(field.living(1, "web"), None);
    let (status, body) = field.call(0, "POST", "/v1/services/web/restart", "");
    assert_eq!(status, 200, "{body}");
    assert_eq!([0, 1, 2].map(|nth| field.starts(nth, "web")), [2, 2, 2]);
    let (_, types) = field.call(0, "GET", "/v1/types", "");
    assert_eq!(types[2]["type"]["type"], "web");
    assert_eq!(field.events(), 0);
}

#[test]
fn h04_fifty_clients_start_one_instance_and_all_get_its_id() {
    let mut field = Field::new(3);
    define(&mut field, &kind("web", &json!({})));
    let ids: Vec<(usize, u64)> = (0..50)
        .map(|n| (n % 3, field.http(n % 3, "POST", "/v1/services/web/start?node=n2", "")))
        .collect();
    field.until(60_000, |field| {
        ids.iter().all(|(nth, id)| field.nodes[*nth].responses.contains_key(id))
    });
    let answers: BTreeSet<String> = ids
        .iter()
        .map(|(nth, id)| {
            let response = &field.nodes[*nth].responses[id];
            assert_eq!(response.status, 200);
            let body: Value = serde_json::from_slice(&response.body).unwrap();
            body["instances"][0]["instance"].to_string()
        })
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(field.starts(1, "web"), 1);
}

#[test]
fn h03_what_does_not_exist_is_404_and_what_may_not_be_done_403() {
    let mut field = with_web(2, &json!({}));
    for (method, target, status) in [
        ("GET", "/v1/services/nobody", 404),
        ("GET", "/v1/services/web/n9", 404),
        ("GET", "/v1/services/nobody/why", 404),
        ("GET", "/v1/services/NOBODY", 404),
        ("GET", "/v1/types/nobody", 404),
        ("GET", "/v1/other", 404),
        ("GET", "/v1/services/web/n1/x", 404),
        ("POST", "/v1/services/nobody/start", 404),
        ("POST", "/v1/services/web/start?node=n9", 404),
        ("GET", "/v1/services/web/start", 405),
        ("POST", "/v1/services/web", 405),
        ("DELETE", "/v1/types", 405),
        ("POST", "/v1/services/web/start?wait=x", 400),
    ] {
        assert_eq!(field.call(0, method, target, "").0, status, "{method} {target}");
    }
    for body in ["x", "[]", r#"{"parameters":1}"#, r#"{"x":1}"#, r#"{"parameters":{"x":1}}"#] {
        assert_eq!(field.call(0, "POST", "/v1/services/web/start", body).0, 400, "{body}");
    }
    for target in ["/v1/services/web/stop", "/v1/types", "/v1/types/web/reconfigure"] {
        let id = field.http_of(0, "POST", target, "", Trust::Local);
        assert_eq!(field.nodes[0].responses[&id].status, 403, "{target}");
    }
    field.run(1_000);
    assert_eq!((field.starts(0, "web"), field.state(0, "web").as_str()), (1, "running"));
}

#[test]
fn h37_a_type_that_differs_from_its_schema_is_refused() {
    let mut field = Field::new(1);
    let of = |name: &str, kind_of: &str| {
        let parameters = json!({ "port": { "kind": kind_of } });
        kind(name, &json!({ "schema": { "id": "s" }, "parameters": parameters }))
    };
    assert_eq!(define(&mut field, &of("a", "integer")).0, 200);
    assert_eq!(define(&mut field, &of("b", "integer")).0, 200, "h36: two may share one");
    let (status, body) = define(&mut field, &of("b", "string"));
    assert_eq!(status, 409);
    let why = body["reason"].as_str().unwrap();
    assert!(why.contains("a uses it") && why.contains("port"), "{why}");
    assert_eq!(field.record("ha/type/b").unwrap()["parameters"]["port"]["kind"], "integer");
    // Nobody else uses it, so it may change.
    assert_eq!(define(&mut field, &kind("b", &json!({}))).0, 200);
    assert_eq!(define(&mut field, &of("a", "string")).0, 200);
}

#[test]
fn an_invalid_type_is_refused_with_all_its_errors() {
    let mut field = Field::new(1);
    let bad = json!({ "type": "web", "command": ["web"], "stop_signal": 99 });
    let (status, body) = define(&mut field, &bad);
    let fields: Vec<&str> = body["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["field"].as_str().unwrap())
        .collect();
    assert_eq!((status, fields), (400, vec!["command", "stop_signal"]));
    for (needs, status) in [(json!(["db"]), 409), (json!([]), 200)] {
        assert_eq!(define(&mut field, &kind("web", &json!({ "needs": needs }))).0, status);
    }
    define(&mut field, &kind("db", &json!({ "needs": ["web"] })));
    assert_eq!(define(&mut field, &kind("web", &json!({ "needs": ["db"] }))).0, 409, "a circle");
    let (status, body) =
        field.call(0, "POST", "/v1/types/check", &kind("new", &json!({})).to_string());
    assert_eq!((status, &body["type"]["restart"]["stable"]), (200, &json!("10s")));
    assert_eq!(field.record("ha/type/new"), None);
}

#[test]
fn h44_stored_parameters_replace_given_ones() {
    let mut field = Field::new(1);
    let parameters = json!({ "port": { "kind": "integer", "default": 1 } });
    let command = json!(["/usr/lib/hax/services/web", "{port}"]);
    define(&mut field, &kind("web", &json!({ "parameters": parameters, "command": command })));
    let port = |field: &Field| field.nodes[0].keeper.starts.last().unwrap().1.argv[1].to_string();
    field.call(0, "POST", "/v1/services/web/start", r#"{"parameters":{"port":2}}"#);
    assert_eq!(port(&field), "2");
    let target = "/v1/types/web/reconfigure";
    assert_eq!(field.call(0, "POST", target, r#"{"parameters":{"port":"x"}}"#).0, 400);
    assert_eq!(field.call(0, "POST", target, r#"{"parameters":{"port":3}}"#).0, 200);
    field.until(10_000, |field| port(field) == "3");
    field.run(20_000);
    assert_eq!(field.call(0, "POST", target, r#"{"parameters":{"port":null}}"#).0, 200);
    field.until(10_000, |field| port(field) == "2");
}

#[test]
fn a_start_that_fails_is_told_with_its_reason() {
    let mut field = Field::new(1);
    field.nodes[0].keeper.broken.insert("web".into(), "no such program".into());
    define(&mut field, &kind("web", &json!({})));
    let (status, body) = field.call(0, "POST", "/v1/services/web/start", "");
    assert_eq!(status, 409);
    assert_eq!(body["instances"][0]["reason"]["class"], "not_started");
}

/// The end of the job is no change of the instance.
#[test]
fn h42_a_stop_is_answered_as_soon_as_its_job_is_over() {
    let mut field = with_web(2, &json!({}));
    let coordinator = field.coordinator().unwrap();
    let other = 1 - coordinator;
    let target = format!("/v1/services/web/stop?node=n{}&wait=300", other + 1);
    let id = field.http(other, "POST", &target, "");
    let is_asked = |field: &Field| field.wanted(other, "web").unwrap()["want"] == "stopped";
    field.until(5_000, is_asked);
    field.nodes[coordinator].is_cut = true;
    field.until_state(other, "web", "absent");
    field.run(200);
    assert!(field.job(other, "web").is_some() && !field.nodes[other].responses.contains_key(&id));
    field.nodes[coordinator].is_cut = false;
    // The coordinator's query is lost, and is sent again when its time is over.
    field.until(100_000, |field| field.job(other, "web").is_none());
    let took = field.until(29_000, |field| field.nodes[other].responses.contains_key(&id));
    assert!(took.as_millis() < 100, "{took:?}");
    assert_eq!(field.nodes[other].responses[&id].status, 200);
}

#[test]
fn a_request_without_a_coordinator_says_that_it_waits() {
    let mut field = Field::new(1);
    define(&mut field, &kind("web", &json!({})));
    field.run(1_000);
    field.put("ha/job/n1/web", &json!({ "v": 2 }));
    field.restart(0);
    field.run(10_000);
    let (status, body) = field.call(0, "POST", "/v1/services/web/start?wait=2", "");
    assert_eq!((status, &body["state"]), (202, &json!("waits for the coordinator")));
    let (_, why) = field.call(0, "GET", "/v1/services/web/why", "");
    assert!(why[0]["why"].as_str().unwrap().contains("no coordinator"), "{why}");
    assert_eq!(field.events(), 1);
}

#[test]
fn h11_the_graph_has_all_edges_of_an_instance() {
    let mut field = Field::new(2);
    define(&mut field, &kind("web", &json!({ "holds": "http", "schema": { "id": "s" } })));
    field.call(0, "POST", "/v1/services/web/start", "");
    let (_, graph) = field.call(1, "GET", "/v1/graph", "");
    let id = format!("instance:{}", field.living(1, "web").unwrap());
    let vertices = graph["vertices"].as_array().unwrap();
    assert_eq!(vertices.iter().filter(|vertex| vertex["id"] == id.as_str()).count(), 1, "h10");
    let edges = graph["edges"].as_array().unwrap();
    let labels: Vec<&str> = edges
        .iter()
        .filter(|edge| edge["from"] == id.as_str())
        .map(|edge| edge["label"].as_str().unwrap())
        .collect();
    let labels: BTreeSet<&str> = labels.into_iter().collect();
    assert_eq!(labels, BTreeSet::from(["configured-by", "holds", "is", "on", "runs-as"]));
    // h35: a vertex for each end of an edge, an instance is of one type and on one node.
    for edge in edges {
        for end in ["from", "to"] {
            assert!(vertices.iter().any(|vertex| vertex["id"] == edge[end]), "{edge}");
        }
    }
    let request = field.http(1, "GET", "/v1/graph?format=dot", "");
    field.until(5_000, |field| field.nodes[1].responses.contains_key(&request));
    let dot = &field.nodes[1].responses[&request];
    assert!(dot.content_type.contains("graphviz"));
    assert!(
        String::from_utf8_lossy(&dot.body).contains("\" -> \"name:n2/http\" [label=\"holds\"]")
    );
}

#[test]
fn h06_an_open_response_tells_all_states_of_an_instance() {
    let mut field = with_web(1, &json!({}));
    let id = field.http(0, "GET", "/v1/events/stream", "");
    field.run(1_000);
    field.ask("stop", "web", None);
    field.until_state(0, "web", "absent");
    field.ask("start", "web", None);
    field.until_state(0, "web", "running");
    field.run(15_000);
    field.kill_9(0, "web");
    field.until(5_000, |field| field.starts(0, "web") == 3);
    field.run(1_000);
    let states: Vec<String> = field.nodes[0].streams[&id]
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| event["observed"]["state"].as_str().unwrap().to_owned())
        .collect();
    let mut expected = vec!["running", "absent", "starting", "running", "failed", "running"];
    expected.retain(|state| states.iter().any(|of| of == state));
    assert_eq!(states, expected);
    for state in ["running", "absent", "failed"] {
        assert!(states.iter().any(|of| of == state), "{state}: {states:?}");
    }
    field.hand(0, Input::HttpStream(Closed { id: HttpId(id), why: Why::Client }));
    field.kill_9(0, "web");
    let length = field.nodes[0].streams[&id].len();
    field.run(5_000);
    assert_eq!(field.nodes[0].streams[&id].len(), length);
}

#[test]
fn h02_h27_what_is_part_of_hax_has_the_same_columns_and_understands_the_same_requests() {
    let mut field = with_web(2, &json!({}));
    let coordinator = format!("n{}", field.coordinator().unwrap() + 1);
    let (_, all) = field.call(0, "GET", "/v1/services", "");
    let columns = |one: &Value| one.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all = all.as_array().unwrap();
    assert!(all.iter().all(|one| columns(one) == columns(&all[0])));
    let of = |kind: &str| {
        let nodes = all.iter().filter(|one| one["type"] == kind);
        nodes.map(|one| one["node"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("rc"), of("supervisor")), (vec![coordinator], vec!["n1".into(), "n2".into()]));
    for kind in ["rc", "supervisor", "web"] {
        for target in [format!("/v1/types/{kind}"), format!("/v1/services/{kind}/why")] {
            assert_eq!(field.call(0, "GET", &target, "").0, 200, "{target}");
        }
        let (status, started) = field.call(1, "POST", &format!("/v1/services/{kind}/start"), "");
        assert_eq!((status, &started["already"]), (200, &json!(true)), "{kind}");
    }
    let (status, refused) = field.call(0, "POST", "/v1/services/rc/stop", "");
    assert!(status == 409 && refused.to_string().contains("part of hax"), "{refused}");
    assert_eq!(define(&mut field, &kind("supervisor", &json!({}))).0, 409);
    let (_, why) = field.call(0, "GET", "/v1/services/supervisor/why?node=n1", "");
    assert!(why[0]["why"].as_str().unwrap().contains("the supervisors of n2"), "{why}");
    let (_, graph) = field.call(0, "GET", "/v1/graph", "");
    let edge = json!({"from": "instance:supervisor.n1", "to": "instance:supervisor.n2", "label": "watches"});
    assert!(graph["edges"].as_array().unwrap().contains(&edge), "h11: {graph}");
    field.kill(1);
    field.run(10_000);
    let (_, one) = field.call(0, "GET", "/v1/services/supervisor/n2", "");
    assert_eq!(one["state"], "inhibited");
}

#[test]
fn a_node_that_does_not_return_is_forgotten_and_one_that_is_up_is_not() {
    let mut field = with_web(3, &json!({}));
    let target = "/v1/nodes/n3/forget";
    let (status, why) = field.call(0, "POST", target, "");
    assert!(status == 409 && why.to_string().contains("n3 is up"), "{why}");
    assert_eq!(field.call(0, "POST", "/v1/nodes/n9/forget", "").0, 404);
    field.kill(2);
    let is_down = |field: &Field| {
        field.coordinator().is_some_and(|nth| nth != 2) && field.record("ha/sup/n3").is_none()
    };
    field.until(60_000, is_down);
    assert_eq!(field.call(0, "POST", target, "").0, 200);
    let keys =
        ["ha/inst/n3/web/wanted", "ha/inst/n3/web/observed", "ha/node/n3/record", "ha/sup/n3"];
    assert!(keys.iter().all(|key| field.record(key).is_none()));
    assert!(field.record("ha/name/n3/web").is_none() && field.all_saw("NodeForgotten") == 1);
    let (_, all) = field.call(1, "GET", "/v1/services/web", "");
    assert_eq!(all.as_array().unwrap().len(), 2);
    let (status, body) = field.call(1, "POST", "/v1/services/web/restart", "");
    assert!(status == 200 && body["instances"].as_array().unwrap().len() == 2, "{body}");
    // It comes back after all: what ran there is a stranger, and is left alone.
    field.start(2);
    field.until(30_000, |field| field.record("ha/sup/n3").is_some());
    field.run(5_000);
    assert_eq!(field.saw(2, "Stranger"), 1);
}

#[test]
fn h03_a_node_that_is_not_known_is_404_whatever_is_asked_of_it() {
    let mut field = with_web(1, &json!({}));
    for verb in ["start", "stop", "restart"] {
        let target = format!("/v1/services/web/{verb}?node=typo");
        assert_eq!(field.call(0, "POST", &target, "").0, 404, "{verb}");
    }
}

/// The node may have started it, and not have said so before it was cut off.
#[test]
fn an_instance_that_is_wanted_on_a_node_that_is_down_is_inhibited() {
    let mut field = Field::new(3);
    field.define(&kind("web", &json!({})));
    let coordinator = field.coordinator().unwrap();
    let node = (0..3).find(|nth| *nth != coordinator).unwrap();
    field.kill(node);
    field.until(60_000, |field| field.all_saw("NodeDown") == 1);
    field.ask("start", "web", Some(node));
    field.until(10_000, |field| field.events() == 0);
    let target = format!("/v1/services/web/{}", field.nodes[node].name);
    let (status, found) = field.call(coordinator, "GET", &target, "");
    assert_eq!((status, &found["state"]), (200, &json!("inhibited")));
}

#[test]
fn a_restart_of_what_was_never_started_is_404() {
    let mut field = Field::new(2);
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", Some(0));
    field.until_state(0, "web", "running");
    assert_eq!(field.call(0, "POST", "/v1/services/web/restart?node=n1", "").0, 200);
    let (status, body) = field.call(0, "POST", "/v1/services/web/restart?node=n2", "");
    assert_eq!(status, 404, "{body}");
    assert_eq!(field.call(0, "POST", "/v1/services/web/stop?node=n2", "").0, 200);
}

#[test]
fn what_is_asked_of_a_node_that_is_down_is_not_said_to_be_done() {
    let mut field = with_web(3, &json!({}));
    field.kill(2);
    let is_down = |field: &Field| {
        field.coordinator().is_some_and(|nth| nth != 2) && field.record("ha/sup/n3").is_none()
    };
    field.until(60_000, is_down);
    let (status, body) = field.call(0, "POST", "/v1/services/web/stop?node=n3", "");
    assert_eq!((status, &body["state"]), (202, &json!("waits for nodes that are down")));
    field.start(2);
    field.until_state(2, "web", "absent");
    let (status, body) = field.call(0, "POST", "/v1/services/web/stop?node=n3", "");
    assert_eq!((status, &body["instances"][0]["state"]), (200, &json!("absent")));
}
