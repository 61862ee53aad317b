//! The clients of hax: what each has asked for, and the rules for the answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hax_core::base::id::HttpId;
use hax_core::http::port::Response;
use hax_core::keeper::name::InstanceId;
use serde_json::{Value, json};

use super::model::{Definition, KINDS, Said, Verb, node_of};
use super::truth::kind_in;
use super::{NAMES, Services};
use crate::engine::{Client, World};
use crate::stream::Reader;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Define(Definition),
    Configure {
        kind: usize,
        n: Option<u64>,
    },
    Move {
        verb: Verb,
        kind: usize,
        node: Option<usize>,
        given: Option<u64>,
    },
    /// A request that changes nothing.
    Look,
    /// A stream of all changes.
    Listen,
    /// A request that is wrong, or that its sender may not make.
    Wrong {
        is_trusted: bool,
    },
}

/// A request without a response.
#[derive(Clone, Debug)]
struct Asked {
    wish: Wish,
    at: u64,
    has_arrived: bool,
    /// The mark of a request to start, stop or restart.
    mark: String,
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The request that is being sent.
    sending: Option<Wish>,
    asked: BTreeMap<(usize, HttpId), Asked>,
    /// What the clients with these marks have asked for.
    marks: BTreeMap<String, Wish>,
    next_mark: u64,
    /// The marks of the requests whose events were committed.
    committed: BTreeSet<String>,
}

impl Clients {
    pub(super) fn mark(&mut self, wish: &Wish) -> String {
        self.next_mark += 1;
        let mark = self.last_mark();
        self.marks.insert(mark.clone(), wish.clone());
        mark
    }

    fn last_mark(&self) -> String {
        format!("c{}", self.next_mark)
    }

    /// Records the event of a request.
    pub(super) fn has_committed(&mut self, said: &Said) {
        if let Said::Asked { by, .. } = said {
            self.committed.insert(by.clone());
        }
    }

    /// Returns whether an event says what its client has asked for.
    pub(super) fn has_asked(&self, said: &Said) -> bool {
        let Said::Asked { verb, kind, node, given, by } = said else { return true };
        match self.marks.get(by) {
            Some(Wish::Move { verb: of_verb, kind: of_kind, node: of_node, given: of_given }) => {
                (verb, kind, node, given) == (of_verb, of_kind, of_node, of_given)
            }
            _ => false,
        }
    }

    /// Returns why the world does not rest.
    pub(super) fn waiting(&self) -> Option<String> {
        self.asked.iter().next().map(|((node, id), asked)| format!("{id} at {node}: {asked:?}"))
    }

    /// A machine is dead. Its clients get no response.
    pub(super) fn died(&mut self, node: usize) {
        self.asked.retain(|(of, _), _| *of != node);
    }
}

impl World<'_, Services> {
    /// Sends a client's request.
    pub(super) fn wish(&mut self, node: usize, wish: Wish, wait: u64) {
        let (target, body) = match &wish {
            Wish::Define(definition) => ("/v1/types".to_owned(), definition.body()),
            Wish::Configure { kind, n } => {
                let target = format!("/v1/types/{}/reconfigure", KINDS[*kind]);
                (target, json!({ "parameters": { "n": n } }))
            }
            Wish::Move { verb, kind, node, given } => {
                let on = node.map_or_else(String::new, |node| format!("&node={}", NAMES[node]));
                let mark = self.cast.clients.mark(&wish);
                let mut body = json!({ "by": mark });
                if let Some(n) = given {
                    body["parameters"] = json!({ "n": n });
                }
                (format!("/v1/services/{}/{}?wait={wait}{on}", KINDS[*kind], verb.name()), body)
            }
            Wish::Look | Wish::Listen | Wish::Wrong { .. } => return,
        };
        let target = if target.contains('?') { target } else { format!("{target}?wait={wait}") };
        self.send_wish(node, wish, "POST", &target, Bytes::from(body.to_string()), true);
    }

    /// Sends a request with these bytes.
    pub(super) fn send_wish(
        &mut self,
        node: usize,
        wish: Wish,
        method: &str,
        target: &str,
        body: Bytes,
        is_trusted: bool,
    ) {
        self.cast.clients.sending = Some(wish);
        let client = if is_trusted { Client::Authorized } else { Client::Other };
        self.request(node, method, target, body, client);
        self.cast.clients.sending = None;
    }

    /// A client opens a stream of all changes.
    pub(super) fn listen(&mut self, node: usize, reader: Reader) {
        self.cast.clients.sending = Some(Wish::Listen);
        self.open_stream(node, "/v1/events/stream", reader);
        self.cast.clients.sending = None;
    }

    /// A stream begins.
    pub(super) fn begins_stream(&mut self, node: usize, id: HttpId) {
        let asked = self.cast.clients.asked.remove(&(node, id));
        let holds = asked.is_some_and(|asked| matches!(asked.wish, Wish::Listen));
        self.require(holds, "each request has one response", format!("{id} at {node}"));
    }

    /// A request reaches the host of a machine.
    pub(super) fn is_asked(&mut self, node: usize, id: HttpId) {
        if let Some(wish) = self.cast.clients.sending.take() {
            let at = self.sim.now();
            let mark = self.cast.clients.last_mark();
            let asked = Asked { wish, at, has_arrived: false, mark };
            self.cast.clients.asked.insert((node, id), asked);
        }
    }

    /// A request reaches a machine.
    pub(super) fn arrives(&mut self, node: usize, id: HttpId) {
        let now = self.sim.now();
        if let Some(asked) = self.cast.clients.asked.get_mut(&(node, id)) {
            (asked.at, asked.has_arrived) = (now, true);
        }
    }

    /// A machine has stopped: it has answered all that has arrived.
    pub(super) fn left(&mut self, node: usize) {
        let asked = &self.cast.clients.asked;
        let left = asked.iter().find(|((of, _), asked)| *of == node && asked.has_arrived);
        let left = left.map(|((_, id), asked)| format!("{id}: {asked:?}"));
        self.require(left.is_none(), "each request has one response", left.unwrap_or_default());
    }

    /// A client gets its response.
    pub(super) fn responds(&mut self, node: usize, response: &Response) {
        let Some(asked) = self.cast.clients.asked.remove(&(node, response.id)) else {
            let seen = format!("{} at {node}: {}", response.id, response.status);
            return self.require(false, "each request has one response", seen);
        };
        let status = response.status;
        let body: Option<Value> = serde_json::from_slice(&response.body).ok();
        let is_known = match &asked.wish {
            Wish::Define(_) | Wish::Configure { .. } => {
                [200, 202, 400, 404, 409, 503, 504].contains(&status)
            }
            Wish::Move { .. } => [200, 202, 400, 404, 409, 503, 504].contains(&status),
            Wish::Listen => status == 503,
            Wish::Look => [200, 404, 503].contains(&status),
            Wish::Wrong { is_trusted: false } => [403, 503].contains(&status),
            Wish::Wrong { is_trusted: true } => [400, 404, 405, 413, 409, 503].contains(&status),
        };
        let is_text = response.content_type.contains("graphviz");
        let seen =
            format!("{:?}: {status} {}", asked.wish, String::from_utf8_lossy(&response.body));
        self.require(is_known && (is_text || body.is_some()), "an answer has its form", seen);
        if let (Wish::Move { .. }, Some(body), 503) = (&asked.wish, &body, status) {
            let is_left =
                body["reason"].as_str().is_some_and(|why| why.ends_with("nothing was changed"));
            let holds = !is_left || !self.cast.clients.committed.contains(&asked.mark);
            self.require(holds, "what is refused was not written", format!("{asked:?}"));
        }
        if let (Wish::Move { verb, kind, .. }, Some(body), 200) = (&asked.wish, body, status) {
            self.check_done(*verb, *kind, asked.at, &body);
        }
    }

    /// What is answered with success is so.
    fn check_done(&mut self, verb: Verb, kind: usize, asked_at: u64, body: &Value) {
        if self.cast.is_void {
            return;
        }
        let already = body["already"] == true;
        let all = body["instances"].as_array().cloned().unwrap_or_default();
        for of in all {
            let Some(node) = of["node"].as_str().and_then(node_of) else { continue };
            // A node that is down is not waited for, and neither is one that fails.
            let is_up = matches!(of["state"].as_str(), Some("running" | "degraded"));
            if verb != Verb::Stop && !is_up || of["state"] == "inhibited" {
                continue;
            }
            let rule = "what is answered with success is so";
            let lives = &self.cast.nodes[node].slots[kind].lives;
            let holds = match verb {
                Verb::Stop => {
                    !lives.iter().any(|life| life.began < asked_at && life.ended.is_none())
                }
                Verb::Start | Verb::Restart => {
                    let id = of["instance"].as_str().and_then(InstanceId::new);
                    let life = id.filter(|id| kind_in(id).is_some_and(|(of, _)| of == kind));
                    let life = life.and_then(|id| lives.iter().find(|life| life.instance == id));
                    let is_new = life.is_some_and(|life| life.began >= asked_at);
                    // Nobody else knows at once that a node has just died, or that it is cut off, nor does a node
                    // know what a stalled keeper has not told it yet.
                    let was_there = life.is_some_and(|life| {
                        life.is_past || life.told.is_none_or(|at| at >= asked_at || already)
                    });
                    was_there && (verb == Verb::Start || is_new)
                }
            };
            let seen =
                format!("{} {} asked at {asked_at}: {of}; {lives:?}", verb.name(), KINDS[kind]);
            self.require(holds, rule, seen);
        }
    }
}
