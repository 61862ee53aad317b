//! The complete bridge between a real Consul and processes that speak Motr's wire over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/hax.rs"]
mod program;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::consul::Watch;
use hax_sim::real::{Options, RealConsul, available, client, port};
use program::HAX;
use serde_json::Value;

fn fid(key: u64) -> String {
    format!("0x7200000000000001:{key:#x}")
}

/// A real Consul with three nodes as hare's bootstrap leaves them, and a hax on the first.
struct Fixture {
    consul: RealConsul,
    hax: Child,
    endpoint: String,
    http: String,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.hax.kill();
        let _ = self.hax.wait();
    }
}

impl Fixture {
    /// Returns `None` and prints the reason if there is no Consul.
    fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let (motr, http) = (port(), port());
        let (endpoint, url) =
            (format!("inet:stream:127.0.0.1@{motr}"), format!("127.0.0.1:{http}"));
        let watch = Watch::Service("ios".into());
        let consul =
            RealConsul::start(Options::new("ssu1").watch(watch, &format!("http://{url}/")))
                .unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        let args = ["--consul", &format!("http://{}", consul.address()), "--node", "ssu1"];
        let args =
            args.into_iter().chain(["--motr-endpoint", &endpoint, "--http", &url, "--no-elect"]);
        let args: Vec<String> = args.map(str::to_owned).collect();
        let fixture = Self { consul, hax: start(&args), endpoint, http: url };
        fixture.ready();
        Some(fixture)
    }

    fn ready(&self) {
        until("hax is ready", || {
            client::request(
                self.http.parse().unwrap(),
                Duration::from_secs(2),
                "GET",
                "/readyz",
                b"",
            )
            .is_ok_and(|r| r.status == 200)
        });
    }

    fn ham(&self, key: u64) -> Ham {
        let listen = format!("inet:stream:127.0.0.1@{}", port());
        let mut command = Command::new(HAX);
        command.args(["ham", "--connect", &self.endpoint, "--listen", &listen, "--fid", &fid(key)]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ham { child, stdin, lines: BufReader::new(stdout) }
    }
}

fn start(args: &[String]) -> Child {
    let mut command = Command::new(HAX);
    command.arg("run").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("HAX_STATE_DIR", "none");
    command.spawn().unwrap()
}

/// Waits until the condition is true, and fails after half a minute.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never: {what}");
}

/// One Motr process, played by `hax ham`.
struct Ham {
    child: Child,
    stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Drop for Ham {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ham {
    fn say(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    /// Returns the next matching line. The process's own time limit for a command ends the wait.
    fn hears(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "no {what} in {seen:#?}");
            let said: Value = serde_json::from_str(&line).unwrap();
            if fits(&said) {
                return said;
            }
            seen.push(said);
        }
    }

    fn entrypoint(&mut self) -> Value {
        self.say("entrypoint");
        self.hears("entrypoint", |said| {
            said["event"] == "entrypoint" && said["control"] == "consume"
        })
    }
}

fn states(said: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let notes = said["notes"].as_array().into_iter().flatten();
    notes.map(|note| (text(&note["fid"]), text(&note["state"]))).collect()
}

#[test]
fn fifteen_processes_ask_at_once() {
    let Some(fixture) = Fixture::new() else { return };
    let mut hams: Vec<Ham> = (0..15).map(|key| fixture.ham(key)).collect();
    hams.iter_mut().for_each(|ham| ham.say("entrypoint"));
    for ham in &mut hams {
        let said = ham.hears("entrypoint", |said| said["event"] == "entrypoint");
        assert_eq!(said["quorum"], 2);
        let confds = said["confds"].as_array().unwrap();
        let expected = [(1, "127.0.1.1"), (6, "127.0.1.2"), (11, "127.0.1.3")];
        assert_eq!(confds.len(), expected.len());
        for (confd, (key, ip)) in confds.iter().zip(expected) {
            assert_eq!(confd["fid"], fid(key));
            assert_eq!(confd["endpoint"], format!("inet:stream:{ip}@22002"));
        }
        assert_eq!(said["rm"], "0x7300000000000001:0x2");
        assert_eq!(said["rm_endpoint"], "inet:stream:127.0.1.1@22002");
    }
}

#[test]
fn every_fid_and_unknown_ones_get_one_answer_in_order() {
    let Some(fixture) = Fixture::new() else { return };
    let objects: Value =
        serde_json::from_str(include_str!("../../sim/fixtures/n3/objects.json")).unwrap();
    let mut asked: Vec<String> = Vec::new();
    for fids in objects.as_object().unwrap().values() {
        asked.extend(fids.as_array().unwrap().iter().map(|fid| fid.as_str().unwrap().to_owned()));
    }
    let unknown = ["0x7200000000000001:0x999", "0x0:0x0", "0x7600000000000001:0x7"];
    asked.extend(unknown.map(str::to_owned));
    let mut ham = fixture.ham(2);
    ham.entrypoint();
    ham.say(&format!("nvec-get {}", asked.join(" ")));
    let said = ham.hears("states", |said| said["nvec"] == "set");
    let states = states(&said);
    assert_eq!(states.iter().map(|(fid, _)| fid.clone()).collect::<Vec<_>>(), asked);
    let state = |fid: &str| &*states.iter().find(|(f, _)| f == fid).unwrap().1;
    assert_eq!(state(&fid(1)), "ONLINE");
    assert_eq!(state(unknown[0]), "TRANSIENT");
    assert_eq!(state(unknown[2]), "ONLINE");
    assert!(states.iter().all(|(_, state)| state != "UNKNOWN"));
}

#[test]
fn a_failing_check_reaches_every_link_through_a_real_watch() {
    let Some(fixture) = Fixture::new() else { return };
    let mut hams = [fixture.ham(1), fixture.ham(3)];
    hams.iter_mut().for_each(|ham| drop(ham.entrypoint()));
    let done = fixture.consul.request("PUT", "/v1/agent/check/fail/service:2", b"").unwrap();
    assert_eq!(done.status, 200);
    for ham in &mut hams {
        ham.hears("that ios is away", |said| states(said).contains(&(fid(2), "TRANSIENT".into())));
    }
}

#[test]
fn without_a_leader_every_process_is_told_to_ask_again_and_none_is_forgotten() {
    let Some(fixture) = Fixture::new() else { return };
    let leader = fixture.consul.request("GET", "/v1/kv/leader", b"").unwrap();
    let leader: Value = serde_json::from_str(&leader.text()).unwrap();
    let session = leader[0]["Session"].as_str().unwrap();
    let gone = format!("/v1/session/destroy/{session}");
    assert_eq!(fixture.consul.request("PUT", &gone, b"").unwrap().status, 200);
    let mut hams = [fixture.ham(1), fixture.ham(2), fixture.ham(3)];
    hams.iter_mut().for_each(|ham| ham.say("entrypoint"));
    for ham in &mut hams {
        let said = ham.hears("a refusal", |said| said["event"] == "entrypoint");
        assert_eq!(said["control"], "query");
    }
    let session = br#"{"Name": "leader", "LockDelay": "0s"}"#;
    let session = fixture.consul.request("PUT", "/v1/session/create", session).unwrap().text();
    let session: Value = serde_json::from_str(&session).unwrap();
    let lock = format!("/v1/kv/leader?acquire={}", session["ID"].as_str().unwrap());
    until("the lock is held", || {
        fixture.consul.request("PUT", &lock, b"ssu1").is_ok_and(|r| r.text().trim() == "true")
    });
    for ham in &mut hams {
        ham.hears("an entrypoint", |said| said["control"] == "consume");
    }
}
