//! The connection against a keeper made of a listener and a thread.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use hax_core::base::id::AskId;
use hax_core::keeper::answer::{self, Answer, Code, Error, Held, KeeperView, Message, State, View};
use hax_core::keeper::frame::{BODY_MAX, Frames, encode};
use hax_core::keeper::name::{InstanceId, ServiceName};
use hax_core::keeper::port::Unanswered;
use hax_core::keeper::request::{Ask, Request};

use super::*;
use crate::keeper::SOCKET;

/// The time limit of a wait. It is never reached unless a test fails.
const WITHIN: Duration = Duration::from_secs(30);

struct Fixture {
    folder: PathBuf,
    connection: Connection,
    events: Receiver<Event>,
}

impl Fixture {
    /// Starts a connection whose answers may take this long.
    fn new(name: &str, within: Duration) -> Self {
        let folder =
            std::env::temp_dir().join(format!("hax-connection-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (inbox, events) = async_channel::unbounded();
        let connection = Connection::start_within(&folder, inbox, |event| event, within).unwrap();
        Self { folder, connection, events }
    }

    fn listen(&self) -> UnixListener {
        let path = self.folder.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    fn ask(&self, id: u64, ask: Ask) {
        self.connection.execute(Command { id: AskId(id), ask });
    }

    /// Waits for the next event.
    fn next(&self) -> Event {
        let (end, waiting) = std::sync::mpsc::channel();
        let events = self.events.clone();
        thread::spawn(move || drop(end.send(events.recv_blocking())));
        waiting.recv_timeout(WITHIN).expect("an event in time").unwrap()
    }

    fn down(&self) -> Box<str> {
        match self.next() {
            Event::Down { why } => why,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The keeper's side of one connection.
struct Peer {
    stream: UnixStream,
    frames: Frames,
}

impl Peer {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Self { stream, frames: Frames::new(BODY_MAX) }
    }

    /// Accepts a connection and sends its list of instances.
    fn up(listener: &UnixListener, pages: &[&[View]]) -> Self {
        let mut peer = Self::accept(listener);
        let watch = peer.request();
        assert_eq!(watch.ask, Ask::Watch);
        for (n, page) in pages.iter().enumerate() {
            let (instances, more) = (page.to_vec(), n + 1 < pages.len());
            let keeper = Box::new(keeper());
            peer.send(&Message::answer(watch.id, Answer::Instances { keeper, instances, more }));
        }
        peer
    }

    fn request(&mut self) -> Request {
        let mut piece = [0; 4096];
        loop {
            if let Some(body) = self.frames.next_body().unwrap() {
                return serde_json::from_slice(&body).unwrap();
            }
            let n = self.stream.read(&mut piece).unwrap();
            assert!(n > 0, "the connection is closed");
            self.frames.push(&piece[..n]);
        }
    }

    fn send(&mut self, message: &Message) {
        self.stream.write_all(&encode(&message.encode())).unwrap();
    }

    /// Waits until the other side has closed the connection.
    fn wait_for_end(mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
    }
}

fn keeper() -> KeeperView {
    KeeperView { pid: 7, boot: "boot".into(), generation: 3, held: Held::Group }
}

fn id(n: u32) -> InstanceId {
    InstanceId::new(&format!("i-{n}")).unwrap()
}

fn view(n: u32) -> View {
    View {
        instance: id(n),
        name: ServiceName::new("web").unwrap(),
        tag: None,
        capability: None,
        state: State::Running,
        pid: Some(n),
        generation: 3,
        adopted: false,
        asked_by: 0,
        until_us: None,
        status: None,
        cause: None,
        left: false,
        dropped: 0,
    }
}

fn kill(n: u32) -> Ask {
    Ask::Kill { instance: id(n) }
}

#[test]
fn a_keeper_that_comes_later_is_found_and_its_absence_is_reported_once() {
    let fixture = Fixture::new("later", WITHIN);
    let why = fixture.down();
    assert!(why.contains("socket"), "{why}");
    fixture.ask(1, kill(1));
    let answer = Event::Answered { id: AskId(1), result: Err(Unanswered::NotSent) };
    assert_eq!(fixture.next(), answer);
    let listener = fixture.listen();
    let _peer = Peer::up(&listener, &[&[view(1)], &[view(2)], &[]]);
    let instances = [view(1), view(2)].into();
    assert_eq!(fixture.next(), Event::Up { keeper: Box::new(keeper()), instances });
}

#[test]
fn each_request_has_its_own_answer_and_events_keep_their_place() {
    let fixture = Fixture::new("answers", WITHIN);
    let _ = fixture.down();
    let mut peer = Peer::up(&fixture.listen(), &[&[]]);
    assert!(matches!(fixture.next(), Event::Up { .. }));
    (1..=2).for_each(|n| fixture.ask(u64::from(n), kill(n)));
    let (first, second) = (peer.request(), peer.request());
    let error = Error { code: Code::Unknown, text: "no such instance".into(), holder: None };
    peer.send(&Message::error(Some(second.id), error.clone()));
    peer.send(&Message::event(answer::Event::Exited(Box::new(view(1)))));
    peer.send(&Message::answer(first.id, Answer::Done));
    // Nobody waits for this answer.
    peer.send(&Message::answer(99, Answer::Done));
    peer.send(&Message::event(answer::Event::Forgotten { instance: id(1) }));
    let refused = Err(Unanswered::Refused(error));
    assert_eq!(fixture.next(), Event::Answered { id: AskId(2), result: refused });
    assert_eq!(fixture.next(), Event::Changed(answer::Event::Exited(Box::new(view(1)))));
    assert_eq!(fixture.next(), Event::Answered { id: AskId(1), result: Ok(Answer::Done) });
    let forgotten = answer::Event::Forgotten { instance: id(1) };
    assert_eq!(fixture.next(), Event::Changed(forgotten));
}

#[test]
fn requests_without_an_answer_are_lost_with_the_connection() {
    let fixture = Fixture::new("lost", WITHIN);
    let _ = fixture.down();
    let listener = fixture.listen();
    for _ in 0..2 {
        let mut peer = Peer::up(&listener, &[&[]]);
        assert!(matches!(fixture.next(), Event::Up { .. }));
        fixture.ask(1, kill(1));
        assert_eq!(peer.request().ask, kill(1));
        drop(peer);
        let lost = Event::Answered { id: AskId(1), result: Err(Unanswered::Lost) };
        assert_eq!(fixture.next(), lost);
        // The loss of a connection is reported each time.
        fixture.down();
    }
}

#[test]
fn a_peer_that_speaks_something_else_is_left() {
    let fixture = Fixture::new("garbage", WITHIN);
    let _ = fixture.down();
    let listener = fixture.listen();
    let frames: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\n\r\n",
        &encode(b"{}"),
        &encode(br#"{"v":1,"id":0,"error":{"code":"version","text":"another version"}}"#),
        &[0xff; 8],
    ];
    let mut reported = Vec::new();
    for frame in frames {
        let mut peer = Peer::accept(&listener);
        peer.stream.write_all(frame).unwrap();
        peer.wait_for_end();
        reported.extend(fixture.events.try_recv());
    }
    assert!(reported.iter().all(|event| matches!(event, Event::Down { .. })), "{reported:?}");
    assert!(reported.iter().any(|event| format!("{event:?}").contains("another version")));
    let _peer = Peer::up(&listener, &[&[]]);
    while !matches!(fixture.next(), Event::Up { .. }) {}
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the connection is idle for a while")]
fn a_frozen_keeper_is_given_up() {
    let fixture = Fixture::new("frozen", Duration::from_millis(100));
    let _ = fixture.down();
    let listener = fixture.listen();
    // It accepts and says nothing.
    let silent = Peer::accept(&listener);
    let why = fixture.down();
    assert!(why.contains("does not answer"), "{why}");
    silent.wait_for_end();
    // It is idle for longer than the limit, which is fine, and then does not answer a request.
    let mut peer = Peer::up(&listener, &[&[]]);
    assert!(matches!(fixture.next(), Event::Up { .. }));
    thread::sleep(Duration::from_millis(200));
    fixture.ask(1, kill(1));
    assert_eq!(peer.request().ask, kill(1));
    let lost = Event::Answered { id: AskId(1), result: Err(Unanswered::Lost) };
    assert_eq!(fixture.next(), lost);
    assert!(fixture.down().contains("does not answer"));
    peer.wait_for_end();
}

#[test]
fn the_last_requests_are_sent_at_the_end() {
    let fixture = Fixture::new("end", WITHIN);
    let _ = fixture.down();
    let mut peer = Peer::up(&fixture.listen(), &[&[]]);
    assert!(matches!(fixture.next(), Event::Up { .. }));
    fixture.ask(1, kill(1));
    futures_lite::future::block_on(fixture.connection.shut_down());
    assert_eq!(peer.request().ask, kill(1));
    peer.wait_for_end();
}
