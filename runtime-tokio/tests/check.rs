//! `hax check` with a real Consul with ACLs: the content of Consul, the rights of hax there, and a running
//! hax with other settings.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::certs::{Authority, directory};
use common::program::{Program, command};
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available, port};
use serde_json::{Value, json};

const MASTER: &str = "6e4c2f0a-0000-4000-8000-00000000000c";
const READER: &str = r#"
    agent_prefix ""   { policy = "read" }
    node_prefix ""    { policy = "read" }
    service_prefix "" { policy = "read" }
    key_prefix ""     { policy = "read" }
"#;

struct Fixture {
    consul: RealConsul,
    dir: PathBuf,
    args: Vec<String>,
}

impl Fixture {
    fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let options = Options { master_token: Some(MASTER.into()), ..Options::new("ssu1") };
        let consul = RealConsul::start(options).unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        let dir = directory();
        let url = format!("http://{}", consul.address());
        let motr = format!("inet:stream:127.0.0.1@{}", port());
        let token = dir.join("token");
        let args = ["--consul", &url, "--motr-endpoint", &motr, "--consul-token-file"];
        let args = args.into_iter().chain([token.to_str().unwrap()]).map(str::to_owned).collect();
        let fixture = Self { consul, dir, args };
        fixture.token(MASTER);
        Some(fixture)
    }

    fn token(&self, token: &str) {
        let path = self.dir.join("token");
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn put(&self, target: &str, body: &str) -> Value {
        let answer = self.consul.request("PUT", target, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// Creates a token with these rights.
    fn policy(&self, name: &str, rules: &str) -> String {
        self.put("/v1/acl/policy", &json!({ "Name": name, "Rules": rules }).to_string());
        let token = json!({ "Policies": [{ "Name": name }] }).to_string();
        let token = self.put("/v1/acl/token", &token);
        token["SecretID"].as_str().unwrap().to_owned()
    }

    /// Checks that exactly these lines are wrong, each with these parts.
    fn fail(&self, more: &[&str], wrong: &[&[&str]]) {
        let (code, lines) = self.check(more);
        assert_eq!((code, lines.len()), (1, wrong.len()), "{lines:#?}");
        for (line, parts) in lines.iter().zip(wrong) {
            assert!(line.starts_with("FAIL  "), "{lines:#?}");
            assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {lines:#?}");
        }
    }

    fn command(&self, what: &str, more: &[&str]) -> std::process::Command {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        command(&[&[what], &args[..], more].concat())
    }

    /// Returns the exit code and the lines that are not `ok`.
    fn check(&self, more: &[&str]) -> (i32, Vec<String>) {
        let output = self.command("check", more).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("ok  "));
        (output.status.code().unwrap(), lines.map(str::to_owned).collect())
    }

    /// Checks that exactly one line is wrong, with these parts.
    fn fails(&self, more: &[&str], parts: &[&str]) {
        let (code, lines) = self.check(more);
        assert_eq!((code, lines.len()), (1, 1), "{lines:#?}");
        assert!(lines[0].starts_with("FAIL  "), "{lines:#?}");
        assert!(parts.iter().all(|part| lines[0].contains(part)), "{parts:?}: {lines:#?}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_stored_and_what_may_be_written_is_looked_at() {
    let Some(fixture) = Fixture::new() else { return };
    let http = format!("127.0.0.1:{}", port());
    let http = ["--http", http.as_str()];
    assert_eq!(fixture.check(&http), (0, vec![]));
    let ios = ["--fid", "0x7200000000000001:0x2", http[0], http[1]];
    fixture.fails(&ios, &["0x7200000000000001:0x2 is no hax", "ios"]);
    let other = ["--fid", "0x7200000000000001:0x5", http[0], http[1]];
    fixture.fails(&other, &["on the node ssu2, not on ssu1"]);
    let nobody = ["--fid", "0x7200000000000001:0x999", http[0], http[1]];
    fixture.fails(&nobody, &["m0conf/ knows no process 0x7200000000000001:0x999"]);

    fixture.put("/v1/kv/processes/0x7200000000000001:0x4", "{}");
    fixture
        .fails(&http, &["processes: processes/0x7200000000000001:0x4 is not of the expected form"]);
    let elsewhere = ["--consul-datacenter", "dc9", http[0], http[1]];
    let (code, lines) = fixture.check(&elsewhere);
    assert!(code == 1 && lines[0].ends_with("(--consul-datacenter)"), "{lines:#?}");
    let word = r#"{"state": "M0_CONF_HA_PROCESS_STARTED", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
    fixture.put("/v1/kv/processes/0x7200000000000001:0x4", word);
    fixture.put("/v1/kv/m0conf/nodes/ssu1/processes/4/endpoint", "nowhere");
    fixture.fails(&http, &["configuration: the endpoint \"nowhere\" of 0x7200000000000001:0x4"]);
    fixture.put("/v1/kv/m0conf/nodes/ssu1/processes/4/endpoint", "inet:stream:127.0.1.1@22500");
    assert_eq!(fixture.check(&http), (0, vec![]));

    // A read-only token is accepted, but does not suffice.
    fixture.token(&fixture.policy("reader", READER));
    let before = fixture.consul.request("GET", "/v1/kv/?recurse", b"").unwrap().body;
    fixture.fail(
        &http,
        &[
            &[
                "permission",
                "may not write",
                "processes/0x7200000000000001:0x0",
                "leader",
                "policy",
            ],
            &["election", "session_prefix", "service \"hax-leader\"", "--no-elect"],
        ],
    );
    fixture.token(MASTER);
    assert_eq!(fixture.check(&http), (0, vec![]));
    let after = fixture.consul.request("GET", "/v1/kv/?recurse", b"").unwrap().body;
    assert!(before == after, "nothing is changed by that");

    let token = fixture.dir.join("token");
    std::fs::set_permissions(token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, lines) = fixture.check(&http);
    assert_eq!((code, lines.len()), (0, 1), "{lines:#?}");
    assert!(lines[0].starts_with("note  ") && lines[0].contains("everybody"), "{lines:#?}");
}

/// Consul omits the objects that a token may not read, without an error.
#[test]
fn f41_each_right_that_hax_needs_is_tried_and_the_one_that_is_missing_named() {
    let Some(fixture) = Fixture::new() else { return };
    let http = format!("127.0.0.1:{}", port());
    // With these flags hax needs no lookup.
    let given = ["--http", &http, "--node", "ssu1", "--fid", "0x7200000000000001:0x0"];
    let rights = [
        ("agent_prefix \"\" { policy = \"read\" }", &["sight", "the agent"][..]),
        ("node_prefix \"\" { policy = \"read\" }", &["sight", "the node ssu1"]),
        ("service_prefix \"\" { policy = \"read\" }", &["sight", "any service"]),
        ("service \"hax-leader\" { policy = \"write\" }", &["election", "register the service"]),
        ("session_prefix \"\" { policy = \"write\" }", &["election", "have a session"]),
        ("key_prefix \"m0conf/\" { policy = \"write\" }", &["configuration", "key_prefix"]),
        ("key_prefix \"processes/\" { policy = \"write\" }", &["permission", "processes/"]),
        ("key_prefix \"ssu1/\" { policy = \"write\" }", &["permission", "ssu1/"]),
        ("key_prefix \"events/\" { policy = \"write\" }", &["permission", "events/"]),
        ("key_prefix \"bq\" { policy = \"write\" }", &["permission", "bq/0, bq-delivered/ssu1"]),
        ("key \"leader\" { policy = \"write\" }", &["permission", "may not write leader"]),
        ("key \"epoch\" { policy = \"write\" }", &["permission", "may not write epoch"]),
        ("key \"ssl/hax\" { policy = \"read\" }", &["permission", "may not read ssl/hax"]),
    ];
    let all = rights.map(|(right, _)| right);
    fixture.token(&fixture.policy("all", &all.join("\n")));
    assert_eq!(fixture.check(&given), (0, vec![]));
    let sessions = || fixture.consul.request("GET", "/v1/session/list", b"").unwrap().text();
    let before = sessions();
    for (nth, (missing, parts)) in rights.into_iter().enumerate() {
        let rules: Vec<_> = all.into_iter().filter(|right| *right != missing).collect();
        fixture.token(&fixture.policy(&format!("without-{nth}"), &rules.join("\n")));
        let (code, lines) = fixture.check(&given);
        let named = |line: &&String| parts.iter().all(|part| line.contains(part));
        let found = lines.iter().find(named);
        assert!(code == 1 && found.is_some(), "without {missing}: {parts:?} in {lines:#?}");
        assert!(found.unwrap().contains("token"), "{lines:#?}");
    }
    // The check leaves no session and no service behind.
    assert_eq!(sessions(), before);
    let services = fixture.consul.request("GET", "/v1/agent/services", b"").unwrap().text();
    assert!(!services.contains("hax-check") && !services.contains("hax-leader"), "{services}");
}

#[test]
fn f04_a_left_over_of_an_earlier_configuration_is_named_with_both_keys() {
    let Some(fixture) = Fixture::new() else { return };
    let http = format!("127.0.0.1:{}", port());
    let node = "m0conf/nodes/0x6e00000000000001:0x168";
    fixture.put(&format!("/v1/kv/{node}"), r#"{"name": "ssu2", "state": "M0_NC_UNKNOWN"}"#);
    let left = format!("{node}/processes/0x7200000000000001:0x2");
    fixture.put(&format!("/v1/kv/{left}"), r#"{"name": "hax", "state": "online"}"#);
    let (code, lines) = fixture.check(&["--http", &http]);
    assert_eq!((code, lines.len()), (0, 2), "{lines:#?}");
    let kept = "m0conf/nodes/0x6e00000000000001:0x0/processes/0x7200000000000001:0x2";
    for part in [kept, &left, "below two nodes"] {
        assert!(lines[0].starts_with("note  ") && lines[0].contains(part), "{lines:#?}");
    }
    assert!(lines[1].contains(node) && lines[1].contains("one host name"), "{lines:#?}");
}

#[test]
fn a_hax_that_serves_http_in_another_way_is_known() {
    let Some(fixture) = Fixture::new() else { return };
    let at = format!("127.0.0.1:{}", port());
    let (cert, key) = Authority::new(&fixture.dir, "ca").issue("hax", &["localhost"]);
    let tls = ["--http-cert", text(&cert), "--http-key", text(&key), "--http", &at];
    let hax = Program::start(fixture.command("run", &tls));
    hax.says(&["ready: Consul answers"]);
    assert_eq!(fixture.check(&tls), (0, vec![]));
    fixture.fails(&["--http", &at], &["HTTP: the hax that runs at", "serves TLS", "--http-cert"]);
    let status = fixture.command("status", &["--http", &at]).output().unwrap();
    let said = String::from_utf8(status.stderr).unwrap();
    assert!(status.status.code() == Some(1) && said.contains("serves TLS"), "{said}");
}

#[test]
fn a_key_for_tls_that_cannot_be_read_is_not_well() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.put("/v1/kv/ssl/hax", "garbage");
    let (code, lines) = fixture.check(&[]);
    let found = |line: &String| line.contains("the key ssl/hax is not of the expected form");
    assert!(code == 1 && lines.iter().any(found), "{lines:#?}");
}
