//! Tests of clients with invalid messages, of clients without reads, and of their deaths at any moment.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hax_core::keeper::answer::{Code, Message, State, What};
use hax_core::keeper::frame::{ANSWER_MAX, BODY_MAX, Frames, encode};
use hax_core::keeper::request::{Ask, Request};
use hax_driver::keeper::{Client, SOCKET};

use crate::common::program::holds;
use crate::world::{WITHIN, World, sh};

fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.folder().join(SOCKET)).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream
}

fn request(id: u64, ask: Ask) -> Vec<u8> {
    encode(&serde_json::to_vec(&Request { v: 1, id, ask }).unwrap())
}

/// Reads all messages until the keeper ends the connection.
fn rest(stream: &mut UnixStream) -> Vec<Message> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let mut frames = Frames::new(ANSWER_MAX);
    frames.push(&bytes);
    let bodies = std::iter::from_fn(|| frames.next_body().unwrap());
    bodies.map(|body| serde_json::from_slice(&body).unwrap()).collect()
}

#[test]
fn a_client_that_dies_at_any_byte_has_asked_for_nothing() {
    let world = World::new();
    let frame = request(1, Ask::Start(Box::new(sh("a", "exec sleep 1000"))));
    for end in 0..frame.len() {
        connect(&world).write_all(&frame[..end]).unwrap();
    }
    assert!(world.views().is_empty());
    // A complete request is carried out, although no client waits for the answer.
    connect(&world).write_all(&frame).unwrap();
    assert!(holds(|| world.views().get("a").is_some_and(|view| view.state == State::Running)));
    let before = world.leaks().0;
    assert!(holds(|| world.leaks().0 <= before), "no connection is kept");
}

#[test]
fn garbage_is_answered_and_a_frame_that_is_too_long_ends_the_connection() {
    let world = World::new();
    let mut stream = connect(&world);
    for body in [&b"garbage"[..], b"", b"{\"v\":1,\"id\":3,\"ask\":\"sing\"}", b"\xff\0\xff"] {
        stream.write_all(&encode(body)).unwrap();
    }
    stream.write_all(&encode(br#"{"v":2,"id":4}"#)).unwrap();
    stream.write_all(&request(5, Ask::List)).unwrap();
    let too_long = u32::try_from(BODY_MAX + 1).unwrap();
    stream.write_all(&too_long.to_be_bytes()).unwrap();
    let messages = rest(&mut stream);
    let said: Vec<_> = messages
        .iter()
        .map(|message| match &message.what {
            What::Error(error) => (message.id, Some(error.code)),
            What::Answer(_) | What::Event(_) => (message.id, None),
        })
        .collect();
    let bad = Some(Code::Malformed);
    let version = (Some(4), Some(Code::Version));
    let expected = [
        (None, bad),
        (None, bad),
        (Some(3), bad),
        (None, bad),
        version,
        (Some(5), None),
        (None, bad),
    ];
    assert_eq!(said, expected);
    assert!(world.views().is_empty());
}

#[test]
fn more_clients_than_there_is_room_for_push_out_the_silent() {
    let world = World::new();
    let silent: Vec<_> = (0..200).map(|_| connect(&world)).collect();
    for _ in 0..100 {
        assert!(world.views().is_empty());
    }
    let open = silent.iter().filter(|stream| {
        stream.set_nonblocking(true).unwrap();
        let read = (&mut &**stream).read(&mut [0]);
        read.is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert!(open.count() < 32);
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_client_that_never_reads_costs_no_memory_and_holds_up_nobody() {
    let world = World::new();
    for n in 0..50 {
        world.begin(sh(&format!("a{n}"), "exec sleep 1000"));
    }
    let frame = request(1, Ask::List);
    let streams: Vec<_> = (0..10).map(|_| connect(&world)).collect();
    for mut stream in &streams {
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        // Each answer is more than a hundred times as long as its request.
        while stream.write_all(&frame.repeat(100)).is_ok() {}
    }
    assert_eq!(Client::connect(&world.folder(), WITHIN).unwrap().list().unwrap().1.len(), 50);
    let resident = resident_kib(world.pid());
    assert!(resident < 64 << 10, "{resident} KiB");
}
