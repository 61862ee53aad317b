//! Process events: they stay in order, and none is lost once it is acknowledged.

use std::sync::Arc;

use crate::daemon::front::{Front, Mode, honest};
use crate::daemon::{Ham, Hax, LIMIT, fid};
use crate::fixture::Fixture;

#[test]
fn interleaved_events_end_with_the_last_of_each_process() {
    let Some(fixture) = Fixture::watching() else { return };
    let _hax = fixture.start();
    let stories = [
        (2, &["starting", "started", "stopping", "stopped", "starting"][..]),
        (3, &["starting", "started", "dtm-recovered", "stopping", "stopped"]),
        (4, &["stopping", "stopped", "starting", "started"]),
        (7, &["starting", "started"]),
    ];
    let mut hams: Vec<Ham> = stories.iter().map(|(key, _)| fixture.linked(*key)).collect();
    for turn in 0..5 {
        for ((_, story), ham) in stories.iter().zip(&mut hams) {
            if let Some(event) = story.get(turn) {
                ham.say(&format!("process {event}"));
            }
        }
    }
    for ((key, story), ham) in stories.iter().zip(&hams) {
        for n in 0..story.len() {
            assert_eq!(ham.delivered(), n as u64, "{}", fid(*key));
        }
        let last = story.last().unwrap().to_uppercase().replace('-', "_");
        assert_eq!(fixture.state(*key), last, "{}", fid(*key));
    }
}

/// Consul is dead all the time, so only the process itself can have brought the event to Consul.
///
/// A process notices the absence of hax only when it sends a message. Then it sends its unacknowledged
/// messages first, with their old tags.
#[test]
fn an_event_received_and_not_committed_survives_the_death_of_hax() {
    let Some(mut fixture) = Fixture::durable() else { return };
    let mut hax = fixture.start();
    let mut ham = fixture.linked(2);
    ham.say("process starting");
    assert_eq!(ham.delivered(), 0);
    fixture.consul.kill();
    ham.say("process started");
    hax.says(0, "ProcessEvent", &format!("{}: STARTED", fid(2)));
    hax.kill();
    let heard = ham.unheard();
    assert!(heard.iter().all(|said| said["event"] != "delivered"), "{heard:?}");
    fixture.restart_consul();
    assert_eq!(fixture.state(2), "STARTING");
    let hax = fixture.start();
    ham.say("rpc");
    assert_eq!(ham.delivered(), 1);
    assert_eq!(fixture.state(2), "STARTED");
    assert_eq!(ham.delivered(), 2);
    assert_eq!(hax.facts("ProcessEvent").len(), 1);
}

/// Consul has executed the write and has not responded when hax dies. The event comes again, hax finds it in
/// Consul and acknowledges it.
#[test]
fn an_event_that_consul_had_when_hax_died_is_acknowledged_once() {
    let Some(fixture) = Fixture::watching() else { return };
    let front = Front::new(fixture.consul.http_addr);
    let mut hax = Hax::start(&fixture.place.flags(front.address));
    fixture.place.ready();
    let mut ham = fixture.linked(2);
    let (acted, has_acted) = std::sync::mpsc::channel();
    front.set(Mode::Change(Arc::new(move |target, reply| {
        if target.starts_with("/v1/txn") {
            let _ = acted.send(());
            loop {
                std::thread::park();
            }
        }
        honest(&reply)
    })));
    ham.say("process started");
    has_acted.recv_timeout(LIMIT).unwrap();
    hax.kill();
    assert_eq!(fixture.state(2), "STARTED");
    assert!(ham.unheard().iter().all(|said| said["event"] != "delivered"));
    let _hax = fixture.start();
    ham.say("process stopping");
    assert_eq!(ham.delivered(), 0);
    assert_eq!(ham.delivered(), 1);
    assert_eq!(fixture.state(2), "STOPPING");
}
