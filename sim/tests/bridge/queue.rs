//! The broadcast queue, to old daemons and from them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_core::base::id::HttpId;
use hax_core::ha::fact::{Fact, FactKind};
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

/// Returns a post of the queue in the format of a watch. A forged post has the same format.
fn posted(messages: &[(u64, String)]) -> String {
    let entry = |(n, message): &(u64, String)| {
        format!(
            r#"{{"Key": "bq/{n}", "CreateIndex": {n}, "ModifyIndex": {n}, "LockIndex": 0, "Flags": 0,
                "Value": "{}", "Session": ""}}"#,
            STANDARD.encode(message)
        )
    };
    format!("[{}]", messages.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// Appends messages to the queue, as another client does.
pub(crate) fn append(cluster: &mut TestCluster, messages: &[(u64, String)]) {
    for (n, message) in messages {
        cluster.consul("PUT", &format!("/v1/kv/bq/{n}"), message);
    }
}

/// Posts the present queue, as its watch does.
pub(crate) fn post(cluster: &mut TestCluster, node: usize) -> HttpId {
    let (_, body) = cluster.consul("GET", "/v1/kv/bq/?recurse", "");
    let body = if body.is_empty() { "null".into() } else { body };
    cluster.post(node, "/watcher/bq", &body)
}

/// Appends messages, and posts the queue.
pub(crate) fn tell(cluster: &mut TestCluster, node: usize, messages: &[(u64, String)]) -> HttpId {
    append(cluster, messages);
    post(cluster, node)
}

/// Returns the number of the queue's last entry. All entries up to it are processed.
fn end(cluster: &mut TestCluster) -> u64 {
    let id = post(cluster, 0);
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    cluster.kv("bq-delivered/ssu1").expect("it began").parse().expect("a number")
}

fn device(node: &str, path: &str, state: &str) -> String {
    format!(
        r#"{{"timestamp": "x", "message_type": "M0_HA_MSG_NVEC",
            "payload": {{"node": "{node}", "device": "{path}", "state": "{state}"}}}}"#
    )
}

#[test]
fn d01_each_event_appends_what_the_old_daemon_would() {
    let mut cluster = TestCluster::new(2);
    let (ios, far) = (cluster.fid(0, "ios"), cluster.fid(1, "ios"));
    cluster.link(0, ios);
    cluster.link(1, far);
    let before: u64 = cluster.kv("epoch").expect("an epoch").parse().expect("a number");
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.event(1, far, ProcessEventKind::Stopping);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 3_000);
    assert_eq!(cluster.kv("epoch"), Some((before + 3).to_string()));
    let message = cluster.kv(&format!("bq/{}", before + 1)).expect("a message");
    let message: serde_json::Value = serde_json::from_str(&message).expect("JSON");
    assert_eq!(message["message_type"], "PROCESS-STATE-UPDATE");
    assert_eq!(message["payload"]["fid"], ios.to_string());
    assert_eq!(message["payload"]["state"], "M0_CONF_HA_PROCESS_STOPPING");
    assert_eq!(message["payload"]["type"], "M0_CONF_HA_PROCESS_M0D");
    assert!(message["timestamp"].as_str().is_some_and(|text| text.starts_with("2026-11-21 ")));
}

#[test]
fn d21_history_is_not_replayed_and_what_is_new_is_worked_once_and_in_order() {
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    cluster.link(0, confd);
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&body).expect("entries");
    let sdev = entries.iter().find(|e| e["Key"].as_str().is_some_and(|k| k.contains("/sdevs/")));
    let sdev = sdev.expect("a device")["Key"].as_str().expect("a key").to_owned();
    let value: serde_json::Value =
        serde_json::from_str(&cluster.kv(&sdev).expect("it")).expect("JSON");
    let path = value["path"].as_str().expect("a path").to_owned();
    // Entries from before this node's first processed entry are history.
    let epoch = end(&mut cluster);
    let mut queue = vec![(epoch, device("ssu1", &path, "failed"))];
    let id = tell(&mut cluster, 0, &queue);
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_ne!(cluster.state_in(&sdev), "failed");

    queue.push((epoch + 2, device("ssu1", &path, "repaired")));
    queue.push((epoch + 1, device("ssu1", &path, "repair")));
    queue.push((epoch + 3, "junk".into()));
    let id = tell(&mut cluster, 0, &queue);
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.state_in(&sdev), "repaired");
    assert_eq!(cluster.kv("bq-delivered/ssu1"), Some((epoch + 3).to_string()));
    assert_eq!(cluster.count_facts(0, FactKind::QueueSkipped), 1);
    let fid = sdev.rsplit('/').next().expect("a fid").parse().expect("a fid");
    let link = cluster.nodes[0].links[&confd];
    let told = cluster.take_sent(0, link, fid);
    assert_eq!(told, [ObjectState::Repair, ObjectState::Repaired]);

    // The same queue again has no effect.
    let id = post(&mut cluster, 0);
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(worked(&cluster).iter().filter(|n| **n > epoch).count(), 2);
}

#[test]
fn d21_the_offset_moves_when_the_work_is_done_and_not_before() {
    let mut cluster = TestCluster::new(1);
    let epoch: u64 = cluster.kv("epoch").expect("an epoch").parse().expect("a number");
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", &epoch.to_string());
    let far = cluster.fid(1, "ios");
    let message = format!(
        r#"{{"message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{far}",
            "state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}}}}"#
    );
    cluster.nodes[0].fault = Some(Fault::Refuses);
    append(&mut cluster, &[(epoch + 1, message)]);
    let id = cluster.post(0, "/watcher/bq", "null");
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id), None);
    cluster.nodes[0].fault = None;
    cluster.run(MS * 6_000);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.kv("bq-delivered/ssu1"), Some((epoch + 1).to_string()));
    let view = cluster.state_in(&format!("ssu1/processes/{far}"));
    assert_eq!(view, "M0_CONF_HA_PROCESS_STOPPED");
}

/// Returns the entries that a bridge has processed, in order.
fn worked(cluster: &TestCluster) -> Vec<u64> {
    let of = |fact: &Fact| match fact {
        Fact::QueueWorked { n } => Some(*n),
        _ => None,
    };
    cluster.nodes[0].facts.iter().filter_map(of).collect()
}

#[test]
fn d21_a_queue_that_begins_anew_is_noticed_and_one_that_was_purged_is_not_worked_again() {
    let mut cluster = TestCluster::new(1);
    let (last, far) = (end(&mut cluster), cluster.fid(1, "ios"));
    let message = |n: u64| {
        let text = format!(
            r#"{{"message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{far}",
                "state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}}}}"#
        );
        (n, text)
    };
    let tell = |cluster: &mut TestCluster, messages: &[(u64, String)]| {
        let id = tell(cluster, 0, messages);
        cluster.run(MS * 500);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
        worked(cluster)
    };
    let news = [last + 1, last + 2, last + 3];
    cluster.consul("PUT", "/v1/kv/epoch", &(last + 3).to_string());
    let before = tell(&mut cluster, &news.map(message));
    assert!(before.ends_with(&news), "{before:?}");
    // Processed entries are purged, here the newest of them.
    cluster.consul("DELETE", &format!("/v1/kv/bq/{}", last + 3), "");
    assert_eq!(tell(&mut cluster, &[]), before, "nothing is new");
    assert_eq!(cluster.kv("bq-delivered/ssu1"), Some((last + 3).to_string()));
    // This also holds for a later life of this hax, which appends its own start.
    cluster.restart(0, |_| {});
    cluster.run(MS * 50);
    let after = tell(&mut cluster, &[]);
    assert!(after.iter().all(|n| *n > last + 3), "{after:?}");
    cluster.consul("DELETE", "/v1/kv/bq/?recurse", "");
    let anew = tell(&mut cluster, &[message(1), message(2)]);
    assert!(anew.ends_with(&[1, 2]), "it began anew: {anew:?}");
    assert_eq!(cluster.kv("bq-delivered/ssu1").as_deref(), Some("2"));
}

#[test]
fn a_key_that_is_no_entry_of_the_queue_is_passed_over_and_told_once() {
    let mut cluster = TestCluster::new(1);
    let epoch = end(&mut cluster);
    cluster.consul("PUT", "/v1/kv/bq/zzz", "junk");
    for n in 1..=3 {
        let id = tell(&mut cluster, 0, &[(epoch + n, "{}".into())]);
        cluster.run(MS * 500);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
        assert_eq!(cluster.kv("bq-delivered/ssu1"), Some((epoch + n).to_string()));
        assert_eq!(cluster.count_facts(0, FactKind::EntrySkipped), 1);
    }
    // A post of a watch of another prefix is refused.
    let other = posted(&[(1, "{}".into())]).replace("bq/", "eq/");
    let id = cluster.post(0, "/watcher/bq", &other);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(400));
}

#[test]
fn an_offset_that_is_no_number_is_told() {
    let mut cluster = TestCluster::new(1);
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", "twelve");
    cluster.restart(0, |_| {});
    cluster.run(MS * 1_000);
    let said = cluster.count_facts(0, FactKind::ConsulBadAnswer);
    assert!((1..20).contains(&said), "{said}");
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", "12");
    cluster.run(MS * 10_000);
    let id = tell(&mut cluster, 0, &[(13, "{}".into())]);
    cluster.run(MS * 50);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
}

#[test]
fn d21_an_offset_that_another_writer_moved_is_not_moved_back() {
    let mut cluster = TestCluster::new(1);
    // The offset is written at the start: an entry that is appended while no hax runs is not history.
    let offset = |cluster: &mut TestCluster| cluster.kv("bq-delivered/ssu1");
    let epoch: u64 = offset(&mut cluster).expect("it began").parse().expect("a number");
    // An operator makes the node skip some entries.
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", &(epoch + 20).to_string());
    let mut worked = |n| {
        let id = tell(&mut cluster, 0, &[(epoch + n, "{}".into())]);
        cluster.run(MS * 2_000);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
        offset(&mut cluster)
    };
    assert_eq!(worked(1), Some((epoch + 20).to_string()));
    assert_eq!(worked(21), Some((epoch + 21).to_string()));
}

#[test]
fn what_cannot_be_worked_is_taken_in_up_to_a_limit() {
    let mut cluster = TestCluster::new(1);
    cluster.restart(0, |config| config.limit.queued_entries = 3);
    cluster.run(MS * 500);
    let epoch = end(&mut cluster);
    let messages: Vec<_> = (1..=8).map(|n| (epoch + n, "{}".into())).collect();
    cluster.nodes[0].targets.clear();
    let id = tell(&mut cluster, 0, &messages);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.count_facts(0, FactKind::QueueSkipped), 8);
    let reads = cluster.nodes[0].targets.iter().filter(|(_, target)| target.contains("kv/bq/?"));
    assert_eq!(reads.count(), 3, "three, three, two");
}

/// Returns the key and the path of a device of the first node.
fn a_device(cluster: &mut TestCluster) -> (String, String) {
    let (_, entries) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&entries).expect("entries");
    let keys = entries.iter().filter_map(|entry| entry["Key"].as_str());
    let sdev = keys.filter(|key| key.contains("/sdevs/")).min().expect("a device").to_owned();
    let value: serde_json::Value =
        serde_json::from_str(&cluster.kv(&sdev).expect("it")).expect("JSON");
    (sdev, value["path"].as_str().expect("a path").to_owned())
}

#[test]
fn f20_a_forged_entry_of_the_queue_is_not_worked() {
    let mut cluster = TestCluster::new(1);
    let (sdev, path) = a_device(&mut cluster);
    let (before, epoch) = (cluster.state_in(&sdev), end(&mut cluster));
    let done = cluster.count_facts(0, FactKind::QueueWorked);
    let forged = [(epoch + 1, device("ssu1", &path, "failed")), (1 << 40, "{}".into())];
    let body =
        posted(&forged).replace("\"ModifyIndex\": 1099511627776", "\"ModifyIndex\": 9999999");
    let id = cluster.post(0, "/watcher/bq", &body);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(
        (cluster.state_in(&sdev), cluster.count_facts(0, FactKind::QueueWorked)),
        (before, done)
    );
    assert_eq!(cluster.kv("bq-delivered/ssu1"), Some(epoch.to_string()));
    // A later entry of the queue is still processed.
    let id = tell(&mut cluster, 0, &[(epoch + 1, device("ssu1", &path, "failed"))]);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.state_in(&sdev), "failed");
}

#[test]
fn f20_who_posts_while_consul_hangs_is_told_to_come_again_and_what_he_says_is_worked() {
    let mut cluster = TestCluster::new(1);
    let last = end(&mut cluster);
    cluster.nodes[0].fault = Some(Fault::Leaderless);
    append(&mut cluster, &[(last + 1, "{}".into())]);
    let ids: Vec<_> = (0..50).map(|_| cluster.post(0, "/watcher/bq", "null")).collect();
    cluster.run(MS * 6_000);
    for id in ids {
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(503));
    }
    cluster.nodes[0].fault = None;
    cluster.run(MS * 20_000);
    assert_eq!(cluster.kv("bq-delivered/ssu1"), Some((last + 1).to_string()));
}

#[test]
fn f25_a_post_that_is_refused_is_a_hint_all_the_same() {
    let mut cluster = TestCluster::with(1, |config| config.limit.body_bytes = 10_000);
    let epoch = end(&mut cluster);
    let too_long = " ".repeat(10_001);
    let refused = [(too_long.as_str(), 413), ("[", 400)];
    for (n, (body, status)) in (epoch + 1..).zip(refused) {
        append(&mut cluster, &[(n, "{}".into())]);
        let id = cluster.post(0, "/watcher/bq", body);
        cluster.run(MS * 1_000);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(status));
        assert_eq!(cluster.kv("bq-delivered/ssu1"), Some(n.to_string()), "{status}");
    }
}

#[test]
fn f20_many_hints_are_few_readings() {
    let mut cluster = TestCluster::new(1);
    cluster.nodes[0].targets.clear();
    for _ in 0..200 {
        let id = cluster.post(0, "/watcher/bq", &posted(&[(1 << 40, "{}".into())]));
        cluster.run(MS * 10);
        let _later = id;
    }
    let reads = cluster.nodes[0].targets.iter().filter(|(_, target)| target.contains("kv/bq/?"));
    let reads = reads.count();
    assert!((2..=10).contains(&reads), "{reads} in 2 s");
}

#[test]
fn what_is_no_queue_is_refused_and_changes_nothing() {
    let mut cluster = TestCluster::new(1);
    let bodies = [
        "",
        "{}",
        "[1]",
        r#"[{"Key": "bq/x", "Value": "", "ModifyIndex": 1}]"#,
        // A forged number this high would make hax ignore all later entries.
        r#"[{"Key": "bq/18446744073709551615", "Value": "", "ModifyIndex": 1}]"#,
    ];
    for body in bodies {
        let id = cluster.post(0, "/watcher/bq", body);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(400), "{body}");
    }
    let id = cluster.post(0, "/watcher/bq", "null");
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
}

#[test]
fn d02_a_node_that_works_nothing_keeps_no_more_than_the_limit() {
    let mut cluster = TestCluster::new(1);
    for n in 1..=150 {
        cluster.consul("PUT", &format!("/v1/kv/bq/{n}"), "{}");
    }
    for (node, offset) in [("ssu1", 150), ("ssu2", 150), ("ssu3", 3)] {
        cluster.consul("PUT", &format!("/v1/kv/bq-delivered/{node}"), &offset.to_string());
    }
    cluster.restart(0, |config| {
        config.elect = true;
        config.limit.queue_entries = 20;
    });
    cluster.run(Duration::from_secs(70));
    let (_, left) = cluster.consul("GET", "/v1/kv/bq/?keys", "");
    let left: Vec<String> = serde_json::from_str(&left).expect("keys");
    assert!(
        !left.contains(&"bq/130".to_owned()) && left.contains(&"bq/131".to_owned()),
        "{left:?}"
    );
}

#[test]
fn d02_the_leader_purges_what_everybody_has_worked() {
    let mut cluster = TestCluster::new(1);
    for n in 1..=150 {
        cluster.consul("PUT", &format!("/v1/kv/bq/{n}"), "{}");
    }
    for (node, offset) in [("ssu1", 140), ("ssu2", 100), ("ssu3", 120), ("gone", 3)] {
        cluster.consul("PUT", &format!("/v1/kv/bq-delivered/{node}"), &offset.to_string());
    }
    cluster.run(Duration::from_secs(70));
    let keys = |cluster: &mut TestCluster| -> Vec<String> {
        serde_json::from_str(&cluster.consul("GET", "/v1/kv/bq/?keys", "").1).expect("keys")
    };
    assert!(keys(&mut cluster).len() >= 150, "who does not lead does not purge");
    cluster.restart(0, |config| config.elect = true);
    cluster.run(Duration::from_secs(70));
    let left = keys(&mut cluster);
    assert!(!left.contains(&"bq/100".to_owned()) && left.contains(&"bq/101".to_owned()));
    assert!(left.contains(&"bq/150".to_owned()));
}
