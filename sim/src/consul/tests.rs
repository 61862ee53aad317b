//! What takes time, and so cannot be held against the real Consul in a test that is to be short.
//! The times were measured on it.

mod apart;

use std::time::Duration;

use bytes::Bytes;
use hax_core::base::time::{Instant, Next, Now, WallClock};
use serde_json::Value;

use super::{Consul, Output, Post, Request, Response, Watch};

struct World {
    consul: Consul,
    now: Instant,
    out: Vec<Output>,
    next: Next,
    ids: u64,
}

impl World {
    fn new() -> Self {
        let now = Instant::from_micros(0);
        Self { consul: Consul::new("ssu1"), now, out: Vec::new(), next: Next::Wait, ids: 0 }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: WallClock(0) }
    }

    /// Sends a request; the name by which its response will be known.
    fn send(&mut self, method: &str, target: &str, body: &str) -> u64 {
        self.ids += 1;
        let request = Request::new(self.ids, method, &format!("/v1/{target}"), body.to_owned());
        self.next = self.consul.handle(self.now(), request, &mut self.out);
        self.ids
    }

    fn response(&mut self, id: u64) -> Option<Response> {
        let found = self.out.iter().position(|o| matches!(o, Output::Response(r) if r.id == id))?;
        match self.out.remove(found) {
            Output::Response(response) => Some(response),
            Output::Post(_) | Output::Again(_) => None,
        }
    }

    fn post(&mut self) -> Option<Post> {
        let found = self.out.iter().position(|o| matches!(o, Output::Post(_)))?;
        match self.out.remove(found) {
            Output::Post(post) => Some(post),
            Output::Response(_) | Output::Again(_) => None,
        }
    }

    fn ask(&mut self, method: &str, target: &str, body: &str) -> Response {
        let id = self.send(method, target, body);
        self.response(id).expect("answered at once")
    }

    fn put(&mut self, target: &str, body: &str) -> String {
        let response = self.ask("PUT", target, body);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        String::from_utf8(response.body.to_vec()).unwrap()
    }

    fn get(&mut self, target: &str) -> Value {
        serde_json::from_slice(&self.ask("GET", target, "").body).unwrap_or_default()
    }

    fn session(&mut self, body: &str) -> String {
        let made: Value = serde_json::from_str(&self.put("session/create", body)).unwrap();
        made["ID"].as_str().unwrap().to_owned()
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.next = self.consul.tick(self.now(), &mut self.out);
    }

    fn status(&mut self, check: &str) -> (String, String) {
        let checks = self.get("health/state/any");
        let found = checks.as_array().unwrap().iter().find(|c| c["CheckID"] == check);
        let text = |name: &str| found.unwrap()[name].as_str().unwrap().to_owned();
        (text("Status"), text("Output"))
    }
}

#[test]
fn a_check_that_is_not_refreshed_goes_critical_and_takes_sessions_with_it() {
    let mut world = World::new();
    world
        .put("agent/service/register", r#"{"Name":"hax","Check":{"TTL":"1s","Status":"passing"}}"#);
    let session = world.session(r#"{"Checks":["service:hax"],"LockDelay":"200ms"}"#);
    assert_eq!(world.put(&format!("kv/leader?acquire={session}"), "ssu1"), "true");
    world.pass(900);
    world.put("agent/check/pass/service:hax?note=well", "");
    world.pass(999);
    assert_eq!(world.status("service:hax").0, "passing");
    world.pass(1);
    let (status, output) = world.status("service:hax");
    assert_eq!(status, "critical");
    assert_eq!(output, "TTL expired (last output before timeout follows): well");
    assert_eq!(world.get(&format!("session/info/{session}")), Value::Array(Vec::new()));
    assert_eq!(world.get("kv/leader")[0]["Session"], Value::Null);
    // It is not to be locked at once, and who waits for the moment is not woken by it.
    let other = world.session("");
    assert_eq!(world.put(&format!("kv/leader?acquire={other}"), "ssu2"), "false");
    world.pass(199);
    assert_eq!(world.put(&format!("kv/leader?acquire={other}"), "ssu2"), "false");
    world.pass(1);
    assert_eq!(world.put(&format!("kv/leader?acquire={other}"), "ssu2"), "true");
}

#[test]
fn a_session_lives_twice_the_time_it_asked_for() {
    let mut world = World::new();
    let session = world.session(r#"{"TTL":"10s","LockDelay":"0s","Behavior":"delete"}"#);
    world.put(&format!("kv/a?acquire={session}"), "x");
    world.pass(15_000);
    world.put(&format!("session/renew/{session}"), "");
    world.pass(19_999);
    assert_eq!(world.ask("GET", "kv/a", "").status, 200);
    world.pass(1);
    assert_eq!(world.ask("GET", "kv/a", "").status, 404);
    let renewed = world.ask("PUT", &format!("session/renew/{session}"), "");
    assert_eq!(renewed.status, 404);
}

#[test]
fn a_blocking_query_is_answered_by_news_or_by_time() {
    let mut world = World::new();
    world.put("kv/p/a", "1");
    let index = world.ask("GET", "kv/p/?recurse", "").index().unwrap();
    let target = format!("kv/p/?recurse&index={index}&wait=1m");
    let news = world.send("GET", &target, "");
    let hung_up = world.send("GET", &target, "");
    world.consul.forget(hung_up);
    world.put("kv/q", "1");
    world.put("kv/p/a", "1");
    assert_eq!(world.response(news), None);
    world.put("kv/p/a", "2");
    assert!(world.response(news).unwrap().index() > Some(index));
    assert_eq!(world.consul.waiting(), 0);

    let index = world.ask("GET", "kv/p/?recurse", "").index().unwrap();
    let quiet = world.send("GET", &format!("kv/p/?recurse&index={index}&wait=1m"), "");
    let at = world.now.after(Duration::from_secs(60));
    assert_eq!(world.next, Next::WaitUntil { at, why: "blocking query" });
    world.pass(60_000);
    assert_eq!(world.response(quiet).unwrap().index(), Some(index));
    // Who does not say waits for five minutes; nobody waits more than ten.
    for (wait, ms) in [("", 300_000), ("&wait=0s", 300_000), ("&wait=1h", 600_000)] {
        let id = world.send("GET", &format!("kv/p/?recurse&index={index}{wait}"), "");
        world.pass(ms - 1);
        assert_eq!(world.response(id), None, "{wait}");
        world.pass(1);
        assert!(world.response(id).is_some(), "{wait}");
    }
    // An index of the past, or none, does not wait.
    for index in ["0", "1"] {
        world.ask("GET", &format!("kv/p/?recurse&index={index}"), "");
    }
}

#[test]
fn the_index_of_a_prefix_falls_when_its_tombstones_go() {
    let mut world = World::new();
    world.put("kv/p/a", "1");
    world.put("kv/p/b", "1");
    let low = world.get("kv/p/b")[0]["ModifyIndex"].as_u64();
    world.ask("DELETE", "kv/p/b", "");
    let high = world.ask("GET", "kv/p/?keys", "").index();
    assert!(high > low);
    world.pass(15 * 60 * 1000 - 1);
    assert_eq!(world.ask("GET", "kv/p/?keys", "").index(), high);
    world.pass(30_000);
    assert!(world.ask("GET", "kv/p/?keys", "").index() < high);
}

#[test]
fn output_alone_is_told_late() {
    let mut world = World::new();
    world.put("agent/check/register", r#"{"Name":"c","TTL":"1h","Status":"passing"}"#);
    world.put("agent/check/pass/c?note=news", "");
    assert_eq!(world.status("c").1, "");
    assert_eq!(world.get("agent/checks")["c"]["Output"], "news");
    world.pass(150_000);
    assert_eq!(world.status("c").1, "news");
}

#[test]
fn a_watch_posts_what_there_is_and_then_what_changes_but_one_at_a_time() {
    let mut world = World::new();
    let now = world.now();
    let (prefix, _) =
        world.consul.add_watch(now, &Watch::KeyPrefix("bq/".into()), "http://h/bq", &mut world.out);
    assert_eq!(world.post().unwrap().body, "null\n");
    world.put("kv/bq/1?flags=3", "x");
    assert_eq!(world.post(), None, "the first post is not done");
    world.put("kv/bq/2", "y");
    world.next = world.consul.posted(now, prefix, &mut world.out);
    let post = world.post().unwrap();
    let entries: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!((post.url.as_str(), entries.as_array().unwrap().len()), ("http://h/bq", 2));
    assert_eq!(
        entries[0].to_string().len(),
        r#"{"Key":"bq/1","CreateIndex":13,"ModifyIndex":13,"LockIndex":0,"Flags":3,"Value":"eA==","Session":""}"#.len()
    );
    world.next = world.consul.posted(now, prefix, &mut world.out);
    world.put("kv/bq/2", "y");
    world.put("kv/other", "y");
    assert_eq!(world.post(), None);
    world.ask("DELETE", "kv/bq/?recurse", "");
    assert_eq!(world.post().unwrap().body, "null\n");

    let service = Watch::Service("ios".into());
    let _ = world.consul.add_watch(now, &service, "http://h/", &mut world.out);
    let post = world.post().unwrap();
    assert_eq!(post.body, "[]\n");
    world.next = world.consul.posted(now, post.watch, &mut world.out);
    world.put("agent/service/register", r#"{"ID":"2","Name":"ios","Check":{"TTL":"1h"}}"#);
    let post: Value = serde_json::from_slice(&world.post().unwrap().body).unwrap();
    assert_eq!(post[0]["Checks"][1]["Definition"]["Interval"], "0s");
}

#[test]
fn a_dead_agent_loses_its_sessions() {
    let mut world = World::new();
    let other = world.consul.add_agent("ssu2", "127.0.1.2");
    let session = world.session(r#"{"Node":"ssu2","LockDelay":"0s"}"#);
    world.put(&format!("kv/leader?acquire={session}"), "ssu2");
    let now = world.now();
    world.next = world.consul.set_alive(now, other, false, &mut world.out);
    assert_eq!(world.get("session/node/ssu2"), Value::Array(Vec::new()));
    assert_eq!(world.get("kv/leader")[0]["Session"], Value::Null);
    assert_eq!(world.get("agent/members")[1]["Status"], 4);
}

#[test]
fn the_same_requests_have_the_same_answers() {
    let story = || {
        let mut world = World::new();
        let session = world.session("");
        world.put(&format!("kv/a?acquire={session}"), "x");
        let bodies: Vec<Bytes> = ["session/list", "kv/?recurse", "catalog/nodes", "agent/self"]
            .map(|target| world.ask("GET", target, "").body)
            .into();
        bodies
    };
    assert_eq!(story(), story());
}
