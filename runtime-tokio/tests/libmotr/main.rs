//! The program with Motr's library: a real Consul, and a fake of the library as a loaded file.
#![cfg(feature = "libmotr")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../daemon/mod.rs"]
mod daemon;
mod fixture;
#[path = "../common/hax.rs"]
mod hax;
#[path = "../common/program.rs"]
mod program;
mod refused;

use fixture::{Fixture, key};
use hax_core::base::fid::Fid;
use motr_fake::Said;

const CONFD: Fid = Fid::process(1);
const IOS: Fid = Fid::process(2);

/// Values of `M0_CONF_HA_PROCESS_*` and `M0_NC_*`.
const STARTED: Said = Said::Process { event: 1 };
const RECOVERED: Said = Said::Process { event: 4 };
const ONLINE: u32 = 1;
const FAILED: u32 = 2;
const TRANSIENT: u32 = 3;
const DTM_RECOVERING: u32 = 7;

#[test]
fn processes_live_and_live_again() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, mut motr) = fixture.start(&[]);
    motr.prompt(true);
    let confd = motr.linked(CONFD, 100);
    let ios = motr.linked(IOS, 200);
    // An acknowledged event is in Consul.
    let tag = motr.script.say(ios, &STARTED);
    motr.script.acknowledged(ios, tag);
    assert_eq!(fixture.state(IOS), "STARTED");
    motr.is_told(confd, IOS, DTM_RECOVERING);
    let tag = motr.script.say(ios, &RECOVERED);
    motr.script.acknowledged(ios, tag);
    assert_eq!(fixture.state(IOS), "DTM_RECOVERED");
    motr.is_told(confd, IOS, ONLINE);
    // A request is held until its response is delivered.
    motr.prompt(false);
    let objects = vec![key(IOS), key(Fid::process(0x999))];
    let asked = motr.script.say(confd, &Said::Get { id: 7, objects: objects.clone() });
    let answer = motr.answer(confd, 7);
    assert_eq!(answer, [(objects[0], ONLINE), (objects[1], TRANSIENT)]);
    assert!(motr.script.is_held(confd, asked));
    motr.script.settle(confd, true);
    motr.script.acknowledged(confd, asked);
    // The process ends silently and starts again: its old link goes, and the others get the change.
    motr.prompt(true);
    let again = motr.linked(IOS, 201);
    motr.script.disconnected(ios);
    motr.is_told(confd, IOS, FAILED);
    let tag = motr.script.say(again, &STARTED);
    motr.script.acknowledged(again, tag);
    motr.is_told(confd, IOS, DTM_RECOVERING);
    hax.signal("TERM");
    assert_eq!(hax.code(), 0, "{:#?}", hax.log());
}

/// The fake refuses the call, as it has no cluster.
#[test]
fn the_library_is_asked_to_read_the_configuration() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, _motr) = fixture.start(&[]);
    hax.says(&["cannot read the configuration", "ENOSYS"]);
    let pool = br#"{"fid": "0x6f00000000000001:0x0"}"#;
    let reply = fixture.place.ask("POST", "/api/v1/sns/repair-start", pool);
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    let why = "has not read the configuration yet";
    assert!(reply.status == 503 && body.contains(why), "{body}");
    hax.signal("TERM");
    assert_eq!(hax.code(), 0, "{:#?}", hax.log());
}

#[test]
fn what_a_killed_hax_had_not_written_is_said_again() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, mut motr) = fixture.start(&[]);
    let ios = motr.linked(IOS, 200);
    fixture.consul.pause().unwrap();
    let tag = motr.script.say(ios, &STARTED);
    fixture.is_working();
    assert!(motr.script.is_held(ios, tag));
    hax.child.kill().unwrap();
    hax.child.wait().unwrap();
    fixture.consul.resume().unwrap();
    let (mut hax, mut motr) = fixture.start(&[]);
    // The request is the first one to this life of hax, but not the process's first one.
    let ios = motr.linked_again(IOS, 200);
    let tag = motr.script.say(ios, &STARTED);
    motr.script.acknowledged(ios, tag);
    assert_eq!(fixture.state(IOS), "STARTED");
    hax.signal("TERM");
    assert_eq!(hax.code(), 0, "{:#?}", hax.log());
}

#[test]
fn a_stop_does_not_wait_for_the_dead() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, mut motr) = fixture.start(&[]);
    let confd = motr.linked(CONFD, 100);
    let ios = motr.linked(IOS, 200);
    let tag = motr.script.say(ios, &STARTED);
    motr.script.acknowledged(ios, tag);
    // No process receives the message.
    motr.is_told(confd, IOS, DTM_RECOVERING);
    hax.signal("TERM");
    assert_eq!(hax.code(), 0, "{:#?}", hax.log());
}

#[test]
fn a_stop_without_consul_leaves_what_is_not_written() {
    let Some(fixture) = Fixture::new() else { return };
    let (mut hax, mut motr) = fixture.start(&["--drain", "1s"]);
    let ios = motr.linked(IOS, 200);
    fixture.consul.pause().unwrap();
    motr.script.say(ios, &STARTED);
    fixture.is_working();
    hax.signal("TERM");
    assert_eq!(hax.code(), 1, "{:#?}", hax.log());
    hax.says(&["1 messages are not in Consul; their processes will send them again"]);
    fixture.consul.resume().unwrap();
}
