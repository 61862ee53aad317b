//! Fuzzing of the inputs of services: their types, the keeper's socket, and whole worlds of nodes.

use std::cell::RefCell;

use hax_core::keeper::answer::Message;
use hax_core::keeper::frame::{ANSWER_MAX, BODY_MAX, Frames, encode};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::request;
use hax_core::services::model::answer;
use hax_core::services::model::kind::{self, TypeRecord};
use hax_core::services::model::launch::Launch;
use hax_core::services::model::name::NodeName;
use hax_core::services::model::parameters::Given;
use hax_core::services::model::record::Ask;
use hax_core::services::model::stored;

use crate::engine::{RunOptions, Search};
use crate::worlds::services::Services;

/// The maximum length of the text about something malformed, in bytes.
const TEXT_MAX: usize = 4 << 10;

thread_local! {
    static SEARCH: RefCell<Search<Services>> = RefCell::default();
}

/// Runs a world of three nodes with the bytes as its tape. All decisions are read from the tape, and all rules
/// must hold.
///
/// # Panics
///
/// If a rule does not hold. `hax-sim --cast services --replay` prints the trace of a tape.
pub fn services(data: &[u8]) {
    let outcome = SEARCH.with_borrow_mut(|search| search.tape(data, RunOptions::default()));
    if let Some(violation) = outcome.violation {
        panic!("{}: {}", violation.rule, violation.what);
    }
}

/// Reads the bytes as the JSON form of a type. A type that is accepted must be the same after it is written and
/// read again, and the keeper must accept the start of its instances.
///
/// # Panics
///
/// If it is not the same, or the keeper refuses the start.
pub fn kind(data: &[u8]) {
    let record = match kind::parse(data) {
        Ok(record) => record,
        Err(problems) => {
            assert!(!problems.is_empty(), "something is wrong");
            for problem in problems {
                assert!(problem.why.len() <= TEXT_MAX + data.len(), "{} bytes", problem.why.len());
            }
            return;
        }
    };
    let written = stored::encode(&record);
    assert_eq!(kind::parse(&written).as_ref(), Ok(&record), "what is written is read again");
    launches(&record);
}

fn launches(record: &TypeRecord) {
    let (node, none) = (NodeName::new("n1").expect("a name"), Given::new());
    let Ok(launch) = Launch::resolve(record, &node, &none, &none) else { return };
    let again = Launch::resolve(record, &node, &none, &none).map(|launch| launch.revision);
    assert_eq!(again.as_ref(), Ok(&launch.revision), "the same parameters are the same revision");
    let written = serde_json::to_vec(&launch).expect("plain data");
    let read: Launch = serde_json::from_slice(&written).expect("what is written");
    assert_eq!(read, launch, "what is written is read again");
    let instance = InstanceId::new("web.n1.1-1.1").expect("an id");
    if let Some(start) = launch.start(instance, None) {
        assert_eq!(start.check(), Ok(()), "the keeper accepts the start");
    }
}

/// Reads the bytes as the answer of a rule program. What it asks for is little, and the same after it is written and
/// read again.
///
/// # Panics
///
/// If it is too much, or not the same.
pub fn answer(data: &[u8]) {
    let asks = match answer::parse(data, "rule x") {
        Ok(asks) => asks,
        Err(why) => return assert!(why.len() <= TEXT_MAX + data.len(), "{} bytes", why.len()),
    };
    assert!(asks.len() <= answer::ASKS_MAX);
    for ask in asks {
        let read: Ask = serde_json::from_slice(&stored::encode(&ask)).expect("what is written");
        assert_eq!(read, ask, "what is written is read again");
    }
}

/// Reads the bytes as what a client sends to the keeper, and as what the keeper sends to a client. The bodies
/// must not depend on the boundaries of the pieces, and what is read must be the same after it is written and
/// read again.
///
/// # Panics
///
/// If anything differs.
pub fn keeper(data: &[u8]) {
    for max in [BODY_MAX, ANSWER_MAX] {
        let whole = bodies(data.chunks(data.len().max(1)), max);
        for size in [1, 3, 64] {
            assert_eq!(bodies(data.chunks(size), max), whole, "in parts of {size}");
        }
        for body in whole.0 {
            assert!(body.len() <= max, "{} bytes", body.len());
            read(&body);
        }
    }
    read(data);
}

/// Returns the bodies of a stream, and whether it can be read to its end.
fn bodies<'a>(parts: impl Iterator<Item = &'a [u8]>, max: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut frames, mut all) = (Frames::new(max), Vec::new());
    for part in parts {
        frames.push(part);
        loop {
            match frames.next_body() {
                Ok(Some(body)) => all.push(body),
                Ok(None) => break,
                Err(_) => return (all, false),
            }
        }
    }
    (all, true)
}

fn read(body: &[u8]) {
    if let Ok(read) = request::decode(body) {
        let written = serde_json::to_vec(&read).expect("plain data");
        assert_eq!(request::decode(&written), Ok(read), "what is written is read again");
        assert_eq!(bodies([&*encode(&written)].into_iter(), usize::MAX).0, [written]);
    }
    if let Ok(read) = serde_json::from_slice::<Message>(body) {
        let written = read.encode();
        let again: Message = serde_json::from_slice(&written).expect("what is written");
        assert_eq!(again, read, "what is written is read again");
    }
}
