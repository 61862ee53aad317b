//! Bad flags, variables, files and entries of the catalog: each error names the wrong value and its source.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hax_sim::real::client;

use crate::daemon::double::consul;
use crate::daemon::{LIMIT, Place, until};

fn hax(args: &[&str]) -> Command {
    let mut command = Command::new(crate::hax::HAX);
    // Only the variables of the test count.
    for (name, _) in std::env::vars() {
        if ["HAX_", "CONSUL_", "HARE_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.arg("run").args(args).stdin(Stdio::null());
    command
}

/// Checks for exit code 2, an empty standard output, and these parts in the error.
fn is_refused(what: &str, output: &Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {error}");
    assert!(output.stdout.is_empty(), "{what}");
    for part in parts {
        assert!(error.contains(part), "{what}: no {part:?} in {error}");
    }
}

#[test]
fn flags_and_variables() {
    let flags: [(&[&str], &[&str]); 27] = [
        (&["--consul", "ftp://h:1"], &["--consul", "http://HOST:PORT"]),
        (&["--consul", "http://h:1/v1"], &["--consul", "nothing after the port"]),
        (&["--consul", "http://h:99999"], &["--consul"]),
        (&["--consul", ""], &["--consul"]),
        (&["--consul-timeout", "5"], &["--consul-timeout", "10s"]),
        (&["--consul-answer-max", "64MB"], &["--consul-answer-max", "4MiB"]),
        (&["--consul-token-file", "/nonexistent/t"], &["--consul-token-file", "/nonexistent/t"]),
        (&["--fid", "0x72"], &["--fid", "0xCONTAINER:0xKEY"]),
        (&["--fid", "0x7200000000000001:0xfffffffffffffffff"], &["--fid"]),
        (&["--fid", "0x7300000000000001:0x4"], &["--fid", "process"]),
        (&["--http", "8008"], &["--http", "ADDRESS:PORT"]),
        (&["--http", "::1:8008"], &["--http", "brackets"]),
        (&["--http", "h:70000"], &["--http"]),
        (&["--motr", "carrier-pigeon"], &["--motr", "auto"]),
        (&["--motr-endpoint", "localhost:22001"], &["--motr-endpoint", "inet:stream:IP@PORT"]),
        (
            &["--motr-endpoint", "inet:stream:localhost@22001"],
            &["--motr-endpoint", "bad IP address"],
        ),
        (&["--motr-endpoint", "inet:stream:127.0.0.1@99999"], &["--motr-endpoint", "bad port"]),
        (&["--motr-endpoint", "inet:stream:127.0.0.1@0"], &["--motr-endpoint", "port"]),
        (&["--motr-endpoint", "inet:stream:0.0.0.0@22001"], &["--motr-endpoint", "0.0.0.0"]),
        (&["--motr-endpoint", "inet6:stream:::@22001"], &["--motr-endpoint", "::"]),
        (&["--link-grace=-1s"], &["--link-grace", "500ms"]),
        (&["--state-dir", "run/hax"], &["--state-dir", "from the root, or none"]),
        (&["--no-elect=perhaps"], &["--no-elect", "perhaps"]),
        (&["--http-connections-max", "70000"], &["--http-connections-max"]),
        (&["--log-level", "loud"], &["--log-level", "debug"]),
        (&["--frobnicate"], &["--frobnicate"]),
        (&["a-word-too-many"], &["a-word-too-many"]),
    ];
    for (args, parts) in flags {
        is_refused(&format!("{args:?}"), &hax(args).arg("--check").output().unwrap(), parts);
    }
    for (name, value, parts) in [
        ("HAX_FID", "4", &["--fid", "0xCONTAINER:0xKEY"][..]),
        ("HAX_DRAIN", "soon", &["--drain", "10s"]),
        ("HAX_HTTP_BODY_MAX", "-1", &["--http-body-max"]),
        ("CONSUL_HTTP_ADDR", "gopher://h:1", &["CONSUL_HTTP_ADDR"]),
        ("HAX_CONFIG", "/nonexistent/hax.toml", &["--config", "/nonexistent/hax.toml"]),
    ] {
        let output = hax(&["--check"]).env(name, value).output().unwrap();
        is_refused(&format!("{name}={value}"), &output, parts);
    }
}

fn file(name: &str, text: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn files() {
    let texts: [(&[u8], &[&str]); 14] = [
        (b"node = \"a\"\nnodes = 1\n", &["line 2", "unknown field `nodes`"]),
        (b"\n\nfid = \"4\"\n", &["line 3", "fid"]),
        (b"\nfid = 4\n", &["line 2", "fid"]),
        (b"drain = 5\n", &["line 1", "drain"]),
        (b"no_elect = \"yes\"\n", &["line 1", "boolean"]),
        (b"http_connections_max = 70000\n", &["line 1", "http_connections_max"]),
        (b"http_connections_max = -1\n", &["line 1", "http_connections_max"]),
        (b"consul = \"gopher://h:1\"\n", &["line 1"]),
        (b"motr_endpoint = \"nonsense\"\n", &["nonsense"]),
        (b"log = \"xml\"\n", &["line 1", "unknown variant `xml`"]),
        (b"node = \"a\"\nnode = \"b\"\n", &["line 2", "duplicate key"]),
        (b"[run]\nnode = \"a\"\n", &["line 1", "unknown field `run`"]),
        (b"node = \"a\n", &["line 1"]),
        (b"node = \"\xff\"\n", &["bad-13.toml", "UTF-8"]),
    ];
    for (n, (text, parts)) in texts.into_iter().enumerate() {
        let name = format!("bad-{n}.toml");
        let path = file(&name, text);
        let output = hax(&["--check", "--config", path.to_str().unwrap()]).output().unwrap();
        is_refused(&name, &output, parts);
    }
    let directory = env!("CARGO_TARGET_TMPDIR");
    is_refused(
        "a directory",
        &hax(&["--check", "--config", directory]).output().unwrap(),
        &["--config", directory],
    );
    let token = file("two-lines", b"a\nb\n");
    let output =
        hax(&["--check", "--consul-token-file", token.to_str().unwrap()]).output().unwrap();
    is_refused("a token of two lines", &output, &["--consul-token-file", "one word"]);
}

/// A value from Consul's catalog is checked like a flag.
#[test]
fn entries_of_the_catalog() {
    for (address, port, parts) in [
        ("inet:tcp:127.0.0.1", 22001, &["libfabric", "--motr-endpoint"][..]),
        ("inet:stream:0.0.0.0", 22001, &["0.0.0.0", "--motr-endpoint"]),
        ("inet:stream:127.0.0.1", 99_999, &["bad port", "--motr-endpoint"]),
        ("nonsense", 1, &["nonsense", "--motr-endpoint"]),
    ] {
        let (at, place) = (consul(), Place::new());
        let service = serde_json::json!({
            "ID": "0", "Name": "hax", "Address": address, "Port": port,
            "Meta": { "http_port": "70000" },
        });
        let target = "/v1/agent/service/register";
        let body = service.to_string();
        let reply = client::request(at, LIMIT, "PUT", target, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200);
        let (consul, http) = (at.to_string(), place.http().to_string());
        let args = ["--consul", &consul, "--node", "ssu1", "--http", &http];
        let mut child = hax(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("it ends", || child.try_wait().unwrap().is_some());
        let status = child.wait().unwrap();
        let mut stderr = Vec::new();
        child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        is_refused(address, &Output { status, stdout: Vec::new(), stderr }, parts);
    }
}
