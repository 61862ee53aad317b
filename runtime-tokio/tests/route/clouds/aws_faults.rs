//! Faults between an event handler and EC2: no answer, half of one, garbage, too much. None of them is a
//! success, none takes longer than the handler has, and each is told.

use std::time::Duration;

use hax_driver::host::clock::Clock;
use serde_json::{Value, json};

use super::http::{Answer, Server};
use super::{detail, handler};

/// The time of a handler in these tests.
const WITHIN: Duration = Duration::from_secs(2);

fn job() -> Value {
    json!({
        "event": "peerFail", "response": "update_if_different", "provider": "aws", "mode": "primary",
        "parameters": {
            "routeTableId": "rtb-12345678", "region": "us-east-1", "eniId": "eni-12345678",
            "route": "192.0.2.0/24",
        },
        "within_ms": u64::try_from(WITHIN.as_millis()).unwrap(),
    })
}

fn env(url: &str) -> [(&str, &str); 3] {
    [
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret-of-the-test"),
    ]
}

/// Runs a handler against a server with this answer. Returns the description of its failure.
fn failure(answer: Answer) -> String {
    let server = Server::start(move |_| answer.clone());
    let clock = Clock::new();
    let (result, _) = handler(&job(), &env(&server.url()));
    let took = Duration::from_micros(clock.now().mono.as_micros());
    assert!(took < WITHIN * 3, "{took:?}");
    assert_eq!(result["outcome"], "failed", "{result}");
    detail(&result).to_owned()
}

#[test]
fn r21_aws_faults_of_the_network_are_failures_in_time() {
    let (garbage, page) = (Answer::new(200, "\u{0}\u{1}\u{2}"), Answer::new(200, "<html></html>"));
    for (name, answer, says) in [
        ("hang", Answer::Hang, "no reply within"),
        ("half", Answer::Half, "breaks off"),
        ("garbage", Answer::Garbage, "DescribeRouteTables"),
        ("megabytes", Answer::Megabytes, "more than 4194304 bytes"),
        ("no XML", garbage, "is not of EC2"),
        ("a page", page, "is not of EC2"),
        ("empty", Answer::new(200, ""), "is not of EC2"),
        ("limited", Answer::new(503, "busy"), "status 503: busy"),
    ] {
        let why = failure(answer);
        assert!(why.contains(says), "{name}: {why}");
        assert!(why.chars().count() < 600 && !why.chars().any(char::is_control), "{name}: {why}");
    }
}

#[test]
fn r21_aws_a_redirection_is_not_followed() {
    let other = Server::start(|_| Answer::new(200, ""));
    let url = other.url();
    let moved = Server::start(move |_| Answer::new(307, "").with("Location", url.clone()));
    let (result, _) = handler(&job(), &env(&moved.url()));
    assert!(detail(&result).contains("status 307"), "{result}");
    assert!(other.asked().is_empty(), "the credentials stay here");
}

#[test]
fn r21_aws_nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (result, _) = handler(&job(), &env(&url));
    let why = detail(&result);
    assert!(why.contains("refused") && why.contains("attempt"), "{why}");
}

#[test]
fn an_endpoint_that_would_leak_credentials_is_refused() {
    for (url, says) in [
        ("http://192.0.2.1", "use https://"),
        ("https://user@host", "without user"),
        ("ec2", "expected https://HOST"),
    ] {
        let (result, _) = handler(&job(), &env(url));
        assert!(detail(&result).contains(says), "{result}");
    }
}

#[test]
fn an_error_that_repeats_the_request_is_told_without_the_secret() {
    let error = "<Response><Errors><Error><Code>Odd</Code><Message>you sent s3cret-of-the-test\n\
                 and more</Message></Error></Errors></Response>";
    let why = failure(Answer::new(400, error));
    assert!(why.contains("you sent …") && !why.contains("s3cret"), "{why}");
}

#[test]
fn hostile_input_of_an_event_handler_is_told() {
    for (job, says) in [
        (json!([]), "no job"),
        (json!({ "provider": "aws" }), "no job"),
        (
            json!({ "event": "verify", "response": "write_back", "provider": "aws", "mode": "primary",
            "parameters": {} }),
            "lacks -rg",
        ),
    ] {
        let (result, _) = handler(&job, &[]);
        assert!(detail(&result).contains(says), "{result}");
    }
}
