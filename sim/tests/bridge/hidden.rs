//! Data that Consul does not show: a token without the right to read, and a missing configuration.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::ha::fact::FactKind;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use serde_json::json;

use crate::test_cluster::TestCluster;

const MS: Duration = Duration::from_millis(1);

/// Returns the key of a process in `m0conf/`.
fn key_of(cluster: &mut TestCluster, process: Fid) -> String {
    let (_, keys) = cluster.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&keys).expect("keys");
    let end = format!("/processes/{process}");
    let found =
        keys.into_iter().find(|key| key.starts_with("m0conf/nodes/0x") && key.ends_with(&end));
    found.expect("a process is configured")
}

/// Writes the entries of a list again.
fn put_back(cluster: &mut TestCluster, list: &str) {
    let entries: Vec<serde_json::Value> = serde_json::from_str(list).expect("a list");
    let set = |entry: &serde_json::Value| json!({"KV": {"Verb": "set", "Key": entry["Key"], "Value": entry["Value"]}});
    for part in entries.chunks(64) {
        let ops: Vec<_> = part.iter().map(set).collect();
        cluster.consul("PUT", "/v1/txn", &json!(ops).to_string());
    }
}

fn ready(cluster: &mut TestCluster) -> (u16, String) {
    ready_at(cluster, 0)
}

fn ready_at(cluster: &mut TestCluster, node: usize) -> (u16, String) {
    let id = cluster.http(node, "GET", "/readyz", "");
    cluster.response(node, id).expect("an answer")
}

#[test]
fn f17_without_a_configuration_hax_is_not_ready() {
    let mut cluster = TestCluster::new(1);
    let all = cluster.consul("GET", "/v1/kv/m0conf/?recurse", "").1;
    let process = cluster.fid(0, "hax");
    cluster.consul("DELETE", "/v1/kv/m0conf/?recurse", "");
    cluster.restart(0, |_| {});
    cluster.consul("DELETE", &format!("/v1/kv/processes/{process}"), "");
    cluster.run(MS * 3_000);
    let (status, text) = ready(&mut cluster);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert_eq!(
        (cluster.count_facts(0, FactKind::TableEmpty), cluster.count_facts(0, FactKind::Ready)),
        (1, 0)
    );
    let word = cluster.kv(&format!("processes/{process}"));
    assert_eq!(word, None, "nothing is said of a process that is not configured");
    put_back(&mut cluster, &all);
    cluster.run(MS * 2_000);
    assert_eq!(ready(&mut cluster).0, 200);
    assert_eq!(cluster.record(process), "DTM_RECOVERED");
}

#[test]
fn f17_a_configuration_without_our_process_is_waited_for() {
    let mut cluster = TestCluster::new(1);
    let (known, process) = (cluster.fid(0, "hax"), Fid::process(99));
    cluster.restart(0, |config| config.process = process);
    cluster.run(MS * 2_000);
    let (status, text) = ready(&mut cluster);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert!(text.contains("does not have the process"), "{text}");
    assert_eq!(
        (cluster.count_facts(0, FactKind::ProcessMissing), cluster.count_facts(0, FactKind::Ready)),
        (1, 0)
    );
    let key = key_of(&mut cluster, known);
    let value = cluster.kv(&key).expect("a process of ours");
    let key = key.replace(&known.to_string(), &process.to_string());
    cluster.consul("PUT", &format!("/v1/kv/{key}"), &value);
    cluster.run(MS * 2_000);
    assert_eq!((ready(&mut cluster).0, cluster.count_facts(0, FactKind::ProcessFound)), (200, 1));
    assert_eq!(cluster.record(process), "DTM_RECOVERED");
}

#[test]
fn f17_a_configuration_that_empties_is_kept_loudly() {
    let mut cluster = TestCluster::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    cluster.run(MS * 1_000);
    cluster.free_the_lock();
    cluster.run(MS * 1_500);
    assert!(cluster.view(1).leads);
    let (ios, confd) = (cluster.fid(1, "ios"), cluster.fid(1, "confd"));
    cluster.link(1, confd);
    cluster.consul("DELETE", "/v1/kv/m0conf/?recurse", "");
    cluster.run(MS * 2_000);
    let (status, text) = ready_at(&mut cluster, 1);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert_eq!(cluster.count_facts(1, FactKind::TableEmpty), 1);
    assert!(cluster.view(1).leads, "the lead is not given up");
    let states = cluster.states(1, confd, &[ios]);
    assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online));
}

#[test]
fn f17_words_that_were_deleted_are_gone() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    cluster.consul("DELETE", "/v1/kv/processes/?recurse", "");
    cluster.run(MS * 2_000);
    assert_eq!((ready(&mut cluster).0, cluster.count_facts(0, FactKind::TableEmpty)), (200, 0));
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
}

#[test]
fn f17_what_a_token_may_read_again_is_read_though_no_index_moves() {
    for prefix in ["/v1/kv/m0conf", "/v1/kv/processes", "/v1/health/"] {
        let mut cluster = TestCluster::new(1);
        let (ios, confd) = (cluster.fid(0, "ios"), cluster.fid(0, "confd"));
        cluster.link(0, confd);
        cluster.nodes[0].token.hide(prefix);
        cluster.run(MS * 61_000);
        let (status, text) = ready(&mut cluster);
        assert!(status == 503 && text.contains("may not read"), "{prefix}: {status} {text}");
        assert_eq!(cluster.count_facts(0, FactKind::TableUnreadable), 1, "{prefix}: said once");
        cluster.nodes[0].token.restore();
        cluster.run(MS * 7_000);
        let (status, text) = ready(&mut cluster);
        assert_eq!(status, 200, "{prefix}: {text}");
        assert_eq!(cluster.count_facts(0, FactKind::TableShown), 1, "{prefix}");
        let states = cluster.states(0, confd, &[ios]);
        assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online), "{prefix}");
    }
}

#[test]
fn f17_a_table_that_was_taken_for_empty_is_read_when_it_shows() {
    let mut cluster = TestCluster::new(1);
    let (ios, confd) = (cluster.fid(1, "ios"), cluster.fid(0, "confd"));
    let link = cluster.link(0, confd);
    // Only the list of entries is hidden: the list of keys is readable.
    cluster.nodes[0].token.hide("/v1/kv/processes/?");
    cluster.run(MS * 62_000);
    assert_eq!(cluster.last_state(0, link, ios), Some(ObjectState::Transient));
    cluster.nodes[0].token.restore();
    cluster.run(MS * 62_000);
    assert_eq!(ready(&mut cluster).0, 200);
    let states = cluster.states(0, confd, &[ios]);
    assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online));
}

#[test]
fn f17_a_token_that_never_had_the_right_is_waited_for() {
    for prefix in ["/v1/kv/m0conf", "/v1/kv/processes", "/v1/health/"] {
        let mut cluster = TestCluster::new(1);
        cluster.nodes[0].token.hide(prefix);
        cluster.restart(0, |_| {});
        cluster.run(MS * 10_000);
        assert_eq!(ready(&mut cluster).0, 503, "{prefix}");
        assert_eq!(cluster.count_facts(0, FactKind::Ready), 0, "{prefix}");
        cluster.nodes[0].token.restore();
        cluster.run(MS * 2_000);
        assert_eq!(
            (ready(&mut cluster).0, cluster.count_facts(0, FactKind::Ready)),
            (200, 1),
            "{prefix}"
        );
    }
}

#[test]
fn f19_a_refusal_is_no_answer_and_is_told() {
    let mut cluster = TestCluster::new(1);
    cluster.run(MS * 1_000);
    assert_eq!(ready(&mut cluster).0, 200);
    let ios = cluster.fid(0, "ios");
    cluster.link(0, ios);
    // Waiting queries go on waiting. Consul refuses everything else.
    cluster.nodes[0].token.revoke();
    cluster.event(0, ios, ProcessEventKind::Stopping);
    cluster.run(MS * 3_000);
    let (status, text) = ready(&mut cluster);
    assert!(status == 503 && text.contains("ACL not found"), "{status} {text}");
    let id = cluster.http(0, "GET", "/status", "");
    let (_, status) = cluster.response(0, id).expect("an answer");
    let said: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(said["consul"]["contact_ms"].as_u64() >= Some(2_000), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("ACL not found")));
    assert_eq!(cluster.count_facts(0, FactKind::ConsulFailed), 0, "the host says it, once");
    cluster.nodes[0].token.restore();
    cluster.run(MS * 10_000);
    assert_eq!(ready(&mut cluster).0, 200);
}
