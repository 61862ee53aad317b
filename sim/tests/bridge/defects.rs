//! Defects of the old daemon, by the numbers of `docs/DEFECTS.md`. Other files test the other numbers.

use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::consul::port::Method;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;
use hax_core::ha::report::StobIoq;
use hax_sim::cluster::Shape;

use crate::queue::tell;
use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

fn writes(cluster: &TestCluster, node: usize, from: usize) -> usize {
    cluster.nodes[node].targets[from..].iter().filter(|(method, _)| *method == Method::Put).count()
}

#[test]
fn d02_a_queue_beyond_what_the_old_daemon_takes_is_taken() {
    let mut cluster = TestCluster::new(1);
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", "0");
    let far = cluster.fid(1, "ios");
    let message = format!(
        r#"{{"timestamp": "2022-03-01 10:00:00.000000", "message_type": "PROCESS-STATE-UPDATE",
            "payload": {{"fid": "{far}", "state": "M0_CONF_HA_PROCESS_STARTED",
            "type": "M0_CONF_HA_PROCESS_M0D"}}}}"#
    );
    let messages: Vec<_> = (1..=5_000).map(|n| (n, message.clone())).collect();
    let id = tell(&mut cluster, 0, &messages);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.kv("bq-delivered/ssu1").as_deref(), Some("5000"));
}

#[test]
fn d05_the_resource_manager_is_read_and_not_reckoned() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let confd = cluster.fid(0, "confd");
    let key = format!("m0conf/nodes/ssu1/processes/{}/services/rms", confd.key);
    cluster.consul("PUT", &format!("/v1/kv/{key}"), "4711");
    let entry = cluster.ask(0, ios, false, 1);
    cluster.run(MS * 10);
    let Some(Ok(entrypoint)) = cluster.reply(0, entry) else { panic!("no entrypoint") };
    assert_eq!(entrypoint.rm, Fid::service(4711));
}

#[test]
fn d06_d08_d24_a_consul_that_hangs_holds_up_nothing_else() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.event(0, ios, ProcessEventKind::Starting);
    let entry = cluster.ask(0, confd, false, 1);
    let cookie = (1, 2);
    cluster.send(0, confd, Body::FailureVecReq { pool: Fid::typed(b'o', 1, 1), cookie });
    let answered = cluster.nodes[0].sent.iter();
    let rep = |body: &Body| matches!(body, Body::FailureVecRep { .. });
    assert_eq!(answered.filter(|(to, _, body)| *to == other && rep(body)).count(), 1);
    let id = cluster.http(0, "GET", "/", "");
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    cluster.run(MS * 3_000);
    assert_eq!(cluster.reply(0, entry), Some(&Err(Errno::EAGAIN)));
}

#[test]
fn d09_a_device_that_nobody_knows_is_passed_over_and_the_next_message_worked() {
    let mut cluster = TestCluster::new(1);
    cluster.consul("PUT", "/v1/kv/bq-delivered/ssu1", "10");
    let message = |device: &str| {
        format!(
            r#"{{"message_type": "M0_HA_MSG_NVEC",
                "payload": {{"node": "ssu1", "device": "{device}", "state": "failed"}}}}"#
        )
    };
    let (_, entries) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&entries).expect("entries");
    let keys = entries.iter().filter_map(|entry| entry["Key"].as_str());
    let sdev = keys.filter(|key| key.contains("/sdevs/")).min().expect("a device").to_owned();
    let value: serde_json::Value =
        serde_json::from_str(&cluster.kv(&sdev).expect("it")).expect("JSON");
    let path = value["path"].as_str().expect("a path");
    let id = tell(&mut cluster, 0, &[(11, message("/dev/nothing")), (12, message(path))]);
    cluster.run(MS * 500);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    assert_eq!(cluster.count_facts(0, FactKind::QueueSkipped), 1);
    assert_eq!(cluster.state_in(&sdev), "failed");
}

#[test]
fn d10_processes_with_alike_keys_do_not_wait_for_each_other() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let alike = Fid::process(ios.key + 32);
    cluster.link(0, ios);
    cluster.link(0, alike);
    // Another writer causes conflicts in the lane of one process.
    for n in 0..5 {
        let value = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
        cluster.consul(
            "PUT",
            &format!("/v1/kv/processes/{ios}"),
            &format!("{value}{}", " ".repeat(n)),
        );
        cluster.event(0, ios, ProcessEventKind::Stopping);
        let msg = cluster.event(0, alike, ProcessEventKind::Starting);
        assert!(cluster.nodes[0].acks.contains(&msg));
    }
}

#[test]
fn d11_what_is_configured_later_is_known_and_kept() {
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    cluster.link(0, confd);
    let (_, body) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let node = keys.iter().find(|key| key.contains("0x6e")).expect("a node");
    let node: String = node.split('/').take(3).collect::<Vec<_>>().join("/");
    let new = Fid::process(1_234);
    assert_eq!(cluster.states(0, confd, &[new])[0].state, ObjectState::Transient);
    let key = format!("{node}/processes/{new}");
    cluster.consul("PUT", &format!("/v1/kv/{key}"), r#"{"name": "m0_server", "state": "unknown"}"#);
    let service = format!("{key}/services/0x7300000000000001:0x4d2");
    cluster.consul("PUT", &format!("/v1/kv/{service}"), r#"{"name": "ios", "state": "x"}"#);
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", &format!("/v1/kv/processes/{new}"), word);
    assert_eq!(cluster.states(0, confd, &[new])[0].state, ObjectState::DtmRecovering);
    cluster.link(0, new);
    cluster.event(0, new, ProcessEventKind::DtmRecovered);
    assert_eq!(cluster.state_in(&key), "online");
}

#[test]
fn d14_a_broadcast_of_many_notes_is_split_and_each_part_accounted_for() {
    let shape = Shape { drives: 1_100, ..Shape::like_hare(1) };
    let mut cluster = TestCluster::of(&shape, 1, |_| {});
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    cluster.nodes[0].delivers = false;
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 3_000);
    let parts: Vec<_> =
        cluster.nodes[0].sent.iter().filter(|(to, ..)| *to == other).cloned().collect();
    let notes = |body: &Body| match body {
        Body::Nvec(nvec) => nvec.notes.len(),
        _ => 0,
    };
    assert!(parts.iter().all(|(.., body)| notes(body) <= 1_024));
    assert_eq!(cluster.record(ios), "STOPPED");
    for (link, send, _) in parts {
        cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    }
    cluster.nodes[0].delivers = true;
    let told = cluster.nodes[0].told[&other].iter();
    let away = told.filter(|note| note.state == ObjectState::Transient).count();
    assert!(away >= 2 * 1_100, "every device and every drive: {away}");
}

#[test]
fn d18_there_is_no_answer_without_a_resource_manager() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let confd = cluster.fid(0, "confd");
    cluster.consul("PUT", &format!("/v1/agent/service/deregister/{}", confd.key), "");
    // Even without running I/O services there is no reply.
    for node in 0..3 {
        let ios = cluster.fid(node, "ios");
        cluster.set_check(node, ios, "critical");
    }
    let entry = cluster.ask(0, ios, false, 1);
    cluster.run(MS * 3_000);
    assert_eq!(cluster.reply(0, entry), Some(&Err(Errno::EAGAIN)));
}

#[test]
fn d26_who_only_hears_of_an_event_writes_nothing() {
    let mut cluster = TestCluster::new(3);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.run(MS * 1_000);
    let from = [1, 2].map(|node| cluster.nodes[node].targets.len());
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 1_000);
    assert_eq!([1, 2].map(|node| writes(&cluster, node, from[node - 1])), [0, 0]);
}

#[test]
fn d27_the_resource_manager_and_its_endpoint_are_of_one_leader() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    for leader in ["ssu2", "ssu3", "ssu1", "ssu2"] {
        let (_, key) = cluster.consul("GET", "/v1/kv/leader", "");
        let key: serde_json::Value = serde_json::from_str(&key).expect("JSON");
        let old = key[0]["Session"].as_str().expect("a session").to_owned();
        let agent = leader[3..].parse::<usize>().expect("a number") - 1;
        let (_, new) = cluster.consul_at(agent, "PUT", "/v1/session/create", "{}");
        let new: serde_json::Value = serde_json::from_str(&new).expect("JSON");
        let new = new["ID"].as_str().expect("an id").to_owned();
        cluster.consul("PUT", &format!("/v1/kv/leader?release={old}"), "");
        cluster.consul("PUT", &format!("/v1/kv/leader?acquire={new}"), leader);
        let entry = cluster.ask(0, ios, false, 1);
        cluster.run(MS * 10);
        let confd = cluster.fid(agent, "confd");
        let Some(Ok(entrypoint)) = cluster.reply(0, entry).cloned() else {
            panic!("no entrypoint")
        };
        let at = entrypoint.confds.iter().find(|c| c.fid == confd).expect("it is there");
        assert_eq!(entrypoint.rm_endpoint, at.endpoint);
        let rms = format!("m0conf/nodes/{leader}/processes/{}/services/rms", confd.key);
        let rms = cluster.kv(&rms).expect("a resource manager").parse().expect("a key");
        assert_eq!(entrypoint.rm, Fid::service(rms));
    }
}

#[test]
fn d29_writers_that_meet_at_the_queue_take_turns() {
    let mut cluster = TestCluster::new(3);
    let all: Vec<Fid> = (0..3).map(|node| cluster.fid(node, "ios")).collect();
    for (node, ios) in all.iter().enumerate() {
        cluster.link(node, *ios);
    }
    let from: Vec<usize> = cluster.nodes.iter().map(|host| host.targets.len()).collect();
    for _ in 0..10 {
        for (node, ios) in all.iter().enumerate() {
            cluster.event(node, *ios, ProcessEventKind::Stopping);
            cluster.event(node, *ios, ProcessEventKind::DtmRecovered);
        }
    }
    cluster.run(MS * 1_000);
    let n: usize = (0..3).map(|node| writes(&cluster, node, from[node])).sum();
    assert!(n <= 2 * 60, "{n} transactions for 60 events");
    assert_eq!(cluster.nodes.iter().map(|host| host.acks.len()).sum::<usize>(), 60);
}

#[test]
fn d30_messages_that_made_the_old_daemon_panic_are_counted() {
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    cluster.link(0, confd);
    let ioq = StobIoq {
        sdev: Fid::ZERO,
        stob_domain: Fid::ZERO,
        stob: Fid::ZERO,
        fd: 0,
        opcode: 0,
        rc: -5,
        offset: 0,
        size: 0,
        bshift: 0,
    };
    for body in [
        Body::Undefined(99),
        Body::Malformed { kind: 2, why: "1,025 notes" },
        Body::StobIoq(Box::new(ioq)),
        Body::Rpc { attempts: 1, state: 1 },
    ] {
        let msg = cluster.send(0, confd, body);
        assert!(cluster.nodes[0].acks.contains(&msg));
    }
    assert!(!cluster.nodes[0].exited);
    // A message that the specification panics at is acknowledged first. Otherwise it would be sent again
    // after each restart.
    let msg = cluster.send(0, confd, Body::KeepaliveReq((1, 2)));
    assert!(cluster.nodes[0].acks.contains(&msg));
    cluster.run(MS * 100);
    assert!(cluster.nodes[0].exited && cluster.view(0).unexpected);
}

#[test]
fn d32_a_stop_finishes_what_was_begun() {
    let mut cluster = TestCluster::new(1);
    let (ios, hax) = (cluster.fid(0, "ios"), cluster.fid(0, "hax"));
    cluster.link(0, ios);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    let msg = cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.input(0, Input::Stop);
    let entry = cluster.ask(0, ios, true, 1);
    let empty = cluster.reply(0, entry).expect("at once").as_ref().expect("rc 0");
    assert_eq!((empty.confds.len(), empty.rm), (0, Fid::ZERO), "it may unwind");
    cluster.run(MS * 300);
    assert!(!cluster.nodes[0].exited);
    cluster.nodes[0].fault = None;
    cluster.run(MS * 5_000);
    assert!(cluster.nodes[0].exited);
    assert!(cluster.nodes[0].acks.contains(&msg));
    assert_eq!((cluster.record(ios), cluster.record(hax)), ("STOPPED".into(), "STOPPED".into()));
}

#[test]
fn d33_what_fails_is_tried_less_and_less_often() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.nodes[0].fault = Some(Fault::Fails);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    let mut last = cluster.nodes[0].targets.len();
    let mut tries = Vec::new();
    for _ in 0..4 {
        cluster.run(MS * 5_000);
        tries.push(cluster.nodes[0].targets.len() - last);
        last = cluster.nodes[0].targets.len();
    }
    assert!(tries[0] < 60 && tries[3] < 20, "{tries:?}");
    assert!(tries[3] > 0, "it does not give up");
}

#[test]
fn d36_checks_count_by_what_they_are_and_not_by_their_place() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let check = |node: &str, id: &str, service: String, status: &str, index: u64| {
        format!(
            r#"{{"Node": "{node}", "CheckID": "{id}", "Status": "{status}",
                "ServiceID": "{service}", "ModifyIndex": {index}}}"#
        )
    };
    let service = check("ssu1", "service:x", ios.key.to_string(), "passing", 900_025);
    // A node name with the same prefix belongs to another node.
    let stranger = check("ssu10", "serfHealth", String::new(), "critical", 900_026);
    cluster.post(0, "/", &format!(r#"[{{"Checks": [{stranger}, {service}]}}]"#));
    assert_eq!(cluster.last_state(0, link, ios), None);
    let maintenance = check("ssu1", "_node_maintenance", String::new(), "critical", 900_027);
    let service = check("ssu1", "service:x", ios.key.to_string(), "passing", 900_028);
    for checks in [[&maintenance, &service], [&service, &maintenance]] {
        cluster.post(0, "/", &format!(r#"[{{"Checks": [{}, {}]}}]"#, checks[0], checks[1]));
        assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
    }
}

#[test]
fn d38_a_failure_vector_is_answered_once() {
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    cluster.link(0, confd);
    let (pool, cookie) = (Fid::typed(b'o', 2, 9), (5, 6));
    cluster.send(0, confd, Body::FailureVecRep { pool, cookie, notes: Vec::new() });
    cluster.run(MS * 1_000);
    let reps =
        cluster.nodes[0].sent.iter().filter(|(.., b)| matches!(b, Body::FailureVecRep { .. }));
    assert_eq!(reps.count(), 1);
}
