//! A Consul with wrong responses: each is logged, causes no damage, and its effect ends with it.

use std::sync::Arc;

use hax_sim::real::client::{self, Reply};
use serde_json::Value;

use crate::daemon::double::consul;
use crate::daemon::front::{Front, Lie, Mode, honest, response};
use crate::daemon::{Ham, Hax, LIMIT, Place, fid, until};

/// The processes that report events, request states, and request an entrypoint.
const TELLER: u64 = 2;
const CURIOUS: u64 = 3;
const ASKER: u64 = 4;

/// A logged fact, and a part of its line.
type Says = (&'static str, &'static str);

struct Fixture {
    place: Place,
    consul: std::net::SocketAddr,
    front: Front,
    hax: Hax,
    teller: Ham,
    curious: Ham,
    asker: Ham,
}

impl Fixture {
    fn new() -> Self {
        let (place, consul) = (Place::new(), consul());
        let front = Front::new(consul);
        let mut flags = place.flags(front.address);
        flags.extend(["--consul-answer-max", "256KiB"].map(str::to_owned));
        let hax = Hax::start(&flags);
        place.ready();
        let mut linked = [TELLER, CURIOUS].map(|key| place.ham(key));
        linked.iter_mut().for_each(|ham| drop(ham.entrypoint()));
        let [teller, curious] = linked;
        let asker = place.ham(ASKER);
        Self { place, consul, front, hax, teller, curious, asker }
    }

    fn key(&self, key: u64) -> Value {
        let target = format!("/v1/kv/processes/{}?raw", fid(key));
        let body = client::request(self.consul, LIMIT, "GET", &target, b"").unwrap().body;
        serde_json::from_slice(&body).unwrap()
    }

    /// Changes a row in every table, so that hax reads all tables again.
    fn stir(&self, word: &str) {
        let put = |target: &str, body: &str| {
            let reply =
                client::request(self.consul, LIMIT, "PUT", target, body.as_bytes()).unwrap();
            assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        };
        put("/v1/kv/m0conf/profiles/pools-of-nobody", &format!("\"{word}\""));
        let state = r#"{"state": "M0_CONF_HA_PROCESS_STARTING", "type": "M0_CONF_HA_PROCESS_M0D"}"#;
        put(&format!("/v1/kv/processes/{}", fid(9)), &state.replace("ING", word));
        put(
            &format!("/v1/agent/check/{}/service:3", if word == "ED" { "fail" } else { "pass" }),
            "",
        );
    }

    /// Checks that all requests made during the wrong responses are logged and succeed after the end of
    /// those.
    fn endures(mut self, name: &str, lie: Arc<Lie>, says: &[Says]) {
        self.front.set(Mode::Change(lie));
        self.stir("ED");
        self.teller.say("process stopping");
        self.curious.say(&format!("nvec-get {}", fid(3)));
        self.asker.say("entrypoint");
        for (fact, text) in says {
            until(&format!("{name}: hax says {fact}: {text}"), || {
                self.hax.facts(fact).iter().any(|line| line.contains(text))
            });
        }
        self.front.set(Mode::Pass);
        self.stir("ING");
        self.asker.has_entrypoint();
        self.curious.hears("states", |said| said["id_of_get"].as_u64().is_some_and(|id| id != 0));
        assert_eq!(self.teller.delivered(), 0, "{name}");
        assert_eq!(self.key(TELLER)["state"], "M0_CONF_HA_PROCESS_STOPPING", "{name}");
        self.teller.say("process stopped");
        assert_eq!(self.teller.delivered(), 1, "{name}");
        assert_eq!(self.key(TELLER)["state"], "M0_CONF_HA_PROCESS_STOPPED", "{name}");
        self.place.ready();
        until(&format!("{name}: the truth is known again"), || {
            self.curious.say(&format!("nvec-get {}", fid(3)));
            let answer = |said: &Value| said["id_of_get"].as_u64().is_some_and(|id| id != 0);
            self.curious.hears("states", answer)["notes"][0]["state"] == "ONLINE"
        });
    }
}

fn says(status: u16, body: &'static [u8]) -> Arc<Lie> {
    Arc::new(move |_, reply| indexed(status, reply.index(), body))
}

fn indexed(status: u16, index: Option<u64>, body: &[u8]) -> Vec<u8> {
    let index = index.map(|index| index.to_string());
    let index = index.as_deref().map(|index| ("X-Consul-Index", index));
    response(status, index.as_slice(), body)
}

/// Changes the body of the response.
fn changes(change: fn(&[u8]) -> Vec<u8>) -> Arc<Lie> {
    Arc::new(move |_, reply| indexed(reply.status, reply.index(), &change(&reply.body)))
}

fn replaces(what: &'static str, by: &'static str) -> Arc<Lie> {
    Arc::new(move |_, reply| {
        indexed(reply.status, reply.index(), reply.text().replace(what, by).as_bytes())
    })
}

/// Changes the index of the response.
fn counts(index: &'static str) -> Arc<Lie> {
    Arc::new(move |_, reply| {
        let header = Some(("X-Consul-Index", index)).filter(|_| !index.is_empty());
        response(reply.status, header.as_slice(), &reply.body)
    })
}

/// Replaces the bytes of the response.
fn raw(make: fn(&Reply) -> Vec<u8>) -> Arc<Lie> {
    Arc::new(move |_, reply| make(&reply))
}

/// Changes the responses to transactions alone. Consul executes the transactions.
fn of_transactions(status: u16, body: &'static str) -> Arc<Lie> {
    Arc::new(move |target, reply| {
        if target.starts_with("/v1/txn") {
            response(status, &[], body.as_bytes())
        } else {
            honest(&reply)
        }
    })
}

const NOT_UNDERSTOOD: [Says; 3] = [
    ("RoundFailed", "not understood"),
    ("ConsulBadAnswer", "processes"),
    ("ConsulBadAnswer", "transaction"),
];

fn about_bodies() -> Vec<(&'static str, Arc<Lie>, Vec<Says>)> {
    let bad = NOT_UNDERSTOOD.to_vec();
    let cut = |body: &[u8]| body[..body.len() * 2 / 3].to_vec();
    let open = |body: &[u8]| body[..body.len().saturating_sub(1)].to_vec();
    let double = |body: &[u8]| [body, body].concat();
    vec![
        ("a page of HTML", says(200, b"<html>It works!</html>"), bad.clone()),
        ("nothing", says(200, b""), bad.clone()),
        ("an object", says(200, b"{\"a\": [1]}"), vec![NOT_UNDERSTOOD[0], NOT_UNDERSTOOD[1]]),
        ("a list of numbers", says(200, b"[1, 2]"), bad.clone()),
        ("a list of empty objects", says(200, b"[{}]"), bad.clone()),
        ("a list that is cut off", changes(cut), bad.clone()),
        ("a list without its end", changes(open), bad.clone()),
        ("everything twice", changes(double), bad.clone()),
        ("keys that are numbers", replaces("\"Key\":\"", "\"Key\":7,\"x\":\""), bad.clone()),
        (
            "indexes that are texts",
            replaces("\"ModifyIndex\":", "\"ModifyIndex\":\"1\",\"x\":"),
            bad,
        ),
        (
            "no base64",
            replaces("\"Value\":\"", "\"Value\":\"!"),
            vec![
                ("RoundFailed", "no resource manager"),
                ("ConsulBadAnswer", "m0conf"),
                ("ConsulBadAnswer", "processes"),
            ],
        ),
        ("deep nesting", says(200, DEEP.as_bytes()), NOT_UNDERSTOOD[..2].to_vec()),
        (
            "words from the future",
            Arc::new(|target, reply| {
                let about = target.starts_with("/v1/txn") || target.contains("/processes/");
                if !about {
                    return honest(&reply);
                }
                replaces("\"ModifyIndex\":", "\"ModifyIndex\":9000000000000000")(target, reply)
            }),
            // The event may be written before the wrong response is read or after it has ended: that is
            // random.
            vec![("ProcessEvent", "STOPPING")],
        ),
    ]
}

const DEEP: &str = const {
    const BYTES: [u8; 10_000] = [b'['; 10_000];
    match str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

fn about_answers() -> Vec<(&'static str, Arc<Lie>, Vec<Says>)> {
    let broken = vec![("ConsulFailed", "the connection broke"), ("RoundFailed", "does not answer")];
    let large = |_: &Reply| response(200, &[], &[b' '; 300 << 10]);
    let endless = |_: &Reply| {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        [head, &chunk.repeat(64)].concat().into_bytes()
    };
    let promise = |reply: &Reply| {
        let said = String::from_utf8(honest(reply)).unwrap();
        said.replace("Content-Length: ", "Content-Length: 9").into_bytes()
    };
    let too_large = vec![("ConsulFailed", "the answer is too large")];
    let reset = vec![("ReplicaReset", "reading anew")];
    vec![
        ("no HTTP", raw(|_| b"220 mail ESMTP\r\n".to_vec()), broken.clone()),
        ("silence", raw(|_| Vec::new()), broken.clone()),
        ("less than is promised", raw(promise), broken),
        ("too much", raw(large), too_large.clone()),
        ("too much without saying so", raw(endless), too_large),
        ("another place", says(301, b""), vec![("ConsulFailed", "status 301")]),
        (
            "no permission",
            says(403, b"ACL not found"),
            vec![("ConsulRefuses", "refused: status 403: ACL not found")],
        ),
        ("too many requests", says(429, b"slow\xffdown"), vec![("ConsulFailed", "status 429")]),
        ("no index", counts(""), reset.clone()),
        ("index 0", counts("0"), reset.clone()),
        ("an index that is no number", counts("x"), reset.clone()),
        ("a negative index", counts("-5"), reset.clone()),
        ("an index that goes back", counts("1"), reset),
        ("the last index there is", counts("18446744073709551615"), vec![("NvecAnswered", "")]),
        ("an index beyond all numbers", counts("99999999999999999999"), vec![("ReplicaReset", "")]),
    ]
}

fn about_transactions() -> Vec<(&'static str, Arc<Lie>, Vec<Says>)> {
    let bad = vec![("ConsulBadAnswer", "transaction")];
    vec![
        ("a transaction without results", of_transactions(200, r#"{"Results": []}"#), bad.clone()),
        (
            "no results at all",
            of_transactions(200, r#"{"Results": null, "Errors": null}"#),
            bad.clone(),
        ),
        ("a conflict about nothing", of_transactions(409, r#"{"Errors": null}"#), bad.clone()),
        (
            "a conflict of nobody",
            of_transactions(409, r#"{"Errors": [{"OpIndex": 99, "What": "x"}]}"#),
            bad,
        ),
        (
            "a transaction that is not found",
            of_transactions(404, ""),
            vec![("ConsulBadAnswer", "transaction")],
        ),
    ]
}

/// Runs all cases, a few at a time. Each has a daemon of its own.
fn endure(lies: Vec<(&'static str, Arc<Lie>, Vec<Says>)>) {
    let queue = std::sync::Mutex::new(lies);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop();
                    let Some((name, lie, says)) = next else { return };
                    Fixture::new().endures(name, lie, &says);
                }
            });
        }
    });
}

#[test]
fn lies_about_bodies() {
    endure(about_bodies());
}

#[test]
fn lies_about_answers() {
    endure(about_answers());
}

#[test]
fn lies_about_transactions() {
    endure(about_transactions());
}
