//! The broadcast queue, towards old daemons and from them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_core::base::id::HttpId;
use hax_core::ha::fact::{Fact, FactKind};
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use crate::lab::{Fault, Lab};

const MS: Duration = Duration::from_millis(1);

/// A queue as its watch posts it, or somebody who says that he is one.
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

/// Somebody appends these to the queue.
pub(crate) fn append(lab: &mut Lab, messages: &[(u64, String)]) {
    for (n, message) in messages {
        lab.consul("PUT", &format!("/v1/kv/bq/{n}"), message);
    }
}

/// The watch of the queue posts it as it is.
pub(crate) fn post(lab: &mut Lab, node: usize) -> HttpId {
    let (_, body) = lab.consul("GET", "/v1/kv/bq/?recurse", "");
    let body = if body.is_empty() { "null".into() } else { body };
    lab.post(node, "/watcher/bq", &body)
}

/// Somebody appends these, and the watch posts the queue.
pub(crate) fn tell(lab: &mut Lab, node: usize, messages: &[(u64, String)]) -> HttpId {
    append(lab, messages);
    post(lab, node)
}

/// The number of the queue's last entry. All up to there is worked.
fn end(lab: &mut Lab) -> u64 {
    let id = post(lab, 0);
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    lab.kv("bq-delivered/ssu1").expect("it began").parse().expect("a number")
}

fn device(node: &str, path: &str, state: &str) -> String {
    format!(
        r#"{{"timestamp": "x", "message_type": "M0_HA_MSG_NVEC",
            "payload": {{"node": "{node}", "device": "{path}", "state": "{state}"}}}}"#
    )
}

#[test]
fn d01_each_event_appends_what_the_old_daemon_would() {
    let mut lab = Lab::new(2);
    let (ios, far) = (lab.fid(0, "ios"), lab.fid(1, "ios"));
    lab.link(0, ios);
    lab.link(1, far);
    let before: u64 = lab.kv("epoch").expect("an epoch").parse().expect("a number");
    lab.event(0, ios, ProcessEventKind::Stopping);
    lab.event(1, far, ProcessEventKind::Stopping);
    lab.event(0, ios, ProcessEventKind::Stopped);
    lab.run(MS * 3_000);
    assert_eq!(lab.kv("epoch"), Some((before + 3).to_string()));
    let message = lab.kv(&format!("bq/{}", before + 1)).expect("a message");
    let message: serde_json::Value = serde_json::from_str(&message).expect("JSON");
    assert_eq!(message["message_type"], "PROCESS-STATE-UPDATE");
    assert_eq!(message["payload"]["fid"], ios.to_string());
    assert_eq!(message["payload"]["state"], "M0_CONF_HA_PROCESS_STOPPING");
    assert_eq!(message["payload"]["type"], "M0_CONF_HA_PROCESS_M0D");
    assert!(message["timestamp"].as_str().is_some_and(|text| text.starts_with("2026-11-21 ")));
}

#[test]
fn d21_history_is_not_replayed_and_what_is_new_is_worked_once_and_in_order() {
    let mut lab = Lab::new(1);
    let confd = lab.fid(0, "confd");
    lab.link(0, confd);
    let (_, body) = lab.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&body).expect("entries");
    let sdev = entries.iter().find(|e| e["Key"].as_str().is_some_and(|k| k.contains("/sdevs/")));
    let sdev = sdev.expect("a device")["Key"].as_str().expect("a key").to_owned();
    let value: serde_json::Value = serde_json::from_str(&lab.kv(&sdev).expect("it")).expect("JSON");
    let path = value["path"].as_str().expect("a path").to_owned();
    // What was there before this node ever worked any is history.
    let epoch = end(&mut lab);
    let mut queue = vec![(epoch, device("ssu1", &path, "failed"))];
    let id = tell(&mut lab, 0, &queue);
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_ne!(lab.state_in(&sdev), "failed");

    queue.push((epoch + 2, device("ssu1", &path, "repaired")));
    queue.push((epoch + 1, device("ssu1", &path, "repair")));
    queue.push((epoch + 3, "junk".into()));
    let id = tell(&mut lab, 0, &queue);
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(lab.state_in(&sdev), "repaired");
    assert_eq!(lab.kv("bq-delivered/ssu1"), Some((epoch + 3).to_string()));
    assert_eq!(lab.saw(0, FactKind::QueueSkipped), 1);
    let fid = sdev.rsplit('/').next().expect("a fid").parse().expect("a fid");
    let link = lab.nodes[0].links[&confd];
    let told = lab.take_told(0, link, fid);
    assert_eq!(told, [ObjectState::Repair, ObjectState::Repaired]);

    // The same again is nothing new.
    let id = post(&mut lab, 0);
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(worked(&lab).iter().filter(|n| **n > epoch).count(), 2);
}

#[test]
fn d21_the_offset_moves_when_the_work_is_done_and_not_before() {
    let mut lab = Lab::new(1);
    let epoch: u64 = lab.kv("epoch").expect("an epoch").parse().expect("a number");
    lab.consul("PUT", "/v1/kv/bq-delivered/ssu1", &epoch.to_string());
    let far = lab.fid(1, "ios");
    let message = format!(
        r#"{{"message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{far}",
            "state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}}}}"#
    );
    lab.nodes[0].fault = Some(Fault::Refuses);
    append(&mut lab, &[(epoch + 1, message)]);
    let id = lab.post(0, "/watcher/bq", "null");
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id), None);
    lab.nodes[0].fault = None;
    lab.run(MS * 6_000);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(lab.kv("bq-delivered/ssu1"), Some((epoch + 1).to_string()));
    let view = lab.state_in(&format!("ssu1/processes/{far}"));
    assert_eq!(view, "M0_CONF_HA_PROCESS_STOPPED");
}

/// The entries that a bridge has worked, in their order.
fn worked(lab: &Lab) -> Vec<u64> {
    let of = |fact: &Fact| match fact {
        Fact::QueueWorked { n } => Some(*n),
        _ => None,
    };
    lab.nodes[0].facts.iter().filter_map(of).collect()
}

#[test]
fn d21_a_queue_that_begins_anew_is_noticed_and_one_that_was_purged_is_not_worked_again() {
    let mut lab = Lab::new(1);
    let (last, far) = (end(&mut lab), lab.fid(1, "ios"));
    let message = |n: u64| {
        let text = format!(
            r#"{{"message_type": "PROCESS-STATE-UPDATE", "payload": {{"fid": "{far}",
                "state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}}}}"#
        );
        (n, text)
    };
    let tell = |lab: &mut Lab, messages: &[(u64, String)]| {
        let id = tell(lab, 0, messages);
        lab.run(MS * 500);
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
        worked(lab)
    };
    let news = [last + 1, last + 2, last + 3];
    lab.consul("PUT", "/v1/kv/epoch", &(last + 3).to_string());
    let before = tell(&mut lab, &news.map(message));
    assert!(before.ends_with(&news), "{before:?}");
    // What all have worked is purged, here the newest of it.
    lab.consul("DELETE", &format!("/v1/kv/bq/{}", last + 3), "");
    assert_eq!(tell(&mut lab, &[]), before, "nothing is new");
    assert_eq!(lab.kv("bq-delivered/ssu1"), Some((last + 3).to_string()));
    // Also for a later life of this hax, which tells of its own start.
    lab.restart(0, |_| {});
    lab.run(MS * 50);
    let after = tell(&mut lab, &[]);
    assert!(after.iter().all(|n| *n > last + 3), "{after:?}");
    lab.consul("DELETE", "/v1/kv/bq/?recurse", "");
    let anew = tell(&mut lab, &[message(1), message(2)]);
    assert!(anew.ends_with(&[1, 2]), "it began anew: {anew:?}");
    assert_eq!(lab.kv("bq-delivered/ssu1").as_deref(), Some("2"));
}

#[test]
fn a_key_that_is_no_entry_of_the_queue_is_passed_over_and_told_once() {
    let mut lab = Lab::new(1);
    let epoch = end(&mut lab);
    lab.consul("PUT", "/v1/kv/bq/zzz", "junk");
    for n in 1..=3 {
        let id = tell(&mut lab, 0, &[(epoch + n, "{}".into())]);
        lab.run(MS * 500);
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
        assert_eq!(lab.kv("bq-delivered/ssu1"), Some((epoch + n).to_string()));
        assert_eq!(lab.saw(0, FactKind::EntrySkipped), 1);
    }
    // A watch of another prefix is not the queue's.
    let other = posted(&[(1, "{}".into())]).replace("bq/", "eq/");
    let id = lab.post(0, "/watcher/bq", &other);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(400));
}

#[test]
fn an_offset_that_is_no_number_is_told() {
    let mut lab = Lab::new(1);
    lab.consul("PUT", "/v1/kv/bq-delivered/ssu1", "twelve");
    lab.restart(0, |_| {});
    lab.run(MS * 1_000);
    let said = lab.saw(0, FactKind::ConsulBadAnswer);
    assert!((1..20).contains(&said), "{said}");
    lab.consul("PUT", "/v1/kv/bq-delivered/ssu1", "12");
    lab.run(MS * 10_000);
    let id = tell(&mut lab, 0, &[(13, "{}".into())]);
    lab.run(MS * 50);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
}

#[test]
fn d21_an_offset_that_another_writer_moved_is_not_moved_back() {
    let mut lab = Lab::new(1);
    // Written at the start: what is appended while no hax runs is not history.
    let offset = |lab: &mut Lab| lab.kv("bq-delivered/ssu1");
    let epoch: u64 = offset(&mut lab).expect("it began").parse().expect("a number");
    // An operator has the node pass over some.
    lab.consul("PUT", "/v1/kv/bq-delivered/ssu1", &(epoch + 20).to_string());
    let mut worked = |n| {
        let id = tell(&mut lab, 0, &[(epoch + n, "{}".into())]);
        lab.run(MS * 2_000);
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
        offset(&mut lab)
    };
    assert_eq!(worked(1), Some((epoch + 20).to_string()));
    assert_eq!(worked(21), Some((epoch + 21).to_string()));
}

#[test]
fn what_cannot_be_worked_is_taken_in_up_to_a_limit() {
    let mut lab = Lab::new(1);
    lab.restart(0, |config| config.limit.queued_entries = 3);
    lab.run(MS * 500);
    let epoch = end(&mut lab);
    let messages: Vec<_> = (1..=8).map(|n| (epoch + n, "{}".into())).collect();
    lab.nodes[0].targets.clear();
    let id = tell(&mut lab, 0, &messages);
    lab.run(MS * 1_000);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(lab.saw(0, FactKind::QueueSkipped), 8);
    let reads = lab.nodes[0].targets.iter().filter(|(_, target)| target.contains("kv/bq/?"));
    assert_eq!(reads.count(), 3, "three, three, two");
}

/// A device of the first node: its key and its path.
fn a_device(lab: &mut Lab) -> (String, String) {
    let (_, entries) = lab.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&entries).expect("entries");
    let keys = entries.iter().filter_map(|entry| entry["Key"].as_str());
    let sdev = keys.filter(|key| key.contains("/sdevs/")).min().expect("a device").to_owned();
    let value: serde_json::Value = serde_json::from_str(&lab.kv(&sdev).expect("it")).expect("JSON");
    (sdev, value["path"].as_str().expect("a path").to_owned())
}

#[test]
fn f20_a_forged_entry_of_the_queue_is_not_worked() {
    let mut lab = Lab::new(1);
    let (sdev, path) = a_device(&mut lab);
    let (before, epoch) = (lab.state_in(&sdev), end(&mut lab));
    let done = lab.saw(0, FactKind::QueueWorked);
    let forged = [(epoch + 1, device("ssu1", &path, "failed")), (1 << 40, "{}".into())];
    let body =
        posted(&forged).replace("\"ModifyIndex\": 1099511627776", "\"ModifyIndex\": 9999999");
    let id = lab.post(0, "/watcher/bq", &body);
    lab.run(MS * 1_000);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!((lab.state_in(&sdev), lab.saw(0, FactKind::QueueWorked)), (before, done));
    assert_eq!(lab.kv("bq-delivered/ssu1"), Some(epoch.to_string()));
    // And it is not deaf for what comes.
    let id = tell(&mut lab, 0, &[(epoch + 1, device("ssu1", &path, "failed"))]);
    lab.run(MS * 1_000);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(lab.state_in(&sdev), "failed");
}

#[test]
fn f20_who_posts_while_consul_hangs_is_told_to_come_again_and_what_he_says_is_worked() {
    let mut lab = Lab::new(1);
    let last = end(&mut lab);
    lab.nodes[0].fault = Some(Fault::Leaderless);
    append(&mut lab, &[(last + 1, "{}".into())]);
    let ids: Vec<_> = (0..50).map(|_| lab.post(0, "/watcher/bq", "null")).collect();
    lab.run(MS * 6_000);
    for id in ids {
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(503));
    }
    lab.nodes[0].fault = None;
    lab.run(MS * 20_000);
    assert_eq!(lab.kv("bq-delivered/ssu1"), Some((last + 1).to_string()));
}

#[test]
fn f25_a_post_that_is_refused_is_a_hint_all_the_same() {
    let mut lab = Lab::with(1, |config| config.limit.body_bytes = 10_000);
    let epoch = end(&mut lab);
    let too_long = " ".repeat(10_001);
    let refused = [(too_long.as_str(), 413), ("[", 400)];
    for (n, (body, status)) in (epoch + 1..).zip(refused) {
        append(&mut lab, &[(n, "{}".into())]);
        let id = lab.post(0, "/watcher/bq", body);
        lab.run(MS * 1_000);
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(status));
        assert_eq!(lab.kv("bq-delivered/ssu1"), Some(n.to_string()), "{status}");
    }
}

#[test]
fn f20_many_hints_are_few_readings() {
    let mut lab = Lab::new(1);
    lab.nodes[0].targets.clear();
    for _ in 0..200 {
        let id = lab.post(0, "/watcher/bq", &posted(&[(1 << 40, "{}".into())]));
        lab.run(MS * 10);
        let _later = id;
    }
    let reads = lab.nodes[0].targets.iter().filter(|(_, target)| target.contains("kv/bq/?"));
    let reads = reads.count();
    assert!((2..=10).contains(&reads), "{reads} in 2 s");
}

#[test]
fn what_is_no_queue_is_refused_and_changes_nothing() {
    let mut lab = Lab::new(1);
    let bodies = [
        "",
        "{}",
        "[1]",
        r#"[{"Key": "bq/x", "Value": "", "ModifyIndex": 1}]"#,
        // What nobody has counted to, so that nothing would come after it.
        r#"[{"Key": "bq/18446744073709551615", "Value": "", "ModifyIndex": 1}]"#,
    ];
    for body in bodies {
        let id = lab.post(0, "/watcher/bq", body);
        assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(400), "{body}");
    }
    let id = lab.post(0, "/watcher/bq", "null");
    lab.run(MS * 500);
    assert_eq!(lab.response(0, id).map(|(status, _)| status), Some(200));
}

#[test]
fn d02_a_node_that_works_nothing_keeps_no_more_than_the_limit() {
    let mut lab = Lab::new(1);
    for n in 1..=150 {
        lab.consul("PUT", &format!("/v1/kv/bq/{n}"), "{}");
    }
    for (node, offset) in [("ssu1", 150), ("ssu2", 150), ("ssu3", 3)] {
        lab.consul("PUT", &format!("/v1/kv/bq-delivered/{node}"), &offset.to_string());
    }
    lab.restart(0, |config| {
        config.elect = true;
        config.limit.queue_entries = 20;
    });
    lab.run(Duration::from_secs(70));
    let (_, left) = lab.consul("GET", "/v1/kv/bq/?keys", "");
    let left: Vec<String> = serde_json::from_str(&left).expect("keys");
    assert!(
        !left.contains(&"bq/130".to_owned()) && left.contains(&"bq/131".to_owned()),
        "{left:?}"
    );
}

#[test]
fn d02_the_leader_purges_what_everybody_has_worked() {
    let mut lab = Lab::new(1);
    for n in 1..=150 {
        lab.consul("PUT", &format!("/v1/kv/bq/{n}"), "{}");
    }
    for (node, offset) in [("ssu1", 140), ("ssu2", 100), ("ssu3", 120), ("gone", 3)] {
        lab.consul("PUT", &format!("/v1/kv/bq-delivered/{node}"), &offset.to_string());
    }
    lab.run(Duration::from_secs(70));
    let keys = |lab: &mut Lab| -> Vec<String> {
        serde_json::from_str(&lab.consul("GET", "/v1/kv/bq/?keys", "").1).expect("keys")
    };
    assert!(keys(&mut lab).len() >= 150, "who does not lead does not purge");
    lab.restart(0, |config| config.elect = true);
    lab.run(Duration::from_secs(70));
    let left = keys(&mut lab);
    assert!(!left.contains(&"bq/100".to_owned()) && left.contains(&"bq/101".to_owned()));
    assert!(left.contains(&"bq/150".to_owned()));
}
