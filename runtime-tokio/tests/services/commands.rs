//! `hax service` as an operator uses it, also wrongly.

use std::io::Read as _;
use std::process::Stdio;

use crate::cluster::{Cluster, IDLE, said};
use crate::common::program::holds;

#[test]
fn h42_each_command_may_be_repeated() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let path = node.file("idle", IDLE);
    let path = path.to_str().unwrap();
    for expected in ["is defined", "is as it was", "is as it was"] {
        assert!(node.done(&["define", path]).contains(expected));
    }
    let mut pids = Vec::new();
    for _ in 0..3 {
        assert!(node.done(&["start", "idle"]).contains("running"));
        pids.push(node.pids("idle"));
    }
    assert!(pids[0].len() == 1 && pids.iter().all(|all| *all == pids[0]), "h04: {pids:?}");
    let why = node.done(&["why", "idle"]);
    assert!(why.contains("idle on n1 runs (process ") && why.contains("started by "), "{why}");
    for _ in 0..3 {
        assert!(node.done(&["stop", "idle"]).contains("absent"));
    }
    assert!(node.done(&["restart", "idle"]).contains("running"));
    let types = node.done(&["types"]);
    assert!(types.contains("idle") && types.contains("exec") && types.contains("n1"), "{types}");
}

#[test]
fn h04_fifty_starts_at_once_start_one_instance() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    node.define("idle", IDLE);
    let start = || {
        let mut command = node.service_command(&["start", "idle", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..50).map(|_| start()).collect();
    let mut answers: Vec<String> = all
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            answer["instances"][0]["instance"].as_str().unwrap().to_owned()
        })
        .collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_changed() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let bad = node.file("bad", "type = \"bad\"\ncomand = [\"/bin/sleep\"]\nstop_signal = \"x\"\n");
    let bad = node.service(&["define", bad.to_str().unwrap()]);
    let text = said(&bad);
    assert_eq!(bad.status.code(), Some(2), "{text}");
    assert!(text.contains("line 2") && text.contains("line 3"), "{text}");
    let place =
        node.file("place", "type = \"place\"\ncommand = [\"/bin/true\"]\n[place]\ncount = 2\n");
    let place = node.service(&["check", place.to_str().unwrap()]);
    assert!(said(&place).contains("line 4: place.count"), "{}", said(&place));
    let needy =
        node.file("needy", "type = \"needy\"\ncommand = [\"/bin/true\"]\nneeds = [\"gone\"]\n");
    let needy = node.service(&["check", needy.to_str().unwrap()]);
    assert_eq!(needy.status.code(), Some(1));
    assert!(said(&needy).contains("gone is not defined"), "{}", said(&needy));
    for args in [&["start", "gone"][..], &["why", "gone"], &["list", "gone"], &["show", "gone"]] {
        let gone = node.service(args);
        assert_eq!(gone.status.code(), Some(1), "h03: {args:?}: {}", said(&gone));
    }
    // A name is no part of a path.
    for args in [&["show", "Gone"][..], &["stop", "x/start?y="], &["list", "--node", "n 1"]] {
        let wrong = node.service(args);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}: {}", said(&wrong));
    }
    let types = node.done(&["types"]);
    assert!(types.contains("supervisor") && !types.contains("needy"), "{types}");
    let up = node.service(&["forget", "n1"]);
    assert!(up.status.code() == Some(1) && said(&up).contains("n1 is up"), "{}", said(&up));
    let mut elsewhere = node.service_command(&["list"]);
    let elsewhere = elsewhere.args(["--http", "127.0.0.1:1"]).output().unwrap();
    assert!(said(&elsewhere).contains("no hax answers at 127.0.0.1:1"), "{}", said(&elsewhere));
}

#[test]
fn what_cannot_run_is_told_with_its_reason() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    node.define("outside", "type = \"outside\"\ncommand = [\"/opt/hax-none/program\"]\n");
    let outside = node.service(&["start", "outside"]);
    assert_eq!(outside.status.code(), Some(1), "{}", said(&outside));
    assert!(said(&outside).contains("an instance has failed"), "h23: {}", said(&outside));
    assert!(node.done(&["why", "outside"]).contains("has failed"));
    // A program that ends at once is started again until hax gives up.
    node.define(
        "short",
        "type = \"short\"\ncommand = [\"/bin/false\"]\n[restart]\ngive_up = \"2 in 300s\"\n",
    );
    node.service(&["start", "short"]);
    assert!(holds(|| node.done(&["why", "short"]).contains("It is tried again")));
    assert!(
        node.done(&["why", "short"]).contains("exit code 1"),
        "{}",
        node.done(&["why", "short"])
    );
}

#[test]
fn h44_a_configuration_is_tried_and_output_and_changes_are_seen() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    node.define(
        "echo",
        "type = \"echo\"\ncommand = [\"/bin/sh\", \"-c\", \"echo word {word}; exec sleep 100000\"]\n\
         [parameters]\nword = { kind = \"string\", default = \"one\" }\n",
    );
    let mut watch = node.service_command(&["watch", "--for", "20s"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    node.done(&["start", "echo"]);
    let logs = |part: &str| {
        let logs = node.path("logs");
        let logs = node.service(&["logs", "echo", "--log-dir", &logs]);
        String::from_utf8_lossy(&logs.stdout).contains(part)
    };
    assert!(holds(|| logs("word one")));
    node.done(&["reconfigure", "echo", "word=two"]);
    assert!(holds(|| logs("word two")));
    node.done(&["reconfigure", "echo", "word="]);
    assert!(holds(
        || node.done(&["logs", "echo", "-n", "1", "--log-dir", &node.path("logs")]) == "word one\n"
    ));
    let dot = node.done(&["graph", "--dot"]);
    assert!(dot.starts_with("digraph") && dot.contains("\"type:echo\""), "{dot}");
    let mut seen = String::new();
    watch.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(watch.wait().unwrap().success());
    assert!(seen.matches("echo on n1: running").count() >= 3, "h06: {seen}");
}
