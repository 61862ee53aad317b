//! What Consul does not show: a token that may not read, a configuration that is not there.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::ha::fact::FactKind;
use hax_core::ha::note::ObjectState;
use hax_core::ha::process::ProcessEventKind;

use serde_json::json;

use crate::lab::Lab;

const MS: Duration = Duration::from_millis(1);

/// The key of a process in `m0conf/`.
fn key_of(lab: &mut Lab, process: Fid) -> String {
    let (_, keys) = lab.consul("GET", "/v1/kv/m0conf/?keys", "");
    let keys: Vec<String> = serde_json::from_str(&keys).expect("keys");
    let end = format!("/processes/{process}");
    let found =
        keys.into_iter().find(|key| key.starts_with("m0conf/nodes/0x") && key.ends_with(&end));
    found.expect("a process is configured")
}

/// Writes the entries again that a list has.
fn put_back(lab: &mut Lab, list: &str) {
    let entries: Vec<serde_json::Value> = serde_json::from_str(list).expect("a list");
    let set = |entry: &serde_json::Value| json!({"KV": {"Verb": "set", "Key": entry["Key"], "Value": entry["Value"]}});
    for part in entries.chunks(64) {
        let ops: Vec<_> = part.iter().map(set).collect();
        lab.consul("PUT", "/v1/txn", &json!(ops).to_string());
    }
}

fn ready(lab: &mut Lab) -> (u16, String) {
    ready_at(lab, 0)
}

fn ready_at(lab: &mut Lab, node: usize) -> (u16, String) {
    let id = lab.http(node, "GET", "/readyz", "");
    lab.response(node, id).expect("an answer")
}

#[test]
fn f17_without_a_configuration_hax_is_not_ready() {
    let mut lab = Lab::new(1);
    let all = lab.consul("GET", "/v1/kv/m0conf/?recurse", "").1;
    let process = lab.fid(0, "hax");
    lab.consul("DELETE", "/v1/kv/m0conf/?recurse", "");
    lab.restart(0, |_| {});
    lab.consul("DELETE", &format!("/v1/kv/processes/{process}"), "");
    lab.run(MS * 3_000);
    let (status, text) = ready(&mut lab);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert_eq!((lab.saw(0, FactKind::TableEmpty), lab.saw(0, FactKind::Ready)), (1, 0));
    let word = lab.kv(&format!("processes/{process}"));
    assert_eq!(word, None, "nothing is said of a process that is not configured");
    put_back(&mut lab, &all);
    lab.run(MS * 2_000);
    assert_eq!(ready(&mut lab).0, 200);
    assert_eq!(lab.word(process), "DTM_RECOVERED");
}

#[test]
fn f17_a_configuration_without_our_process_is_waited_for() {
    let mut lab = Lab::new(1);
    let (known, process) = (lab.fid(0, "hax"), Fid::process(99));
    lab.restart(0, |config| config.process = process);
    lab.run(MS * 2_000);
    let (status, text) = ready(&mut lab);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert!(text.contains("does not have the process"), "{text}");
    assert_eq!((lab.saw(0, FactKind::ProcessMissing), lab.saw(0, FactKind::Ready)), (1, 0));
    let key = key_of(&mut lab, known);
    let value = lab.kv(&key).expect("a process of ours");
    let key = key.replace(&known.to_string(), &process.to_string());
    lab.consul("PUT", &format!("/v1/kv/{key}"), &value);
    lab.run(MS * 2_000);
    assert_eq!((ready(&mut lab).0, lab.saw(0, FactKind::ProcessFound)), (200, 1));
    assert_eq!(lab.word(process), "DTM_RECOVERED");
}

#[test]
fn f17_a_configuration_that_empties_is_kept_loudly() {
    let mut lab = Lab::with(2, |config| config.elect = config.node.as_ref() == "ssu2");
    lab.run(MS * 1_000);
    lab.free_the_lock();
    lab.run(MS * 1_500);
    assert!(lab.view(1).leads);
    let (ios, confd) = (lab.fid(1, "ios"), lab.fid(1, "confd"));
    lab.link(1, confd);
    lab.consul("DELETE", "/v1/kv/m0conf/?recurse", "");
    lab.run(MS * 2_000);
    let (status, text) = ready_at(&mut lab, 1);
    assert!(status == 503 && text.contains("\"waits_for\": [\"m0conf\"]"), "{status} {text}");
    assert_eq!(lab.saw(1, FactKind::TableEmpty), 1);
    assert!(lab.view(1).leads, "the lead is not given up");
    let states = lab.states(1, confd, &[ios]);
    assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online));
}

#[test]
fn f17_words_that_were_deleted_are_gone() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(1, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    lab.consul("DELETE", "/v1/kv/processes/?recurse", "");
    lab.run(MS * 2_000);
    assert_eq!((ready(&mut lab).0, lab.saw(0, FactKind::TableEmpty)), (200, 0));
    assert_eq!(lab.told(0, link, ios), Some(ObjectState::Transient));
}

#[test]
fn f17_what_a_token_may_read_again_is_read_though_no_index_moves() {
    for prefix in ["/v1/kv/m0conf", "/v1/kv/processes", "/v1/health/"] {
        let mut lab = Lab::new(1);
        let (ios, confd) = (lab.fid(0, "ios"), lab.fid(0, "confd"));
        lab.link(0, confd);
        lab.nodes[0].token.hide(prefix);
        lab.run(MS * 61_000);
        let (status, text) = ready(&mut lab);
        assert!(status == 503 && text.contains("may not read"), "{prefix}: {status} {text}");
        assert_eq!(lab.saw(0, FactKind::TableUnreadable), 1, "{prefix}: said once");
        lab.nodes[0].token.mend();
        lab.run(MS * 7_000);
        let (status, text) = ready(&mut lab);
        assert_eq!(status, 200, "{prefix}: {text}");
        assert_eq!(lab.saw(0, FactKind::TableShown), 1, "{prefix}");
        let states = lab.states(0, confd, &[ios]);
        assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online), "{prefix}");
    }
}

#[test]
fn f17_a_table_that_was_taken_for_empty_is_read_when_it_shows() {
    let mut lab = Lab::new(1);
    let (ios, confd) = (lab.fid(1, "ios"), lab.fid(0, "confd"));
    let link = lab.link(0, confd);
    // The list alone is hidden: its keys say that it may be read.
    lab.nodes[0].token.hide("/v1/kv/processes/?");
    lab.run(MS * 62_000);
    assert_eq!(lab.told(0, link, ios), Some(ObjectState::Transient));
    lab.nodes[0].token.mend();
    lab.run(MS * 62_000);
    assert_eq!(ready(&mut lab).0, 200);
    let states = lab.states(0, confd, &[ios]);
    assert_eq!(states.first().map(|note| note.state), Some(ObjectState::Online));
}

#[test]
fn f17_a_token_that_never_had_the_right_is_waited_for() {
    for prefix in ["/v1/kv/m0conf", "/v1/kv/processes", "/v1/health/"] {
        let mut lab = Lab::new(1);
        lab.nodes[0].token.hide(prefix);
        lab.restart(0, |_| {});
        lab.run(MS * 10_000);
        assert_eq!(ready(&mut lab).0, 503, "{prefix}");
        assert_eq!(lab.saw(0, FactKind::Ready), 0, "{prefix}");
        lab.nodes[0].token.mend();
        lab.run(MS * 2_000);
        assert_eq!((ready(&mut lab).0, lab.saw(0, FactKind::Ready)), (200, 1), "{prefix}");
    }
}

#[test]
fn f19_a_refusal_is_no_answer_and_is_told() {
    let mut lab = Lab::new(1);
    lab.run(MS * 1_000);
    assert_eq!(ready(&mut lab).0, 200);
    let ios = lab.fid(0, "ios");
    lab.link(0, ios);
    // What waits goes on waiting, all else is refused.
    lab.nodes[0].token.revoke();
    lab.event(0, ios, ProcessEventKind::Stopping);
    lab.run(MS * 3_000);
    let (status, text) = ready(&mut lab);
    assert!(status == 503 && text.contains("ACL not found"), "{status} {text}");
    let id = lab.http(0, "GET", "/status", "");
    let (_, status) = lab.response(0, id).expect("an answer");
    let said: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(said["consul"]["contact_ms"].as_u64() >= Some(2_000), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("ACL not found")));
    assert_eq!(lab.saw(0, FactKind::ConsulFailed), 0, "the host says it, once");
    lab.nodes[0].token.mend();
    lab.run(MS * 10_000);
    assert_eq!(ready(&mut lab).0, 200);
}
