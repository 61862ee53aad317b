//! What the World has found: each test is the shortest story of one finding.

use hax_core::base::id::AskId;
use hax_core::keeper::answer::{Held, KeeperView};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::port::{Command, Event};
use hax_core::keeper::request::Ask;
use hax_core::machine::Input;
use serde_json::{Value, json};

use super::field::Field;
use super::seen::{kind, with_web};

fn parameters() -> Value {
    json!({ "n": { "kind": "integer", "default": 0 } })
}

/// Returns a type that is not ready before its probe succeeds.
fn probed(name: &str, more: &Value) -> Value {
    let mut record = kind(name, more);
    record["command"] = json!([format!("/usr/lib/hax/services/{name}"), "{n}"]);
    record["parameters"] = parameters();
    record["ready"] = json!(format!("file:/run/{name}"));
    record
}

/// Returns a node with a `web` that does not become ready, and an `app` that needs it.
fn with_slow_web() -> Field {
    let mut field = Field::new(1);
    field.nodes[0].probes.insert("/run/web".into(), 1);
    for record in [probed("web", &json!({})), probed("app", &json!({ "needs": ["web"] }))] {
        assert_eq!(field.call(0, "POST", "/v1/types", &record.to_string()).0, 200);
    }
    field
}

fn start(field: &mut Field, kind: &str, n: u64) {
    let body = json!({ "parameters": { "n": n } }).to_string();
    let (status, _) = field.call(0, "POST", &format!("/v1/services/{kind}/start?wait=1"), &body);
    assert_eq!(status, 202);
}

/// Returns the last argument of each start of a type.
fn arguments(field: &Field, kind: &str) -> Vec<String> {
    let starts = field.nodes[0].keeper.starts.iter();
    let of = format!("{kind}.");
    let starts = starts.filter(|(_, start)| start.instance.as_str().starts_with(&of));
    starts.map(|(_, start)| start.argv.last().unwrap().to_string()).collect()
}

#[test]
fn a_later_start_replaces_the_parameters_of_one_that_waits() {
    let mut field = with_slow_web();
    start(&mut field, "app", 1);
    start(&mut field, "app", 2);
    field.nodes[0].probes.clear();
    field.until_state(0, "app", "running");
    assert_eq!(arguments(&field, "app"), ["2"]);
}

#[test]
fn a_start_that_waits_again_is_stopped() {
    let mut field = with_slow_web();
    field.nodes[0].probes.clear();
    let call = |field: &mut Field, path: &str| {
        field.call(0, "POST", &format!("/v1/services/{path}?wait=1"), "").0
    };
    assert_eq!(call(&mut field, "app/start"), 200);
    assert_eq!(call(&mut field, "web/stop"), 200);
    field.nodes[0].probes.insert("/run/web".into(), 1);
    assert_eq!(call(&mut field, "app/start"), 202);
    assert_eq!(call(&mut field, "app/stop"), 200);
    field.nodes[0].probes.clear();
    field.until_state(0, "web", "running");
    field.run(10_000);
    assert_eq!(field.starts(0, "app"), 1);
}

#[test]
fn a_start_that_waited_when_it_was_stopped_does_not_come_back() {
    let mut field = with_slow_web();
    let call = |field: &mut Field, path: &str| {
        field.call(0, "POST", &format!("/v1/services/{path}?wait=1"), "").0
    };
    assert_eq!(call(&mut field, "app/start"), 202);
    assert_eq!(call(&mut field, "web/stop"), 200);
    field.nodes[0].probes.clear();
    // A new coordinator looks at what is to run on each node.
    field.restart(0);
    field.run(20_000);
    assert_eq!((field.living(0, "web"), field.starts(0, "app")), (None, 0));
}

#[test]
fn a_needed_type_that_is_about_to_run_keeps_its_parameters() {
    let mut field = with_slow_web();
    start(&mut field, "web", 5);
    start(&mut field, "app", 1);
    field.nodes[0].probes.clear();
    field.until_state(0, "app", "running");
    assert_eq!(arguments(&field, "web"), ["5"]);
}

#[test]
fn a_probe_of_an_instance_that_is_found_is_not_overdue() {
    let mut field = with_slow_web();
    start(&mut field, "web", 1);
    // The host checks that each deadline is later.
    field.restart(0);
    field.run(1_000);
    field.nodes[0].probes.clear();
    field.until_state(0, "web", "running");
    assert_eq!(field.starts(0, "web"), 1);
}

/// A request names a known node. If somebody deletes the node's records before the request is worked, the node
/// has it when it is back.
#[test]
fn a_start_on_a_node_whose_records_were_deleted_waits_for_the_node() {
    let mut field = Field::new(2);
    let first = field.coordinator().unwrap();
    let other = 1 - first;
    let name = field.nodes[other].name.clone();
    let record = kind("web", &json!({})).to_string();
    assert_eq!(field.call(first, "POST", "/v1/types", &record).0, 200);
    field.kill(first);
    let path = format!("/v1/services/web/start?wait=0&node={name}");
    assert_eq!(field.call(other, "POST", &path, "").0, 202);
    field.kill(other);
    let target = format!("/v1/kv/ha/node/{name}/?recurse");
    field.tell_consul("DELETE", &target, "");
    field.start(first);
    field.until(20_000, |field| field.events() == 0);
    assert_eq!(field.starts(other, "web"), 0);
    field.start(other);
    field.until_state(other, "web", "running");
}

/// Damages a record, restarts hax if it has to notice, and corrects the record.
fn damage_and_correct(key: &str, restarts: bool) -> Field {
    let mut field = with_web(1, &json!({}));
    field.run(20_000);
    let record = field.record(key).unwrap();
    field.tell_consul("PUT", &format!("/v1/kv/{key}"), "junk");
    if restarts {
        field.restart(0);
    }
    field.run(5_000);
    field.put(key, &record);
    field.run(90_000);
    field
}

#[test]
fn a_corrected_record_of_a_node_is_used_again() {
    for (key, restarts) in [
        ("ha/inst/n1/web/observed", false),
        ("ha/inst/n1/web/wanted", false),
        ("ha/node/n1/record", true),
        ("ha/name/n1/web", true),
    ] {
        let mut field = damage_and_correct(key, restarts);
        field.kill_9(0, "web");
        field.until(30_000, |field| field.starts(0, "web") == 2);
        field.until_state(0, "web", "running");
    }
}

/// The end of an instance is found once the record says which one it was, and is an end: its start is not carried
/// out again.
#[test]
fn the_end_of_an_instance_is_found_when_its_record_is_corrected() {
    let mut field = with_web(1, &json!({}));
    field.run(20_000);
    let key = "ha/inst/n1/web/observed";
    let record = field.record(key).unwrap();
    field.tell_consul("PUT", &format!("/v1/kv/{key}"), "junk");
    field.reboot(0);
    field.start(0);
    field.run(5_000);
    assert_eq!(field.starts(0, "web"), 1);
    field.put(key, &record);
    field.until(90_000, |field| field.starts(0, "web") == 2);
    field.until_state(0, "web", "running");
    let last = field.nodes[0].keeper.starts.last().map(|(_, start)| start.instance.to_string());
    assert!(last.as_ref().is_some_and(|id| id.ends_with(".2")), "{last:?}");
}

#[test]
fn a_corrected_type_is_used_again() {
    let mut field = damage_and_correct("ha/type/web", true);
    for (verb, state) in [("stop", "absent"), ("start", "running")] {
        field.ask(verb, "web", None);
        field.until_state(0, "web", state);
    }
}

#[test]
fn after_a_restored_snapshot_a_living_instance_has_its_name() {
    let mut field = Field::new(1);
    let snapshot = field.consul.snapshot();
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", None);
    field.until_state(0, "web", "running");
    field.at_consul(|consul, now, out| consul.restore(now, &snapshot, out));
    field.until(200_000, |field| field.record("ha/name/n1/web").is_some());
    assert_eq!(field.starts(0, "web"), 1);
}

#[test]
fn after_a_restored_snapshot_what_runs_has_the_configuration_of_the_snapshot() {
    let mut field = Field::new(1);
    let record = probed("web", &json!({}));
    assert_eq!(field.call(0, "POST", "/v1/types", &record.to_string()).0, 200);
    assert_eq!(field.call(0, "POST", "/v1/services/web/start", "").0, 200);
    field.run(20_000);
    let snapshot = field.consul.snapshot();
    let body = json!({ "parameters": { "n": 7 } }).to_string();
    assert_eq!(field.call(0, "POST", "/v1/services/web/start", &body).0, 200);
    field.run(20_000);
    field.at_consul(|consul, now, out| consul.restore(now, &snapshot, out));
    field.run(200_000);
    assert_eq!(arguments(&field, "web"), ["0", "7", "0"]);
    assert_eq!(field.state(0, "web"), "running");
}

/// A restored snapshot takes back a start, and the next start has its serial number. An instance that is found
/// says by its tag with which configuration it runs.
#[test]
fn an_instance_that_is_found_after_a_restored_snapshot_is_not_taken_for_another_start() {
    let mut field = Field::new(2);
    let first = field.coordinator().unwrap();
    let other = 1 - first;
    let path = format!("/v1/services/web/start?wait=0&node={}", field.nodes[other].name);
    let start = |field: &mut Field, n: u64| {
        let body = json!({ "parameters": { "n": n } }).to_string();
        assert!([200, 202].contains(&field.call(first, "POST", &path, &body).0));
    };
    let mut record = kind("web", &json!({}));
    record["command"] = json!(["/usr/lib/hax/services/web", "{n}"]);
    record["parameters"] = parameters();
    assert_eq!(field.call(first, "POST", "/v1/types", &record.to_string()).0, 200);
    start(&mut field, 1);
    field.until_state(other, "web", "running");
    let snapshot = field.consul.snapshot();
    start(&mut field, 2);
    field.until(20_000, |field| field.starts(other, "web") == 2);
    field.kill(other);
    field.at_consul(|consul, now, out| consul.restore(now, &snapshot, out));
    field.run(20_000);
    start(&mut field, 3);
    field.run(1_000);
    field.start(other);
    field.until(60_000, |field| field.starts(other, "web") == 3);
    field.until_state(other, "web", "running");
    let last = field.nodes[other].keeper.starts.last().map(|(_, start)| start.argv[1].to_string());
    assert_eq!(last.as_deref(), Some("3"));
}

#[test]
fn a_delay_does_not_begin_anew_when_the_records_are_read_again() {
    let restart = json!({ "give_up": "1 in 60s", "try_again": "30s" });
    let mut field = with_web(1, &json!({ "restart": restart }));
    field.define(&kind("other", &json!({})));
    field.ask("start", "other", None);
    field.until_state(0, "other", "running");
    field.kill_9(0, "web");
    field.until(10_000, |field| field.all_saw("GaveUp") == 1);
    for _ in 0..12 {
        // Somebody else writes a record, so the next commit fails and all is read again.
        let wanted = field.wanted(0, "other").unwrap();
        field.put("ha/inst/n1/other/wanted", &wanted);
        field.ask("restart", "other", None);
        field.run(5_000);
    }
    assert!(field.all_saw("Overtaken") >= 6);
    assert_eq!(field.starts(0, "web"), 2);
}

#[test]
fn what_a_restored_snapshot_has_undone_is_done_again() {
    let mut field = Field::new(2);
    let coordinator = field.coordinator().unwrap();
    let node = 1 - coordinator;
    field.define(&kind("web", &json!({})));
    field.until(10_000, |field| field.events() == 0);
    field.kill(node);
    field.nodes[coordinator].is_cut = true;
    field.ask("start", "web", Some(node));
    let snapshot = field.consul.snapshot();
    field.nodes[coordinator].is_cut = false;
    field.until(60_000, |field| field.wanted(node, "web").is_some());
    field.at_consul(|consul, now, out| consul.restore(now, &snapshot, out));
    // A later write hides the index that went back.
    field.define(&kind("other", &json!({})));
    field.run(1_000);
    field.start(node);
    field.until(200_000, |field| field.living(node, "web").is_some());
}

#[test]
fn a_start_that_the_keeper_s_list_does_not_show_yet_is_not_begun_again() {
    let mut field = Field::new(1);
    field.define(&kind("web", &json!({})));
    field.ask("start", "web", None);
    field.until(10_000, |field| field.starts(0, "web") == 1);
    // The request was sent on a new connection, behind the request for the list.
    let (pid, boot, generation) = (1, "boot-0".into(), 2);
    let keeper = Box::new(KeeperView { pid, boot, generation, held: Held::Cgroup });
    field.hand(0, Input::Keeper(Event::Up { keeper, instances: Vec::new() }));
    field.until_state(0, "web", "running");
    field.run(60_000);
    assert_eq!(field.starts(0, "web"), 1);
    assert_eq!(field.saw(0, "Failed"), 0);
}

#[test]
fn an_instance_that_an_earlier_run_has_asked_for_is_stopped_where_nobody_waits_for_it() {
    let mut field = with_web(1, &json!({}));
    field.ask("stop", "web", None);
    field.until_state(0, "web", "absent");
    let mut start = field.nodes[0].keeper.starts[0].1.clone();
    start.instance = InstanceId::new("web.n1.1-1.1").unwrap();
    let command = Command { id: AskId(1 << 40), ask: Ask::Start(start) };
    let now = field.now;
    let events = field.nodes[0].keeper.ask(now, command);
    events.into_iter().for_each(|event| field.hand(0, Input::Keeper(event)));
    field.until(10_000, |field| field.living(0, "web").is_none());
}
