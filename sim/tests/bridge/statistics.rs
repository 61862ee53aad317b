//! Statistics that the leader writes.

use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::ha::fact::FactKind;
use hax_core::ha::spiel::{Answer, Counter, Filesystem, Op, Pver};
use serde_json::Value;

use super::spiel::{answer, next, up};
use super::test_cluster::TestCluster;

const S: Duration = Duration::from_secs(1);
const PVER: Fid = Fid::typed(b'v', 1, 6);

/// Creates a leader whose library has received the first call.
fn leader() -> TestCluster {
    let mut cluster = up(1, |config| config.elect = true);
    cluster.run(S * 5);
    assert!(cluster.view(0).leads);
    cluster
}

fn counter(pver: Fid, user: u64, bytes: u64) -> Counter {
    Counter { pver, user, bytes, objects: 1 }
}

fn space(total_disk: u64) -> Answer {
    let space = Filesystem { total_disk, svc_total: 3, svc_replied: 3, ..Filesystem::default() };
    Answer::Filesystem(Box::new(space))
}

/// Responds to the calls for counters. Returns the I/O services in order of the calls.
fn count(cluster: &mut TestCluster, says: impl Fn(Fid) -> Result<Answer, Errno>) -> Vec<Fid> {
    let mut asked = Vec::new();
    while let Some(Op::Counters { process }) = cluster.nodes[0].calls.front().map(|call| call.op) {
        assert_eq!(cluster.nodes[0].calls.len(), 1, "one question at a time");
        asked.push(process);
        answer(cluster, 0, says(process));
    }
    cluster.run(Duration::from_millis(50));
    asked
}

#[test]
fn d28_statistics_go_on_after_what_fails() {
    let mut cluster = leader();
    assert_eq!(next(&cluster, 0), Op::Filesystem);
    answer(&mut cluster, 0, Err(Errno::EAGAIN));
    assert_eq!(cluster.count_facts(0, FactKind::StatisticsFailed), 1);
    assert_eq!(cluster.kv("stats/filesystem"), None);
    count(&mut cluster, |_| Err(Errno::ETIMEDOUT));
    cluster.run(S * 61);
    assert_eq!(next(&cluster, 0), Op::Filesystem, "sooner than usual");
    answer(&mut cluster, 0, Ok(space(1 << 40)));
    cluster.run(S);
    let text = cluster.kv("stats/filesystem").expect("it is taken down");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["stats"]["fs_total_disk"], 1_u64 << 40);
    assert_eq!(value["stats"]["fs_svc_replied"], 3);
    assert!(value["timestamp"].as_f64().is_some_and(|at| at > 1.7e9), "{value}");
    let shown = cluster.http(0, "GET", "/v1/cluster/status", "");
    cluster.run(S);
    assert!(cluster.response(0, shown).unwrap().1.contains("1099511627776"));
}

/// A Motr without DTM never reports that it has recovered.
#[test]
fn an_io_service_that_recovers_for_ever_is_there() {
    let mut cluster = up(1, |config| config.elect = true);
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    for node in 0..3 {
        let ios = cluster.fid(node, "ios");
        cluster.consul("PUT", &format!("/v1/kv/processes/{ios}"), word);
    }
    cluster.run(S * 5);
    assert_eq!(next(&cluster, 0), Op::Filesystem);
}

#[test]
fn bytes_are_counted_by_the_state_of_their_pool_version() {
    let mut cluster = leader();
    answer(&mut cluster, 0, Ok(space(1)));
    cluster.run(S);
    let silent = cluster.fid(1, "ios");
    let (other, gone) = (Fid::typed(b'v', 1, 7), Fid::typed(b'v', 1, 8));
    // The last counters of this process remain in Consul.
    let key = |ios: Fid, pver: Fid| format!("ioservices/{ios}/pvers/{pver}/users/1");
    let before = key(silent, PVER);
    cluster.consul("PUT", &format!("/v1/kv/{before}"), r#"{"bc": 600, "object_cnt": 2}"#);
    cluster.consul("PUT", "/v1/kv/ioservices/junk", "x");
    let asked = count(&mut cluster, |ios| {
        if ios == silent {
            return Err(Errno::ETIMEDOUT);
        }
        let counters = [counter(PVER, 1, 6_000), counter(other, 1, 60), counter(gone, 1, 7)];
        Ok(Answer::Counters(counters.into()))
    });
    assert!(asked.len() > 2 && asked.contains(&silent), "{asked:?}");
    let others = asked.len() as u64 - 1;
    let mut judged = Vec::new();
    while let Some(Op::Pver { pver }) = cluster.nodes[0].calls.front().map(|call| call.op) {
        judged.push(pver);
        let of = |state| Ok(Answer::Pver(Pver { state, data_units: 4, parity_units: 2 }));
        let says = if pver == PVER { of(0) } else { of(2) };
        answer(&mut cluster, 0, if pver == gone { Err(Errno::ENOENT) } else { says });
    }
    assert_eq!(judged.len(), 3, "{judged:?}");
    cluster.run(S);
    let sum = |bytes: u64| (bytes - bytes.div_ceil(6) * 2).to_string();
    assert_eq!(cluster.kv("bytecount/healthy"), Some(sum(others * 6_000 + 600)));
    assert_eq!(cluster.kv("bytecount/critical"), Some(sum(others * 60)));
    assert_eq!(cluster.kv("bytecount/degraded"), Some("0".into()));
    assert_eq!(cluster.kv("bytecount/damaged"), Some("0".into()));
    let ios = asked.into_iter().find(|ios| *ios != silent).unwrap();
    let held = cluster.kv(&key(ios, PVER));
    assert_eq!(held, Some(r#"{"bc": 6000, "object_cnt": 1}"#.into()));
    assert_eq!(cluster.kv(&before), Some(r#"{"bc": 600, "object_cnt": 2}"#.into()));
    assert_eq!(cluster.count_facts(0, FactKind::StatisticsStored), 2);
}

/// A partial sum would look like the whole.
#[test]
fn what_is_not_known_of_a_pool_version_changes_no_sum() {
    let mut cluster = leader();
    answer(&mut cluster, 0, Ok(space(1)));
    cluster.run(S);
    cluster.consul("PUT", "/v1/kv/bytecount/healthy", "5");
    count(&mut cluster, |_| Ok(Answer::Counters(vec![counter(PVER, 1, 6)])));
    assert_eq!(next(&cluster, 0), Op::Pver { pver: PVER });
    answer(&mut cluster, 0, Err(Errno::EAGAIN));
    cluster.run(S);
    assert_eq!(cluster.kv("bytecount/healthy"), Some("5".into()));
    assert_eq!(cluster.count_facts(0, FactKind::StatisticsFailed), 1);
}

#[test]
fn space_is_not_taken_down_while_some_do_not_tell_of_theirs() {
    let mut cluster = up(1, |config| {
        config.elect = true;
        config.time.bytecount = Duration::ZERO;
    });
    let ios = cluster.fid(2, "ios");
    cluster.set_check(2, ios, "critical");
    cluster.run(S * 70);
    assert!(cluster.view(0).leads && cluster.nodes[0].calls.is_empty());
    cluster.set_check(2, ios, "passing");
    cluster.run(S * 70);
    assert_eq!(next(&cluster, 0), Op::Filesystem);
}

#[test]
fn only_who_holds_the_lock_takes_statistics_down() {
    let mut cluster = up(2, |config| config.elect = true);
    cluster.run(S * 5);
    let asked = [0, 1].map(|node| cluster.nodes[node].calls.len());
    let leader = usize::from(cluster.view(1).leads);
    assert_eq!((asked[leader], asked[1 - leader]), (1, 0));
    // The leader loses the lock while the library's call is in progress.
    let (_, held) = cluster.consul("GET", "/v1/kv/leader", "");
    let held: Value = serde_json::from_str(&held).expect("JSON");
    let session = held[0]["Session"].as_str().expect("a session").to_owned();
    cluster.consul("PUT", &format!("/v1/session/destroy/{session}"), "");
    answer(&mut cluster, leader, Ok(space(7)));
    assert_eq!(cluster.kv("stats/filesystem"), None, "the lock's check refuses it");
    cluster.run(S * 5);
    assert_eq!(cluster.kv("stats/filesystem"), None);
    let leader = usize::from(cluster.view(1).leads);
    assert_eq!(next(&cluster, leader), Op::Filesystem, "whoever leads newly begins at once");
    answer(&mut cluster, leader, Ok(space(8)));
    cluster.run(S);
    assert!(
        cluster.kv("stats/filesystem").is_some_and(|text| text.contains("\"fs_total_disk\": 8"))
    );
}

#[test]
fn many_counters_are_read_in_slices_and_written_in_transactions() {
    let mut cluster = up(1, |config| {
        config.elect = true;
        config.time.filesystem = Duration::ZERO;
        config.limit.entries_per_slice = 7;
    });
    cluster.run(S * 5);
    let counters: Vec<Counter> = (0..100).map(|user| counter(PVER, user, 6)).collect();
    let healthy = || Ok(Answer::Pver(Pver { state: 0, data_units: 2, parity_units: 1 }));
    let writes = |cluster: &TestCluster| {
        cluster.nodes[0].targets.iter().filter(|(_, t)| t == "/v1/txn").count()
    };
    let asked = count(&mut cluster, |_| Ok(Answer::Counters(counters.clone())));
    let sum = asked.len() * 600;
    let before = writes(&cluster);
    answer(&mut cluster, 0, healthy());
    cluster.run(S);
    assert_eq!(cluster.kv("bytecount/healthy"), Some((sum - sum.div_ceil(3)).to_string()));
    assert_eq!(writes(&cluster) - before, (asked.len() * 100 + 4).div_ceil(63));
    // A second round does not write unchanged values again.
    cluster.run(S * 600);
    let before = writes(&cluster);
    count(&mut cluster, |_| Ok(Answer::Counters(counters.clone())));
    answer(&mut cluster, 0, healthy());
    cluster.run(S);
    assert_eq!(writes(&cluster) - before, 1, "the sums");
    assert_eq!(cluster.kv("bytecount/healthy"), Some((sum - sum.div_ceil(3)).to_string()));
}

#[test]
fn a_library_that_does_not_answer_is_asked_nothing_else() {
    let mut cluster = leader();
    assert_eq!(next(&cluster, 0), Op::Filesystem);
    cluster.run(S * 1_300);
    assert_eq!(cluster.nodes[0].calls.len(), 1);
    assert_eq!(
        cluster.count_facts(0, FactKind::StatisticsFailed),
        2,
        "said each time that it is due"
    );
}
