//! What instances tell of themselves.

use hax_core::exec::Status;
use serde_json::{Value, json};

use super::field::Field;
use super::seen::{kind, with_web};

/// A type whose instances may hold databases.
fn with_schema(count: usize) -> Field {
    with_web(count, &json!({ "schema": { "id": "web-1", "kinds": ["db"] } }))
}

/// Returns what the keeper gives the living instance of a type in `HAX_INSTANCE`.
fn identity(field: &Field, nth: usize, kind: &str) -> String {
    let id = field.living(nth, kind).unwrap();
    let starts = &field.nodes[nth].keeper.starts;
    let start = starts.iter().map(|(_, start)| start).find(|start| start.instance == id).unwrap();
    assert_eq!(start.socket.as_deref(), Some("/run/hax/instance/socket"));
    format!("{id}:{}", start.capability.as_ref().unwrap())
}

/// Returns the body of a request of the living instance.
fn body(field: &Field, nth: usize, what: &Value) -> String {
    json!({ "instance": identity(field, nth, "web"), "tell": what }).to_string()
}

/// The living instance of `web` tells something; returns the answer.
fn tell(field: &mut Field, nth: usize, what: &Value) -> (u16, Value) {
    let body = body(field, nth, what);
    field.call(nth, "POST", "/v1/tell", &body)
}

#[test]
fn h15_h12_an_instance_holds_and_releases_resources_of_its_type_s_kinds() {
    let mut field = with_schema(2);
    let db1 = json!({ "acquired": { "kind": "db", "name": "db1" } });
    assert_eq!(tell(&mut field, 0, &db1).0, 200);
    let held = field.observed(0, "web").unwrap()["resources"].clone();
    assert_eq!(held, json!({ "db/db1": "own" }), "it is answered once Consul holds it");
    // A shared resource has several owners, each with its own word.
    let shared = json!({ "acquired": { "kind": "db", "name": "db2", "shared": true } });
    for nth in [0, 1] {
        assert_eq!(tell(&mut field, nth, &shared).0, 200);
    }
    let (_, graph) = field.call(1, "GET", "/v1/graph", "");
    let owners = |graph: &Value, to: &str| {
        let edges = graph["edges"].as_array().unwrap().iter();
        edges
            .filter(|edge| edge["to"] == *to)
            .map(|edge| edge["label"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(owners(&graph, "resource:db/db1"), ["\"owns\""]);
    assert_eq!(owners(&graph, "resource:db/db2"), ["\"shares\"", "\"shares\""]);
    let released = json!({ "released": { "kind": "db", "name": "db2" } });
    assert_eq!(tell(&mut field, 0, &released).0, 200);
    assert_eq!(tell(&mut field, 0, &released).0, 409, "it does not hold it any more");
    let (_, graph) = field.call(1, "GET", "/v1/graph", "");
    assert_eq!(owners(&graph, "resource:db/db2"), ["\"shares\""]);
    let undeclared = json!({ "acquired": { "kind": "disk", "name": "d" } });
    let (status, answer) = tell(&mut field, 0, &undeclared);
    assert_eq!(status, 409);
    let why = answer["error_message"].as_str().unwrap();
    assert!(why.contains("web may not hold") && why.contains("db"), "{why}");
    // What it holds ends with it.
    field.kill_9(0, "web");
    field.until(5_000, |field| field.starts(0, "web") == 2);
    field.until_state(0, "web", "running");
    assert_eq!(field.observed(0, "web").unwrap()["resources"], Value::Null);
    field.until(1_000, |field| field.events() == 0);
}

#[test]
fn h16_an_instance_tells_of_a_configuration_that_it_has_taken_by_itself() {
    let mut field = with_web(1, &json!({}));
    assert_eq!(tell(&mut field, 0, &json!({ "config": { "revision": "r7" } })).0, 200);
    let (_, graph) = field.call(0, "GET", "/v1/graph", "");
    let edges = graph["edges"].as_array().unwrap();
    assert!(edges.iter().any(|edge| edge["to"] == "config:web/r7"), "{graph}");
    field.run(30_000);
    assert_eq!(field.starts(0, "web"), 1, "it is no other configuration than the wanted one");
    let (status, _) = tell(&mut field, 0, &json!({ "config": { "revision": "a b" } }));
    assert_eq!(status, 400);
}

#[test]
fn h17_an_instance_that_says_that_it_has_failed_is_started_again() {
    let mut field = with_web(1, &json!({}));
    field.run(20_000);
    let first = field.living(0, "web").unwrap();
    assert_eq!(tell(&mut field, 0, &json!({ "failed": { "why": "no\u{7} disk" } })).0, 200);
    field.until(5_000, |field| field.living(0, "web").is_some_and(|id| id != first));
    field.until_state(0, "web", "running");
    let why = field.wanted(0, "web").unwrap()["why"].to_string();
    assert!(why.contains("no disk"), "{why}");
}

#[test]
fn h18_an_instance_that_asks_gets_the_answer_of_whoever_coordinates_then() {
    let mut field = with_web(3, &json!({}));
    field.run(20_000);
    let coordinator = field.coordinator().unwrap();
    let node = (coordinator + 1) % 3;
    // Nobody coordinates when it asks.
    field.kill(coordinator);
    let what = json!({ "failed": { "why": "no disk", "ask": true } });
    let body = body(&field, node, &what);
    let id = field.http(node, "POST", "/v1/tell", &body);
    field.until(20_000, |field| field.nodes[node].responses.contains_key(&id));
    let next = field.coordinator().unwrap();
    assert_ne!(next, coordinator);
    let response = &field.nodes[node].responses[&id];
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((response.status, &answer["answer"]), (200, &json!("restart")), "{answer}");
    assert!(answer["why"].as_str().unwrap().contains("no disk"), "{answer}");
}

#[test]
fn h18_the_answer_tells_of_a_delay_and_of_the_end_of_all_tries() {
    let restart = json!({ "give_up": "2 in 300s", "stable": "10s" });
    let mut field = with_web(1, &json!({ "restart": restart }));
    let what = json!({ "failed": { "why": "no disk", "ask": true } });
    let mut words = Vec::new();
    for _ in 0..3 {
        field.until_state(0, "web", "running");
        let (status, answer) = tell(&mut field, 0, &what);
        assert_eq!(status, 200);
        words.push(answer["answer"].as_str().unwrap().to_owned());
        field.run(4_000);
        if words.last().unwrap() == "stop" {
            break;
        }
    }
    assert_eq!(words.last().unwrap(), "stop", "{words:?}");
    assert_eq!(field.wanted(0, "web").unwrap()["want"], "resting");
}

#[test]
fn h22_what_an_instance_tells_at_its_start_is_in_the_event_of_it_or_in_a_later_one() {
    let ready = json!({ "ready": "notify", "schema": { "id": "web-1", "kinds": ["db"] } });
    let mut field = Field::new(1);
    field.define(&kind("web", &ready));
    field.ask("start", "web", None);
    field.until(5_000, |field| field.observed(0, "web").is_some_and(|seen| seen["pid"].is_u64()));
    let acquired = json!({ "acquired": { "kind": "db", "name": "db1" } });
    assert_eq!(tell(&mut field, 0, &acquired).0, 200);
    field.run(5_000);
    assert_eq!(field.state(0, "web"), "starting", "it has not told yet that it is ready");
    assert_eq!(tell(&mut field, 0, &json!("ready")).0, 200);
    assert_eq!(field.state(0, "web"), "running");
    assert_eq!(field.observed(0, "web").unwrap()["resources"], json!({ "db/db1": "own" }));
}

#[test]
fn an_instance_that_never_tells_that_it_is_ready_has_failed() {
    let mut field = Field::new(1);
    field.define(&kind("web", &json!({ "ready": "notify", "start_timeout": "3s" })));
    field.ask("start", "web", None);
    field.until_state(0, "web", "failed");
    let why = field.observed(0, "web").unwrap()["reason"]["text"].to_string();
    field.until(10_000, |field| field.starts(0, "web") == 2);
    assert!(why.contains("not ready in time"), "{why}");
}

#[test]
fn h24_an_announced_end_is_followed_by_nothing() {
    for policy in ["always", "on-failure"] {
        let mut field = with_web(1, &json!({ "restart": { "policy": policy } }));
        assert_eq!(tell(&mut field, 0, &json!({ "stopping": { "why": "enough" } })).0, 200);
        assert_eq!(field.state(0, "web"), "stopping");
        // hax may be restarted before it ends.
        field.restart(0);
        field.until(5_000, |field| field.is_ready(0));
        assert_eq!(field.state(0, "web"), "stopping");
        field.end(0, "web", Status::Code(1));
        field.until_state(0, "web", "absent");
        field.run(60_000);
        assert_eq!(field.starts(0, "web"), 1, "{policy}");
        assert_eq!(field.wanted(0, "web").unwrap()["want"], "resting");
        let (_, why) = field.call(0, "GET", "/v1/services/web/why", "");
        assert!(why.to_string().contains("announced its end: enough"), "{why}");
        // A start is a start.
        field.ask("start", "web", None);
        field.until_state(0, "web", "running");
    }
}

#[test]
fn h24_a_new_policy_starts_nothing_whose_end_was_announced() {
    let mut field = with_web(1, &json!({}));
    assert_eq!(tell(&mut field, 0, &json!({ "stopping": {} })).0, 200);
    field.end(0, "web", Status::Code(0));
    field.until_state(0, "web", "absent");
    field.run(1_000);
    let always = kind("web", &json!({ "restart": { "policy": "always" } })).to_string();
    assert_eq!(field.call(0, "POST", "/v1/types", &always).0, 200);
    field.run(60_000);
    assert_eq!(field.starts(0, "web"), 1);
}

#[test]
fn h24_an_instance_that_announces_its_end_and_lives_on_is_stopped() {
    let mut field = with_web(1, &json!({ "kill_after": "3s" }));
    assert_eq!(tell(&mut field, 0, &json!({ "stopping": {} })).0, 200);
    field.until_state(0, "web", "absent");
    assert_eq!(field.living(0, "web"), None);
    field.run(60_000);
    assert_eq!(field.starts(0, "web"), 1);
}

#[test]
fn nobody_speaks_for_an_instance_without_its_capability() {
    let mut field = with_schema(2);
    let id = field.living(0, "web").unwrap();
    let (own, other) = (identity(&field, 0, "web"), identity(&field, 1, "web"));
    let capability = other.split_once(':').unwrap().1;
    for instance in
        ["", ":", &*id.to_string(), &format!("{id}:"), &format!("{id}:{capability}"), &other]
    {
        let body = json!({ "instance": instance, "tell": "ready" }).to_string();
        let (status, answer) = field.call(0, "POST", "/v1/tell", &body);
        assert_eq!(status, 403, "{instance}");
        assert!(!answer.to_string().contains(own.split_once(':').unwrap().1));
    }
    for body in [
        "",
        "[]",
        "{}",
        r#"{"instance":"a:b","tell":"dance"}"#,
        r#"{"instance":"a:b","tell":"ready","x":1}"#,
    ] {
        assert_eq!(field.call(0, "POST", "/v1/tell", body).0, 400, "{body}");
    }
    assert_eq!(field.call(0, "GET", "/v1/tell", "").0, 405);
    let long = format!(r#"{{"instance":"{}","tell":"ready"}}"#, "x".repeat(5_000));
    assert_eq!(field.call(0, "POST", "/v1/tell", &long).0, 413);
    // A life that is over has no voice.
    field.kill_9(0, "web");
    field.until(5_000, |field| field.starts(0, "web") == 2);
    let body = json!({ "instance": own, "tell": "ready" }).to_string();
    assert_eq!(field.call(0, "POST", "/v1/tell", &body).0, 403);
}

#[test]
fn an_instance_keeps_its_voice_when_hax_or_the_keeper_is_restarted() {
    let mut field = with_schema(1);
    let own = identity(&field, 0, "web");
    field.restart(0);
    field.run(3_000);
    field.restart_keeper(0);
    field.run(3_000);
    let what = json!({ "acquired": { "kind": "db", "name": "db1" } });
    let body = json!({ "instance": own, "tell": what }).to_string();
    assert_eq!(field.call(0, "POST", "/v1/tell", &body).0, 200);
}

#[test]
fn what_an_instance_tells_without_consul_is_answered_in_time_and_written_later() {
    let mut field = with_schema(1);
    field.nodes[0].is_cut = true;
    let what = json!({ "acquired": { "kind": "db", "name": "db1" } });
    let told =
        json!({ "instance": identity(&field, 0, "web"), "tell": what, "wait_s": 2 }).to_string();
    let before = field.now;
    assert_eq!(field.call(0, "POST", "/v1/tell", &told).0, 202);
    assert_eq!(field.now.since(before).as_secs(), 2);
    field.nodes[0].is_cut = false;
    field.until(60_000, |field| !field.observed(0, "web").unwrap()["resources"].is_null());
}

#[test]
fn h24_a_start_during_an_announced_end_is_no_start_that_is_under_way() {
    let mut field = with_web(1, &json!({ "kill_after": "20s" }));
    assert_eq!(tell(&mut field, 0, &json!({ "stopping": {} })).0, 200);
    field.until(1_000, |field| field.events() == 0);
    let id = field.http(0, "POST", "/v1/services/web/start?node=n1", "");
    field.until(5_000, |field| field.starts(0, "web") == 2);
    field.until(5_000, |field| field.nodes[0].responses.contains_key(&id));
    assert_eq!(
        (field.nodes[0].responses[&id].status, field.state(0, "web")),
        (200, "running".into())
    );
}

#[test]
fn h24_an_announcement_that_is_repeated_wins_no_time() {
    let mut field = with_web(1, &json!({ "kill_after": "3s" }));
    for _ in 0..4 {
        if field.living(0, "web").is_some() {
            tell(&mut field, 0, &json!({ "stopping": {} }));
            field.run(1_000);
        }
    }
    assert_eq!(field.living(0, "web"), None);
}

#[test]
fn h24_an_announced_end_takes_the_next_start_back_that_was_put_off() {
    let mut field = with_web(1, &json!({}));
    for _ in 0..2 {
        field.until_state(0, "web", "running");
        tell(&mut field, 0, &json!({ "failed": { "why": "no disk" } }));
        field.run(200);
    }
    // The second short life: its next start waits, and it still lives.
    assert_eq!(field.job(0, "web").unwrap()["phase"], "delay");
    let starts = field.starts(0, "web");
    assert_eq!(tell(&mut field, 0, &json!({ "stopping": {} })).0, 200);
    field.end(0, "web", Status::Code(0));
    field.run(60_000);
    assert_eq!((field.starts(0, "web"), field.state(0, "web")), (starts, "absent".into()));
}

#[test]
fn h18_an_answer_that_consul_does_not_give_at_once_is_waited_for() {
    let mut field = with_web(2, &json!({}));
    field.run(20_000);
    let node = (field.coordinator().unwrap() + 1) % 2;
    let what = json!({ "failed": { "why": "no disk", "ask": true } });
    let instance = identity(&field, node, "web");
    let body = json!({ "instance": instance, "tell": what, "wait_s": 60 }).to_string();
    let id = field.http(node, "POST", "/v1/tell", &body);
    // What is told is written, and then the agent is without servers for a while.
    let coordinator = 1 - node;
    field.kill(coordinator);
    field.until(1_000, |field| field.state(node, "web") == "failed");
    field.nodes[node].is_cut = true;
    field.run(8_000);
    assert!(!field.nodes[node].responses.contains_key(&id));
    field.nodes[node].is_cut = false;
    field.until(50_000, |field| field.nodes[node].responses.contains_key(&id));
    let response = &field.nodes[node].responses[&id];
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((response.status, &answer["answer"]), (200, &json!("restart")), "{answer}");
}
