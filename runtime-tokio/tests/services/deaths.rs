//! What dies is started again, and nothing else is.

use crate::cluster::{Cluster, IDLE, kill_9, lives};
use crate::common::program::holds;

#[test]
fn h25_a_killed_process_is_started_again_once_wherever_the_coordinator_is() {
    let Some(cluster) = Cluster::start(3) else { return };
    let asked = &cluster.nodes[0];
    asked.define("idle", IDLE);
    asked.done(&["start", "idle"]);
    let before = asked.pids("idle");
    assert_eq!(before.len(), 3, "h01: {before:?}");
    for (node, pid) in &before {
        kill_9(*pid);
        assert!(holds(|| asked.pids("idle").get(node).is_some_and(|now| now != pid)));
    }
    let serials = asked.instances("idle").into_values().map(|one| one["wanted"]["serial"].clone());
    assert!(serials.into_iter().all(|serial| serial == 2), "each was started once more");
}

#[test]
fn a_restart_of_hax_of_the_keeper_and_of_the_agent_restarts_no_service() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    cluster.nodes[0].define("idle", IDLE);
    cluster.nodes[0].done(&["start", "idle"]);
    let before = cluster.nodes[0].pids("idle");
    for nth in 0..3 {
        cluster.nodes[nth].kill_hax();
        cluster.nodes[nth].start_hax();
        drop(cluster.nodes[nth].keeper.take());
        cluster.nodes[nth].start_keeper();
        cluster.agents[nth].restart().unwrap();
        assert!(holds(|| {
            let status = cluster.nodes[nth].service(&["status"]);
            status.status.success()
        }));
    }
    assert!(before.values().all(|pid| lives(*pid)));
    assert!(holds(|| {
        let list = cluster.nodes[0].service(&["list", "idle", "--json"]);
        list.status.success() && cluster.nodes[0].pids("idle") == before
    }));
    // They are still watched.
    let (node, pid) = before.first_key_value().unwrap();
    kill_9(*pid);
    assert!(holds(|| cluster.nodes[0].pids("idle").get(node).is_some_and(|now| now != pid)));
}

#[test]
fn h26_a_death_waits_for_the_next_coordinator() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let first = cluster.coordinator();
    let asked = (first + 1) % 3;
    cluster.nodes[asked].define("idle", IDLE);
    cluster.nodes[asked].done(&["start", "idle"]);
    let before = cluster.nodes[asked].pids("idle");
    cluster.nodes[first].kill_hax();
    let name = cluster.nodes[asked].name.clone();
    kill_9(before[&name]);
    assert!(holds(|| cluster.nodes[asked]
        .pids("idle")
        .get(&name)
        .is_some_and(|now| *now != before[&name])));
    assert_ne!(cluster.coordinator(), first);
    // What runs on the node without hax goes on, and is inhibited until hax is back.
    let of_first = cluster.nodes[first].name.clone();
    assert!(lives(before[&of_first]));
    assert!(holds(|| cluster.nodes[asked].instances("idle")[&of_first]["state"] == "inhibited"));
    cluster.nodes[first].start_hax();
    assert!(holds(|| cluster.nodes[asked].pids("idle").get(&of_first) == Some(&before[&of_first])));
}
