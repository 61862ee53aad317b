//! Slow peers.
#![expect(clippy::disallowed_methods, reason = "being slow takes real time")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::daemon::LIMIT;
use crate::fixture::Fixture;
use crate::liar::Liar;

/// The time that hax waits for a head or a body.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_frame_of_single_bytes_is_a_frame() {
    let mut fixture = Fixture::new();
    let mut liar = Liar::new(&fixture.place);
    liar.stream.set_nodelay(true).unwrap();
    for byte in liar.hello() {
        liar.say(&[byte]);
        sleep(Duration::from_millis(2));
    }
    liar.hears();
    fixture.is_well("a slow peer");
}

#[test]
fn half_open_connections_harm_nobody() {
    let mut fixture = Fixture::new();
    let mut liars: Vec<Liar> = (0..50).map(|_| Liar::new(&fixture.place)).collect();
    for (n, liar) in liars.iter_mut().enumerate() {
        let hello = liar.hello();
        liar.say(&hello[..hello.len() * n / 50]);
        liar.stream.shutdown(Shutdown::Write).unwrap();
    }
    // These peers cannot send more, and hax has nothing to send on their connections.
    assert!(liars.iter_mut().all(Liar::is_closed));
    fixture.is_well("half-open connections");
}

/// Sends single bytes until hax closes the connection.
///
/// Returns the response, unless a reset overtook it, and the elapsed time.
fn dribble(at: SocketAddr, head: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(head).unwrap();
    let mut answer = [0; 4096];
    stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    while began.elapsed() < LIMIT {
        let _ = stream.write_all(b"x");
        match stream.read(&mut answer) {
            Ok(n) => return (String::from_utf8_lossy(&answer[..n]).into_owned(), began.elapsed()),
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return (String::new(), began.elapsed()),
        }
    }
    panic!("never cut off");
}

#[test]
fn slow_requests_are_cut_off_and_nobody_waits_for_them() {
    let mut fixture = Fixture::new();
    let heads: [(&[u8], &str); 4] = [
        (b"G", ""),
        (b"GET / HTTP/1.1\r\nHost: hax\r\nX-Slow: ", ""),
        (b"POST / HTTP/1.1\r\nHost: hax\r\nContent-Length: 1000\r\n\r\n", "HTTP/1.1 408"),
        (
            b"POST / HTTP/1.1\r\nHost: hax\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
            "HTTP/1.1 408",
        ),
    ];
    std::thread::scope(|scope| {
        let slow: Vec<_> = heads
            .iter()
            .cycle()
            .take(100)
            .map(|(head, expected)| {
                let at = fixture.place.http();
                scope.spawn(move || (dribble(at, head), *expected))
            })
            .collect();
        while slow.iter().any(|one| !one.is_finished()) {
            fixture.is_well("slow requests");
            sleep(Duration::from_millis(100));
        }
        let mut told = 0;
        for one in slow {
            let ((answer, took), expected) = one.join().unwrap();
            assert!(took >= PATIENCE, "{took:?} {answer}");
            assert!(answer.is_empty() || answer.starts_with(expected), "{answer}");
            told += usize::from(answer.starts_with("HTTP/1.1 408"));
        }
        assert!(told > 0, "those with a slow body are told so");
    });
}
