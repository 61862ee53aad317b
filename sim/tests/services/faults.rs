//! Faults of Consul: elections, agents without answers, restored snapshots, records of later versions.

use std::time::Duration;

use hax_sim::consul::Snapshot;
use serde_json::json;

use super::field::Field;
use super::seen::{kind, with_web};

fn rest(field: &Field) -> bool {
    field.events() == 0 && field.consul.entries("ha/job/").count() == 0
}

#[test]
fn an_election_restarts_no_service() {
    let mut field = with_web(3, &json!({}));
    for _ in 0..3 {
        field.at_consul(|consul, now, out| consul.elect(now, Duration::from_secs(3), out));
        field.run(30_000);
    }
    let starts: Vec<usize> = (0..3).map(|nth| field.starts(nth, "web")).collect();
    assert_eq!(starts, [1; 3]);
    // An instance that dies during an election is started after it.
    field.at_consul(|consul, now, out| consul.elect(now, Duration::from_secs(3), out));
    field.kill_9(1, "web");
    field.until(60_000, |field| field.state(1, "web") == "running" && field.starts(1, "web") == 2);
    field.until(30_000, rest);
}

#[test]
fn an_agent_without_answers_restarts_no_service_and_loses_no_end() {
    let mut field = with_web(3, &json!({}));
    let coordinator = field.coordinator().unwrap();
    let node = (0..3).find(|nth| *nth != coordinator).unwrap();
    field.nodes[node].is_cut = true;
    field.run(20_000);
    assert_eq!(field.starts(node, "web"), 1);
    field.kill_9(node, "web");
    field.run(20_000);
    assert_eq!(field.starts(node, "web"), 1, "nothing is started without the coordinator");
    field.nodes[node].is_cut = false;
    field.until(60_000, |field| field.starts(node, "web") == 2);
    field.until_state(node, "web", "running");
    field.until(60_000, rest);
    assert_eq!(field.starts(node, "web"), 2);
}

fn restored(field: &mut Field, snapshot: &Snapshot) {
    field.at_consul(|consul, now, out| consul.restore(now, snapshot, out));
}

/// Returns a node on which `web` runs and a restored snapshot has forgotten that it was started. hax has been there all
/// the time.
fn forgotten() -> Field {
    let mut field = Field::new(1);
    field.define(&kind("web", &json!({})));
    field.run(5_000);
    let snapshot = field.consul.snapshot();
    field.ask("start", "web", None);
    field.until_state(0, "web", "running");
    restored(&mut field, &snapshot);
    field.run(120_000);
    field
}

/// An instance of which nothing is wanted any more is left alone until somebody asks for it.
#[test]
fn after_a_restored_snapshot_a_restart_restarts_what_it_does_not_know() {
    let mut field = forgotten();
    assert_eq!(field.starts(0, "web"), 1);
    field.ask("restart", "web", Some(0));
    field.until(60_000, |field| field.starts(0, "web") == 2);
    field.until_state(0, "web", "running");
}

#[test]
fn after_a_restored_snapshot_a_start_takes_what_runs_with_the_wanted_configuration() {
    for (parameter, starts) in [("7", 1), ("8", 2)] {
        let port = json!({ "port": { "kind": "integer", "default": 7 } });
        let mut field = Field::new(1);
        field.define(&kind("web", &json!({ "parameters": port })));
        field.run(5_000);
        let snapshot = field.consul.snapshot();
        // The number in its id is higher than that of the next start.
        field.ask("start", "web", None);
        field.until_state(0, "web", "running");
        field.run(20_000);
        field.kill_9(0, "web");
        field.until(5_000, |field| field.living(0, "web").is_some());
        field.until_state(0, "web", "running");
        let first = field.living(0, "web").unwrap();
        let before = field.starts(0, "web") - 1;
        // A hax that was not there knows nothing of it.
        field.kill(0);
        restored(&mut field, &snapshot);
        field.start(0);
        field.until(60_000, |field| field.saw(0, "Stranger") > 0);
        let body = format!(r#"{{"parameters":{{"port":{parameter}}}}}"#);
        let (status, _) = field.call(0, "POST", "/v1/services/web/start?node=n1", &body);
        let starts = before + starts;
        assert_eq!((status, field.starts(0, "web")), (200, starts));
        assert_eq!(field.living(0, "web").unwrap() == first, starts == before + 1);
        assert_eq!(field.state(0, "web"), "running");
        // It has the number of that start from now on, whatever its id says.
        field.restart(0);
        field.run(10_000);
        let living = field.living(0, "web").unwrap();
        assert_eq!((living == first, field.starts(0, "web")), (starts == before + 1, starts));
        let (status, _) = field.call(0, "POST", "/v1/services/web/restart?node=n1", "");
        assert_eq!((status, field.starts(0, "web")), (200, starts + 1));
    }
}

#[test]
fn after_a_restored_snapshot_a_start_changes_nothing_of_what_runs_as_is_wanted() {
    let mut field = forgotten();
    let (status, _) = field.call(0, "POST", "/v1/services/web/start", "");
    assert_eq!((status, field.starts(0, "web")), (200, 1));
    field.kill_9(0, "web");
    field.until(10_000, |field| field.starts(0, "web") == 2);
    field.until_state(0, "web", "running");
}

#[test]
fn after_a_restored_snapshot_what_it_wants_comes_to_be() {
    // Of an instance that was stopped since.
    let mut field = with_web(2, &json!({}));
    let snapshot = field.consul.snapshot();
    field.ask("stop", "web", None);
    field.until_state(1, "web", "absent");
    field.until(10_000, rest);
    restored(&mut field, &snapshot);
    field.until(120_000, |field| {
        field.living(1, "web").is_some() && field.state(1, "web") == "running"
    });
    field.until(120_000, rest);
    // Of an instance that was restarted since.
    let (snapshot, before) = (field.consul.snapshot(), field.starts(1, "web"));
    field.kill_9(1, "web");
    field.until(60_000, |field| field.starts(1, "web") == before + 1);
    field.run(1_000);
    field.until(60_000, |field| field.state(1, "web") == "running" && rest(field));
    let (living, starts) = (field.living(1, "web"), field.starts(1, "web"));
    restored(&mut field, &snapshot);
    field.run(120_000);
    assert_eq!((field.living(1, "web"), field.starts(1, "web")), (living.clone(), starts));
    let observed = field.observed(1, "web").unwrap();
    assert_eq!(observed["instance"], living.unwrap().as_str());
    // It is still watched, and the ids are new ones.
    field.kill_9(1, "web");
    field.until(60_000, |field| field.starts(1, "web") == starts + 1);
    let ids: std::collections::BTreeSet<_> =
        field.nodes[1].keeper.starts.iter().map(|(_, start)| start.instance.clone()).collect();
    assert_eq!(ids.len(), starts + 1, "h10: no id is used again");
}

#[test]
fn a_record_of_a_later_version_is_left_as_it_is() {
    let mut field = with_web(3, &json!({}));
    let newer = json!({ "v": 2, "want": "dancing" });
    field.put("ha/inst/n2/web/wanted", &newer);
    field.run(5_000);
    assert!(field.living(1, "web").is_some(), "it is not stopped");
    // Nobody who does not know that version coordinates.
    for nth in 0..3 {
        field.restart(nth);
    }
    field.run(30_000);
    field.kill_9(0, "web");
    field.run(30_000);
    assert_eq!(field.starts(0, "web"), 1);
    assert_eq!(field.record("ha/inst/n2/web/wanted"), Some(newer));
    assert!(field.all_saw("Unusable") > 0 && field.all_saw("Unreadable") > 0);
}

#[test]
fn a_damaged_event_stops_nothing_else() {
    let mut field = with_web(2, &json!({}));
    field.tell_consul("PUT", "/v1/kv/ha/ev/n1/0-damaged", "no JSON");
    field.run(1_000);
    field.kill_9(1, "web");
    field.until(10_000, |field| field.starts(1, "web") == 2);
    field.until(10_000, |field| field.events() == 1);
    assert_eq!(field.all_saw("Unreadable"), 1);
}

#[test]
fn a_stop_of_hax_leaves_the_instances_and_hands_over() {
    let mut field = with_web(3, &json!({}));
    let coordinator = field.coordinator().unwrap();
    field.hand(coordinator, hax_core::machine::Input::Stop);
    field.until(5_000, |field| !field.is_up(coordinator));
    let took = field.until(10_000, |field| field.coordinator().is_some());
    assert!(took < Duration::from_millis(500), "no delay after a release: {took:?}");
    assert!(field.living(coordinator, "web").is_some());
    let other = (0..3).find(|nth| *nth != coordinator).unwrap();
    field.kill_9(other, "web");
    field.until(10_000, |field| field.starts(other, "web") == 2);
}
