//! A Consul with a restored snapshot: its state and its indexes go back behind those that hax has seen.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::consul::port::{Reply, Unanswered};
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::ProcessEventKind;

use hax_sim::consul::Snapshot;

use crate::test_cluster::TestCluster;

const MS: Duration = Duration::from_millis(1);

/// Takes a snapshot. After it one process is recorded as stopped, and the check of another one fails.
fn save_and_move_on(cluster: &mut TestCluster, stopped: Fid, failing: Fid) -> Snapshot {
    let saved = cluster.consul.snapshot();
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", &format!("/v1/kv/processes/{stopped}"), word);
    cluster.set_check(0, failing, "warning");
    cluster.run(MS * 1_000);
    saved
}

#[test]
fn f18_what_a_restored_snapshot_brings_back_is_seen_at_once() {
    let mut cluster = TestCluster::new(1);
    let (ios, far, confd) = (cluster.fid(0, "ios"), cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let saved = save_and_move_on(&mut cluster, far, ios);
    assert_eq!(cluster.last_state(0, link, far), Some(ObjectState::Failed));
    cluster.with_consul(|consul, now, out| consul.restore(now, &saved, out));
    // There is no write and no request. The waiting queries have ended with the state from before the
    // restore.
    cluster.run(MS * 1_000);
    assert_eq!(cluster.last_state(0, link, far), Some(ObjectState::Online));
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Online));
}

#[test]
fn what_a_restored_snapshot_brings_back_is_believed_once_indexes_have_passed_what_was_seen() {
    let mut cluster = TestCluster::new(1);
    let (ios, far, confd) = (cluster.fid(0, "ios"), cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let saved = save_and_move_on(&mut cluster, far, ios);
    let states = cluster.states(0, confd, &[far, ios]).into_iter().map(|note| note.state);
    assert_eq!(states.collect::<Vec<_>>(), [ObjectState::Transient; 2]);
    // The waiting queries get no response, since their end would reveal a change.
    cluster.drop_blocked_queries(0);
    cluster.with_consul(|consul, now, out| consul.restore(now, &saved, out));
    // Before hax reads again, a write moves the indexes beyond those that it has seen.
    cluster.consul("PUT", "/v1/kv/processes/other", "x");
    let node = r#"{"Node":"apart","Address":"1.1.1.1","Check":{"CheckID":"c","Name":"c"}}"#;
    cluster.consul("PUT", "/v1/catalog/register", node);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.count_facts(0, FactKind::ReplicaReset), 0, "no index was seen to go back");
    assert_eq!(cluster.last_state(0, link, far), Some(ObjectState::Online));
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Online));
    let states = cluster.states(0, confd, &[far, ios]).into_iter().map(|note| note.state);
    assert_eq!(states.collect::<Vec<_>>(), [ObjectState::Online; 2]);
}

#[test]
fn f23_what_was_written_after_a_snapshot_does_not_outlive_its_restoring() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.run(MS * 1_000);
    let saved = cluster.consul.snapshot();
    let before = cluster.record(ios);
    // The watches get no response: only the response to the write contains the record.
    cluster.drop_blocked_queries(0);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 10);
    assert_ne!(cluster.record(ios), before);
    cluster.with_consul(|consul, now, out| consul.restore(now, &saved, out));
    // The index of the replica equals the present index of Consul.
    cluster.states(0, confd, &[ios]);
    cluster.run(MS * 100);
    assert!(
        cluster.count_facts(0, FactKind::ReplicaReset) > 0,
        "what was written is taken for what there is"
    );
}

#[test]
fn f24_a_restored_snapshot_is_found_out_though_nobody_asks() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let (_, keys) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&keys).expect("keys");
    let sdev = keys.iter().find_map(|key| key.split_once("/sdevs/")).expect("a device").1;
    let sdev: Fid = sdev.parse().expect("a fid");
    cluster.link(0, ios);
    cluster.run(MS * 1_000);
    let saved = cluster.consul.snapshot();
    // The watch gets no response: only the response to the write contains the state.
    let lost = cluster.drop_blocked_queries(0);
    let repaired = Note { fid: sdev, state: ObjectState::Repaired };
    let set =
        Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes: [repaired].into() };
    cluster.send(0, ios, Body::Nvec(Box::new(set)));
    cluster.run(MS * 10);
    cluster.with_consul(|consul, now, out| consul.restore(now, &saved, out));
    for id in lost {
        cluster.input(0, Input::Consul(Reply { id, result: Err(Unanswered::TimedOut) }));
    }
    // A watch sent now never returns: its index equals the present index of Consul.
    cluster.run(MS * 1_000 * 200);
    assert!(
        cluster.count_facts(0, FactKind::ReplicaReset) > 0,
        "what was written is taken for what there is"
    );
}
