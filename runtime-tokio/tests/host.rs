//! A complete runtime with a scripted machine: start, serve, stop, drain.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{exchange, listener, nobody, run};
use futures_lite::future::zip;
use hax_core::base::errno::Errno;
use hax_core::base::id::{CallId, ConnId, SpielId};
use hax_core::base::time::{Next, Now};
use hax_core::consul::port::{Call, Command, Method, Unanswered};
use hax_core::ha::fact::Fact;
use hax_core::ha::spiel;
use hax_core::http::port::Response;
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use hax_core::net;
use hax_driver::host::clock::Clock;
use hax_driver::host::drive::{HostContext, drive};
use hax_driver::host::platform::Client as _;
use hax_driver::host::signals::Signals;
use hax_driver::http::{HttpAccess, Limits};
use hax_driver::observe::metrics::Metrics;
use hax_driver::settings::Settings;
use hax_driver::settings::flags::Flags;
use hax_tokio::Tokio;
use hax_tokio::consul::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LIMITS: Limits = Limits {
    body_max: 1000,
    bodies_max: 8000,
    connections_max: 8,
    streams_max: 4,
    body_within: Duration::from_secs(5),
};

type Sockets = hax_driver::host::drive::Sockets<TcpListener>;

fn host(consul: SocketAddr, metrics: &Arc<Metrics>) -> HostContext<Client> {
    let flags = Flags { consul: Some(consul.to_string().parse().unwrap()), ..Flags::default() };
    let settings = Settings::load(None, flags, |_| None).unwrap();
    let client = Arc::new(Client::new(&settings.consul).unwrap());
    HostContext::new(Clock::new(), Arc::clone(metrics), client, LIMITS)
}

/// A machine whose handler is a closure of the test.
struct Scripted<S>(S);

impl<S: FnMut(Now, Input, &mut Vec<Output>) -> Next> Machine for Scripted<S> {
    type Fact = Fact;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        (self.0)(now, input, out)
    }

    fn blocking_queries(&self) -> usize {
        0
    }

    fn status(&self) -> Status {
        Status { text: "scripted", stopping: false }
    }

    fn exit(&self) -> ExitReason {
        ExitReason::Stopped
    }
}

async fn sockets() -> (Sockets, SocketAddr, SocketAddr) {
    let ((motr, at_motr), (http, at_http)) = zip(listener(), listener()).await;
    let access = Arc::new(HttpAccess::open());
    let (listeners, later) = async_channel::bounded(1);
    listeners.send(http).await.unwrap();
    let sockets = Sockets { motr: Some(motr), motr_connections_max: 4, http: later, access };
    (sockets, at_motr, at_http)
}

fn respond(input: Input, out: &mut Vec<Output>) {
    if let Input::Http(request) = input {
        let (id, status, content_type, allow) = (request.id, 200, "text/plain", "");
        let body = Bytes::from_static(b"fine");
        out.push(Output::Http(Box::new(Response { id, status, content_type, allow, body })));
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

#[test]
fn a_stop_drains_answers_and_flushes() {
    run(async {
        let metrics = Arc::new(Metrics::new(Clock::new()));
        let (sockets, motr, http) = sockets().await;
        let (stop, signals) = Signals::channel();
        let mut waiting = VecDeque::new();
        let mut conn = None;
        let machine = |_: Now, input: Input, out: &mut Vec<Output>| {
            match input {
                Input::Http(_) => {
                    waiting.push_back(input);
                    stop.end();
                }
                Input::Net(net::Event::Accepted { conn: new, .. }) => conn = Some(new),
                // The machine completes its work, then it ends.
                Input::Stop => {
                    waiting.drain(..).for_each(|request| respond(request, out));
                    let segments = [Bytes::from_static(b"bye")].into();
                    let write = net::Command::Write { conn: conn.unwrap(), segments };
                    out.extend([Output::Net(write), Output::Fact(Fact::Stopped {})]);
                    return Next::Exit;
                }
                _ => {}
            }
            Next::Wait
        };
        let client = async {
            let mut peer = TcpStream::connect(motr).await.unwrap();
            peer.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(exchange(http, GET).await.ends_with("fine"));
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"bye");
        };
        let host = host(nobody().await, &metrics);
        zip(drive::<Tokio, _>(host, &signals, Some(sockets), &mut Scripted(machine)), client).await;
        assert_eq!(metrics.seen(&Fact::Stopped {}), 1);
        assert!(TcpStream::connect(motr).await.is_err(), "nobody listens any more");
    });
}

#[test]
fn what_is_not_answered_at_the_end_is_a_503() {
    run(async {
        let metrics = Arc::new(Metrics::new(Clock::new()));
        let (sockets, _, http) = sockets().await;
        let (_stop, signals) = Signals::channel();
        let machine = |_: Now, input: Input, _: &mut Vec<Output>| match input {
            Input::Http(_) => Next::Exit,
            _ => Next::Wait,
        };
        let client = async { assert!(exchange(http, GET).await.starts_with("HTTP/1.1 503 ")) };
        let host = host(nobody().await, &metrics);
        zip(drive::<Tokio, _>(host, &signals, Some(sockets), &mut Scripted(machine)), client).await;
    });
}

#[test]
fn timers_and_calls_come_back_as_inputs() {
    run(async {
        let metrics = Arc::new(Metrics::new(Clock::new()));
        let (_stop, signals) = Signals::channel();
        let mut seen = Vec::new();
        let mut due = None;
        let machine = |now: Now, input: Input, out: &mut Vec<Output>| {
            seen.push(input);
            match seen.len() {
                1 => {
                    let at = now.mono.after(Duration::from_millis(30));
                    due = Some(at);
                    Next::WaitUntil { at, why: "test" }
                }
                2 => {
                    assert!(now.mono >= due.unwrap(), "a tick is never early");
                    let (id, method) = (CallId(3), Method::Get);
                    let (target, body) = ("/v1/status/leader".into(), Bytes::new());
                    let within = Duration::from_secs(5);
                    let call = Call { id, method, target, body, within, body_max: 10 };
                    out.push(Output::Consul(Command::Call(Box::new(call))));
                    Next::Wait
                }
                _ => Next::Exit,
            }
        };
        drive::<Tokio, _>(host(nobody().await, &metrics), &signals, None, &mut Scripted(machine))
            .await;
        assert_eq!(seen[..2], [Input::Tick, Input::Tick]);
        let Input::Consul(reply) = &seen[2] else { panic!("{seen:?}") };
        assert_eq!((reply.id, &reply.result), (CallId(3), &Err(Unanswered::Refused)));
    });
}

#[test]
fn two_connections_have_two_names() {
    run(async {
        let metrics = Arc::new(Metrics::new(Clock::new()));
        let (sockets, motr, _) = sockets().await;
        let (_stop, signals) = Signals::channel();
        let mut names = Vec::new();
        let machine = |_: Now, input: Input, _: &mut Vec<Output>| {
            if let Input::Net(net::Event::Accepted { conn, .. }) = input {
                names.push(conn);
            }
            if names.len() == 2 { Next::Exit } else { Next::Wait }
        };
        let peers = async {
            let peers = zip(TcpStream::connect(motr), TcpStream::connect(motr)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(peers);
        };
        let host = host(nobody().await, &metrics);
        zip(drive::<Tokio, _>(host, &signals, Some(sockets), &mut Scripted(machine)), peers).await;
        assert_eq!(names, [ConnId::accepted(0), ConnId::accepted(1)]);
    });
}

#[test]
fn a_command_to_a_library_that_is_not_there_is_refused() {
    run(async {
        let metrics = Arc::new(Metrics::new(Clock::new()));
        let (_stop, signals) = Signals::channel();
        let mut heard = None;
        let machine = |_: Now, input: Input, out: &mut Vec<Output>| match input {
            Input::Spiel(reply) => {
                heard = Some(reply);
                Next::Exit
            }
            _ => {
                out.push(Output::Spiel(spiel::Call { id: SpielId(7), op: spiel::Op::Filesystem }));
                Next::Wait
            }
        };
        let host = host(nobody().await, &metrics);
        drive::<Tokio, _>(host, &signals, None, &mut Scripted(machine)).await;
        let refused = spiel::Reply { id: SpielId(7), result: Err(Errno(95)) };
        assert_eq!(heard, Some(refused));
    });
}
