//! The wire's connections over real sockets: order, backpressure, and an end without a reset.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use async_channel::Receiver;
use bytes::Bytes;
use common::{listener, next, nobody, run};
use hax_core::base::id::ConnId;
use hax_core::net::{Command, Event};
use hax_driver::host;
use hax_tokio::Tokio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

type Net = host::net::Net<Tokio, Event>;

fn net(capacity: usize) -> (Rc<Net>, Receiver<Event>) {
    let (inbox, events) = async_channel::bounded(capacity);
    (Rc::new(Net::new(inbox, |event| event)), events)
}

/// Returns a listening endpoint and a peer that has connected to it.
async fn accepted(max: usize) -> (Rc<Net>, Receiver<Event>, ConnId, TcpStream) {
    let (net, events) = net(16);
    let (listener, address) = listener().await;
    let serving = Rc::clone(&net);
    let local = async move { serving.listen(&listener, max).await };
    // The listener borrows the endpoint. In the daemon, too, it runs on its own task.
    let peer = futures_lite::future::or(local, async {
        let peer = TcpStream::connect(address).await.unwrap();
        let event = next(&events).await;
        let Event::Accepted { conn, peer: from } = event else { panic!("{event:?}") };
        assert_eq!(from, peer.local_addr().unwrap());
        (conn, peer)
    })
    .await;
    (net, events, peer.0, peer.1)
}

fn write(conn: ConnId, parts: &[&'static [u8]]) -> Command {
    Command::Write { conn, segments: parts.iter().map(|part| Bytes::from_static(part)).collect() }
}

async fn silent(events: &Receiver<Event>) {
    let more = timeout(Duration::from_millis(50), events.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[test]
fn bytes_go_both_ways_and_a_close_flushes() {
    run(async {
        let (net, events, conn, mut peer) = accepted(4).await;
        peer.write_all(b"hello").await.unwrap();
        let bytes = Bytes::from_static(b"hello");
        assert_eq!(next(&events).await, Event::Received { conn, bytes });
        net.execute(write(conn, &[b"a", b"", b"bc"]));
        net.execute(write(conn, &[b"def"]));
        net.execute(Command::Close { conn });
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcdef");
        drop(peer);
        let mut written = 0;
        while written < 6 {
            let event = next(&events).await;
            let Event::Written { bytes, .. } = event else { panic!("{event:?}") };
            written += bytes;
        }
        assert_eq!(next(&events).await, Event::Closed { conn });
        // The end is reported once, even if it is requested twice.
        net.execute(Command::Close { conn });
        net.execute(write(conn, &[b"x"]));
        silent(&events).await;
    });
}

#[test]
fn the_peers_end_is_said_once() {
    run(async {
        let (_net, events, conn, mut peer) = accepted(4).await;
        peer.write_all(b"last words").await.unwrap();
        drop(peer);
        assert!(matches!(next(&events).await, Event::Received { .. }));
        assert_eq!(next(&events).await, Event::Closed { conn });
        silent(&events).await;
    });
}

#[test]
fn a_close_never_resets_a_peer_that_is_still_talking() {
    run(async {
        let (net, events, conn, mut peer) = accepted(4).await;
        let (mut read, mut write) = peer.split();
        let talk = async {
            for _ in 0..200 {
                write.write_all(&[7; 40_000]).await.expect("not reset");
            }
            write.shutdown().await.unwrap();
        };
        let listen = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            net.execute(Command::Close { conn });
            let mut rest = Vec::new();
            read.read_to_end(&mut rest).await.expect("an end, not a reset");
        };
        let take = async { while next(&events).await != (Event::Closed { conn }) {} };
        let both = futures_lite::future::zip(talk, listen);
        futures_lite::future::zip(both, take).await;
    });
}

#[test]
fn a_full_inbox_holds_the_peer_back() {
    run(async {
        let (_net, events, conn, mut peer) = accepted(4).await;
        let chunk = vec![1; 1 << 20];
        let mut sent = 0_usize;
        while timeout(Duration::from_millis(200), peer.write_all(&chunk)).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 64 << 20, "nothing holds the peer back");
        }
        assert!(events.is_full());
        let mut received = 0;
        while received < sent {
            let Event::Received { conn: from, bytes } = next(&events).await else { panic!() };
            assert_eq!(from, conn);
            received += bytes.len();
        }
    });
}

#[test]
fn own_connections_are_made_or_closed() {
    run(async {
        let (net, events) = net(16);
        let (listener, to) = listener().await;
        let (conn, from) = (ConnId::opened(0), IpAddr::from([127, 0, 7, 7]));
        net.execute(Command::Connect { conn, from, to });
        let (mut peer, address) = listener.accept().await.unwrap();
        assert_eq!(address.ip(), from, "a real peer closes what comes from elsewhere");
        assert_eq!(next(&events).await, Event::Connected { conn });
        net.execute(write(conn, &[b"hi"]));
        let mut bytes = [0; 2];
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(next(&events).await, Event::Written { conn, bytes: 2 });
        let refused = ConnId::opened(1);
        net.execute(Command::Connect { conn: refused, from, to: nobody().await });
        assert_eq!(next(&events).await, Event::Closed { conn: refused });
        // The connection is closed before it is established.
        let given_up = ConnId::opened(2);
        net.execute(Command::Connect { conn: given_up, from, to });
        net.execute(Command::Close { conn: given_up });
        assert_eq!(next(&events).await, Event::Closed { conn: given_up });
        silent(&events).await;
    });
}

#[test]
fn a_peer_that_takes_nothing_is_let_go_after_a_while() {
    run(async {
        let (net, events, conn, peer) = accepted(4).await;
        let body = Bytes::from(vec![0; 32 << 20]);
        net.execute(Command::Write { conn, segments: [body].into() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        net.execute(Command::Close { conn });
        tokio::time::pause();
        loop {
            match next(&events).await {
                Event::Written { .. } => {}
                event => break assert_eq!(event, Event::Closed { conn }),
            }
        }
        drop(peer);
    });
}

#[test]
fn too_many_writes_close_the_connection() {
    run(async {
        let (net, events, conn, peer) = accepted(4).await;
        for _ in 0..1100 {
            net.execute(write(conn, &[&[0; 20_000]]));
        }
        tokio::time::pause();
        loop {
            match next(&events).await {
                Event::Written { .. } => {}
                event => break assert_eq!(event, Event::Closed { conn }),
            }
        }
        drop(peer);
    });
}

#[test]
fn a_shutdown_flushes_what_is_left() {
    run(async {
        let (net, events, conn, mut peer) = accepted(4).await;
        net.execute(write(conn, &[b"bye"]));
        events.close();
        let read = async {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"bye");
            drop(peer);
        };
        let down = timeout(Duration::from_secs(2), net.shut_down(None, Duration::from_secs(10)));
        let (down, ()) = futures_lite::future::zip(down, read).await;
        down.expect("all have ended");
        net.execute(Command::Connect {
            conn: ConnId::opened(9),
            from: Ipv4Addr::LOCALHOST.into(),
            to: nobody().await,
        });
    });
}
