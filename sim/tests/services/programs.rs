//! Rules by external programs.

use hax_core::exec::{self, Status, Stream};
use hax_core::machine::Input;
use serde_json::{Value, json};

use super::field::Field;
use super::seen::{kind, with_web};

/// Returns nodes with programs for these kinds of events, on which `web` runs.
fn with_programs(count: usize, kinds: &[&str]) -> Field {
    let mut field = Field::cold(count);
    for kind in kinds {
        let path: Box<[Box<str>]> = [format!("/etc/hax/rules/{kind}").into()].into();
        field.programs.insert((*kind).into(), path);
    }
    for nth in 0..count {
        field.start(nth);
    }
    field.until(10_000, |field| (0..count).all(|nth| field.is_ready(nth)));
    field.until(10_000, |field| field.coordinator().is_some());
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", None);
    field.until(10_000, |field| (0..count).all(|nth| field.state(nth, "web") == "running"));
    field.run(20_000);
    field
}

/// Returns the payloads that a program has got, on all nodes.
fn heard(field: &Field, kind: &str) -> Vec<Value> {
    let of = |node: &super::field::Node| {
        let all = node.spawned.iter().filter(|spawn| spawn.argv[0].ends_with(kind));
        let payload = |spawn: &exec::Spawn| {
            let env: Vec<&str> = spawn.env.iter().map(|(name, _)| &**name).collect();
            assert_eq!(env, ["HARE_RC_EVENT_TYPE", "HARE_RC_EVENT_PAYLOAD"]);
            assert_eq!(spawn.env[1].1.as_bytes(), &spawn.stdin[..]);
            serde_json::from_slice(&spawn.stdin).unwrap()
        };
        all.map(payload).collect::<Vec<Value>>()
    };
    field.nodes.iter().flat_map(of).collect()
}

/// The notices in Consul.
fn notices(field: &Field) -> usize {
    field.consul.entries("ha/rule/").count()
}

#[test]
fn h45_an_event_goes_to_the_programs_of_its_kind_once() {
    let mut field = with_programs(3, &["instance-failed", "node-down", "instance-failed.second"]);
    field.kill_9(1, "web");
    field.until(10_000, |field| field.starts(1, "web") == 2);
    field.until(10_000, |field| heard(field, "instance-failed").len() == 1);
    let payload = &heard(&field, "instance-failed")[0];
    assert_eq!((&payload["type"], &payload["node"]), (&json!("web"), &json!("n2")));
    assert_eq!(payload["observed"]["reason"]["class"], "signal");
    field.until(10_000, |field| notices(field) == 0);
    let coordinator = field.coordinator().unwrap();
    let other = (coordinator + 1) % 3;
    field.kill(other);
    field.until(20_000, |field| heard(field, "node-down").len() == 1);
    field.until(10_000, |field| notices(field) == 0 && field.events() == 0);
    field.run(60_000);
    assert_eq!((heard(&field, "instance-failed").len(), heard(&field, "node-down").len()), (1, 1));
}

#[test]
fn h45_what_a_program_asks_for_is_done_and_said() {
    let mut field = with_programs(2, &["instance-failed"]);
    let answer = "I look at it\n{\"restart\":\"web\",\"node\":\"n1\"}\n";
    field.answers.insert("instance-failed".into(), (0, answer.into()));
    field.kill_9(1, "web");
    field.until(10_000, |field| field.starts(0, "web") == 2);
    let why = field.wanted(0, "web").unwrap()["why"].to_string();
    assert!(why.contains("restarted by rule instance-failed"), "{why}");
    field.until(10_000, |field| notices(field) == 0);
    field.run(60_000);
    assert_eq!(field.starts(0, "web"), 2, "it is done once");
}

#[test]
fn h45_a_program_that_fails_or_answers_nonsense_changes_nothing() {
    for (code, answer) in [(1, "{\"stop\":\"web\"}"), (0, "{\"stop\":\"web\"}\n{\"dance\":1}")] {
        let mut field = with_programs(2, &["instance-failed"]);
        field.answers.insert("instance-failed".into(), (code, answer.into()));
        field.kill_9(1, "web");
        field.until(10_000, |field| field.all_saw("RuleFailed") == 1);
        field.until(10_000, |field| notices(field) == 0);
        field.run(10_000);
        assert_eq!((field.state(0, "web"), field.starts(1, "web")), ("running".into(), 2));
    }
}

#[test]
fn h45_no_event_is_unheard_when_the_coordinator_dies_with_its_programs() {
    let mut field = with_programs(3, &["instance-failed"]);
    let coordinator = field.coordinator().unwrap();
    let node = (coordinator + 1) % 3;
    field.hold_programs = true;
    field.kill_9(node, "web");
    field.until(10_000, |field| heard(field, "instance-failed").len() == 1);
    // A program holds nobody up.
    field.until(1_000, |field| field.starts(node, "web") == 2);
    field.kill(coordinator);
    field.hold_programs = false;
    field.until(60_000, |field| heard(field, "instance-failed").len() == 2);
    field.until(10_000, |field| notices(field) == 0);
}

#[test]
fn a_program_that_ends_after_its_coordinator_s_lease_asks_for_nothing() {
    let mut field = with_programs(1, &["instance-failed"]);
    field.hold_programs = true;
    field.kill_9(0, "web");
    field.until(10_000, |field| heard(field, "instance-failed").len() == 1);
    let id = field.nodes[0].spawned.last().unwrap().id;
    field.nodes[0].is_cut = true;
    field.run(30_000);
    let bytes = "{\"stop\":\"web\"}".into();
    field.hand(0, Input::Exec(exec::Event::Output { id, stream: Stream::Stdout, bytes }));
    let (status, cause) = (Status::Code(0), exec::Cause::Itself);
    let unheard = exec::Unheard::default();
    field.hand(0, Input::Exec(exec::Event::Exited { id, status, cause, unheard }));
    field.nodes[0].is_cut = false;
    field.hold_programs = false;
    field.until(60_000, |field| notices(field) == 0);
    assert!(heard(&field, "instance-failed").len() > 1, "it hears of it again");
    field.until_state(0, "web", "running");
    assert_eq!(field.wanted(0, "web").unwrap()["want"], "running");
}

#[test]
fn without_programs_nothing_is_written_for_them() {
    let mut field = with_web(1, &json!({}));
    field.kill_9(0, "web");
    field.until(10_000, |field| field.starts(0, "web") == 2);
    field.run(10_000);
    assert!(!field.commits.iter().any(|(.., body)| body.contains("ha/rule/")));
}

#[test]
fn h45_the_death_of_the_coordinator_s_own_node_is_heard_of() {
    let mut field = with_programs(3, &["node-down", "node-up"]);
    let before = heard(&field, "node-up").len();
    let coordinator = field.coordinator().unwrap();
    let name = field.nodes[coordinator].name.clone();
    field.kill(coordinator);
    field.until(60_000, |field| heard(field, "node-down").iter().any(|of| of["node"] == *name));
    field.run(60_000);
    assert_eq!(heard(&field, "node-down").len(), 1);
    field.start(coordinator);
    field.until(60_000, |field| heard(field, "node-up").len() == before + 1);
    field.until(10_000, |field| notices(field) == 0);
}

#[test]
fn h45_what_each_program_of_an_event_asks_for_is_done() {
    let mut field = with_programs(2, &["instance-failed"]);
    let both = ["/etc/hax/rules/instance-failed.a", "/etc/hax/rules/instance-failed.b"];
    field.programs.insert("instance-failed".into(), both.map(Into::into).into());
    for nth in 0..2 {
        field.restart(nth);
    }
    field.until(20_000, |field| {
        field.coordinator().is_some() && (0..2).all(|nth| field.is_ready(nth))
    });
    field.run(5_000);
    let ask = |node: &str| format!("{{\"restart\":\"web\",\"node\":\"{node}\"}}");
    field.answers.insert("instance-failed.a".into(), (0, ask("n1")));
    field
        .answers
        .insert("instance-failed.b".into(), (0, "{\"stop\":\"web\",\"node\":\"n2\"}".into()));
    field.kill_9(1, "web");
    field.until(10_000, |field| field.starts(0, "web") == 2);
    field.until(10_000, |field| field.wanted(1, "web").unwrap()["want"] == "stopped");
    field.until(10_000, |field| notices(field) == 0);
}

#[test]
fn h45_what_cannot_be_done_is_not_written() {
    let mut field = with_programs(1, &["instance-failed"]);
    for ask in [
        "{\"start\":\"web\",\"node\":\"typo\"}",
        "{\"start\":\"web\",\"parameters\":{\"bad\":1}}",
        "{\"stop\":\"none\"}",
    ] {
        let before = field.all_saw("CannotDo");
        field.answers.insert("instance-failed".into(), (0, ask.into()));
        field.run(20_000);
        field.kill_9(0, "web");
        field.until(10_000, |field| field.all_saw("CannotDo") == before + 1);
        field.until_state(0, "web", "running");
        assert_eq!(field.record("ha/inst/typo/web/wanted"), None);
        assert_eq!(field.record("ha/goal/web").unwrap()["given"], Value::Null);
    }
}

#[test]
fn h45_a_start_of_what_runs_changes_nothing() {
    let mut field = with_programs(1, &["request"]);
    let n = json!({ "n": { "kind": "integer", "default": 1 } });
    field.define(&kind("app", &json!({ "parameters": n })));
    let given = r#"{"parameters":{"n":7}}"#;
    assert_eq!(field.call(0, "POST", "/v1/services/app/start", given).0, 200);
    field.run(20_000);
    field.answers.insert("request".into(), (0, "{\"start\":\"app\"}".into()));
    field.ask("restart", "web", None);
    field.until(10_000, |field| field.starts(0, "web") == 2);
    field.run(20_000);
    assert_eq!(field.starts(0, "app"), 1);
    assert_eq!(field.wanted(0, "app").unwrap()["given"], json!({ "n": 7 }));
}
