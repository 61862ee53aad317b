//! The attacks.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use hax_core::wire::codec::frame::{End, HEADER, Header, PAYLOAD_MAX};
use socket2::{Domain, Socket, Type};

use crate::daemon::{Place, until};
use crate::place::strangers;

/// The maximum length of a post's body, in bytes.
const BODY: usize = 4 << 20;
/// The interval at which silent connections are made; the number for each interval gives their rate.
const BEAT: Duration = Duration::from_millis(20);
/// The time that a silent connection is held, in intervals: ten seconds.
const HELD_BEATS: usize = 500;

/// All attacks on one daemon; they end when this is dropped.
pub(crate) struct Siege {
    strangers: Vec<IpAddr>,
    motr: SocketAddr,
    http: SocketAddr,
    over: Arc<AtomicBool>,
    /// The number of attacks that have not reached their full strength.
    weak: Arc<AtomicUsize>,
    threads: std::cell::RefCell<Vec<JoinHandle<()>>>,
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.take() {
            let _ = thread.join();
        }
    }
}

impl Siege {
    pub(crate) fn begin(place: &Place) -> Self {
        let (over, weak, threads) = Default::default();
        let (motr, http) = (place.motr(), place.http());
        Self { strangers: strangers(), motr, http, over, weak, threads }
    }

    /// Waits until all attacks have reached their full strength.
    pub(crate) fn is_laid(&self) {
        until("the siege is laid", || self.weak.load(Ordering::Relaxed) == 0);
    }

    /// Opens `n` connections with a frame that lacks its last byte, and then replaces them by new ones again
    /// and again.
    pub(crate) fn half_frames(&self, n: usize) {
        let (from, to) = (self.strangers[0], self.motr);
        let half = half_frame(from, to);
        self.attack(move |attack| {
            let mut held = VecDeque::new();
            while attack.goes_on() {
                if let Some(mut stream) = connect(from, to) {
                    let _ = stream.write_all(&half);
                    held.push_back(stream);
                }
                if held.len() >= n {
                    attack.is_strong();
                    held.pop_front();
                    thread::sleep(BEAT);
                }
            }
        });
    }

    /// Opens `a_second` connections each second without sending anything, and holds each for a while.
    pub(crate) fn silence(&self, a_second: usize) {
        let (from, to) = (self.strangers[self.strangers.len() - 1], self.motr);
        self.attack(move |attack| {
            let n = a_second * usize::try_from(BEAT.as_millis()).unwrap() / 1000;
            let mut held = VecDeque::new();
            while attack.goes_on() {
                held.push_back((0..n).filter_map(|_| connect(from, to)).collect::<Vec<_>>());
                if held.len() >= HELD_BEATS {
                    attack.is_strong();
                    held.pop_front();
                }
                thread::sleep(BEAT);
            }
        });
    }

    /// Opens `n` HTTP connections without a request, and then replaces them by new ones again and again.
    pub(crate) fn idle_clients(&self, n: usize) {
        self.besiege(n, Bytes::new());
    }

    /// Sends `n` posts of 4 MiB that lack their last byte.
    pub(crate) fn unfinished_posts(&self, n: usize) {
        let mut post = format!("POST / HTTP/1.1\r\nHost: hax\r\nContent-Length: {BODY}\r\n\r\n");
        post.extend(std::iter::repeat_n(' ', BODY - 1));
        let post: Bytes = post.into();
        (0..8).for_each(|_| self.besiege(n / 8, post.clone()));
    }

    /// Sends `n` posts in chunks of one byte each, all at full speed.
    pub(crate) fn tiny_chunks(&self, n: usize) {
        let head = b"POST / HTTP/1.1\r\nHost: hax\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = b"1\r\n \r\n".repeat(8 << 10);
        let (from, to) = (self.strangers[0], self.http);
        self.attack(move |attack| {
            // Each connection has the number of bytes that were taken of the next chunks.
            let mut held: Vec<(TcpStream, usize)> = Vec::new();
            while attack.goes_on() {
                for _ in held.len()..n {
                    let Some(mut stream) = connect(from, to) else { break };
                    let begun = stream.write_all(head).and_then(|()| stream.set_nonblocking(true));
                    held.extend(begun.is_ok().then_some((stream, 0)));
                }
                attack.is_strong();
                held.retain_mut(|(stream, at)| match stream.write(&chunks[*at..]) {
                    Ok(taken) => {
                        *at = (*at + taken) % chunks.len();
                        true
                    }
                    Err(why) => why.kind() == std::io::ErrorKind::WouldBlock,
                });
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// Sends forged posts of Consul's watches, one after another.
    pub(crate) fn forged_posts(&self) {
        for n in 0..2_u64 {
            let (from, to) = (self.strangers[0], self.http);
            self.attack(move |attack| {
                attack.is_strong();
                for index in (1_u64 << 40) + n.. {
                    if !attack.goes_on() {
                        return;
                    }
                    let (target, body) = if n == 0 { bq(index) } else { health(index) };
                    let length = body.len();
                    let post = format!(
                        "POST {target} HTTP/1.1\r\nHost: hax\r\nConnection: close\r\n\
                         Content-Length: {length}\r\n\r\n{body}"
                    );
                    if let Some(mut stream) = connect(from, to) {
                        let _ = stream.write_all(post.as_bytes());
                        let _ = stream.read_to_end(&mut Vec::new());
                    } else {
                        thread::sleep(BEAT);
                    }
                }
            });
        }
    }

    fn besiege(&self, n: usize, bytes: Bytes) {
        let (from, to) = (self.strangers[self.strangers.len() / 2], self.http);
        self.attack(move |attack| {
            let (mut held, mut tried) = (VecDeque::new(), 0);
            while attack.goes_on() {
                if let Some(mut stream) = connect(from, to) {
                    let _ = stream.write_all(&bytes);
                    held.push_back(stream);
                }
                // A refused or waiting connection counts as an attempt too.
                tried += 1;
                if tried >= n {
                    attack.is_strong();
                    held.drain(..held.len().saturating_sub(n));
                    thread::sleep(BEAT);
                }
            }
        });
    }

    fn attack(&self, attack: impl FnOnce(Attack) + Send + 'static) {
        self.weak.fetch_add(1, Ordering::Relaxed);
        let (over, weak) = (Arc::clone(&self.over), Arc::clone(&self.weak));
        let handle = Attack { over, weak, strong: false.into() };
        self.threads.borrow_mut().push(thread::spawn(|| attack(handle)));
    }
}

/// The state of one attack.
struct Attack {
    over: Arc<AtomicBool>,
    weak: Arc<AtomicUsize>,
    strong: std::cell::Cell<bool>,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn is_strong(&self) {
        if !self.strong.replace(true) {
            self.weak.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Connects from an attacker's address; returns `None` if the connection is refused.
fn connect(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(from, 0).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_millis(500)).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(500))).ok()?;
    Some(stream)
}

/// Returns a forged entry of the broadcast queue.
fn bq(index: u64) -> (&'static str, String) {
    let text = format!(
        r#"[{{"Key": "bq/{index}", "CreateIndex": {index}, "ModifyIndex": {index}, "LockIndex": 0,
            "Flags": 0, "Value": "e30=", "Session": ""}}]"#
    );
    ("/watcher/bq", text)
}

/// Returns a forged check of a process.
fn health(index: u64) -> (&'static str, String) {
    let status = if index.is_multiple_of(4) { "critical" } else { "passing" };
    let text = format!(
        r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "service:3", "Status": "{status}",
            "ServiceID": "3", "ModifyIndex": {index}}}]}}]"#
    );
    ("/", text)
}

/// Returns the largest frame without its last byte.
fn half_frame(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    let src = End { addr: SocketAddr::new(from, 22_001), cookie: (1, 1) };
    let dst = End { addr: to, cookie: (0, 0) };
    let size = u32::try_from(PAYLOAD_MAX).unwrap();
    let mut bytes = Vec::new();
    Header { src, dst, size }.encode(&mut bytes);
    bytes.resize(HEADER + PAYLOAD_MAX - 1, 0);
    bytes
}
