//! Repair and rebalance through Motr's library.

use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::HttpId;
use hax_core::bridge::config::Config;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::report::SnsErr;
use hax_core::ha::spiel::{Answer, Op, Reply, SnsOp, Status};
use serde_json::Value;

use super::queue::{append, post};
use super::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const POOL: Fid = Fid::typed(b'o', 1, 0);

/// Creates nodes with Motr's library, which has read the configuration.
pub(crate) fn up(bridges: usize, configure: impl Fn(&mut Config)) -> TestCluster {
    let mut cluster = TestCluster::with(bridges, |config| {
        config.spiel = true;
        configure(config);
    });
    for node in 0..bridges {
        assert!(matches!(next(&cluster, node), Op::Begin { .. }));
        answer(&mut cluster, node, Ok(Answer::Done));
        assert_eq!(cluster.count_facts(node, FactKind::SpielUp), 1);
    }
    cluster
}

/// Returns the library's oldest call without a response.
pub(crate) fn next(cluster: &TestCluster, node: usize) -> Op {
    cluster.nodes[node].calls.front().expect("the library is asked").op
}

/// Responds to that call.
pub(crate) fn answer(cluster: &mut TestCluster, node: usize, result: Result<Answer, Errno>) {
    let id = cluster.nodes[node].calls.pop_front().expect("the library was asked").id;
    cluster.input(node, Input::Spiel(Reply { id, result }));
}

fn start(cluster: &mut TestCluster, operation: &str, pool: Fid) -> HttpId {
    cluster.post(0, &format!("/api/v1/sns/{operation}"), &format!(r#"{{"fid": "{pool}", "x": 1}}"#))
}

fn status(cluster: &mut TestCluster, what: &str) -> HttpId {
    cluster.http(0, "GET", &format!("/api/v1/sns/{what}-status?pool_fid={POOL}"), "")
}

fn refusal(cluster: &TestCluster, id: HttpId) -> (u16, String) {
    let (status, body) = cluster.response(0, id).expect("a response");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["status_code"], status, "{body}");
    (status, body.to_string())
}

fn sns(name: &str) -> Op {
    Op::Sns { pool: POOL, op: SnsOp::named(name).expect("an operation") }
}

#[test]
fn d16_a_pool_has_one_operation_under_way() {
    let mut cluster = up(1, |_| {});
    let other = Fid::typed(b'o', 1, 77);
    cluster.consul("PUT", &format!("/v1/kv/m0conf/pools/{other}"), "another");
    cluster.run(S);
    let first = start(&mut cluster, "repair-start", POOL);
    assert_eq!(next(&cluster, 0), sns("repair-start"));
    cluster.run(S * 3);
    let second = start(&mut cluster, "rebalance-start", POOL);
    let (status, why) = refusal(&cluster, second);
    assert_eq!(status, 409);
    assert!(why.contains("repair-start") && why.contains(&POOL.to_string()), "{why}");
    assert!(why.contains("3 s"), "{why}");
    assert_eq!(cluster.nodes[0].calls.len(), 1, "the library is asked once");
    let elsewhere = start(&mut cluster, "rebalance-start", other);
    assert_eq!(cluster.nodes[0].calls.len(), 2, "pools do not wait for each other");
    let shown = cluster.http(0, "GET", "/status", "");
    let shown: Value = serde_json::from_str(&cluster.response(0, shown).unwrap().1).unwrap();
    assert_eq!(shown["spiel"]["under_way"][0]["operation"], "repair-start");
    assert_eq!(shown["spiel"]["under_way"][0]["for_ms"], 3_000);
    answer(&mut cluster, 0, Ok(Answer::Done));
    assert_eq!(cluster.response(0, first), Some((200, String::new())));
    answer(&mut cluster, 0, Ok(Answer::Done));
    assert_eq!(cluster.response(0, elsewhere), Some((200, String::new())));
    let third = start(&mut cluster, "rebalance-start", POOL);
    answer(&mut cluster, 0, Ok(Answer::Done));
    assert_eq!(cluster.response(0, third).unwrap().0, 200);
    assert_eq!(cluster.count_facts(0, FactKind::SnsBegun), 3);
    assert_eq!(cluster.count_facts(0, FactKind::SnsEnded), 3);
}

#[test]
fn d17_a_status_is_of_what_was_asked_and_its_failure_is_told_at_once() {
    let mut cluster = up(1, |_| {});
    let first = start(&mut cluster, "rebalance-start", POOL);
    let repair = status(&mut cluster, "repair");
    let rebalance = status(&mut cluster, "rebalance");
    let again = status(&mut cluster, "rebalance");
    let calls: Vec<Op> = cluster.nodes[0].calls.iter().map(|call| call.op).collect();
    let all = ["rebalance-start", "repair-status", "rebalance-status"].map(sns);
    assert_eq!(calls, all, "a status does not wait for the operation, and is shared");
    answer(&mut cluster, 0, Ok(Answer::Done));
    answer(&mut cluster, 0, Err(Errno(5)));
    let (code, why) = refusal(&cluster, repair);
    assert_eq!(code, 502);
    assert!(why.contains("EIO") && why.contains("repair-status"), "{why}");
    let of = |key, state| Status { fid: Fid::service(key), state, progress: 10 };
    answer(&mut cluster, 0, Ok(Answer::Statuses(vec![of(3, 2), of(4, 1)])));
    for id in [rebalance, again] {
        let (code, body) = cluster.response(0, id).expect("a response");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(code, 200);
        assert_eq!(body[0]["fid"], Fid::service(3).to_string());
        assert_eq!((&body[1]["state"], &body[1]["progress"]), (&1.into(), &10.into()));
    }
    assert_eq!(cluster.response(0, first).unwrap().0, 200);
    let none = status(&mut cluster, "repair");
    answer(&mut cluster, 0, Ok(Answer::Statuses(Vec::new())));
    assert_eq!(cluster.response(0, none), Some((200, "[]".into())));
}

#[test]
fn d35_an_operation_is_answered_by_its_outcome() {
    let mut cluster = up(1, |_| {});
    for (errno, code, name) in [
        (Errno::EAGAIN, 503, "EAGAIN"),
        (Errno::EBUSY, 503, "EBUSY"),
        (Errno(22), 502, "EINVAL"),
        (Errno(4321), 502, "errno 4321"),
    ] {
        let id = start(&mut cluster, "repair-pause", POOL);
        assert_eq!(cluster.response(0, id), None, "nothing is known yet");
        answer(&mut cluster, 0, Err(errno));
        let (status, why) = refusal(&cluster, id);
        assert_eq!(status, code);
        assert!(why.contains(name), "{why}");
    }
    assert_eq!(cluster.count_facts(0, FactKind::SnsRefused), 4);
    let pool = format!(r#"{{"fid": "{POOL}"}}"#);
    for (method, path, body, code) in [
        ("POST", "repair-start", r#"{"fid": "0x6f00000000000001:0x9"}"#, 404),
        ("POST", "repair-start", r#"{"fid": "4"}"#, 400),
        ("POST", "repair-start", r#"{"pool": "0x1:0x1"}"#, 400),
        ("POST", "repair-start", "repair", 400),
        ("POST", "repair-begin", &pool, 404),
        ("POST", "disk-attach", &pool, 501),
        ("POST", "disk-detach", &pool, 501),
        ("GET", "repair-start", "", 405),
        ("POST", "repair-status", &pool, 405),
        ("GET", "repair-status", "", 400),
        ("GET", "repair-status?pool_fid=0x6f00000000000001:0x9", "", 404),
    ] {
        let id = cluster.http(0, method, &format!("/api/v1/sns/{path}"), body);
        assert_eq!(refusal(&cluster, id).0, code, "{method} {path} {body}");
    }
    assert!(cluster.nodes[0].calls.is_empty(), "the library hears nothing of these");
    let encoded = "/api/v1/sns/repair-status?pool_fid=0x6f00000000000001%3A0x0";
    cluster.http(0, "GET", encoded, "");
    assert_eq!(next(&cluster, 0), sns("repair-status"));
}

#[test]
fn what_has_no_answer_in_time_stays_under_way() {
    let mut cluster = up(1, |_| {});
    let first = start(&mut cluster, "repair-start", POOL);
    cluster.run(S * 29);
    assert_eq!(cluster.response(0, first), None);
    cluster.run(S * 2);
    assert_eq!(refusal(&cluster, first).0, 504);
    assert_eq!(cluster.count_facts(0, FactKind::SnsLate), 1);
    let second = start(&mut cluster, "repair-stop", POOL);
    let (status, why) = refusal(&cluster, second);
    assert!(status == 409 && why.contains("31 s"), "{why}");
    cluster.run(S * 600);
    answer(&mut cluster, 0, Ok(Answer::Done));
    assert_eq!(cluster.nodes[0].responses.iter().filter(|r| r.id == first).count(), 1);
    assert_eq!(cluster.count_facts(0, FactKind::SnsEnded), 1);
    start(&mut cluster, "repair-stop", POOL);
    assert_eq!(next(&cluster, 0), sns("repair-stop"));
}

#[test]
fn those_who_share_a_status_have_their_own_time() {
    let mut cluster = up(1, |_| {});
    let first = status(&mut cluster, "repair");
    cluster.run(S * 20);
    let second = status(&mut cluster, "repair");
    cluster.run(S * 15);
    assert_eq!(refusal(&cluster, first).0, 504);
    assert_eq!(cluster.response(0, second), None);
    answer(&mut cluster, 0, Ok(Answer::Statuses(Vec::new())));
    assert_eq!(cluster.response(0, second).unwrap().0, 200);
    cluster.run(S * 60);
    assert_eq!(cluster.nodes[0].responses.len(), 2, "one each");
}

#[test]
fn operations_under_way_are_bounded() {
    let mut cluster = up(1, |config| config.limit.operations = 2);
    status(&mut cluster, "repair");
    status(&mut cluster, "rebalance");
    let third = start(&mut cluster, "repair-start", POOL);
    assert_eq!(refusal(&cluster, third).0, 503);
    assert_eq!(cluster.nodes[0].calls.len(), 2);
}

#[test]
fn the_library_reads_the_configuration_once_a_quorum_of_confds_is_online() {
    let mut cluster = TestCluster::with(1, |config| config.spiel = true);
    // These confds are on other nodes, so that this bridge does not declare them dead.
    let confds = [1, 2].map(|node| (node, cluster.fid(node, "confd")));
    for (node, confd) in confds {
        cluster.set_check(node, confd, "critical");
    }
    cluster.run(S);
    // The calls from before the checks failed belong to the start of the cluster.
    cluster.restart(0, |config| config.spiel = true);
    cluster.nodes[0].calls.clear();
    cluster.run(S * 10);
    assert!(cluster.nodes[0].calls.is_empty(), "one confd of three is no quorum");
    let early = start(&mut cluster, "repair-start", POOL);
    assert_eq!(refusal(&cluster, early).0, 503);
    let (node, confd) = confds[0];
    cluster.set_check(node, confd, "passing");
    cluster.run(S);
    assert_eq!(next(&cluster, 0), Op::Begin { profile: Fid::typed(b'p', 1, 0) });
    answer(&mut cluster, 0, Err(Errno::ETIMEDOUT));
    assert_eq!(cluster.count_facts(0, FactKind::SpielFailed), 1);
    let early = start(&mut cluster, "repair-start", POOL);
    let (status, why) = refusal(&cluster, early);
    assert!(status == 503 && why.contains("ETIMEDOUT"), "{why}");
    cluster.run(S);
    answer(&mut cluster, 0, Ok(Answer::Done));
    start(&mut cluster, "repair-start", POOL);
    assert_eq!(next(&cluster, 0), sns("repair-start"));
}

/// A check of a pid passes while a confd is formatted. A library that starts with such a confd waits forever.
#[test]
fn a_confd_that_is_being_formatted_is_none() {
    let mut cluster = TestCluster::with(1, |config| config.spiel = true);
    let confds = [1, 2].map(|node| cluster.fid(node, "confd"));
    for confd in confds {
        // Its check passes, and it has no record.
        cluster.consul("DELETE", &format!("/v1/kv/processes/{confd}"), "");
    }
    cluster.restart(0, |config| config.spiel = true);
    cluster.nodes[0].calls.clear();
    cluster.run(S * 10);
    assert!(cluster.nodes[0].calls.is_empty());
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    cluster.consul("PUT", &format!("/v1/kv/processes/{}", confds[0]), word);
    cluster.run(S);
    assert!(matches!(next(&cluster, 0), Op::Begin { .. }));
}

/// An I/O service also sends this message when there was nothing to repair.
#[test]
fn what_a_repair_comes_to_is_no_reason_to_stop() {
    for spiel in [true, false] {
        let mut cluster = TestCluster::with(1, |config| config.spiel = spiel);
        let ios = cluster.fid(0, "ios");
        cluster.link(0, ios);
        let msg = cluster.send(0, ios, Body::SnsErr(SnsErr { errcode: 2, opcode: 1 }));
        cluster.run(S * 2);
        assert!(cluster.nodes[0].acks.contains(&msg));
        assert_eq!(cluster.count_facts(0, FactKind::SnsFailed), usize::from(spiel));
        assert_eq!(cluster.nodes[0].exited, !spiel, "the specification's panic is the wire's");
    }
}

#[test]
fn a_stop_answers_who_waits() {
    let mut cluster = up(1, |_| {});
    let waiting = start(&mut cluster, "repair-start", POOL);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.input(0, Input::Stop);
    assert_eq!(refusal(&cluster, waiting).0, 503);
    let late = start(&mut cluster, "repair-start", POOL);
    assert_eq!(refusal(&cluster, late).0, 503);
}

/// Old daemons execute such an operation all at the same time.
#[test]
fn d21_an_operation_of_the_queue_is_the_leader_s() {
    let mut cluster = up(2, |config| {
        config.elect = true;
        (config.time.filesystem, config.time.bytecount) = (Duration::ZERO, Duration::ZERO);
    });
    cluster.run(S * 5);
    let leads: Vec<usize> = (0..2).filter(|node| cluster.view(*node).leads).collect();
    let [leader] = leads[..] else { panic!("{leads:?} lead") };
    let epoch: u64 = cluster.kv("epoch").expect("it is there").parse().expect("a number");
    let message = |op: &str, pool| {
        let payload = format!(r#"{{"op_name": "{op}", "fid": "{pool}"}}"#);
        format!(r#"{{"timestamp": "x", "message_type": "SNS_OP", "payload": {payload}}}"#)
    };
    let messages = [
        (epoch + 1, message("repair-start", POOL)),
        (epoch + 2, message("repair-start", POOL)),
        (epoch + 3, message("repair-start", Fid::typed(b'o', 1, 9))),
        (epoch + 4, message("disk-attach", POOL)),
    ];
    append(&mut cluster, &messages);
    for node in 0..2 {
        let id = post(&mut cluster, node);
        cluster.run(MS * 500);
        assert_eq!(cluster.response(node, id).map(|(status, _)| status), Some(200));
    }
    let asked = [0, 1].map(|node| cluster.nodes[node].calls.len());
    assert_eq!((asked[leader], asked[1 - leader]), (1, 0));
    assert_eq!(next(&cluster, leader), sns("repair-start"));
    assert_eq!(
        cluster.count_facts(leader, FactKind::QueueSkipped),
        3,
        "one is under way, no pool, no operation"
    );
    assert_eq!(cluster.count_facts(1 - leader, FactKind::QueueSkipped), 1, "no operation");
}
