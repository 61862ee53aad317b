//! Replays of captured traffic: the endpoint gets the frames of real processes and responds as their server
//! must.
//!
//! The ids in the captures stem from another server's life, so the endpoint does not know the sessions and
//! links. The responses to those are part of the test.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::ha::fact::FactKind;
use hax_core::ha::motr;
use hax_core::net;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::{End, Frames};
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::{Config, Endpoint, Input, Output};
use wire_support::tape::{self, Stream, What};
use wire_support::world::entrypoint;

/// An endpoint whose connections all succeed. Its frames are recorded in `said`.
struct Replay {
    endpoint: Endpoint,
    now: u64,
    next: Next,
    hax: u16,
    said: Vec<Item>,
    events: Vec<motr::Event>,
    facts: BTreeMap<FactKind, u32>,
}

impl Replay {
    fn new(hax: u16) -> Self {
        let config = Config::new(local(hax), 1 << 60, 1);
        let (said, events, facts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { endpoint: Endpoint::new(config), now: 0, next: Next::Wait, hax, said, events, facts }
    }

    fn run_to(&mut self, at: u64) {
        while let Next::WaitUntil { at: due, .. } = self.next
            && due.as_micros() <= at
        {
            self.now = self.now.max(due.as_micros());
            self.feed(Input::Tick);
        }
        self.now = self.now.max(at);
    }

    fn feed(&mut self, input: Input) {
        let now = Now { mono: Instant::from_micros(self.now), wall: WallClock(0) };
        let mut out = Vec::new();
        self.next = self.endpoint.handle(now, input, &mut out);
        for output in out {
            match output {
                Output::Fact(fact) => *self.facts.entry(fact.kind()).or_default() += 1,
                Output::Net(net::Command::Connect { conn, .. }) => {
                    self.feed(Input::Net(net::Event::Connected { conn }));
                }
                Output::Net(net::Command::Write { segments, .. }) => {
                    self.said.extend(read(&segments.concat(), self.hax));
                }
                Output::Net(net::Command::Close { .. } | net::Command::Cut { .. }) => {}
                Output::Motr(event) => {
                    self.events.push(event.clone());
                    match event {
                        motr::Event::Asked(asked) => {
                            let (entry, reply) = (asked.entry, Ok(entrypoint()));
                            self.feed(Input::Motr(motr::Command::Reply { entry, reply }));
                        }
                        motr::Event::Received { link, msg, .. } => {
                            self.feed(Input::Motr(motr::Command::Ack { link, msg }));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn read(frame: &[u8], hax: u16) -> Vec<Item> {
    let mut frames = Frames::default();
    frames.feed(Bytes::copy_from_slice(frame));
    let (header, payload) = frames.cut().unwrap().expect("a whole frame in each write");
    assert_eq!(header.src.addr, local(hax));
    assert_ne!(header.src.cookie, (0, 0));
    assert!(matches!(frames.cut(), Ok(None)));
    packet::decode(&payload).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Passes the frames of the processes to the endpoint, and checks that each request gets a reply.
fn replay(name: &str) -> Replay {
    let records = tape::read(name);
    let streams: Vec<Stream> = records
        .iter()
        .filter_map(|r| if let What::Begins(stream) = r.what { Some(stream) } else { None })
        .collect();
    // hax is the listener of the first connection.
    let hax = streams[0].reader;
    let mut replay = Replay::new(hax);
    let mut asked = Vec::new();
    let mut frames: BTreeMap<usize, Frames> = BTreeMap::new();
    for record in records {
        if streams[record.stream].reader != hax {
            continue;
        }
        replay.run_to(record.at_us);
        let conn = ConnId::accepted(record.stream as u64 + 1);
        let event = match record.what {
            What::Begins(s) => net::Event::Accepted { conn, peer: local(s.from) },
            What::Data(data) => {
                let cut = frames.entry(record.stream).or_default();
                cut.feed(Bytes::copy_from_slice(&data));
                while let Ok(Some((_, payload))) = cut.cut() {
                    let items = packet::decode(&payload).unwrap().map(Result::unwrap);
                    asked.extend(items.filter(|i| !i.fop.is_reply()));
                }
                net::Event::Received { conn, bytes: data.into() }
            }
            What::Ends => net::Event::Closed { conn },
        };
        replay.feed(Input::Net(event));
    }
    let end = replay.now + 1_000_000;
    replay.run_to(end);
    for item in &asked {
        let answered = |r: &&Item| {
            r.header.cookie == item.header.cookie
                && r.header.opcode == item.header.opcode + 1
                && (r.header.uuid, r.header.xid) == (item.header.uuid, item.header.xid)
        };
        assert!(replay.said.iter().any(|r| answered(&r)), "{name}: {item:?}");
    }
    replay
}

fn count(replay: &Replay, which: impl Fn(&motr::Event) -> bool) -> usize {
    replay.events.iter().filter(|e| which(e)).count()
}

#[test]
fn every_request_of_every_capture_is_answered() {
    for name in tape::names() {
        // In these captures a server breaks the rules towards its process, or a process talks to itself.
        if !["00-self-connect", "07b-tcp-reset-aborts"].contains(&&*name) {
            let replay = replay(&name);
            assert!(count(&replay, |e| matches!(e, motr::Event::LinkUp { .. })) > 0, "{name}");
            for bad in [FactKind::BadFrame, FactKind::BadPacket, FactKind::BadItem] {
                assert_eq!(replay.facts.get(&bad), None, "{name}");
            }
        }
    }
}

#[test]
fn a_first_request_makes_a_link_with_initial_tags() {
    let replay = replay("01-m0mkfs-m0d-boot");
    let reps: Vec<_> = replay
        .said
        .iter()
        .filter_map(|i| if let Fop::EntrypointRep(rep) = &i.fop { Some(rep) } else { None })
        .collect();
    for rep in &reps {
        assert_eq!((rep.do_reconnect, rep.disconnected_previously, rep.control), (0, 0, 0));
        assert_eq!(rep.cookie_actual, reps[0].cookie_actual);
        assert_eq!(rep.params.tags_local.assign, 2);
        assert_eq!(rep.params.tags_remote.assign, 1);
    }
    // m0mkfs and m0d are two lives of one process: the second link ends the first.
    assert_eq!(count(&replay, |e| matches!(e, motr::Event::LinkUp { reconnected: false, .. })), 2);
    assert_eq!(count(&replay, |e| matches!(e, motr::Event::LinkClosed { .. })), 1);
}

/// Returns all items of a tape, with the listening port of their writer.
fn items(name: &str) -> Vec<(u16, Item)> {
    let mut all = Vec::new();
    for (stream, bytes) in tape::streams(name) {
        let mut frames = Frames::default();
        frames.feed(bytes.into());
        while let Ok(Some((_, payload))) = frames.cut() {
            let items = packet::decode(&payload).unwrap().map(Result::unwrap);
            all.extend(items.map(|i| (stream.writer, i)));
        }
    }
    all
}

/// Passes one item to the endpoint, on its own connection. Returns the reply.
fn say(replay: &mut Replay, from: u16, item: Item) -> Item {
    let (src, dst) = (local(from), local(replay.hax));
    let header = item.header;
    let end = |addr, n| End { addr, cookie: (n, 0) };
    let bytes = Bytes::from(packet::encode(end(src, 1), end(dst, 0), &[item]));
    let conn = ConnId::accepted(1);
    replay.feed(Input::Net(net::Event::Received { conn, bytes }));
    let answer =
        |i: &&Item| i.header.cookie == header.cookie && i.header.opcode == header.opcode + 1;
    replay.said.iter().rfind(answer).unwrap().clone()
}

#[test]
fn processes_are_answered_as_they_were_by_their_own_server() {
    let (mut firsts, mut reconnects) = (0, 0);
    for name in tape::names().into_iter().filter(|n| !n.starts_with("22")) {
        let all = items(&name);
        let asked = all.iter().filter_map(|(from, item)| match &item.fop {
            Fop::EntrypointReq(req) => Some((*from, item.header, req.clone())),
            _ => None,
        });
        for (from, header, req) in asked {
            let theirs = all.iter().find_map(|(_, item)| match &item.fop {
                Fop::EntrypointRep(rep) if item.header.cookie == header.cookie => Some(rep.clone()),
                _ => None,
            });
            // Some requests never got a reply. A new endpoint does not know a link that continues.
            let Some(theirs) = theirs.filter(|t| t.do_reconnect != 0 || req.first != 0) else {
                continue;
            };
            let mut replay = Replay::new(9);
            let (conn, peer) = (ConnId::accepted(1), local(1));
            replay.feed(Input::Net(net::Event::Accepted { conn, peer }));
            let opening = ItemHeader { opcode: 32, sender: NONE, session: 0, xid: NONE, ..header };
            let opened = say(&mut replay, from, Item { header: opening, fop: Fop::ConnEstablish });
            let Fop::ConnEstablishRep { rc: 0, sender } = opened.fop else { panic!("{opened:?}") };
            let header =
                ItemHeader { opcode: 34, sender, session: 0, xid: 1, xid_min: 1, ..header };
            let fop = Fop::SessionEstablish { sender };
            let opened = say(&mut replay, from, Item { header, fop });
            let Fop::SessionEstablishRep { session, .. } = opened.fop else { panic!("{opened:?}") };
            let header = ItemHeader { opcode: 117, session, ..header };
            let fop = Fop::EntrypointReq(req.clone());
            let answer = say(&mut replay, from, Item { header, fop });
            let Fop::EntrypointRep(ours) = answer.fop else { panic!("{answer:?}") };
            assert_eq!(answer.header, ItemHeader { opcode: 118, ..header });
            assert_eq!(ours.do_reconnect, theirs.do_reconnect, "{name}");
            assert_eq!(ours.disconnected_previously, 0);
            assert_eq!(ours.params.tags_local, theirs.params.tags_local, "{name}");
            assert_eq!(ours.params.tags_remote, theirs.params.tags_remote, "{name}");
            assert_ne!(ours.cookie_actual, req.cookie_expected);
            firsts += usize::from(req.first != 0);
            reconnects += usize::from(theirs.do_reconnect != 0);
        }
    }
    assert_eq!((firsts, reconnects), (31, 3));
}

#[test]
fn doubled_requests_are_served_once() {
    for name in ["08-reply-lost", "23-exp-slow118", "07-tcp-cut"] {
        let replay = replay(name);
        let asked = count(&replay, |e| matches!(e, motr::Event::Asked(_)));
        let linked = count(&replay, |e| {
            matches!(e, motr::Event::LinkUp { .. } | motr::Event::LinkReused { .. })
        });
        assert_eq!(asked, linked, "{name}");
        let confirmed: Vec<_> = replay
            .said
            .iter()
            .filter_map(|i| match &i.fop {
                Fop::EntrypointRep(_) => Some(i.header.cookie),
                _ => None,
            })
            .collect();
        assert!(confirmed.len() >= asked, "{name}");
    }
}
