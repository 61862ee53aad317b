//! Compares the Consul double with the real Consul 1.8.7: the same requests must get the same responses.

mod members;
mod pair;
mod servers;
mod stories;
mod wakes;

use pair::{Ask, Pair};

fn script(pair: &mut Pair, asks: &[(&str, &str, &str)]) {
    for (method, target, body) in asks {
        pair.ask(&Ask(method, target, body));
        pair.compare_reads();
    }
}

fn session(pair: &mut Pair, body: &str) -> String {
    pair.ask(&Ask("PUT", "session/create", body));
    format!("{{{}}}", pair.last_uuid())
}

/// Writes of keys. Their purpose is the index of a prefix.
const KEY_WRITES: &[(&str, &str, &str)] = &[
    ("PUT", "kv/p/a", "1"),
    ("PUT", "kv/p/a", "1"),
    ("PUT", "kv/p/b?flags=7", "1"),
    ("PUT", "kv/q", "1"),
    ("DELETE", "kv/p/b", ""),
    ("DELETE", "kv/p/b", ""),
    ("PUT", "kv/p", ""),
    ("PUT", "kv/other", "1"),
    ("DELETE", "kv/p/?recurse", ""),
    ("DELETE", "kv/p/?recurse", ""),
    ("PUT", "kv/other", "2"),
    ("PUT", "kv/p/x/a", "1"),
    ("PUT", "kv/p/x/b", "1"),
    ("PUT", "kv/other", "3"),
    // A shorter prefix leaves its tombstone outside of a longer prefix.
    ("DELETE", "kv/p/x?recurse", ""),
    ("PUT", "kv/p/x/a", "<&>\u{e9}"),
    ("DELETE", "kv/?recurse", ""),
    ("PUT", "kv/p/x/b", "1"),
    ("PUT", "kv/p/a?cas=0", "1"),
    ("PUT", "kv/p/a?cas=0", "2"),
    ("PUT", "kv/p/a?cas={@p/a}", "3"),
    ("PUT", "kv/p/a?cas=1", "4"),
    ("PUT", "kv/none?cas=1", "4"),
    ("DELETE", "kv/p/a?cas=1", ""),
    ("DELETE", "kv/p/a?cas={@p/a}", ""),
    ("DELETE", "kv/p/a?cas=5", ""),
];

/// Refused requests, and requests at the limits.
const KEY_EDGES: &[(&str, &str, &str)] = &[
    ("POST", "kv/a", ""),
    ("PUT", "kv/a?cas=0&acquire=x", "x"),
    ("PUT", "kv/a?acquire=foo", "x"),
    ("PUT", "kv/a?acquire=", "x"),
    ("PUT", "kv/a?release=foo", "x"),
    ("PUT", "kv/a?release=", "x"),
    ("PUT", "kv/a?cas=zz", "x"),
    ("PUT", "kv/a?flags=zz", "x"),
    ("PUT", "kv/", "x"),
    ("DELETE", "kv/", ""),
    ("DELETE", "kv/a?recurse&cas=1", ""),
    ("DELETE", "kv/a?cas=zz", ""),
    ("PUT", "kv/h%3C%26%3E%C3%A9%25+x", "v"),
];

/// Reads with unusual parameters, and refused reads.
const ODD_READS: &[&str] = &[
    "kv/h?recurse",
    "kv/a?index=zz",
    "kv/a?index=-1",
    "kv/a?wait=zz",
    "kv/a?stale&consistent",
    "kv/a?dc=dc2",
    "kv/p/x/b?raw",
    "kv/p/x/b?raw&stale&dc=dc1",
    "kv/p/x/b?keys=false",
    "kv/p?keys&separator=x/",
    "kv/p?keys&separator=",
    "kv/?recurse&separator=/",
    "kv/",
    "nothere",
    "health/state/",
    "health/node/",
    "health/service/",
    "health/service/consul?passing=zz",
    "health/service/consul?passing=0",
    "health/service/consul?consistent",
    "health/checks/",
    "health/checks/none",
    "catalog/node/",
    "catalog/service/",
    "catalog/services?stale",
    "session/info/",
    "session/info/zz",
    "session/info/adf4238a-882b-9ddc-4a9d-5b6758e4159e",
    "session/node/",
    "session/create",
    "catalog/register",
    "txn",
    "catalog/datacenters",
    "agent/services",
    "agent/checks",
    "agent/service/none",
];

#[test]
fn keys() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    pair.compare_reads();
    script(&mut pair, KEY_WRITES);
    script(&mut pair, KEY_EDGES);
    for more in [0, 1] {
        pair.ask(&Ask("PUT", "kv/big", &"x".repeat(512 * 1024 + more)));
    }
    for target in ODD_READS {
        pair.ask(&Ask("GET", target, ""));
    }
}

const VALUE: &str = r#","Value":"dg==""#;

fn op(verb: &str, key: &str, more: &str) -> String {
    format!(r#"{{"KV":{{"Verb":"{verb}","Key":"{key}"{more}}}}}"#)
}

fn by(session: &str) -> String {
    format!(r#","Value":"dg==","Session":"{session}""#)
}

/// Returns a transaction with one failing operation of each kind, between successful ones: the response has
/// all failures.
fn all_that_fails() -> String {
    let ops = [
        op("set", "p/c", VALUE),
        op("cas", "p/a", r#","Index":1"#),
        op("cas", "nn", r#","Index":1"#),
        op("cas", "p/b", r#","Index":0"#),
        op("lock", "p/b", &by("{1}")),
        op("lock", "p/d", &by("zz")),
        op("lock", "p/d", ""),
        op("unlock", "p/d", ""),
        op("unlock", "p/b", &by("zz")),
        op("check-session", "p/b", &by("zz")),
        op("check-session", "none", &by("zz")),
        op("check-index", "none", r#","Index":1"#),
        op("check-index", "p/b", r#","Index":1"#),
        op("check-not-exists", "p/b", ""),
        op("delete-cas", "p/b", r#","Index":1"#),
        op("delete-cas", "none", r#","Index":1"#),
        op("get", "none", ""),
        op("get-tree", "none", ""),
        op("set", "p/e", VALUE),
    ];
    format!("[{}]", ops.join(","))
}

#[test]
fn transactions() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    let s = session(&mut pair, r#"{"LockDelay":"0s"}"#);
    let other = session(&mut pair, r#"{"LockDelay":"60s","Name":"other"}"#);
    let gone = session(&mut pair, "");
    pair.ask(&Ask("PUT", &format!("kv/delayed?acquire={other}"), ""));
    pair.ask(&Ask("PUT", &format!("session/destroy/{other}"), ""));
    pair.ask(&Ask("PUT", &format!("session/destroy/{gone}"), ""));
    pair.ask(&Ask("PUT", &format!("kv/p/a?acquire={s}"), "v"));
    let value = VALUE;
    let bodies = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        r#"[{"Foo":1}]"#.to_owned(),
        r#"[{"KV":{"Verb":"set","Key":"a","Value":"!"}}]"#.to_owned(),
        format!("[{}]", op("zz", "a", "")),
        format!("[{}]", op("get", "none", "")),
        format!("[{},{}]", op("get", "p/a", ""), op("get-tree", "p/", "")),
        format!("[{},{}]", op("get", "", ""), op("set", "", "")),
        format!("[{}]", op("delete", "none", "")),
        format!("[{}]", op("delete-tree", "", "")),
        format!("[{}]", op("set", "p/a", r#","Value":null"#)),
        format!("[{}]", op("set", "p/empty", r#","Value":"""#)),
        format!("[{}]", op("lock", "delayed", &by(&s))),
        format!("[{}]", op("lock", "p/b", &by(&s))),
        format!("[{},{}]", op("set", "p/b", value), op("check-session", "p/b", &by(&s))),
        all_that_fails(),
        format!(
            "[{},{},{},{},{}]",
            op("check-index", "p/b", r#","Index":{@p/b}"#),
            op("cas", "p/b", r#","Index":{@p/b},"Value":"dw==","Flags":3"#),
            op("unlock", "p/b", &by(&s)),
            op("lock", "p/b", &by(&s)),
            op("get", "p/b", "")
        ),
        // The key is deleted and created again in one transaction.
        format!("[{},{}]", op("delete", "p/b", ""), op("set", "p/b", value)),
        format!("[{},{}]", op("delete-tree", "p", ""), op("check-not-exists", "p/b", "")),
        format!("[{}]", vec![op("get", "a", ""); 65].join(",")),
        format!("[{}]", vec![op("set", "a", value); 64].join(",")),
        format!("[{}]", op("set", "a", &format!(r#","Value":"{}""#, "a".repeat(600_000)))),
    ];
    for body in &bodies {
        pair.ask(&Ask("PUT", "txn", body));
        pair.compare_reads();
    }
}

#[test]
fn sessions() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    for body in [
        "{",
        r#"{"TTL":"9s"}"#,
        r#"{"TTL":"zz"}"#,
        r#"{"TTL":"25h"}"#,
        r#"{"LockDelay":"61s"}"#,
        r#"{"LockDelay":"zz"}"#,
        r#"{"LockDelay":3,"Name":"n1"}"#,
        r#"{"Node":"zz"}"#,
        r#"{"Checks":["zz"]}"#,
        r#"{"NodeChecks":["zz"]}"#,
        r#"{"Checks":[]}"#,
        r#"{"NodeChecks":[],"Behavior":"delete","TTL":"10s","LockDelay":"200ms"}"#,
        r#"{"Behavior":"zz"}"#,
        r#"{"ServiceChecks":[{"ID":"zz"}]}"#,
        r#"{"Zork":1}"#,
        r#"{"Checks":["serfHealth"]}"#,
        r#"{"Checks":[],"NodeChecks":["serfHealth"]}"#,
        r#"{"Checks":["serfHealth"],"NodeChecks":[]}"#,
        r#"{"NodeChecks":null}"#,
        r#"{"Checks":null,"LockDelay":"1500ms"}"#,
        r#"{"LockDelay":2000000000,"Node":"ssu1"}"#,
        r#"{"Node":""}"#,
    ] {
        pair.ask(&Ask("PUT", "session/create", body));
        pair.compare_reads();
    }
    for (method, target) in [
        ("PUT", "session/renew/adf4238a-882b-9ddc-4a9d-5b6758e4159e"),
        ("PUT", "session/renew/zz"),
        ("PUT", "session/renew/"),
        ("PUT", "session/destroy/"),
        ("PUT", "session/destroy/zz"),
        ("DELETE", "session/destroy/x"),
    ] {
        pair.ask(&Ask(method, target, ""));
    }
}

#[test]
fn sessions_are_lost() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    let body = r#"{"ID":"2","Name":"A","Check":{"CheckID":"c2","TTL":"100h","Status":"passing"}}"#;
    pair.ask_agent(&Ask("PUT", "agent/service/register", body));
    let s = session(&mut pair, r#"{"Checks":["serfHealth","c2"],"LockDelay":"0s"}"#);
    let d = session(
        &mut pair,
        r#"{"ServiceChecks":[{"ID":"c2"}],"LockDelay":"0s","Behavior":"delete"}"#,
    );
    script(
        &mut pair,
        &[
            ("PUT", &format!("kv/p/a?acquire={s}"), "1"),
            ("PUT", &format!("kv/p/a?acquire={s}"), "1"),
            ("PUT", &format!("kv/p/a?acquire={d}"), "1"),
            ("PUT", "kv/p/a", "1"),
            ("PUT", &format!("kv/p/a?release={d}"), "1"),
            ("PUT", &format!("kv/p/a?release={s}"), "1"),
            ("PUT", &format!("kv/p/a?acquire={s}"), "2"),
            ("PUT", &format!("kv/p/b?acquire={d}"), "2"),
            ("PUT", &format!("session/renew/{d}"), ""),
            ("GET", &format!("session/info/{d}"), ""),
        ],
    );
    pair.ask_agent(&Ask("PUT", "agent/check/warn/c2", ""));
    pair.compare_reads();
    pair.ask_agent(&Ask("PUT", "agent/check/fail/c2?note=gone", ""));
    pair.compare_reads();
    pair.ask(&Ask("PUT", "session/create", r#"{"Checks":["c2"]}"#));
    pair.ask_agent(&Ask("PUT", "agent/check/pass/c2", ""));
    // The session ends with the check, with the service, with the node.
    let s = session(&mut pair, r#"{"Checks":["c2"],"LockDelay":"0s"}"#);
    pair.ask(&Ask("PUT", &format!("kv/p/a?acquire={s}"), "1"));
    pair.ask_agent(&Ask("PUT", "agent/service/deregister/2", ""));
    pair.compare_reads();
    pair.ask(&Ask("PUT", "catalog/register", r#"{"Node":"x1","Address":"1.1.1.1"}"#));
    let s = session(&mut pair, r#"{"Node":"x1","NodeChecks":[]}"#);
    pair.ask(&Ask("PUT", &format!("kv/p/a?acquire={s}"), "1"));
    pair.ask(&Ask("PUT", "catalog/deregister", r#"{"Node":"x1"}"#));
    pair.compare_reads();
}

#[test]
fn catalog() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    let node = |node: &str, more: &str| format!(r#"{{"Node":"{node}","Address":"1.1.1.1"{more}}}"#);
    let service = |id: &str, name: &str, more: &str| {
        format!(r#","Service":{{"ID":"{id}","Service":"{name}"{more}}}"#)
    };
    let check = |id: &str, status: &str, more: &str| {
        format!(r#","Check":{{"CheckID":"{id}","Name":"{id}","Status":"{status}"{more}}}"#)
    };
    let registers = [
        node("x1", ""),
        node("x1", ""),
        node("x2", r#","NodeMeta":{"a":"b"}"#),
        node("x1", &service("1", "A", "")),
        node("x1", &service("1", "A", "")),
        node("x2", &service("1", "A", r#","Tags":["t","s"],"Meta":{"k":"v"},"Port":7"#)),
        node("x2", &service("2", "B", "")),
        node("x1", &check("nc", "passing", "")),
        node("x1", &check("nc", "passing", "")),
        node("x1", &check("nc", "passing", r#","Output":"z""#)),
        node("x1", &check("nc", "critical", "")),
        node("x1", &check("zz", "warning", r#","ServiceID":"1""#)),
        node("x1", &check("aa", "passing", r#","ServiceID":"1""#)),
        node("x2", &check("s2", "passing", r#","ServiceID":"2""#)),
        node("x1", &(service("1", "A", "") + &check("zz", "passing", r#","ServiceID":"1""#))),
        r#"{"Node":"x1","Address":"2.2.2.2"}"#.to_owned(),
        r#"{"Node":"x1","SkipNodeUpdate":true,"Check":{"CheckID":"nc","Name":"nc"}}"#.to_owned(),
        node("x1", &service("1", "A", r#","Port":3"#)),
        node("x1", &service("1", "C", r#","Port":3"#)),
        node("x1", &service("1", "A", r#","Port":3"#)),
        node("x1", &check("bad", "passing", r#","ServiceID":"nn""#)),
        node("x1", &check("bad", "passing", r#","Node":"zz""#)),
        node("x1", r#","Service":{"ID":"x"}"#),
        node("x1", r#","Service":{"Service":"named"}"#),
        node("x1", r#","Zork":1"#),
        r#"{"Node":"n"}"#.to_owned(),
        "{}".to_owned(),
        "{".to_owned(),
        String::new(),
    ];
    for body in &registers {
        pair.ask(&Ask("PUT", "catalog/register", body));
        pair.compare_reads();
    }
    let deregisters = [
        r#"{"Node":"x1","CheckID":"zz"}"#,
        r#"{"Node":"x1","CheckID":"none"}"#,
        r#"{"Node":"x1","CheckID":"nc"}"#,
        r#"{"Node":"x1","ServiceID":"none"}"#,
        r#"{"Node":"x1","ServiceID":"1"}"#,
        r#"{"Node":"x2","ServiceID":"2"}"#,
        r#"{"Node":"x2"}"#,
        r#"{"Node":"none"}"#,
        "{}",
    ];
    for body in deregisters {
        pair.ask(&Ask("PUT", "catalog/deregister", body));
        pair.compare_reads();
    }
}

#[test]
fn agent() {
    if !hax_sim::real::available() {
        return;
    }
    let mut pair = Pair::start();
    let register = "agent/service/register";
    for (target, body) in [
        (register, "{"),
        (register, "{}"),
        (register, r#"{"Name":"A","Zork":1}"#),
        (register, r#"{"Name":"A","Check":{"TTL":"zz"}}"#),
        (register, r#"{"Name":"A","Check":{"Name":"q"}}"#),
        (register, r#"{"Name":"A","Check":{"TTL":"3s","Status":"zz"}}"#),
        (register, r#"{"ID":"1","Name":"A","Check":{"TTL":"100h"}}"#),
        (register, r#"{"ID":"1","Name":"A","Check":{"TTL":"100h"}}"#),
        ("agent/check/pass/service:1?note=hi%20there", ""),
        ("agent/check/pass/service:1?note=hi%20there", ""),
        // The check is defined again and keeps its status.
        (register, r#"{"ID":"1","Name":"A","Check":{"TTL":"100h","Status":"critical"}}"#),
        (register, r#"{"ID":"1","Name":"A","Port":5,"Check":{"TTL":"100h"}}"#),
        (register, r#"{"ID":"1","Name":"A","Port":5}"#),
        (register, r#"{"Name":"B","Tags":["x"],"Meta":{"a":"b"}}"#),
        (register, r#"{"Name":"C","Checks":[{"TTL":"100h","Name":"c1"},{"TTL":"100h"}]}"#),
        ("agent/check/warn/service:1", ""),
        ("agent/check/fail/service:1", ""),
        ("agent/check/update/service:1", r#"{"Status":"passing","Output":"o1"}"#),
        // A change of the output alone is not synced yet.
        ("agent/check/update/service:1", r#"{"Status":"passing","Output":"o2"}"#),
        ("agent/check/update/service:1", r#"{"Status":"warning","Output":"o3"}"#),
        ("agent/check/update/service:1", r#"{"Status":"zz"}"#),
        ("agent/check/update/service:1", "{"),
        ("agent/check/pass/none", ""),
        ("agent/check/pass/", ""),
        ("agent/check/register", r#"{"Name":"node","TTL":"100h","Notes":"n"}"#),
        ("agent/check/register", r#"{"Name":"of A","ServiceID":"1","TTL":"100h"}"#),
        ("agent/check/register", r#"{"Name":"bad","ServiceID":"99","TTL":"100h"}"#),
        ("agent/check/register", r#"{"TTL":"30s"}"#),
        ("agent/check/register", r#"{"Name":"x"}"#),
        ("agent/check/register", r#"{"Name":"x","TTL":"1s","Status":"zz"}"#),
        ("agent/check/register", "{"),
        ("agent/check/pass/node", ""),
        ("agent/check/register", r#"{"Name":"node","TTL":"100h","Notes":"n"}"#),
        ("agent/check/deregister/node", ""),
        ("agent/check/deregister/none", ""),
        ("agent/service/deregister/C", ""),
        ("agent/service/deregister/none", ""),
        ("agent/service/deregister/", ""),
        ("agent/service/deregister/1", ""),
    ] {
        pair.ask_agent(&Ask("PUT", target, body));
        for read in ["agent/services", "agent/checks"] {
            pair.ask(&Ask("GET", read, ""));
        }
        pair.compare_reads();
    }
}
