//! HTTP connections: keep-alive, pipelining, closing, limits, and access control.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, request, statuses};
use crate::script::Act;

fn get() -> Vec<u8> {
    request("GET /healthz", "", b"")
}

#[test]
fn a_connection_serves_many_requests() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for _ in 0..100 {
        client.say(get());
        assert!(client.hears("true}").starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn requests_at_once_are_answered_in_order() {
    let fixture = Fixture::new();
    let post = request("POST /", "Content-Length: 2\r\n", b"[]");
    let three =
        [get(), request("GET /nothing", "", b""), post, request("HEAD /", "", b"")].concat();
    assert_eq!(statuses(&fixture.exchange(&three)), [200, 404, 200, 200]);
    let answer = fixture.exchange(get().repeat(1000));
    assert_eq!(statuses(&answer), [200; 1000]);
}

#[test]
fn a_connection_ends_when_its_client_says_so() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.say([request("GET /healthz", "Connection: close\r\n", b""), get()].concat());
    let began = Instant::now();
    let answer = client.rest();
    assert_eq!(statuses(&answer), [200], "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(4), "it is not the time to linger that ends it");
}

#[test]
fn http_1_0_ends_its_connection_unless_it_is_asked_not_to() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.say(b"GET /healthz HTTP/1.0\r\n\r\n");
    let expected = "content-type: application/json; charset=utf-8\r\ncontent-length: 15\r\n\r\n{\"alive\": true}";
    assert_eq!(client.rest(), format!("HTTP/1.0 200 OK\r\n{expected}"));
    let mut client = fixture.client();
    client.say(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let kept = client.hears("true}");
    assert!(kept.starts_with("HTTP/1.0 200 OK\r\n"), "{kept}");
    assert!(kept.contains("\r\nconnection: keep-alive\r\n"), "{kept}");
    client.say(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(client.rest().starts_with("HTTP/1.0 200 OK\r\n"));
}

#[test]
fn who_is_refused_is_cut_off() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.say([b"nonsense\r\n\r\n".to_vec(), get()].concat());
    let answer = client.rest();
    assert_eq!(statuses(&answer), [400], "{answer}");
}

#[test]
fn who_has_said_all_is_answered() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.say(request("GET /status", "", b""));
    client.end();
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with('}'), "{answer}");
}

#[test]
fn a_reset_harms_nobody() {
    let fixture = Fixture::new();
    for bytes in [get(), get().repeat(50), b"GET / HT".to_vec(), Vec::new()] {
        let mut client = fixture.client();
        client.say(&bytes);
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    fixture.is_well();
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    let fixture = Fixture::new();
    let mut mute = fixture.client();
    mute.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    mute.say(request("GET /metrics", "", b"").repeat(5_000));
    fixture.is_well();
    let more = fixture.number("VmRSS") / 1024;
    assert!(more < 100, "{more} MiB");
}

#[test]
fn so_many_connections_are_kept_at_a_time() {
    let fixture = Fixture::with(&["--http-connections-max", "2"]);
    let [mut first, mut second] = [fixture.client(), fixture.client()];
    for client in [&mut first, &mut second] {
        client.say(get());
        client.hears("true}");
    }
    let mut third = fixture.client();
    third.say(get());
    third.hears("true}");
    assert!(first.is_closed(), "the one that has been idle for longest gives way");
    second.say(get());
    second.hears("true}");
}

#[test]
fn f31_idle_connections_keep_nobody_out() {
    let fixture = Fixture::with(&["--http-connections-max", "16"]);
    let mut idle: Vec<_> = (0..64).map(|_| fixture.client()).collect();
    idle.iter_mut().step_by(2).for_each(|client| client.say(b"GET / HT"));
    for _ in 0..8 {
        assert_eq!(statuses(&fixture.exchange(get())), [200]);
    }
    // The connections did not end because of a timeout.
    let youngest = idle.last_mut().unwrap();
    assert!(youngest.is_quiet(Duration::from_millis(100)), "it is still there");
    assert!(idle[1].is_closed(), "one of the oldest gave way");
    fixture.is_well();
}

#[test]
fn f36_who_waits_for_consul_keeps_nobody_out_gone_or_not() {
    let fixture = Fixture::with(&["--http-connections-max", "16"]);
    fixture.script.set(|_| Act::Hang);
    let hint = request("POST /watcher/bq", "Content-Length: 2\r\n", b"[]");
    for stays in [false, true] {
        let mut waiting = Vec::new();
        for _ in 0..64 {
            let mut client = fixture.client();
            client.say(&hint);
            waiting.extend(stays.then_some(client));
            assert_eq!(statuses(&fixture.exchange(get())), [200], "they stay: {stays}");
        }
        let Some(mut last) = waiting.pop() else { continue };
        assert!(last.is_quiet(Duration::from_millis(100)), "it waits");
        let first = waiting.swap_remove(0).rest();
        assert_eq!(statuses(&first), [503], "the oldest gave way: {first}");
    }
}

#[test]
fn f31_slow_bodies_keep_nobody_out() {
    let fixture = Fixture::with(&["--http-connections-max", "16"]);
    let mut slow: Vec<_> = (0..16).map(|_| fixture.client()).collect();
    for client in &mut slow {
        client.say(request("POST /", "Content-Length: 9\r\nExpect: 100-continue\r\n", b""));
        assert_eq!(client.hears("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.say(b"[");
    }
    for _ in 0..8 {
        assert_eq!(statuses(&fixture.exchange(get())), [200]);
    }
    slow.truncate(1);
    let answer = slow.remove(0).rest();
    assert_eq!(statuses(&answer), [503], "the oldest gave way and is told so: {answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
}

/// The client goes on sending for a while after the response, and reads then.
#[test]
fn f33_who_is_refused_while_it_sends_can_read_why() {
    let fixture = Fixture::with(&["--http-body-max", "10000"]);
    let head = request("POST /", "Content-Length: 2000000\r\n", b"");
    let many = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    for (head, status) in [
        (head, 413),
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (request("GET /", &many, b""), 431),
        (request(&format!("GET /{}", "x".repeat(9000)), "", b""), 414),
    ] {
        let mut client = fixture.client();
        client.say(head);
        // The response has been sent by now; a reset would discard it.
        std::thread::sleep(Duration::from_millis(50));
        for _ in 0..20 {
            client.stream.write_all(&[b'x'; 100_000]).unwrap();
        }
        client.end();
        let mut bytes = Vec::new();
        client.stream.read_to_end(&mut bytes).unwrap();
        let answer = String::from_utf8(bytes).unwrap();
        assert_eq!(statuses(&answer), [status], "{answer}");
    }
}

#[test]
fn a_token_opens_all_but_the_probes() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let token = dir.join(format!("conformance-token-{}", std::process::id()));
    std::fs::write(&token, "one\n").unwrap();
    let fixture = Fixture::with(&["--http-token-file", token.to_str().unwrap()]);
    for (line, headers, status) in [
        ("GET /", "", 200),
        ("HEAD /readyz", "", 200),
        ("GET /healthz", "", 200),
        ("POST /", "", 401),
        ("GET /metrics", "", 401),
        ("GET /status", "Authorization: Bearer two\r\n", 401),
        ("GET /status", "Authorization: Basic one\r\n", 401),
        ("GET /status", "authorization: bearer one\r\n", 200),
        ("GET /metrics", "Authorization: Bearer one\r\n", 200),
    ] {
        let answer = fixture.exchange(request(line, headers, b""));
        assert_eq!(statuses(&answer), [status], "{line} {headers}: {answer}");
    }
    let answer = fixture.exchange(request("POST /", "Content-Length: 2\r\n", b"[]"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let expected = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json; charset=utf-8\r\nconnection: close\r\n\
         www-authenticate: Bearer realm=\"hax\"\r\ncontent-length: {}",
        body.len()
    );
    assert_eq!(head, expected);
    std::fs::remove_file(token).unwrap();
}

/// The names of all series of the daemon, and the counts of requests.
#[test]
fn metrics_have_the_names_of_the_guide() {
    let fixture = Fixture::new();
    let statuses_counted = ["200", "404", "405"];
    fixture.exchange(request("GET /nothing", "", b""));
    fixture.exchange(request("DELETE /", "", b""));
    let answer = fixture.exchange(request("GET /metrics", "", b""));
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{head}"
    );
    let guide = include_str!("../../docs/OPERATE.md").split("\n## Metrics\n").nth(1).unwrap();
    let guide = guide.split("\n## ").next().unwrap();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(types.len() > 20, "{types:?}");
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(guide.contains(&format!("| `{name}` | {kind} |")), "{line}");
    }
    for status in statuses_counted {
        let series =
            format!("hax_http_request_duration_seconds_count{{method=\"GET\",code=\"{status}\"}}");
        let delete = series.replace("GET", "other");
        assert!(text.contains(&series) || text.contains(&delete), "{status}: {text}");
    }
    for series in [
        "hax_ready 1",
        "hax_consul_answers 1",
        "hax_consul_request_duration_seconds_count{kind=\"kv\",blocking=\"false\"} ",
        "hax_facts_total{fact=\"Ready\",level=\"info\"} 1",
    ] {
        assert!(text.contains(series), "{series}: {text}");
    }
}
