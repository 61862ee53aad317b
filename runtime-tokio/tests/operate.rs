//! The operator's guide compared with the program: facts, metrics, exit codes, samples, policy.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::certs::directory;
use common::program::{Program, command, holds};
use hax_core::base::fact::Level;
use hax_core::ha::fact::FactKind;
use hax_core::node::Node;
use hax_driver::exit;
use hax_driver::host::clock::Clock;
use hax_driver::observe::metrics::Metrics;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available, binary, port};
use serde_json::{Value, json};

const GUIDE: &str = include_str!("../../docs/OPERATE.md");

/// Returns the cells of each table row under a heading of the guide.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = GUIDE.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

#[test]
fn every_fact_of_warn_and_above_has_a_row() {
    let rows = rows("Log lines that want somebody");
    let mut missing = Vec::new();
    for kind in FactKind::ALL.iter().filter(|kind| kind.level() >= Level::Warn) {
        let level = format!("{:?}", kind.level()).to_lowercase();
        let row = rows.iter().find(|row| code(row[0]) == Some(kind.name()));
        let whole = |row: &&Vec<&str>| {
            row.len() == 4 && row[1] == level && row[2].len() > 10 && row[3].len() > 5
        };
        if row.filter(whole).is_none() {
            missing.push(format!("| `{}` | {level} | … | … |", kind.name()));
        }
    }
    assert!(missing.is_empty(), "docs/OPERATE.md lacks: {missing:#?}");
    let known = |name: &str| FactKind::ALL.iter().any(|kind| kind.name() == name);
    for row in rows.iter().filter(|row| row.len() == 4 && row[0] != "fact") {
        assert!(code(row[0]).is_some_and(known), "there is no such fact: {row:?}");
    }
}

/// Returns the anchor that GitHub makes of a heading: lower case, hyphens for blanks, and no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

#[test]
fn every_link_within_a_guide_has_its_heading() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut links = 0;
    for file in std::fs::read_dir(docs).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let anchors: BTreeSet<_> =
            headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
        for link in text.split("](#").skip(1) {
            let link = link.split(')').next().unwrap();
            assert!(anchors.contains(link), "{}: there is no #{link}", path.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
}

#[test]
fn every_metric_is_listed_with_its_type() {
    let rows = rows("Metrics");
    let listed = rows.iter().filter_map(|row| Some((code(row[0])?, row[1])));
    let listed: BTreeSet<_> = listed.collect();
    let text = Metrics::of::<Node>(Clock::new()).render(0);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    assert_eq!(types.collect::<BTreeSet<_>>(), listed);
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let help = exit::HELP.lines().skip(1).map(|line| line.trim().split_once(' ').unwrap());
    let help: Vec<_> = help.map(|(code, text)| (code, text.trim())).collect();
    let rows = rows("Exit codes");
    let rows: Vec<_> =
        rows.iter().filter(|row| row[0] != "code").map(|row| (row[0], row[1])).collect();
    assert_eq!(rows.len(), help.len());
    for ((code, text), (row, said)) in help.iter().zip(rows) {
        assert!(*code == row && said.starts_with(text), "{code} {text}: {row} {said}");
    }
}

#[test]
fn every_setting_that_the_guide_names_is_one() {
    let help = command(&["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words =
        GUIDE.split(|c: char| c.is_whitespace() || matches!(c, '`' | '=' | ',' | ')' | '/'));
    let flags: BTreeSet<_> = words.filter(|word| word.starts_with("--")).collect();
    // These flags belong to other programs, or to other commands of hax.
    let others = ["--", "--release", "--bin", "--system", "--shell", "--now", "--json", "--replay"];
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let known: BTreeSet<_> = help.split(|c| !is_flag(c)).collect();
    for flag in flags.iter().filter(|flag| !others.contains(flag)) {
        let flag = flag.trim_end_matches(|c| !is_flag(c));
        assert!(known.contains(flag), "{flag}");
    }
    assert!(flags.len() > 15, "{flags:?}");
}

#[test]
fn the_example_file_is_one() {
    let (_, example) = GUIDE.split_once("```toml\n").unwrap();
    let example = example.split("```").next().unwrap();
    let dir = directory();
    let (token, file) = (dir.join("token"), dir.join("hax.toml"));
    std::fs::write(&token, "one").unwrap();
    let at_hand = |line: &str| match line.split_once(" = ") {
        // The token's file is read with the settings, so it has to exist.
        Some((key, _)) if key.ends_with("token_file") => format!("{key} = {token:?}\n"),
        _ => format!("{line}\n"),
    };
    std::fs::write(&file, example.lines().map(at_hand).collect::<String>()).unwrap();
    let output = command(&["run", "--check", "--config", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn consul_takes_the_sample_and_finds_the_entry_in_it() {
    if !available() {
        return;
    }
    let dir = directory();
    let sample = include_str!("../../contrib/consul-hax.json");
    std::fs::write(dir.join("hax.json"), sample).unwrap();
    std::fs::write(dir.join("base.json"), r#"{"data_dir": "/nonexistent"}"#).unwrap();
    let valid = Command::new(binary().unwrap()).arg("validate").arg(&dir).output().unwrap();
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));

    let service = serde_json::from_str::<Value>(sample).unwrap()["service"].take();
    let config = json!({ "service": service });
    let consul = RealConsul::start(Options { config, ..Options::new("ssu1") }).unwrap();
    let url = format!("http://{}", consul.address());
    let output = command(&["check", "--consul", &url]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let entry = "process 0x7200000000000001:0x0 on node ssu1 with the Motr endpoint \
        inet:stream:192.0.2.11@22001";
    assert!(lines.contains(&format!("ok    hax's entry: {entry}")), "{lines}");
}

#[test]
fn the_policy_of_the_guide_is_enough_to_serve_and_to_stand_for_election() {
    if !available() {
        return;
    }
    let master = "6e4c2f0a-0000-4000-8000-000000000002";
    let options = Options { master_token: Some(master.into()), ..Options::new("ssu1") };
    let consul = RealConsul::start(options).unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let (_, rules) = GUIDE.split_once("```hcl\n").unwrap();
    let rules = rules.split("```").next().unwrap();
    let put = |target: &str, body: Value| {
        let answer = consul.request("PUT", target, body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        serde_json::from_str::<Value>(&answer.text()).unwrap()
    };
    put("/v1/acl/policy", json!({ "Name": "hax", "Rules": rules }));
    let token = put("/v1/acl/token", json!({ "Policies": [{ "Name": "hax" }] }));
    let url = format!("http://{}", consul.address());
    let (http, motr) =
        (format!("127.0.0.1:{}", port()), format!("inet:stream:127.0.0.1@{}", port()));
    let mut with = command(&[
        "run",
        "--consul",
        &url,
        "--http",
        &http,
        "--motr-endpoint",
        &motr,
        "--log-level",
        "debug",
    ]);
    with.env("CONSUL_HTTP_TOKEN", token["SecretID"].as_str().unwrap());
    let mut hax = Program::start(with);
    hax.says(&["ready: Consul answers"]);
    // The events of hax's own process are written, and hax registers itself as a candidate.
    let written = || hax.log().iter().filter(|line| line.contains("is in Consul after")).count();
    assert!(holds(|| written() >= 2), "{:#?}", hax.log());
    let stands = || {
        let services = consul.request("GET", "/v1/agent/services", b"").unwrap();
        services.text().contains("hax-leader")
    };
    assert!(holds(stands), "{:#?}", hax.log());
    hax.signal("TERM");
    assert_eq!(hax.code(), 0);
    let refused: Vec<_> =
        hax.log().into_iter().filter(|line| line.contains("status 403")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// The guide suggests `journalctl -p warning` for the lines that need an operator. A healthy life has none.
#[test]
fn an_orderly_life_has_no_line_that_wants_somebody() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("ssu1")).unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let url = format!("http://{}", consul.address());
    let (http, motr) =
        (format!("127.0.0.1:{}", port()), format!("inet:stream:127.0.0.1@{}", port()));
    let hax = ["run", "--consul", &url, "--http", &http, "--motr-endpoint", &motr];
    let hax = [&hax[..], &["--link-grace", "2s", "--log", "json"]].concat();
    let start = || {
        let hax = Program::start(command(&hax));
        hax.says(&["\"LeaderWon\""]);
        hax
    };
    let ham = |key: u64, script: &[&str]| {
        let listen = format!("inet:stream:127.0.0.1@{}", port());
        let fid = format!("0x7200000000000001:{key:#x}");
        let ham = ["ham", "--connect", &motr, "--listen", &listen, "--fid", &fid, "entrypoint"];
        let ham = command(&[&ham[..], script].concat()).output().unwrap();
        assert!(ham.status.success(), "{}", String::from_utf8_lossy(&ham.stderr));
    };

    // One process ends its link, as clients do. The notes about another one's life are then kept for it and
    // finally dropped.
    let first = start();
    ham(4, &["process started", "wait-delivered", "stop"]);
    let life = ["process starting", "process started", "process stopping", "process stopped"];
    let life = [&life[..], &["wait-delivered", "stop"]].concat();
    ham(2, &life);
    first.says(&["\"OwedDropped\""]);
    // hax is killed and started again, while the lock of its earlier life still exists.
    first.signal("KILL");
    let mut second = start();
    ham(2, &life);
    second.signal("TERM");
    assert_eq!(second.code(), 0);
    for line in first.log().into_iter().chain(second.log()) {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(matches!(line["level"].as_str(), Some("INFO")), "{line}");
    }
}
