//! The freshness of replicas: by watches that Consul's leader answers, and by the servers' own state while
//! there is no leader.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::LinkId;
use hax_core::bridge::io::Input;
use hax_core::consul::port::{Answer, Reply};
use hax_core::ha::fact::FactKind;
use hax_core::ha::note::ObjectState;

use crate::host::LAG;
use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

/// A bridge with a link, and a process of another node.
struct Scene {
    cluster: TestCluster,
    link: LinkId,
    ios: Fid,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = TestCluster::new(1);
        let confd = cluster.fid(0, "confd");
        let link = cluster.link(0, confd);
        let ios = cluster.fid(1, "ios");
        Self { cluster, link, ios }
    }

    /// Creates a scene whose Consul is one server of several. Its watches have been sent again.
    fn behind_a_follower() -> Self {
        let mut scene = Self::new();
        scene.cluster.nodes[0].fault = Some(Fault::Follows);
        scene.settles();
        scene
    }

    /// Waits until the watches and the queries that detect their hanging are in flight.
    fn settles(&mut self) {
        self.cluster.run(MS * 1_000);
        self.cluster.take_sent(0, self.link, self.ios);
    }

    /// Writes the state of the process. Returns the states that the link gets within this time.
    fn last_state(&mut self, state: &str, within: Duration) -> Vec<ObjectState> {
        let key = format!("/v1/kv/processes/{}", self.ios);
        let value = format!(
            r#"{{"state": "M0_CONF_HA_PROCESS_{state}", "type": "M0_CONF_HA_PROCESS_M0D"}}"#
        );
        self.cluster.consul("PUT", &key, &value);
        self.cluster.run(within);
        self.cluster.take_sent(0, self.link, self.ios)
    }

    /// Returns the calls since the last call of this function.
    fn asked(&mut self) -> Vec<String> {
        let targets = std::mem::take(&mut self.cluster.nodes[0].targets);
        targets.into_iter().map(|(_, target)| target).collect()
    }
}

/// Returns whether a target is that of a full watch of a table with a possibly stale response.
fn is_stale_watch(target: &str) -> bool {
    let full = ["/v1/kv/processes/?recurse", "/v1/health/state/any?"];
    full.iter().any(|full| target.starts_with(full)) && target.contains("stale")
}

#[test]
fn f15_a_change_is_told_before_the_next_heartbeat_of_consuls_leader() {
    let mut scene = Scene::behind_a_follower();
    assert_eq!(scene.last_state("STOPPED", MS), [ObjectState::Failed]);
    scene.settles();
    let (ios, link) = (scene.ios, scene.link);
    scene.last_state("DTM_RECOVERED", MS * 1_000);
    // The same holds for the status of a check.
    scene.cluster.set_check(1, ios, "critical");
    scene.cluster.run(MS);
    assert_eq!(scene.cluster.take_sent(0, link, ios), [ObjectState::Transient]);
    scene.settles();
    assert!(
        !scene.asked().iter().any(|target| is_stale_watch(target)),
        "nothing is wrong with its leader"
    );
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 0);
}

#[test]
fn f15_a_watch_that_hangs_without_a_leader_is_given_up_for_what_the_server_has() {
    let mut scene = Scene::behind_a_follower();
    scene.cluster.nodes[0].fault = Some(Fault::Leaderless);
    assert!(scene.last_state("STOPPED", LAG + MS * 299).is_empty(), "the watch is given time");
    scene.cluster.run(LAG + MS * 2);
    assert_eq!(scene.cluster.take_sent(0, scene.link, scene.ios), [ObjectState::Failed]);
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 1);
    // From here on a change takes no longer than the servers' heartbeat.
    scene.settles();
    assert_eq!(scene.last_state("DTM_RECOVERED", LAG + MS), [ObjectState::Online]);
    // This state lasts as long as there is no leader, and is reported once.
    scene.cluster.run(MS * 60_000);
    assert_eq!(scene.last_state("STOPPED", LAG + MS), [ObjectState::Failed]);
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 1);
    // There is a leader again.
    scene.cluster.nodes[0].fault = Some(Fault::Follows);
    scene.cluster.run(MS * 12_000);
    scene.settles();
    scene.asked();
    assert_eq!(scene.last_state("DTM_RECOVERED", MS), [ObjectState::Online], "at once");
    scene.settles();
    assert!(!scene.asked().iter().any(|target| is_stale_watch(target)));
}

#[test]
fn f15_a_watch_that_is_with_a_leader_of_before_is_replaced() {
    let mut scene = Scene::behind_a_follower();
    // A call from here on gets a response.
    assert!(!scene.cluster.drop_blocked_queries(0).is_empty());
    scene.asked();
    assert_eq!(scene.last_state("STOPPED", LAG + MS * 301), [ObjectState::Failed]);
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 1);
    scene.settles();
    let online = scene.last_state("DTM_RECOVERED", MS);
    assert_eq!(online, [ObjectState::Online], "the new one has no part in it");
    // The same holds for the other queries at the previous leader.
    scene.cluster.set_check(1, scene.ios, "critical");
    scene.cluster.run(MS);
    let told = scene.cluster.take_sent(0, scene.link, scene.ios);
    assert_eq!(told, [ObjectState::Transient]);
    let asked = scene.asked();
    assert!(asked.iter().any(|target| target.starts_with("/v1/kv/m0conf/?recurse&index=")));
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 1);
}

#[test]
fn f15_a_watch_that_fails_is_followed_by_one_of_the_server_alone() {
    let mut scene = Scene::behind_a_follower();
    scene.cluster.nodes[0].fault = Some(Fault::Headless);
    for id in scene.cluster.drop_blocked_queries(0) {
        let answer = Answer { status: 500, index: 0, body: "No cluster leader".into() };
        scene.cluster.input(0, Input::Consul(Reply { id, result: Ok(answer) }));
    }
    scene.settles();
    assert_eq!(scene.last_state("STOPPED", LAG + MS), [ObjectState::Failed]);
    assert_eq!(scene.cluster.count_facts(0, FactKind::WatchHangs), 0, "it did not hang");
    scene.cluster.nodes[0].fault = Some(Fault::Follows);
    scene.cluster.run(MS * 12_000);
    scene.settles();
    assert_eq!(scene.last_state("DTM_RECOVERED", MS), [ObjectState::Online]);
}
