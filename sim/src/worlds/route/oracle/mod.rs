//! Rules for each router's server. They must hold whatever faults occur.

mod handlers;
mod table;

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::base::id::FifoId;
use hax_core::fifo::Response;
use hax_core::machine::{Input, Machine as _, Output};
use hax_core::route::fact::Fact;
use serde_json::Value;

use super::ask::Ask;
use super::model::{Nodes, shown};
use super::provider::Kind;
use super::server::Subject;
use crate::engine::Violation;
pub(super) use handlers::Handlers;
pub(super) use table::FILE;
use table::Held;

/// The state of one router, as its clients know it.
#[derive(Debug, Default)]
pub(super) struct Router {
    /// The default provider of a new redundancy node.
    default: Option<Kind>,
    held: Held,
    handlers: Handlers,
    /// The requests in transit to the server.
    arriving: BTreeMap<FifoId, Ask>,
    /// The early requests, from before the read of the file.
    early: Vec<(FifoId, Ask)>,
    /// The requests without an answer, and whether their changes are permitted.
    waiting: BTreeMap<FifoId, (Ask, bool)>,
    /// The damaged content of the file, and the content from before the damage.
    damaged: Option<(Bytes, Option<Bytes>)>,
}

/// The state for the check of an answer.
#[derive(Clone, Copy, Debug)]
struct Scene<'a> {
    file: Option<&'a Bytes>,
    is_stopping: bool,
}

impl Router {
    pub(super) fn new(default: Option<Kind>, has_groups: bool) -> Self {
        Self { default, handlers: Handlers::new(has_groups), ..Self::default() }
    }

    /// Returns the redundancy nodes in the clients' view, once the server has read the file.
    pub(super) fn nodes(&self) -> Option<&Nodes> {
        self.held.is_loaded.then(|| self.held.nodes())
    }

    /// Observes the replacement of the file with this content.
    pub(super) fn damage(&mut self, junk: Bytes, before: Option<Bytes>) {
        self.damaged = Some((junk, before));
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.is_some()
    }

    /// Ends the damage. Returns the earlier content, which has to be restored.
    pub(super) fn mend(&mut self) -> Option<Option<Bytes>> {
        self.damaged.take().map(|(_, before)| before)
    }

    pub(super) fn died(&mut self) {
        self.held.died();
        self.handlers = self.handlers.of_next_life();
        self.arriving.clear();
        self.early.clear();
        self.waiting.clear();
    }

    /// Observes a request just before it reaches the server.
    pub(super) fn arrives(&mut self, request: FifoId, ask: Ask) {
        self.arriving.insert(request, ask);
    }

    /// Observes an input before the server takes it.
    pub(super) fn takes(&mut self, input: &Input) {
        self.handlers.begin_input();
        match input {
            Input::Fifo(request) => {
                let ask = self.arriving.remove(&request.id);
                let ask = ask.unwrap_or_else(|| Ask::Malformed(request.body.clone()));
                if self.held.is_loaded {
                    self.served(request.id, ask);
                } else {
                    self.early.push((request.id, ask));
                }
            }
            Input::File(event) => self.held.takes(event),
            Input::Exec(event) => self.handlers.hears(event),
            Input::Tick
            | Input::Net(_)
            | Input::Keeper(_)
            | Input::Consul(_)
            | Input::Spiel(_)
            | Input::Http(_)
            | Input::HttpStream(_)
            | Input::Stop => {}
        }
    }

    /// Observes the server's processing of this request.
    fn served(&mut self, client: FifoId, ask: Ask) {
        let can_be = match &ask {
            Ask::Create { .. } | Ask::Set { .. } | Ask::Clear { .. } | Ask::Delete { .. } => {
                self.held.asked(client, &ask, self.default)
            }
            Ask::Event { on, event, wait } => {
                self.handlers.told(client, self.held.nodes(), *on, (*event, *wait));
                true
            }
            Ask::Erase => {
                self.held.erases = true;
                true
            }
            Ask::Show { .. } | Ask::Ping => true,
            Ask::Malformed(_) => false,
        };
        self.waiting.insert(client, (ask, can_be));
    }

    /// Checks the outputs of the last input.
    pub(super) fn gives(
        &mut self,
        out: &[Output<Fact>],
        server: &Subject,
        file: Option<&Bytes>,
    ) -> Result<(), Violation> {
        let scene = Scene { file, is_stopping: server.status().stopping };
        for output in out {
            match output {
                Output::Fact(Fact::Loaded { .. }) => {
                    if self.is_damaged() {
                        return Violation::of("a damaged file is refused", "it is read");
                    }
                    self.held.loaded(file)?;
                    for (client, ask) in std::mem::take(&mut self.early) {
                        self.served(client, ask);
                    }
                }
                Output::File(command) => self.held.gives(command)?,
                Output::Exec(command) => {
                    self.handlers.gives(command, Some(self.held.nodes()))?;
                }
                Output::Fifo(response) => self.answered(response, scene)?,
                Output::Fact(_)
                | Output::Net(_)
                | Output::Keeper(_)
                | Output::State(_)
                | Output::Consul(_)
                | Output::Spiel(_)
                | Output::Http(_)
                | Output::HttpStream(_) => {}
            }
        }
        self.held.settle()?;
        self.handlers.look(self.held.nodes());
        self.file(file)
    }

    /// Checks the content of the file.
    pub(super) fn file(&mut self, file: Option<&Bytes>) -> Result<(), Violation> {
        match &self.damaged {
            Some((junk, _)) if file == Some(junk) => Ok(()),
            Some((junk, _)) => {
                let text = format!("{file:?} instead of {junk:?}");
                Violation::of("a damaged file stays as it is", text)
            }
            None => self.held.file(file),
        }
    }

    fn answered(&mut self, response: &Response, scene: Scene<'_>) -> Result<(), Violation> {
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let (exit, text) = (answer["exit"].as_u64(), answer["text"].as_str());
        let Some((exit, text)) = exit.zip(text) else {
            return Violation::of("an answer has an exit code and a text", answer.to_string());
        };
        let client = response.id;
        if self.early.iter().any(|(of, _)| *of == client) {
            self.early.retain(|(of, _)| *of != client);
            let text = format!("{exit}: {text}");
            return must(
                exit != 0 && scene.is_stopping,
                "nothing is done before the file is read",
                text,
            );
        }
        let Some((ask, can_be)) = self.waiting.remove(&client) else { return Ok(()) };
        let is_gone = scene.is_stopping && exit == ask.failure();
        let holds = match &ask {
            Ask::Create { .. } | Ask::Set { .. } | Ask::Clear { .. } | Ask::Delete { .. }
                if can_be =>
            {
                let has_failed = self.held.has_failed;
                let of_it = format!("node {}: ", ask.index().unwrap_or(0));
                let in_order = self.held.answered(client, exit == 0);
                in_order
                    && if exit == 0 {
                        text.starts_with(&of_it)
                    } else {
                        is_gone || has_failed && exit == ask.failure()
                    }
            }
            Ask::Create { .. } | Ask::Set { .. } | Ask::Clear { .. } | Ask::Delete { .. } => {
                exit == 2 || exit == ask.failure()
            }
            Ask::Event { .. } if is_gone && text == "the server stops" => true,
            Ask::Event { .. } => return self.handlers.answered(client, exit, text),
            Ask::Show { index } => is_gone || self.shows(*index, exit, text),
            Ask::Ping => is_gone || exit == 0,
            Ask::Erase => {
                self.held.erases &= exit == 0;
                if exit == 0 { scene.file.is_none() } else { is_gone || self.held.has_failed }
            }
            Ask::Malformed(_) => exit == 2 || scene.is_stopping && exit != 0,
        };
        must(holds, "an answer says what is so", format!("{ask:?}: {exit}: {text}"))
    }

    /// Returns whether the shown redundancy nodes, one or all, are those that clients know.
    fn shows(&self, index: Option<u16>, exit: u64, text: &str) -> bool {
        let nodes = self.held.nodes();
        let lines = text.lines().map(|line| serde_json::from_str(line).ok());
        let found: Option<Nodes> = lines.map(|line| shown(&line?)).collect();
        let meant = |of: &u16| index.is_none_or(|index| *of == index);
        let expected: Nodes = nodes
            .iter()
            .filter(|(of, _)| meant(of))
            .map(|(of, node)| (*of, node.clone()))
            .collect();
        if expected.is_empty() && index.is_some() {
            return exit == 3;
        }
        exit == 0 && found.is_some_and(|found| is_same(&found, &expected))
    }

    /// Checks that the answer to `GET /v1/route` has the redundancy nodes that clients know.
    pub(super) fn answers_http(&self, body: &[u8]) -> Result<(), Violation> {
        let Some(nodes) = self.nodes() else { return Ok(()) };
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let found: Option<Nodes> =
            value["nodes"].as_array().and_then(|all| all.iter().map(shown).collect());
        let holds = found.is_some_and(|found| is_same(&found, nodes));
        must(holds, "scripts and HTTP see the same", String::from_utf8_lossy(body))
    }

    /// Returns the reason why the router is not at rest yet.
    pub(super) fn busy_reason(&self) -> Option<String> {
        let waits = self.waiting.keys().next().map(|id| format!("{id} has no answer"));
        waits
            .or_else(|| self.is_damaged().then(|| "the file is damaged".to_owned()))
            .or_else(|| (!self.held.is_loaded).then(|| "the file is not read".to_owned()))
            .or_else(|| (!self.handlers.rest()).then(|| "a handler runs".to_owned()))
            .or_else(|| (!self.held.rests()).then(|| "the file is to be written".to_owned()))
    }
}

/// Compares two sets of nodes. A missing mode is equal to the secondary's.
fn is_same(found: &Nodes, nodes: &Nodes) -> bool {
    found.len() == nodes.len()
        && found.iter().zip(nodes).all(|((i, a), (j, b))| {
            i == j
                && a.provider == b.provider
                && a.mode() == b.mode()
                && a.parameters == b.parameters
        })
}

fn must(holds: bool, rule: &'static str, seen: impl Into<String>) -> Result<(), Violation> {
    if holds { Ok(()) } else { Violation::of(rule, seen) }
}
