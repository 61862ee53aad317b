//! Processes that health says are dead: who declares them so, and who does not.

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;
use hax_sim::cluster::Shape;

use crate::lab::{Fault, Lab};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_dead_process_of_our_node_is_declared_stopped() {
    let mut lab = Lab::new(2);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    let near = lab.link(0, confd);
    let far = lab.fid(1, "confd");
    let far = lab.link(1, far);
    lab.check(0, ios, "warning");
    // It never had a link here, so that nothing but its check speaks against it.
    lab.run(MS * 5_800);
    assert_eq!(lab.word(ios), "STOPPED");
    assert_eq!(lab.saw(0, FactKind::ProcessDied), 1);
    assert_eq!(lab.saw(1, FactKind::ProcessDied), 0, "another node does not answer for it");
    assert_eq!(lab.take_told(0, near, ios), [ObjectState::Transient]);
    assert_eq!(lab.take_told(1, far, ios), [ObjectState::Transient, ObjectState::Failed]);
}

#[test]
fn a_process_that_has_just_started_is_given_time_for_its_check() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    lab.check(0, ios, "warning");
    lab.run(MS * 4_800);
    assert_eq!(lab.word(ios), "DTM_RECOVERED", "its link lives");
    lab.run(MS * 800);
    assert_eq!(lab.word(ios), "STOPPED");
    // The check has been failing since before these words: it says nothing about them.
    lab.event(0, ios, ProcessEventKind::Starting);
    lab.event(0, ios, ProcessEventKind::Started);
    lab.run(MS * 2_000);
    assert_eq!(lab.word(ios), "STARTED");
    lab.check(0, ios, "passing");
    lab.run(MS * 2_800);
    lab.check(0, ios, "critical");
    lab.run(MS * 800);
    let link = lab.nodes[0].links[&ios];
    lab.input(0, Input::Motr(Event::LinkDown { link }));
    lab.run(MS * 10);
    assert_eq!(lab.word(ios), "STOPPED", "now it does");
}

#[test]
fn a_check_that_recovers_before_the_write_saves_the_process() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    let post = |status, index| {
        format!(
            r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "another", "Status": "{status}",
                "ServiceID": "{key}", "ModifyIndex": {index}}}]}}]"#,
            key = ios.key
        )
    };
    lab.nodes[0].fault = Some(Fault::Refuses);
    lab.post(0, "/", &post("critical", 30));
    lab.run(MS * 50);
    lab.post(0, "/", &post("passing", 31));
    lab.nodes[0].fault = None;
    lab.run(MS * 6_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
}

#[test]
fn only_the_leader_writes_for_a_dead_node_and_derives_it_again_when_it_becomes_one() {
    let mut lab = Lab::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    let dead = lab.fid(2, "ios");
    lab.run(MS * 1_000);
    assert!(!lab.view(1).leads, "the lock is another's");
    lab.alive(2, false);
    lab.run(MS * 1_000);
    assert_eq!(lab.word(dead), "DTM_RECOVERED", "nobody answers for it");
    lab.free_the_lock();
    lab.run(MS * 2_000);
    assert!(lab.view(1).leads);
    assert_eq!(
        lab.word(dead),
        "DTM_RECOVERED",
        "the leader gives it time, from when it saw it itself"
    );
    lab.run(MS * 5_000);
    assert_eq!(lab.word(dead), "STOPPED");
    assert_eq!(lab.saw(0, FactKind::ProcessDied), 0);
}

/// Consul's servers drop one of their own that they cannot reach, and all that was registered there: a
/// leader that comes to look later finds no failing check.
#[test]
fn a_node_that_was_dropped_from_the_catalog_is_dead_as_well() {
    let mut lab = Lab::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    let (dead, confd) = (lab.fid(2, "ios"), lab.fid(0, "confd"));
    let other = lab.link(0, confd);
    lab.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu3"}"#);
    lab.run(MS * 1_000);
    assert_eq!(lab.told(0, other, dead), None, "its word stands until the leader denies it");
    lab.free_the_lock();
    lab.run(MS * 7_000);
    assert!(lab.view(1).leads);
    assert_eq!(lab.word(dead), "STOPPED");
    assert_eq!(lab.told(0, other, dead), Some(ObjectState::Failed));
}

#[test]
fn what_died_while_nobody_looked_is_found_at_the_start() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.nodes[0].fault = Some(Fault::Refuses);
    lab.check(0, ios, "critical");
    lab.nodes[0].fault = None;
    lab.restart(0, |_| {});
    lab.run(MS * 5_500);
    assert_eq!(lab.word(ios), "STOPPED");
}

#[test]
fn a_process_that_was_only_silent_is_taken_back() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    let other = lab.link(0, confd);
    lab.check(0, ios, "warning");
    lab.run(MS * 5_800);
    assert_eq!(lab.word(ios), "STOPPED");
    lab.check(0, ios, "passing");
    lab.run(MS * 2_800);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
    assert_eq!(lab.told(0, other, ios), Some(ObjectState::Online));
    assert_eq!(lab.saw(0, FactKind::ProcessLives), 1);
}

/// Its pid is there as soon as it runs, and its link may look as if it had never been down.
#[test]
fn a_new_life_whose_check_passes_before_it_asks_is_not_taken_for_the_old_one() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    let other = lab.link(0, confd);
    lab.check(0, ios, "warning");
    lab.run(MS * 5_800);
    let _failed = lab.take_told(0, other, ios);
    lab.check(0, ios, "passing");
    lab.run(MS * 700);
    lab.ask(0, ios, true, 7);
    lab.run(MS * 5_000);
    assert_eq!(lab.saw(0, FactKind::ProcessLives), 0);
    assert_eq!(lab.take_told(0, other, ios), [], "it is known to have failed");
}

#[test]
fn a_process_whose_link_is_down_is_not_taken_back_whatever_answers_at_its_port() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    let link = lab.link(0, ios);
    lab.input(0, Input::Motr(Event::LinkDown { link }));
    lab.check(0, ios, "warning");
    lab.run(MS * 800);
    lab.check(0, ios, "passing");
    lab.run(MS * 2_800);
    assert_eq!(lab.word(ios), "STOPPED");
    // It begins, and is counted; what it says then is its word.
    lab.ask(0, ios, true, 7);
    lab.run(MS * 50);
    lab.event(0, ios, ProcessEventKind::Started);
    assert_eq!(lab.word(ios), "STARTED");
}

#[test]
fn a_process_that_said_itself_that_it_has_stopped_is_not_taken_back() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    lab.event(0, ios, ProcessEventKind::Stopped);
    lab.check(0, ios, "warning");
    lab.run(MS * 800);
    lab.check(0, ios, "passing");
    lab.run(MS * 2_800);
    assert_eq!(lab.word(ios), "STOPPED");
}

#[test]
fn a_check_that_passes_again_while_the_death_is_written_takes_it_back() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.check(0, ios, "warning");
    // Consul acts on the write, and the answer to it is lost: meanwhile the check passes.
    lab.nodes[0].fault = Some(Fault::Loses);
    lab.run(MS * 300);
    lab.check(0, ios, "passing");
    lab.nodes[0].fault = None;
    lab.run(MS * 6_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
}

/// What the leader declared while a node was cut off, and what the node's hax makes of it that has
/// begun anew since.
#[test]
fn what_was_declared_by_another_is_taken_back_by_a_hax_that_never_saw_it_alive() {
    let mut lab = Lab::with(2, |config| config.elect = config.node.as_ref() == "ssu1");
    lab.run(MS * 2_500);
    lab.free_the_lock();
    lab.run(MS * 2_000);
    assert!(lab.view(0).leads);
    let (ios, other) = (lab.fid(1, "ios"), lab.fid(1, "confd"));
    lab.nodes[1].fault = Some(Fault::Hangs);
    lab.alive(1, false);
    lab.run(MS * 6_000);
    assert_eq!(lab.word(ios), "STOPPED");
    lab.nodes[1].fault = None;
    lab.restart(1, |_| {});
    lab.alive(1, true);
    lab.run(MS * 2_800);
    // It may be of a life that ended with the node: nobody has heard of it since.
    assert_eq!(lab.word(ios), "STOPPED");
    lab.link(1, ios);
    lab.run(MS * 50);
    assert_eq!(lab.word(ios), "DTM_RECOVERED", "it speaks, and it did not begin");
    assert_eq!(lab.word(other), "STOPPED", "the other one is silent");
    // That one begins anew: what it said in its last life is nothing now.
    lab.ask(1, other, true, 7);
    lab.run(MS * 1_500);
    lab.check(1, other, "warning");
    lab.run(MS * 800);
    lab.check(1, other, "passing");
    lab.run(MS * 2_800);
    assert_eq!(lab.word(other), "STOPPED");
}

/// The keys of all nodes and what is below them.
fn node_keys(lab: &mut Lab) -> Vec<String> {
    let (_, keys) = lab.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    serde_json::from_str(&keys).expect("keys")
}

/// The entries of a process's devices by what they say.
fn devices(lab: &mut Lab, process: Fid) -> BTreeMap<String, usize> {
    let keys = node_keys(lab);
    let own = |key: &&String| key.contains(&format!("/{process}/")) && key.contains("/sdevs/");
    let mut found = BTreeMap::new();
    for key in keys.iter().filter(own) {
        *found.entry(lab.state_in(key)).or_default() += 1;
    }
    found
}

fn many_drives() -> (Lab, Fid) {
    let shape = Shape { drives: 100, ..Shape::like_hare(1) };
    let mut lab = Lab::of(&shape, 1, |_| {});
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    lab.event(0, ios, ProcessEventKind::DtmRecovered);
    lab.run(MS * 1_000);
    assert!(devices(&mut lab, ios).keys().eq(["online"]));
    (lab, ios)
}

#[test]
fn half_a_death_is_made_whole_and_taken_back() {
    let (mut lab, ios) = many_drives();
    // It takes more than one transaction, and after the first there is no Consul for a while.
    lab.nodes[0].transactions = Some(1);
    lab.check(0, ios, "critical");
    lab.run(MS * 6_000);
    assert_eq!(devices(&mut lab, ios).len(), 2);
    lab.check(0, ios, "passing");
    lab.run(MS * 500);
    lab.nodes[0].transactions = None;
    lab.run(MS * 60_000);
    assert!(devices(&mut lab, ios).keys().eq(["online"]), "{:?}", devices(&mut lab, ios));
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
}

#[test]
fn half_a_life_is_made_whole_and_taken_back() {
    let (mut lab, ios) = many_drives();
    lab.check(0, ios, "critical");
    lab.run(MS * 20_000);
    assert!(devices(&mut lab, ios).keys().eq(["offline"]));
    lab.nodes[0].transactions = Some(1);
    lab.check(0, ios, "passing");
    lab.run(MS * 6_000);
    assert_eq!(devices(&mut lab, ios).len(), 2);
    lab.check(0, ios, "critical");
    lab.run(MS * 500);
    lab.nodes[0].transactions = None;
    lab.run(MS * 60_000);
    assert!(devices(&mut lab, ios).keys().eq(["offline"]), "{:?}", devices(&mut lab, ios));
    assert_eq!(lab.word(ios), "STOPPED");
}

/// A second I/O process on the node of `ios`, with a link, and the node's key.
fn another_ios(lab: &mut Lab, ios: Fid) -> (Fid, String) {
    let keys = node_keys(lab);
    let own = keys.iter().find(|key| key.contains(&format!("/processes/{ios}"))).expect("a key");
    let node = own.split("/processes/").next().expect("a node").to_owned();
    let new = Fid::process(1_234);
    let key = format!("/v1/kv/{node}/processes/{new}");
    lab.consul("PUT", &key, r#"{"name": "m0_server", "state": "unknown"}"#);
    let service = format!("{key}/services/0x7300000000000001:0x4d2");
    lab.consul("PUT", &service, r#"{"name": "ios", "state": "unknown"}"#);
    lab.run(MS * 1_000);
    lab.link(0, new);
    (new, node)
}

#[test]
fn d19_a_node_is_up_while_one_of_its_io_processes_is() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    let (other, node) = another_ios(&mut lab, ios);
    for process in [ios, other] {
        lab.event(0, process, ProcessEventKind::DtmRecovered);
    }
    lab.run(MS * 1_000);
    assert_eq!(lab.state_in(&node), "M0_NC_ONLINE");
    // The check of one fails for a moment while the other stops.
    lab.check(0, ios, "warning");
    lab.run(MS * 300);
    lab.event(0, other, ProcessEventKind::Stopping);
    lab.event(0, other, ProcessEventKind::Stopped);
    lab.run(MS * 1_000);
    lab.check(0, ios, "passing");
    lab.run(MS * 10_000);
    assert_eq!(lab.state_in(&node), "M0_NC_ONLINE", "the first one serves");
    lab.event(0, ios, ProcessEventKind::Stopping);
    lab.event(0, ios, ProcessEventKind::Stopped);
    lab.run(MS * 1_000);
    assert_eq!(lab.state_in(&node), "M0_NC_TRANSIENT", "the last one has gone");
    lab.event(0, other, ProcessEventKind::Started);
    lab.run(MS * 1_000);
    assert_ne!(lab.state_in(&node), "M0_NC_TRANSIENT", "the first one is back");
}

#[test]
fn f22_nobody_is_declared_dead_by_health_that_is_old() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    lab.link(0, ios);
    lab.check(0, ios, "critical");
    lab.run(MS * 4_950);
    // The process is well again, and no watch brings it in time.
    lab.lose_what_waits(0);
    lab.check(0, ios, "passing");
    lab.run(MS * 20_000);
    assert_eq!(lab.saw(0, FactKind::ProcessDied), 0);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
    assert!(!lab.take_told(0, link, ios).contains(&ObjectState::Failed));
    // Who is dead is declared, once Consul is there to be asked.
    lab.check(0, ios, "critical");
    lab.run(MS * 4_000);
    lab.nodes[0].fault = Some(Fault::Refuses);
    lab.run(MS * 8_000);
    assert_eq!(lab.saw(0, FactKind::ProcessDied), 0);
    lab.nodes[0].fault = None;
    lab.run(MS * 20_000);
    assert_eq!((lab.saw(0, FactKind::ProcessDied), lab.word(ios)), (1, "STOPPED".into()));
}
