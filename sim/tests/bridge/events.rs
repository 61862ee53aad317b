//! Process events: Consul first, then the acknowledgement, then the others.

use std::time::Duration;

use hax_core::base::fact::FactKind;
use hax_core::ha::message::Body;
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};

use crate::lab::{Fault, Lab};

const MS: Duration = Duration::from_millis(1);

fn m0conf_state(lab: &mut Lab, needle: &str) -> String {
    let (_, body) = lab.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let key = keys.iter().find(|key| key.ends_with(needle)).expect("a key").clone();
    lab.state_in(&key)
}

#[test]
fn what_follows_from_a_stop_and_a_start_is_written_with_it() {
    let mut lab = Lab::new(2);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    let (from, other) = (lab.link(0, ios), lab.link(0, confd));
    let far = lab.fid(1, "ios");
    let far = lab.link(1, far);
    let at = format!("processes/{ios}");
    let (_, body) = lab.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let sdevs: Vec<String> =
        keys.into_iter().filter(|key| key.contains(&at) && key.contains("/sdevs/")).collect();
    assert!(sdevs.len() >= 5, "{sdevs:?}");

    // The other node has written to the queue since we did; this learns its end.
    lab.event(0, ios, ProcessEventKind::Stopping);
    let before = lab.nodes[0].targets.len();
    let msg = lab.event(0, ios, ProcessEventKind::Stopped);
    assert!(lab.nodes[0].acks.contains(&msg));
    let txns = lab.nodes[0].targets[before..].iter().filter(|(_, t)| t == "/v1/txn").count();
    assert_eq!(txns, 1, "one transaction for all of it");
    assert_eq!(lab.word(ios), "STOPPED");
    assert_eq!(m0conf_state(&mut lab, &at), "failed");
    for sdev in &sdevs {
        assert_eq!(lab.state_in(sdev), "offline", "{sdev}");
    }
    // FAILED ends the sessions of the others; the process itself is not told so.
    assert!(!lab.take_told(0, from, ios).contains(&ObjectState::Failed));
    assert_eq!(lab.take_told(0, other, ios), [ObjectState::Transient, ObjectState::Failed]);
    lab.run(MS * 600);
    let heard = lab.take_told(1, far, ios);
    assert_eq!(heard.last(), Some(&ObjectState::Failed), "other nodes hear it too: {heard:?}");

    lab.event(0, ios, ProcessEventKind::Starting);
    lab.event(0, ios, ProcessEventKind::Started);
    assert_eq!(m0conf_state(&mut lab, &at), "dtm_recovering");
    assert_eq!(lab.told(0, other, ios), Some(ObjectState::DtmRecovering));
    lab.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(m0conf_state(&mut lab, &at), "online");
    for sdev in &sdevs {
        assert_eq!(lab.state_in(sdev), "online", "{sdev}");
    }
    assert_eq!(lab.told(0, other, ios), Some(ObjectState::Online));
    lab.run(MS * 600);
    assert_eq!(lab.told(1, far, ios), Some(ObjectState::Online));
}

#[test]
fn a_node_follows_its_io_processes_and_nobody_else() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    lab.link(0, confd);
    let node = |lab: &mut Lab| {
        let (_, body) = lab.consul("GET", "/v1/kv/m0conf/nodes/?recurse", "");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&body).expect("entries");
        let keys = entries.iter().filter_map(|entry| entry["Key"].as_str());
        let keys: Vec<String> =
            keys.filter(|k| k.split('/').count() == 3).map(Into::into).collect();
        let found =
            keys.iter().find(|key| lab.kv(key).is_some_and(|value| value.contains("\"ssu1\"")));
        lab.state_in(&found.expect("the node").clone())
    };
    lab.event(0, confd, ProcessEventKind::Stopped);
    assert_eq!(node(&mut lab), "M0_NC_UNKNOWN", "a confd does not take its node down");
    lab.event(0, ios, ProcessEventKind::Stopped);
    assert_eq!(node(&mut lab), "M0_NC_FAILED");
    lab.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(node(&mut lab), "M0_NC_ONLINE");
}

#[test]
fn nothing_is_acknowledged_before_consul_holds_it() {
    for fault in [Fault::Refuses, Fault::Fails, Fault::Loses, Fault::Hangs] {
        let mut lab = Lab::new(1);
        let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
        lab.link(0, ios);
        let other = lab.link(0, confd);
        lab.nodes[0].fault = Some(fault);
        let msgs = [
            lab.event(0, ios, ProcessEventKind::Stopping),
            lab.event(0, ios, ProcessEventKind::Stopped),
        ];
        lab.run(MS * 700);
        assert_eq!(lab.nodes[0].acks, [], "{fault:?}");
        assert_eq!(lab.take_told(0, other, ios), [], "{fault:?}");
        assert_eq!(lab.view(0).lanes, 1);
        if fault == Fault::Hangs {
            // The host's time limit is not the lab's: what hangs is answered by its limit.
            continue;
        }
        lab.nodes[0].fault = None;
        lab.run(MS * 6_000);
        assert_eq!(lab.nodes[0].acks, msgs, "{fault:?}");
        assert_eq!(lab.word(ios), "STOPPED");
        assert_eq!(lab.view(0).lanes, 0);
        // However often it was tried, old daemons hear of each once.
        let (_, queue) = lab.consul("GET", "/v1/kv/bq/?keys", "");
        let queue: Vec<String> = serde_json::from_str(&queue).expect("keys");
        let told = queue
            .iter()
            .filter(|key| lab.kv(key).is_some_and(|message| message.contains(&ios.to_string())));
        assert_eq!(told.count(), 2, "{fault:?}");
    }
}

#[test]
fn another_writer_is_met_and_its_write_replaced_in_order() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    // Behind the replica's back: its watch has not looked yet.
    let value = r#"{"state": "M0_CONF_HA_PROCESS_STOPPED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    lab.nodes[0].fault = Some(Fault::Hangs);
    lab.consul("PUT", &format!("/v1/kv/processes/{ios}"), value);
    lab.nodes[0].fault = None;
    let msg = lab.event(0, ios, ProcessEventKind::Started);
    lab.run(MS * 500);
    assert_eq!(lab.nodes[0].acks, [msg]);
    assert_eq!(lab.word(ios), "STARTED");
}

#[test]
fn mkfs_is_nobody_elses_business() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    let other = lab.link(0, confd);
    let at = format!("processes/{ios}");
    let before = m0conf_state(&mut lab, &at);
    let epoch = lab.kv("epoch");
    for event in [ProcessEventKind::Starting, ProcessEventKind::Started, ProcessEventKind::Stopped]
    {
        let kind = ProcessType::Mkfs;
        lab.say(0, ios, Body::Process(ProcessEvent { event, kind, pid: 9 }));
    }
    lab.run(MS * 500);
    assert_eq!(lab.word(ios), "STOPPED");
    assert_eq!(m0conf_state(&mut lab, &at), before);
    assert_eq!(lab.kv("epoch"), epoch);
    assert_eq!(lab.take_told(0, other, ios), []);
}

#[test]
fn devices_keep_what_is_worse_than_their_process() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    let (_, body) = lab.consul("GET", "/v1/kv/m0conf/nodes/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&body).expect("keys");
    let at = format!("processes/{ios}");
    let sdev = keys.iter().find(|key| key.contains(&at) && key.contains("/sdevs/"));
    let sdev = sdev.expect("a device").clone();
    let fid = sdev.rsplit('/').next().expect("a fid").parse().expect("a fid");
    // Motr says that its repair has failed: REPAIR becomes FAILED.
    let notes = vec![Note { fid, state: ObjectState::Repair }];
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes };
    let msg = lab.say(0, ios, Body::Nvec(Box::new(nvec)));
    assert!(lab.nodes[0].acks.contains(&msg));
    assert_eq!(lab.state_in(&sdev), "failed");
    lab.event(0, ios, ProcessEventKind::Stopped);
    lab.event(0, ios, ProcessEventKind::DtmRecovered);
    assert_eq!(lab.state_in(&sdev), "failed");
    assert_eq!(lab.saw(0, FactKind::DevicesSet), 1);
}
