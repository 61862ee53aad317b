//! The coordinator dies at every step of its work. Nothing is lost, and nothing is worked twice.

use hax_core::base::time::Instant;
use hax_core::exec::Status;
use hax_core::services::model::name::parts_of;
use serde_json::json;

use super::field::Field;
use super::seen::{kind, with_web};

/// Returns the number of steps until a condition holds.
fn steps_until(field: &mut Field, is_so: impl Fn(&Field) -> bool) -> usize {
    let mut steps = 0;
    while !is_so(field) {
        assert!(field.step(Instant::MAX) && steps < 100_000, "it comes to that");
        steps += 1;
    }
    steps
}

/// Lets so many steps happen, and kills the coordinator's hax.
fn kill_coordinator_after(field: &mut Field, steps: usize) -> usize {
    let coordinator = field.coordinator().unwrap();
    for _ in 0..steps {
        field.step(Instant::MAX);
    }
    field.kill(coordinator);
    coordinator
}

/// A node that has not the coordinator.
fn other(field: &Field) -> usize {
    let coordinator = field.coordinator().unwrap();
    (0..3).find(|nth| *nth != coordinator).unwrap()
}

#[test]
fn a_failure_is_worked_once_whenever_the_coordinator_dies() {
    let mut field = with_web(3, &json!({}));
    let node = other(&field);
    field.run(20_000);
    field.kill_9(node, "web");
    let steps = steps_until(&mut field, |field| {
        field.starts(node, "web") == 2
            && field.state(node, "web") == "running"
            && field.events() == 0
    });
    assert!(steps > 10, "{steps}");
    for at in 0..=steps {
        let mut field = with_web(3, &json!({}));
        let node = other(&field);
        field.run(20_000);
        field.kill_9(node, "web");
        let dead = kill_coordinator_after(&mut field, at);
        field.until(30_000, |field| field.living(node, "web").is_some() && field.events() == 0);
        field.run(60_000);
        assert_eq!(field.starts(node, "web"), 2, "killed after {at} of {steps} steps");
        assert_eq!(field.wanted(node, "web").unwrap()["serial"], 2);
        assert_eq!(field.job(node, "web"), None);
        assert_eq!(field.starts(dead, "web"), 1);
    }
}

#[test]
fn a_delayed_restart_is_done_once_whenever_the_coordinator_dies() {
    let more = json!({ "restart": { "give_up": "never" } });
    let failed = |field: &mut Field| {
        let node = other(field);
        field.run(20_000);
        field.kill_9(node, "web");
        field.until(5_000, |field| field.starts(node, "web") == 2);
        field.until_state(node, "web", "running");
        field.kill_9(node, "web");
        node
    };
    let mut field = with_web(3, &more);
    let node = failed(&mut field);
    let steps = steps_until(&mut field, |field| field.starts(node, "web") == 3);
    for at in (0..=steps).step_by(2) {
        let mut field = with_web(3, &more);
        let node = failed(&mut field);
        kill_coordinator_after(&mut field, at);
        field.until(30_000, |field| field.starts(node, "web") == 3);
        field.run(60_000);
        assert_eq!(field.starts(node, "web"), 3, "killed after {at} of {steps} steps");
        assert_eq!((field.job(node, "web"), field.events()), (None, 0));
    }
}

/// A start on more nodes than one transaction has room for.
#[test]
fn an_event_with_many_effects_is_worked_to_its_end_whenever_the_coordinator_dies() {
    const NODES: usize = 80;
    let begin = |field: &mut Field| {
        field.define(&kind("web", &json!({})));
        for nth in 0..NODES {
            let record = json!({ "v": 1, "boot": "b", "generation": 1, "run": 1 });
            field.put(&format!("ha/node/f{nth}/record"), &record);
        }
        field.run(1_000);
        field.ask("start", "web", None);
    };
    let all = |field: &Field| {
        let wanted = field.consul.entries("ha/inst/f").filter(|held| held.key.ends_with("wanted"));
        let serial = |held: hax_sim::consul::KvView<'_>| {
            serde_json::from_slice::<serde_json::Value>(held.value).unwrap()["serial"].clone()
        };
        wanted.map(serial).filter(|serial| *serial == 1).count()
    };
    let mut field = Field::new(3);
    begin(&mut field);
    let steps = steps_until(&mut field, |field| all(field) == NODES && field.events() == 0);
    for at in (0..=steps).step_by(3) {
        let mut field = Field::new(3);
        begin(&mut field);
        kill_coordinator_after(&mut field, at);
        field.until(30_000, |field| all(field) == NODES && field.events() == 0);
        field.run(5_000);
        assert_eq!(all(&field), NODES, "killed after {at} of {steps} steps");
    }
}

#[test]
fn the_node_s_hax_may_die_at_every_step_of_a_start() {
    let more = json!({});
    let mut field = with_web(3, &more);
    let node = other(&field);
    field.run(20_000);
    field.kill_9(node, "web");
    let steps = steps_until(&mut field, |field| {
        field.starts(node, "web") == 2 && field.state(node, "web") == "running"
    });
    for at in 0..=steps {
        let mut field = with_web(3, &more);
        let node = other(&field);
        field.run(20_000);
        field.kill_9(node, "web");
        for _ in 0..at {
            field.step(Instant::MAX);
        }
        field.restart(node);
        field.until(30_000, |field| {
            field.state(node, "web") == "running" && field.living(node, "web").is_some()
        });
        field.run(60_000);
        assert_eq!(field.starts(node, "web"), 2, "killed after {at} of {steps} steps");
        assert_eq!(field.events(), 0);
        let observed = field.observed(node, "web").unwrap();
        assert_eq!(observed["instance"], field.living(node, "web").unwrap().as_str());
    }
}

#[test]
fn an_instance_may_end_while_the_node_s_hax_is_dead_at_every_step_of_its_start() {
    let begin = || {
        let mut field = with_web(3, &json!({ "restart": { "give_up": "never" } }));
        let node = other(&field);
        field.run(20_000);
        field.kill_9(node, "web");
        (field, node)
    };
    let (mut field, node) = begin();
    let steps = steps_until(&mut field, |field| {
        field.starts(node, "web") == 2 && field.state(node, "web") == "running"
    });
    for at in 0..=steps {
        let (mut field, node) = begin();
        for _ in 0..at {
            field.step(Instant::MAX);
        }
        field.kill(node);
        let living = field.living(node, "web");
        if let Some(id) = &living {
            let now = field.now;
            field.nodes[node].keeper.end(now, id, Status::Signal(9));
        }
        field.run(500);
        field.start(node);
        let starts = 2 + usize::from(living.is_some());
        field.until(60_000, |field| {
            field.starts(node, "web") == starts && field.state(node, "web") == "running"
        });
        field.run(60_000);
        let serials: Vec<u64> = field.nodes[node]
            .keeper
            .starts
            .iter()
            .map(|(_, start)| parts_of(&start.instance).unwrap().1)
            .collect();
        let expected: Vec<u64> = (1..=starts as u64).collect();
        assert_eq!(serials, expected, "killed after {at} of {steps} steps");
        assert_eq!(field.events(), 0);
    }
}
