//! The end of hax's life, as peers see it. Each connection gets an end and never a reset, on which a real
//! process may crash. No reply makes a process reconnect at once.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Ham, LIMIT, fid, until};
use crate::fixture::{Client, Fixture, stop};

/// Reads to hax's end, goes on sending for a while like a process that has not noticed it, and closes.
fn see_it_end(mut stream: &TcpStream) -> io::Result<()> {
    stream.read_to_end(&mut Vec::new())?;
    for _ in 0..5 {
        stream.write_all(b"is there anybody?")?;
        thread::sleep(Duration::from_millis(20));
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn f09_a_stop_resets_nobody_who_waits_to_be_accepted() {
    // Two connections are accepted; the others wait in the backlog.
    let mut fixture = Fixture::with(&["--motr-connections-max", "1"]);
    let mut peers: Vec<_> = (0..20).map(|_| Client::new(fixture.place.motr())).collect();
    peers.iter_mut().for_each(|peer| peer.say(b"\0"));
    fixture.hax.signal("TERM");
    let ends: Vec<_> = thread::scope(|scope| {
        let ends = peers.iter().map(|peer| scope.spawn(|| see_it_end(&peer.stream)));
        let ends: Vec<_> = ends.collect();
        ends.into_iter().map(|end| end.join().unwrap()).collect()
    });
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    assert_eq!(fixture.hax.code(), 0);
}

/// Connects and sends again and again, like processes that have lost their connections, until the connection
/// is refused; returns the number of connections before.
fn connect_until_refused(at: SocketAddr) -> io::Result<u32> {
    for met in 0.. {
        let mut stream = match TcpStream::connect_timeout(&at, LIMIT) {
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => return Ok(met),
            other => other?,
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"\0")?;
        stream.read_to_end(&mut Vec::new())?;
    }
    unreachable!("somebody listens for ever")
}

#[test]
fn f09_a_stop_resets_nobody_who_comes_meanwhile() {
    let mut fixture = Fixture::with(&["--motr-connections-max", "1"]);
    let at = fixture.place.motr();
    let peers: Vec<_> = (0..8).map(|_| thread::spawn(move || connect_until_refused(at))).collect();
    let accepted = || fixture.hax.facts("ConnAccepted").len();
    until("they are there", || accepted() > 8);
    fixture.hax.signal("TERM");
    let met: Vec<_> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
    assert!(met.iter().all(Result::is_ok), "{met:?}");
    assert_eq!(fixture.hax.code(), 0);
}

/// A stop waits for a process that does not respond, while another process goes on.
#[test]
fn f09_the_last_step_of_a_stop_answers_nothing_new() {
    let mut fixture = Fixture::new();
    let mut hams: Vec<_> = (1..3).map(|key| fixture.place.ham(key)).collect();
    for ham in &mut hams {
        ham.entrypoint();
        ham.say("process started");
        ham.delivered();
    }
    hams[0].freeze();
    fixture.hax.signal("TERM");
    let closed = format!("closed with {}", fid(2));
    until("its link is closed", || {
        fixture.hax.facts("LinkClosed").iter().any(|line| line.contains(&closed))
    });
    hams[1].say("process stopping");
    assert_eq!(fixture.hax.code(), 0);
    let heard = hams[1].unheard();
    assert!(heard.iter().all(|line| line["event"] != "link-failed"), "{heard:#?}");
}

#[test]
fn f09_a_stop_with_talking_processes_is_quick() {
    for _ in 0..3 {
        let mut fixture = Fixture::new();
        let mut hams: Vec<_> = (1..9).map(|key| fixture.place.ham(key)).collect();
        hams.iter_mut().for_each(Ham::ask);
        for ham in &mut hams {
            ham.has_entrypoint();
            for _ in 0..500 {
                ham.say("process starting");
                ham.say("process started");
            }
        }
        for ham in &hams {
            ham.delivered();
        }
        let begun = Instant::now();
        assert_eq!(stop(&mut fixture.hax), 0);
        let took = begun.elapsed();
        // On a busy machine; it took 6 s when each of the processes' messages held it up.
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
