//! Several servers: agents cut off from them, elections, restored snapshots, lagging followers.

#![expect(
    clippy::disallowed_methods,
    reason = "the real Consul lives in real time, so the test does too"
)]

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hax_sim::consul::{ELECTION, Output};
use hax_sim::real::RealConsul;
use hax_sim::real::client::{self, Reply};

use super::members::{CLIENT, cluster, quiet_cluster, register};
use super::pair::{Ask, Pair};
use super::session;

const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A request that both sides have received and not answered yet.
struct Under {
    name: String,
    id: u64,
    real: JoinHandle<(Duration, Reply)>,
}

/// Sends a request to both sides. The double must not answer at once.
fn begin(pair: &mut Pair, ask: &Ask<'_>) -> Under {
    let Ask(method, target, body) = *ask;
    let targets = [0, 1].map(|side| pair.fill(side, &format!("/v1/{target}")));
    let bodies = [0, 1].map(|side| pair.fill(side, body));
    let (id, reply) = pair.ask_double(method, &targets[1], &bodies[1], &mut Vec::new());
    assert_eq!(reply, None, "{method} {target} has to wait");
    let (addr, target, body) = (pair.real().http_addr, targets[0].clone(), bodies[0].clone());
    let name = format!("{method} {target}");
    let method = method.to_owned();
    let real = thread::spawn(move || {
        let begin = Instant::now();
        let reply = client::request(addr, LIMIT, &method, &target, body.as_bytes());
        (begin.elapsed(), reply.expect("Consul answers"))
    });
    Under { name, id, real }
}

/// Lets time pass in the double. Returns its responses in that time.
fn elapse(pair: &mut Pair, d: Duration, mut out: Vec<Output>) -> BTreeMap<u64, Reply> {
    let mut replies = BTreeMap::new();
    out.extend(pair.pass(d));
    while !out.is_empty() {
        for output in std::mem::take(&mut out) {
            match output {
                Output::Retry(request) => {
                    let now = pair.now();
                    let _ = pair.double.handle(now, request, &mut out);
                }
                Output::Response(response) => {
                    let headers = response.headers.iter();
                    let headers = headers.map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
                    let body = response.body.to_vec();
                    replies.insert(response.id, Reply { status: response.status, headers, body });
                }
                Output::Post(_) => {}
            }
        }
    }
    replies
}

/// Checks that both sides have answered in the same way, and that the real one took a time in this range, in
/// ms.
fn end(
    pair: &mut Pair,
    under: Vec<Under>,
    replies: &BTreeMap<u64, Reply>,
    took: std::ops::Range<u64>,
) {
    for Under { name, id, real } in under {
        let (after, theirs) = real.join().expect("the asker ends");
        let ours = replies.get(&id).unwrap_or_else(|| panic!("{name} is not answered"));
        if let Err(difference) = pair.compare(&theirs, ours) {
            pair.fail(&format!("{name}: {difference}"), &theirs, ours);
        }
        let range = Duration::from_millis(took.start)..Duration::from_millis(took.end);
        assert!(range.contains(&after), "{name} took {after:?}");
    }
}

fn await_that(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(LOOK);
    }
}

fn text(real: &RealConsul, target: &str) -> String {
    real.request("GET", target, b"").map_or_else(|_| String::new(), |reply| reply.text())
}

/// Requests that need the servers, one of each kind.
const NEEDS_SERVERS: &[(&str, &str, &str)] = &[
    ("GET", "kv/a", ""),
    ("GET", "kv/a?consistent", ""),
    ("GET", "kv/a?index=1&wait=60s", ""),
    ("GET", "health/node/c1", ""),
    ("GET", "health/state/any?consistent", ""),
    ("GET", "catalog/nodes", ""),
    ("GET", "session/list", ""),
    ("PUT", "kv/b", "1"),
    ("DELETE", "kv/none", ""),
    ("PUT", "txn", r#"[{"KV":{"Verb":"get","Key":"a"}}]"#),
    ("PUT", "session/create", "{}"),
    ("PUT", "catalog/register", r#"{"Node":"q","Address":"1.1.1.1"}"#),
];

/// Requests that an agent handles without the servers.
const ALONE: &[(&str, &str, &str)] = &[
    ("PUT", "agent/check/pass/k", ""),
    ("PUT", "agent/check/fail/k", ""),
    ("GET", "agent/checks", ""),
    ("GET", "agent/services", ""),
    ("PUT", "agent/service/register", r#"{"ID":"2","Name":"A"}"#),
    ("GET", "agent/service/none", ""),
];

#[test]
fn a_client_without_servers_refuses_what_it_cannot_do_alone() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = quiet_cluster();
    register(&mut pair);
    pair.ask(&Ask("PUT", "kv/a", "1"));
    for server in &pair.reals[..CLIENT] {
        server.pause().expect("it stops");
    }
    let failed =
        |pair: &Pair| text(pair.real(), "/v1/agent/members").matches("\"Status\":4").count();
    await_that("the client misses its servers", || failed(&pair) == CLIENT);
    let (now, mut out) = (pair.now(), Vec::new());
    let _ = pair.double.disconnect(now, CLIENT, &mut out);
    pair.pass(Duration::from_secs(5));
    for (method, target, body) in NEEDS_SERVERS.iter().chain(ALONE) {
        pair.ask(&Ask(method, target, body));
    }
    for target in [
        "kv/a?stale",
        "health/node/c1?stale",
        "status/leader",
        "status/peers",
        "catalog/datacenters",
    ] {
        pair.ask(&Ask("GET", target, ""));
    }
    for server in &pair.reals[..CLIENT] {
        server.resume().expect("it goes on");
    }
    let now = pair.now();
    let _ = pair.double.reconnect(now, CLIENT, &mut out);
    let real = pair.real();
    await_that("the client finds its servers", || text(real, "/v1/kv/a?raw") == "1");
    // The service was registered meanwhile, and its check failed meanwhile.
    for read in ["health/checks/A", "catalog/service/A", "kv/?keys"] {
        pair.settled(read);
    }
}

#[test]
fn a_server_without_its_peers_shows_its_copy_and_looks_for_a_leader_for_seven_seconds() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = cluster();
    register(&mut pair);
    pair.at = 0;
    pair.ask(&Ask("PUT", "kv/a", "1"));
    // A new follower shows the write a moment later.
    pair.settled("kv/a?stale");
    for server in &pair.reals[1..CLIENT] {
        server.pause().expect("it stops");
    }
    let real = pair.real();
    await_that("it misses its leader", || text(real, "/v1/status/leader") == "\"\"");
    let (now, mut out) = (pair.now(), Vec::new());
    let _ = pair.double.disconnect(now, 0, &mut out);
    pair.pass(Duration::from_secs(6));
    let needs: Vec<_> =
        NEEDS_SERVERS.iter().map(|(m, t, b)| begin(&mut pair, &Ask(m, t, b))).collect();
    for target in [
        "kv/a?stale",
        "kv/a?stale&raw",
        "kv/none?stale",
        "health/node/c1?stale",
        "status/leader",
        "catalog/datacenters",
    ] {
        pair.ask(&Ask("GET", target, ""));
    }
    let replies = elapse(&mut pair, Duration::from_secs(7), Vec::new());
    end(&mut pair, needs, &replies, 6_900..11_000);
    let index = |pair: &mut Pair| pair.ask(&Ask("GET", "kv/a?stale", "")).index();
    let waiting =
        index(&mut pair).map(|_| begin(&mut pair, &Ask("GET", "kv/a?stale&index=99&wait=1s", "")));
    let replies = elapse(&mut pair, Duration::from_secs(1), Vec::new());
    end(&mut pair, waiting.into_iter().collect(), &replies, 1_000..4_000);
    for server in &pair.reals[1..CLIENT] {
        server.resume().expect("it goes on");
    }
    let now = pair.now();
    let _ = pair.double.reconnect(now, 0, &mut out);
    pair.pass(ELECTION);
    let real = pair.real();
    await_that("it finds its peers", || text(real, "/v1/kv/a?raw") == "1");
    pair.settled("kv/?keys");
}

#[test]
fn an_election_lets_everybody_wait_and_gives_sessions_their_whole_time() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = cluster();
    pair.at = CLIENT;
    pair.ask(&Ask("PUT", "kv/a", "1"));
    let s = session(&mut pair, r#"{"TTL":"10s","LockDelay":"0s","Checks":[]}"#);
    pair.ask(&Ask("PUT", &format!("kv/lock?acquire={s}"), "x"));
    pair.ask(&Ask("GET", "kv/lock", ""));
    let made = Instant::now();
    let leads = pair.reals[..CLIENT].iter().position(RealConsul::leads_servers).expect("a leader");
    // The other two servers: one receives the requests, and both form a majority.
    pair.at = (leads + 1) % CLIENT;
    let real = pair.reals[pair.at].http_addr;
    pair.reals[leads].kill();
    let ask = |target: &str| client::request(real, LIMIT, "GET", target, b"");
    await_that("it misses its leader", || {
        ask("/v1/status/leader").is_ok_and(|reply| reply.text() == "\"\"")
    });
    let age = made.elapsed();
    let (now, mut out) = (pair.now().mono.after(age), Vec::new());
    let now = hax_core::base::time::Now { mono: now, ..pair.now() };
    let _ = pair.double.elect(now, ELECTION, &mut out);
    pair.pass(age);
    let asks = [("GET", "kv/a", ""), ("GET", "kv/a?consistent", ""), ("PUT", "kv/b", "1")];
    let under: Vec<_> = asks.iter().map(|(m, t, b)| begin(&mut pair, &Ask(m, t, b))).collect();
    pair.ask(&Ask("GET", "kv/a?stale", ""));
    let replies = elapse(&mut pair, ELECTION, out);
    end(&mut pair, under, &replies, 0..10_000);
    pair.settled("kv/?keys");
    let elected = Instant::now();
    // Half of the session's TTL had passed, and then it starts again.
    await_that("the session ends", || ask("/v1/session/list").is_ok_and(|r| r.text() == "[]"));
    let lasted = elected.elapsed();
    assert!(
        lasted > Duration::from_millis(18_500) && lasted < Duration::from_secs(26),
        "{lasted:?}"
    );
    elapse(&mut pair, Duration::from_millis(19_900), Vec::new());
    assert!(pair.double.entry("lock").is_some_and(|held| !held.session.is_empty()));
    elapse(&mut pair, Duration::from_millis(200), Vec::new());
    assert!(pair.double.entry("lock").is_some_and(|held| held.session.is_empty()));
}

/// Reads that show the changes of a restored snapshot.
const RESTORED: &[&str] = &[
    "kv/a",
    "kv/lock",
    "kv/gone",
    "kv/later",
    "kv/?keys",
    "kv/?recurse",
    "session/list",
    "session/node/c1",
    "health/node/c1",
    "health/service/A",
    "health/service/B",
    "health/state/any",
    "catalog/service/B",
    "catalog/node/apart",
];

#[test]
fn a_restored_snapshot_takes_the_indexes_back() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = quiet_cluster();
    register(&mut pair);
    let one = session(&mut pair, r#"{"TTL":"10s","LockDelay":"0s","Name":"one"}"#);
    for (target, body) in
        [(format!("kv/lock?acquire={one}"), "one"), ("kv/a".into(), "old"), ("kv/gone".into(), "x")]
    {
        pair.ask(&Ask("PUT", &target, body));
    }
    let compare = |pair: &mut Pair, reads: &[&str]| {
        for read in reads.iter().filter(|read| **read != "health/state/any") {
            pair.settled(read);
        }
    };
    compare(&mut pair, RESTORED);
    let saved = pair.real().request("GET", "/v1/snapshot", b"").expect("a snapshot").body;
    let ours = pair.double.snapshot();
    pair.ask(&Ask("PUT", &format!("session/destroy/{one}"), ""));
    let two = session(&mut pair, r#"{"TTL":"10s","LockDelay":"0s","Name":"two"}"#);
    for (method, target, body) in [
        ("PUT", &*format!("kv/lock?acquire={two}"), "two"),
        ("PUT", "kv/a", "new"),
        ("DELETE", "kv/gone", ""),
        ("PUT", "kv/later", "y"),
        ("PUT", "agent/service/register", r#"{"ID":"2","Name":"B"}"#),
        ("PUT", "catalog/register", r#"{"Node":"apart","Address":"1.1.1.1"}"#),
    ] {
        pair.ask(&Ask(method, target, body));
        compare(&mut pair, RESTORED);
    }
    let index = pair.ask(&Ask("GET", "kv/a", "")).index().expect("an index");
    let double = {
        let target = "/v1/kv/a";
        let reply = pair.ask_double("GET", target, "", &mut Vec::new()).1;
        reply.and_then(|reply| reply.index()).expect("an index")
    };
    // Each side gets the index in its own numbers.
    let wait = |pair: &mut Pair, wait: &str| {
        let addr = pair.real().http_addr;
        let target = format!("/v1/kv/a?index={index}&wait={wait}");
        let real = thread::spawn(move || {
            let begin = Instant::now();
            let reply = client::request(addr, LIMIT, "GET", &target, b"").expect("an answer");
            (begin.elapsed(), reply)
        });
        let target = format!("/v1/kv/a?index={double}&wait={wait}");
        let (id, reply) = pair.ask_double("GET", &target, "", &mut Vec::new());
        assert_eq!(reply, None, "it has to wait");
        Under { name: "kv/a, waiting".into(), id, real }
    };
    let waits = wait(&mut pair, "30s");
    // The query has to wait before the snapshot comes.
    thread::sleep(Duration::from_millis(300));
    let restored = pair.real().request("PUT", "/v1/snapshot", &saved).expect("an answer");
    assert_eq!(restored.status, 200, "{}", restored.text());
    let (now, mut out) = (pair.now(), Vec::new());
    let _ = pair.double.restore(now, &ours, &mut out);
    let replies = elapse(&mut pair, Duration::ZERO, out);
    // The response has the state from before the wait, with the old index.
    end(&mut pair, vec![waits], &replies, 0..15_000);
    compare(&mut pair, RESTORED);
    // A query with that index waits for an index that is far away.
    let waits = wait(&mut pair, "1s");
    let replies = elapse(&mut pair, Duration::from_secs(1), Vec::new());
    end(&mut pair, vec![waits], &replies, 1_000..5_000);
    pair.ask(&Ask("PUT", &format!("session/renew/{two}"), ""));
    pair.ask(&Ask("PUT", &format!("session/renew/{one}"), ""));
    pair.ask(&Ask("PUT", "kv/a?cas={@a}", "newer"));
    compare(&mut pair, RESTORED);
}

#[test]
fn a_follower_shows_what_is_new_a_moment_later() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = cluster();
    pair.at = 0;
    pair.double.set_lag(Duration::from_millis(80));
    let leads = pair.reals[..CLIENT].iter().position(RealConsul::leads_servers).expect("a leader");
    let follower = (leads + 1) % CLIENT;
    let [leader, follower] = [leads, follower].map(|i| pair.reals[i].http_addr);
    // On a busy machine the test's read may take longer than the follower's lag.
    let late = (0..20).any(|n: u32| {
        let body = n.to_string();
        let put = client::request(leader, LIMIT, "PUT", "/v1/kv/a", body.as_bytes());
        let ask = |addr, target| client::request(addr, LIMIT, "GET", target, b"").map(|r| r.text());
        let stale = ask(follower, "/v1/kv/a?raw&stale").expect("an answer");
        let forwarded = ask(follower, "/v1/kv/a?raw").expect("an answer");
        assert_eq!((put.expect("an answer").status, &forwarded), (200, &body));
        stale != body
    });
    assert!(late, "the follower never shows what was");
    let ask = |pair: &mut Pair, target: &str| {
        pair.at = 1;
        let reply = pair.ask_double("GET", target, "", &mut Vec::new()).1;
        reply.expect("an answer").text()
    };
    for value in ["1", "2"] {
        let before = ask(&mut pair, "/v1/kv/a?raw&stale");
        pair.at = 0;
        pair.ask_double("PUT", "/v1/kv/a", value, &mut Vec::new());
        assert_eq!(ask(&mut pair, "/v1/kv/a?raw&stale"), before);
        assert_eq!(ask(&mut pair, "/v1/kv/a?raw"), value);
        pair.pass(Duration::from_millis(80));
        assert_eq!(ask(&mut pair, "/v1/kv/a?raw&stale"), value);
    }
}
