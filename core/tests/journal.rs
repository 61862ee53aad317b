//! Journals: a round trip returns the records, and malformed journals are refused without a panic.

use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, ConnId, ExecId, FifoId, FileId, HttpId, SpielId};
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::bridge::config::OnUnexpected;
use hax_core::consul::port::{Answer, Reply, Unanswered};
use hax_core::ha::spiel;
use hax_core::http::port::Trust;
use hax_core::http::stream::{Closed, Why};
use hax_core::journal::{self, JournalError};
use hax_core::node::{Config, Input};
use hax_core::{bridge, exec, fifo, file, http, net, wire};
use quickcheck::{Arbitrary, Gen, QuickCheck};

fn config() -> Config {
    let mut bridge = bridge::config::Config::new(Fid::process(7), "ssu1", 5);
    bridge.on_unexpected = OnUnexpected::Ignore;
    bridge.limit.entries = 99;
    let listen = SocketAddr::from(([127, 0, 0, 1], 22001));
    Config { bridge, wire: wire::Config::new(listen, 1 << 60, 5) }
}

#[derive(Clone, Debug)]
struct Recorded(Now, Input);

impl Arbitrary for Recorded {
    fn arbitrary(g: &mut Gen) -> Self {
        let mono = Instant::from_micros(u64::arbitrary(g));
        let now = Now { mono, wall: WallClock(u64::arbitrary(g)) };
        let conn = ConnId(u64::arbitrary(g));
        let bytes = Bytes::from(Vec::arbitrary(g));
        let text = |g: &mut Gen| -> Box<str> { String::arbitrary(g).into() };
        let input = match u8::arbitrary(g) % 15 {
            0 => Input::Tick,
            1 => Input::Stop,
            2 => {
                let ip = Ipv6Addr::from(u128::arbitrary(g));
                let peer = SocketAddr::new(ip.into(), u16::arbitrary(g));
                Input::Net(net::Event::Accepted { conn, peer })
            }
            3 => Input::Net(net::Event::Connected { conn }),
            4 => Input::Net(net::Event::Received { conn, bytes }),
            5 => Input::Net(net::Event::Written { conn, bytes: u32::arbitrary(g) }),
            6 => Input::Net(net::Event::Closed { conn }),
            7 => {
                let all = [Unanswered::Refused, Unanswered::Broken, Unanswered::TimedOut];
                let why = g.choose(&all).copied().unwrap_or(Unanswered::TooLarge);
                Input::Consul(Reply { id: CallId(u64::arbitrary(g)), result: Err(why) })
            }
            8 => {
                let (status, index) = (u16::arbitrary(g), u64::arbitrary(g));
                let result = Ok(Answer { status, index, body: bytes });
                Input::Consul(Reply { id: CallId(u64::arbitrary(g)), result })
            }
            9 => Input::Spiel(library(g)),
            10 => Input::Exec(program(g, bytes)),
            11 => Input::File(of_file(g, bytes)),
            12 => {
                let all = [Why::Ended, Why::Client, Why::Slow, Why::TooMany];
                let why = g.choose(&all).copied().unwrap_or(Why::Ended);
                Input::HttpStream(Closed { id: HttpId(u64::arbitrary(g)), why })
            }
            13 => Input::Fifo(fifo::Request { id: FifoId(u64::arbitrary(g)), body: bytes }),
            _ => Input::Http(Box::new(http::port::Request {
                id: HttpId(u64::arbitrary(g)),
                method: text(g),
                target: text(g),
                body: bytes,
                trust: *g.choose(&[Trust::None, Trust::Local, Trust::Authorized]).expect("three"),
            })),
        };
        Self(now, input)
    }
}

/// Generates a response of Motr's library.
fn library(g: &mut Gen) -> spiel::Reply {
    let (n, m) = (u64::arbitrary(g), u32::arbitrary(g));
    let fid = Fid::process(n);
    let result = match u8::arbitrary(g) % 6 {
        0 => Err(Errno(5)),
        1 => Ok(spiel::Answer::Done),
        2 => {
            let status = spiel::Status { fid, state: m, progress: 3 };
            Ok(spiel::Answer::Statuses(vec![status; usize::from(u8::arbitrary(g))]))
        }
        3 => {
            let space = spiel::Filesystem { free_disk: n, svc_total: m, ..Default::default() };
            Ok(spiel::Answer::Filesystem(Box::new(space)))
        }
        4 => {
            let counter = spiel::Counter { pver: fid, user: 1, bytes: n, objects: 2 };
            Ok(spiel::Answer::Counters(vec![counter; usize::from(u8::arbitrary(g))]))
        }
        _ => Ok(spiel::Answer::Pver(spiel::Pver { state: m, data_units: 4, parity_units: 2 })),
    };
    spiel::Reply { id: SpielId(n), result }
}

/// Generates an event of a helper program.
fn program(g: &mut Gen, bytes: Bytes) -> exec::Event {
    let id = ExecId(u64::arbitrary(g));
    match u8::arbitrary(g) % 4 {
        0 => exec::Event::Started { id },
        1 => {
            let failed = exec::Refusal::Failed(Errno(i32::arbitrary(g)));
            let all = [exec::Refusal::TooMany, exec::Refusal::Stopping, failed];
            exec::Event::Refused { id, why: g.choose(&all).copied().unwrap_or(failed) }
        }
        2 => {
            let err = bool::arbitrary(g);
            let stream = if err { exec::Stream::Stderr } else { exec::Stream::Stdout };
            exec::Event::Output { id, stream, bytes }
        }
        _ => {
            let n = i32::arbitrary(g);
            let all = [exec::Status::Code(n), exec::Status::Signal(n)];
            let status = g.choose(&all).copied().unwrap_or(exec::Status::Unknown);
            let all = [exec::Cause::Itself, exec::Cause::Deadline];
            let cause = g.choose(&all).copied().unwrap_or(exec::Cause::Killed);
            let unheard = exec::Unheard { dropped: u64::arbitrary(g), open: bool::arbitrary(g) };
            exec::Event::Exited { id, status, cause, unheard }
        }
    }
}

/// Generates an event of a file.
fn of_file(g: &mut Gen, content: Bytes) -> file::Event {
    let id = FileId(u64::arbitrary(g));
    match u8::arbitrary(g) % 4 {
        0 => file::Event::Done { id },
        1 => file::Event::Content { id, content },
        2 => file::Event::Missing { id },
        _ => {
            let failed = file::Failure::System(Errno(i32::arbitrary(g)));
            let all = [file::Failure::Malformed, file::Failure::TooLong, failed];
            file::Event::Failed { id, why: g.choose(&all).copied().unwrap_or(failed) }
        }
    }
}

fn written(records: &[Recorded]) -> Vec<u8> {
    let mut journal = journal::begin(&config());
    records.iter().for_each(|Recorded(now, input)| journal::put(&mut journal, *now, input));
    journal
}

#[test]
fn what_is_written_is_read_back() {
    fn property(records: Vec<Recorded>) -> bool {
        let journal = written(&records);
        let (read, inputs) = journal::open(&journal).unwrap();
        let inputs: Vec<_> = inputs.map(Result::unwrap).collect();
        format!("{read:?}") == format!("{:?}", config())
            && inputs.iter().eq(records
                .iter()
                .map(|r| (r.0, r.1.clone()))
                .collect::<Vec<_>>()
                .iter())
    }
    QuickCheck::new().quickcheck(property as fn(Vec<Recorded>) -> bool);
}

#[test]
fn a_journal_that_was_cut_off_is_read_up_to_there() {
    fn property(records: Vec<Recorded>, cut: usize) -> bool {
        let whole = written(&records);
        let header = journal::begin(&config()).len();
        let cut = header + cut % (whole.len() - header + 1);
        let (_, inputs) = journal::open(&whole[..cut]).unwrap();
        let read: Vec<_> = inputs.collect();
        let good = read.iter().take_while(|record| record.is_ok()).count();
        let same = read[..good].iter().zip(&records).all(|(a, b)| *a == Ok((b.0, b.1.clone())));
        let rest = &read[good..];
        same && (rest.is_empty() || *rest == [Err(JournalError::CutOff)])
    }
    QuickCheck::new().quickcheck(property as fn(Vec<Recorded>, usize) -> bool);
}

#[test]
fn a_wrong_byte_does_no_harm() {
    fn property(records: Vec<Recorded>, at: usize, to: u8) -> bool {
        let mut journal = written(&records);
        let at = at % journal.len();
        journal[at] = to;
        // The changed bytes may still be a journal with other records. Reading them never panics and always
        // ends.
        journal::open(&journal).map_or(0, |(_, inputs)| inputs.count()) <= journal.len()
    }
    QuickCheck::new().quickcheck(property as fn(Vec<Recorded>, usize, u8) -> bool);
}

#[test]
fn what_is_no_journal_is_refused() {
    assert_eq!(journal::open(b"").err(), Some(JournalError::NotAJournal));
    assert_eq!(journal::open(b"haxjrnl\n").err(), Some(JournalError::CutOff));
    assert_eq!(journal::open(b"haxjrnl\n\x09\x09").err(), Some(JournalError::Version(0x909)));
    let mut journal = journal::begin(&config());
    journal.extend_from_slice(&u32::MAX.to_le_bytes());
    let (_, mut inputs) = journal::open(&journal).unwrap();
    assert_eq!(inputs.next(), Some(Err(JournalError::Field("a record's length"))));
    assert_eq!(inputs.next(), None);
}
