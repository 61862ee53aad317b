//! The requests that wait for the core, and what it is told of them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::future::{block_on, poll_once, zip};
use futures_lite::{AsyncRead, AsyncWrite};

use super::*;
use crate::clock::Clock;
use crate::secret::SecretSource;

fn desk(inbox: Sender<Box<port::Request>>) -> Desk<Box<port::Request>> {
    let body_within = Duration::from_secs(1);
    let limits = Limits { body_max: 1, bodies_max: 2, connections_max: 1, body_within };
    let metrics = Arc::new(Metrics::new(Clock::new()));
    Desk::new(inbox, |request| request, limits, metrics)
}

#[test]
fn a_request_waits_for_room_in_the_inbox() {
    let (sender, inbox) = crate::inbox(1);
    let desk = desk(sender);
    block_on(async {
        let mut first = Box::pin(desk.ask("GET", "/first", Bytes::new(), true));
        let mut second = Box::pin(desk.ask("GET", "/second", Bytes::new(), true));
        for _ in 0..3 {
            assert_eq!(poll_once(&mut first).await, None);
            assert_eq!(poll_once(&mut second).await, None, "it was refused");
        }
        assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/first");
        assert_eq!(poll_once(&mut second).await, None);
        assert_eq!(inbox.recv().await.unwrap().target.as_ref(), "/second");
    });
}

#[test]
fn who_waits_for_room_at_the_end_hears_of_it() {
    let (sender, inbox) = crate::inbox(1);
    let desk = desk(sender);
    block_on(async {
        let mut first = Box::pin(desk.ask("GET", "/first", Bytes::new(), true));
        let mut second = Box::pin(desk.ask("GET", "/second", Bytes::new(), true));
        assert_eq!(poll_once(&mut first).await, None);
        assert_eq!(poll_once(&mut second).await, None);
        inbox.close();
        desk.give_up();
        assert_eq!(first.await.status, 503);
        assert_eq!(second.await.status, 503);
    });
}

/// A client that has said all at once and takes all that it is told.
struct Said(&'static [u8]);

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let n = self.0.len().min(to.len());
        to[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Said {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether the core is told to trust a request that comes from `peer` to `local`.
fn is_trusted(door: &Door, peer: &str, local: &str, said: &'static [u8]) -> bool {
    let (inbox, requests) = crate::inbox(1);
    let (body_within, connections_max) = (Duration::from_secs(1), 8);
    let limits = Limits { body_max: 100, bodies_max: 200, connections_max, body_within };
    let metrics = Arc::new(Metrics::new(Clock::new()));
    let never: Sleep = |_| Box::pin(std::future::pending());
    let server = Server::new(inbox, |request: Box<port::Request>| request, limits, metrics, never);
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 1);
    let seat = server.enter(at(peer), at(local)).unwrap();
    let (_stop, stopped) = async_channel::bounded(1);
    let begin = async { Ok(Box::new(Said(said)) as Box<dyn Stream>) };
    let answered = async {
        let request = requests.recv().await.unwrap();
        server.desk().give_up();
        request.trusted
    };
    block_on(zip(server.serve(door, seat, stopped, begin), answered)).1
}

#[test]
fn f35_only_this_node_and_who_shows_the_token_is_believed_at_once() {
    const PLAIN: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]";
    const SHOWN: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\
        Content-Length: 2\r\n\r\n[]";
    const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let open = Door::open();
    let path = std::env::temp_dir().join(format!("hax-trust-{}", std::process::id()));
    std::fs::write(&path, "one\n").unwrap();
    let locked = Door::new(None, Some(SecretSource::File("--http-token-file", path.clone())));
    let locked = locked.unwrap();
    std::fs::remove_file(path).unwrap();
    let (node, neighbour) = ("192.0.2.1", "192.0.2.7");
    for (door, peer, said, trusted) in [
        (&open, "127.0.0.1", PLAIN, true),
        (&open, node, PLAIN, true),
        (&open, neighbour, PLAIN, false),
        (&open, neighbour, SHOWN, false),
        (&locked, node, PROBE, true),
        (&locked, neighbour, PROBE, false),
        (&locked, neighbour, SHOWN, true),
    ] {
        let said_as = String::from_utf8_lossy(said);
        assert_eq!(is_trusted(door, peer, node, said), trusted, "{peer}: {said_as}");
    }
}
