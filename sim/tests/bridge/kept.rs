//! Links that were taken over from the last life of hax.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::LinkId;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{Note, ObjectState};
use hax_core::ha::process::ProcessEventKind;

use crate::test_cluster::TestCluster;

const MS: Duration = Duration::from_millis(1);
const LINK: LinkId = LinkId(77);

fn failed(fid: Fid) -> Note {
    Note { fid, state: ObjectState::Failed }
}

/// Starts the bridge of node 0 again, with a link of its last life to the confd.
fn restarted(owed: &[Note]) -> (TestCluster, Fid) {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 50);
    assert_eq!(cluster.record(ios), "STOPPED");
    cluster.restart(0, |_| {});
    let process = cluster.fid(0, "confd");
    let owed = owed.iter().copied().collect();
    cluster.input(0, Input::Motr(Event::LinkKept { link: LINK, process, owed }));
    (cluster, ios)
}

/// Returns what the wire was last told to be owed to the link.
fn owed(cluster: &TestCluster, link: LinkId) -> Option<Vec<Note>> {
    cluster.nodes[0].commands.iter().rev().find_map(|command| match command {
        Command::Owe { link: of, notes } if *of == link => Some(notes.to_vec()),
        _ => None,
    })
}

#[test]
fn a_kept_link_is_told_all_states_once_its_process_has_answered() {
    let (mut cluster, ios) = restarted(&[]);
    cluster.run(MS * 100);
    assert_eq!(cluster.last_state(0, LINK, ios), None, "it may be gone");
    cluster.input(0, Input::Motr(Event::LinkBack { link: LINK }));
    cluster.run(MS * 10);
    assert_eq!(cluster.take_sent(0, LINK, ios), [ObjectState::Transient]);
    let confd = cluster.fid(0, "confd");
    assert_eq!(cluster.take_sent(0, LINK, confd), [ObjectState::Online]);
}

#[test]
fn what_the_last_life_owed_comes_first_and_is_not_half_revoked() {
    let ios = TestCluster::new(1).fid(0, "ios");
    for late in [false, true] {
        let (mut cluster, _) = restarted(&[failed(ios)]);
        if late {
            cluster.run(MS * 100);
        }
        cluster.input(0, Input::Motr(Event::LinkBack { link: LINK }));
        cluster.run(MS * 100);
        assert_eq!(cluster.take_sent(0, LINK, ios), [ObjectState::Failed]);
        assert_eq!(owed(&cluster, LINK), Some(vec![]), "it is in the wire's hands");
    }
}

#[test]
fn an_end_that_a_kept_link_misses_is_owed_to_it() {
    let (mut cluster, _) = restarted(&[]);
    cluster.run(MS * 100);
    let s3 = cluster.fid(0, "s3service");
    cluster.link(0, s3);
    cluster.event(0, s3, ProcessEventKind::Stopped);
    cluster.run(MS * 50);
    let notes = owed(&cluster, LINK).expect("it is owed");
    assert!(notes.contains(&failed(s3)), "{notes:?}");
    cluster.input(0, Input::Motr(Event::LinkBack { link: LINK }));
    cluster.run(MS * 10);
    assert_eq!(cluster.take_sent(0, LINK, s3), [ObjectState::Failed]);
}

#[test]
fn what_is_owed_to_a_link_that_is_down_is_reported_to_the_wire() {
    let mut cluster = TestCluster::new(1);
    let (confd, ios) = (cluster.fid(0, "confd"), cluster.fid(0, "ios"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.input(0, Input::Motr(Event::LinkDown { link }));
    cluster.event(0, ios, ProcessEventKind::Stopped);
    cluster.run(MS * 50);
    let notes = owed(&cluster, link).expect("it is owed");
    assert!(notes.contains(&failed(ios)), "{notes:?}");
    cluster.input(0, Input::Motr(Event::LinkBack { link }));
    cluster.run(MS * 50);
    assert_eq!(owed(&cluster, link), Some(vec![]));
    assert!(cluster.take_sent(0, link, ios).contains(&ObjectState::Failed));
}

/// An untried link is no sign of life and no sign of death.
#[test]
fn a_process_with_an_untried_link_is_judged_by_its_check_and_in_time() {
    let (mut cluster, _) = restarted(&[]);
    let confd = cluster.fid(0, "confd");
    cluster.run(MS * 50);
    cluster.set_check(0, confd, "warning");
    cluster.run(MS * 4_000);
    assert_eq!(cluster.count_facts(0, FactKind::ProcessDied), 0);
    cluster.input(0, Input::Motr(Event::LinkDown { link: LINK }));
    cluster.run(MS * 100);
    assert_eq!(cluster.record(confd), "STOPPED", "its link is down");
}
