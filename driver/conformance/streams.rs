//! Checks of each runtime's host for a machine with streaming HTTP responses. The sockets are real, and the
//! machine sends the texts that its clients post.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::base::time::Next;
use hax_core::http::port::{Request, Response};
use hax_core::http::stream::{Begin, Closed, Command, EVENTS};
use hax_core::machine::{Input, Output};
use hax_driver::host::drive::{Sockets, drive};
use hax_driver::host::platform::Platform as _;
use hax_driver::host::signals::{SignalSender, Signals};
use hax_driver::host::timer::within;
use hax_driver::http::{HttpAccess, Limits};

use super::{LIMIT, Scripted, context};
use crate::Runtime;

/// The maximum number of streams in these tests.
const STREAMS: usize = 300;

/// A machine for the tests. It sends each post to all its streams.
#[derive(Default)]
struct Speaker {
    open: Vec<HttpId>,
    closed: Vec<Closed>,
    /// A pending request and its count: the request waits until this number of streams is closed.
    waits: Option<(HttpId, usize)>,
}

impl Speaker {
    fn handle(&mut self, input: Input, out: &mut Vec<Output>) -> Next {
        match input {
            Input::Http(request) => return self.on_request(&request, out),
            Input::HttpStream(closed) => {
                self.open.retain(|id| *id != closed.id);
                self.closed.push(closed);
                self.tell(out);
            }
            Input::Stop => return Next::Exit,
            _ => {}
        }
        Next::Wait
    }

    fn on_request(&mut self, request: &Request, out: &mut Vec<Output>) -> Next {
        let Request { id, target, body, .. } = request;
        let all = self.open.iter().copied();
        match &**target {
            "/events" => {
                let begin = Begin { id: *id, status: 200, content_type: EVENTS };
                out.push(Command::Begin(begin).into());
                self.open.push(*id);
                return Next::Wait;
            }
            "/say" => {
                out.extend(all.map(|id| Command::Chunk { id, bytes: body.clone() }.into()));
            }
            "/end" => out.extend(all.map(|id| Command::End { id }.into())),
            "/exit" => out.extend(all.map(|id| Command::Chunk { id, bytes: "last".into() }.into())),
            _ => {
                let count = target.rsplit('/').next().unwrap().parse().unwrap();
                self.waits = Some((*id, count));
                self.tell(out);
                return Next::Wait;
            }
        }
        out.push(said(*id, Bytes::new()));
        if &**target == "/exit" { Next::Exit } else { Next::Wait }
    }

    fn tell(&mut self, out: &mut Vec<Output>) {
        if let Some((id, _)) = self.waits.take_if(|(_, count)| self.closed.len() >= *count) {
            let why: Vec<_> =
                self.closed.iter().map(|closed| format!("{:?}", closed.why)).collect();
            out.push(said(id, why.join(" ").into()));
        }
    }
}

fn said(id: HttpId, body: Bytes) -> Output {
    let (status, content_type, allow) = (200, "text/plain", "");
    Output::Http(Box::new(Response { id, status, content_type, allow, body }))
}

/// A connection, and its received bytes.
struct Client {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    fn says(at: SocketAddr, text: &str) -> Self {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        Self { stream, heard: Vec::new() }
    }

    fn gets(at: SocketAddr, path: &str) -> Self {
        Self::says(at, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
    }

    /// Opens a stream and reads its head.
    fn listens(at: SocketAddr) -> Self {
        let mut client = Self::gets(at, "/events");
        let head = client.hears("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        client
    }

    /// Reads until `text` has arrived.
    fn hears(&mut self, text: &str) -> String {
        let mut bytes = [0; 65536];
        loop {
            let all = String::from_utf8_lossy(&self.heard);
            if let Some((before, _)) = all.split_once(text) {
                let all = format!("{before}{text}");
                self.heard.drain(..all.len());
                return all;
            }
            match self.stream.read(&mut bytes) {
                Ok(n) if n > 0 => self.heard.extend_from_slice(&bytes[..n]),
                end => panic!("{end:?} without {text:?}: {:?}", self.heard.len()),
            }
        }
    }

    /// Reads to the end of the connection.
    fn rest(mut self) -> String {
        // A stream that is cut off may be reset.
        let _ = self.stream.read_to_end(&mut self.heard);
        String::from_utf8_lossy(&self.heard).into_owned()
    }
}

/// Posts a text, and returns the body of the response.
fn post(at: SocketAddr, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    let answer = Client::says(at, &format!("{head}Content-Length: {length}\r\n\r\n{body}")).rest();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Waits until this number of streams is closed, and returns the reasons given to the machine.
fn closed(at: SocketAddr, count: usize) -> String {
    post(at, &format!("/closed/{count}"), "")
}

/// Stops the host when the client has returned or panicked.
struct Stop(SignalSender);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Hosts a speaker until `client` has returned, or the speaker exits.
fn serve(client: impl FnOnce(SocketAddr) + Send + 'static) {
    let limits = Limits {
        body_max: 1 << 20,
        bodies_max: 4 << 20,
        connections_max: 16,
        streams_max: STREAMS,
        body_within: LIMIT,
    };
    let mut speaker = Speaker::default();
    let mut machine = Scripted(|input, out: &mut Vec<Output>| speaker.handle(input, out));
    let driven = async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let (listeners, http) = async_channel::unbounded();
        listeners.try_send(Runtime::listener(listener).unwrap()).ok().unwrap();
        let access = Arc::new(HttpAccess::open());
        let sockets = Sockets { motr: None, motr_connections_max: 1, http, access };
        let (hand, signals) = Signals::channel();
        let client = thread::spawn(move || {
            let _stop = Stop(hand);
            client(at);
        });
        let driven = drive::<Runtime, _>(context(limits), &signals, Some(sockets), &mut machine);
        within::<Runtime, _>(LIMIT, driven).await.expect("an end in time");
        client
    };
    let client = Runtime::block_on(driven).unwrap();
    client.join().unwrap();
}

#[test]
fn a_stream_is_live_and_in_order() {
    serve(|at| {
        let mut listener = Client::listens(at);
        assert!(listener.heard.is_empty(), "the head comes before the first chunk");
        for text in ["data: 1\n\n", "data: 22\n\n", "0123456789abcdef"] {
            post(at, "/say", text);
            // The text arrives before the next one is sent.
            assert_eq!(listener.hears("\r\n"), format!("{:x}\r\n", text.len()));
            assert_eq!(listener.hears("\r\n"), format!("{text}\r\n"));
        }
        post(at, "/say", "");
        post(at, "/end", "");
        assert_eq!(listener.rest(), "0\r\n\r\n");
        assert_eq!(closed(at, 1), "Ended");
        // No stream is open during the next post.
        post(at, "/say", "nothing");
        post(at, "/end", "");
        let other = Client::listens(at);
        post(at, "/end", "");
        assert_eq!(other.rest(), "0\r\n\r\n");
        assert_eq!(closed(at, 2), "Ended Ended");
    });
}

#[test]
fn who_hangs_up_is_told_of_once() {
    serve(|at| {
        let mut stays = Client::listens(at);
        drop(Client::listens(at));
        assert_eq!(closed(at, 1), "Client");
        // A client that closes its side counts as gone, and so does one that sends more than a request may
        // have.
        let ended = Client::listens(at);
        ended.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(closed(at, 2), "Client Client");
        assert_eq!(ended.rest(), "", "it is cut off");
        let mut talks = Client::listens(at);
        let _ = talks.stream.write_all(&[b'x'; 1 << 20]);
        assert_eq!(closed(at, 3), "Client Client Client");
        // The machine is also notified of a client that has gone before its stream has a head.
        drop(Client::gets(at, "/events"));
        assert_eq!(closed(at, 4), "Client Client Client Client");
        post(at, "/say", "still here");
        stays.hears("still here\r\n");
        post(at, "/end", "");
        assert_eq!(closed(at, 5), "Client Client Client Client Ended");
    });
}

#[test]
fn who_does_not_read_is_cut_off_alone() {
    serve(|at| {
        let slow = Client::listens(at);
        let mut reads = Client::listens(at);
        let reader = thread::spawn(move || {
            let all = reads.hears("the last\r\n");
            (reads, all.len())
        });
        let (text, mut said) = ("x".repeat(64 << 10), 0);
        while closed(at, 0).is_empty() {
            post(at, "/say", &text);
            said += text.len();
            assert!(said < 64 << 20, "it is held for whoever does not read");
        }
        assert_eq!(closed(at, 1), "Slow");
        post(at, "/say", "the last");
        let (_reads, heard) = reader.join().unwrap();
        assert!(heard > said, "who reads has all of it");
        assert!(slow.rest().len() < said, "who does not has no end of it");
    });
}

#[test]
fn streams_have_a_bound_of_their_own() {
    serve(|at| {
        let mut listeners: Vec<_> = (0..STREAMS).map(|_| Client::listens(at)).collect();
        // There are more streams than the limit of connections, and other requests are still served.
        let refused = Client::gets(at, "/events").rest();
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert_eq!(closed(at, 1), "TooMany");
        // Many other connections do not evict a stream.
        let others: Vec<_> = (0..40).map(|_| Client::gets(at, "/closed/0")).collect();
        post(at, "/say", "to all");
        listeners.iter_mut().for_each(|listener| drop(listener.hears("to all\r\n")));
        drop(others);
        drop(listeners);
        assert_eq!(closed(at, 1 + STREAMS).matches("Client").count(), STREAMS);
        // There is room again.
        drop(Client::listens(at));
        assert_eq!(closed(at, 2 + STREAMS).matches("Client").count(), STREAMS + 1);
    });
}

#[test]
fn a_machine_s_end_is_the_end_of_its_streams() {
    let begun = Arc::new(OnceLock::new());
    let at_exit = Arc::clone(&begun);
    serve(move |at| {
        let listeners: Vec<_> = (0..20).map(|_| Client::listens(at)).collect();
        // A client that does not read does not delay the exit.
        let _deaf = Client::listens(at);
        let text = "x".repeat(64 << 10);
        post(at, "/say", &text);
        at_exit.set(Instant::now()).unwrap();
        post(at, "/exit", "");
        for listener in listeners {
            let all = listener.rest();
            assert!(all.ends_with("4\r\nlast\r\n0\r\n\r\n"), "{:?}", all.get(65540..));
        }
    });
    let took = begun.get().unwrap().elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_stop_is_the_end_of_streams() {
    let (left, taken) = mpsc::channel();
    serve(move |at| left.send(Client::listens(at)).unwrap());
    assert_eq!(taken.recv().unwrap().rest(), "0\r\n\r\n");
}

#[test]
fn a_head_is_answered_by_a_head_and_http_1_0_without_chunks() {
    serve(|at| {
        let head = Client::says(at, "HEAD /events HTTP/1.1\r\nHost: h\r\n\r\n").rest();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(closed(at, 1), "Client");
        let mut old = Client::says(at, "GET /events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let head = old.hears("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains("connection: close\r\n") && !head.contains("transfer"), "{head}");
        post(at, "/say", "one ");
        assert_eq!(old.hears("one "), "one ");
        post(at, "/say", "two");
        post(at, "/end", "");
        assert_eq!(old.rest(), "two");
        assert_eq!(closed(at, 2), "Client Ended");
    });
}
