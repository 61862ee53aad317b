//! Tests of routes as keys of a real Consul, and of a pair of routers with a group there.

use std::time::Duration;

use hax_sim::real::{Options, RealConsul, available};
use rustix::process::Signal;

use crate::hax::HAX;
use crate::router::{Router, said};

const KEY: &str = "/v1/kv/routes/edge/192.0.2.0/24";

fn consul() -> Option<RealConsul> {
    available().then(|| RealConsul::start(Options::new("router")).unwrap())
}

/// Returns the next hop of the route, as a client reads it from Consul.
fn leads(consul: &RealConsul) -> String {
    let reply = consul.request("GET", &format!("{KEY}?raw"), b"").unwrap();
    let record: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    record["nextHop"].as_str().unwrap_or_default().to_owned()
}

fn until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let clock = hax_driver::host::clock::Clock::new();
    let began = clock.now().mono;
    while !is_so() {
        assert!(clock.now().mono.since(began) < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
    clock.now().mono.since(began)
}

#[test]
fn r12_r13_r14_r15_events_move_routes_in_consul() {
    let Some(consul) = consul() else { return };
    let router = Router::serving_with("consul", &format!("--consul http://{}", consul.address()));
    router.ok("create_node -i 1 -p consul -t edge -r 192.0.2.0/24 -n 10.0.0.2");
    let (code, text) = router.run("node_event -i 1 -e verify");
    assert!(code == 7 && text.contains("no route routes/edge/192.0.2.0/24"), "{text}");
    let before = br#"{"v":1, "nextHop":"10.0.0.1"}"#;
    consul.request("PUT", KEY, before).unwrap();
    assert!(router.ok("node_event -i 1 -e verify").contains("can be updated"));
    let reply = consul.request("GET", &format!("{KEY}?raw"), b"").unwrap();
    assert_eq!(reply.body, before, "it is written back to the byte");
    router.ok("node_event -i 1 -e revert");
    assert_eq!(leads(&consul), "10.0.0.1", "a secondary's revert does nothing");
    let moved = router.ok("node_event -i 1 -e peerFail");
    assert!(moved.contains("led to 10.0.0.1 and leads to 10.0.0.2"), "{moved}");
    assert_eq!(leads(&consul), "10.0.0.2");
    assert!(router.ok("node_event -i 1 -e peerFail").contains("already"));
    router.ok("set_params -i 1 -m primary -n 10.0.0.1");
    router.ok("node_event -i 1 -e revert");
    assert_eq!(leads(&consul), "10.0.0.1");
    consul.request("PUT", KEY, b"something else").unwrap();
    let (code, text) = router.run("node_event -i 1 -e peerFail");
    assert!(code == 7 && text.contains("something else than a route"), "{text}");
}

#[test]
fn r15_a_verify_fails_where_consul_s_rules_deny_the_write() {
    if !available() {
        return;
    }
    let options = Options { master_token: Some("root".into()), ..Options::new("router") };
    let consul = RealConsul::start(options).unwrap();
    let put = |target: &str, body: &str| {
        let reply = consul.request("PUT", target, body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()
    };
    put(KEY, r#"{"v":1,"nextHop":"10.0.0.1"}"#);
    let rules = r#"{"Name":"reader","Rules":"key_prefix \"routes\" { policy = \"read\" }"}"#;
    put("/v1/acl/policy", rules);
    let token = put("/v1/acl/token", r#"{"Policies":[{"Name":"reader"}]}"#);
    let mut router = Router::new("denied-by-consul");
    let serve = format!("route serve --consul http://{}", consul.address());
    let mut command = router.command(HAX, &serve);
    command.env("CONSUL_HTTP_TOKEN", token["SecretID"].as_str().unwrap());
    router.serve_by(command);
    router.ok("create_node -i 1 -p consul -t edge -r 192.0.2.0/24 -n 10.0.0.2");
    for event in ["verify", "peerFail"] {
        let (code, text) = router.run(&format!("node_event -i 1 -e {event}"));
        assert!(code == 7 && text.contains("writing the route"), "{code} {text}");
    }
    assert_eq!(leads(&consul), "10.0.0.1");
}

/// Creates two routers of one Consul, each with a node of one group. The first one is the primary and the
/// holder.
fn pair(consul: &RealConsul, name: &str) -> [Router; 2] {
    let router = |nth: u8, mode: &str| {
        let at = consul.address();
        let args = format!("--consul http://{at} --name router-{nth} --hold 1s --revert-after 2s");
        let router = Router::serving_with(&format!("{name}-{nth}"), &args);
        let node = "-i 1 -p consul -t edge -r 192.0.2.0/24 -group edge";
        router.ok(&format!("create_node {node} -n 10.0.0.{nth} -m {mode}"));
        router
    };
    let first = router(1, "primary");
    until("the first one acts", || leads(consul) == "10.0.0.1");
    [first, router(2, "secondary")]
}

#[test]
fn r01_of_two_routers_with_a_group_one_acts_and_the_other_follows_it() {
    let Some(consul) = consul() else { return };
    let [mut first, second] = pair(&consul, "pair");
    // The name of the holder is known after it was read from Consul.
    let names = || said(&mut second.command(HAX, "route status --json")).1;
    let is_named = || names().contains("\"name\":\"router-1\"");
    until("it is named", is_named);
    let (code, text) = second.run("node_event -i 1 -e peerFail");
    assert!(code == 7 && text.contains("router-1 holds ha/route/edge in term 1"), "{text}");
    assert_eq!(leads(&consul), "10.0.0.1");
    let shown = said(&mut second.command(HAX, "route status")).1;
    assert!(shown.contains("group edge: router-1 acts, in term 1"), "{shown}");
    first.end(Signal::KILL);
    let followed = until("the second one acts", || leads(&consul) == "10.0.0.2");
    println!("followed after {followed:?}");
    // The check's TTL, the lock's delay, and a margin for the retries on a busy machine.
    assert!(followed < Duration::from_secs(10), "{followed:?}");
    // The primary comes back, is healthy for the required time, and requests the lease.
    let args =
        format!("--consul http://{} --name router-1 --hold 1s --revert-after 2s", consul.address());
    let command = first.command(HAX, &format!("route serve {args}"));
    first.serve_by(command);
    until("the first one acts again", || leads(&consul) == "10.0.0.1");
    second.logs("handed over to router-1");
    // The first router ends in order, so no candidate for the lease has to wait.
    until("it is named again", is_named);
    first.end(Signal::TERM);
    let took = until("the second one acts again", || leads(&consul) == "10.0.0.2");
    println!("handed over after {took:?}");
    assert!(took < followed, "{took:?} after a release, {followed:?} after a kill");
}

#[test]
fn a_handler_of_an_older_term_is_refused_by_consul() {
    let Some(consul) = consul() else { return };
    let [_first, _second] = pair(&consul, "fence");
    let job = |session: &str, term: u64| {
        let job = serde_json::json!({
            "event": "peerFail", "response": "update", "provider": "consul", "mode": "secondary",
            "parameters": { "table": "edge", "route": "192.0.2.0/24", "nextHop": "10.0.0.9" },
            "fence": { "key": "ha/route/edge", "session": session, "term": term },
        });
        let script = format!("printf '%s' '{job}' | {HAX} event-handler");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env_clear();
        said(command.env("HAX_CONSUL", format!("http://{}", consul.address())))
    };
    let other = "11111111-2222-3333-4444-555555555555";
    let (code, text) = job(other, 9);
    assert!(code == 1 && text.contains("lease was lost"), "{text}");
    let (code, text) = job(other, 0);
    assert!(code == 1 && text.contains("written in term 1"), "{text}");
    assert_eq!(leads(&consul), "10.0.0.1");
}
