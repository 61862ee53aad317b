//! Bodies of requests: their end, their limits, and `100 Continue`.

use std::time::{Duration, Instant};

use crate::fixture::{Fixture, request, statuses};

/// The value of the flag below.
const MAX: usize = 10_000;

fn fixture() -> Fixture {
    Fixture::with(&["--http-body-max", "10000"])
}

fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /", headers, body)
}

fn sized(length: usize) -> Vec<u8> {
    post(&format!("Content-Length: {length}\r\n"), vec![b' '; length])
}

fn chunked(chunks: &[u8]) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", chunks)
}

#[test]
fn a_body_arrives_whole_however_it_is_cut() {
    let fixture = fixture();
    for bytes in [
        post("Content-Length: 2\r\n", b"[]"),
        chunked(b"1\r\n[\r\n1\r\n]\r\n0\r\n\r\n"),
        chunked(b"0002 ;name=value\r\n[]\r\n0;last\r\nX-Trailer: x\r\n\r\n"),
    ] {
        assert_eq!(statuses(&fixture.exchange(&bytes)), [200]);
        let mut client = fixture.client();
        for byte in bytes {
            client.say([byte]);
        }
        assert!(client.hears("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_body_that_does_not_come_to_its_end_is_a_400() {
    let fixture = fixture();
    let endless = [b"2;".to_vec(), vec![b'x'; 20_000]].concat();
    let trailers =
        [b"2\r\n[]\r\n0\r\nX: ".to_vec(), vec![b'x'; 20_000], b"\r\n\r\n".to_vec()].concat();
    for (name, bytes) in [
        ("a body that is too short", post("Content-Length: 9\r\n", b"[]")),
        ("no size of a chunk", chunked(b"xyz\r\n[]\r\n0\r\n\r\n")),
        ("a size beyond 64 bits", chunked(b"fffffffffffffffff\r\n[]")),
        ("a chunk that is too long", chunked(b"1\r\n[]\r\n0\r\n\r\n")),
        ("no end", chunked(b"2\r\n[]\r\n")),
        ("a bare line feed", chunked(b"2\n[]\r\n0\r\n\r\n")),
        ("extensions without end", chunked(&endless)),
        ("trailers without end", chunked(&trailers)),
        ("a bare line feed in a trailer", chunked(b"2\r\n[]\r\n0\r\nX: y\n\r\n")),
        ("a size of seventeen digits", chunked(b"00000000000000002\r\n[]\r\n0\r\n\r\n")),
        ("blanks without end", chunked(&[&b"2"[..], &[b' '; 20_000]].concat())),
    ] {
        let answer = fixture.exchange(bytes);
        assert_eq!(statuses(&answer), [400], "{name}: {answer}");
        assert!(answer.contains("the body is not complete"), "{name}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{name}: {answer}");
    }
    fixture.is_well();
}

#[test]
fn what_follows_a_body_is_the_next_request() {
    let fixture = fixture();
    let long = fixture.exchange(post("Content-Length: 2\r\n", b"[]xx\r\n\r\n"));
    assert_eq!(statuses(&long), [200, 400], "{long}");
    let without = fixture.exchange(post("", b"[]"));
    assert_eq!(statuses(&without), [400, 400], "{without}");
}

#[test]
fn a_body_that_is_too_long_is_a_413() {
    let fixture = fixture();
    assert_eq!(statuses(&fixture.exchange(sized(MAX))), [400], "it is read, and no JSON");
    let chunk = [format!("{:x}\r\n", MAX + 1).into_bytes(), vec![b' '; MAX + 1]].concat();
    for bytes in [sized(MAX + 1), sized(4 * MAX), chunked(&[&chunk[..], b"\r\n0\r\n\r\n"].concat())]
    {
        let answer = fixture.exchange(&bytes);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = body.len();
        let expected = format!(
            "HTTP/1.1 413 Payload Too Large\r\ncontent-type: application/json; charset=utf-8\r\n\
             connection: close\r\ncontent-length: {length}"
        );
        assert_eq!(head, expected);
        assert!(body.contains("a body has at most 10000 bytes here"), "{body}");
    }
}

#[test]
fn a_body_that_is_far_too_long_is_not_waited_for() {
    let fixture = fixture();
    let mut client = fixture.client();
    client.say(post("Content-Length: 1000000000000\r\n", b"[]"));
    assert!(client.hears("\r\n\r\n").starts_with("HTTP/1.1 413 "));
    let mut client = fixture.client();
    client.say(chunked(&[b"100000\r\n".to_vec(), vec![b' '; 4 * MAX + 1]].concat()));
    assert!(client.hears("\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

#[test]
fn who_waits_for_leave_gets_it() {
    let fixture = fixture();
    for (headers, body) in [
        ("Content-Length: 2\r\nExpect: 100-Continue\r\n", &b"[]"[..]),
        ("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", b"2\r\n[]\r\n0\r\n\r\n"),
    ] {
        let mut client = fixture.client();
        client.say(post(headers, b""));
        assert_eq!(client.hears("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.say(body);
        client.end();
        assert_eq!(statuses(&client.rest()), [200]);
    }
}

#[test]
fn who_waits_for_leave_in_vain_is_told_why() {
    let fixture = fixture();
    let mut client = fixture.client();
    client.say(post("Content-Length: 10001\r\nExpect: 100-continue\r\n", b""));
    let answer = client.rest();
    assert_eq!(statuses(&answer), [413], "and no 100: {answer}");
    let unknown = fixture.exchange(post("Content-Length: 2\r\nExpect: miracles\r\n", b"[]"));
    assert_eq!(statuses(&unknown), [417], "{unknown}");
}

#[test]
fn a_body_that_nobody_wants_is_passed_over() {
    let fixture = fixture();
    let get = request("GET /metrics", "Content-Length: 2\r\n", b"[]");
    let answer = fixture.exchange([get, request("GET /healthz", "", b"")].concat());
    assert_eq!(statuses(&answer), [200, 200]);
    // The server does not wait for the rest of an unneeded body.
    let mut client = fixture.client();
    client.say(request("GET /metrics", "Content-Length: 2\r\n", b""));
    let answer = client.rest();
    assert_eq!(statuses(&answer), [200], "{answer}");
}

#[test]
fn f39_what_is_said_of_the_connection_is_true() {
    let fixture = fixture();
    let kept = fixture.exchange(request("GET /metrics", "Content-Length: 2\r\n", b"[]"));
    assert!(!kept.contains("\r\nconnection: close\r\n"), "{kept}");
    let mut client = fixture.client();
    client.say(request("GET /metrics", "Content-Length: 2\r\n", b""));
    let closed = client.rest();
    assert!(closed.contains("\r\nconnection: close\r\n"), "{closed}");
}

#[test]
fn f32_a_body_ends_in_one_way_or_is_refused() {
    let fixture = fixture();
    for (headers, status) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
        ("Transfer-Encoding: chunked, chunked\r\n", 501),
    ] {
        let mut client = fixture.client();
        client.say(post(headers, b"2\r\n[]\r\n0\r\n\r\n"));
        let answer = client.rest();
        assert_eq!(statuses(&answer), [status], "{headers}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}

#[test]
fn f30_slow_bodies_have_one_bound_and_others_are_heard() {
    let fixture = Fixture::with(&["--http-body-max", "1MiB", "--http-bodies-max", "4MiB"]);
    let before = fixture.number("VmRSS");
    let slow = post(&format!("Content-Length: {}\r\n", 1 << 20), vec![b' '; (1 << 20) - 1]);
    let mut clients: Vec<_> = (0..40).map(|_| fixture.client()).collect();
    for client in &mut clients {
        client.say(&slow);
    }
    assert_eq!(statuses(&fixture.exchange(post("Content-Length: 2\r\n", b"[]"))), [200]);
    let more = (fixture.number("VmRSS") - before) >> 10;
    assert!(more < 16, "{more} MiB for 40 bodies of 1 MiB");
    // Each evicted body got a response, and the last ones are still arriving.
    let (first, last) = (clients.swap_remove(0).rest(), clients.pop().unwrap());
    assert_eq!(statuses(&first), [503], "{first}");
    assert!(first.contains("\r\nretry-after: 1\r\n"), "{first}");
    drop(last);
    fixture.is_well();
}

#[test]
fn f34_a_body_has_at_most_what_its_route_wants() {
    let fixture = Fixture::new();
    for (line, most) in [
        ("GET /healthz", 64 << 10),
        ("DELETE /nothing", 64 << 10),
        ("POST /v1/events/subscribe", 64 << 10),
        ("PUT /api/v1/sns/repair/start", 64 << 10),
        ("POST /watcher/processes", 1 << 20),
        ("POST /", 4 << 20),
    ] {
        let sized = |length: usize| {
            let headers = format!("Content-Length: {length}\r\nExpect: 100-continue\r\n");
            let mut client = fixture.client();
            client.say(request(line, &headers, b""));
            client.hears("\r\n")
        };
        assert_eq!(sized(most), "HTTP/1.1 100 Continue\r\n", "{line}");
        assert_eq!(sized(most + 1), "HTTP/1.1 413 Payload Too Large\r\n", "{line}");
    }
}

#[test]
fn a_slow_body_is_a_408_and_slow_heads_are_cut_off() {
    let fixture = fixture();
    let began = Instant::now();
    let slow = post("Content-Length: 3\r\n", b"[");
    let clients = [&b""[..], b"GET / HT", &slow].map(|bytes| {
        let mut client = fixture.client();
        client.say(bytes);
        client
    });
    let mut kept = fixture.client();
    kept.say(request("GET /healthz", "", b""));
    kept.hears("true}");
    let answers = clients.map(|client| (client.rest(), began.elapsed()));
    for ((answer, took), expected) in answers.iter().zip(["", "", "HTTP/1.1 408 "]) {
        assert!(
            answer.starts_with(expected) && answer.is_empty() == expected.is_empty(),
            "{answer}"
        );
        assert!(*took >= Duration::from_secs(9), "{took:?}");
    }
    assert!(kept.is_closed(), "one that is kept and not used, too");
    fixture.is_well();
}

#[test]
fn a_body_in_many_parts_is_in_time() {
    let fixture = fixture();
    let mut client = fixture.client();
    client.say(post("Transfer-Encoding: chunked\r\n", b""));
    for _ in 0..20 {
        client.say(b"1\r\n \r\n");
        std::thread::sleep(Duration::from_millis(20));
    }
    client.say(b"2\r\n[]\r\n0\r\n\r\n");
    client.end();
    assert_eq!(statuses(&client.rest()), [200]);
}
