//! Agents apart from servers, where it takes longer than a test against the real ones may.

use std::time::Duration;

use super::super::{ELECTION, Output};
use super::World;

impl World {
    /// What the double wants done again is done.
    fn again(&mut self) {
        while let Some(at) = self.out.iter().position(|o| matches!(o, Output::Again(_))) {
            let Output::Again(request) = self.out.remove(at) else { unreachable!() };
            self.next = self.consul.handle(self.now(), request, &mut self.out);
        }
    }

    fn is(&mut self, id: u64) -> Option<(u16, String)> {
        let response = self.response(id)?;
        Some((response.status, String::from_utf8_lossy(&response.body).into_owned()))
    }
}

fn failure(text: &str) -> Option<(u16, String)> {
    Some((500, text.to_owned()))
}

#[test]
fn without_a_leader_only_stale_reads_are_answered() {
    let mut world = World::new();
    world.put("kv/a", "1");
    let now = world.now();
    world.next = world.consul.set_leader(now, false, &mut world.out);
    let asks = [("GET", "kv/a"), ("PUT", "kv/b"), ("PUT", "session/create")];
    let ids = asks.map(|(method, target)| world.send(method, target, ""));
    world.pass(6_999);
    assert!(ids.iter().all(|id| world.response(*id).is_none()));
    world.pass(1);
    assert!(ids.iter().all(|id| world.is(*id) == failure("No cluster leader")));
    let stale = world.ask("GET", "kv/a?stale", "");
    assert_eq!((stale.status, stale.header("x-consul-knownleader")), (200, Some("false")));
    // What an agent is told meanwhile is in the catalog when there is a leader again, and what waits for
    // one is done then, whether anybody still waits for it or not.
    world.put("agent/service/register", r#"{"Name":"hax"}"#);
    let (read, write) = (world.send("GET", "kv/a?raw", ""), world.send("PUT", "kv/b", "2"));
    let given_up = world.send("PUT", "kv/c", "3");
    world.consul.forget(given_up);
    let now = world.now();
    world.next = world.consul.set_leader(now, true, &mut world.out);
    world.again();
    assert_eq!(world.is(read), Some((200, "1".to_owned())));
    assert_eq!(world.is(write), Some((200, "true".to_owned())));
    assert_eq!(world.get("kv/?keys"), serde_json::json!(["a", "b", "c"]));
    assert_eq!(world.get("catalog/service/hax").as_array().unwrap().len(), 1);
}

#[test]
fn what_is_under_way_when_an_agent_is_cut_off_hangs() {
    let mut world = World::new();
    let client = world.consul.add_agent("ssu2", "127.0.1.2");
    world.put("kv/a", "1");
    let session = world.session(r#"{"Node":"ssu2","LockDelay":"0s"}"#);
    let at_client = |world: &mut World, method: &str, target: &str| {
        world.ids += 1;
        let target = format!("/v1/{target}");
        let mut request = super::Request::new(world.ids, method, &target, "x");
        request.agent = client;
        world.next = world.consul.handle(world.now(), request, &mut world.out);
        world.ids
    };
    let waits = at_client(&mut world, "GET", "kv/a?stale&index=999");
    let now = world.now();
    world.next = world.consul.cut(now, client, &mut world.out);
    let write = at_client(&mut world, "PUT", "kv/b");
    world.pass(4_999);
    assert_ne!(world.get(&format!("session/info/{session}")), serde_json::json!([]));
    world.pass(1);
    assert_eq!(world.get(&format!("session/info/{session}")), serde_json::json!([]));
    assert_eq!(world.status("serfHealth").0, "passing", "of the first node");
    let late = at_client(&mut world, "PUT", "kv/c");
    assert_eq!(world.is(late), failure("No known Consul servers"));
    world.pass(29_999);
    assert_eq!((world.is(waits), world.is(write)), (None, None));
    world.pass(1);
    assert_eq!(world.is(waits), failure("rpc error making call: EOF"));
    assert_eq!(world.is(write), failure("rpc error making call: EOF"));
    let now = world.now();
    world.next = world.consul.mend(now, client, &mut world.out);
    world.next = world.consul.cut(now, client, &mut world.out);
    let write = at_client(&mut world, "PUT", "kv/d");
    world.next = world.consul.mend(now, client, &mut world.out);
    world.again();
    assert_eq!(world.is(write), Some((200, "true".to_owned())));
    assert_eq!(world.get("kv/?keys"), serde_json::json!(["a", "d"]));
}

#[test]
fn an_election_breaks_what_waits_for_the_leader() {
    let mut world = World::new();
    world.consul.seat_leader(None);
    world.put("kv/a", "1");
    let waits = world.send("GET", "kv/a?index=999", "");
    let stale = world.send("GET", "kv/a?stale&index=999&wait=2s", "");
    let now = world.now();
    world.next = world.consul.elect(now, ELECTION, &mut world.out);
    assert_eq!(world.is(waits), failure("rpc error making call: EOF"));
    world.pass(2_000);
    assert_eq!(world.is(stale).map(|(status, _)| status), Some(200));
    assert!(!world.consul.has_leader());
    world.pass(1_000);
    assert!(world.consul.has_leader());
}

#[test]
fn what_others_register_on_an_agents_node_goes_within_two_minutes() {
    let mut world = World::new();
    for node in ["ssu1", "apart"] {
        for body in [
            format!(r#"{{"Node":"{node}","Address":"1.1.1.1","Service":{{"Service":"F"}}}}"#),
            format!(
                r#"{{"Node":"{node}","Address":"1.1.1.1","Check":{{"CheckID":"f","Name":"f"}}}}"#
            ),
        ] {
            world.put("catalog/register", &body);
        }
    }
    world.pass(59_999);
    assert_eq!(world.get("catalog/service/F").as_array().map(Vec::len), Some(2));
    world.pass(60_001);
    assert_eq!(world.get("catalog/service/F").as_array().map(Vec::len), Some(1));
    assert_eq!(world.get("health/node/ssu1").as_array().map(Vec::len), Some(1));
    assert_eq!(world.get("health/node/apart").as_array().map(Vec::len), Some(1));
}

#[test]
fn after_a_restore_agents_tell_within_two_minutes_what_the_snapshot_lacks() {
    let mut world = World::new();
    let body = r#"{"ID":"1","Name":"A","Check":{"CheckID":"k","TTL":"1h","Status":"passing"}}"#;
    world.put("agent/service/register", body);
    let saved = world.consul.snapshot();
    world.put("agent/check/fail/k", "");
    world.put("agent/service/register", r#"{"Name":"B"}"#);
    let now = world.now();
    world.next = world.consul.restore(now, &saved, &mut world.out);
    world.pass(59_999);
    assert_eq!(world.status("k").0, "passing");
    assert_eq!(world.get("catalog/service/B"), serde_json::json!([]));
    world.pass(60_001);
    assert_eq!(world.status("k").0, "critical");
    assert_eq!(world.get("catalog/service/B").as_array().map(Vec::len), Some(1));
}

#[test]
fn followers_wake_who_waits_when_they_hear_of_it() {
    let mut world = World::new();
    world.consul.set_lag(Duration::from_millis(80));
    world.put("kv/a", "1");
    world.pass(80);
    world.consul.seat_leader(None);
    let index = world.ask("GET", "kv/a", "").index().unwrap();
    let default = world.send("GET", &format!("kv/a?raw&index={index}"), "");
    let stale = world.send("GET", &format!("kv/a?raw&stale&index={index}"), "");
    world.put("kv/a", "2");
    assert_eq!(world.is(default), Some((200, "2".to_owned())));
    world.pass(79);
    assert_eq!(world.is(stale), None);
    world.pass(1);
    assert_eq!(world.is(stale), Some((200, "2".to_owned())));
}

#[test]
fn an_agent_that_starts_under_another_name_has_what_its_configuration_has() {
    let mut world = World::new();
    let service = |id: &str| {
        format!(
            r#"{{"ID":"{id}","Name":"A","Check":{{"CheckID":"c{id}","TTL":"10s","Status":"passing"}}}}"#
        )
    };
    world.put("agent/service/register", &service("1"));
    world.consul.configure();
    world.put("agent/service/register", &service("2"));
    let session = world.session(r#"{"LockDelay":"0s"}"#);
    world.put(&format!("kv/leader?acquire={session}"), "ssu1");
    let now = world.now();
    world.next = world.consul.rename(now, 0, "ssu1:0000aaaa", &mut world.out);
    let checks = |world: &mut World, node: &str| -> Vec<(String, String)> {
        let found = world.get(&format!("health/node/{node}"));
        let text = |check: &serde_json::Value, name: &str| check[name].as_str().unwrap().to_owned();
        let checks = found.as_array().unwrap().iter();
        checks.map(|check| (text(check, "CheckID"), text(check, "Status"))).collect()
    };
    let own = |id: &str, status: &str| (id.to_owned(), status.to_owned());
    let new = [own("c1", "critical"), own("serfHealth", "passing")];
    assert_eq!(checks(&mut world, "ssu1:0000aaaa"), new);
    assert_eq!(world.ask("PUT", "agent/check/pass/c2", "").status, 500, "it was never told of it");
    world.put("agent/check/pass/c1", "");
    world.pass(4_999);
    let old = |serf: &str| [own("c1", "passing"), own("c2", "passing"), own("serfHealth", serf)];
    assert_eq!(checks(&mut world, "ssu1"), old("passing"));
    assert_eq!(world.get("kv/leader")[0]["Session"], session.as_str());
    world.pass(1);
    assert_eq!(checks(&mut world, "ssu1"), old("critical"));
    assert_eq!(world.get("kv/leader")[0]["Session"], serde_json::Value::Null);
    assert_eq!(checks(&mut world, "ssu1:0000aaaa")[0], own("c1", "passing"));
}
