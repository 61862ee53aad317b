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

use super::lab::{Fault, Lab};
use super::queue::{append, post};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const POOL: Fid = Fid::typed(b'o', 1, 0);

/// Nodes with Motr's library, which has read the configuration.
pub(crate) fn up(bridges: usize, configure: impl Fn(&mut Config)) -> Lab {
    let mut lab = Lab::with(bridges, |config| {
        config.spiel = true;
        configure(config);
    });
    for node in 0..bridges {
        assert!(matches!(next(&lab, node), Op::Begin { .. }));
        answer(&mut lab, node, Ok(Answer::Done));
        assert_eq!(lab.saw(node, FactKind::SpielUp), 1);
    }
    lab
}

/// What the library was asked first of what it has not answered.
pub(crate) fn next(lab: &Lab, node: usize) -> Op {
    lab.nodes[node].calls.front().expect("the library is asked").op
}

/// The library answers that.
pub(crate) fn answer(lab: &mut Lab, node: usize, result: Result<Answer, Errno>) {
    let id = lab.nodes[node].calls.pop_front().expect("the library was asked").id;
    lab.input(node, Input::Spiel(Reply { id, result }));
}

fn start(lab: &mut Lab, operation: &str, pool: Fid) -> HttpId {
    lab.post(0, &format!("/api/v1/sns/{operation}"), &format!(r#"{{"fid": "{pool}", "x": 1}}"#))
}

fn status(lab: &mut Lab, what: &str) -> HttpId {
    lab.http(0, "GET", &format!("/api/v1/sns/{what}-status?pool_fid={POOL}"), "")
}

fn refusal(lab: &Lab, id: HttpId) -> (u16, String) {
    let (status, body) = lab.response(0, id).expect("a response");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["status_code"], status, "{body}");
    (status, body.to_string())
}

fn sns(name: &str) -> Op {
    Op::Sns { pool: POOL, op: SnsOp::named(name).expect("an operation") }
}

#[test]
fn d16_a_pool_has_one_operation_under_way() {
    let mut lab = up(1, |_| {});
    let other = Fid::typed(b'o', 1, 77);
    lab.consul("PUT", &format!("/v1/kv/m0conf/pools/{other}"), "another");
    lab.run(S);
    let first = start(&mut lab, "repair-start", POOL);
    assert_eq!(next(&lab, 0), sns("repair-start"));
    lab.run(S * 3);
    let second = start(&mut lab, "rebalance-start", POOL);
    let (status, why) = refusal(&lab, second);
    assert_eq!(status, 409);
    assert!(why.contains("repair-start") && why.contains(&POOL.to_string()), "{why}");
    assert!(why.contains("3 s"), "{why}");
    assert_eq!(lab.nodes[0].calls.len(), 1, "the library is asked once");
    let elsewhere = start(&mut lab, "rebalance-start", other);
    assert_eq!(lab.nodes[0].calls.len(), 2, "pools do not wait for each other");
    let shown = lab.http(0, "GET", "/status", "");
    let shown: Value = serde_json::from_str(&lab.response(0, shown).unwrap().1).unwrap();
    assert_eq!(shown["spiel"]["under_way"][0]["operation"], "repair-start");
    assert_eq!(shown["spiel"]["under_way"][0]["for_ms"], 3_000);
    answer(&mut lab, 0, Ok(Answer::Done));
    assert_eq!(lab.response(0, first), Some((200, String::new())));
    answer(&mut lab, 0, Ok(Answer::Done));
    assert_eq!(lab.response(0, elsewhere), Some((200, String::new())));
    let third = start(&mut lab, "rebalance-start", POOL);
    answer(&mut lab, 0, Ok(Answer::Done));
    assert_eq!(lab.response(0, third).unwrap().0, 200);
    assert_eq!(lab.saw(0, FactKind::SnsBegun), 3);
    assert_eq!(lab.saw(0, FactKind::SnsEnded), 3);
}

#[test]
fn d17_a_status_is_of_what_was_asked_and_its_failure_is_told_at_once() {
    let mut lab = up(1, |_| {});
    let first = start(&mut lab, "rebalance-start", POOL);
    let repair = status(&mut lab, "repair");
    let rebalance = status(&mut lab, "rebalance");
    let again = status(&mut lab, "rebalance");
    let calls: Vec<Op> = lab.nodes[0].calls.iter().map(|call| call.op).collect();
    let all = ["rebalance-start", "repair-status", "rebalance-status"].map(sns);
    assert_eq!(calls, all, "a status does not wait for the operation, and is shared");
    answer(&mut lab, 0, Ok(Answer::Done));
    answer(&mut lab, 0, Err(Errno(5)));
    let (code, why) = refusal(&lab, repair);
    assert_eq!(code, 502);
    assert!(why.contains("EIO") && why.contains("repair-status"), "{why}");
    let of = |key, state| Status { fid: Fid::service(key), state, progress: 10 };
    answer(&mut lab, 0, Ok(Answer::Statuses(vec![of(3, 2), of(4, 1)])));
    for id in [rebalance, again] {
        let (code, body) = lab.response(0, id).expect("a response");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(code, 200);
        assert_eq!(body[0]["fid"], Fid::service(3).to_string());
        assert_eq!((&body[1]["state"], &body[1]["progress"]), (&1.into(), &10.into()));
    }
    assert_eq!(lab.response(0, first).unwrap().0, 200);
    let none = status(&mut lab, "repair");
    answer(&mut lab, 0, Ok(Answer::Statuses(Vec::new())));
    assert_eq!(lab.response(0, none), Some((200, "[]".into())));
}

#[test]
fn d35_an_operation_is_answered_by_its_outcome() {
    let mut lab = up(1, |_| {});
    for (errno, code, name) in [
        (Errno::EAGAIN, 503, "EAGAIN"),
        (Errno::EBUSY, 503, "EBUSY"),
        (Errno(22), 502, "EINVAL"),
        (Errno(4321), 502, "errno 4321"),
    ] {
        let id = start(&mut lab, "repair-pause", POOL);
        assert_eq!(lab.response(0, id), None, "nothing is known yet");
        answer(&mut lab, 0, Err(errno));
        let (status, why) = refusal(&lab, id);
        assert_eq!(status, code);
        assert!(why.contains(name), "{why}");
    }
    assert_eq!(lab.saw(0, FactKind::SnsRefused), 4);
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
        let id = lab.http(0, method, &format!("/api/v1/sns/{path}"), body);
        assert_eq!(refusal(&lab, id).0, code, "{method} {path} {body}");
    }
    assert!(lab.nodes[0].calls.is_empty(), "the library hears nothing of these");
    let encoded = "/api/v1/sns/repair-status?pool_fid=0x6f00000000000001%3A0x0";
    lab.http(0, "GET", encoded, "");
    assert_eq!(next(&lab, 0), sns("repair-status"));
}

#[test]
fn what_has_no_answer_in_time_stays_under_way() {
    let mut lab = up(1, |_| {});
    let first = start(&mut lab, "repair-start", POOL);
    lab.run(S * 29);
    assert_eq!(lab.response(0, first), None);
    lab.run(S * 2);
    assert_eq!(refusal(&lab, first).0, 504);
    assert_eq!(lab.saw(0, FactKind::SnsLate), 1);
    let second = start(&mut lab, "repair-stop", POOL);
    let (status, why) = refusal(&lab, second);
    assert!(status == 409 && why.contains("31 s"), "{why}");
    lab.run(S * 600);
    answer(&mut lab, 0, Ok(Answer::Done));
    assert_eq!(lab.nodes[0].responses.iter().filter(|r| r.id == first).count(), 1);
    assert_eq!(lab.saw(0, FactKind::SnsEnded), 1);
    start(&mut lab, "repair-stop", POOL);
    assert_eq!(next(&lab, 0), sns("repair-stop"));
}

#[test]
fn those_who_share_a_status_have_their_own_time() {
    let mut lab = up(1, |_| {});
    let first = status(&mut lab, "repair");
    lab.run(S * 20);
    let second = status(&mut lab, "repair");
    lab.run(S * 15);
    assert_eq!(refusal(&lab, first).0, 504);
    assert_eq!(lab.response(0, second), None);
    answer(&mut lab, 0, Ok(Answer::Statuses(Vec::new())));
    assert_eq!(lab.response(0, second).unwrap().0, 200);
    lab.run(S * 60);
    assert_eq!(lab.nodes[0].responses.len(), 2, "one each");
}

#[test]
fn operations_under_way_are_bounded() {
    let mut lab = up(1, |config| config.limit.operations = 2);
    status(&mut lab, "repair");
    status(&mut lab, "rebalance");
    let third = start(&mut lab, "repair-start", POOL);
    assert_eq!(refusal(&lab, third).0, 503);
    assert_eq!(lab.nodes[0].calls.len(), 2);
}

#[test]
fn the_library_reads_the_configuration_once_a_quorum_of_confds_is_online() {
    let mut lab = Lab::with(1, |config| config.spiel = true);
    // Elsewhere, so that nobody here declares them dead.
    let confds = [1, 2].map(|node| (node, lab.fid(node, "confd")));
    for (node, confd) in confds {
        lab.check(node, confd, "critical");
    }
    lab.run(S);
    // What was asked before the confds were seen to fail is of the lab's own start.
    lab.restart(0, |config| config.spiel = true);
    lab.nodes[0].calls.clear();
    lab.run(S * 10);
    assert!(lab.nodes[0].calls.is_empty(), "one confd of three is no quorum");
    let early = start(&mut lab, "repair-start", POOL);
    assert_eq!(refusal(&lab, early).0, 503);
    let (node, confd) = confds[0];
    lab.check(node, confd, "passing");
    lab.run(S);
    assert_eq!(next(&lab, 0), Op::Begin { profile: Fid::typed(b'p', 1, 0) });
    answer(&mut lab, 0, Err(Errno::ETIMEDOUT));
    assert_eq!(lab.saw(0, FactKind::SpielFailed), 1);
    let early = start(&mut lab, "repair-start", POOL);
    let (status, why) = refusal(&lab, early);
    assert!(status == 503 && why.contains("ETIMEDOUT"), "{why}");
    lab.run(S);
    answer(&mut lab, 0, Ok(Answer::Done));
    start(&mut lab, "repair-start", POOL);
    assert_eq!(next(&lab, 0), sns("repair-start"));
}

/// A check of a pid passes while a confd is formatted, and a library that begins with that waits for ever.
#[test]
fn a_confd_that_is_being_formatted_is_none() {
    let mut lab = Lab::with(1, |config| config.spiel = true);
    let confds = [1, 2].map(|node| lab.fid(node, "confd"));
    for confd in confds {
        // Its check passes, and it has not said a word of itself.
        lab.consul("DELETE", &format!("/v1/kv/processes/{confd}"), "");
    }
    lab.restart(0, |config| config.spiel = true);
    lab.nodes[0].calls.clear();
    lab.run(S * 10);
    assert!(lab.nodes[0].calls.is_empty());
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    lab.consul("PUT", &format!("/v1/kv/processes/{}", confds[0]), word);
    lab.run(S);
    assert!(matches!(next(&lab, 0), Op::Begin { .. }));
}

/// An I/O service says so when there was nothing to repair, too.
#[test]
fn what_a_repair_comes_to_is_no_reason_to_stop() {
    for spiel in [true, false] {
        let mut lab = Lab::with(1, |config| config.spiel = spiel);
        let ios = lab.fid(0, "ios");
        lab.link(0, ios);
        let msg = lab.say(0, ios, Body::SnsErr(SnsErr { errcode: 2, opcode: 1 }));
        lab.run(S * 2);
        assert!(lab.nodes[0].acks.contains(&msg));
        assert_eq!(lab.saw(0, FactKind::SnsFailed), usize::from(spiel));
        assert_eq!(lab.nodes[0].exited, !spiel, "the specification's panic is the wire's");
    }
}

#[test]
fn a_stop_answers_who_waits() {
    let mut lab = up(1, |_| {});
    let waiting = start(&mut lab, "repair-start", POOL);
    lab.nodes[0].fault = Some(Fault::Hangs);
    lab.input(0, Input::Stop);
    assert_eq!(refusal(&lab, waiting).0, 503);
    let late = start(&mut lab, "repair-start", POOL);
    assert_eq!(refusal(&lab, late).0, 503);
}

/// Old daemons all carry it out at once.
#[test]
fn d21_an_operation_of_the_queue_is_the_leader_s() {
    let mut lab = up(2, |config| {
        config.elect = true;
        (config.time.filesystem, config.time.bytecount) = (Duration::ZERO, Duration::ZERO);
    });
    lab.run(S * 5);
    let leads: Vec<usize> = (0..2).filter(|node| lab.view(*node).leads).collect();
    let [leader] = leads[..] else { panic!("{leads:?} lead") };
    let epoch: u64 = lab.kv("epoch").expect("it is there").parse().expect("a number");
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
    append(&mut lab, &messages);
    for node in 0..2 {
        let id = post(&mut lab, node);
        lab.run(MS * 500);
        assert_eq!(lab.response(node, id).map(|(status, _)| status), Some(200));
    }
    let asked = [0, 1].map(|node| lab.nodes[node].calls.len());
    assert_eq!((asked[leader], asked[1 - leader]), (1, 0));
    assert_eq!(next(&lab, leader), sns("repair-start"));
    assert_eq!(
        lab.saw(leader, FactKind::QueueSkipped),
        3,
        "one is under way, no pool, no operation"
    );
    assert_eq!(lab.saw(1 - leader, FactKind::QueueSkipped), 1, "no operation");
}
