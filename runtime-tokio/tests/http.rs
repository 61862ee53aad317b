//! The HTTP server: limits, slow and impatient clients, a full inbox, a stop.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use common::{exchange, listener, next, run};
use futures_lite::future::{or, zip};
use hax_core::http::port::{Request, Response};
use hax_driver::host::clock::Clock;
use hax_driver::host::http::Http;
use hax_driver::http::{HttpAccess, Limits};
use hax_driver::observe::metrics::Metrics;
use hax_tokio::Tokio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LIMITS: Limits = Limits {
    body_max: 1000,
    bodies_max: 8000,
    connections_max: 8,
    streams_max: 4,
    body_within: Duration::from_millis(300),
};

struct Server {
    http: Rc<Http<Tokio, Box<Request>>>,
    requests: Receiver<Box<Request>>,
    address: std::net::SocketAddr,
}

impl Server {
    /// Responds to every request with its method, target and body length.
    async fn echo(&self) {
        loop {
            let request = next(&self.requests).await;
            self.answer(&request);
        }
    }

    fn answer(&self, request: &Request) {
        let Request { id, method, target, body, .. } = request;
        let body = Bytes::from(format!("{method} {target} {}\n", body.len()));
        let (content_type, allow) = ("text/plain", "");
        self.http.execute(Response { id: *id, status: 200, content_type, allow, body });
    }
}

async fn server(capacity: usize) -> (Server, Sender<Infallible>, impl Future<Output = ()>) {
    let (inbox, requests) = async_channel::bounded(capacity);
    let http =
        Rc::new(Http::new(inbox, |request| request, LIMITS, Arc::new(Metrics::new(Clock::new()))));
    let (listener, address) = listener().await;
    let (stop, stopped) = async_channel::bounded(1);
    let serving = http.serve(listener, Arc::new(HttpAccess::open()), stopped);
    (Server { http, requests, address }, stop, serving)
}

/// Runs `client` with a server that responds to every request.
async fn with_echo<T>(client: impl AsyncFnOnce(std::net::SocketAddr) -> T) -> T {
    let (server, _stop, serving) = server(8).await;
    let serve = async {
        zip(serving, server.echo()).await;
        unreachable!("the echo never ends")
    };
    or(client(server.address), serve).await
}

#[test]
fn requests_pass_as_sent_on_one_connection() {
    run(async {
        let text = "GET /a%20b?c=d HTTP/1.1\r\nhost: h\r\n\r\n\
            POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc\
            HEAD /h HTTP/1.1\r\nhost: h\r\n\r\n\
            PURGE /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let answer = with_echo(async |to| exchange(to, text).await).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4, "{answer}");
        assert!(answer.contains("GET /a%20b?c=d 0\n") && answer.contains("POST / 3\n"), "{answer}");
        assert!(!answer.contains("GET /h 0"), "a HEAD has no body: {answer}");
        assert!(answer.contains("PURGE /x 0\n"), "{answer}");
    });
}

#[test]
fn what_is_too_large_or_too_slow_or_nonsense_is_refused() {
    run(async {
        with_echo(async |to| {
            let large = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4001\r\n\r\n";
            let answer = exchange(to, large).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            let asks = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1001\r\n\
                expect: 100-continue\r\n\r\n";
            let answer = exchange(to, asks).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(answer.contains("\"status_code\":413"), "{answer}");
            let chunked = format!(
                "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
                "x".repeat(1001)
            );
            let answer = exchange(to, &chunked).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            let slow = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\na";
            let answer = exchange(to, slow).await;
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            let answer = exchange(to, "nonsense\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "a: b\r\n".repeat(100));
            let answer = exchange(to, &many).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            // The server still serves.
            let fine = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
            assert!(exchange(to, fine).await.starts_with("HTTP/1.1 200 "));
        })
        .await;
    });
}

#[test]
fn a_client_that_sends_no_head_is_cut_off() {
    run(async {
        with_echo(async |to| {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::time::pause();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_full_inbox_is_waited_for() {
    run(async {
        let (server, _stop, serving) = server(1).await;
        let client = async {
            let ask = |n| {
                let request = format!("GET /{n} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
                let address = server.address;
                async move { exchange(address, &request).await }
            };
            let answers = async {
                while !server.requests.is_full() {
                    tokio::task::yield_now().await;
                }
                for _ in 0..3 {
                    server.answer(&*next(&server.requests).await);
                }
            };
            let (both, ()) = zip(zip(ask(1), zip(ask(2), ask(3))), answers).await;
            let (one, (two, three)) = both;
            for (n, answer) in [(1, one), (2, two), (3, three)] {
                assert!(answer.contains(&format!("GET /{n} 0\n")), "{answer}");
            }
        };
        or(client, serving).await;
    });
}

#[test]
fn a_stop_finishes_what_is_being_answered() {
    run(async {
        let (server, stop, serving) = server(4).await;
        let client = async {
            let mut idle = TcpStream::connect(server.address).await.unwrap();
            let answer =
                zip(exchange(server.address, "GET /last HTTP/1.1\r\nhost: h\r\n\r\n"), async {
                    let request = next(&server.requests).await;
                    stop.close();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    server.answer(&request);
                });
            let (answer, ()) = answer.await;
            assert!(answer.contains("GET /last 0\n"), "{answer}");
            assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle connection is closed");
        };
        zip(client, serving).await;
        assert!(TcpStream::connect(server.address).await.is_err());
    });
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    run(async {
        let (server, _stop, serving) = server(4).await;
        let client = async {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
            let request = next(&server.requests).await;
            drop(stream);
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.answer(&request);
        };
        or(client, serving).await;
    });
}
