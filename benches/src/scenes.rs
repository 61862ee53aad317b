//! The measured scenes. Each scene returns the machine to its initial state, so that it can be repeated, and
//! returns the time spent in the machine itself.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::base::id::{EntryId, HttpId, LinkId};
use hax_core::base::time::WallClock;
use hax_core::bridge::io::{Input, Output};
use hax_core::consul::port::Reply;
use hax_core::ha::entrypoint::EntrypointRequest;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::http::port::{Request, Trust};
use hax_core::wire::codec::fop::{Fop, LinkMsg};
use hax_core::wire::codec::frame::End;
use hax_core::wire::codec::item::ItemHeader;
use hax_core::wire::codec::packet::Item;
use hax_core::wire::codec::params::{LinkIds, Uint128};
use hax_core::{net, wire};
use serde_json::{Value, json};

use crate::peers::Peers;
use crate::rig::{Rig, clock};

/// Creates `n` requests of known processes, to be sent before a round is answered.
pub fn asked(rig: &mut Rig, n: usize) -> Vec<Input> {
    let processes = rig.processes(0);
    let mut request = |i: usize| {
        Input::Motr(Event::Asked(Box::new(EntrypointRequest {
            entry: EntryId(rig.mint()),
            process: processes[i % processes.len()],
            endpoint: "inet:stream:127.0.1.1@21501".into(),
            pid: 1,
            first: false,
            git_rev: "".into(),
        })))
    };
    (0..n).map(&mut request).collect()
}

/// Answers the rounds of a storm after its requests were given, until each request has its reply.
///
/// # Panics
///
/// If a request has no reply.
pub fn finish_storm(rig: &mut Rig, n: usize) {
    loop {
        let answers = round(rig);
        if answers.is_empty() {
            break;
        }
        answers.into_iter().for_each(|answer| rig.give(Input::Consul(answer)));
    }
    let good =
        |output: &&Output| matches!(output, Output::Motr(Command::Reply { reply: Ok(_), .. }));
    assert_eq!(rig.out.iter().filter(good).count(), n, "each has its reply");
    rig.out.clear();
}

/// Returns the responses to the reads of a round.
pub fn round(rig: &mut Rig) -> Vec<Reply> {
    let calls = rig.take_calls();
    calls.into_iter().filter_map(|call| rig.ask(call)).collect()
}

/// Advances the time after a storm, so that the bridge does not wait for the processes that it answered.
pub fn forget_crowd(rig: &mut Rig) {
    rig.pass(Duration::from_millis(10));
    rig.rest();
}

/// Runs a storm of `n` requests; returns the total time spent in the bridge.
pub fn storm(rig: &mut Rig, n: usize) -> Duration {
    forget_crowd(rig);
    let requests = asked(rig, n);
    rig.take_spent();
    rig.give_all(requests);
    finish_storm(rig, n);
    rig.take_spent()
}

/// Returns `n` fids with a state: the devices of the first processes, then other objects.
pub fn objects(rig: &Rig, n: usize) -> Vec<Fid> {
    let keys = rig.cluster.kv.iter().filter_map(|(key, _)| key.rsplit('/').next());
    let fids = keys.filter_map(|part| part.parse::<Fid>().ok());
    let mut fids: Vec<Fid> = fids.collect();
    fids.sort_unstable();
    fids.dedup();
    // A fixed stride takes objects from the whole configuration.
    let stride = (fids.len() / n).max(1);
    (0..n).map(|i| fids[i * stride % fids.len()]).collect()
}

/// Creates a question for the states of these objects.
pub fn question(rig: &mut Rig, link: LinkId, process: Fid, objects: &[Fid]) -> Input {
    let none = |fid: &Fid| Note { fid: *fid, state: ObjectState::Unknown };
    let notes = objects.iter().map(none).collect();
    let nvec = Nvec { kind: NvecKind::Get, id_of_get: 1, ignore_same_state: 0, notes };
    rig.message(link, process, Body::Nvec(Box::new(nvec)))
}

/// Returns the responses to the probes of a question, made in advance: the reads of the double would evict
/// the measured data from the processor's caches.
///
/// # Panics
///
/// If the question is not answered with them.
pub fn probes(rig: &mut Rig, link: LinkId, process: Fid) -> Vec<Reply> {
    // The first probe shows the index of the table of keys, the second that the copies are no older.
    for _ in 0..3 {
        let question = question(rig, link, process, &[process]);
        rig.give(question);
        let probes = round(rig);
        probes.iter().for_each(|probe| rig.give(Input::Consul(probe.clone())));
        assert!(tells(rig), "{:?}", rig.out);
        rig.rest();
        if probes.len() == 2 {
            return probes;
        }
    }
    panic!("no key changes: a glance is enough");
}

/// Measures a question from its arrival to its answer, with the responses to its probes.
///
/// # Panics
///
/// If the question is not answered.
pub fn nvec_get(rig: &mut Rig, question: Input, probes: &[Reply]) -> Duration {
    rig.take_spent();
    rig.give(question);
    let calls = rig.take_calls();
    assert_eq!(calls.len(), probes.len(), "the same probes");
    let own = calls
        .iter()
        .zip(probes)
        .map(|(call, probe)| Input::Consul(Reply { id: call.id, result: probe.result.clone() }));
    rig.give_all(own.collect());
    let spent = rig.take_spent();
    assert!(tells(rig), "{:?}", rig.out);
    rig.rest();
    spent
}

/// Creates the event that a process has started, or recovered.
pub fn event(rig: &mut Rig, link: LinkId, process: Fid, nth: u64) -> Input {
    let event = match nth % 2 {
        0 => ProcessEventKind::Started,
        _ => ProcessEventKind::DtmRecovered,
    };
    let event = ProcessEvent { event, kind: ProcessType::M0d, pid: 1 };
    rig.message(link, process, Body::Process(event))
}

/// Measures a process event: until its transaction is sent, and from the response to the acknowledgement.
///
/// # Panics
///
/// If the event is not acknowledged.
pub fn process_event(rig: &mut Rig, link: LinkId, process: Fid, nth: u64) -> Duration {
    let event = event(rig, link, process, nth);
    rig.take_spent();
    rig.give(event);
    let answers = round(rig);
    assert_eq!(answers.len(), 1, "one transaction");
    answers.into_iter().for_each(|answer| rig.give(Input::Consul(answer)));
    let spent = rig.take_spent();
    let acked = rig.out.iter().any(|output| matches!(output, Output::Motr(Command::Ack { .. })));
    assert!(acked, "{:?}", rig.out);
    rig.rest();
    rig.out.clear();
    spent
}

/// Returns whether the bridge has sent a message to links that is not taken yet.
#[must_use]
pub fn tells(rig: &Rig) -> bool {
    rig.out.iter().any(|output| matches!(output, Output::Motr(Command::Send { .. })))
}

/// Measures the death of the second node of [`crate::shapes::crowded`], or its return; returns the time of
/// the one call that sends the message to all links, and the number of notes.
///
/// # Panics
///
/// If there is not one message to all links.
pub fn broadcast(rig: &mut Rig, alive: bool, links: usize) -> (Duration, usize) {
    rig.set_alive(1, alive);
    // The response to the watch is decoded in slices; the last slice sends the message.
    while !tells(rig) {
        rig.take_spent();
        assert!(rig.step(), "it has nothing more to do and told nobody");
    }
    let spent = rig.take_spent();
    let sent = rig.out.iter().filter_map(|output| match output {
        Output::Motr(Command::Send { to, message, .. }) => Some((to.len(), &message.body)),
        _ => None,
    });
    let sent: Vec<_> = sent.collect();
    let [(to, Body::Nvec(nvec))] = sent[..] else { panic!("{} messages", sent.len()) };
    assert_eq!(to, links, "all links in one message");
    let notes = nvec.notes.len();
    rig.rest();
    (spent, notes)
}

/// Returns the post of a Consul watch: `nodes` instances of a service, all passing, each with the check of
/// its node and its own check. The bridge knows all of it already.
pub fn payload(rig: &mut Rig, nodes: usize) -> Vec<u8> {
    let body = rig.consul("GET", "/v1/health/service/ios", "");
    let known: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    let repeated: Vec<&Value> = known.iter().cycle().take(nodes).collect();
    serde_json::to_vec(&json!(repeated)).expect("JSON")
}

/// Creates the request of a watch that posts `body`.
pub fn posted(rig: &mut Rig, body: &[u8]) -> Input {
    let id = HttpId(rig.mint());
    let (method, target) = ("POST".into(), "/".into());
    Input::Http(Box::new(Request {
        id,
        method,
        target,
        body: body.to_vec().into(),
        trust: Trust::Local,
    }))
}

/// Measures the post of `body` by a watch.
///
/// # Panics
///
/// If the response is not 200.
pub fn post(rig: &mut Rig, body: &[u8]) -> Duration {
    let request = posted(rig, body);
    rig.take_spent();
    rig.give(request);
    let spent = rig.take_spent();
    let good = |output: &Output| matches!(output, Output::Http(response) if response.status == 200);
    assert!(rig.out.iter().any(good), "{:?}", rig.out);
    rig.out.clear();
    spent
}

/// Creates a message with `notes` notes.
#[must_use]
pub fn statement(notes: usize) -> Message {
    let note = |key: usize| Note { fid: Fid::service(key as u64), state: ObjectState::Failed };
    let notes = (0..notes.min(NOTES_MAX)).map(note).collect();
    let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 1, notes };
    Message::new(WallClock(1), Body::Nvec(Box::new(nvec)))
}

/// Measures a message of 1,024 notes to all links, from the bridge's command to all bytes to be written.
///
/// # Panics
///
/// If there is a link without bytes to be written.
pub fn wire_broadcast(peers: &mut Peers) -> Duration {
    let links = peers.links.len();
    let command = peers.broadcast(statement(NOTES_MAX));
    let before = clock();
    peers.give(command);
    let spent = before.elapsed();
    let write =
        |output: &&wire::Output| matches!(output, wire::Output::Net(net::Command::Write { .. }));
    assert_eq!(peers.out.iter().filter(write).count(), links, "each is written to");
    assert_eq!(peers.rest(), links, "each has taken it in");
    spent
}

/// Returns an item of a packet with `notes` notes, and the two ends of its frame.
#[must_use]
pub fn item(notes: usize) -> (End, End, Item) {
    let id = |lo| Uint128 { hi: 1, lo };
    let header = ItemHeader {
        opcode: 207,
        flags: 1,
        epoch: 0,
        uuid: id(1),
        sender: 1,
        session: 1,
        xid_min: 1,
        xid: 1,
        cookie: id(2),
    };
    let ids = LinkIds { local: id(3), remote: id(4), connection: id(5) };
    let message = Some(Box::new(statement(notes)));
    let fop = LinkMsg { nr: 1, message, tag: 1, ids, out_next: 3, in_delivered: 2, seq: 1 };
    let end = |port: u16| End { addr: ([127, 0, 0, 1], port).into(), cookie: (0, 1) };
    let (mut src, dst) = (end(1), end(2));
    src.cookie = (1, 1);
    (src, End { cookie: (0, 0), ..dst }, Item { header, fop: Fop::LinkMsg(Box::new(fop)) })
}
