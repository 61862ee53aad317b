//! Entrypoint requests: their order, EAGAIN, the count of starts, and the declaration of restarts.

use std::time::Duration;

use hax_core::base::errno::Errno;
use hax_core::base::id::EntryId;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_storm_is_answered_by_few_reads_and_in_order() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.nodes[0].fault = Some(Fault::Hangs);
    let first = cluster.ask(0, ios, false, 1);
    cluster.nodes[0].fault = None;
    let before = cluster.nodes[0].targets.len();
    let mut asked: Vec<EntryId> = (0..1_000).map(|_| cluster.ask(0, ios, false, 1)).collect();
    cluster.run(MS * 4_000);
    asked.insert(0, first);
    let replied: Vec<EntryId> = cluster.nodes[0].replies.iter().map(|(entry, ..)| *entry).collect();
    assert_eq!(replied, asked);
    let calls = cluster.nodes[0].targets.len() - before;
    assert!(calls < 60, "{calls} calls to Consul");
}

#[test]
fn d03_whoever_waits_for_a_consul_that_is_not_well_is_told_to_ask_again() {
    for fault in [Fault::Refuses, Fault::Fails, Fault::Hangs] {
        let mut cluster = TestCluster::new(1);
        let ios = cluster.fid(0, "ios");
        cluster.nodes[0].fault = Some(fault);
        let asked = cluster.now;
        let early = cluster.ask(0, ios, false, 1);
        cluster.run(MS * 300);
        let late_asked = cluster.now;
        let late = cluster.ask(0, ios, false, 1);
        cluster.run(MS * 4_000);
        for (entry, asked) in [(early, asked), (late, late_asked)] {
            let replies = &cluster.nodes[0].replies;
            let (_, reply, at) = replies.iter().find(|(e, ..)| *e == entry).expect("a reply");
            assert_eq!(*reply, Err(Errno::EAGAIN), "{fault:?}");
            let after = at.since(asked);
            assert!(after >= MS * 1_000 && after <= MS * 3_000, "{fault:?}: {after:?}");
        }
        cluster.nodes[0].fault = None;
        let entry = cluster.ask(0, ios, false, 1);
        cluster.run(MS * 10);
        assert!(matches!(cluster.reply(0, entry), Some(Ok(_))), "{fault:?}");
    }
}

#[test]
fn d13_starts_are_counted_once_a_life_and_a_restart_is_declared_first() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let other = cluster.link(0, confd);
    let key = format!("ssu1/process_restarts/{ios}");
    // According to its record the process runs, and it sends a first request: its last life was never ended.
    cluster.nodes[0].delivers = false;
    let entry = cluster.ask(0, ios, true, 100);
    cluster.run(MS * 100);
    assert_eq!(cluster.record(ios), "STOPPED");
    assert_eq!(cluster.kv(&key).as_deref(), Some("\"1\""));
    assert_eq!(cluster.take_sent(0, other, ios), [ObjectState::Failed]);
    assert_eq!(cluster.reply(0, entry), None, "the others have not heard it yet");
    let of_end = |(_, _, body): &&(_, _, Body)| match body {
        Body::Nvec(nvec) => {
            nvec.notes.iter().any(|n| n.fid == ios && n.state == ObjectState::Failed)
        }
        _ => false,
    };
    let found = cluster.nodes[0].sent.iter().find(of_end);
    let (link, send, _) = found.cloned().expect("it was sent");
    cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    assert!(matches!(cluster.reply(0, entry), Some(Ok(_))));
    assert_eq!(cluster.count_facts(0, FactKind::ProcessRestarted), 1);

    // No message is delivered: the request waits for at most a second.
    cluster.event(0, ios, ProcessEventKind::Started);
    let entry = cluster.ask(0, ios, true, 101);
    cluster.run(MS * 990);
    assert_eq!(cluster.reply(0, entry), None);
    cluster.run(MS * 20);
    assert!(matches!(cluster.reply(0, entry), Some(Ok(_))));
    assert_eq!(cluster.kv(&key).as_deref(), Some("\"2\""));
}

#[test]
fn d13_a_restart_is_declared_also_to_a_link_that_has_no_room_yet() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    let other = cluster.link(0, confd);
    cluster.nodes[0].delivers = false;
    for _ in 0..20 {
        cluster.event(0, ios, ProcessEventKind::Starting);
        cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    }
    cluster.run(MS * 1_000);
    cluster.take_sent(0, other, ios);
    let entry = cluster.ask(0, ios, true, 100);
    cluster.run(MS * 500);
    assert_eq!(cluster.record(ios), "STOPPED");
    assert_eq!(cluster.take_sent(0, other, ios), [], "there is no room");
    assert_eq!(cluster.reply(0, entry), None);
    // A delivery makes room for one more message.
    let sent = cluster.nodes[0].sent.iter().find(|(to, ..)| *to == other).cloned();
    let (link, send, _) = sent.expect("much is on its way");
    cluster.input(0, Input::Motr(Event::Delivered { link, send }));
    cluster.run(MS * 5);
    assert_eq!(cluster.take_sent(0, other, ios), [ObjectState::Failed]);
    assert!(matches!(cluster.reply(0, entry), Some(Ok(_))));
}

#[test]
fn a_debt_outlives_eagain_and_is_paid_once() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.nodes[0].fault = Some(Fault::Refuses);
    let first = cluster.ask(0, ios, true, 100);
    cluster.run(MS * 3_000);
    assert_eq!(cluster.reply(0, first), Some(&Err(Errno::EAGAIN)));
    cluster.nodes[0].fault = None;
    // The process repeats its request until it gets a reply, as a real one does.
    let answered = (0..6).any(|_| {
        let again = cluster.ask(0, ios, true, 100);
        cluster.run(MS * 1_500);
        matches!(cluster.reply(0, again), Some(Ok(_)))
    });
    assert!(answered);
    assert_eq!(cluster.record(ios), "STOPPED");
    let key = format!("ssu1/process_restarts/{ios}");
    assert_eq!(cluster.kv(&key).as_deref(), Some("\"1\""), "one life, one start");
}

#[test]
fn the_first_start_and_the_second_are_no_restarts() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let other = cluster.link(0, confd);
    cluster.consul("DELETE", &format!("/v1/kv/processes/{ios}"), "");
    cluster.run(MS * 500);
    cluster.take_sent(0, other, ios);
    for pid in [10, 11] {
        let entry = cluster.ask(0, ios, true, pid);
        cluster.run(MS * 50);
        assert!(matches!(cluster.reply(0, entry), Some(Ok(_))));
        assert_eq!(cluster.take_sent(0, other, ios), [], "start {pid}");
        cluster.nodes[0].links.remove(&ios);
    }
    cluster.ask(0, ios, true, 12);
    cluster.run(MS * 50);
    assert_eq!(cluster.take_sent(0, other, ios), [ObjectState::Failed], "the third is");
}

#[test]
fn an_event_after_the_restart_comes_after_it() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.ask(0, ios, true, 100);
    let msg = cluster.event(0, ios, ProcessEventKind::Starting);
    cluster.run(MS * 200);
    cluster.nodes[0].fault = None;
    cluster.run(MS * 3_000);
    assert_eq!(cluster.nodes[0].acks, [msg]);
    assert_eq!(cluster.record(ios), "STARTING");
}
