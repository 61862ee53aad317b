//! What clients have asked for, in the order in which Consul has committed it, and what follows from it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::NAMES;

/// The types.
pub(super) const KINDS: [&str; 6] = ["web", "app", "db1", "db2", "job", "once"];
/// The time after which a given up instance is tried again, in ms.
pub(super) const TRY_AGAIN: u64 = 15_000;
/// The number of failures after which a new configuration is taken back.
const ATTEMPTS: u32 = 2;
/// The time limit until an `app` is ready, in ms.
pub(super) const START_TIMEOUT: u64 = 4_000;

/// The number of a type's place in [`KINDS`].
pub(super) fn kind_of(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| *kind == name)
}

/// The number of a node.
pub(super) fn node_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|node| *node == name)
}

/// The types on the same node that a type needs.
pub(super) fn need_of(kind: usize) -> Option<usize> {
    (KINDS[kind] == "app").then_some(0)
}

/// The types that need a type.
fn dependent_of(kind: usize) -> Option<usize> {
    (kind == 0).then_some(1)
}

/// The label `rack` of each node.
pub(super) const RACKS: [&str; 3] = ["a", "a", "b"];

/// Whether a type has a place on a node.
pub(super) fn has_place(kind: usize, node: usize) -> bool {
    KINDS[kind] != "job" || RACKS[node] == RACKS[0]
}

/// When an instance is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Never,
    OnFailure,
    Always,
}

/// A type, as a client defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) kind: usize,
    /// A number that no other definition has.
    pub(super) version: u64,
    pub(super) policy: Policy,
    /// The shortest life that does not count, in ms.
    pub(super) stable: u64,
    /// The number of short lives within a time in ms.
    pub(super) give_up: Option<(usize, u64)>,
    /// The service name.
    pub(super) holds: &'static str,
    /// A helper stops its instances.
    pub(super) stops_by_command: bool,
}

impl Definition {
    /// Draws a definition.
    pub(super) fn drawn(kind: usize, version: u64, mut choose: impl FnMut(u64) -> u64) -> Self {
        let policy = match (KINDS[kind], choose(4)) {
            ("job", _) => Policy::Always,
            ("once", 1) => Policy::Never,
            (_, 2) => Policy::Always,
            _ => Policy::OnFailure,
        };
        let stable = [3_000, 10_000][usize::from(choose(2) == 1)];
        let give_up = match choose(3) {
            1 => Some((2, 10_000)),
            2 => Some((4, 60_000)),
            _ => None,
        };
        let holds = match (KINDS[kind], choose(4)) {
            ("db1" | "db2", _) => "db",
            ("web", 1) => "http",
            (own, _) => own,
        };
        let stops_by_command = choose(4) == 1;
        Self { kind, version, policy, stable, give_up, holds, stops_by_command }
    }

    /// Returns the body of the request that defines it.
    pub(super) fn body(&self) -> Value {
        let Self { kind, version, policy, stable, give_up, holds, .. } = self;
        let name = KINDS[*kind];
        let policy = match policy {
            Policy::Never => "never",
            Policy::OnFailure => "on-failure",
            Policy::Always => "always",
        };
        let give_up = give_up
            .map_or_else(|| "never".into(), |(lives, within)| format!("{lives} in {within}ms"));
        let program = format!("/usr/lib/hax/services/{name}");
        let mut body = json!({
            "type": name,
            "holds": holds,
            "command": [program, format!("v{version}"), "{n}", "{node}"],
            "kill_after": "2s",
            "parameters": { "n": { "kind": "integer", "default": 0, "min": 0, "max": 99 } },
            "restart": {
                "policy": policy, "stable": format!("{stable}ms"), "give_up": give_up,
                "try_again": format!("{TRY_AGAIN}ms"), "attempts": ATTEMPTS,
            },
        });
        if name == "app" {
            body["needs"] = json!(["web"]);
            body["ready"] = json!("file:/run/app");
            body["start_timeout"] = json!(format!("{START_TIMEOUT}ms"));
            body["check"] = json!({ "tcp": "127.0.0.1:1", "every": "1s", "timeout": "2s" });
        }
        if name == "job" {
            body["place"] = json!({ "labels": { "rack": RACKS[0] } });
        }
        if matches!(name, "job" | "once") {
            body["schema"] = json!({ "id": "s1", "kinds": [] });
        }
        if self.stops_by_command {
            body["stop_command"] = json!(["/usr/lib/hax/services/stop", name]);
        }
        body
    }
}

/// A request about instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Restart].into_iter().find(|verb| verb.name() == name)
    }
}

/// What operators ask for, as a committed event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Asked { verb: Verb, kind: usize, node: Option<usize>, given: Option<u64>, by: String },
    Defined { kind: usize, version: u64, stored: Option<u64> },
}

impl Said {
    /// Returns what an event says, unless it is a node's.
    pub(super) fn of(event: &Value) -> Option<Self> {
        let what = &event["what"];
        if let Some(ask) = what.get("asked") {
            let node = ask.get("node").and_then(Value::as_str);
            return Some(Self::Asked {
                verb: Verb::named(ask["verb"].as_str()?)?,
                kind: kind_of(ask["type"].as_str()?)?,
                node: node.and_then(node_of),
                given: ask["given"]["n"].as_u64(),
                by: ask["by"].as_str().unwrap_or_default().into(),
            });
        }
        let defined = what.get("defined")?;
        let record = &defined["record"];
        Some(Self::Defined {
            kind: kind_of(record["type"].as_str()?)?,
            version: version_of(record["command"][1].as_str()?)?,
            stored: defined["stored"]["n"].as_u64(),
        })
    }
}

impl Said {
    /// Returns the type that it is about.
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Asked { kind, .. } | Self::Defined { kind, .. } => *kind,
        }
    }
}

/// Returns the number in the second word of a command line.
pub(super) fn version_of(word: &str) -> Option<u64> {
    word.strip_prefix('v')?.parse().ok()
}

/// What is expected of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expect {
    pub(super) runs: bool,
    pub(super) given: Option<u64>,
}

/// What follows from all that was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// The version of each type.
    pub(super) types: BTreeMap<usize, u64>,
    stored: BTreeMap<usize, u64>,
    /// Whether a type is to run everywhere, and with what.
    goals: BTreeMap<usize, (bool, Option<u64>)>,
    pub(super) expected: BTreeMap<(usize, usize), Expect>,
}

/// An instance that a request may start once more: its node and its type.
pub(super) type Touched = Vec<(usize, usize)>;

impl Model {
    /// Takes what was asked. Returns the instances that may be started for it.
    pub(super) fn take(&mut self, said: &Said, known: &[usize]) -> Touched {
        match said {
            Said::Defined { kind, version, stored } => {
                self.types.insert(*kind, *version);
                match stored {
                    Some(n) => drop(self.stored.insert(*kind, *n)),
                    None => drop(self.stored.remove(kind)),
                }
                // An instance that was given up is started again, with what it needs.
                let of = [Some(*kind), need_of(*kind)];
                let of = of.into_iter().flatten();
                known.iter().flat_map(|node| of.clone().map(|kind| (*node, kind))).collect()
            }
            Said::Asked { verb, kind, node, given, .. } => {
                let mut touched = Vec::new();
                if let (Verb::Start, None) = (verb, node) {
                    self.goals.insert(*kind, (true, *given));
                }
                if let (Verb::Stop, None) = (verb, node)
                    && let Some((runs, _)) = self.goals.get_mut(kind)
                {
                    *runs = false;
                }
                // What is to stop stops on a node, too, whose description is lost.
                let all: Vec<usize> = (0..NAMES.len()).collect();
                let known = if *verb == Verb::Stop { &all } else { known };
                for at in known.iter().filter(|at| node.is_none_or(|node| node == **at)) {
                    self.ask(*verb, (*at, *kind), *given, &mut touched);
                }
                touched
            }
        }
    }

    fn ask(
        &mut self,
        verb: Verb,
        (node, kind): (usize, usize),
        given: Option<u64>,
        touched: &mut Touched,
    ) {
        match verb {
            Verb::Start if has_place(kind, node) => {
                self.expected.insert((node, kind), Expect { runs: true, given });
                touched.push((node, kind));
                self.need(node, kind, touched);
            }
            Verb::Start => {}
            Verb::Stop => {
                let of = [Some(kind), dependent_of(kind)];
                for kind in of.into_iter().flatten() {
                    if let Some(expect) = self.expected.get_mut(&(node, kind)) {
                        expect.runs = false;
                    }
                }
            }
            Verb::Restart => {
                if let Some(expect) = self.expected.get_mut(&(node, kind)) {
                    let was_running = std::mem::replace(&mut expect.runs, true);
                    touched.push((node, kind));
                    if !was_running {
                        self.need(node, kind, touched);
                    }
                }
            }
        }
    }

    /// A start of an instance starts what it needs.
    fn need(&mut self, node: usize, kind: usize, touched: &mut Touched) {
        if let Some(need) = need_of(kind) {
            let goal = self.goals.get(&need).filter(|(runs, _)| *runs && has_place(need, node));
            let given = goal.and_then(|(_, given)| *given);
            let new = || Expect { runs: true, given };
            let expect = self.expected.entry((node, need)).or_insert_with(new);
            expect.runs = true;
            touched.push((node, need));
        }
    }

    /// Returns what is expected of an instance on a known node.
    pub(super) fn expect(&self, node: usize, kind: usize) -> Option<Expect> {
        let goal = |kind: usize| {
            let goal = self.goals.get(&kind).filter(|(runs, _)| *runs && has_place(kind, node));
            goal.map(|(_, given)| Expect { runs: true, given: *given })
        };
        // What is needed runs, too, wherever the type runs that needs it.
        let need = || dependent_of(kind).and_then(goal).map(|of| Expect { given: None, ..of });
        self.expected.get(&(node, kind)).copied().or_else(|| goal(kind)).or_else(need)
    }

    /// Returns the arguments with which an instance is expected to run.
    pub(super) fn arguments(&self, kind: usize, given: Option<u64>) -> Option<[String; 2]> {
        let n = self.stored.get(&kind).copied().or(given).unwrap_or(0);
        Some([format!("v{}", self.types.get(&kind)?), n.to_string()])
    }
}
