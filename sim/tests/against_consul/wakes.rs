//! The blocking queries that a change wakes.

use super::pair::{Ask, Pair};
use super::session;

#[test]
fn changes_of_keys_and_sessions() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    for key in ["p/a", "p/b", "q/a", "r"] {
        pair.ask(&Ask("PUT", &format!("kv/{key}"), "1"));
    }
    let s = session(&mut pair, r#"{"LockDelay":"0s"}"#);
    let keys = [
        "kv/?recurse",
        "kv/p/?keys&separator=/",
        "kv/p?recurse",
        "kv/p/a",
        "kv/p/b?raw",
        "kv/q/?keys",
        "kv/r",
        "session/list",
        &format!("session/info/{s}"),
    ];
    for (method, target, body) in [
        ("PUT", "kv/p/a", "2"),
        ("PUT", "kv/p/a", "2"),
        ("PUT", "kv/p/new", "2"),
        ("DELETE", "kv/p/new", ""),
        ("PUT", &format!("kv/p/b?acquire={s}") as &str, "2"),
        (
            "PUT",
            "txn",
            r#"[{"KV":{"Verb":"set","Key":"q/a","Value":"dg=="}},
                           {"KV":{"Verb":"delete","Key":"r"}}]"#,
        ),
        ("PUT", &format!("session/destroy/{s}"), ""),
        ("DELETE", "kv/p/?recurse", ""),
        // No tombstone is left: a query for a prefix with tombstones of its own goes on waiting.
        ("DELETE", "kv/?recurse", ""),
    ] {
        // The real one wakes a query for a missing key or prefix by chance, so such queries are not sent.
        let there: Vec<&str> = keys.iter().copied().filter(|read| pair.is_there(read)).collect();
        pair.compare_wakes(&there, &Ask(method, target, body));
    }
}

#[test]
fn changes_of_the_catalog() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    for body in [
        r#"{"Node":"x1","Address":"1.1.1.1","Service":{"ID":"1","Service":"A"}}"#,
        r#"{"Node":"x1","Address":"1.1.1.1","Service":{"ID":"2","Service":"B"}}"#,
        r#"{"Node":"x1","Address":"1.1.1.1","Check":{"CheckID":"c1","Name":"c","ServiceID":"1"}}"#,
    ] {
        pair.ask(&Ask("PUT", "catalog/register", body));
    }
    let health = [
        "health/state/any",
        "health/node/x1",
        "health/checks/A",
        "health/service/A",
        "health/service/A?passing",
        "health/service/B",
        "catalog/service/A",
        "catalog/nodes",
        "catalog/services",
    ];
    let check = |status: &str| {
        format!(
            r#"{{"Node":"x1","SkipNodeUpdate":true,"Check":{{"CheckID":"c1","Name":"c",
            "ServiceID":"1","Status":"{status}"}}}}"#
        )
    };
    for (target, body) in [
        ("catalog/register", check("passing")),
        ("catalog/register", check("passing")),
        ("catalog/register", check("critical")),
        ("catalog/deregister", r#"{"Node":"x1","CheckID":"c1"}"#.to_owned()),
        ("catalog/register", r#"{"Node":"x1","Address":"2.2.2.2"}"#.to_owned()),
        ("catalog/deregister", r#"{"Node":"x1","ServiceID":"2"}"#.to_owned()),
    ] {
        pair.compare_wakes(&health, &Ask("PUT", target, &body));
    }
}
