//! Lanes compared with a naive model: a list of the events of each process.

use std::collections::BTreeMap;
use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::{EntryId, MsgId};
use hax_core::bridge::io::Input;
use hax_core::ha::motr::Event;
use hax_core::ha::process::ProcessEventKind;
use quickcheck::{Gen, QuickCheck};

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);
/// A time longer than the longest pause between two retries.
const REST: Duration = Duration::from_secs(20);

/// The events of each process, in order.
#[derive(Default)]
struct Model(BTreeMap<Fid, Vec<(MsgId, ProcessEventKind)>>);

impl Model {
    /// Checks that each process's messages are acknowledged in order, and that the lanes are those of the
    /// processes with an unacknowledged message.
    fn holds(&self, cluster: &TestCluster) {
        let acks = &cluster.nodes[0].acks;
        let mut busy = 0;
        for (process, said) in &self.0 {
            let done: Vec<MsgId> = acks
                .iter()
                .filter(|ack| said.iter().any(|(msg, _)| msg == *ack))
                .copied()
                .collect();
            let due: Vec<MsgId> = said.iter().map(|(msg, _)| *msg).take(done.len()).collect();
            assert_eq!(done, due, "{process}");
            busy += usize::from(done.len() < said.len());
        }
        assert_eq!(cluster.view(0).lanes, busy);
        assert!(acks.len() <= self.0.values().map(Vec::len).sum());
    }

    /// Checks that every message is acknowledged, and that Consul holds the last event of each process.
    fn is_at_rest(&self, cluster: &mut TestCluster, settles: Fid) {
        let said: usize = self.0.values().map(Vec::len).sum();
        assert_eq!(cluster.nodes[0].acks.len(), said);
        for (process, said) in &self.0 {
            let word = match said.last().map(|(_, event)| *event) {
                Some(ProcessEventKind::Started) if *process == settles => "DTM_RECOVERED",
                Some(event) => event.name(),
                None => continue,
            };
            assert_eq!(cluster.record(*process), word, "{process}");
        }
    }
}

/// Runs the steps. Each byte selects a process and its event, a fault of Consul, or a pause.
fn hold(steps: &[u8]) {
    const FAULTS: [Option<Fault>; 4] =
        [None, Some(Fault::Refuses), Some(Fault::Fails), Some(Fault::Loses)];
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    let cast = [confd, cluster.fid(0, "ios"), cluster.fid(0, "s3service")];
    for process in cast {
        let _link = cluster.link(0, process);
    }
    let mut model = Model::default();
    for step in steps {
        let (what, n) = (step % 8, usize::from(step / 8));
        match what {
            0..=5 => {
                let (process, event) =
                    (cast[n % 3], ProcessEventKind::from_wire((n / 3 % 5) as u64));
                let msg = cluster.event(0, process, event);
                model.0.entry(process).or_default().push((msg, event));
            }
            6 => cluster.nodes[0].fault = FAULTS[n % 4],
            _ => cluster.run(MS * (1 << (n % 12))),
        }
        model.holds(&cluster);
    }
    cluster.nodes[0].fault = None;
    cluster.run(REST);
    model.holds(&cluster);
    model.is_at_rest(&mut cluster, confd);
}

/// Before the configuration is known, any process may send a first entrypoint request.
#[test]
fn what_waits_for_consul_is_bounded() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.restart(0, |config| {
        config.limit.starts = 10;
        config.limit.queued_per_process = 20;
    });
    for n in 0..100 {
        cluster.ask(0, Fid::process(10_000 + n), true, n);
        cluster.run(Duration::from_millis(100));
    }
    // One lane belongs to hax itself.
    assert!(cluster.view(0).lanes <= 11, "{:?}", cluster.view(0));
    cluster.nodes[0].fault = None;
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.view(0).lanes, 0);
    let entry = cluster.ask(0, ios, true, 1);
    cluster.run(Duration::from_secs(2));
    assert!(matches!(cluster.reply(0, entry), Some(Ok(_))), "who is configured has its entrypoint");
    assert_eq!(cluster.kv(&format!("ssu1/process_restarts/{ios}")).as_deref(), Some("\"1\""));

    // Many lives of a process start, report an event and end.
    cluster.link(0, confd);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    for n in 0..200 {
        cluster.ask(0, confd, true, 100 + n);
        cluster.event(0, confd, ProcessEventKind::Starting);
        let link = cluster.nodes[0].links[&confd];
        cluster.input(0, Input::Motr(Event::LinkClosed { link }));
        let process = confd;
        let (entry, reconnected) = (EntryId(9_000 + n), false);
        cluster.input(0, Input::Motr(Event::LinkUp { entry, link, process, reconnected }));
        cluster.run(Duration::from_millis(10));
    }
    let id = cluster.http(0, "GET", "/status", "");
    let (_, status) = cluster.response(0, id).expect("the status");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let queued = status["lanes"][0]["queued"].as_u64().expect("a number");
    assert!((10..=22).contains(&queued), "{status}");
    cluster.nodes[0].fault = None;
    cluster.run(Duration::from_secs(20));
    assert_eq!(cluster.view(0).lanes, 0);
}

#[test]
fn lanes_do_as_a_list_for_each_process_does() {
    fn holds(steps: Vec<u8>) -> bool {
        hold(&steps);
        true
    }
    QuickCheck::new().rng(Gen::new(100)).tests(150).quickcheck(holds as fn(Vec<u8>) -> bool);
}
