//! `hax status` with a scripted hax.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;

use common::certs::directory;
use common::cluster::consul;
use common::program::command;
use common::run;
use hax_sim::real::{Options, RealConsul, available, port};
use serde_json::Value;

const READY: &str = r#"{"version":"0.1.0","node":"ssc-1","process":"0x7200000000000001:0x0",
"ready":true,"stopping":false,"consul":{"answers":true,"contact_ms":12,"calls":4},
"leader":{"stands":true,"holds":false,"node":"ssc-2"},
"replicas":[{"table":"m0conf","index":120,"loaded":true,"entries":269}],
"links":[{"link":"link-3","process":"0x7200000000000001:0x3","up":false,"in_flight":0,"owed":7}],
"lanes":[],"entries":0,"questions":0}"#;

/// Responds to every request at `at` with this status and body, and forwards the requests to the returned
/// channel.
fn scripted(at: SocketAddr, status: u16, body: &str) -> std::sync::mpsc::Receiver<String> {
    let listener = TcpListener::bind(at).unwrap();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
    let (asked, asks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                let mut bytes = [0; 1024];
                let n = stream.read(&mut bytes).unwrap();
                assert!(n > 0);
                head.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
            }
            let _ = asked.send(head);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    asks
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port()))
}

fn status(at: SocketAddr, args: &[&str]) -> Output {
    let at = at.to_string();
    command(&[&["status", "--http", &at], args].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn it_prints_a_table_or_the_answer_itself() {
    let at = local();
    let asks = scripted(at, 200, READY);
    let token = directory().join("token");
    std::fs::write(&token, "one\n").unwrap();
    let table = status(at, &["--http-token-file", token.to_str().unwrap()]);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    for part in
        ["ssc-1", ": ready", "ssc-2", "120", "link-3", "NO  -    0          7", "Lanes     none"]
    {
        assert!(text(&table.stdout).contains(part), "{part}: {}", text(&table.stdout));
    }
    let head = asks.recv().unwrap();
    assert!(head.starts_with("GET /status HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer one\r\n"), "{head}");
    let json = status(at, &["--json"]);
    assert_eq!(text(&json.stdout).trim_end(), READY);
}

#[test]
fn what_keeps_it_from_well_is_its_exit_code_and_a_line() {
    for (code, body, exit, said) in [
        (200, r#"{"ready": false}"#, 5, "NOT READY"),
        (200, "{}", 5, "hax -"),
        (200, "nonsense", 1, "the answer of"),
        (401, "", 1, "--http-token-file"),
        (404, "", 1, "no /status"),
        (503, "too much", 1, "503: too much"),
    ] {
        let at = local();
        let _asks = scripted(at, code, body);
        let output = status(at, &[]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{code} {body}: {out} {err}");
        assert!(out.contains(said) || err.contains(said), "{said}: {out} {err}");
    }
    let nobody = status(local(), &[]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("systemctl status hax"), "{}", text(&nobody.stderr));
}

#[test]
fn without_an_address_consul_says_it() {
    run(async {
        let (consul, setting) = consul().await;
        let at = setting.hax_http.strip_prefix("http://").unwrap();
        let _asks = scripted(at.parse().unwrap(), 200, READY);
        let args = ["status", "--consul", consul.base(), "--node", "ssu1"];
        let found = command(&args).output().unwrap();
        assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
        let args = ["status", "--consul", consul.base(), "--node", "elsewhere"];
        let lost = command(&args).output().unwrap();
        assert_eq!(lost.status.code(), Some(1));
        assert!(text(&lost.stderr).contains("no service hax on node elsewhere"));
        let url = format!("http://{}", local());
        let away = command(&["status", "--consul", &url]).output().unwrap();
        assert_eq!(away.status.code(), Some(1));
        for hint in ["nobody listens there", "--http ADDRESS:PORT finds it without Consul"] {
            assert!(text(&away.stderr).contains(hint), "{hint}: {}", text(&away.stderr));
        }
    });
}

#[test]
fn a_lock_that_no_hax_holds_is_said_to_be_so() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("ssu1")).unwrap();
    let url = format!("http://{}", consul.address());
    let create = br#"{"Name": "leader", "Checks": ["serfHealth"]}"#;
    let made = consul.request("PUT", "/v1/session/create", create).unwrap();
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let session = made["ID"].as_str().unwrap();
    for (said, holds) in [(true, false), (false, true)] {
        let holds = format!("\"holds\":{holds}, \"session\":\"{session}\"");
        let at = local();
        let _asks = scripted(at, 200, &READY.replace("\"holds\":false", &holds));
        let output = status(at, &["--consul", &url]);
        let table = text(&output.stdout);
        let line = format!("{session} was not created by hax: its checks are serfHealth");
        assert_eq!(table.contains(&line), said, "{table}");
    }
}
