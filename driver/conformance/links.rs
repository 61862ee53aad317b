//! The wire: connections of processes, many and broken ones, and threads.

use std::net::TcpStream;

use crate::daemon::until;
use crate::world::{Client, World};

#[test]
fn a_process_gets_its_entrypoint_its_acknowledgement_and_news_of_others() {
    let world = World::new();
    let (mut one, mut two) = (world.place.ham(1), world.place.ham(2));
    let said = one.entrypoint();
    assert_eq!(said["quorum"], 2, "{said}");
    two.entrypoint();
    two.say("process started");
    two.delivered();
    two.say("process stopped");
    two.delivered();
    one.is_told(2, "FAILED");
}

#[test]
fn half_of_a_connection_is_closed_whole() {
    let world = World::new();
    for bytes in [&b""[..], b"\0", &[0; 39]] {
        let mut peer = Client::new(world.place.motr());
        peer.say(bytes);
        peer.end();
        assert!(peer.is_closed(), "an end and no reset");
    }
    world.is_well();
}

#[test]
fn what_is_no_frame_is_closed() {
    let world = World::new();
    for bytes in [&[0xa5; 1000][..], &b"GET / HTTP/1.1\r\n\r\n".repeat(10)] {
        let mut peer = Client::new(world.place.motr());
        peer.say(bytes);
        assert!(peer.is_closed(), "an end and no reset");
    }
    world.is_well();
}

#[test]
fn a_process_that_comes_back_finds_its_link() {
    let world = World::new();
    for _ in 0..3 {
        let mut ham = world.place.ham(1);
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
    until("the link is down", || world.hax.facts("LinkDown").len() >= 3);
}

#[test]
fn threads_are_few_and_do_not_grow_with_links() {
    let world = World::new();
    let mut hams: Vec<_> = (1..4).map(|key| world.place.ham(key)).collect();
    for ham in &mut hams {
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
    let many: Vec<_> = (0..100).map(|_| Client::new(world.place.motr())).collect();
    hams[0].entrypoint();
    let threads = world.number("Threads");
    assert!(threads <= 12, "{threads}");
    drop(many);
    world.is_well();
}

#[test]
fn a_thousand_connections_are_held_and_let_go() {
    let world = World::new();
    let mut ham = world.place.ham(1);
    ham.entrypoint();
    let peers: Vec<TcpStream> =
        (0..1000).map(|_| TcpStream::connect(world.place.motr()).unwrap()).collect();
    ham.say("process started");
    ham.delivered();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", world.hax.pid())).unwrap().count();
    until("all are accepted", || open() > 1000);
    drop(peers);
    until("all are let go", || open() < 100);
    ham.say("process stopping");
    ham.delivered();
}

#[test]
fn so_many_processes_may_be_connected() {
    let world = World::with(&["--motr-connections-max", "8"]);
    let peers: Vec<_> = (0..20).map(|_| Client::new(world.place.motr())).collect();
    // The mute ones make room.
    let mut ham = world.place.ham(1);
    ham.entrypoint();
    drop(peers);
    world.is_well();
}
