//! The Consul client with a scripted agent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use bytes::Bytes;
use common::{listener, next, nobody, run};
use hax_core::base::id::CallId;
use hax_core::consul::port::{Answer, Call, Command, Method, Reply, Unanswered};
use hax_driver::host::clock::Clock;
use hax_driver::host::consul::Consul;
use hax_driver::host::platform::Client as _;
use hax_driver::observe::metrics::Metrics;
use hax_driver::settings::Settings;
use hax_driver::settings::flags::Flags;
use hax_tokio::Tokio;
use hax_tokio::consul::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn client(authority: &str, env: &[(&str, &str)]) -> (Consul<Tokio, Reply>, Receiver<Reply>) {
    let (inbox, replies) = async_channel::bounded(16);
    let flags = Flags { consul: Some(authority.parse().unwrap()), ..Flags::default() };
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let settings = Settings::load(None, flags, env).unwrap();
    let client = Arc::new(Client::new(&settings.consul).unwrap());
    let metrics = Arc::new(Metrics::new(Clock::new()));
    (Consul::new(client, metrics, inbox, |reply| reply), replies)
}

fn get(id: u64, within: Duration) -> Command {
    Command::Call(Box::new(Call {
        id: CallId(id),
        method: Method::Get,
        target: "/v1/kv/leader?consistent".into(),
        body: Bytes::new(),
        within,
        body_max: 1000,
    }))
}

const SOON: Duration = Duration::from_secs(10);

/// Reads one request. Returns it unchanged, with its connection.
async fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let text = head(&mut stream).await;
    (stream, text)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        let mut bytes = [0; 1024];
        let n = stream.read(&mut bytes).await.unwrap();
        assert!(n > 0, "ended after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    text
}

async fn refused(answer: &'static str) -> Result<Answer, Unanswered> {
    let (listener, address) = listener().await;
    let (mut consul, replies) = client(&address.to_string(), &[]);
    consul.execute(get(1, SOON));
    let (mut stream, _) = request(&listener).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop(stream);
    next(&replies).await.result
}

#[test]
fn an_answer_has_status_index_and_body() {
    run(async {
        let (listener, address) = listener().await;
        let (mut consul, replies) = client(
            &address.to_string(),
            &[("CONSUL_HTTP_TOKEN", "secret"), ("CONSUL_HTTP_AUTH", "user:pass")],
        );
        consul.execute(Command::Call(Box::new(Call {
            id: CallId(7),
            method: Method::Put,
            target: "/v1/kv/a%20b?cas=3".into(),
            body: Bytes::from_static(b"value"),
            within: SOON,
            body_max: 5,
        })));
        let (mut stream, mut text) = request(&listener).await;
        while !text.ends_with("value") {
            let mut bytes = [0; 16];
            let n = stream.read(&mut bytes).await.unwrap();
            text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
        assert!(text.starts_with("PUT /v1/kv/a%20b?cas=3 HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("x-consul-token: secret\r\n"), "{text}");
        assert!(text.contains("authorization: Basic dXNlcjpwYXNz\r\n"), "{text}");
        let answer = "HTTP/1.1 500 No\r\nX-Consul-Index: 42\r\ncontent-length: 5\r\n\r\nwrong";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let answer = Answer { status: 500, index: 42, body: Bytes::from_static(b"wrong") };
        assert_eq!(next(&replies).await, Reply { id: CallId(7), result: Ok(answer) });
        // The connection serves the next call.
        consul.execute(get(8, SOON));
        assert!(head(&mut stream).await.starts_with("GET "));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(next(&replies).await.id, CallId(8));
    });
}

#[test]
fn no_answer_says_why() {
    run(async {
        let (mut consul, replies) = client(&nobody().await.to_string(), &[]);
        consul.execute(get(1, SOON));
        assert_eq!(next(&replies).await.result, Err(Unanswered::Refused));
        assert_eq!(refused("").await, Err(Unanswered::Broken));
        assert_eq!(refused("nonsense\r\n\r\n").await, Err(Unanswered::Broken));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal";
        assert_eq!(refused(cut).await, Err(Unanswered::Broken));
        let long = "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n";
        assert_eq!(refused(long).await, Err(Unanswered::TooLarge));
        let index = "HTTP/1.1 404 N\r\nx-consul-index: -1\r\ncontent-length: 0\r\n\r\n";
        let answer = Answer { status: 404, index: 0, body: Bytes::new() };
        assert_eq!(refused(index).await, Ok(answer));
    });
}

#[test]
fn d06_one_that_hangs_holds_up_nobody_and_times_out() {
    run(async {
        let (listener, address) = listener().await;
        let (mut consul, replies) = client(&address.to_string(), &[]);
        consul.execute(get(1, Duration::from_millis(300)));
        let (mut hanging, _) = request(&listener).await;
        consul.execute(get(2, SOON));
        let (mut stream, _) = request(&listener).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(next(&replies).await.id, CallId(2));
        // The agent sends the head, then hangs within the body.
        hanging.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        let reply = Reply { id: CallId(1), result: Err(Unanswered::TimedOut) };
        assert_eq!(next(&replies).await, reply);
        assert_eq!(hanging.read(&mut [0; 1]).await.unwrap(), 0, "its connection is closed");
    });
}

#[test]
fn a_cancelled_call_closes_its_connection_and_says_nothing() {
    run(async {
        let (listener, address) = listener().await;
        let (mut consul, replies) = client(&address.to_string(), &[]);
        consul.execute(get(1, SOON));
        let (mut stream, _) = request(&listener).await;
        consul.execute(Command::Cancel(CallId(1)));
        consul.execute(Command::Cancel(CallId(99)));
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(replies.is_empty());
    });
}
