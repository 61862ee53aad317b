//! What the field found: deaths that were none, deaths that were hidden, and what did not fit in the place
//! of the old daemon. Numbers: docs/DEFECTS.md.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::note::{Note, ObjectState};
use hax_core::ha::process::ProcessEventKind;
use serde_json::{Value, json};

use crate::lab::{Fault, Lab};
use crate::queue::tell;

const MS: Duration = Duration::from_millis(1);

/// Two bridges of three nodes; the second one leads, as for the third.
fn led() -> Lab {
    let mut lab = Lab::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    lab.run(MS * 1_000);
    lab.free_the_lock();
    lab.run(MS * 1_500);
    assert!(lab.view(1).leads);
    lab
}

fn key(lab: &mut Lab, part: &str) -> String {
    let (_, keys) = lab.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&keys).expect("keys");
    let found = keys.into_iter().find(|key| key.ends_with(part));
    found.unwrap_or_else(|| panic!("no key that ends with {part}"))
}

/// The key of a host's node, and those of what holds its data.
fn hardware(lab: &mut Lab, host: &str) -> Vec<String> {
    let (_, entries) = lab.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&entries).expect("keys");
    let of_host = |lab: &mut Lab, key: &String, what: &str| {
        lab.kv(key).is_some_and(|value| value.contains(&format!("\"{what}\"")))
    };
    let nodes = keys.iter().filter(|key| key.starts_with("m0conf/nodes/0x"));
    let nodes: Vec<&String> = nodes.filter(|key| key.split('/').count() == 3).collect();
    let node = nodes.into_iter().find(|key| of_host(lab, key, host)).expect("a node").clone();
    let fid = node.rsplit('/').next().expect("a fid").to_owned();
    let encls = keys.iter().filter(|key| key.contains("/encls/"));
    let encl = encls
        .filter(|key| !key.contains("/ctrls/"))
        .find(|key| of_host(lab, key, &fid))
        .expect("an enclosure")
        .clone();
    let below = |key: &&String| key.starts_with(&format!("{encl}/ctrls/"));
    let ctrl = keys.iter().filter(below).find(|key| !key.contains("/drives/"));
    vec![node, encl.clone(), ctrl.expect("a controller").clone()]
}

#[test]
fn f01_what_others_check_on_a_node_says_nothing_of_its_processes() {
    let mut lab = led();
    let (ios, confd, far) = (lab.fid(0, "ios"), lab.fid(0, "confd"), lab.fid(2, "ios"));
    let link = lab.link(0, confd);
    lab.link(0, ios);
    let check = r#"{"ID": "mem", "Name": "memory use", "TTL": "100h", "Status": "warning"}"#;
    for agent in [0, 2] {
        let (status, _) = lab.consul_at(agent, "PUT", "/v1/agent/check/register", check);
        assert_eq!(status, 200);
    }
    lab.run(MS * 8_000);
    assert_eq!((lab.word(ios), lab.word(far)), ("DTM_RECOVERED".into(), "DTM_RECOVERED".into()));
    assert_eq!(lab.take_told(0, link, ios), []);
    assert_eq!(lab.take_told(0, link, far), []);
    // A post of it is no news either.
    let post = r#"[{"Node": {"Node": "ssu1"}, "Checks": [{"Node": "ssu1", "CheckID": "mem",
        "Status": "critical", "ServiceID": "", "ModifyIndex": 900}]}]"#;
    lab.post(0, "/", post);
    lab.run(MS * 100);
    assert_eq!(lab.take_told(0, link, ios), []);
}

#[test]
fn f01_a_node_in_maintenance_is_down_for_consul_s_own_check_of_it() {
    let mut lab = Lab::new(1);
    let (confd, far) = (lab.fid(0, "confd"), lab.fid(2, "ios"));
    let link = lab.link(0, confd);
    let check = r#"{"ID": "_node_maintenance", "Name": "Node Maintenance Mode", "TTL": "100h",
        "Status": "critical"}"#;
    lab.consul_at(2, "PUT", "/v1/agent/check/register", check);
    lab.run(MS * 500);
    assert_eq!(lab.take_told(0, link, far), [ObjectState::Transient]);
}

#[test]
fn f01_a_service_elsewhere_that_has_a_process_s_number_says_nothing() {
    let mut lab = led();
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    lab.link(0, ios);
    let id = ios.key.to_string();
    // On a host of somebody else, and on another node of the cluster.
    for (host, name) in [("billing-host", "web"), ("ssu3", "web2")] {
        let service = json!({
            "Node": host, "Address": "127.0.9.9", "SkipNodeUpdate": true,
            "Service": {"ID": id, "Service": name, "Port": 8080},
            "Checks": [{"Node": host, "CheckID": format!("service:{name}"), "Name": "alive",
                        "ServiceID": id, "Status": "critical"}],
        });
        let (status, text) = lab.consul("PUT", "/v1/catalog/register", &service.to_string());
        assert_eq!(status, 200, "{text}");
    }
    lab.run(MS * 8_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
    assert_eq!(lab.take_told(0, link, ios), []);
    let post = format!(
        r#"[{{"Checks": [{{"Node": "ssu3", "CheckID": "service:web2", "Status": "critical",
            "ServiceID": "{id}", "ModifyIndex": 900}}]}}]"#
    );
    lab.post(0, "/", &post);
    lab.run(MS * 100);
    assert_eq!(lab.take_told(0, link, ios), []);
}

#[test]
fn f02_a_node_whose_agent_leaves_and_is_back_was_never_dead() {
    let mut lab = led();
    let (far, confd) = (lab.fid(2, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    // It leaves, as at a graceful restart: its node and all its services are gone from the catalog.
    lab.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu3"}"#);
    lab.run(MS * 4_000);
    assert_eq!(lab.word(far), "DTM_RECOVERED");
    lab.alive(2, true);
    lab.run(MS * 8_000);
    assert_eq!(lab.word(far), "DTM_RECOVERED");
    assert_eq!(lab.take_told(0, link, far), []);
    // It dies, and is started again.
    lab.alive(2, false);
    lab.run(MS * 4_500);
    lab.alive(2, true);
    lab.run(MS * 8_000);
    assert_eq!(lab.word(far), "DTM_RECOVERED");
    assert_eq!(lab.take_told(0, link, far), [ObjectState::Transient, ObjectState::Online]);
    assert_eq!(lab.saw(1, FactKind::ProcessDied), 0);
    // One that stays away is dead.
    lab.alive(2, false);
    lab.run(MS * 6_000);
    assert_eq!(lab.word(far), "STOPPED");
    assert_eq!(lab.take_told(0, link, far), [ObjectState::Transient, ObjectState::Failed]);
}

#[test]
fn f02_our_own_agent_s_absence_says_nothing_of_our_processes() {
    let mut lab = Lab::new(1);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    lab.alive(0, false);
    lab.run(MS * 8_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
    lab.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu1"}"#);
    lab.run(MS * 8_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
}

/// hare names a node anew at each start of its agent. The servers find out that the old one is dead after
/// the new one has joined.
#[test]
fn f03_of_two_nodes_of_a_host_the_living_one_counts_whichever_was_written_last() {
    let mut lab = led();
    let (far, confd) = (lab.fid(2, "ios"), lab.fid(0, "confd"));
    // Its service is not there yet under the new name.
    let slow = lab.fid(2, "s3service");
    let link = lab.link(0, confd);
    let new = json!({
        "Node": "ssu3:99887766", "Address": "127.0.0.3",
        "Service": {"ID": far.key.to_string(), "Service": "ios", "Port": 1},
        "Checks": [
            {"Node": "ssu3:99887766", "CheckID": "serfHealth", "Name": "s", "Status": "passing"},
            {"Node": "ssu3:99887766", "CheckID": "service:ios", "Name": "i", "Status": "passing",
             "ServiceID": far.key.to_string()},
        ],
    });
    lab.consul("PUT", "/v1/catalog/register", &new.to_string());
    lab.run(MS * 1_000);
    lab.alive(2, false);
    lab.run(MS * 20_000);
    for process in [far, slow] {
        assert_eq!(lab.word(process), "DTM_RECOVERED", "{process}");
        assert_eq!(lab.take_told(0, link, process), [], "{process}");
    }
    // The new one dies: nobody is left.
    let dead = json!({
        "Node": "ssu3:99887766", "Address": "127.0.0.3", "SkipNodeUpdate": true,
        "Check": {"Node": "ssu3:99887766", "CheckID": "serfHealth", "Name": "s", "Status": "critical"},
    });
    lab.consul("PUT", "/v1/catalog/register", &dead.to_string());
    lab.run(MS * 6_000);
    assert_eq!(lab.word(far), "STOPPED");
}

#[test]
fn f04_a_second_node_of_a_host_hides_no_death() {
    let mut lab = led();
    let (far, confd) = (lab.fid(2, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    // Keys are read in their order: this one comes after the real one.
    let left = "m0conf/nodes/0x6e00000000000001:0x268";
    lab.consul("PUT", &format!("/v1/kv/{left}"), r#"{"name": "ssu3", "state": "M0_NC_UNKNOWN"}"#);
    lab.run(MS * 1_000);
    assert_eq!(lab.saw(0, FactKind::ConfContradicts), 1);
    lab.alive(2, false);
    lab.run(MS * 6_500);
    assert_eq!(lab.word(far), "STOPPED");
    assert_eq!(lab.take_told(0, link, far), [ObjectState::Transient, ObjectState::Failed]);
    lab.run(MS * 5_000);
    assert_eq!(lab.saw(0, FactKind::ConfContradicts), 1, "it is said once");
}

#[test]
fn f04_a_process_below_a_second_node_stays_what_it_is() {
    for node in ["0x6e00000000000001:0x17a", "0x6e00000000000000:0x1"] {
        let mut lab = Lab::new(1);
        let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
        let link = lab.link(0, confd);
        let left = format!("m0conf/nodes/{node}");
        for (key, value) in [
            (String::new(), r#"{"name": "old-name", "state": "M0_NC_UNKNOWN"}"#),
            (format!("/processes/{ios}"), r#"{"name": "hax", "state": "online"}"#),
            (
                format!("/processes/{ios}/services/0x7300000000000001:0x900"),
                r#"{"name": "ha", "state": "M0_NC_UNKNOWN"}"#,
            ),
        ] {
            lab.consul("PUT", &format!("/v1/kv/{left}{key}"), value);
        }
        lab.run(MS * 1_000);
        assert_eq!(lab.saw(0, FactKind::ConfContradicts), 1, "{node}");
        assert_eq!(lab.saw(0, FactKind::ProcessRetyped), 0, "{node}");
        let node_key = hardware(&mut lab, "ssu1")[0].clone();
        let sdev = key(&mut lab, "/sdevs/0x6400000000000001:0x0");
        assert!(sdev.starts_with(&node_key) && sdev.contains(&ios.to_string()), "{sdev}");
        lab.check(0, ios, "critical");
        lab.run(MS * 6_500);
        assert_eq!(lab.word(ios), "STOPPED", "{node}");
        assert_eq!(lab.state_in(&sdev), "offline", "{node}");
        assert_eq!(
            lab.told(0, link, Fid::typed(b'd', 1, 0)),
            Some(ObjectState::Transient),
            "{node}"
        );
        assert_eq!(lab.state_in(&format!("{left}/processes/{ios}")), "online", "it is left alone");
    }
}

#[test]
fn f04_a_process_that_becomes_another_kind_of_process_is_said_to() {
    let mut lab = Lab::new(1);
    let client = lab.fid(0, "s3service");
    let place = key(&mut lab, &format!("/processes/{client}"));
    let service = format!("/v1/kv/{place}/services/0x7300000000000001:0x901");
    lab.consul("PUT", &service, r#"{"name": "ios", "state": "M0_NC_UNKNOWN"}"#);
    lab.run(MS * 1_000);
    assert_eq!(lab.saw(0, FactKind::ProcessRetyped), 1);
}

/// Every node of hare imports the configuration at its start, over the one that is in use.
#[test]
fn f05_what_follows_is_worked_out_again_when_the_configuration_is_imported() {
    let mut lab = led();
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    lab.link(0, ios);
    lab.event(0, ios, ProcessEventKind::DtmRecovered);
    lab.alive(2, false);
    lab.run(MS * 7_000);
    let (near, far) = (hardware(&mut lab, "ssu1"), hardware(&mut lab, "ssu3"));
    let dead = lab.fid(2, "ios");
    let sdev = key(&mut lab, &format!("/sdevs/{}", Fid::typed(b'd', 1, 10)));
    assert!(sdev.contains(&dead.to_string()), "{sdev}");
    for _ in 0..2 {
        for key in &near {
            assert_eq!(lab.state_in(key), "M0_NC_ONLINE", "{key}");
        }
        for key in &far {
            assert_eq!(lab.state_in(key), "M0_NC_TRANSIENT", "{key}");
        }
        assert_eq!(lab.state_in(&sdev), "offline");
        lab.import();
        assert_eq!(lab.state_in(&near[0]), "M0_NC_UNKNOWN");
        lab.run(MS * 3_000);
    }
    let node: Fid = near[0].rsplit('/').next().expect("a fid").parse().expect("a fid");
    assert_eq!(lab.states(0, confd, &[node]), [Note { fid: node, state: ObjectState::Online }]);
    assert_eq!(lab.told(0, link, node), Some(ObjectState::Online));
    // What somebody set of a device since is nobody's to take back.
    let own = key(&mut lab, &format!("/sdevs/{}", Fid::typed(b'd', 1, 0)));
    lab.consul("PUT", &format!("/v1/kv/{own}"), r#"{"path": "/dev/x", "state": "offline"}"#);
    lab.run(MS * 3_000);
    assert_eq!(lab.state_in(&own), "offline");
}

/// What another writer says of a process has its consequences, too.
#[test]
fn f05_what_follows_is_worked_out_again_when_others_write_of_a_process() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, confd);
    lab.link(0, ios);
    lab.run(MS * 1_000);
    let near = hardware(&mut lab, "ssu1");
    for (state, text) in [("STOPPED", "M0_NC_TRANSIENT"), ("DTM_RECOVERED", "M0_NC_ONLINE")] {
        let value = json!({
            "state": format!("M0_CONF_HA_PROCESS_{state}"), "type": "M0_CONF_HA_PROCESS_M0D",
        });
        lab.consul("PUT", &format!("/v1/kv/processes/{ios}"), &value.to_string());
        lab.run(MS * 3_000);
        for key in &near {
            assert_eq!(lab.state_in(key), text, "{key}");
        }
    }
}

#[test]
fn f06_a_process_that_never_said_that_it_started_is_transient_whatever_listens_at_its_port() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, confd);
    lab.consul("DELETE", &format!("/v1/kv/processes/{ios}"), "");
    lab.run(MS * 500);
    assert_eq!(lab.states(0, confd, &[ios]), [Note { fid: ios, state: ObjectState::Transient }]);
    let key = format!("/v1/kv/processes/{ios}");
    lab.consul("PUT", &key, r#"{"state": "Unknown", "type": "Unknown"}"#);
    lab.run(MS * 500);
    assert_eq!(lab.states(0, confd, &[ios]), [Note { fid: ios, state: ObjectState::Transient }]);
    let id = lab.http(0, "GET", "/v1/cluster/status", "");
    lab.run(MS * 5);
    let (_, report) = lab.response(0, id).expect("a response");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let svcs = report["nodes"][0]["svcs"].as_array().expect("services");
    let svc = svcs.iter().find(|svc| svc["fid"] == ios.to_string()).expect("it");
    assert_eq!(svc["status"], "unknown");
}

#[test]
fn f07_processes_with_a_link_live_though_their_node_is_not_in_the_catalog() {
    let mut lab = led();
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    lab.nodes[0].fault = Some(Fault::Hangs);
    lab.alive(0, false);
    lab.run(MS * 7_000);
    assert_eq!((lab.word(ios), lab.word(confd)), ("STOPPED".into(), "STOPPED".into()));
    lab.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu1"}"#);
    lab.nodes[0].fault = None;
    lab.restart(0, |_| {});
    lab.run(MS * 1_000);
    lab.link(0, ios);
    lab.run(MS * 6_000);
    assert_eq!(lab.word(ios), "DTM_RECOVERED", "its link tells");
    assert_eq!(lab.word(confd), "STOPPED", "of this one nothing tells");
    assert_eq!(lab.saw(0, FactKind::NodeMissing), 1);
    let status = |lab: &mut Lab| {
        let id = lab.http(0, "GET", "/status", "");
        let (_, status) = lab.response(0, id).expect("a response");
        serde_json::from_str::<Value>(&status).expect("JSON")["in_catalog"].clone()
    };
    assert_eq!(status(&mut lab), false);
    lab.alive(0, true);
    lab.run(MS * 1_000);
    assert_eq!(lab.saw(0, FactKind::NodeBack), 1);
    assert_eq!(status(&mut lab), true);
    assert_eq!(lab.word(ios), "DTM_RECOVERED");
}

#[test]
fn f08_who_asks_again_is_never_given_an_empty_entrypoint() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
    lab.link(0, ios);
    lab.nodes[0].fault = Some(Fault::Hangs);
    let waiting = [lab.ask(0, ios, false, 1), lab.ask(0, confd, true, 2)];
    lab.event(0, ios, ProcessEventKind::Stopping);
    lab.input(0, Input::Stop);
    let since = [lab.ask(0, ios, false, 1), lab.ask(0, confd, true, 2)];
    lab.run(MS * 30_000);
    assert!(lab.nodes[0].exited);
    for [again, first] in [waiting, since] {
        assert!(lab.reply(0, again).is_none(), "it would shut itself down");
        let empty = lab.reply(0, first).expect("a reply").as_ref().expect("rc 0");
        assert_eq!(empty.confds.len(), 0, "it unwinds");
    }
}

#[test]
fn f11_clients_are_called_what_the_configuration_calls_them() {
    let mut lab = Lab::new(1);
    let client = lab.fid(0, "s3service");
    lab.consul("PUT", "/v1/kv/m0_client_types", r#"["m0_client_other", "rgw_s3"]"#);
    let place = format!("m0conf/nodes/ssu1/processes/{}/services", client.key);
    let (_, keys) = lab.consul("GET", &format!("/v1/kv/{place}/?keys"), "");
    for old in serde_json::from_str::<Vec<String>>(&keys).unwrap_or_default() {
        lab.consul("DELETE", &format!("/v1/kv/{old}"), "");
    }
    lab.consul("PUT", &format!("/v1/kv/{place}/rms"), "1");
    lab.consul("PUT", &format!("/v1/kv/{place}/rgw_s3"), "2");
    lab.run(MS * 1_000);
    for target in ["/v1/cluster/status", "/v1/cluster/fetch-fids"] {
        let id = lab.http(0, "GET", target, "");
        lab.run(MS * 5);
        let (_, report) = lab.response(0, id).expect("a response");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let node = if target.ends_with("status") { &report["nodes"][0] } else { &report[0] };
        let svcs = node["svcs"].as_array().expect("services");
        let svc = svcs.iter().find(|svc| svc["fid"] == client.to_string());
        assert_eq!(svc.expect(target)["name"], "rgw_s3", "{target}");
    }
}

#[test]
fn f14_drive_states_are_taken_as_the_help_of_hctl_spells_them() {
    use ObjectState::{Failed, Online, Rebalance, Repair, Repaired, Transient};
    let mut lab = Lab::new(1);
    let confd = lab.fid(0, "confd");
    let link = lab.link(0, confd);
    let sdev = Fid::typed(b'd', 1, 0);
    let at = key(&mut lab, &format!("/sdevs/{sdev}"));
    let value: Value = serde_json::from_str(&lab.kv(&at).expect("a value")).expect("JSON");
    let path = value["path"].as_str().expect("a path").to_owned();
    let mut n: u64 = lab.kv("epoch").expect("an epoch").parse().expect("a number");
    let words = [
        ("failed", Failed),
        ("repairing", Repair),
        ("repaired", Repaired),
        ("Rebalancing", Rebalance),
        ("online", Online),
        ("FAILED", Failed),
        ("repair", Repair),
        ("REBALANCE", Rebalance),
        ("offline", Transient),
    ];
    for (word, state) in words {
        n += 1;
        let message = json!({
            "message_type": "M0_HA_MSG_NVEC",
            "payload": {"node": "ssu1", "source_type": "drive", "device": path, "state": word},
        });
        tell(&mut lab, 0, &[(n, message.to_string())]);
        lab.run(MS * 1_000);
        assert_eq!(lab.told(0, link, sdev), Some(state), "{word}");
    }
    let message = json!({
        "message_type": "M0_HA_MSG_NVEC",
        "payload": {"node": "ssu1", "device": path, "state": "broken"},
    });
    tell(&mut lab, 0, &[(n + 1, message.to_string())]);
    lab.run(MS * 1_000);
    let skipped = lab.nodes[0].facts.iter().rev().find(|f| f.kind() == FactKind::QueueSkipped);
    assert!(skipped.is_some_and(|fact| fact.to_string().contains("\"broken\"")), "{skipped:?}");
}
