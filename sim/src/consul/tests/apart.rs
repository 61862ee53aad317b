//! Tests of agents that are cut off from the servers. They take longer than a test against the real ones may.

use std::time::Duration;

use super::super::{ELECTION, Output};
use super::Fixture;

impl Fixture {
    /// Passes the repeated requests of the double to it again.
    fn again(&mut self) {
        while let Some(at) = self.out.iter().position(|o| matches!(o, Output::Retry(_))) {
            let Output::Retry(request) = self.out.remove(at) else { unreachable!() };
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
    let mut fixture = Fixture::new();
    fixture.put("kv/a", "1");
    let now = fixture.now();
    fixture.next = fixture.consul.set_leader(now, false, &mut fixture.out);
    let asks = [("GET", "kv/a"), ("PUT", "kv/b"), ("PUT", "session/create")];
    let ids = asks.map(|(method, target)| fixture.send(method, target, ""));
    fixture.pass(6_999);
    assert!(ids.iter().all(|id| fixture.response(*id).is_none()));
    fixture.pass(1);
    assert!(ids.iter().all(|id| fixture.is(*id) == failure("No cluster leader")));
    let stale = fixture.ask("GET", "kv/a?stale", "");
    assert_eq!((stale.status, stale.header("x-consul-knownleader")), (200, Some("false")));
    // A registration from the meantime is in the catalog once there is a leader again. Then the requests that
    // wait for a leader are executed as well, even those whose client has gone.
    fixture.put("agent/service/register", r#"{"Name":"hax"}"#);
    let (read, write) = (fixture.send("GET", "kv/a?raw", ""), fixture.send("PUT", "kv/b", "2"));
    let given_up = fixture.send("PUT", "kv/c", "3");
    fixture.consul.cancel(given_up);
    let now = fixture.now();
    fixture.next = fixture.consul.set_leader(now, true, &mut fixture.out);
    fixture.again();
    assert_eq!(fixture.is(read), Some((200, "1".to_owned())));
    assert_eq!(fixture.is(write), Some((200, "true".to_owned())));
    assert_eq!(fixture.get("kv/?keys"), serde_json::json!(["a", "b", "c"]));
    assert_eq!(fixture.get("catalog/service/hax").as_array().unwrap().len(), 1);
}

#[test]
fn what_is_under_way_when_an_agent_is_cut_off_hangs() {
    let mut fixture = Fixture::new();
    let client = fixture.consul.add_agent("ssu2", "127.0.1.2");
    fixture.put("kv/a", "1");
    let session = fixture.session(r#"{"Node":"ssu2","LockDelay":"0s"}"#);
    let at_client = |fixture: &mut Fixture, method: &str, target: &str| {
        fixture.ids += 1;
        let target = format!("/v1/{target}");
        let mut request = super::Request::new(fixture.ids, method, &target, "x");
        request.agent = client;
        fixture.next = fixture.consul.handle(fixture.now(), request, &mut fixture.out);
        fixture.ids
    };
    let waits = at_client(&mut fixture, "GET", "kv/a?stale&index=999");
    let now = fixture.now();
    fixture.next = fixture.consul.disconnect(now, client, &mut fixture.out);
    let write = at_client(&mut fixture, "PUT", "kv/b");
    fixture.pass(4_999);
    assert_ne!(fixture.get(&format!("session/info/{session}")), serde_json::json!([]));
    fixture.pass(1);
    assert_eq!(fixture.get(&format!("session/info/{session}")), serde_json::json!([]));
    assert_eq!(fixture.status("serfHealth").0, "passing", "of the first node");
    let late = at_client(&mut fixture, "PUT", "kv/c");
    assert_eq!(fixture.is(late), failure("No known Consul servers"));
    fixture.pass(29_999);
    assert_eq!((fixture.is(waits), fixture.is(write)), (None, None));
    fixture.pass(1);
    assert_eq!(fixture.is(waits), failure("rpc error making call: EOF"));
    assert_eq!(fixture.is(write), failure("rpc error making call: EOF"));
    let now = fixture.now();
    fixture.next = fixture.consul.reconnect(now, client, &mut fixture.out);
    fixture.next = fixture.consul.disconnect(now, client, &mut fixture.out);
    let write = at_client(&mut fixture, "PUT", "kv/d");
    fixture.next = fixture.consul.reconnect(now, client, &mut fixture.out);
    fixture.again();
    assert_eq!(fixture.is(write), Some((200, "true".to_owned())));
    assert_eq!(fixture.get("kv/?keys"), serde_json::json!(["a", "d"]));
}

#[test]
fn an_election_breaks_what_waits_for_the_leader() {
    let mut fixture = Fixture::new();
    fixture.consul.make_leader(None);
    fixture.put("kv/a", "1");
    let waits = fixture.send("GET", "kv/a?index=999", "");
    let stale = fixture.send("GET", "kv/a?stale&index=999&wait=2s", "");
    let now = fixture.now();
    fixture.next = fixture.consul.elect(now, ELECTION, &mut fixture.out);
    assert_eq!(fixture.is(waits), failure("rpc error making call: EOF"));
    fixture.pass(2_000);
    assert_eq!(fixture.is(stale).map(|(status, _)| status), Some(200));
    assert!(!fixture.consul.has_leader());
    fixture.pass(1_000);
    assert!(fixture.consul.has_leader());
}

#[test]
fn what_others_register_on_an_agents_node_goes_within_two_minutes() {
    let mut fixture = Fixture::new();
    for node in ["ssu1", "apart"] {
        for body in [
            format!(r#"{{"Node":"{node}","Address":"1.1.1.1","Service":{{"Service":"F"}}}}"#),
            format!(
                r#"{{"Node":"{node}","Address":"1.1.1.1","Check":{{"CheckID":"f","Name":"f"}}}}"#
            ),
        ] {
            fixture.put("catalog/register", &body);
        }
    }
    fixture.pass(59_999);
    assert_eq!(fixture.get("catalog/service/F").as_array().map(Vec::len), Some(2));
    fixture.pass(60_001);
    assert_eq!(fixture.get("catalog/service/F").as_array().map(Vec::len), Some(1));
    assert_eq!(fixture.get("health/node/ssu1").as_array().map(Vec::len), Some(1));
    assert_eq!(fixture.get("health/node/apart").as_array().map(Vec::len), Some(1));
}

#[test]
fn after_a_restore_agents_tell_within_two_minutes_what_the_snapshot_lacks() {
    let mut fixture = Fixture::new();
    let body = r#"{"ID":"1","Name":"A","Check":{"CheckID":"k","TTL":"1h","Status":"passing"}}"#;
    fixture.put("agent/service/register", body);
    let saved = fixture.consul.snapshot();
    fixture.put("agent/check/fail/k", "");
    fixture.put("agent/service/register", r#"{"Name":"B"}"#);
    let now = fixture.now();
    fixture.next = fixture.consul.restore(now, &saved, &mut fixture.out);
    fixture.pass(59_999);
    assert_eq!(fixture.status("k").0, "passing");
    assert_eq!(fixture.get("catalog/service/B"), serde_json::json!([]));
    fixture.pass(60_001);
    assert_eq!(fixture.status("k").0, "critical");
    assert_eq!(fixture.get("catalog/service/B").as_array().map(Vec::len), Some(1));
}

#[test]
fn followers_wake_who_waits_when_they_hear_of_it() {
    let mut fixture = Fixture::new();
    fixture.consul.set_lag(Duration::from_millis(80));
    fixture.put("kv/a", "1");
    fixture.pass(80);
    fixture.consul.make_leader(None);
    let index = fixture.ask("GET", "kv/a", "").index().unwrap();
    let default = fixture.send("GET", &format!("kv/a?raw&index={index}"), "");
    let stale = fixture.send("GET", &format!("kv/a?raw&stale&index={index}"), "");
    fixture.put("kv/a", "2");
    assert_eq!(fixture.is(default), Some((200, "2".to_owned())));
    fixture.pass(79);
    assert_eq!(fixture.is(stale), None);
    fixture.pass(1);
    assert_eq!(fixture.is(stale), Some((200, "2".to_owned())));
}

#[test]
fn an_agent_that_starts_under_another_name_has_what_its_configuration_has() {
    let mut fixture = Fixture::new();
    let service = |id: &str| {
        format!(
            r#"{{"ID":"{id}","Name":"A","Check":{{"CheckID":"c{id}","TTL":"10s","Status":"passing"}}}}"#
        )
    };
    fixture.put("agent/service/register", &service("1"));
    fixture.consul.configure();
    fixture.put("agent/service/register", &service("2"));
    let session = fixture.session(r#"{"LockDelay":"0s"}"#);
    fixture.put(&format!("kv/leader?acquire={session}"), "ssu1");
    let now = fixture.now();
    fixture.next = fixture.consul.rename(now, 0, "ssu1:0000aaaa", &mut fixture.out);
    let checks = |fixture: &mut Fixture, node: &str| -> Vec<(String, String)> {
        let found = fixture.get(&format!("health/node/{node}"));
        let text = |check: &serde_json::Value, name: &str| check[name].as_str().unwrap().to_owned();
        let checks = found.as_array().unwrap().iter();
        checks.map(|check| (text(check, "CheckID"), text(check, "Status"))).collect()
    };
    let own = |id: &str, status: &str| (id.to_owned(), status.to_owned());
    let new = [own("c1", "critical"), own("serfHealth", "passing")];
    assert_eq!(checks(&mut fixture, "ssu1:0000aaaa"), new);
    assert_eq!(
        fixture.ask("PUT", "agent/check/pass/c2", "").status,
        500,
        "it was never told of it"
    );
    fixture.put("agent/check/pass/c1", "");
    fixture.pass(4_999);
    let old = |serf: &str| [own("c1", "passing"), own("c2", "passing"), own("serfHealth", serf)];
    assert_eq!(checks(&mut fixture, "ssu1"), old("passing"));
    assert_eq!(fixture.get("kv/leader")[0]["Session"], session.as_str());
    fixture.pass(1);
    assert_eq!(checks(&mut fixture, "ssu1"), old("critical"));
    assert_eq!(fixture.get("kv/leader")[0]["Session"], serde_json::Value::Null);
    assert_eq!(checks(&mut fixture, "ssu1:0000aaaa")[0], own("c1", "passing"));
}
