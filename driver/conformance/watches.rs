//! Blocking queries: they delay no other call, and are cancelled when they are not needed any more.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available};

use crate::daemon::{Hax, Place, until};
use crate::fixture::{Fixture, stop};
use crate::script::Act;

/// Starts a fixture whose blocking queries hang, and waits until three of them do.
fn watched() -> Fixture {
    let fixture = Fixture::new();
    fixture.script.set(|asked| if asked.blocks() { Act::Hang } else { Act::Pass });
    // Each replica's query returns with the first change.
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    ham.say("process started");
    ham.delivered();
    fixture
}

#[test]
fn they_do_not_hold_up_short_calls() {
    let fixture = watched();
    until("a query hangs", || fixture.script.hanging() > 0);
    let mut ham = fixture.place.ham(2);
    let begun = Instant::now();
    for _ in 0..20 {
        ham.entrypoint();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    ham.say("process started");
    ham.delivered();
}

#[test]
fn a_stop_does_not_wait_for_them() {
    let mut fixture = watched();
    until("a query hangs", || fixture.script.hanging() > 0);
    let begun = Instant::now();
    assert_eq!(stop(&mut fixture.hax), 0);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    until("they are let go", || fixture.script.hanging() == 0);
    assert!(fixture.script.left() > 0);
}

#[test]
fn a_real_consul_that_restarts_is_watched_again() {
    if !available() {
        return;
    }
    let place = Place::new();
    let options = Options { durable: true, ..Options::new("ssu1") };
    let mut consul = RealConsul::start(options).unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let hax = Hax::start(&place.flags(consul.http_addr));
    place.ready();
    consul.restart().unwrap();
    hax.says(0, "ConsulBack", "");
    let put = || {
        let reply = consul.request("PUT", "/v1/kv/processes/0x7200000000000001:0x1", b"{}");
        reply.is_ok_and(|reply| reply.status == 200)
    };
    until("Consul takes writes", put);
    let index = consul.request("GET", "/v1/kv/processes/?recurse", b"").unwrap().index().unwrap();
    until("hax has read the change", || {
        let status = place.ask("GET", "/status", b"");
        let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
        let replicas = status["replicas"].as_array().unwrap().iter();
        let mut of_processes = replicas.filter(|replica| replica["table"] == "processes");
        of_processes.any(|replica| replica["index"].as_u64() >= Some(index))
    });
}

/// This checks only that the socket is used, and the name of the host. All responses of an agent over a unix
/// socket are tested with a real Consul elsewhere.
#[test]
fn a_unix_socket_is_asked() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(format!("c-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let place = Place::new();
    let mut flags = place.flags(place.http());
    flags.extend(["--consul".into(), format!("unix://{}", path.display())]);
    let hax = Hax::start(&flags);
    let (mut stream, _) = listener.accept().unwrap();
    let (mut bytes, mut head) = ([0; 1024], String::new());
    while !head.ends_with("\r\n\r\n") {
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "{head}");
        head.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    assert!(head.starts_with("GET /v1/"), "{head}");
    assert!(head.to_lowercase().contains("\r\nhost: localhost\r\n"), "{head}");
    stream.write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh").unwrap();
    hax.says(0, "ConsulFailed", "500");
    std::fs::remove_file(path).unwrap();
}
