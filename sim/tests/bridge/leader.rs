//! The election: the choice of the leader, its duration, and the rights of the leader.

use std::time::Duration;

use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

fn elect(config: &mut hax_core::bridge::config::Config) {
    config.elect = true;
}

/// Releases the lock of the leader that the configuration came with.
///
/// If the hax of that node has already ended the session, a lock delay applies.
fn free(cluster: &mut TestCluster) {
    let (_, leader) = cluster.consul("GET", "/v1/kv/leader", "");
    let leader: serde_json::Value = serde_json::from_str(&leader).expect("JSON");
    if let Some(session) = leader[0]["Session"].as_str() {
        cluster.consul("PUT", &format!("/v1/kv/leader?release={session}"), "");
    }
    cluster.run(MS * 2_000);
}

impl TestCluster {
    /// Releases the leader's lock.
    pub(crate) fn free_the_lock(&mut self) {
        let (_, leader) = self.consul("GET", "/v1/kv/leader", "");
        let leader: serde_json::Value = serde_json::from_str(&leader).expect("JSON");
        let session = leader[0]["Session"].as_str().expect("a session").to_owned();
        self.consul("PUT", &format!("/v1/kv/leader?release={session}"), "");
    }
}

fn leads(cluster: &TestCluster) -> Vec<usize> {
    (0..cluster.nodes.len()).filter(|node| cluster.view(*node).leads).collect()
}

#[test]
fn d39_exactly_one_leads_and_its_loss_is_made_up_for_within_two_seconds() {
    let mut cluster = TestCluster::with(3, elect);
    free(&mut cluster);
    cluster.run(MS * 1_000);
    let first = leads(&cluster);
    assert_eq!(first.len(), 1);
    let name = format!("ssu{}", first[0] + 1);
    assert_eq!(cluster.kv("leader"), Some(name));
    // The leader hangs: no heartbeat, no release.
    cluster.nodes[first[0]].fault = Some(Fault::Hangs);
    cluster.run(MS * 1_000);
    assert!(!cluster.view(first[0]).leads, "it does not believe in itself any more");
    cluster.run(MS * 1_000);
    let second = leads(&cluster);
    assert_eq!(second.len(), 1);
    assert_ne!(second, first);
}

#[test]
fn there_are_never_two() {
    let mut cluster = TestCluster::with(3, elect);
    free(&mut cluster);
    for round in 0..60 {
        let node = round % 3;
        cluster.nodes[node].fault = (round % 2 == 0).then_some(Fault::Hangs);
        for _ in 0..20 {
            cluster.run(MS * 10);
            assert!(leads(&cluster).len() <= 1);
        }
    }
}

#[test]
fn a_stop_releases_the_lock_at_once() {
    let mut cluster = TestCluster::with(2, elect);
    free(&mut cluster);
    cluster.run(MS * 1_000);
    let first = leads(&cluster)[0];
    cluster.input(first, Input::Stop);
    cluster.run(MS * 500);
    assert!(cluster.nodes[first].exited);
    assert_eq!(leads(&cluster), [1 - first]);
    let (_, services) = cluster.consul_at(first, "GET", "/v1/agent/services", "");
    assert!(!services.contains("hax-leader"), "{services}");
}

#[test]
fn d39_a_leader_whose_confd_dies_leaves_the_lead_to_one_whose_confd_lives() {
    let mut cluster = TestCluster::with(2, elect);
    free(&mut cluster);
    cluster.run(MS * 1_000);
    let first = leads(&cluster)[0];
    let confd = cluster.fid(first, "confd");
    cluster.set_check(first, confd, "warning");
    cluster.run(MS * 1_500);
    assert_eq!(leads(&cluster), [1 - first]);
    assert_eq!(cluster.count_facts(first, FactKind::LeaderLeft), 1);
    cluster.set_check(first, confd, "passing");
    cluster.run(MS * 1_500);
    assert_eq!(leads(&cluster), [1 - first], "and keeps it");
}

/// No other candidate could take the lead when the leader's confd died.
#[test]
fn d39_a_leader_without_a_confd_leaves_the_lead_to_whoever_stands_later() {
    let mut cluster = TestCluster::with(2, elect);
    free(&mut cluster);
    cluster.run(MS * 1_000);
    let first = leads(&cluster)[0];
    let other = 1 - first;
    cluster.restart(other, |config| config.elect = false);
    let confd = cluster.fid(first, "confd");
    cluster.set_check(first, confd, "warning");
    cluster.run(MS * 20_000);
    assert_eq!(leads(&cluster), [first], "it is better than none");
    let left = cluster.count_facts(first, FactKind::LeaderLeft);
    cluster.run(MS * 60_000);
    assert_eq!(
        cluster.count_facts(first, FactKind::LeaderLeft),
        left,
        "and is not given up for nobody"
    );
    cluster.restart(other, elect);
    cluster.run(MS * 15_000);
    assert_eq!(leads(&cluster), [other]);
    assert_eq!(cluster.kv("leader"), Some(format!("ssu{}", other + 1)));
}

#[test]
fn values_of_the_old_scripts_are_understood() {
    let mut cluster = TestCluster::with(1, elect);
    // A shutdown overwrites the value and leaves the session.
    cluster.consul("PUT", "/v1/kv/leader", "elect2805");
    cluster.run(MS * 1_000);
    assert!(leads(&cluster).is_empty(), "its owner may still write its name again");
    // The lock delay of that session is Consul's default of 15 s.
    cluster.run(MS * 21_000);
    assert_eq!(leads(&cluster), [0]);
    assert_eq!(cluster.kv("leader").as_deref(), Some("ssu1"));
    // A script overwrites our own value, and hax corrects it.
    cluster.consul("PUT", "/v1/kv/leader", "elect77");
    cluster.run(MS * 500);
    assert_eq!(cluster.kv("leader").as_deref(), Some("ssu1"));
    assert_eq!(leads(&cluster), [0]);
}

#[test]
fn who_is_told_not_to_stand_does_not() {
    let mut cluster = TestCluster::new(1);
    free(&mut cluster);
    cluster.run(MS * 3_000);
    assert!(leads(&cluster).is_empty());
    assert_eq!(cluster.count_facts(0, FactKind::LeaderStands), 0);
}

#[test]
fn a_lock_that_was_won_and_lost_between_two_looks_is_not_believed_in() {
    let mut cluster = TestCluster::with(1, elect);
    free(&mut cluster);
    cluster.run(MS * 1_000);
    assert_eq!(leads(&cluster), [0]);
    // The session ends, and the session of the next holder too, before hax reads the lock again.
    for _ in 0..3 {
        free(&mut cluster);
        cluster.run(MS);
        free(&mut cluster);
        cluster.run(MS * 1_500);
        assert_eq!(leads(&cluster), [0]);
        let (_, leader) = cluster.consul("GET", "/v1/kv/leader", "");
        assert!(leader.contains("Session"), "{leader}");
    }
}

#[test]
fn answers_without_an_index_are_asked_for_less_and_less_often() {
    let mut cluster = TestCluster::with(1, elect);
    cluster.nodes[0].fault = Some(Fault::NoIndex);
    // The pending query gets a normal response. All later responses come at once.
    free(&mut cluster);
    let before = cluster.nodes[0].targets.len();
    cluster.run(MS * 10_000);
    let asked = cluster.nodes[0].targets[before..].iter();
    let watches = asked.filter(|(_, target)| target.starts_with("/v1/kv/leader?")).count();
    assert!((2..20).contains(&watches), "{watches} in 10 s");
}

/// hare's bootstrap has left the lock with a session of the first node, whose checks continue to pass.
#[test]
fn the_lock_that_the_old_daemon_of_this_node_holds_is_taken_over() {
    let mut cluster = TestCluster::with(2, elect);
    assert_eq!(cluster.kv("leader").as_deref(), Some("ssu1"));
    // The lock delay of that session is 2 s.
    cluster.run(MS * 4_000);
    assert_eq!(leads(&cluster).len(), 1);
    assert_eq!(cluster.count_facts(0, FactKind::LeaderStale), 1);
}

#[test]
fn a_lock_that_nobody_holds_names_no_leader() {
    let mut cluster = TestCluster::with(1, elect);
    let leader = |cluster: &mut TestCluster| {
        let id = cluster.http(0, "GET", "/status", "");
        let (_, body) = cluster.response(0, id).expect("an answer");
        let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        status["leader"].clone()
    };
    // The session of the previous daemon has been ended, and its value remains.
    assert_eq!(cluster.kv("leader").as_deref(), Some("ssu1"));
    let said = leader(&mut cluster);
    assert_eq!((&said["stands"], &said["node"]), (&true.into(), &serde_json::Value::Null));
    cluster.run(MS * 4_000);
    let said = leader(&mut cluster);
    assert_eq!((&said["holds"], &said["node"]), (&true.into(), &"ssu1".into()));
    assert!(said["session"].is_string(), "{said}");
}
