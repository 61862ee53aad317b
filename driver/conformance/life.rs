//! Start, signals, stop, exit codes, and their log lines.

use std::collections::BTreeSet;
use std::net::TcpListener;

use crate::daemon::{Hax, Place, until};
use crate::fixture::{Fixture, request, statuses, stop};
use crate::script::Act;

fn said(hax: &Hax, part: &str) -> bool {
    hax.log().iter().any(|line| line.to_string().contains(part))
}

#[test]
fn a_stop_is_clean_and_says_so() {
    let mut fixture = Fixture::new();
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    assert_eq!(stop(&mut fixture.hax), 0);
    let facts = |fact: &str| fixture.hax.facts(fact).len();
    assert_eq!((facts("Stopping"), facts("Stopped")), (1, 1), "{:#?}", fixture.hax.log());
}

#[test]
fn the_log_has_these_facts() {
    let mut fixture = Fixture::new();
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    ham.say("process started");
    ham.delivered();
    drop(ham);
    until("the link is down", || !fixture.hax.facts("LinkDown").is_empty());
    stop(&mut fixture.hax);
    let log = fixture.hax.log();
    let facts: BTreeSet<_> = log.iter().filter_map(|line| line["fact"].as_str()).collect();
    for fact in [
        "ConsulBack",
        "ReplicaLoaded",
        "Ready",
        "EntrypointAsked",
        "EntrypointAnswered",
        "LinkUp",
        "ProcessEvent",
        "ProcessCommitted",
        "LinkDown",
        "Stopping",
        "Stopped",
    ] {
        assert!(facts.contains(fact), "{fact}: {facts:?}");
    }
    let first = log.iter().find(|line| line["message"] == "hax starts").unwrap();
    let keys: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["consul", "level", "message", "timestamp", "version"]);
    let listens = log.iter().find(|line| line["message"] == "hax listens").unwrap();
    let keys: Vec<_> = listens.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["fid", "http", "level", "message", "motr", "node", "timestamp"]);
}

#[test]
fn a_stop_answers_whom_it_can_and_closes_the_rest() {
    let mut fixture = Fixture::new();
    let mut idle = fixture.client();
    idle.say(request("GET /healthz", "", b""));
    idle.hears("true}");
    let mut fresh = fixture.client();
    assert_eq!(stop(&mut fixture.hax), 0);
    assert!(idle.is_closed() && fresh.is_closed());
}

#[test]
fn a_second_signal_of_another_breath_is_an_end_at_once() {
    let mut fixture = Fixture::with(&["--drain", "2m"]);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    fixture.script.set(|_| Act::Hang);
    ham.say("process started");
    until("the event is taken", || !fixture.hax.facts("ProcessEvent").is_empty());
    fixture.hax.signal("TERM");
    until("it begins to stop", || !fixture.hax.facts("Stopping").is_empty());
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    fixture.hax.signal("INT");
    assert_eq!(fixture.hax.code(), 130);
}

#[test]
fn a_stop_gives_up_in_time_what_consul_does_not_take() {
    let mut fixture = Fixture::with(&["--drain", "500ms"]);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    fixture.script.set(|_| Act::Hang);
    ham.say("process started");
    until("the event is taken", || !fixture.hax.facts("ProcessEvent").is_empty());
    assert_eq!(stop(&mut fixture.hax), 1);
}

#[test]
fn an_unexpected_message_is_exit_code_4() {
    let mut fixture = Fixture::new();
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    ham.say("keepalive");
    assert_eq!(fixture.hax.code(), 4);
}

#[test]
fn an_address_that_is_taken_is_exit_code_3() {
    let fixture = Fixture::new();
    let (place, consul) = (Place::new(), fixture.script.address);
    let motr = TcpListener::bind(place.motr()).unwrap();
    let mut hax = Hax::start(&place.flags(consul));
    assert_eq!(hax.code(), 3);
    assert!(said(&hax, "cannot listen at") && said(&hax, "for Motr"), "{:#?}", hax.log());
    drop(motr);
    let _http = TcpListener::bind(place.http()).unwrap();
    let mut hax = Hax::start(&place.flags(consul));
    assert_eq!(hax.code(), 3);
    assert!(said(&hax, "for HTTP"), "{:#?}", hax.log());
}

#[test]
fn files_are_read_again_on_a_signal() {
    let fixture = Fixture::new();
    fixture.hax.signal("HUP");
    until("it says so", || said(&fixture.hax, "certificates, keys and tokens are read again"));
    fixture.is_well();
}

#[test]
fn before_consul_answers_it_can_be_stopped() {
    let place = Place::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Without --http hax has to ask Consul for its identity.
    let flags = ["--consul".to_owned(), format!("http://{nobody}"), "--no-elect".to_owned()];
    let mut hax = Hax::start(&flags);
    until("it waits", || !hax.facts("ConsulFailed").is_empty());
    assert_eq!(stop(&mut hax), 0);
    drop(place);
}

#[test]
fn what_comes_while_it_stops_is_refused() {
    let mut fixture = Fixture::with(&["--drain", "1s"]);
    let mut ham = fixture.place.ham(1);
    ham.entrypoint();
    let mut client = fixture.client();
    client.say(request("GET /healthz", "", b""));
    client.hears("true}");
    fixture.script.set(|_| Act::Hang);
    ham.say("process started");
    until("the event is taken", || !fixture.hax.facts("ProcessEvent").is_empty());
    fixture.hax.signal("TERM");
    until("it begins to stop", || !fixture.hax.facts("Stopping").is_empty());
    client.say(request("POST /", "Content-Length: 2\r\n", b"[]"));
    client.end();
    let answer = client.rest();
    assert_eq!(statuses(&answer), [503], "{answer}");
    assert_eq!(fixture.hax.code(), 1);
}
