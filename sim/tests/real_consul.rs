//! The harness of the real Consul, the load of a cluster, and watches.
//!
//! The tests run with a real Consul, and also with the double where it can do the same.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the real Consul lives in real time, so the test does too"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hax_core::base::time::Now;
use hax_sim::cluster::{Agents, Cluster, Shape};
use hax_sim::consul::{Consul, Output, Request, Watch};
use hax_sim::real::{Options, RealConsul, available, client};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// Receives the bodies of posts, and responds to each with 200.
fn receiver() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, bodies) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut part = [0; 4096];
            let body = loop {
                let read = stream.read(&mut part).unwrap();
                bytes.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    break body.to_owned();
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            if sender.send(body.into_bytes()).is_err() {
                return;
            }
        }
    });
    (addr, bodies)
}

/// Masks digits and UUIDs, which differ between runs.
fn mask(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for part in text.split('"') {
        let uuid = part.len() == 36 && part.matches('-').count() == 4;
        out += if uuid { "uuid" } else { part };
        out.push('"');
    }
    out.retain(|c| !c.is_ascii_digit());
    out
}

#[test]
fn watches_post_what_the_double_posts() {
    if !available() {
        return;
    }
    let watches =
        [Watch::Service("ios".into()), Watch::Key("leader".into()), Watch::KeyPrefix("bq/".into())];
    for watch in watches {
        let (addr, bodies) = receiver();
        let url = format!("http://{addr}/");
        let real = RealConsul::start(Options::new("ssu1").watch(watch.clone(), &url)).unwrap();
        let mut double = Consul::new("ssu1");
        let mut out = Vec::new();
        let (id, _) = double.add_watch(Now::default(), &watch, &url, &mut out);
        let both = |out: &mut Vec<Output>, why: &str| {
            let ours = out.drain(..).find_map(|output| match output {
                Output::Post(post) => Some(post.body),
                Output::Response(_) | Output::Retry(_) => None,
            });
            let ours = ours.unwrap_or_else(|| panic!("no post of {watch:?} after {why}"));
            let theirs = bodies.recv_timeout(SOON).expect(why);
            assert_eq!(mask(&theirs), mask(&ours), "{watch:?} after {why}");
        };
        both(&mut out, "the start");
        let register = r#"{"ID":"2","Name":"ios","Address":"inet:tcp:127.0.1.1","Port":21001,
            "Meta":{"a":"b"},"Check":{"CheckID":"service:2","TTL":"100h","Status":"passing"}}"#;
        let steps: &[(&str, &str, &str)] = match &watch {
            Watch::Service(_) => &[
                ("PUT", "agent/service/register", register),
                ("PUT", "agent/check/fail/service:2?note=dead", ""),
                ("PUT", "agent/service/deregister/2", ""),
            ],
            Watch::Key(_) => &[
                ("PUT", "kv/leader", "v1"),
                ("PUT", "kv/leader?flags=7", ""),
                ("DELETE", "kv/leader", ""),
            ],
            Watch::KeyPrefix(_) => &[
                ("PUT", "kv/bq/1?flags=3", "x"),
                ("PUT", "kv/bq/2", "<&>"),
                ("DELETE", "kv/bq/1", ""),
                ("DELETE", "kv/bq/?recurse", ""),
            ],
        };
        for (method, target, body) in steps {
            let target = format!("/v1/{target}");
            // The real Consul reads again when its post is answered. Both start from there.
            let _ = double.on_post_done(Now::default(), id, &mut out);
            let request = Request::new(1, method, &target, *body);
            let _ = double.handle(Now::default(), request, &mut out);
            assert_eq!(real.request(method, &target, body.as_bytes()).unwrap().status, 200);
            both(&mut out, &target);
        }
    }
}

#[test]
fn a_cluster_loads_alike_in_both() {
    if !available() {
        return;
    }
    let cluster = Cluster::generate(&Shape::like_hare(3));
    let real = RealConsul::start(Options::new("ssu1")).unwrap();
    real.load_cluster(&cluster).unwrap();
    let mut double = Consul::new("ssu1").pretty();
    cluster.load_double(Now::default(), &mut double, "ssu1", Agents::One);
    for target in [
        "kv/?recurse",
        "kv/m0conf/?keys&separator=/",
        "kv/processes?keys&separator=/",
        "catalog/services",
        "catalog/service/confd",
        "health/service/ios",
        "health/state/any",
        "health/state/bogus",
        "session/list",
        "agent/services",
    ] {
        let target = format!("/v1/{target}");
        let mut out = Vec::new();
        let _ = double.handle(Now::default(), Request::new(1, "GET", &target, ""), &mut out);
        let Some(Output::Response(ours)) = out.pop() else { panic!("no response") };
        let deadline = Instant::now() + SOON;
        loop {
            let theirs = real.request("GET", &target, b"").unwrap();
            // An agent needs a moment to sync its services to the servers.
            if mask(&theirs.body) == mask(&ours.body) {
                break;
            }
            assert!(Instant::now() < deadline, "{target}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_durable_one_survives_a_crash_and_a_paused_one_answers_late() {
    if !available() {
        return;
    }
    let options = Options { durable: true, ..Options::new("ssu1") };
    let mut real = RealConsul::start(options).unwrap();
    assert_eq!(real.request("PUT", "/v1/kv/a", b"1").unwrap().text(), "true");
    real.kill();
    assert!(real.request("GET", "/v1/kv/a?raw", b"").is_err());
    real.restart().unwrap();
    assert_eq!(real.request("GET", "/v1/kv/a?raw", b"").unwrap().text(), "1");

    real.pause().unwrap();
    let limit = Duration::from_millis(300);
    let hung = client::request(real.http_addr, limit, "GET", "/v1/kv/a?raw", b"");
    assert!(hung.is_err(), "{hung:?}");
    real.resume().unwrap();
    let deadline = Instant::now() + SOON;
    // A leader that was stopped may have to be elected again.
    while real.request("GET", "/v1/kv/a?raw", b"").unwrap().status != 200 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_watch_is_added_to_a_running_agent() {
    if !available() {
        return;
    }
    let mut real = RealConsul::start(Options::new("ssu1")).unwrap();
    let (addr, bodies) = receiver();
    real.add_watch(Watch::Key("a".into()), &format!("http://{addr}/")).unwrap();
    assert_eq!(bodies.recv_timeout(SOON).unwrap(), b"null\n");
    real.request("PUT", "/v1/kv/a", b"1").unwrap();
    let post: Value = serde_json::from_slice(&bodies.recv_timeout(SOON).unwrap()).unwrap();
    assert_eq!(post["Value"], "MQ==");
}
