//! Statistics that the leader takes down.

use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::ha::fact::FactKind;
use hax_core::ha::spiel::{Answer, Counter, Filesystem, Op, Pver};
use serde_json::Value;

use super::lab::Lab;
use super::spiel::{answer, next, up};

const S: Duration = Duration::from_secs(1);
const PVER: Fid = Fid::typed(b'v', 1, 6);

/// A leader of whom the library has been asked the first question.
fn leader() -> Lab {
    let mut lab = up(1, |config| config.elect = true);
    lab.run(S * 5);
    assert!(lab.view(0).leads);
    lab
}

fn counter(pver: Fid, user: u64, bytes: u64) -> Counter {
    Counter { pver, user, bytes, objects: 1 }
}

fn space(total_disk: u64) -> Answer {
    let space = Filesystem { total_disk, svc_total: 3, svc_replied: 3, ..Filesystem::default() };
    Answer::Filesystem(Box::new(space))
}

/// Answers what is asked of each I/O service; what of which.
fn count(lab: &mut Lab, says: impl Fn(Fid) -> Result<Answer, Errno>) -> Vec<Fid> {
    let mut asked = Vec::new();
    while let Some(Op::Counters { process }) = lab.nodes[0].calls.front().map(|call| call.op) {
        assert_eq!(lab.nodes[0].calls.len(), 1, "one question at a time");
        asked.push(process);
        answer(lab, 0, says(process));
    }
    lab.run(Duration::from_millis(50));
    asked
}

#[test]
fn d28_statistics_go_on_after_what_fails() {
    let mut lab = leader();
    assert_eq!(next(&lab, 0), Op::Filesystem);
    answer(&mut lab, 0, Err(Errno::EAGAIN));
    assert_eq!(lab.saw(0, FactKind::StatisticsFailed), 1);
    assert_eq!(lab.kv("stats/filesystem"), None);
    count(&mut lab, |_| Err(Errno::ETIMEDOUT));
    lab.run(S * 61);
    assert_eq!(next(&lab, 0), Op::Filesystem, "sooner than usual");
    answer(&mut lab, 0, Ok(space(1 << 40)));
    lab.run(S);
    let text = lab.kv("stats/filesystem").expect("it is taken down");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["stats"]["fs_total_disk"], 1_u64 << 40);
    assert_eq!(value["stats"]["fs_svc_replied"], 3);
    assert!(value["timestamp"].as_f64().is_some_and(|at| at > 1.7e9), "{value}");
    let shown = lab.http(0, "GET", "/v1/cluster/status", "");
    lab.run(S);
    assert!(lab.response(0, shown).unwrap().1.contains("1099511627776"));
}

/// A Motr that is built without DTM never says that it has recovered.
#[test]
fn an_io_service_that_recovers_for_ever_is_there() {
    let mut lab = up(1, |config| config.elect = true);
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    for node in 0..3 {
        let ios = lab.fid(node, "ios");
        lab.consul("PUT", &format!("/v1/kv/processes/{ios}"), word);
    }
    lab.run(S * 5);
    assert_eq!(next(&lab, 0), Op::Filesystem);
}

#[test]
fn bytes_are_counted_by_the_state_of_their_pool_version() {
    let mut lab = leader();
    answer(&mut lab, 0, Ok(space(1)));
    lab.run(S);
    let silent = lab.fid(1, "ios");
    let (other, gone) = (Fid::typed(b'v', 1, 7), Fid::typed(b'v', 1, 8));
    // What it said last stands in Consul.
    let key = |ios: Fid, pver: Fid| format!("ioservices/{ios}/pvers/{pver}/users/1");
    let before = key(silent, PVER);
    lab.consul("PUT", &format!("/v1/kv/{before}"), r#"{"bc": 600, "object_cnt": 2}"#);
    lab.consul("PUT", "/v1/kv/ioservices/junk", "x");
    let asked = count(&mut lab, |ios| {
        if ios == silent {
            return Err(Errno::ETIMEDOUT);
        }
        let counters = [counter(PVER, 1, 6_000), counter(other, 1, 60), counter(gone, 1, 7)];
        Ok(Answer::Counters(counters.into()))
    });
    assert!(asked.len() > 2 && asked.contains(&silent), "{asked:?}");
    let others = asked.len() as u64 - 1;
    let mut judged = Vec::new();
    while let Some(Op::Pver { pver }) = lab.nodes[0].calls.front().map(|call| call.op) {
        judged.push(pver);
        let of = |state| Ok(Answer::Pver(Pver { state, data_units: 4, parity_units: 2 }));
        let says = if pver == PVER { of(0) } else { of(2) };
        answer(&mut lab, 0, if pver == gone { Err(Errno::ENOENT) } else { says });
    }
    assert_eq!(judged.len(), 3, "{judged:?}");
    lab.run(S);
    let sum = |bytes: u64| (bytes - bytes.div_ceil(6) * 2).to_string();
    assert_eq!(lab.kv("bytecount/healthy"), Some(sum(others * 6_000 + 600)));
    assert_eq!(lab.kv("bytecount/critical"), Some(sum(others * 60)));
    assert_eq!(lab.kv("bytecount/degraded"), Some("0".into()));
    assert_eq!(lab.kv("bytecount/damaged"), Some("0".into()));
    let ios = asked.into_iter().find(|ios| *ios != silent).unwrap();
    let held = lab.kv(&key(ios, PVER));
    assert_eq!(held, Some(r#"{"bc": 6000, "object_cnt": 1}"#.into()));
    assert_eq!(lab.kv(&before), Some(r#"{"bc": 600, "object_cnt": 2}"#.into()));
    assert_eq!(lab.saw(0, FactKind::StatisticsStored), 2);
}

/// A part of a sum would be taken for the whole.
#[test]
fn what_is_not_known_of_a_pool_version_changes_no_sum() {
    let mut lab = leader();
    answer(&mut lab, 0, Ok(space(1)));
    lab.run(S);
    lab.consul("PUT", "/v1/kv/bytecount/healthy", "5");
    count(&mut lab, |_| Ok(Answer::Counters(vec![counter(PVER, 1, 6)])));
    assert_eq!(next(&lab, 0), Op::Pver { pver: PVER });
    answer(&mut lab, 0, Err(Errno::EAGAIN));
    lab.run(S);
    assert_eq!(lab.kv("bytecount/healthy"), Some("5".into()));
    assert_eq!(lab.saw(0, FactKind::StatisticsFailed), 1);
}

#[test]
fn space_is_not_taken_down_while_some_do_not_tell_of_theirs() {
    let mut lab = up(1, |config| {
        config.elect = true;
        config.time.bytecount = Duration::ZERO;
    });
    let ios = lab.fid(2, "ios");
    lab.check(2, ios, "critical");
    lab.run(S * 70);
    assert!(lab.view(0).leads && lab.nodes[0].calls.is_empty());
    lab.check(2, ios, "passing");
    lab.run(S * 70);
    assert_eq!(next(&lab, 0), Op::Filesystem);
}

#[test]
fn only_who_holds_the_lock_takes_statistics_down() {
    let mut lab = up(2, |config| config.elect = true);
    lab.run(S * 5);
    let asked = [0, 1].map(|node| lab.nodes[node].calls.len());
    let leader = usize::from(lab.view(1).leads);
    assert_eq!((asked[leader], asked[1 - leader]), (1, 0));
    // It loses the lock while the library thinks.
    let (_, held) = lab.consul("GET", "/v1/kv/leader", "");
    let held: Value = serde_json::from_str(&held).expect("JSON");
    let session = held[0]["Session"].as_str().expect("a session").to_owned();
    lab.consul("PUT", &format!("/v1/session/destroy/{session}"), "");
    answer(&mut lab, leader, Ok(space(7)));
    assert_eq!(lab.kv("stats/filesystem"), None, "the lock's check refuses it");
    lab.run(S * 5);
    assert_eq!(lab.kv("stats/filesystem"), None);
    let leader = usize::from(lab.view(1).leads);
    assert_eq!(next(&lab, leader), Op::Filesystem, "whoever leads newly begins at once");
    answer(&mut lab, leader, Ok(space(8)));
    lab.run(S);
    assert!(lab.kv("stats/filesystem").is_some_and(|text| text.contains("\"fs_total_disk\": 8")));
}

#[test]
fn many_counters_are_read_in_slices_and_written_in_transactions() {
    let mut lab = up(1, |config| {
        config.elect = true;
        config.time.filesystem = Duration::ZERO;
        config.limit.entries_per_slice = 7;
    });
    lab.run(S * 5);
    let counters: Vec<Counter> = (0..100).map(|user| counter(PVER, user, 6)).collect();
    let healthy = || Ok(Answer::Pver(Pver { state: 0, data_units: 2, parity_units: 1 }));
    let writes = |lab: &Lab| lab.nodes[0].targets.iter().filter(|(_, t)| t == "/v1/txn").count();
    let asked = count(&mut lab, |_| Ok(Answer::Counters(counters.clone())));
    let sum = asked.len() * 600;
    let before = writes(&lab);
    answer(&mut lab, 0, healthy());
    lab.run(S);
    assert_eq!(lab.kv("bytecount/healthy"), Some((sum - sum.div_ceil(3)).to_string()));
    assert_eq!(writes(&lab) - before, (asked.len() * 100 + 4).div_ceil(63));
    // Once more: what is so already is not written again.
    lab.run(S * 600);
    let before = writes(&lab);
    count(&mut lab, |_| Ok(Answer::Counters(counters.clone())));
    answer(&mut lab, 0, healthy());
    lab.run(S);
    assert_eq!(writes(&lab) - before, 1, "the sums");
    assert_eq!(lab.kv("bytecount/healthy"), Some((sum - sum.div_ceil(3)).to_string()));
}

#[test]
fn a_library_that_does_not_answer_is_asked_nothing_else() {
    let mut lab = leader();
    assert_eq!(next(&lab, 0), Op::Filesystem);
    lab.run(S * 1_300);
    assert_eq!(lab.nodes[0].calls.len(), 1);
    assert_eq!(lab.saw(0, FactKind::StatisticsFailed), 2, "said each time that it is due");
}
