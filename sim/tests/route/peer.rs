//! Tests of `--watch-peer`: Consul's checks of the other router, and the return of this router.

use std::time::Duration;

use hax_core::route::fact::FactKind;

use crate::pair::{HOPS, Pair};

/// Creates a pair. Its second router watches the first one's service.
fn watching() -> Pair {
    let mut pair = Pair::with(|config| {
        let consul = config.consul.as_mut().unwrap();
        if &*consul.name == "router-b" {
            consul.peer = Some("edge-a".into());
        }
    });
    pair.create(0, "-m primary");
    pair.create(1, "");
    pair
}

fn register(pair: &mut Pair) {
    let body = r#"{"ID":"edge-a","Name":"edge-a","Check":{"CheckID":"edge-a","TTL":"600s","Status":"passing"}}"#;
    pair.tell_consul("PUT", "/v1/agent/service/register", body);
    pair.run(100);
}

fn tell(pair: &mut Pair, how: &str) {
    pair.tell_consul("PUT", &format!("/v1/agent/check/{how}/edge-a"), "");
}

#[test]
fn r13_a_service_whose_check_fails_is_a_peer_fail() {
    let mut pair = watching();
    register(&mut pair);
    pair.run(10_000);
    assert_eq!((pair.leads(), pair.saw(1, FactKind::PeerFailed)), (None, 0));
    tell(&mut pair, "warn");
    pair.run(1_000);
    assert_eq!(pair.leads(), None);
    tell(&mut pair, "fail");
    let took = pair.until(1_000, |pair| pair.leads() == Some(HOPS[1]));
    assert!(took <= Duration::from_millis(50), "{took:?}");
    pair.run(60_000);
    assert_eq!(pair.saw(1, FactKind::PeerFailed), 1, "once");
    tell(&mut pair, "pass");
    pair.run(1_000);
    tell(&mut pair, "fail");
    pair.run(1_000);
    assert_eq!(pair.saw(1, FactKind::PeerFailed), 2);
}

#[test]
fn a_service_that_is_not_in_the_catalog_says_nothing() {
    let mut pair = watching();
    pair.run(1_000);
    register(&mut pair);
    pair.run(1_000);
    pair.tell_consul("PUT", "/v1/agent/service/deregister/edge-a", "");
    pair.run(60_000);
    assert_eq!((pair.leads(), pair.saw(1, FactKind::PeerFailed)), (None, 0));
    assert_eq!(pair.saw(1, FactKind::PeerUnknown), 2);
}

#[test]
fn r14_a_primary_that_has_returned_and_is_well_reverts() {
    let mut pair = Pair::with(|config| config.consul.as_mut().unwrap().peer = Some("x".into()));
    pair.create(0, "-m primary");
    pair.create(1, "");
    pair.ask_and_wait(1, "node_event -i 7 -e peerFail", 100);
    pair.run(58_000);
    assert_eq!(pair.leads(), Some(HOPS[1]));
    pair.run(3_000);
    assert_eq!(pair.leads(), Some(HOPS[0]));
    assert_eq!(pair.saw(1, FactKind::Returned), 1, "a secondary has nothing to take back");
    assert_eq!(pair.writes.len(), 2);
}
