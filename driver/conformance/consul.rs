//! The failures of Consul, and hax's requests to it.

use std::time::{Duration, Instant};

use crate::daemon::{Hax, Place, until};
use crate::fixture::Fixture;
use crate::script::{self, Act, Asked};

/// Makes Consul fail by `act`; checks that hax logs `why` and goes on when Consul does.
fn fails(more: &[&str], act: Act, why: &str) {
    let fixture = Fixture::with(more);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    let (before, begun) = (fixture.hax.facts("ConsulFailed").len(), Instant::now());
    fixture.script.set(move |_| act.clone());
    ham.say("process started");
    fixture.hax.says(before, "ConsulFailed", why);
    assert_eq!(fixture.place.ask("GET", "/healthz", b"").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    fixture.script.set(|_| Act::Pass);
    ham.delivered();
}

fn say(text: &str) -> Act {
    Act::Say(text.into())
}

#[test]
fn it_hangs() {
    fails(&["--consul-timeout", "500ms"], Act::Hang, "no answer in time");
}

#[test]
fn it_says_500() {
    fails(&[], say("HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nfail"), "500");
}

#[test]
fn it_says_nothing_and_closes() {
    fails(&[], say(""), "the connection broke");
}

#[test]
fn it_closes_in_the_middle_of_its_answer() {
    fails(&[], say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"Re"), "the connection broke");
}

#[test]
fn it_closes_in_the_middle_of_a_chunk() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"Re";
    fails(&[], say(text), "the connection broke");
}

#[test]
fn it_resets_the_connection_in_its_answer() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"Re";
    fails(&[], Act::Reset(text.into()), "the connection broke");
}

#[test]
fn it_does_not_speak_http() {
    fails(&[], say("220 mail.example.com ESMTP\r\n"), "the connection broke");
}

#[test]
fn its_answer_is_announced_as_too_long() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n";
    fails(&["--consul-answer-max", "800000"], say(text), "too large");
}

#[test]
fn its_answer_is_too_long() {
    let text = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(900_000));
    fails(&["--consul-answer-max", "800000"], say(&text), "too large");
}

#[test]
fn it_sends_elsewhere() {
    let text = "HTTP/1.1 301 Gone\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    fails(&[], say(text), "301");
}

#[test]
fn it_is_slow() {
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}", " ".repeat(900));
    fails(&["--consul-timeout", "500ms"], Act::Dribble(text.into()), "no answer in time");
}

#[test]
fn nobody_listens_there() {
    let place = Place::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hax = Hax::start(&place.flags(nobody));
    hax.says(0, "ConsulFailed", "no connection");
    let said = |part: &str| hax.log().iter().any(|line| line.to_string().contains(part));
    until("the hint", || said("nobody listens there; does Consul run"));
}

/// Checks that hax understands all responses after `change`, which keeps their meaning.
fn is_understood(change: fn(&hax_sim::real::client::Reply) -> Vec<u8>) {
    let fixture = Fixture::new();
    fixture.script.set(move |asked| if asked.blocks() { Act::Pass } else { Act::Change(change) });
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    ham.say("process started");
    ham.delivered();
    assert_eq!(fixture.hax.facts("ConsulFailed"), [""; 0]);
}

#[test]
fn its_answers_come_in_chunks() {
    is_understood(script::chunked);
}

#[test]
fn its_answers_end_with_the_connection() {
    is_understood(script::unmeasured);
}

#[test]
fn its_answers_come_after_interim_ones() {
    is_understood(script::after_another);
}

#[test]
fn its_answers_have_many_headers() {
    is_understood(script::with_many_headers);
}

/// A request may be lost by such a close; then it is repeated.
#[test]
fn it_closes_connections_that_it_seemed_to_keep() {
    let fixture = Fixture::new();
    fixture.script.set(|asked| if asked.blocks() { Act::Pass } else { Act::PassAndClose });
    for key in 1..4 {
        let mut ham = fixture.place.ham(key);
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
}

/// Returns the headers of a request without the length of its body.
fn shown(asked: &Asked) -> Vec<(&str, &str)> {
    let pairs = asked.headers.iter().map(|(name, value)| (&**name, &**value));
    pairs.filter(|(name, _)| *name != "content-length").collect()
}

#[test]
fn it_is_asked_in_these_words() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |name: &str, text: &str| {
        let path = dir.join(format!("conformance-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, auth) = (file("consul-token", "s3cr3t\n"), file("consul-auth", "user:pass\n"));
    let more = ["--consul-token-file", &token, "--consul-auth-file", &auth];
    let fixture = Fixture::with(&[&more[..], &["--consul-datacenter", "dc1"]].concat());
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    ham.say("process started");
    ham.delivered();
    let host = fixture.script.address.to_string();
    let asked = fixture.script.asked();
    for request in &asked {
        let expected = [
            ("authorization", "Basic dXNlcjpwYXNz"),
            ("host", &*host),
            ("x-consul-token", "s3cr3t"),
        ];
        assert_eq!(shown(request), expected, "{request:?}");
        let datacenter = request.target.contains("dc=dc1");
        assert_eq!(datacenter, !request.target.starts_with("/v1/agent/"), "{request:?}");
    }
    let lengths =
        |request: &&Asked| request.headers.iter().any(|(name, _)| name == "content-length");
    for request in asked.iter().filter(lengths) {
        assert_eq!(request.method, "PUT", "{request:?}");
    }
    assert!(asked.iter().any(|request| request.method == "PUT" && !request.body.is_empty()));
    fixture.is_well();
}

#[test]
fn it_refuses_the_token_and_takes_a_new_one() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let token = dir.join(format!("conformance-renewed-{}", std::process::id()));
    std::fs::write(&token, "old").unwrap();
    let fixture = Fixture::with(&["--consul-token-file", token.to_str().unwrap()]);
    fixture.script.set(|asked| {
        let new = asked.headers.contains(&("x-consul-token".into(), "new".into()));
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nACL not found";
        if new || asked.blocks() { Act::Pass } else { Act::Say(refused.to_vec()) }
    });
    let mut ham = fixture.place.ham(1);
    ham.say("entrypoint");
    let said = |part: &str| fixture.hax.log().iter().any(|line| line.to_string().contains(part));
    until("the refusal", || said("403 ACL not found"));
    std::fs::write(&token, "new").unwrap();
    until("the new token", || said("Consul's token has changed; using the new one"));
    ham.has_entrypoint();
    std::fs::remove_file(token).unwrap();
}
