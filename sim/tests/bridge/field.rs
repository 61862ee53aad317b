//! Findings from the field: wrong deaths, hidden deaths, and differences from the old daemon that made a
//! replacement fail. Numbers: docs/DEFECTS.md.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::note::{Note, ObjectState};
use hax_core::ha::process::ProcessEventKind;
use serde_json::{Value, json};

use crate::queue::tell;
use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

/// Creates two bridges on three nodes. The second one leads, also for the third node.
fn led() -> TestCluster {
    let mut cluster = TestCluster::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    cluster.run(MS * 1_000);
    cluster.free_the_lock();
    cluster.run(MS * 1_500);
    assert!(cluster.view(1).leads);
    cluster
}

fn key(cluster: &mut TestCluster, part: &str) -> String {
    let (_, keys) = cluster.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&keys).expect("keys");
    let found = keys.into_iter().find(|key| key.ends_with(part));
    found.unwrap_or_else(|| panic!("no key that ends with {part}"))
}

/// Returns the key of a host's node, and those of its enclosure and controller.
fn hardware(cluster: &mut TestCluster, host: &str) -> Vec<String> {
    let (_, entries) = cluster.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&entries).expect("keys");
    let of_host = |cluster: &mut TestCluster, key: &String, what: &str| {
        cluster.kv(key).is_some_and(|value| value.contains(&format!("\"{what}\"")))
    };
    let nodes = keys.iter().filter(|key| key.starts_with("m0conf/nodes/0x"));
    let nodes: Vec<&String> = nodes.filter(|key| key.split('/').count() == 3).collect();
    let node = nodes.into_iter().find(|key| of_host(cluster, key, host)).expect("a node").clone();
    let fid = node.rsplit('/').next().expect("a fid").to_owned();
    let encls = keys.iter().filter(|key| key.contains("/encls/"));
    let encl = encls
        .filter(|key| !key.contains("/ctrls/"))
        .find(|key| of_host(cluster, key, &fid))
        .expect("an enclosure")
        .clone();
    let below = |key: &&String| key.starts_with(&format!("{encl}/ctrls/"));
    let ctrl = keys.iter().filter(below).find(|key| !key.contains("/drives/"));
    vec![node, encl.clone(), ctrl.expect("a controller").clone()]
}

#[test]
fn f01_what_others_check_on_a_node_says_nothing_of_its_processes() {
    let mut cluster = led();
    let (ios, confd, far) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"), cluster.fid(2, "ios"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    let check = r#"{"ID": "mem", "Name": "memory use", "TTL": "100h", "Status": "warning"}"#;
    for agent in [0, 2] {
        let (status, _) = cluster.consul_at(agent, "PUT", "/v1/agent/check/register", check);
        assert_eq!(status, 200);
    }
    cluster.run(MS * 8_000);
    assert_eq!(
        (cluster.record(ios), cluster.record(far)),
        ("DTM_RECOVERED".into(), "DTM_RECOVERED".into())
    );
    assert_eq!(cluster.take_sent(0, link, ios), []);
    assert_eq!(cluster.take_sent(0, link, far), []);
    // A post of the check has no effect either.
    let post = r#"[{"Node": {"Node": "ssu1"}, "Checks": [{"Node": "ssu1", "CheckID": "mem",
        "Status": "critical", "ServiceID": "", "ModifyIndex": 900}]}]"#;
    cluster.post(0, "/", post);
    cluster.run(MS * 100);
    assert_eq!(cluster.take_sent(0, link, ios), []);
}

#[test]
fn f01_a_node_in_maintenance_is_down_for_consul_s_own_check_of_it() {
    let mut cluster = TestCluster::new(1);
    let (confd, far) = (cluster.fid(0, "confd"), cluster.fid(2, "ios"));
    let link = cluster.link(0, confd);
    let check = r#"{"ID": "_node_maintenance", "Name": "Node Maintenance Mode", "TTL": "100h",
        "Status": "critical"}"#;
    cluster.consul_at(2, "PUT", "/v1/agent/check/register", check);
    cluster.run(MS * 500);
    assert_eq!(cluster.take_sent(0, link, far), [ObjectState::Transient]);
}

#[test]
fn f01_a_service_elsewhere_that_has_a_process_s_number_says_nothing() {
    let mut cluster = led();
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    let id = ios.key.to_string();
    // One service is on a foreign host, the other on another node of the cluster.
    for (host, name) in [("billing-host", "web"), ("ssu3", "web2")] {
        let service = json!({
            "Node": host, "Address": "127.0.9.9", "SkipNodeUpdate": true,
            "Service": {"ID": id, "Service": name, "Port": 8080},
            "Checks": [{"Node": host, "CheckID": format!("service:{name}"), "Name": "alive",
                        "ServiceID": id, "Status": "critical"}],
        });
        let (status, text) = cluster.consul("PUT", "/v1/catalog/register", &service.to_string());
        assert_eq!(status, 200, "{text}");
    }
    cluster.run(MS * 8_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
    assert_eq!(cluster.take_sent(0, link, ios), []);
    let post = format!(
        r#"[{{"Checks": [{{"Node": "ssu3", "CheckID": "service:web2", "Status": "critical",
            "ServiceID": "{id}", "ModifyIndex": 900}}]}}]"#
    );
    cluster.post(0, "/", &post);
    cluster.run(MS * 100);
    assert_eq!(cluster.take_sent(0, link, ios), []);
}

#[test]
fn f02_a_node_whose_agent_leaves_and_is_back_was_never_dead() {
    let mut cluster = led();
    let (far, confd) = (cluster.fid(2, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    // The node leaves, as at a graceful restart: the catalog loses it and all its services.
    cluster.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu3"}"#);
    cluster.run(MS * 4_000);
    assert_eq!(cluster.record(far), "DTM_RECOVERED");
    cluster.set_alive(2, true);
    cluster.run(MS * 8_000);
    assert_eq!(cluster.record(far), "DTM_RECOVERED");
    assert_eq!(cluster.take_sent(0, link, far), []);
    // The node dies, and is started again.
    cluster.set_alive(2, false);
    cluster.run(MS * 4_500);
    cluster.set_alive(2, true);
    cluster.run(MS * 8_000);
    assert_eq!(cluster.record(far), "DTM_RECOVERED");
    assert_eq!(cluster.take_sent(0, link, far), [ObjectState::Transient, ObjectState::Online]);
    assert_eq!(cluster.count_facts(1, FactKind::ProcessDied), 0);
    // A node that stays away is dead.
    cluster.set_alive(2, false);
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(far), "STOPPED");
    assert_eq!(cluster.take_sent(0, link, far), [ObjectState::Transient, ObjectState::Failed]);
}

#[test]
fn f02_our_own_agent_s_absence_says_nothing_of_our_processes() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    cluster.set_alive(0, false);
    cluster.run(MS * 8_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
    cluster.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu1"}"#);
    cluster.run(MS * 8_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
}

/// hare gives a node a new name at each start of its agent. The servers detect the death of the old one after
/// the new one has joined.
#[test]
fn f03_of_two_nodes_of_a_host_the_living_one_counts_whichever_was_written_last() {
    let mut cluster = led();
    let (far, confd) = (cluster.fid(2, "ios"), cluster.fid(0, "confd"));
    // The service is not registered under the new name yet.
    let slow = cluster.fid(2, "s3service");
    let link = cluster.link(0, confd);
    let new = json!({
        "Node": "ssu3:99887766", "Address": "127.0.0.3",
        "Service": {"ID": far.key.to_string(), "Service": "ios", "Port": 1},
        "Checks": [
            {"Node": "ssu3:99887766", "CheckID": "serfHealth", "Name": "s", "Status": "passing"},
            {"Node": "ssu3:99887766", "CheckID": "service:ios", "Name": "i", "Status": "passing",
             "ServiceID": far.key.to_string()},
        ],
    });
    cluster.consul("PUT", "/v1/catalog/register", &new.to_string());
    cluster.run(MS * 1_000);
    cluster.set_alive(2, false);
    cluster.run(MS * 20_000);
    for process in [far, slow] {
        assert_eq!(cluster.record(process), "DTM_RECOVERED", "{process}");
        assert_eq!(cluster.take_sent(0, link, process), [], "{process}");
    }
    // The new node dies: no node of the host is left.
    let dead = json!({
        "Node": "ssu3:99887766", "Address": "127.0.0.3", "SkipNodeUpdate": true,
        "Check": {"Node": "ssu3:99887766", "CheckID": "serfHealth", "Name": "s", "Status": "critical"},
    });
    cluster.consul("PUT", "/v1/catalog/register", &dead.to_string());
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(far), "STOPPED");
}

#[test]
fn f04_a_second_node_of_a_host_hides_no_death() {
    let mut cluster = led();
    let (far, confd) = (cluster.fid(2, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    // Keys are read in order: this one comes after the real one.
    let left = "m0conf/nodes/0x6e00000000000001:0x268";
    cluster.consul(
        "PUT",
        &format!("/v1/kv/{left}"),
        r#"{"name": "ssu3", "state": "M0_NC_UNKNOWN"}"#,
    );
    cluster.run(MS * 1_000);
    assert_eq!(cluster.count_facts(0, FactKind::ConfContradicts), 1);
    cluster.set_alive(2, false);
    cluster.run(MS * 6_500);
    assert_eq!(cluster.record(far), "STOPPED");
    assert_eq!(cluster.take_sent(0, link, far), [ObjectState::Transient, ObjectState::Failed]);
    cluster.run(MS * 5_000);
    assert_eq!(cluster.count_facts(0, FactKind::ConfContradicts), 1, "it is said once");
}

#[test]
fn f04_a_process_below_a_second_node_stays_what_it_is() {
    for node in ["0x6e00000000000001:0x17a", "0x6e00000000000000:0x1"] {
        let mut cluster = TestCluster::new(1);
        let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
        let link = cluster.link(0, confd);
        let left = format!("m0conf/nodes/{node}");
        for (key, value) in [
            (String::new(), r#"{"name": "old-name", "state": "M0_NC_UNKNOWN"}"#),
            (format!("/processes/{ios}"), r#"{"name": "hax", "state": "online"}"#),
            (
                format!("/processes/{ios}/services/0x7300000000000001:0x900"),
                r#"{"name": "ha", "state": "M0_NC_UNKNOWN"}"#,
            ),
        ] {
            cluster.consul("PUT", &format!("/v1/kv/{left}{key}"), value);
        }
        cluster.run(MS * 1_000);
        assert_eq!(cluster.count_facts(0, FactKind::ConfContradicts), 1, "{node}");
        assert_eq!(cluster.count_facts(0, FactKind::ProcessRetyped), 0, "{node}");
        let node_key = hardware(&mut cluster, "ssu1")[0].clone();
        let sdev = key(&mut cluster, "/sdevs/0x6400000000000001:0x0");
        assert!(sdev.starts_with(&node_key) && sdev.contains(&ios.to_string()), "{sdev}");
        cluster.set_check(0, ios, "critical");
        cluster.run(MS * 6_500);
        assert_eq!(cluster.record(ios), "STOPPED", "{node}");
        assert_eq!(cluster.state_in(&sdev), "offline", "{node}");
        assert_eq!(
            cluster.last_state(0, link, Fid::typed(b'd', 1, 0)),
            Some(ObjectState::Transient),
            "{node}"
        );
        assert_eq!(
            cluster.state_in(&format!("{left}/processes/{ios}")),
            "online",
            "it is left alone"
        );
    }
}

#[test]
fn f04_a_process_that_becomes_another_kind_of_process_is_said_to() {
    let mut cluster = TestCluster::new(1);
    let client = cluster.fid(0, "s3service");
    let place = key(&mut cluster, &format!("/processes/{client}"));
    let service = format!("/v1/kv/{place}/services/0x7300000000000001:0x901");
    cluster.consul("PUT", &service, r#"{"name": "ios", "state": "M0_NC_UNKNOWN"}"#);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.count_facts(0, FactKind::ProcessRetyped), 1);
}

/// Every node of hare imports the configuration at its start, over the one that is in use.
#[test]
fn f05_what_follows_is_worked_out_again_when_the_configuration_is_imported() {
    let mut cluster = led();
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.event(0, ios, ProcessEventKind::DtmRecovered);
    cluster.set_alive(2, false);
    cluster.run(MS * 7_000);
    let (near, far) = (hardware(&mut cluster, "ssu1"), hardware(&mut cluster, "ssu3"));
    let dead = cluster.fid(2, "ios");
    let sdev = key(&mut cluster, &format!("/sdevs/{}", Fid::typed(b'd', 1, 10)));
    assert!(sdev.contains(&dead.to_string()), "{sdev}");
    for _ in 0..2 {
        for key in &near {
            assert_eq!(cluster.state_in(key), "M0_NC_ONLINE", "{key}");
        }
        for key in &far {
            assert_eq!(cluster.state_in(key), "M0_NC_TRANSIENT", "{key}");
        }
        assert_eq!(cluster.state_in(&sdev), "offline");
        cluster.import();
        assert_eq!(cluster.state_in(&near[0]), "M0_NC_UNKNOWN");
        cluster.run(MS * 3_000);
    }
    let node: Fid = near[0].rsplit('/').next().expect("a fid").parse().expect("a fid");
    assert_eq!(cluster.states(0, confd, &[node]), [Note { fid: node, state: ObjectState::Online }]);
    assert_eq!(cluster.last_state(0, link, node), Some(ObjectState::Online));
    // A state that another client has set for a device since then stays.
    let own = key(&mut cluster, &format!("/sdevs/{}", Fid::typed(b'd', 1, 0)));
    cluster.consul("PUT", &format!("/v1/kv/{own}"), r#"{"path": "/dev/x", "state": "offline"}"#);
    cluster.run(MS * 3_000);
    assert_eq!(cluster.state_in(&own), "offline");
}

/// States are also derived from a record that another client wrote.
#[test]
fn f05_what_follows_is_worked_out_again_when_others_write_of_a_process() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    cluster.link(0, ios);
    cluster.run(MS * 1_000);
    let near = hardware(&mut cluster, "ssu1");
    for (state, text) in [("STOPPED", "M0_NC_TRANSIENT"), ("DTM_RECOVERED", "M0_NC_ONLINE")] {
        let value = json!({
            "state": format!("M0_CONF_HA_PROCESS_{state}"), "type": "M0_CONF_HA_PROCESS_M0D",
        });
        cluster.consul("PUT", &format!("/v1/kv/processes/{ios}"), &value.to_string());
        cluster.run(MS * 3_000);
        for key in &near {
            assert_eq!(cluster.state_in(key), text, "{key}");
        }
    }
}

#[test]
fn f06_a_process_that_never_said_that_it_started_is_transient_whatever_listens_at_its_port() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    cluster.consul("DELETE", &format!("/v1/kv/processes/{ios}"), "");
    cluster.run(MS * 500);
    assert_eq!(
        cluster.states(0, confd, &[ios]),
        [Note { fid: ios, state: ObjectState::Transient }]
    );
    let key = format!("/v1/kv/processes/{ios}");
    cluster.consul("PUT", &key, r#"{"state": "Unknown", "type": "Unknown"}"#);
    cluster.run(MS * 500);
    assert_eq!(
        cluster.states(0, confd, &[ios]),
        [Note { fid: ios, state: ObjectState::Transient }]
    );
    let id = cluster.http(0, "GET", "/v1/cluster/status", "");
    cluster.run(MS * 5);
    let (_, report) = cluster.response(0, id).expect("a response");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let svcs = report["nodes"][0]["svcs"].as_array().expect("services");
    let svc = svcs.iter().find(|svc| svc["fid"] == ios.to_string()).expect("it");
    assert_eq!(svc["status"], "unknown");
}

#[test]
fn f07_processes_with_a_link_live_though_their_node_is_not_in_the_catalog() {
    let mut cluster = led();
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.set_alive(0, false);
    cluster.run(MS * 7_000);
    assert_eq!((cluster.record(ios), cluster.record(confd)), ("STOPPED".into(), "STOPPED".into()));
    cluster.consul("PUT", "/v1/catalog/deregister", r#"{"Node": "ssu1"}"#);
    cluster.nodes[0].fault = None;
    cluster.restart(0, |_| {});
    cluster.run(MS * 1_000);
    cluster.link(0, ios);
    cluster.run(MS * 6_000);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED", "its link tells");
    assert_eq!(cluster.record(confd), "STOPPED", "of this one nothing tells");
    assert_eq!(cluster.count_facts(0, FactKind::NodeMissing), 1);
    let status = |cluster: &mut TestCluster| {
        let id = cluster.http(0, "GET", "/status", "");
        let (_, status) = cluster.response(0, id).expect("a response");
        serde_json::from_str::<Value>(&status).expect("JSON")["in_catalog"].clone()
    };
    assert_eq!(status(&mut cluster), false);
    cluster.set_alive(0, true);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.count_facts(0, FactKind::NodeBack), 1);
    assert_eq!(status(&mut cluster), true);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED");
}

#[test]
fn f08_who_asks_again_is_never_given_an_empty_entrypoint() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    let waiting = [cluster.ask(0, ios, false, 1), cluster.ask(0, confd, true, 2)];
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.input(0, Input::Stop);
    let since = [cluster.ask(0, ios, false, 1), cluster.ask(0, confd, true, 2)];
    cluster.run(MS * 30_000);
    assert!(cluster.nodes[0].exited);
    for [again, first] in [waiting, since] {
        assert!(cluster.reply(0, again).is_none(), "it would shut itself down");
        let empty = cluster.reply(0, first).expect("a reply").as_ref().expect("rc 0");
        assert_eq!(empty.confds.len(), 0, "it unwinds");
    }
}

#[test]
fn f11_clients_are_called_what_the_configuration_calls_them() {
    let mut cluster = TestCluster::new(1);
    let client = cluster.fid(0, "s3service");
    cluster.consul("PUT", "/v1/kv/m0_client_types", r#"["m0_client_other", "rgw_s3"]"#);
    let place = format!("m0conf/nodes/ssu1/processes/{}/services", client.key);
    let (_, keys) = cluster.consul("GET", &format!("/v1/kv/{place}/?keys"), "");
    for old in serde_json::from_str::<Vec<String>>(&keys).unwrap_or_default() {
        cluster.consul("DELETE", &format!("/v1/kv/{old}"), "");
    }
    cluster.consul("PUT", &format!("/v1/kv/{place}/rms"), "1");
    cluster.consul("PUT", &format!("/v1/kv/{place}/rgw_s3"), "2");
    cluster.run(MS * 1_000);
    for target in ["/v1/cluster/status", "/v1/cluster/fetch-fids"] {
        let id = cluster.http(0, "GET", target, "");
        cluster.run(MS * 5);
        let (_, report) = cluster.response(0, id).expect("a response");
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
    let mut cluster = TestCluster::new(1);
    let confd = cluster.fid(0, "confd");
    let link = cluster.link(0, confd);
    let sdev = Fid::typed(b'd', 1, 0);
    let at = key(&mut cluster, &format!("/sdevs/{sdev}"));
    let value: Value = serde_json::from_str(&cluster.kv(&at).expect("a value")).expect("JSON");
    let path = value["path"].as_str().expect("a path").to_owned();
    let mut n: u64 = cluster.kv("epoch").expect("an epoch").parse().expect("a number");
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
        tell(&mut cluster, 0, &[(n, message.to_string())]);
        cluster.run(MS * 1_000);
        assert_eq!(cluster.last_state(0, link, sdev), Some(state), "{word}");
    }
    let message = json!({
        "message_type": "M0_HA_MSG_NVEC",
        "payload": {"node": "ssu1", "device": path, "state": "broken"},
    });
    tell(&mut cluster, 0, &[(n + 1, message.to_string())]);
    cluster.run(MS * 1_000);
    let skipped = cluster.nodes[0].facts.iter().rev().find(|f| f.kind() == FactKind::QueueSkipped);
    assert!(skipped.is_some_and(|fact| fact.to_string().contains("\"broken\"")), "{skipped:?}");
}
