//! Heads of requests and responses, byte for byte.

use crate::fixture::{Fixture, request, statuses};

fn get(headers: &str) -> Vec<u8> {
    request("GET /healthz", headers, b"")
}

#[test]
fn an_answer_has_these_bytes() {
    let fixture = Fixture::new();
    let answer = fixture.exchange(get(""));
    let expected = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n\
        content-length: 15\r\n\r\n{\"alive\": true}";
    assert_eq!(answer, expected);
    let mut dated = fixture.client();
    dated.say(get(""));
    dated.end();
    let mut bytes = String::new();
    std::io::Read::read_to_string(&mut dated.stream, &mut bytes).unwrap();
    let date = bytes.split("\r\ndate: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[test]
fn a_refusal_by_the_core_has_these_bytes() {
    let fixture = Fixture::new();
    let answer = fixture.exchange(request("DELETE /", "", b""));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = body.len();
    let expected = format!(
        "HTTP/1.1 405 Method Not Allowed\r\ncontent-type: application/json; charset=utf-8\r\n\
         allow: GET, HEAD, POST\r\ncontent-length: {length}"
    );
    assert_eq!(head, expected);
    assert!(body.contains("\"status_code\":405"), "{body}");
}

#[test]
fn a_refusal_by_the_server_has_these_bytes() {
    let fixture = Fixture::new();
    let answer = fixture.exchange("nonsense\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = body.len();
    let expected = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n\
         connection: close\r\ncontent-length: {length}"
    );
    assert_eq!(head, expected);
    assert!(body.contains("\"status_code\":400"), "{body}");
}

#[test]
fn a_head_request_has_the_length_and_no_body() {
    let fixture = Fixture::new();
    let answer = fixture.exchange(request("HEAD /healthz", "", b""));
    let expected = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n\
        content-length: 15\r\n\r\n";
    assert_eq!(answer, expected);
}

#[test]
fn what_is_no_head_is_a_400() {
    let fixture = Fixture::new();
    for (name, bytes) in [
        ("zeros", &[0; 1000][..]),
        ("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("a method that is no word", b"GE\x01T / HTTP/1.1\r\n\r\n"),
        ("no target", b"GET HTTP/1.1\r\n\r\n"),
        ("a space in the target", b"GET /a b HTTP/1.1\r\n\r\n"),
        ("a target that is no URI", b"GET /\x80 HTTP/1.1\r\n\r\n"),
        ("HTTP/9.9", b"GET / HTTP/9.9\r\n\r\n"),
        ("a header without a colon", &get("nonsense\r\n")),
        ("a space before the colon", &get("X : y\r\n")),
        ("a folded header", &get("X: y\r\n z\r\n")),
        ("a header with NUL", &get("X: a\0b\r\n")),
        ("a length that is no number", &get("Content-Length: abc\r\n")),
        ("a length with a sign", &get("Content-Length: +1\r\n")),
        ("no length", &get("Content-Length:\r\n")),
        ("a length beyond 64 bits", &get("Content-Length: 99999999999999999999\r\n")),
        ("two lengths", &get("Content-Length: 1\r\nContent-Length: 2\r\n")),
        ("an unknown coding", &get("Transfer-Encoding: rot13\r\n")),
        ("chunks that are not the last coding", &get("Transfer-Encoding: chunked, gzip\r\n")),
        ("chunks in HTTP/1.0", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let answer = fixture.exchange(bytes);
        assert_eq!(statuses(&answer), [400], "{name}: {answer}");
    }
    fixture.is_well();
}

#[test]
fn what_is_a_head_all_the_same() {
    let fixture = Fixture::new();
    for (name, bytes) in [
        ("empty lines before it", &[b"\r\n\n\r\n", &*get("")].concat()[..]),
        ("bare line feeds", b"GET /healthz HTTP/1.1\nHost: h\n\n"),
        ("a header that is no ASCII", &get("X: ä\r\n")),
        ("the same length twice", &get("Content-Length: 0\r\nContent-Length: 0\r\n")),
        ("an absolute target", b"GET http://elsewhere/healthz HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("an upgrade", &get("Connection: upgrade\r\nUpgrade: websocket\r\n")),
        ("an expectation without a body", &get("Expect: 100-continue\r\n")),
    ] {
        let answer = fixture.exchange(bytes);
        assert_eq!(statuses(&answer), [200], "{name}: {answer}");
    }
}

#[test]
fn f32_a_request_names_one_host() {
    let fixture = Fixture::new();
    for bytes in [
        &b"GET /healthz HTTP/1.1\r\n\r\n"[..],
        b"GET http://h/healthz HTTP/1.1\r\n\r\n",
        &get("Host: other\r\n"),
        &get("host: hax\r\n"),
        b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let answer = fixture.exchange(bytes);
        assert_eq!(statuses(&answer), [400], "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    fixture.is_well();
}

#[test]
fn a_target_reaches_the_core_as_it_was_sent() {
    let fixture = Fixture::new();
    for (line, status) in [
        ("GET x", 404),
        ("GET http://h", 200),
        ("GET /?x=%", 200),
        ("GET //", 404),
        ("GET /%2e%2e/%00", 404),
        ("OPTIONS *", 404),
        ("CONNECT hax:1", 404),
        ("BREW /", 405),
    ] {
        let answer = fixture.exchange(request(line, "", b""));
        assert_eq!(statuses(&answer), [status], "{line}: {answer}");
    }
}

#[test]
fn the_preface_of_http_2_is_not_answered() {
    let fixture = Fixture::new();
    assert_eq!(fixture.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "");
    assert_eq!(fixture.exchange("GET / HT"), "", "nor is half a head");
    assert_eq!(fixture.exchange(""), "");
}

#[test]
fn sixty_four_headers_are_taken_and_no_more() {
    let fixture = Fixture::new();
    // The count includes the Host header.
    let headers = |n| (1..n).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    assert_eq!(statuses(&fixture.exchange(get(&headers(64)))), [200]);
    let answer = fixture.exchange(get(&headers(65)));
    assert_eq!(statuses(&answer), [431], "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[test]
fn f39_hosts_and_expectations_that_are_none_are_refused() {
    let fixture = Fixture::new();
    let host = |host| format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    for (bytes, status) in [
        (host(""), 400),
        (host("a b/c@d"), 400),
        (host("u@h"), 400),
        (host("[::1]:8008"), 200),
        (b"GET http://u:p@h/healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        (get("Expect: fish\r\n"), 417),
    ] {
        let answer = fixture.exchange(&bytes);
        assert_eq!(statuses(&answer), [status], "{}: {answer}", String::from_utf8_lossy(&bytes));
    }
    let text = fixture.exchange(request("GET /metrics", "", b""));
    for series in ["{method=\"other\",code=\"400\"} 4", "{method=\"other\",code=\"417\"} 1"] {
        let series = format!("hax_http_request_duration_seconds_count{series}");
        assert!(text.contains(&series), "{series}: {text}");
    }
}

#[test]
fn f32_a_head_that_is_too_long_is_refused_by_what_is_too_long_of_it() {
    let fixture = Fixture::new();
    let with = |length| get(&format!("X: {}\r\n", "y".repeat(length)));
    let lines = |n: usize| get(&format!("X: {}\r\n", "y".repeat(1000)).repeat(n));
    let target = |length| request(&format!("GET /{}", "x".repeat(length)), "", b"");
    for (bytes, status) in [
        (with(16_000), 200),
        (with(17_000), 431),
        (with(500_000), 431),
        (lines(15), 200),
        (lines(17), 431),
        (target(8_000), 404),
        (target(8_200), 414),
        (target(20_000), 414),
        (target(500_000), 414),
        // The server does not wait for the end of the head.
        (target(500_000)[..9_000].to_vec(), 414),
        (with(500_000)[..20_000].to_vec(), 431),
    ] {
        let mut client = fixture.client();
        client.say(&bytes);
        if status < 400 {
            client.end();
        }
        let length = bytes.len();
        let answer = client.hears("\r\n\r\n");
        assert_eq!(statuses(&answer), [status], "{length}: {answer}");
        assert_eq!(status > 404, answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    fixture.is_well();
}
