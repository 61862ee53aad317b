//! Requests for states: responses are fresh and in order, and a request is acknowledged after the delivery of
//! its response.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::message::Body;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

#[test]
fn d04_every_object_has_a_state_and_none_is_unknown() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    cluster.set_check(0, ios, "warning");
    let profile = Fid::typed(b'p', 1, 1);
    let stranger = Fid::process(4_711);
    let junk = Fid::new(0x0100_0000_0000_0000, 1);
    let asked = [confd, ios, profile, stranger, junk, confd];
    let states: Vec<ObjectState> =
        cluster.states(0, confd, &asked).iter().map(|note| note.state).collect();
    let (on, off) = (ObjectState::Online, ObjectState::Transient);
    assert_eq!(states, [on, off, on, off, off, on]);
}

#[test]
fn an_answer_is_as_fresh_as_its_question() {
    let mut cluster = TestCluster::new(1);
    let (far, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    // The watches pause for a quarter of a second, and another node writes meanwhile.
    let value = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", &format!("/v1/kv/processes/{far}"), value);
    cluster.consul("PUT", &format!("/v1/kv/processes/{far}"), &value.replace("STARTED", "STOPPED"));
    assert_eq!(cluster.states(0, confd, &[far])[0].state, ObjectState::Transient);
}

/// Sends a request for `object`. Returns the calls to Consul that it causes, and the state in the response.
fn asked(cluster: &mut TestCluster, object: Fid) -> (Vec<String>, ObjectState) {
    let (confd, before) = (cluster.fid(0, "confd"), cluster.nodes[0].targets.len());
    let state = cluster.states(0, confd, &[object])[0].state;
    let targets = cluster.nodes[0].targets[before..].iter();
    let unblocked = targets.filter(|(_, target)| !target.contains("index="));
    (unblocked.map(|(_, target)| target.clone()).collect(), state)
}

#[test]
fn while_no_key_changes_a_question_makes_consul_walk_nothing() {
    let mut cluster = TestCluster::new(1);
    let (far, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    let glances = ["/v1/kv/processes/none?consistent", "/v1/health/state/none?consistent"];
    let key = format!("/v1/kv/processes/{far}");
    let word = |state: &str| {
        format!(r#"{{"state": "M0_CONF_HA_PROCESS_{state}", "type": "M0_CONF_HA_PROCESS_M0D"}}"#)
    };
    // The first request finds the index of the table, the second one that the replicas are not older.
    for _ in 0..2 {
        assert!(asked(&mut cluster, far).0.len() > 2);
    }
    assert_eq!(asked(&mut cluster, far).0, glances);
    cluster.consul("PUT", "/v1/kv/elsewhere", "1");
    let (targets, state) = asked(&mut cluster, far);
    assert_eq!((targets.len(), state), (4, ObjectState::Online), "{targets:?}");
    assert_eq!(asked(&mut cluster, far).0, glances);
    cluster.consul("PUT", &key, &word("STARTED"));
    // The watch pauses from here on.
    cluster.consul("PUT", &key, &word("STOPPED"));
    assert_eq!(asked(&mut cluster, far).1, ObjectState::Transient);
    assert_eq!(
        asked(&mut cluster, far),
        (glances.map(String::from).into(), ObjectState::Transient)
    );
}

#[test]
fn a_key_where_none_should_be_deceives_nobody() {
    let mut cluster = TestCluster::new(1);
    let (far, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    let key = format!("/v1/kv/processes/{far}");
    let value = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", "/v1/kv/processes/none", "there");
    for _ in 0..3 {
        asked(&mut cluster, far);
    }
    cluster.consul("PUT", &key, value);
    cluster.consul("PUT", &key, &value.replace("STARTED", "STOPPED"));
    assert_eq!(asked(&mut cluster, far).1, ObjectState::Transient);
    // Without the key the index probe works again.
    cluster.consul("DELETE", "/v1/kv/processes/none", "");
    for _ in 0..3 {
        asked(&mut cluster, far);
    }
    assert_eq!(asked(&mut cluster, far).0.len(), 2);
}

#[test]
fn questions_that_come_one_after_another_do_not_wait_for_each_others_probes() {
    let mut cluster = TestCluster::new(1);
    let (far, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    for _ in 0..3 {
        asked(&mut cluster, far);
    }
    cluster.nodes[0].fault = Some(Fault::Hangs);
    let before = cluster.nodes[0].targets.len();
    for _ in 0..9 {
        let question = cluster.question(&[far]);
        cluster.send(0, confd, Body::Nvec(Box::new(question)));
    }
    let sent = &cluster.nodes[0].targets[before..];
    assert_eq!(sent.len(), 8, "four of each of two at most: {sent:?}");
}

#[test]
fn d12_a_question_is_acknowledged_when_its_answer_is_delivered() {
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    let link = cluster.link(0, confd);
    cluster.nodes[0].delivers = false;
    let cookie = (3, 4);
    let msg = cluster.send(0, confd, Body::FailureVecReq { pool: Fid::typed(b'o', 1, 9), cookie });
    let (_, send, body) = cluster.nodes[0].sent.last().cloned().expect("an answer");
    let pool = Fid::typed(b'o', 2, 9);
    assert_eq!(body, Body::FailureVecRep { pool, cookie, notes: Vec::new() });
    assert!(!cluster.nodes[0].acks.contains(&msg));
    cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    assert!(cluster.nodes[0].acks.contains(&msg));
    // If the response is not delivered, the request comes again: a process that lost it would wait forever.
    let msg = cluster.send(0, confd, Body::FailureVecReq { pool: Fid::typed(b'o', 1, 9), cookie });
    let (_, send, _) = cluster.nodes[0].sent.last().cloned().expect("an answer");
    cluster.input(0, Input::Motr(Event::Undelivered { link, send }));
    cluster.run(MS * 5_000);
    assert!(!cluster.nodes[0].acks.contains(&msg));
}

#[test]
fn questions_wait_for_consul_and_nothing_else_waits_for_them() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.send(0, confd, Body::Nvec(Box::new(cluster.question(&[ios]))));
    cluster.run(MS * 100);
    assert_eq!(cluster.view(0).questions, 1);
    // The states in a watch's post are sent meanwhile.
    let body = format!(
        r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "another", "Status": "critical",
            "ServiceID": "{key}", "ModifyIndex": 900030}}]}}]"#,
        key = ios.key
    );
    cluster.post(0, "/", &body);
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
    assert_eq!(cluster.view(0).questions, 1);
}

#[test]
fn d07_a_slow_link_is_owed_the_latest_of_each_object() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let link = cluster.link(0, confd);
    cluster.nodes[0].delivers = false;
    for _ in 0..200 {
        cluster.event(0, ios, ProcessEventKind::Stopped);
        cluster.event(0, ios, ProcessEventKind::Starting);
        cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    }
    let held = cluster.nodes[0].sent.iter().filter(|(to, ..)| *to == link).count();
    assert!(held <= 16, "{held} messages on their way");
    cluster.nodes[0].delivers = true;
    let (_, send, _) =
        cluster.nodes[0].sent.iter().find(|(to, ..)| *to == link).expect("one").clone();
    cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Online));
}

/// A link acknowledges its messages in order.
///
/// A bridge that stops while a request is open never acknowledges the messages after it. Its successor gets
/// both again, and stops as well.
#[test]
fn f16_a_message_that_demands_a_stop_does_not_come_again_after_the_stop() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.nodes[0].delivers = false;
    let question = cluster.send(0, confd, Body::Nvec(Box::new(cluster.question(&[ios]))));
    let fatal = cluster.send(0, confd, Body::KeepaliveReq((1, 2)));
    cluster.run(MS * 10_000);
    let node = &cluster.nodes[0];
    assert!(node.acks.contains(&fatal) && !node.acks.contains(&question) && !node.exited);
    // The other processes are served meanwhile.
    let event = cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    cluster.run(MS * 100);
    assert!(cluster.nodes[0].acks.contains(&event));
    let answer = cluster.nodes[0].sent.iter().find(|(to, _, body)| {
        *to == link && matches!(body, Body::Nvec(nvec) if nvec.id_of_get == 77)
    });
    let (_, send, _) = answer.expect("an answer").clone();
    cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    cluster.run(MS * 100);
    let node = &cluster.nodes[0];
    assert!(node.acks.contains(&question) && node.exited && cluster.view(0).unexpected);
}

/// The request of a process that dies is dropped: no process repeats it.
#[test]
fn f16_the_end_of_the_link_ends_the_wait_for_its_questions() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.send(0, confd, Body::Nvec(Box::new(cluster.question(&[ios]))));
    cluster.send(0, confd, Body::KeepaliveReq((1, 2)));
    cluster.run(MS * 100);
    assert!(!cluster.view(0).stopping);
    cluster.input(0, Input::Motr(Event::LinkClosed { link }));
    assert!(cluster.view(0).stopping);
}
