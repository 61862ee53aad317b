//! The HTTP routes: those of the old daemon, and those of hax.

use std::time::Duration;

use hax_core::bridge::io::Input;
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr::Event;
use hax_core::ha::note::ObjectState;
use serde_json::Value;

use crate::test_cluster::{Fault, TestCluster};

const MS: Duration = Duration::from_millis(1);

fn get(cluster: &mut TestCluster, target: &str) -> (u16, Value) {
    let id = cluster.http(0, "GET", target, "");
    cluster.run(MS * 5);
    let (status, body) = cluster.response(0, id).expect("a response");
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn d23_the_cluster_is_reported_in_the_old_shapes() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    cluster.consul("PUT", "/v1/kv/bytecount/healthy", "42");
    cluster.consul("PUT", "/v1/kv/stats/filesystem", r#"{"stats": {"fs_svc_total": 3}}"#);
    cluster.consul("PUT", "/v1/kv/m0_client_types", r#"["m0_client_other"]"#);
    let (status, report) = get(&mut cluster, "/v1/cluster/status");
    assert_eq!(status, 200);
    assert_eq!(report["bytecount"]["healthy"], 42);
    assert_eq!(report["filesystem"]["stats"]["fs_svc_total"], 3);
    assert!(report["pools"][0]["name"].is_string());
    assert!(report["profiles"][0]["pools"].is_array());
    let nodes = report["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes[0]["name"], "ssu1");
    let of = |fid: &str| {
        let svcs = nodes[0]["svcs"].as_array().expect("services");
        svcs.iter().find(|svc| svc["fid"] == fid).expect("it").clone()
    };
    let ios_of = of(&ios.to_string());
    assert_eq!(ios_of["name"], "ioservice");
    assert_eq!(ios_of["status"], "started");
    assert!(ios_of["ep"].as_str().is_some_and(|ep| ep.starts_with("inet:")));

    assert_eq!(get(&mut cluster, "/v1/cluster/status/bytecount").1["bytecount"]["healthy"], 42);

    let (status, fids) = get(&mut cluster, "/v1/cluster/fetch-fids");
    assert_eq!(status, 200);
    let svcs = fids[0]["svcs"].as_array().expect("services");
    let confd = svcs.iter().find(|svc| svc["name"] == "confd").expect("a confd");
    assert_eq!(confd["conf_xc"], "/etc/motr/confd.xc");
    assert_eq!(confd["ha_ep"], fids[0]["ha_ep"]);
    let names: Vec<&str> = svcs.iter().filter_map(|svc| svc["name"].as_str()).collect();
    assert!(names.contains(&"hax") && names.contains(&"ioservice"), "{names:?}");

    cluster.nodes[0].fault = Some(Fault::Fails);
    let (status, refused) = get(&mut cluster, "/v1/cluster/status");
    assert_eq!((status, refused["status_code"].as_u64()), (503, Some(503)));
}

#[test]
fn a_watch_of_one_process_makes_its_key_be_read_and_says_nothing_by_itself() {
    let mut cluster = TestCluster::new(1);
    let (far, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let body = |state: &str, index: u64| {
        use base64::Engine as _;
        let value = format!(
            r#"{{"state": "M0_CONF_HA_PROCESS_{state}", "type": "M0_CONF_HA_PROCESS_M0D"}}"#
        );
        let encoded = base64::engine::general_purpose::STANDARD.encode(&value);
        let entry = format!(
            r#"{{"Key": "processes/{far}", "Value": "{encoded}", "ModifyIndex": {index}}}"#
        );
        (value, entry)
    };
    let key = format!("/v1/kv/processes/{far}");
    let (stopped, _) = body("STOPPED", 0);
    let (started, _) = body("STARTED", 0);
    cluster.consul("PUT", &key, &started);
    cluster.run(MS * 5);
    // The replica's watch has just read, and reads again in a quarter of a second.
    cluster.consul("PUT", &key, &stopped);
    let id = cluster.post(0, "/watcher/processes", &body("STOPPED", cluster.consul.index()).1);
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    cluster.run(MS * 5);
    assert_eq!(cluster.last_state(0, link, far), Some(ObjectState::Failed));
    // A posted record that is not in Consul has no effect, whatever its index is.
    cluster.take_sent(0, link, far);
    for index in [30, 1 << 60] {
        cluster.post(0, "/watcher/processes", &body("STARTED", index).1);
        cluster.run(MS * 5);
        assert_eq!(cluster.take_sent(0, link, far), []);
    }
    for bad in ["", "[]", "{}", &body("NONSENSE", 9).1, r#"{"Key": "x", "ModifyIndex": 1}"#] {
        let id = cluster.post(0, "/watcher/processes", bad);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(400), "{bad}");
    }
}

#[test]
fn d35_subscriptions_are_kept_in_consul() {
    let mut cluster = TestCluster::new(1);
    let key = "events/subscription/node";
    cluster.consul("DELETE", &format!("/v1/kv/{key}"), "");
    let wish = r#"{"node": "health_message"}"#;
    let post = |cluster: &mut TestCluster, path: &str, body: &str| {
        let id = cluster.post(0, path, body);
        cluster.run(MS * 5);
        cluster.response(0, id).map(|(status, _)| status)
    };
    for _ in 0..2 {
        assert_eq!(post(&mut cluster, "/v1/events/subscribe", wish), Some(200));
        assert_eq!(cluster.kv(key).as_deref(), Some(r#"["health_message"]"#));
    }
    assert_eq!(post(&mut cluster, "/v1/events/unsubscribe", wish), Some(200));
    assert_eq!(cluster.kv(key).as_deref(), Some("[]"));
    for bad in ["", "[]", r#"{"disk": "health_message"}"#, r#"{"node": "x"}"#, r#"{"node": 1}"#] {
        assert_eq!(post(&mut cluster, "/v1/events/subscribe", bad), Some(400), "{bad}");
    }
    cluster.nodes[0].fault = Some(Fault::Fails);
    assert_eq!(
        post(&mut cluster, "/v1/events/subscribe", wish),
        Some(503),
        "not a 200 for a failure"
    );
}

#[test]
fn the_status_says_who_leads_and_what_is_owed() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, ios);
    cluster.link(0, confd);
    cluster.nodes[0].fault = Some(Fault::Refuses);
    cluster.event(0, ios, hax_core::ha::process::ProcessEventKind::Stopped);
    let (status, report) = get(&mut cluster, "/status");
    assert_eq!(status, 200);
    assert_eq!(report["node"], "ssu1");
    assert_eq!(report["links"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["lanes"][0]["process"], ios.to_string());
    assert_eq!(report["lanes"][0]["stage"], "waiting");
    assert_eq!(report["leader"]["holds"], false);
}

#[test]
fn the_status_says_where_each_process_is_and_since_when_it_is_there() {
    let mut cluster = TestCluster::new(1);
    let ios = cluster.fid(0, "ios");
    let link = cluster.link(0, ios);
    let shown = |cluster: &mut TestCluster| {
        let report = get(cluster, "/status").1;
        let link = &report["links"][0];
        let since = link["since_ms"].as_u64().expect("a number") / 1_000;
        (link["up"] == true, since, report["uptime_ms"].as_u64().expect("a number") / 1_000)
    };
    cluster.run(MS * 20_000);
    let endpoint = get(&mut cluster, "/status").1["links"][0]["endpoint"].clone();
    assert!(endpoint.as_str().is_some_and(|name| name.starts_with("inet:tcp:127.")), "{endpoint}");
    let (up, since, began) = shown(&mut cluster);
    assert!(up && (19..=20).contains(&since) && began >= since, "{since} {began}");
    // The link's end is reported twice and counts once.
    for (event, expected) in [
        (Event::LinkDown { link }, (false, 3, began + 3)),
        (Event::LinkDown { link }, (false, 6, began + 6)),
        (Event::LinkBack { link }, (true, 3, began + 9)),
    ] {
        cluster.input(0, Input::Motr(event));
        cluster.run(MS * 3_000);
        assert_eq!(shown(&mut cluster), expected);
    }
}

#[test]
fn what_needs_libmotr_says_so_and_unknown_paths_are_unknown() {
    let mut cluster = TestCluster::new(1);
    for (method, path, status) in [
        ("POST", "/api/v1/sns/repair-start", 501),
        ("GET", "/api/v1/sns/repair-status?pool_fid=0x1:0x1", 501),
        ("GET", "/nothing", 404),
        ("DELETE", "/", 405),
        ("GET", "/watcher/bq", 405),
        ("POST", "/v1/cluster/status", 405),
    ] {
        let id = cluster.http(0, method, path, "");
        let (got, body) = cluster.response(0, id).expect("a response");
        assert_eq!(got, status, "{method} {path}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["status_code"], status);
    }
}

#[test]
fn what_is_posted_as_newer_than_consul_is_not_believed() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let check = format!(
        r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "service:{key}", "Status": "critical",
            "ServiceID": "{key}", "ModifyIndex": 1152921504606846976}}]}}]"#,
        key = ios.key
    );
    cluster.post(0, "/", &check);
    cluster.run(MS * 10);
    let told = cluster.take_sent(0, link, ios);
    assert_eq!(told, [ObjectState::Transient, ObjectState::Online]);
    assert_eq!(cluster.record(ios), "DTM_RECOVERED", "nobody is declared dead for it");
    assert_eq!(cluster.count_facts(0, FactKind::PostDistrusted), 1);
    // A true status has an effect again.
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 500);
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
}

#[test]
fn f21_what_a_stranger_posts_tells_nobody() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    let post = format!(
        r#"[{{"Node": {{"Node": "ssu1"}}, "Checks": [{{"Node": "ssu1", "CheckID": "x", "Status": "critical",
            "ServiceID": "{}", "ServiceName": "ios", "ModifyIndex": 900000}}]}}]"#,
        ios.key
    );
    cluster.nodes[0].targets.clear();
    for _ in 0..200 {
        let id = cluster.post_untrusted(0, "/", &post);
        assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
        cluster.run(MS * 10);
    }
    assert_eq!(cluster.take_sent(0, link, ios), []);
    assert_eq!(cluster.count_facts(0, FactKind::PostDistrusted), 0);
    let asked =
        cluster.nodes[0].targets.iter().filter(|(_, target)| target.contains("health/state"));
    assert!(asked.count() <= 10, "in 2 s");
    // A true status is sent, whoever posts it first.
    cluster.set_check(0, ios, "critical");
    cluster.post_untrusted(0, "/", &post);
    cluster.run(MS * 500);
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
}

/// A watch's handler may be slow, and its payload older than the replica: it names an agent of the host that
/// has left since.
#[test]
fn f53_a_late_post_about_an_agent_that_has_left_changes_nothing() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.set_check(0, ios, "critical");
    cluster.run(MS * 500);
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
    cluster.take_sent(0, link, ios);
    let late = format!(
        r#"[{{"Checks": [{{"Node": "ssu1:00002703", "CheckID": "serfHealth", "Status": "critical",
            "ServiceID": "", "ModifyIndex": 4}}, {{"Node": "ssu1:00002703", "CheckID": "service:{key}",
            "Status": "passing", "ServiceID": "{key}", "ModifyIndex": 3}}]}}]"#,
        key = ios.key
    );
    cluster.post(0, "/", &late);
    cluster.run(MS * 200);
    assert_eq!(cluster.take_sent(0, link, ios), []);
}

#[test]
fn posted_checks_are_bounded() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
    cluster.link(0, confd);
    let mut checks = Vec::new();
    for n in 0..2_000 {
        let (node, service) = if n % 2 == 0 {
            (format!("invented{n}"), String::new())
        } else {
            ("ssu1".to_owned(), ios.key.to_string())
        };
        checks.push(format!(
            r#"{{"Node": "{node}", "CheckID": "c{n}", "Status": "passing",
                "ServiceID": "{service}", "ModifyIndex": 900000}}"#
        ));
    }
    let id = cluster.post(0, "/", &format!(r#"[{{"Checks": [{}]}}]"#, checks.join(",")));
    assert_eq!(cluster.response(0, id).map(|(status, _)| status), Some(200));
    let (_, status) = get(&mut cluster, "/status");
    let health = status["replicas"][2]["entries"].as_u64().expect("a number");
    assert!(health < 100, "{health} checks are kept");
}

/// A blocking query cannot distinguish a hanging Consul from one without a change. Another call can.
#[test]
fn a_consul_that_hangs_is_noticed_by_the_next_call() {
    let mut cluster = TestCluster::new(1);
    let process = cluster.fid(0, "ios");
    cluster.run(MS * 2_000);
    assert_eq!(get(&mut cluster, "/readyz").0, 200);
    cluster.nodes[0].fault = Some(Fault::Hangs);
    cluster.ask(0, process, false, 1);
    cluster.run(MS * 2_000);
    let (status, body) = get(&mut cluster, "/readyz");
    assert_eq!((status, &body["waits_for"][0]), (503, &"consul".into()));
    assert_eq!(get(&mut cluster, "/status").1["consul"]["answers"], false);
    cluster.nodes[0].fault = None;
    let backs = cluster.count_facts(0, FactKind::ConsulBack);
    cluster.ask(0, process, false, 1);
    cluster.run(MS * 100);
    assert_eq!(get(&mut cluster, "/readyz").0, 200);
    assert_eq!(cluster.count_facts(0, FactKind::ConsulBack), backs + 1);
}
