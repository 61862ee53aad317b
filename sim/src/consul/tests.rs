//! Tests of delays, which take too long for a test against the real Consul. The delays were measured on the
//! real one.

mod apart;

use std::time::Duration;

use bytes::Bytes;
use hax_core::base::time::{Instant, Next, Now, WallClock};
use serde_json::Value;

use super::{Consul, Output, Post, Request, Response, Watch};

struct Fixture {
    consul: Consul,
    now: Instant,
    out: Vec<Output>,
    next: Next,
    ids: u64,
}

impl Fixture {
    fn new() -> Self {
        let now = Instant::from_micros(0);
        Self { consul: Consul::new("ssu1"), now, out: Vec::new(), next: Next::Wait, ids: 0 }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: WallClock(0) }
    }

    /// Sends a request. Returns the id that its response will have.
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
            Output::Post(_) | Output::Retry(_) => None,
        }
    }

    fn post(&mut self) -> Option<Post> {
        let found = self.out.iter().position(|o| matches!(o, Output::Post(_)))?;
        match self.out.remove(found) {
            Output::Post(post) => Some(post),
            Output::Response(_) | Output::Retry(_) => None,
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
    let mut fixture = Fixture::new();
    fixture
        .put("agent/service/register", r#"{"Name":"hax","Check":{"TTL":"1s","Status":"passing"}}"#);
    let session = fixture.session(r#"{"Checks":["service:hax"],"LockDelay":"200ms"}"#);
    assert_eq!(fixture.put(&format!("kv/leader?acquire={session}"), "ssu1"), "true");
    fixture.pass(900);
    fixture.put("agent/check/pass/service:hax?note=well", "");
    fixture.pass(999);
    assert_eq!(fixture.status("service:hax").0, "passing");
    fixture.pass(1);
    let (status, output) = fixture.status("service:hax");
    assert_eq!(status, "critical");
    assert_eq!(output, "TTL expired (last output before timeout follows): well");
    assert_eq!(fixture.get(&format!("session/info/{session}")), Value::Array(Vec::new()));
    assert_eq!(fixture.get("kv/leader")[0]["Session"], Value::Null);
    // The lock delay applies, and its end does not wake a blocking query.
    let other = fixture.session("");
    assert_eq!(fixture.put(&format!("kv/leader?acquire={other}"), "ssu2"), "false");
    fixture.pass(199);
    assert_eq!(fixture.put(&format!("kv/leader?acquire={other}"), "ssu2"), "false");
    fixture.pass(1);
    assert_eq!(fixture.put(&format!("kv/leader?acquire={other}"), "ssu2"), "true");
}

#[test]
fn a_session_lives_twice_the_time_it_asked_for() {
    let mut fixture = Fixture::new();
    let session = fixture.session(r#"{"TTL":"10s","LockDelay":"0s","Behavior":"delete"}"#);
    fixture.put(&format!("kv/a?acquire={session}"), "x");
    fixture.pass(15_000);
    fixture.put(&format!("session/renew/{session}"), "");
    fixture.pass(19_999);
    assert_eq!(fixture.ask("GET", "kv/a", "").status, 200);
    fixture.pass(1);
    assert_eq!(fixture.ask("GET", "kv/a", "").status, 404);
    let renewed = fixture.ask("PUT", &format!("session/renew/{session}"), "");
    assert_eq!(renewed.status, 404);
}

#[test]
fn a_blocking_query_is_answered_by_news_or_by_time() {
    let mut fixture = Fixture::new();
    fixture.put("kv/p/a", "1");
    let index = fixture.ask("GET", "kv/p/?recurse", "").index().unwrap();
    let target = format!("kv/p/?recurse&index={index}&wait=1m");
    let news = fixture.send("GET", &target, "");
    let hung_up = fixture.send("GET", &target, "");
    fixture.consul.cancel(hung_up);
    fixture.put("kv/q", "1");
    fixture.put("kv/p/a", "1");
    assert_eq!(fixture.response(news), None);
    fixture.put("kv/p/a", "2");
    assert!(fixture.response(news).unwrap().index() > Some(index));
    assert_eq!(fixture.consul.waiting(), 0);

    let index = fixture.ask("GET", "kv/p/?recurse", "").index().unwrap();
    let quiet = fixture.send("GET", &format!("kv/p/?recurse&index={index}&wait=1m"), "");
    let at = fixture.now.after(Duration::from_secs(60));
    assert_eq!(fixture.next, Next::WaitUntil { at, why: "blocking query" });
    fixture.pass(60_000);
    assert_eq!(fixture.response(quiet).unwrap().index(), Some(index));
    // The default wait is five minutes, and the maximum is ten.
    for (wait, ms) in [("", 300_000), ("&wait=0s", 300_000), ("&wait=1h", 600_000)] {
        let id = fixture.send("GET", &format!("kv/p/?recurse&index={index}{wait}"), "");
        fixture.pass(ms - 1);
        assert_eq!(fixture.response(id), None, "{wait}");
        fixture.pass(1);
        assert!(fixture.response(id).is_some(), "{wait}");
    }
    // A query with a past index, or with none, does not wait.
    for index in ["0", "1"] {
        fixture.ask("GET", &format!("kv/p/?recurse&index={index}"), "");
    }
}

#[test]
fn the_index_of_a_prefix_falls_when_its_tombstones_go() {
    let mut fixture = Fixture::new();
    fixture.put("kv/p/a", "1");
    fixture.put("kv/p/b", "1");
    let low = fixture.get("kv/p/b")[0]["ModifyIndex"].as_u64();
    fixture.ask("DELETE", "kv/p/b", "");
    let high = fixture.ask("GET", "kv/p/?keys", "").index();
    assert!(high > low);
    fixture.pass(15 * 60 * 1000 - 1);
    assert_eq!(fixture.ask("GET", "kv/p/?keys", "").index(), high);
    fixture.pass(30_000);
    assert!(fixture.ask("GET", "kv/p/?keys", "").index() < high);
}

#[test]
fn output_alone_is_told_late() {
    let mut fixture = Fixture::new();
    fixture.put("agent/check/register", r#"{"Name":"c","TTL":"1h","Status":"passing"}"#);
    fixture.put("agent/check/pass/c?note=news", "");
    assert_eq!(fixture.status("c").1, "");
    assert_eq!(fixture.get("agent/checks")["c"]["Output"], "news");
    fixture.pass(150_000);
    assert_eq!(fixture.status("c").1, "news");
}

#[test]
fn a_watch_posts_what_there_is_and_then_what_changes_but_one_at_a_time() {
    let mut fixture = Fixture::new();
    let now = fixture.now();
    let (prefix, _) = fixture.consul.add_watch(
        now,
        &Watch::KeyPrefix("bq/".into()),
        "http://h/bq",
        &mut fixture.out,
    );
    assert_eq!(fixture.post().unwrap().body, "null\n");
    fixture.put("kv/bq/1?flags=3", "x");
    assert_eq!(fixture.post(), None, "the first post is not done");
    fixture.put("kv/bq/2", "y");
    fixture.next = fixture.consul.on_post_done(now, prefix, &mut fixture.out);
    let post = fixture.post().unwrap();
    let entries: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!((post.url.as_str(), entries.as_array().unwrap().len()), ("http://h/bq", 2));
    assert_eq!(
        entries[0].to_string().len(),
        r#"{"Key":"bq/1","CreateIndex":13,"ModifyIndex":13,"LockIndex":0,"Flags":3,"Value":"eA==","Session":""}"#.len()
    );
    fixture.next = fixture.consul.on_post_done(now, prefix, &mut fixture.out);
    fixture.put("kv/bq/2", "y");
    fixture.put("kv/other", "y");
    assert_eq!(fixture.post(), None);
    fixture.ask("DELETE", "kv/bq/?recurse", "");
    assert_eq!(fixture.post().unwrap().body, "null\n");

    let service = Watch::Service("ios".into());
    let _ = fixture.consul.add_watch(now, &service, "http://h/", &mut fixture.out);
    let post = fixture.post().unwrap();
    assert_eq!(post.body, "[]\n");
    fixture.next = fixture.consul.on_post_done(now, post.watch, &mut fixture.out);
    fixture.put("agent/service/register", r#"{"ID":"2","Name":"ios","Check":{"TTL":"1h"}}"#);
    let post: Value = serde_json::from_slice(&fixture.post().unwrap().body).unwrap();
    assert_eq!(post[0]["Checks"][1]["Definition"]["Interval"], "0s");
}

#[test]
fn a_dead_agent_loses_its_sessions() {
    let mut fixture = Fixture::new();
    let other = fixture.consul.add_agent("ssu2", "127.0.1.2");
    let session = fixture.session(r#"{"Node":"ssu2","LockDelay":"0s"}"#);
    fixture.put(&format!("kv/leader?acquire={session}"), "ssu2");
    let now = fixture.now();
    fixture.next = fixture.consul.set_alive(now, other, false, &mut fixture.out);
    assert_eq!(fixture.get("session/node/ssu2"), Value::Array(Vec::new()));
    assert_eq!(fixture.get("kv/leader")[0]["Session"], Value::Null);
    assert_eq!(fixture.get("agent/members")[1]["Status"], 4);
}

#[test]
fn the_same_requests_have_the_same_answers() {
    let story = || {
        let mut fixture = Fixture::new();
        let session = fixture.session("");
        fixture.put(&format!("kv/a?acquire={session}"), "x");
        let bodies: Vec<Bytes> = ["session/list", "kv/?recurse", "catalog/nodes", "agent/self"]
            .map(|target| fixture.ask("GET", target, "").body)
            .into();
        bodies
    };
    assert_eq!(story(), story());
}
