//! A Consul whose snapshot was restored: it goes back behind what was seen of it.

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

/// A snapshot; after it one process is said to have stopped, and another one's check to fail.
fn save_and_move_on(cluster: &mut TestCluster, stopped: Fid, failing: Fid) -> Snapshot {
    let saved = cluster.consul.snapshot();
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", &format!("/v1/kv/processes/{stopped}"), word);
    cluster.check(0, failing, "warning");
    cluster.run(MS * 1_000);
    saved
}

#[test]
fn f18_what_a_restored_snapshot_brings_back_is_seen_at_once() {
    let mut cluster = TestCluster::new(1);
    let (ios, far, confd) = (cluster.fid(0, "ios"), cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let saved = save_and_move_on(&mut cluster, far, ios);
    assert_eq!(cluster.told(0, link, far), Some(ObjectState::Failed));
    cluster.at_consul(|consul, now, out| consul.restore(now, &saved, out));
    // Nothing is written, nobody asks: what waits has ended with what there was before.
    cluster.run(MS * 1_000);
    assert_eq!(cluster.told(0, link, far), Some(ObjectState::Online));
    assert_eq!(cluster.told(0, link, ios), Some(ObjectState::Online));
}

#[test]
fn what_a_restored_snapshot_brings_back_is_believed_once_indexes_have_passed_what_was_seen() {
    let mut cluster = TestCluster::new(1);
    let (ios, far, confd) = (cluster.fid(0, "ios"), cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let saved = save_and_move_on(&mut cluster, far, ios);
    let states = cluster.states(0, confd, &[far, ios]).into_iter().map(|note| note.state);
    assert_eq!(states.collect::<Vec<_>>(), [ObjectState::Transient; 2]);
    // What waits has no answer: else its end would say that something has happened.
    cluster.lose_what_waits(0);
    cluster.at_consul(|consul, now, out| consul.restore(now, &saved, out));
    // Before anybody looks, something is written beyond the indexes that were seen.
    cluster.consul("PUT", "/v1/kv/processes/other", "x");
    let node = r#"{"Node":"apart","Address":"1.1.1.1","Check":{"CheckID":"c","Name":"c"}}"#;
    cluster.consul("PUT", "/v1/catalog/register", node);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.saw(0, FactKind::ReplicaReset), 0, "no index was seen to go back");
    assert_eq!(cluster.told(0, link, far), Some(ObjectState::Online));
    assert_eq!(cluster.told(0, link, ios), Some(ObjectState::Online));
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
    let before = cluster.word(ios);
    // The watches have no answer: only the answer to the write tells of it.
    cluster.lose_what_waits(0);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 10);
    assert_ne!(cluster.word(ios), before);
    cluster.at_consul(|consul, now, out| consul.restore(now, &saved, out));
    // The copy has the very index that Consul has now.
    cluster.states(0, confd, &[ios]);
    cluster.run(MS * 100);
    assert!(
        cluster.saw(0, FactKind::ReplicaReset) > 0,
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
    // The watch has no answer: only the answer to the write tells of it.
    let lost = cluster.lose_what_waits(0);
    let repaired = Note { fid: sdev, state: ObjectState::Repaired };
    let set =
        Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes: [repaired].into() };
    cluster.say(0, ios, Body::Nvec(Box::new(set)));
    cluster.run(MS * 10);
    cluster.at_consul(|consul, now, out| consul.restore(now, &saved, out));
    for id in lost {
        cluster.input(0, Input::Consul(Reply { id, result: Err(Unanswered::TimedOut) }));
    }
    // A watch that is sent now waits in vain, at the very index that Consul has again.
    cluster.run(MS * 1_000 * 200);
    assert!(
        cluster.saw(0, FactKind::ReplicaReset) > 0,
        "what was written is taken for what there is"
    );
}
