//! Declarations of death: the processes that health reports as dead, and the node that declares them.

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;
use hax_sim::cluster::Shape;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_dead_process_of_our_node_is_declared_stopped() {
    let mut cluster = TestCluster::new(2);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let near = cluster.link(0, confd);
    let far = cluster.fid(1, "confd");
    let far = cluster.link(1, far);
    cluster.set_check(0, ios, "warning");
    // The process never had a link here, so its check is the only evidence against it.
    cluster.run(MS * 5_800);
    assert_eq!(cluster.record(ios), "STOPPED");
    assert_eq!(cluster.count_facts(0, FactKind::ProcessDied), 1);
    assert_eq!(
        cluster.count_facts(1, FactKind::ProcessDied),
        0,
        "another node does not answer for it"
    );
    assert_eq!(cluster.take_sent(0, near, ios), [ObjectState::Transient]);
    assert_eq!(cluster.take_sent(1, far, ios), [ObjectState::Transient, ObjectState::Failed]);
}

#[test]
fn a_process_that_has_just_started_is_given_time_for_its_check() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 4_800);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED", "its link lives");
    cluster.run(MS * 800);
    assert_eq!(cluster.record(ios), "STOPPED");
    // The check has been failing since before these events, so it is no evidence about them.
    cluster.event(0, ios, ProcessEventKind::Starting);
    cluster.event(0, ios, ProcessEventKind::Started);
    cluster.run(MS * 2_000);
    assert_eq!(cluster.record(ios), "STARTED");
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 2_800);
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 800);
    let link = cluster.nodes[0].links[&ios];
    cluster.input(0, Input::Motr(Event::LinkDown { link }));
    cluster.run(MS * 10);
    assert_eq!(cluster.record(ios), "STOPPED", "now it does");
}

#[test]
fn a_check_that_recovers_before_the_write_saves_the_process() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let post = |status, index| {
        format!(
            r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "another", "Status": "{status}",
                "ServiceID": "{key}", "ModifyIndex": {index}}}]}}]"#,
            key = ios.key
        )
    };
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.post(0, "/", &post("critical", 30));
    cluster.run(MS * 50);
    cluster.post(0, "/", &post("passing", 31));
    cluster.nodes[0].fault = None;
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
}

#[test]
fn only_the_leader_writes_for_a_dead_node_and_derives_it_again_when_it_becomes_one() {
    let mut cluster = TestCluster::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    let dead = cluster.fid(2, "ios");
    cluster.run(MS * 1_000);
    assert!(!cluster.view(1).leads, "the lock is another's");
    cluster.set_alive(2, false);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.record(dead), "DTM_RECOVERED", "nobody answers for it");
    cluster.free_the_lock();
    cluster.run(MS * 2_000);
    assert!(cluster.view(1).leads);
    assert_eq!(
        cluster.record(dead),
        "DTM_RECOVERED",
        "the leader gives it time, from when it saw it itself"
    );
    cluster.run(MS * 5_000);
    assert_eq!(cluster.record(dead), "STOPPED");
    assert_eq!(cluster.count_facts(0, FactKind::ProcessDied), 0);
}

/// Consul's servers remove an unreachable node, and all registrations on it. A leader that starts later finds
/// no failing check.
#[test]
fn a_node_that_was_dropped_from_the_catalog_is_dead_as_well() {
    let mut cluster = TestCluster::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    let (dead, confd) = (cluster.fid(2, "ios"), cluster.fid(0, "confd"));
    let other = cluster.link(0, confd);
    cluster.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu3"}"#);
    cluster.run(MS * 1_000);
    assert_eq!(
        cluster.last_state(0, other, dead),
        None,
        "its word stands until the leader denies it"
    );
    cluster.free_the_lock();
    cluster.run(MS * 7_000);
    assert!(cluster.view(1).leads);
    assert_eq!(cluster.record(dead), "STOPPED");
    assert_eq!(cluster.last_state(0, other, dead), Some(ObjectState::Failed));
}

#[test]
fn what_died_while_nobody_looked_is_found_at_the_start() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.set_check(0, ios, "critical");
    cluster.nodes[0].fault = None;
    cluster.restart(0, |_| {});
    cluster.run(MS * 5_500);
    assert_eq!(cluster.record(ios), "STOPPED");
}

#[test]
fn a_process_that_was_only_silent_is_taken_back() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 5_800);
    assert_eq!(cluster.record(ios), "STOPPED");
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 2_800);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
    assert_eq!(cluster.last_state(0, other, ios), Some(ObjectState::Online));
    assert_eq!(cluster.count_facts(0, FactKind::ProcessLives), 1);
}

/// A check of the pid passes as soon as the process runs, and the link may look as if it had never been down.
#[test]
fn a_new_life_whose_check_passes_before_it_asks_is_not_taken_for_the_old_one() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 5_800);
    let _failed = cluster.take_sent(0, other, ios);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 700);
    cluster.ask(0, ios, true, 7);
    cluster.run(MS * 5_000);
    assert_eq!(cluster.count_facts(0, FactKind::ProcessLives), 0);
    assert_eq!(cluster.take_sent(0, other, ios), [], "it is known to have failed");
}

#[test]
fn a_process_whose_link_is_down_is_not_taken_back_whatever_answers_at_its_port() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let link = cluster.link(0, ios);
    cluster.input(0, Input::Motr(Event::LinkDown { link }));
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 800);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 2_800);
    assert_eq!(cluster.record(ios), "STOPPED");
    // The process starts, and the start is counted. Its next report is its new record.
    cluster.ask(0, ios, true, 7);
    cluster.run(MS * 50);
    cluster.event(0, ios, ProcessEventKind::Started);
    assert_eq!(cluster.record(ios), "STARTED");
}

#[test]
fn a_process_that_said_itself_that_it_has_stopped_is_not_taken_back() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 800);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 2_800);
    assert_eq!(cluster.record(ios), "STOPPED");
}

#[test]
fn a_check_that_passes_again_while_the_death_is_written_takes_it_back() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.set_check(0, ios, "warning");
    // Consul executes the write, and its response is lost. Meanwhile the check passes.
    cluster.nodes[0].fault = Some(Fault::Loses);
    cluster.run(MS * 300);
    cluster.set_check(0, ios, "passing");
    cluster.nodes[0].fault = None;
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
}

/// The leader declares the death while the node is cut off. The node's hax has restarted since then.
#[test]
fn what_was_declared_by_another_is_taken_back_by_a_hax_that_never_saw_it_alive() {
    let mut cluster = TestCluster::with(2, |config| config.elect = config.node.as_ref() == "ssu1");
    cluster.run(MS * 2_500);
    cluster.free_the_lock();
    cluster.run(MS * 2_000);
    assert!(cluster.view(0).leads);
    let (ios, other) = (cluster.fid(1, "ios"), cluster.fid(1, "confd"));
    cluster.nodes[1].fault = Some(Fault::Hangs);
    cluster.set_alive(1, false);
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(ios), "STOPPED");
    cluster.nodes[1].fault = None;
    cluster.restart(1, |_| {});
    cluster.set_alive(1, true);
    cluster.run(MS * 2_800);
    // The record may concern a life that ended with the node: the process has not sent anything since.
    assert_eq!(cluster.record(ios), "STOPPED");
    cluster.link(1, ios);
    cluster.run(MS * 50);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED", "it speaks, and it did not begin");
    assert_eq!(cluster.record(other), "STOPPED", "the other one is silent");
    // The other process starts anew, so its record from its last life is not restored.
    cluster.ask(1, other, true, 7);
    cluster.run(MS * 1_500);
    cluster.set_check(1, other, "warning");
    cluster.run(MS * 800);
    cluster.set_check(1, other, "passing");
    cluster.run(MS * 2_800);
    assert_eq!(cluster.record(other), "STOPPED");
}

/// Returns the keys at and below all nodes.
fn node_keys(cluster: &mut TestCluster) -> Vec<String> {
    let (_, keys) = cluster.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    serde_json::from_str(&keys).expect("keys")
}

/// Counts the entries of a process's devices by their state.
fn devices(cluster: &mut TestCluster, process: Fid) -> BTreeMap<String, usize> {
    let keys = node_keys(cluster);
    let own = |key: &&String| key.contains(&format!("/{process}/")) && key.contains("/sdevs/");
    let mut found = BTreeMap::new();
    for key in keys.iter().filter(own) {
        *found.entry(cluster.state_in(key)).or_default() += 1;
    }
    found
}

fn many_drives() -> (TestCluster, Fid) {
    let shape = Shape { drives: 100, ..Shape::like_hare(1) };
    let mut cluster = TestCluster::of(&shape, 1, |_| {});
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    cluster.run(MS * 1_000);
    assert!(devices(&mut cluster, ios).keys().eq(["online"]));
    (cluster, ios)
}

#[test]
fn half_a_death_is_made_whole_and_taken_back() {
    let (mut cluster, ios) = many_drives();
    // The write takes several transactions, and after the first one Consul fails for a while.
    cluster.nodes[0].transactions = Some(1);
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 6_000);
    assert_eq!(devices(&mut cluster, ios).len(), 2);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 500);
    cluster.nodes[0].transactions = None;
    cluster.run(MS * 60_000);
    assert!(devices(&mut cluster, ios).keys().eq(["online"]), "{:?}", devices(&mut cluster, ios));
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
}

#[test]
fn half_a_life_is_made_whole_and_taken_back() {
    let (mut cluster, ios) = many_drives();
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 20_000);
    assert!(devices(&mut cluster, ios).keys().eq(["offline"]));
    cluster.nodes[0].transactions = Some(1);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 6_000);
    assert_eq!(devices(&mut cluster, ios).len(), 2);
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 500);
    cluster.nodes[0].transactions = None;
    cluster.run(MS * 60_000);
    assert!(devices(&mut cluster, ios).keys().eq(["offline"]), "{:?}", devices(&mut cluster, ios));
    assert_eq!(cluster.record(ios), "STOPPED");
}

/// Adds a second I/O process on the node of `ios`, with a link. Returns it with the node's key.
fn another_ios(cluster: &mut TestCluster, ios: Fid) -> (Fid, String) {
    let keys = node_keys(cluster);
    let own = keys.iter().find(|key| key.contains(&format!("/processes/{ios}"))).expect("a key");
    let node = own.split("/processes/").next().expect("a node").to_owned();
    let new = Fid::process(1_234);
    let key = format!("/v1/kv/{node}/processes/{new}");
    cluster.consul("PUT", &key, r#"{"name": "m0_server", "state": "unknown"}"#);
    let service = format!("{key}/services/0x7300000000000001:0x4d2");
    cluster.consul("PUT", &service, r#"{"name": "ios", "state": "unknown"}"#);
    cluster.run(MS * 1_000);
    cluster.link(0, new);
    (new, node)
}

#[test]
fn d19_a_node_is_up_while_one_of_its_io_processes_is() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    let (other, node) = another_ios(&mut cluster, ios);
    for process in [ios, other] {
        cluster.event(0, process, ProcessEventKind::DtmRecovered);
    }
    cluster.run(MS * 1_000);
    assert_eq!(cluster.state_in(&node), "M0_NC_ONLINE");
    // The check of one process fails for a moment while the other process stops.
    cluster.set_check(0, ios, "warning");
    cluster.run(MS * 300);
    cluster.event(0, other, ProcessEventKind::Stopping);
    cluster.event(0, other, ProcessEventKind::Stopped);
    cluster.run(MS * 1_000);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 10_000);
    assert_eq!(cluster.state_in(&node), "M0_NC_ONLINE", "the first one serves");
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.state_in(&node), "M0_NC_TRANSIENT", "the last one has gone");
    cluster.event(0, other, ProcessEventKind::Started);
    cluster.run(MS * 1_000);
    assert_ne!(cluster.state_in(&node), "M0_NC_TRANSIENT", "the first one is back");
}

#[test]
fn f22_nobody_is_declared_dead_by_health_that_is_old() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 4_950);
    // The process is healthy again, and no watch reports it in time.
    cluster.drop_blocked_queries(0);
    cluster.set_check(0, ios, "passing");
    cluster.run(MS * 20_000);
    assert_eq!(cluster.count_facts(0, FactKind::ProcessDied), 0);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
    assert!(!cluster.take_sent(0, link, ios).contains(&ObjectState::Failed));
    // A dead process is declared dead, once Consul responds again.
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 4_000);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.run(MS * 8_000);
    assert_eq!(cluster.count_facts(0, FactKind::ProcessDied), 0);
    cluster.nodes[0].fault = None;
    cluster.run(MS * 20_000);
    assert_eq!(
        (cluster.count_facts(0, FactKind::ProcessDied), cluster.record(ios)),
        (1, "STOPPED".into())
    );
}
