//! The lives of instances: started, stopped, killed, restarted.

use std::time::Duration;

use hax_core::exec::Status;
use serde_json::json;

use super::field::Field;
use super::seen::{kind, with_web};

#[test]
fn h01_a_type_has_an_instance_on_each_node_of_its_place() {
    let field = with_web(3, &json!({}));
    let ids: std::collections::BTreeSet<_> =
        (0..3).map(|nth| field.living(nth, "web").unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for nth in 0..3 {
        let observed = field.observed(nth, "web").unwrap();
        assert_eq!(observed["instance"], field.living(nth, "web").unwrap().as_str());
        assert!(observed["pid"].as_u64().unwrap() > 100);
        let name = field.record(&format!("ha/name/n{}/web", nth + 1)).unwrap();
        assert_eq!(name["instance"], observed["instance"]);
    }
}

#[test]
fn h25_a_killed_instance_is_started_again_with_two_commits() {
    let mut field = with_web(3, &json!({}));
    field.run(20_000);
    let first = field.living(1, "web").unwrap();
    field.commits.clear();
    field.kill_9(1, "web");
    let took = field.until(1_000, |field| field.living(1, "web").is_some());
    let commits: Vec<usize> = field.commits.iter().map(|(_, nth, _)| *nth).collect();
    assert_eq!(commits, [1, field.coordinator().unwrap()], "the node's, then the coordinator's");
    assert!(took < Duration::from_millis(5), "{took:?}");
    assert_ne!(field.living(1, "web").unwrap(), first, "h10, h39: another life has another id");
    field.until_state(1, "web", "running");
    assert_eq!(field.starts(1, "web"), 2);
    assert_eq!(field.starts(0, "web"), 1);
    field.until(1_000, |field| field.events() == 0);
}

#[test]
fn h39_a_stop_and_a_start_make_another_instance() {
    let mut field = with_web(1, &json!({}));
    let first = field.living(0, "web").unwrap();
    field.ask("stop", "web", None);
    field.until_state(0, "web", "absent");
    assert_eq!(field.living(0, "web"), None);
    assert_eq!(field.record("ha/name/n1/web"), None, "the name is free");
    field.until(1_000, |field| field.job(0, "web").is_none() && field.events() == 0);
    field.ask("start", "web", Some(0));
    field.until_state(0, "web", "running");
    assert_ne!(field.living(0, "web").unwrap(), first);
}

#[test]
fn h42_requests_may_be_repeated() {
    let mut field = with_web(2, &json!({}));
    for _ in 0..3 {
        field.ask("start", "web", None);
        field.run(500);
    }
    assert_eq!((field.starts(0, "web"), field.starts(1, "web")), (1, 1));
    for _ in 0..3 {
        field.ask("stop", "web", None);
        field.run(500);
    }
    assert_eq!(field.state(0, "web"), "absent");
    assert_eq!(field.events(), 0);
}

#[test]
fn h04_fifty_starts_at_once_start_one_instance() {
    let mut field = Field::new(3);
    field.define(&kind("web", &json!({})));
    for _ in 0..50 {
        field.ask("start", "web", Some(1));
    }
    field.until_state(1, "web", "running");
    field.run(1_000);
    assert_eq!(field.starts(1, "web"), 1);
    assert_eq!(field.starts(0, "web") + field.starts(2, "web"), 0);
    assert_eq!(field.events(), 0);
}

#[test]
fn h26_without_a_coordinator_nothing_is_restarted_and_the_event_waits() {
    let mut field = with_web(3, &json!({}));
    let coordinator = field.coordinator().unwrap();
    let others: Vec<usize> = (0..3).filter(|nth| *nth != coordinator).collect();
    // Only the killed node's hax runs, and it may not coordinate.
    for nth in 0..3 {
        if nth != others[0] {
            field.kill(nth);
        }
    }
    field.tell_consul("PUT", "/v1/kv/ha/coord", r#"{"v":2,"holder":"x","term":9}"#);
    field.run(5_000);
    field.kill_9(others[0], "web");
    field.run(60_000);
    assert_eq!(field.living(others[0], "web"), None, "the node restarts nothing by itself");
    assert_eq!(field.state(others[0], "web"), "failed");
    assert_eq!(field.events(), 1);
    field.tell_consul("DELETE", "/v1/kv/ha/coord", "");
    field.until(30_000, |field| field.living(others[0], "web").is_some());
    field.until(1_000, |field| field.events() == 0);
}

#[test]
fn a_restart_of_hax_restarts_no_service() {
    let mut field = with_web(3, &json!({}));
    let before: Vec<_> = (0..3).map(|nth| field.living(nth, "web")).collect();
    for nth in 0..3 {
        field.restart(nth);
        field.run(5_000);
    }
    for nth in 0..3 {
        field.kill(nth);
    }
    field.run(5_000);
    (0..3).for_each(|nth| field.start(nth));
    field.run(10_000);
    assert_eq!((0..3).map(|nth| field.living(nth, "web")).collect::<Vec<_>>(), before);
    assert_eq!((0..3).map(|nth| field.starts(nth, "web")).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(field.state(0, "web"), "running");
}

#[test]
fn a_restart_of_the_keeper_restarts_no_service() {
    let mut field = with_web(1, &json!({}));
    let before = field.living(0, "web");
    field.restart_keeper(0);
    field.run(5_000);
    assert_eq!((field.living(0, "web"), field.starts(0, "web")), (before, 1));
    // It is still watched.
    field.kill_9(0, "web");
    field.until(5_000, |field| field.starts(0, "web") == 2);
}

#[test]
fn h25_an_end_while_hax_was_away_is_found_once() {
    let mut field = with_web(2, &json!({}));
    field.kill(1);
    field.run(2_000);
    let id = field.living(1, "web").unwrap();
    field.nodes[1].keeper.end(field.now, &id, Status::Signal(9));
    field.run(2_000);
    field.start(1);
    field.until(10_000, |field| field.starts(1, "web") == 2);
    field.run(20_000);
    assert_eq!(field.starts(1, "web"), 2);
    assert_eq!(field.state(1, "web"), "running");
}

#[test]
fn a_reboot_is_no_failure_of_the_instance() {
    let mut field = with_web(2, &json!({ "restart": { "give_up": "1 in 300s" } }));
    field.reboot(1);
    field.run(5_000);
    field.start(1);
    field.until(20_000, |field| field.living(1, "web").is_some());
    field.until_state(1, "web", "running");
    let name = field.record("ha/name/n2/web").unwrap();
    assert_eq!(name["boot"], "boot-1");
    assert_eq!(field.all_saw("GaveUp"), 0);
}

/// A transaction has room for 64 operations, and a start needs several.
#[test]
fn h38_sixty_four_types_run_on_each_node() {
    let mut field = Field::new(3);
    let names: Vec<String> = (0..64).map(|nth| format!("s{nth}")).collect();
    for name in &names {
        field.define(&kind(name, &json!({})));
    }
    for name in &names {
        field.ask("start", name, None);
    }
    let all = |field: &Field| {
        (0..3).all(|nth| names.iter().all(|name| field.state(nth, name) == "running"))
    };
    let took = field.until(10_000, all);
    assert!(took < Duration::from_secs(2), "{took:?}");
    field.until(10_000, |field| field.events() == 0);
    assert!((0..3).all(|nth| field.nodes[nth].keeper.living.len() == 64));
    // All die at once.
    field.run(15_000);
    for name in &names {
        field.kill_9(1, name);
    }
    let took = field.until(10_000, |field| names.iter().all(|name| field.starts(1, name) == 2));
    assert!(took < Duration::from_millis(100), "{took:?}");
    let (status, list) = field.call(0, "GET", "/v1/services", "");
    // Three supervisors and the coordinator are among them.
    assert_eq!((status, list.as_array().unwrap().len()), (200, 192 + 4));
}
