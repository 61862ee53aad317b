//! The double and the real Consul side by side: the same requests go to both, and their responses are
//! compared, except for the ids that each generates.

#![expect(
    clippy::disallowed_methods,
    reason = "the real Consul lives in real time, so the test does too"
)]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use hax_core::base::time::{Instant as Mono, Now, WallClock};
use hax_sim::consul::{Consul, Output, Request};
use hax_sim::real::client::{self, Reply};
use hax_sim::real::{Options, RealConsul};
use serde_json::Value;

pub(crate) const NODE: &str = "ssu1";
/// The time within which the real agent completes its own work.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// The reads that are compared after each write, with their indexes.
pub(crate) const READS: &[&str] = &[
    "kv/?keys",
    "kv/p/?keys",
    "kv/p/?keys&separator=/",
    "kv/p?keys&separator=/",
    "kv/p/x/?recurse",
    "kv/p?recurse",
    "kv/p/a",
    "kv/p/b",
    "kv/p/x/a",
    "kv/none",
    "kv/none/?keys",
    "session/list",
    "session/node/ssu1",
    "session/node/x1",
    "catalog/nodes",
    "catalog/services",
    "catalog/node/ssu1",
    "catalog/node/x1",
    "catalog/node/x2",
    "catalog/service/A",
    "catalog/service/B",
    "catalog/service/none",
    "health/node/ssu1",
    "health/node/x1",
    "health/service/A",
    "health/service/A?passing",
    "health/service/B",
    "health/service/none",
    "health/checks/A",
    "health/state/any",
    "health/state/passing",
    "health/state/critical",
    "health/state/bogus",
];

/// The ids that one side has generated.
#[derive(Default)]
struct Names {
    /// UUIDs in order of their first appearance.
    uuids: Vec<String>,
}

impl Names {
    /// Returns the text with UUIDs numbered and other numbers masked.
    fn mask(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(uuid) = rest.get(..36).filter(|text| is_uuid(text)) {
                let known = self.uuids.iter().position(|known| known == uuid);
                let n = known.unwrap_or_else(|| {
                    self.uuids.push(uuid.to_owned());
                    self.uuids.len() - 1
                });
                out += &format!("<{n}>");
                rest = &rest[36..];
                continue;
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
        out
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

/// Both sides, and the known relation between their ids.
pub(crate) struct Pair {
    /// The real agents, in the order of the double's agents.
    pub(crate) reals: Vec<RealConsul>,
    pub(crate) double: Consul,
    /// The agent that receives the requests.
    pub(crate) at: usize,
    names: [Names; 2],
    /// The real one's indexes and the double's indexes of the same writes: an order-preserving relation.
    indexes: BTreeMap<u64, u64>,
    now: Mono,
    next: u64,
    /// The requests so far, for the message of a failure.
    story: Vec<String>,
}

fn in_usual_order(real: &RealConsul) -> bool {
    let reply = real.request("GET", &format!("/v1/catalog/node/{NODE}"), b"").expect("an answer");
    let found: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let index = |value: &Value| value["ModifyIndex"].as_u64();
    index(&found["Node"]) > index(&found["Services"]["consul"])
}

/// A request. `{0}`, `{1}`, … are sessions, and `{@KEY}` is the `ModifyIndex` of a key.
pub(crate) struct Ask<'a>(pub(crate) &'a str, pub(crate) &'a str, pub(crate) &'a str);

impl Pair {
    pub(crate) fn start() -> Self {
        // The registrations of an agent at its start come in two orders. The double has the usual one, in
        // which the node comes last.
        let real = (0..10)
            .map(|_| RealConsul::start(Options::new(NODE)).expect("Consul starts"))
            .find(in_usual_order)
            .expect("one in ten starts in the usual order");
        Self::of(vec![real], Consul::new(NODE).pretty())
    }

    pub(crate) fn of(reals: Vec<RealConsul>, double: Consul) -> Self {
        Self {
            reals,
            double,
            at: 0,
            names: Default::default(),
            indexes: BTreeMap::new(),
            now: Mono::from_micros(1),
            next: 0,
            story: Vec::new(),
        }
    }

    pub(crate) fn real(&self) -> &RealConsul {
        &self.reals[self.at]
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.now, wall: WallClock(0) }
    }

    /// Lets virtual time pass, in the double only.
    pub(crate) fn pass(&mut self, d: Duration) -> Vec<Output> {
        self.now = self.now.after(d);
        let mut out = Vec::new();
        let _ = self.double.tick(self.now(), &mut out);
        out
    }

    /// Sends a request to the double. Returns `None` if the response has to wait.
    ///
    /// Other responses that the request releases are appended.
    pub(crate) fn ask_double(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
        others: &mut Vec<u64>,
    ) -> (u64, Option<Reply>) {
        self.next += 1;
        let id = self.next;
        let mut out = Vec::new();
        let mut request = Request::new(id, method, target, body.to_owned());
        request.agent = self.at;
        let _ = self.double.handle(self.now(), request, &mut out);
        let mut reply = None;
        for output in out {
            let Output::Response(response) = output else { continue };
            if response.id != id {
                others.push(response.id);
                continue;
            }
            let headers = response.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone()));
            reply = Some(Reply {
                status: response.status,
                headers: headers.collect(),
                body: response.body.to_vec(),
            });
        }
        (id, reply)
    }

    pub(crate) fn fill(&mut self, side: usize, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out += before;
            let (name, tail) = after.split_once('}').unwrap_or(("", after));
            if let Ok(n) = name.parse::<usize>() {
                out += self.names[side].uuids.get(n).map_or("absent", String::as_str);
                rest = tail;
            } else if let Some(key) = name.strip_prefix('@') {
                out += &self.modify_index(side, key).to_string();
                rest = tail;
            } else {
                out.push('{');
                rest = after;
            }
        }
        out + rest
    }

    fn modify_index(&mut self, side: usize, key: &str) -> u64 {
        let target = format!("/v1/kv/{key}");
        let reply = match side {
            0 => self.real().request("GET", &target, b"").ok(),
            _ => self.ask_double("GET", &target, "", &mut Vec::new()).1,
        };
        let found = reply.and_then(|r| serde_json::from_slice::<Value>(&r.body).ok());
        found.and_then(|v| v[0]["ModifyIndex"].as_u64()).unwrap_or(0)
    }

    /// Returns the number that stands for the latest UUID on both sides.
    pub(crate) fn last_uuid(&self) -> usize {
        self.names[0].uuids.len() - 1
    }

    /// Sends a request to both and compares the responses.
    pub(crate) fn ask(&mut self, ask: &Ask<'_>) -> Reply {
        let Ask(method, target, body) = ask;
        self.story.push(format!("{method} {target} {body}"));
        let target = format!("/v1/{target}");
        let (real_target, real_body) = (self.fill(0, &target), self.fill(0, body));
        let (our_target, our_body) = (self.fill(1, &target), self.fill(1, body));
        let theirs = self.real().request(method, &real_target, real_body.as_bytes());
        let theirs = theirs.expect("Consul answers");
        let (_, ours) = self.ask_double(method, &our_target, &our_body, &mut Vec::new());
        let ours = ours.expect("the double answers at once");
        if let Err(difference) = self.compare(&theirs, &ours) {
            self.fail(&difference, &theirs, &ours);
        }
        theirs
    }

    /// Sends a request to both, and waits until the real agent has synced to the servers.
    pub(crate) fn ask_agent(&mut self, ask: &Ask<'_>) {
        self.ask(ask);
        self.settled("health/node/ssu1");
        self.settled("catalog/node/ssu1");
    }

    /// Waits until both sides answer a read in the same way.
    pub(crate) fn settled(&mut self, read: &str) {
        let target = format!("/v1/{read}");
        let deadline = Instant::now() + SETTLE;
        loop {
            let theirs = self.real().request("GET", &target, b"").expect("Consul answers");
            let ours = self.ask_double("GET", &target, "", &mut Vec::new()).1.expect("a read");
            // The first comparison does not record indexes: the real agent may still be syncing.
            let alike = self.shape(0, &theirs) == self.shape(1, &ours);
            if alike && self.compare(&theirs, &ours).is_ok() {
                return;
            }
            if Instant::now() > deadline {
                self.fail("they do not become alike", &theirs, &ours);
            }
            thread::sleep(LOOK);
        }
    }

    /// Compares the responses and indexes of all reads.
    pub(crate) fn compare_reads(&mut self) {
        for read in READS {
            self.ask(&Ask("GET", read, ""));
            self.story.pop();
        }
    }

    pub(crate) fn fail(&self, why: &str, theirs: &Reply, ours: &Reply) -> ! {
        let story = &self.story[self.story.len().saturating_sub(30)..];
        panic!(
            "{why}\nafter:\n  {}\nreal: {} {:?}\n{}\ndouble: {} {:?}\n{}",
            story.join("\n  "),
            theirs.status,
            theirs.headers,
            theirs.text(),
            ours.status,
            ours.headers,
            ours.text()
        );
    }

    /// Returns status, headers and body without the parts that may differ.
    ///
    /// The lines are sorted, as lists are in the order of ids.
    fn shape(&mut self, side: usize, reply: &Reply) -> (u16, Vec<String>, Vec<String>) {
        let names = &mut self.names[side];
        let skipped = |name: &str| {
            ["date", "content-length", "transfer-encoding", "vary", "connection", "x-consul-index"]
                .contains(&name)
        };
        let headers = reply.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v));
        let masked = |n: &str, v: &str| match n {
            "x-consul-lastcontact" => mask_numbers(v),
            _ => v.to_owned(),
        };
        let headers = headers.filter(|(n, _)| !skipped(n));
        let headers = headers.map(|(n, v)| format!("{n}: {}", masked(&n, v)));
        let mut headers: Vec<String> = headers.collect();
        headers.sort();
        let text = names.mask(&reply.text());
        let mut lines: Vec<String> =
            text.lines().map(|line| mask_numbers(line.trim_end_matches(','))).collect();
        lines.sort();
        (reply.status, headers, lines)
    }

    pub(crate) fn compare(&mut self, theirs: &Reply, ours: &Reply) -> Result<(), String> {
        let (real, double) = (self.shape(0, theirs), self.shape(1, ours));
        if real != double {
            let only = |a: &[String], b: &[String]| {
                a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
            };
            return Err(format!(
                "they differ: real only {:?}, double only {:?}; headers {:?} and {:?}",
                only(&real.2, &double.2),
                only(&double.2, &real.2),
                real.1,
                double.1
            ));
        }
        let json = |reply: &Reply| serde_json::from_slice::<Value>(&reply.body).ok();
        if let (Some(real), Some(double)) = (json(theirs), json(ours)) {
            self.compare_json(&real, &double, "")?;
        }
        match (theirs.index(), ours.index()) {
            (Some(real), Some(double)) => self.relate(real, double, "X-Consul-Index"),
            (None, None) => Ok(()),
            other => Err(format!("indexes {other:?}")),
        }
    }

    fn compare_json(&mut self, real: &Value, double: &Value, at: &str) -> Result<(), String> {
        match (real, double) {
            (Value::Array(a), Value::Array(b)) => {
                let (mut a, mut b) = (a.clone(), b.clone());
                // Sessions are in the order of their ids.
                if a.iter().all(|v| v["LockDelay"].is_u64()) {
                    a.sort_by_key(|v| v["CreateIndex"].as_u64());
                    b.sort_by_key(|v| v["CreateIndex"].as_u64());
                }
                // Tags are in no order.
                if !at.is_empty() && a.iter().chain(&b).all(Value::is_string) {
                    a.sort_by_key(ToString::to_string);
                    b.sort_by_key(ToString::to_string);
                }
                if a.len() != b.len() {
                    return Err(format!("{} and {} elements at {at}", a.len(), b.len()));
                }
                let mut pairs = a.iter().zip(&b).enumerate();
                pairs.try_for_each(|(i, (a, b))| self.compare_json(a, b, &format!("{at}[{i}]")))
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.keys().ne(b.keys()) {
                    return Err(format!("other fields at {at}"));
                }
                let mut pairs = a.iter().zip(b);
                pairs.try_for_each(|((key, a), (_, b))| {
                    let at = format!("{at}.{key}");
                    match (key.as_str(), a.as_u64(), b.as_u64()) {
                        ("CreateIndex" | "ModifyIndex", Some(a), Some(b)) => self.relate(a, b, &at),
                        // The port is that of the server itself.
                        ("Port" | "ServicePort", _, Some(8300)) => Ok(()),
                        _ => self.compare_json(a, b, &at),
                    }
                })
            }
            (Value::String(a), Value::String(b)) => {
                let (a, b) = (self.names[0].mask(a), self.names[1].mask(b));
                let told = a.contains("modify index");
                if a == b || (told && mask_numbers(&a) == mask_numbers(&b)) {
                    return Ok(());
                }
                Err(format!("{a:?} and {b:?} at {at}"))
            }
            _ if real == double => Ok(()),
            _ => Err(format!("{real} and {double} at {at}")),
        }
    }

    /// Records that two indexes stand for the same write. A later write must have a higher index on both
    /// sides.
    fn relate(&mut self, real: u64, double: u64, at: &str) -> Result<(), String> {
        let before = self.indexes.range(..real).next_back().map(|(_, d)| *d);
        let after = self.indexes.range(real + 1..).next().map(|(_, d)| *d);
        let known = self.indexes.get(&real).copied();
        let fits = match known {
            Some(known) => known == double,
            None => before.is_none_or(|b| b < double) && after.is_none_or(|a| double < a),
        };
        if !fits {
            return Err(format!(
                "index {real} and {double} at {at}: known {known:?}, neighbours {before:?} {after:?}"
            ));
        }
        self.indexes.insert(real, double);
        Ok(())
    }

    /// Returns whether the object of a read exists.
    pub(crate) fn is_there(&mut self, read: &str) -> bool {
        let target = self.fill(1, &format!("/v1/{read}"));
        let reply = self.ask_double("GET", &target, "", &mut Vec::new()).1;
        reply.is_some_and(|reply| reply.status == 200)
    }

    /// Sends each read as a blocking query, executes a request, and compares the woken queries.
    pub(crate) fn compare_wakes(&mut self, reads: &[&str], ask: &Ask<'_>) {
        let wait = Duration::from_millis(1500);
        let addr = self.real().http_addr;
        let mut waiting = Vec::new();
        for read in reads {
            let targets = [0, 1].map(|side| self.fill(side, &format!("/v1/{read}")));
            let index = |reply: Option<Reply>| reply.and_then(|r| r.index()).expect("an index");
            let theirs = index(self.real().request("GET", &targets[0], b"").ok());
            let ours = index(self.ask_double("GET", &targets[1], "", &mut Vec::new()).1);
            let sign = if read.contains('?') { '&' } else { '?' };
            let blocking = format!("{}{sign}index={ours}&wait=1500ms", targets[1]);
            let (id, reply) = self.ask_double("GET", &blocking, "", &mut Vec::new());
            assert_eq!(reply, None, "{read} has no news");
            let target = format!("{}{sign}index={theirs}&wait=1500ms", targets[0]);
            let thread = thread::spawn(move || {
                let begin = Instant::now();
                let reply = client::request(addr, SETTLE, "GET", &target, b"");
                (begin.elapsed(), reply.expect("Consul answers"))
            });
            waiting.push((*read, id, thread));
        }
        // All queries have to wait before the change comes.
        thread::sleep(Duration::from_millis(300));
        let Ask(method, target, body) = ask;
        self.story.push(format!("{method} {target} {body}, with reads waiting"));
        let target = format!("/v1/{target}");
        let (real_target, real_body) = (self.fill(0, &target), self.fill(0, body));
        let (our_target, our_body) = (self.fill(1, &target), self.fill(1, body));
        let theirs = self.real().request(method, &real_target, real_body.as_bytes());
        let theirs = theirs.expect("Consul answers");
        let mut woken = Vec::new();
        let (_, ours) = self.ask_double(method, &our_target, &our_body, &mut woken);
        let ours = ours.expect("a write is answered");
        if let Err(difference) = self.compare(&theirs, &ours) {
            self.fail(&difference, &theirs, &ours);
        }
        let mut differ = Vec::new();
        for (read, id, thread) in waiting {
            let (took, _) = thread.join().expect("the reader ends");
            let (real, double) = (took < wait, woken.contains(&id));
            if real != double {
                differ.push(format!("{read}: real {real} ({took:?}), double {double}"));
            }
        }
        assert!(differ.is_empty(), "woken by {:?}: {differ:#?}", self.story.last());
        // The other queries time out, and their responses are ignored.
        let late = self.pass(Duration::from_secs(2));
        assert_eq!(late.len(), reads.len() - woken.len(), "each is answered once");
    }
}

/// Masks indexes and ports, which are compared elsewhere.
fn mask_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() && out.ends_with('#') {
            continue;
        }
        out.push(if c.is_ascii_digit() { '#' } else { c });
    }
    out
}
