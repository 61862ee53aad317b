//! hax with a real Consul with access control: TLS with certificates on both sides, ACLs, a unix socket, and
//! hax's log of a refusal.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::certs::{Authority, directory};
use common::program::{Program, command, holds};
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, Tls, available, client, port};

const MASTER: &str = "6e4c2f0a-0000-4000-8000-000000000001";

/// A Consul with a cluster.
///
/// It serves HTTPS under one name, requires a certificate and a token, and listens at a unix socket too.
struct Fixture {
    consul: RealConsul,
    dir: PathBuf,
    ca: Authority,
    cert: PathBuf,
    key: PathBuf,
    http: String,
    motr: String,
}

impl Fixture {
    fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let dir = directory();
        let ca = Authority::new(&dir, "ca");
        let (server, server_key) = ca.issue("server", &["server.dc1.consul"]);
        let (cert, key) = ca.issue("client", &["hax"]);
        let tls = Tls { ca: ca.cert.clone(), cert: server, key: server_key };
        let consul = RealConsul::start(Options {
            tls: Some(tls),
            master_token: Some(MASTER.into()),
            unix: true,
            ..Options::new("ssu1")
        });
        let consul = consul.unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        let http = format!("127.0.0.1:{}", port());
        let motr = format!("inet:stream:127.0.0.1@{}", port());
        Some(Self { consul, dir, ca, cert, key, http, motr })
    }

    fn https(&self) -> String {
        format!("https://127.0.0.1:{}", self.consul.https_port())
    }

    fn token(&self, token: &str) -> PathBuf {
        let path = self.dir.join("token");
        std::fs::write(&path, format!("{token}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn hax(&self, args: &[&str], env: &[(&str, &str)]) -> Program {
        let own = ["run", "--node", "ssu1", "--no-elect", "--http", &self.http];
        let mut command = command(&[&own[..], &["--motr-endpoint", &self.motr], args].concat());
        command.envs(env.iter().copied());
        Program::start(command)
    }

    fn is_ready(&self) -> bool {
        let to = self.http.parse().unwrap();
        let answer = client::request(to, Duration::from_secs(2), "GET", "/readyz", b"");
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn with_certificate_and_token_it_is_let_in_by_consuls_own_variables() {
    let Some(fixture) = Fixture::new() else { return };
    let token = fixture.token(MASTER);
    let address = format!("127.0.0.1:{}", fixture.consul.https_port());
    let env = [
        ("CONSUL_HTTP_ADDR", address.as_str()),
        ("CONSUL_HTTP_SSL", "true"),
        ("CONSUL_CACERT", text(&fixture.ca.cert)),
        ("CONSUL_CLIENT_CERT", text(&fixture.cert)),
        ("CONSUL_CLIENT_KEY", text(&fixture.key)),
        ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
        ("CONSUL_HTTP_TOKEN_FILE", text(&token)),
    ];
    let hax = fixture.hax(&["--consul-datacenter", "dc1", "--log-level", "trace"], &env);
    assert!(holds(|| fixture.is_ready()), "{:#?}", hax.log());
    hax.signal("TERM");
    // The token is not logged even at the level trace.
    assert!(hax.log().iter().all(|line| !line.contains(MASTER)));
}

#[test]
fn through_the_unix_socket_a_token_is_enough() {
    let Some(fixture) = Fixture::new() else { return };
    let socket = format!("unix://{}", fixture.consul.socket().display());
    let hax = fixture.hax(&["--consul", &socket], &[("CONSUL_HTTP_TOKEN", MASTER)]);
    assert!(holds(|| fixture.is_ready()), "{:#?}", hax.log());
    let gone = format!("unix://{}", fixture.dir.join("nothing").display());
    let lost = fixture.hax(&["--consul", &gone], &[]);
    lost.says(&["WARN", "no such socket", "addresses.http"]);
}

#[test]
fn what_is_wrong_with_tls_is_said_in_a_line_with_the_setting_to_change() {
    let Some(fixture) = Fixture::new() else { return };
    let other = Authority::new(&fixture.dir, "other");
    let (stranger, stranger_key) = other.issue("stranger", &["hax"]);
    let (ca, cert, key) = (text(&fixture.ca.cert), text(&fixture.cert), text(&fixture.key));
    let url = fixture.https();
    let plain = format!("http://127.0.0.1:{}", fixture.consul.https_port());
    let not_tls = format!("https://{}", fixture.consul.address());
    let name = ["--consul-server-name", "server.dc1.consul"];
    let ours = ["--consul-ca-file", ca, "--consul-cert", cert, "--consul-key", key];
    let theirs = [
        "--consul-ca-file",
        ca,
        "--consul-cert",
        text(&stranger),
        "--consul-key",
        text(&stranger_key),
    ];
    let wrong_ca = ["--consul-ca-file", text(&other.cert)];
    let cases: [(&str, Vec<&str>, &str); 7] = [
        (&url, [&name[..], &wrong_ca].concat(), "--consul-ca-file"),
        (&url, name.to_vec(), "--consul-ca-file"),
        (&url, ours.to_vec(), "--consul-server-name"),
        (&url, [&name[..], &ours[..2]].concat(), "--consul-cert"),
        (&url, [&name[..], &theirs].concat(), "--consul-cert"),
        (&plain, vec![], "https://"),
        (&not_tls, ours.to_vec(), "does not speak TLS"),
    ];
    for (url, args, hint) in cases {
        // hax logs that it still waits for the same reason at the level debug.
        let debug = ["--log-level", "debug"];
        let hax = fixture.hax(&[&["--consul", url][..], &args, &debug].concat(), &[]);
        hax.says(&["WARN", "Consul at", hint]);
        // hax logs the reason once and retries: this is the core's second try.
        assert!(holds(|| hax.log().iter().filter(|line| line.contains("call-")).count() > 1));
        let log = hax.log();
        let said = log.iter().filter_map(|line| line.split_once("Consul at"));
        let said: Vec<_> = said.map(|(_, trouble)| trouble).collect();
        assert!(said.windows(2).all(|pair| pair[0] != pair[1]), "{args:?}: {log:#?}");
    }
}

#[test]
fn a_token_may_be_put_right_while_hax_runs() {
    let Some(fixture) = Fixture::new() else { return };
    let token = fixture.token("6e4c2f0a-0000-4000-8000-00000000dead");
    let plain = format!("http://{}", fixture.consul.address());
    let hax = fixture.hax(&["--consul", &plain, "--consul-token-file", text(&token)], &[]);
    let line = hax.says(&["WARN", "refuses", "403", text(&token), "docs/OPERATE.md"]);
    assert!(!line.contains("dead"), "{line}");
    fixture.token(MASTER);
    hax.says(&["token has changed"]);
    assert!(holds(|| fixture.is_ready()), "{:#?}", hax.log());
}

/// Runs `hax check` with the settings of the fixture's hax. Returns its exit code and its lines.
fn check(fixture: &Fixture, args: &[&str]) -> (i32, Vec<String>) {
    let own = ["check", "--node", "ssu1", "--http", &fixture.http];
    let output =
        command(&[&own[..], &["--motr-endpoint", &fixture.motr], args].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text.lines().map(str::to_owned).collect())
}

#[test]
fn check_says_what_is_not_well_and_is_content_with_a_hax_that_runs() {
    let Some(fixture) = Fixture::new() else { return };
    let token = fixture.token(MASTER);
    let url = fixture.https();
    let tls = [
        "--consul-ca-file",
        text(&fixture.ca.cert),
        "--consul-cert",
        text(&fixture.cert),
        "--consul-key",
        text(&fixture.key),
        "--consul-server-name",
        "server.dc1.consul",
    ];
    let all = [&["--consul", &url, "--consul-token-file", text(&token)][..], &tls].concat();
    let fine = |state: &str| {
        let (code, lines) = check(&fixture, &all);
        assert_eq!(code, 0, "{lines:#?}");
        assert!(lines.iter().all(|line| line.starts_with("ok    ")), "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains(state)).count(), 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("TLS with a certificate of our own")));
        assert!(lines.iter().any(|line| line.contains("accepted")));
    };
    fine(": free");
    let hax = fixture.hax(&all, &[]);
    assert!(holds(|| fixture.is_ready()), "{:#?}", hax.log());
    fine("by the hax that runs");
    drop(hax);

    let wrong = |args: &[&str], hint: &str| {
        let (code, lines) = check(&fixture, args);
        assert_eq!(code, 1, "{lines:#?}");
        let failed: Vec<_> = lines.iter().filter(|line| line.starts_with("FAIL  ")).collect();
        assert!(failed.iter().any(|line| line.contains(hint)), "{hint}: {lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(MASTER)));
    };
    let other = fixture.http.parse().unwrap();
    let taken = std::net::TcpListener::bind::<std::net::SocketAddr>(other).unwrap();
    wrong(&all, "cannot listen");
    drop(taken);
    let plain = format!("http://{}", fixture.consul.address());
    let nobody = format!("http://127.0.0.1:{}", port());
    wrong(&["--consul", &nobody], "nobody listens there");
    wrong(&["--consul", &plain], "--consul-token-file");
    wrong(&[&all[..6], &all[10..]].concat(), "--consul-cert");
    wrong(&["--consul", &url], "--consul-ca-file");
    wrong(&["--consul-ca-file", "/nonexistent", "--consul", &url], "/nonexistent");
    wrong(&["--consul-token-file", "/nonexistent"], "--consul-token-file: cannot read");
    wrong(&["--config", "/nonexistent"], "--config: cannot read");
    let stranger = fixture.token("6e4c2f0a-0000-4000-8000-00000000dead");
    wrong(&["--consul", &plain, "--consul-token-file", text(&stranger)], "403");
}
