//! The wire: many connections of processes, broken connections, and threads.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::daemon::{LIMIT, Place, double, until};
use crate::fixture::{Client, Fixture};
use crate::hax::HAX;

#[test]
fn a_process_gets_its_entrypoint_its_acknowledgement_and_news_of_others() {
    let fixture = Fixture::new();
    let (mut one, mut two) = (fixture.place.ham(1), fixture.place.ham(2));
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
    let fixture = Fixture::new();
    for bytes in [&b""[..], b"\0", &[0; 39]] {
        let mut peer = Client::new(fixture.place.motr());
        peer.say(bytes);
        peer.end();
        assert!(peer.is_closed(), "an end and no reset");
    }
    fixture.is_well();
}

#[test]
fn what_is_no_frame_is_closed() {
    let fixture = Fixture::new();
    for bytes in [&[0xa5; 1000][..], &b"GET / HTTP/1.1\r\n\r\n".repeat(10)] {
        let mut peer = Client::new(fixture.place.motr());
        peer.say(bytes);
        assert!(peer.is_closed(), "an end and no reset");
    }
    fixture.is_well();
}

#[test]
fn a_process_that_comes_back_finds_its_link() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        let mut ham = fixture.place.ham(1);
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
    until("the link is down", || fixture.hax.facts("LinkDown").len() >= 3);
}

#[test]
fn threads_are_few_and_do_not_grow_with_links() {
    let fixture = Fixture::new();
    let mut hams: Vec<_> = (1..4).map(|key| fixture.place.ham(key)).collect();
    for ham in &mut hams {
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
    let many: Vec<_> = (0..100).map(|_| Client::new(fixture.place.motr())).collect();
    hams[0].entrypoint();
    let threads = fixture.number("Threads");
    assert!(threads <= 12, "{threads}");
    drop(many);
    fixture.is_well();
}

#[test]
fn a_thousand_connections_are_held_and_let_go() {
    let fixture = Fixture::new();
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    let peers: Vec<TcpStream> =
        (0..1000).map(|_| TcpStream::connect(fixture.place.motr()).unwrap()).collect();
    ham.say("process started");
    ham.delivered();
    let open = || fs::read_dir(format!("/proc/{}/fd", fixture.hax.pid())).unwrap().count();
    until("all are accepted", || open() > 1000);
    drop(peers);
    until("all are let go", || open() < 100);
    ham.say("process stopping");
    ham.delivered();
}

#[test]
fn so_many_processes_may_be_connected() {
    let fixture = Fixture::with(&["--motr-connections-max", "8"]);
    let peers: Vec<_> = (0..20).map(|_| Client::new(fixture.place.motr())).collect();
    // The silent connections are closed to make room.
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    drop(peers);
    fixture.is_well();
}

/// Connects from another address than the processes' and hax's.
fn stranger(fixture: &Fixture) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let ip: IpAddr = [127, 66, 6, 6].into();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    socket.connect(&fixture.place.motr().into()).unwrap();
    socket.into()
}

#[test]
fn f51_strangers_make_room_and_processes_keep_their_links() {
    let fixture = Fixture::with(&["--motr-connections-max", "8"]);
    let mut linked = fixture.place.ham(1);
    linked.entrypoint();
    let mut strangers: Vec<_> = (0..100).map(|_| stranger(&fixture)).collect();
    strangers.iter_mut().for_each(|stranger| drop(stranger.write_all(b"\0")));
    let mut late = fixture.place.ham(2);
    late.entrypoint();
    linked.say("process started");
    linked.delivered();
    assert_eq!(fixture.hax.facts("LinkDown"), [""; 0]);
    until("strangers are closed", || fixture.hax.facts("ConnsFull").len() >= 90);
    // The connection gets an end and no reset, so a client can read to its end.
    strangers[0].set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(strangers[0].read(&mut [0]).unwrap(), 0);
}

#[test]
fn f50_a_connection_that_says_nothing_is_closed() {
    let fixture = Fixture::new();
    let began = Instant::now();
    assert!(Client::new(fixture.place.motr()).is_closed(), "an end and no reset");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    // The line may be read later than the end of the connection.
    until("it is said", || !fixture.hax.facts("ConnSilent").is_empty());
    fixture.is_well();
    assert_eq!(fixture.hax.facts("ConnSilent").len(), 1);
}

/// A program that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each connection is an open file; connections above the limit are not kept.
#[test]
fn f52_strangers_do_not_use_up_the_files_that_may_be_open() {
    let (place, consul) = (Place::new(), double::consul());
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{}", process::id()));
    let shell = "ulimit -n 600 && exec \"$0\" run --log-level warn \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", shell, HAX]).args(place.flags(consul));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let _ends = Running(command.spawn().unwrap());
    place.ready();
    let strangers: Vec<_> = (0..1000).map(|_| TcpStream::connect(place.motr())).collect();
    let mut ham = place.ham(1);
    ham.entrypoint();
    assert_eq!(place.ask("GET", "/readyz", b"").status, 200);
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("the limit of open files allows only"), "{said}");
    assert!(strangers.iter().all(Result::is_ok));
    fs::remove_file(log).unwrap();
}
