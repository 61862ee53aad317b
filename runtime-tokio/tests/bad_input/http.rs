//! Bad HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::daemon::{LIMIT, Place};
use crate::fixture::Fixture;

/// Sends these bytes and closes the sending side. Returns the whole response.
pub(crate) fn exchange(place: &Place, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(place.http()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // A write fails if hax refuses the request before its end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the statuses of all responses in a text.
fn statuses(answer: &str) -> Vec<u16> {
    let status = |part: &str| part.get(..3).and_then(|digits| digits.parse().ok());
    answer.split("HTTP/1.1 ").skip(1).filter_map(status).collect()
}

fn with(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("{line} HTTP/1.1\r\nHost: hax\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn heads() -> Vec<(&'static str, Vec<u8>, Vec<u16>)> {
    let get = |headers: &str| with("GET /", headers, b"");
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(200_000));
    let target = format!("GET /{}", "x".repeat(200_000));
    let raw = |bytes: &[u8]| bytes.to_vec();
    vec![
        ("nothing", raw(b""), vec![]),
        ("half a request", raw(b"GET / HT"), vec![]),
        ("zeros", vec![0; 1000], vec![400]),
        ("a greeting of TLS", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), vec![400]),
        ("a method that is no word", raw(b"GE\x01T / HTTP/1.1\r\n\r\n"), vec![400]),
        ("a method that nobody knows", with("BREW /", "", b""), vec![405]),
        ("no target", raw(b"GET HTTP/1.1\r\n\r\n"), vec![400]),
        ("a target with a space", raw(b"GET /a b HTTP/1.1\r\n\r\n"), vec![400]),
        ("a target that is no path", with("GET x", "", b""), vec![404]),
        ("the method CONNECT", with("CONNECT hax:1", "", b""), vec![404]),
        ("a target of 200 KB", with(&target, "", b""), vec![414]),
        ("HTTP/9.9", raw(b"GET / HTTP/9.9\r\n\r\n"), vec![400]),
        ("the preface of HTTP/2", raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), vec![]),
        ("a hundred headers", get(&many), vec![431]),
        ("a header of 200 KB", get(&long), vec![431]),
        ("a header without a colon", get("nonsense\r\n"), vec![400]),
        ("a space before the colon", get("Host : x\r\n"), vec![400]),
        ("a header with NUL", get("X: a\0b\r\n"), vec![400]),
        ("a length that is no number", get("Content-Length: abc\r\n"), vec![400]),
        ("a negative length", get("Content-Length: -1\r\n"), vec![400]),
        ("a length beyond 64 bits", get("Content-Length: 99999999999999999999\r\n"), vec![400]),
        ("two lengths", get("Content-Length: 1\r\nContent-Length: 2\r\n"), vec![400]),
        ("an unknown coding", get("Transfer-Encoding: rot13\r\n"), vec![400]),
    ]
}

fn bodies() -> Vec<(&'static str, Vec<u8>, Vec<u16>)> {
    let post = |headers: &str, body: &[u8]| with("POST /", headers, body);
    let chunked = |body: &[u8]| with("POST /", "Transfer-Encoding: chunked\r\n", body);
    let endless = b"100000\r\n".iter().copied().chain(vec![b' '; 1 << 20]);
    let endless: Vec<u8> = endless.chain(*b"\r\n").collect();
    let large = vec![b' '; 5 << 20];
    vec![
        ("a body that is too short", post("Content-Length: 9\r\n", b"[]"), vec![400]),
        ("a body that is too long", post("Content-Length: 2\r\n", b"[]xx\r\n\r\n"), vec![200, 400]),
        ("a body without a length", post("", b"[]"), vec![400, 400]),
        ("a body of 5 MiB", post("Content-Length: 5242880\r\n", &large), vec![413]),
        ("a length of 1 TB", post("Content-Length: 1000000000000\r\n", b"[]"), vec![413]),
        (
            "one that asks before",
            post("Content-Length: 5242880\r\nExpect: 100-continue\r\n", b""),
            vec![413],
        ),
        ("chunks of no number", chunked(b"xyz\r\n[]\r\n0\r\n\r\n"), vec![400]),
        ("a chunk beyond 64 bits", chunked(b"fffffffffffffffff\r\n[]"), vec![400]),
        ("a chunk that is too long", chunked(b"1\r\n[]\r\n0\r\n\r\n"), vec![400]),
        ("chunks without an end", chunked(b"2\r\n[]\r\n"), vec![400]),
        ("chunks of 20 MiB", chunked(&endless.repeat(20)), vec![413]),
        (
            "chunk extensions without end",
            chunked(&[b"2;".to_vec(), vec![b'x'; 1 << 20]].concat()),
            vec![400],
        ),
    ]
}

fn routes() -> Vec<(&'static str, Vec<u8>, Vec<u16>)> {
    let to = |line: &str| with(line, "", b"");
    let three = [to("GET /"), to("GET /nothing"), to("HEAD /readyz")].concat();
    vec![
        ("an unknown path", to("GET /nothing"), vec![404]),
        ("a path that climbs", to("GET /../../etc/passwd"), vec![404]),
        ("an encoded path", to("GET /%2e%2e/%00"), vec![404]),
        ("two slashes", to("GET //"), vec![404]),
        ("an asterisk", to("OPTIONS *"), vec![404]),
        (
            "an unknown path to post to",
            with("POST /nothing", "Content-Length: 2\r\n", b"[]"),
            vec![404],
        ),
        ("DELETE", to("DELETE /"), vec![405]),
        ("POST of the health", with("POST /healthz", "Content-Length: 0\r\n", b""), vec![405]),
        ("HEAD", to("HEAD /"), vec![200]),
        ("HEAD of nothing", to("HEAD /nothing"), vec![404]),
        ("a query that is not asked for", to("GET /?x=%"), vec![200]),
        ("three requests at once", three, vec![200, 404, 200]),
        ("a thousand requests at once", to("GET /").repeat(1000), vec![200; 1000]),
    ]
}

#[test]
fn bad_requests_have_an_answer_or_a_closed_connection() {
    let mut fixture = Fixture::new();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in [heads(), bodies(), routes()].concat() {
        let answer = exchange(&fixture.place, &bytes);
        if statuses(&answer) != expected {
            wrong.push(format!("{name}: expected {expected:?}, got {answer}"));
        }
        fixture.is_well(name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Each refusal is logged with its reason.
    let told = fixture.hax.facts("HttpRefused");
    for why in ["413: POST / by 127.", "longer than http_body_max = 4194304", "400: POST /: "] {
        assert!(told.iter().any(|fact| fact.contains(why)), "{why}: {told:#?}");
    }
    let head = exchange(&fixture.place, &with("HEAD /", "", b""));
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    let put = exchange(&fixture.place, &with("PUT /", "Content-Length: 0\r\n", b""));
    assert!(put.to_lowercase().contains("allow: get, head, post"), "{put}");
}
