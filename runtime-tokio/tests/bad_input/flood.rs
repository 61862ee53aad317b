//! Peers that are many, or send much, or never read: the memory that hax uses for them is bounded.
#![expect(clippy::disallowed_methods, reason = "a flood is measured in real time")]

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hax_core::base::fid::Fid;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::item::ItemHeader;

use crate::daemon::until;
use crate::fixture::Fixture;
use crate::liar::{Liar, confirm};

/// Returns the limit of open files of this program (proc(5), `limits`), which is also the daemon's.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}

/// Returns the wanted number of connections, or the number that the system allows. It prints the reason for a
/// smaller number.
fn allowed(wanted: usize) -> usize {
    let most = files_max().saturating_sub(200);
    if most < wanted {
        let why = format!("{most} connections instead of {wanted}: the limit on open files\n");
        let _ = std::io::stderr().write_all(why.as_bytes());
    }
    most.min(wanted)
}

fn connect(fixture: &Fixture, n: usize) -> Vec<TcpStream> {
    (0..n).map(|_| TcpStream::connect(fixture.place.motr()).unwrap()).collect()
}

/// Two thousand connections have sent half a frame each.
///
/// 130 MiB would be used if each made hax keep its read buffer. 64 MiB is the limit of all unfinished frames
/// together. Less than 1 KiB each is used if hax holds only the received bytes. 48 MiB leaves 24 KiB for each
/// connection's task, socket and buffer.
#[test]
fn two_thousand_connections_at_once() {
    let mut fixture = Fixture::new();
    let before = fixture.memory();
    let n = allowed(2_000);
    let hello = Liar::new(&fixture.place).hello();
    let mut streams = connect(&fixture, n);
    for stream in &mut streams {
        stream.write_all(&hello[..200]).unwrap();
    }
    until("all are accepted", || fixture.hax.facts("ConnAccepted").len() >= n);
    fixture.is_well("two thousand connections");
    let more = fixture.memory().saturating_sub(before);
    assert!(more < 48 << 10, "{n} connections take {more} KiB");
    Liar::new(&fixture.place).open();
    drop(streams);
    until("all are closed", || fixture.hax.facts("ConnClosed").len() >= n);
    fixture.is_well("they have gone");
}

/// Silent connections are closed in favour of active ones.
#[test]
fn mute_connections_do_not_keep_others_out() {
    let mut fixture = Fixture::with(&["--motr-connections-max", "64"]);
    let mute = connect(&fixture, 160);
    Liar::new(&fixture.place).open();
    fixture.is_well("mute connections");
    drop(mute);
}

/// The memory limit in KiB: 4 MiB that one peer does not read, 16 MiB of replies kept for repeated requests,
/// and as much again for the system's allocator.
const PER_DEAF_PEER: u64 = 40 << 10;

#[test]
fn who_asks_and_never_reads_is_dropped() {
    let mut fixture = Fixture::new();
    let before = fixture.memory();
    let mut liar = Liar::new(&fixture.place);
    let (header, ids) = liar.link(Fid::process(9));
    liar.stops_reading();
    // Each request has a reply of 300 bytes: 15 MB in all.
    for n in 0..50_000 {
        let header = ItemHeader { xid: 2 + n, xid_min: 2 + n, ..header };
        let frame = liar.frame(header, Fop::LinkMsg(Box::new(confirm(ids, 1))));
        liar.say(&frame);
        if n % 10_000 == 0 {
            fixture.is_well("a peer that does not read");
        }
    }
    fixture.is_well("a peer that does not read");
    let more = fixture.memory().saturating_sub(before);
    assert!(more < PER_DEAF_PEER, "{more} KiB");
}

#[test]
fn http_clients_that_never_read_wait_for_themselves() {
    let mut fixture = Fixture::new();
    let before = fixture.memory();
    let requests = b"GET /nothing HTTP/1.1\r\nHost: hax\r\n\r\n".repeat(1_000);
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(fixture.place.http()).unwrap();
        stream.set_nonblocking(true).unwrap();
        // This writes as much as the system accepts.
        while stream.write(&requests).is_ok_and(|n| n == requests.len()) {}
        streams.push(stream);
    }
    fixture.is_well("clients that do not read");
    let more = fixture.memory().saturating_sub(before);
    // Each connection may use a buffer of 64 KiB for its requests and as much for its responses.
    assert!(more < 50 * 160, "{more} KiB");
}

/// The peer never reads. hax keeps the latest note of each object for it, not each message.
#[test]
fn who_never_acknowledges_is_owed_no_more_than_there_is() {
    let mut fixture = Fixture::new();
    let before = fixture.memory();
    let mut liar = Liar::new(&fixture.place);
    liar.link(Fid::process(9));
    liar.stops_reading();
    // Posts that come faster than they can be sent are merged, so a slow machine needs more posts.
    let told_enough = |fixture: &Fixture| fixture.hax.facts("NotesSent").len() >= 1_000;
    let mut n = 0_u64;
    while !told_enough(&fixture) {
        assert!(n < 40_000, "the good process was told: {}", fixture.hax.facts("NotesSent").len());
        for _ in 0..200 {
            let status = if n.is_multiple_of(2) { "critical" } else { "passing" };
            let index = (1 << 40) + n;
            let payload = format!(
                r#"[{{"Checks": [{{"Node": "ssu1", "CheckID": "service:3", "Status": "{status}",
                    "ServiceID": "3", "ModifyIndex": {index}}}]}}]"#
            );
            assert_eq!(fixture.place.ask("POST", "/", payload.as_bytes()).status, 200);
            n += 1;
        }
    }
    fixture.is_well("a peer that acknowledges nothing");
    let more = fixture.memory().saturating_sub(before);
    // A message of one note takes less than 1 KiB. Kept for each change, the messages would take 2 MiB and
    // more.
    assert!(more < 16 << 10, "{more} KiB");
}

/// Ends the threads of the flood when it is dropped, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Several clients send garbage at full speed, while the others are served in time.
#[test]
fn garbage_as_fast_as_it_goes() {
    let mut fixture = Fixture::new();
    let before = fixture.memory();
    let over = AtomicBool::new(false);
    let (motr, http) = (fixture.place.motr(), fixture.place.http());
    let hello = Liar::new(&fixture.place).hello();
    std::thread::scope(|scope| {
        for (at, bytes) in [
            (motr, vec![0xa5; 100_000]),
            (motr, hello.repeat(300)),
            (http, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{]".repeat(300)),
        ] {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(at) else { continue };
                    let _ = stream.write_all(&bytes);
                }
            });
        }
        let _ends = Ends(&over);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            let asked = Instant::now();
            fixture.is_well("a flood");
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        }
    });
    let more = fixture.memory().saturating_sub(before);
    assert!(more < 64 << 10, "{more} KiB");
}
