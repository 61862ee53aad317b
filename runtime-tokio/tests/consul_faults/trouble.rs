//! Faults of Consul: a process that requests an entrypoint gets EAGAIN, in order and in time, and events
//! wait.

use serde_json::Value;

use crate::daemon::front::{Front, Mode, response};
use crate::daemon::{Ham, Hax, fid, until};
use crate::fixture::Fixture;

/// The processes that request an entrypoint during the fault.
const ASKERS: [u64; 4] = [1, 3, 4, 6];

/// The processes that report events during the fault.
const TELLERS: [u64; 2] = [2, 7];

const EVENTS: [&str; 3] = ["STARTING", "STARTED", "STOPPING"];

/// Checks that a request gets EAGAIN after at least one second and at most three.
///
/// A process repeats its request at once, so an earlier reply would cause a storm. The process itself
/// measures the time from its request to the reply. The slowest case takes 1.5 s, so a busy machine has as
/// much again.
fn is_told_to_ask_again(ham: &Ham) {
    let said = ham.answer();
    assert_eq!((&said["control"], &said["quorum"]), (&"query".into(), &0.into()), "{said}");
    let us = said["us"].as_u64().unwrap();
    assert!((1_000_000..=3_000_000).contains(&us), "{said}");
}

/// Returns the numbers of the entrypoint requests in the log lines of this kind, in order.
fn entries(hax: &Hax, fact: &str) -> Vec<u64> {
    let number = |line: String| line.split([':', '-']).nth(1).unwrap().parse().unwrap();
    hax.facts(fact).into_iter().map(number).collect()
}

fn all_are_told_to_ask_again(hax: &Hax, askers: &mut [Ham]) {
    let again = entries(hax, "EntrypointAgain").len();
    askers.iter_mut().for_each(|ham| ham.say("entrypoint"));
    for _ in 0..2 {
        askers.iter().for_each(is_told_to_ask_again);
    }
    until("two answers for each are logged", || {
        entries(hax, "EntrypointAgain").len() >= again + 2 * askers.len()
    });
    let answered = entries(hax, "EntrypointAgain");
    assert!(answered.is_sorted(), "in the order of the requests: {answered:?}");
    assert!(entries(hax, "EntrypointAsked").is_sorted());
}

fn all_are_served(askers: &[Ham]) {
    for ham in askers {
        let said = ham.has_entrypoint();
        assert_eq!(said["quorum"], 2);
        assert_eq!(said["confds"].as_array().map(Vec::len), Some(3));
    }
}

/// Checks that each acknowledgement comes after Consul holds its event.
fn all_is_caught_up(fixture: &Fixture, tellers: &[Ham]) {
    for (key, ham) in TELLERS.iter().zip(tellers) {
        for n in 0..EVENTS.len() {
            assert_eq!(ham.delivered(), n as u64, "in order");
            let state = fixture.state(*key);
            assert!(EVENTS[n..].contains(&&*state), "{state} when event {n} is acknowledged");
        }
        assert_eq!(fixture.state(*key), EVENTS[2]);
    }
}

fn nothing_is_acknowledged(tellers: &[Ham]) {
    for ham in tellers {
        let heard = ham.unheard();
        assert!(heard.iter().all(|said| said["event"] != "delivered"), "{heard:?}");
    }
}

/// Runs one fault from its beginning to its end.
fn withstands(
    fixture: &mut Fixture,
    hax: &Hax,
    begin: impl FnOnce(&mut Fixture),
    end: impl FnOnce(&mut Fixture),
) {
    let mut tellers = TELLERS.map(|key| fixture.linked(key));
    let mut askers = ASKERS.map(|key| fixture.place.ham(key));
    let before = hax.facts("ProcessEvent").len();
    begin(fixture);
    for event in EVENTS {
        tellers.iter_mut().for_each(|ham| ham.say(&format!("process {}", event.to_lowercase())));
    }
    all_are_told_to_ask_again(hax, &mut askers);
    for key in TELLERS {
        // All events have been received, so that is not the reason for the missing acknowledgements.
        hax.says(before, "ProcessEvent", &format!("{}: {}", fid(key), EVENTS[2]));
    }
    nothing_is_acknowledged(&tellers);
    end(fixture);
    all_are_served(&askers);
    all_is_caught_up(fixture, &tellers);
}

#[test]
fn consul_dies_and_comes_back_with_its_data() {
    let Some(mut fixture) = Fixture::durable() else { return };
    let hax = fixture.start();
    withstands(&mut fixture, &hax, |fixture| fixture.consul.kill(), Fixture::restart_consul);
}

#[test]
fn consul_hangs() {
    let Some(mut fixture) = Fixture::watching() else { return };
    let hax = fixture.start();
    withstands(
        &mut fixture,
        &hax,
        |fixture| fixture.consul.pause().unwrap(),
        |fixture| {
            fixture.consul.resume().unwrap();
        },
    );
}

#[test]
fn consul_answers_500() {
    let Some(mut fixture) = Fixture::watching() else { return };
    let front = Front::new(fixture.consul.http_addr);
    let hax = Hax::start(&fixture.place.flags(front.address));
    fixture.place.ready();
    let error = response(500, &[], b"No cluster leader");
    withstands(&mut fixture, &hax, |_| front.set(Mode::Say(error)), |_| front.set(Mode::Pass));
    hax.says(0, "ConsulFailed", "status 500: No cluster leader");
}

#[test]
fn consul_is_absent_at_the_start() {
    let Some(mut fixture) = Fixture::durable() else { return };
    let consul = fixture.consul.http_addr;
    fixture.consul.kill();
    // One hax is configured with its identity and serves at once. The other one must look it up and waits.
    let all = [fixture.place.flags(consul), vec!["--fid".into(), fid(0)]].concat();
    let knowing = Hax::start(&all);
    let flags = ["--consul", &format!("http://{consul}"), "--no-elect"];
    let wondering = Hax::start(&flags.map(str::to_owned));
    wondering.says(0, "ConsulFailed", "looking up who we are; waiting: no connection");
    let mut askers = ASKERS.map(|key| fixture.place.ham(key));
    all_are_told_to_ask_again(&knowing, &mut askers);
    let ready = fixture.place.ask("GET", "/readyz", b"");
    assert_eq!((ready.status, ready.text().contains(r#""consul": false"#)), (503, true));
    assert!(!wondering.log().iter().any(is_listening));
    fixture.restart_consul();
    all_are_served(&askers);
    fixture.place.ready();
    // The catalog has an address that this machine may or may not have.
    until("it has found out who it is", || {
        wondering.log().iter().any(|line| {
            is_listening(line) || line.as_str().is_some_and(|line| line.contains("cannot listen"))
        })
    });
}

fn is_listening(line: &Value) -> bool {
    line["message"] == "hax listens"
}

#[test]
fn nobody_leads_or_the_leader_has_no_confd() {
    let Some(fixture) = Fixture::watching() else { return };
    let hax = fixture.start();
    let mut askers = ASKERS.map(|key| fixture.place.ham(key));
    let confd = fixture.done("GET", "/v1/agent/service/1", "");
    let confd: Value = serde_json::from_str(&confd).unwrap();
    fixture.done("PUT", "/v1/agent/service/deregister/1", "");
    // The leader's session is bound to the check of its confd.
    fixture.lead();
    all_are_told_to_ask_again(&hax, &mut askers);
    hax.says(0, "RoundFailed", "no confd on the leader's node");
    let confd = serde_json::json!({
        "ID": "1", "Name": "confd", "Address": confd["Address"], "Port": confd["Port"],
    });
    fixture.done("PUT", "/v1/agent/service/register", &confd.to_string());
    all_are_served(&askers);

    let leader: Value = serde_json::from_str(&fixture.done("GET", "/v1/kv/leader", "")).unwrap();
    let session = leader[0]["Session"].as_str().unwrap();
    fixture.done("PUT", &format!("/v1/session/destroy/{session}"), "");
    all_are_told_to_ask_again(&hax, &mut askers);
    hax.says(0, "RoundFailed", "there is no leader");
    fixture.lead();
    all_are_served(&askers);
}
