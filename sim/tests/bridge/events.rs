//! Process events: the write to Consul, then the acknowledgement, then the broadcast.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::MsgId;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

fn m0conf_state(cluster: &mut TestCluster, needle: &str) -> String {
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let key = keys.iter().find(|key| key.ends_with(needle)).expect("a key").clone();
    cluster.state_in(&key)
}

#[test]
fn what_follows_from_a_stop_and_a_start_is_written_with_it() {
    let mut cluster = TestCluster::new(2);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let (from, other) = (cluster.link(0, ios), cluster.link(0, confd));
    let far = cluster.fid(1, "ios");
    let far = cluster.link(1, far);
    let at = format!("processes/{ios}");
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let sdevs: Vec<String> =
        keys.into_iter().filter(|key| key.contains(&at) && key.contains("/sdevs/")).collect();
    assert!(sdevs.len() >= 5, "{sdevs:?}");

    // The other node has appended to the queue since our last write. This event reads the new end.
    cluster.event(0, ios, ProcessEventKind::Stopping);
    let before = cluster.nodes[0].targets.len();
    let msg = cluster.event(0, ios, ProcessEventKind::Stopped);
    assert!(cluster.nodes[0].acks.contains(&msg));
    let txns = cluster.nodes[0].targets[before..].iter().filter(|(_, t)| t == "/v1/txn").count();
    assert_eq!(txns, 1, "one transaction for all of it");
    assert_eq!(cluster.record(ios), "STOPPED");
    assert_eq!(m0conf_state(&mut cluster, &at), "failed");
    for sdev in &sdevs {
        assert_eq!(cluster.state_in(sdev), "offline", "{sdev}");
    }
    // FAILED ends the sessions of the other processes. The process itself does not get it.
    assert!(!cluster.take_sent(0, from, ios).contains(&ObjectState::Failed));
    assert_eq!(cluster.take_sent(0, other, ios), [ObjectState::Transient, ObjectState::Failed]);
    cluster.run(MS * 600);
    let heard = cluster.take_sent(1, far, ios);
    assert_eq!(heard.last(), Some(&ObjectState::Failed), "other nodes hear it too: {heard:?}");

    cluster.event(0, ios, ProcessEventKind::Starting);
    cluster.event(0, ios, ProcessEventKind::Started);
    assert_eq!(m0conf_state(&mut cluster, &at), "dtm_recovering");
    assert_eq!(cluster.last_state(0, other, ios), Some(ObjectState::DtmRecovering));
    cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(m0conf_state(&mut cluster, &at), "online");
    for sdev in &sdevs {
        assert_eq!(cluster.state_in(sdev), "online", "{sdev}");
    }
    assert_eq!(cluster.last_state(0, other, ios), Some(ObjectState::Online));
    cluster.run(MS * 600);
    assert_eq!(cluster.last_state(1, far, ios), Some(ObjectState::Online));
}

#[test]
fn d19_a_node_follows_its_io_processes_and_nobody_else() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    cluster.link(0, confd);
    let node = |cluster: &mut TestCluster| {
        let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&body).expect("entries");
        let keys = entries.iter().filter_map(|entry| entry["Key"].as_str());
        let keys: Vec<String> =
            keys.filter(|k| k.split('/').count() == 3).map(Into::into).collect();
        let found =
            keys.iter().find(|key| cluster.kv(key).is_some_and(|value| value.contains("\"ssu1\"")));
        cluster.state_in(&found.expect("the node").clone())
    };
    cluster.event(0, confd, ProcessEventKind::Stopped);
    assert_eq!(node(&mut cluster), "M0_NC_ONLINE", "a confd does not take its node down");
    cluster.event(0, ios, ProcessEventKind::Stopped);
    assert_eq!(node(&mut cluster), "M0_NC_TRANSIENT", "from FAILED it could not come back");
    cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(node(&mut cluster), "M0_NC_ONLINE");
}

/// A process repeats its unacknowledged messages when it notices the end of hax. A stopping process would
/// never notice it by itself.
#[test]
fn who_is_left_with_words_that_are_not_written_is_roused() {
    let mut cluster = TestCluster::new(1);
    let (ios, hax) = (cluster.fid(0, "ios"), cluster.fid(0, "hax"));
    let link = cluster.link(0, ios);
    cluster.run(MS * 500);
    let _known = cluster.take_sent(0, link, hax);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.input(0, Input::Stop);
    cluster.run(MS * 11_000);
    assert!(cluster.nodes[0].exited);
    assert_eq!(cluster.nodes[0].acks, []);
    assert_eq!(cluster.take_sent(0, link, hax), [ObjectState::Online]);
}

/// A stop finishes the work in progress. After half a second it does not start work that the sender repeats
/// anyway.
#[test]
fn f09_a_stop_does_not_wait_for_processes_that_go_on_talking() {
    let mut cluster = TestCluster::new(1);
    let (ios, hax) = (cluster.fid(0, "ios"), cluster.fid(0, "hax"));
    let link = cluster.link(0, ios);
    cluster.run(MS * 500);
    let _known = cluster.take_sent(0, link, hax);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    let first = cluster.event(0, ios, ProcessEventKind::Starting);
    cluster.input(0, Input::Stop);
    cluster.event(0, ios, ProcessEventKind::Started);
    cluster.run(MS * 600);
    cluster.nodes[0].fault = None;
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.run(MS * 5_000);
    assert!(cluster.nodes[0].exited);
    assert_eq!(cluster.nodes[0].acks, [first]);
    // The last note makes the process notice the end of hax, so that it repeats the other events.
    assert_eq!(cluster.take_sent(0, link, hax).last(), Some(&ObjectState::Failed));
}

#[test]
fn d31_nothing_is_acknowledged_before_consul_holds_it() {
    for fault in [Fault::Refuses, Fault::Fails, Fault::Loses, Fault::Hangs] {
        let mut cluster = TestCluster::new(1);
        let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
        cluster.link(0, ios);
        let other = cluster.link(0, confd);
        cluster.nodes[0].fault = Some(fault);
        let msgs = [
            cluster.event(0, ios, ProcessEventKind::Stopping),
            cluster.event(0, ios, ProcessEventKind::Stopped),
        ];
        cluster.run(MS * 700);
        assert_eq!(cluster.nodes[0].acks, [], "{fault:?}");
        assert_eq!(cluster.take_sent(0, other, ios), [], "{fault:?}");
        assert_eq!(cluster.view(0).lanes, 1);
        if fault == Fault::Hangs {
            // A hanging call ends by the time limit of the host, which this fixture does not have.
            continue;
        }
        cluster.nodes[0].fault = None;
        cluster.run(MS * 6_000);
        assert_eq!(cluster.nodes[0].acks, msgs, "{fault:?}");
        assert_eq!(cluster.record(ios), "STOPPED");
        assert_eq!(cluster.view(0).lanes, 0);
        // An old daemon gets each event once, however often the write was retried.
        let (_, queue) = cluster.consul("GET", "/v1/kv/bq/?keys", "");
        let queue: Vec<String> = serde_json::from_str(&queue).expect("keys");
        let told = queue.iter().filter(|key| {
            cluster.kv(key).is_some_and(|message| message.contains(&ios.to_string()))
        });
        assert_eq!(told.count(), 2, "{fault:?}");
    }
}

/// A watch may show the effect of a write whose response was lost before the write is retried.
#[test]
fn a_write_whose_answer_is_lost_is_told_to_old_daemons_once_whatever_is_seen_first() {
    for seed in 0..20 {
        let mut cluster = TestCluster::with(1, |config| config.seed = seed);
        let ios = cluster.fid(0, "ios");
        cluster.link(0, ios);
        cluster.nodes[0].fault = Some(Fault::Loses);
        let msg = cluster.event(0, ios, ProcessEventKind::Stopping);
        cluster.run(MS * 700);
        cluster.nodes[0].fault = None;
        cluster.run(MS * 6_000);
        assert_eq!(cluster.nodes[0].acks, [msg]);
        let (_, queue) = cluster.consul("GET", "/v1/kv/bq/?keys", "");
        let queue: Vec<String> = serde_json::from_str(&queue).expect("keys");
        let about = |key: &&String| cluster.kv(key).is_some_and(|m| m.contains(&ios.to_string()));
        assert_eq!(queue.iter().filter(about).count(), 1, "seed {seed}");
    }
}

#[test]
fn d22_another_writer_is_met_and_its_write_replaced_in_order() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    // The write is not in the replica yet: its watch has not read again.
    let value = r#"{"state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.consul("PUT", &format!("/v1/kv/processes/{ios}"), value);
    cluster.nodes[0].fault = None;
    let msg = cluster.event(0, ios, ProcessEventKind::Started);
    cluster.run(MS * 500);
    assert_eq!(cluster.nodes[0].acks, [msg]);
    assert_eq!(cluster.record(ios), "STARTED");
}

#[test]
fn mkfs_is_nobody_elses_business() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    // The process does not run.
    cluster.set_check(0, ios, "warning");
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    let at = format!("processes/{ios}");
    let before = m0conf_state(&mut cluster, &at);
    let epoch = cluster.kv("epoch");
    for event in [ProcessEventKind::Starting, ProcessEventKind::Started, ProcessEventKind::Stopped]
    {
        let kind = ProcessType::Mkfs;
        cluster.send(0, ios, Body::Process(ProcessEvent { event, kind, pid: 9 }));
    }
    cluster.run(MS * 500);
    assert_eq!(cluster.record(ios), "STOPPED");
    assert_eq!(m0conf_state(&mut cluster, &at), before);
    assert_eq!(cluster.kv("epoch"), epoch);
    assert_eq!(cluster.take_sent(0, other, ios), []);
}

/// A server is killed and formatted at once. A replica with pauses between its reads shows the old life, and
/// then m0mkfs under the same fid.
#[test]
fn f16_a_server_that_is_formatted_is_told_to_have_ended() {
    let mut cluster = TestCluster::new(2);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(1, "confd"));
    let other = cluster.link(1, confd);
    let write = |cluster: &mut TestCluster, state: &str, kind: &str| {
        let value = format!(
            r#"{{"state": "M0_CONF_HA_PROCESS_{state}", "type": "M0_CONF_HA_PROCESS_{kind}"}}"#
        );
        cluster.consul("PUT", &format!("/v1/kv/processes/{ios}"), &value);
        cluster.run(MS * 500);
    };
    write(&mut cluster, "DTM_RECOVERED", "M0D");
    cluster.take_sent(1, other, ios);
    write(&mut cluster, "STARTED", "M0MKFS");
    assert_eq!(cluster.take_sent(1, other, ios), [ObjectState::Failed]);
    write(&mut cluster, "STOPPED", "M0MKFS");
    write(&mut cluster, "STARTING", "M0D");
    assert_eq!(cluster.take_sent(1, other, ios), [], "nothing new");
    write(&mut cluster, "DTM_RECOVERED", "M0D");
    assert_eq!(cluster.take_sent(1, other, ios), [ObjectState::Online]);
}

/// A link that got ONLINE because of a passing check alone gets a note that the process is not online.
#[test]
fn f16_a_server_that_is_formatted_first_is_told_not_to_be_there() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let other = cluster.link(0, confd);
    assert_eq!(cluster.states(0, confd, &[ios])[0].state, ObjectState::Online);
    cluster.take_sent(0, other, ios);
    cluster.link(0, ios);
    let (event, kind) = (ProcessEventKind::Starting, ProcessType::Mkfs);
    cluster.send(0, ios, Body::Process(ProcessEvent { event, kind, pid: 9 }));
    cluster.event(0, ios, ProcessEventKind::Starting);
    cluster.run(MS * 500);
    assert_eq!(cluster.last_state(0, other, ios), Some(ObjectState::Transient));
}

#[test]
fn devices_keep_what_is_worse_than_their_process() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let at = format!("processes/{ios}");
    let sdev = keys.iter().find(|key| key.contains(&at) && key.contains("/sdevs/"));
    let sdev = sdev.expect("a device").clone();
    let fid = sdev.rsplit('/').next().expect("a fid").parse().expect("a fid");
    // Motr reports that its repair has failed: REPAIR becomes FAILED.
    let notes = vec![Note { fid, state: ObjectState::Repair }];
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes };
    let msg = cluster.send(0, ios, Body::Nvec(Box::new(nvec)));
    assert!(cluster.nodes[0].acks.contains(&msg));
    assert_eq!(cluster.state_in(&sdev), "failed");
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(cluster.state_in(&sdev), "failed");
    assert_eq!(cluster.count_facts(0, FactKind::DevicesSet), 1);
}

/// Returns the keys of the devices of a process.
fn sdevs(cluster: &mut TestCluster, process: Fid) -> Vec<String> {
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let at = format!("processes/{process}");
    keys.into_iter().filter(|key| key.contains(&at) && key.contains("/sdevs/")).collect()
}

/// Writes the state of an object, as another client does.
fn write_state(cluster: &mut TestCluster, key: &str, state: &str) {
    let value = cluster.kv(key).expect("the key");
    let mut value: serde_json::Value = serde_json::from_str(&value).expect("JSON");
    value["state"] = state.into();
    let (status, _) = cluster.consul("PUT", &format!("/v1/kv/{key}"), &value.to_string());
    assert_eq!(status, 200);
}

/// Sends the notes of a process about these devices.
fn set(cluster: &mut TestCluster, process: Fid, notes: Vec<Note>) -> MsgId {
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes };
    cluster.send(0, process, Body::Nvec(Box::new(nvec)))
}

/// The replica of the configuration lags behind, so that the states to be written seem to be there already.
#[test]
fn what_holds_already_is_so_in_consul_and_not_only_in_our_copy() {
    let mut cluster =
        TestCluster::with(1, |config| config.time.watch_interval_min = Duration::from_secs(2));
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.run(MS * 2_500);
    let sdevs = sdevs(&mut cluster, ios);
    let fid = |key: &str| key.rsplit('/').next().expect("a fid").parse().expect("a fid");
    // The replica has the first change, and is read again only after two seconds.
    write_state(&mut cluster, &sdevs[0], "failed");
    cluster.run(MS * 10);
    write_state(&mut cluster, &sdevs[0], "online");
    write_state(&mut cluster, &sdevs[1], "offline");
    let note = Note { fid: fid(&sdevs[0]), state: ObjectState::Repair };
    let msg = set(&mut cluster, ios, vec![note]);
    cluster.run(MS * 50);
    assert!(cluster.nodes[0].acks.contains(&msg));
    assert_eq!(cluster.state_in(&sdevs[0]), "failed", "it was acknowledged");
    // The report makes the devices online, which is the replica's state of the second device.
    let msg = cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    cluster.run(MS * 50);
    assert!(cluster.nodes[0].acks.contains(&msg));
    assert_eq!(cluster.state_in(&sdevs[1]), "online");
}

#[test]
fn two_notes_about_one_device_are_one_write() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    let sdevs = sdevs(&mut cluster, ios);
    let fid = sdevs[0].rsplit('/').next().expect("a fid").parse().expect("a fid");
    let note = |state| Note { fid, state };
    let msg = set(&mut cluster, ios, vec![note(ObjectState::Rebalance), note(ObjectState::Repair)]);
    cluster.run(MS * 50);
    assert!(cluster.nodes[0].acks.contains(&msg));
    assert_eq!(cluster.state_in(&sdevs[0]), "failed");
    assert_eq!(cluster.count_facts(0, FactKind::WriteConflict), 0);
}

#[test]
fn what_only_looks_is_split_too_and_comes_to_an_end() {
    let mut cluster = TestCluster::with(1, |config| config.limit.transaction_ops = 8);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    let follow = sdevs(&mut cluster, ios).len() + 4;
    assert!(follow > 8 - 3, "more than a transaction holds beside the queue's part: {follow}");
    for round in 0..2 {
        let before = cluster.nodes[0].targets.len();
        let msg = cluster.event(0, ios, ProcessEventKind::DtmRecovered);
        cluster.run(MS * 50);
        assert!(cluster.nodes[0].acks.contains(&msg), "round {round}");
        let txns =
            cluster.nodes[0].targets[before..].iter().filter(|(_, t)| t == "/v1/txn").count();
        assert!((2..20).contains(&txns), "round {round}: {txns}");
    }
}
