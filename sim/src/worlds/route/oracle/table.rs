//! Rules for the redundancy nodes and their file.

use hax_core::base::id::{FifoId, FileId};
use hax_core::file::{Command, Event};

use super::super::ask::Ask;
use super::super::model::{Nodes, apply, read};
use super::super::provider::Kind;
use crate::engine::Violation;

/// The path of the file.
pub(in super::super) const FILE: &str = "/var/lib/hax/route/nodes.json";
/// The path of the backup after the deletion of all state.
const BACKUP: &str = "/var/lib/hax/route/nodes.json.bak";

/// The redundancy nodes of one router.
#[derive(Debug, Default)]
pub(in super::super) struct Held {
    /// The acknowledged nodes, as clients know them.
    acknowledged: Nodes,
    /// The other possible contents of the file: the writes since the last acknowledgement.
    attempts: Vec<(FileId, Nodes)>,
    /// The server has read the file in this life.
    pub(super) is_loaded: bool,
    /// The permitted changes without an answer.
    pending: Vec<(FifoId, Ask)>,
    /// The last completed file command, and whether a command has failed.
    done: Option<FileId>,
    pub(super) has_failed: bool,
    /// A client has requested the deletion of all state.
    pub(super) erases: bool,
    /// The content of the file at the last check.
    seen: Option<(bytes::Bytes, Nodes)>,
}

impl Held {
    /// Returns the acknowledged nodes, as clients know them.
    pub(super) fn nodes(&self) -> &Nodes {
        &self.acknowledged
    }

    /// Handles the death of the server: the unanswered changes may be written or not.
    pub(super) fn died(&mut self) {
        self.is_loaded = false;
        self.pending.clear();
        self.done = None;
        self.erases = false;
    }

    /// Observes the result of a file command.
    pub(super) fn takes(&mut self, event: &Event) {
        match event {
            Event::Done { id } => self.done = Some(*id),
            Event::Failed { .. } => self.has_failed = true,
            Event::Content { .. } | Event::Missing { .. } => {}
        }
    }

    /// Observes a requested change. Returns whether it is permitted.
    pub(super) fn asked(&mut self, client: FifoId, ask: &Ask, default: Option<Kind>) -> bool {
        let mut nodes = self.wanted(self.pending.len());
        let may = apply(&mut nodes, ask, default);
        if may {
            self.pending.push((client, ask.clone()));
        }
        may
    }

    /// Returns the nodes after the first `changes` pending changes.
    fn wanted(&self, changes: usize) -> Nodes {
        let mut nodes = self.acknowledged.clone();
        for (_, ask) in &self.pending[..changes] {
            // No default provider is needed here, because it has been filled in before.
            apply(&mut nodes, &with_provider(ask), None);
        }
        nodes
    }

    /// Observes the answer to a permitted change: success or failure. Returns whether the answers keep the
    /// order of the requests.
    pub(super) fn answered(&mut self, client: FifoId, is_done: bool) -> bool {
        let Some(at) = self.pending.iter().position(|(of, _)| *of == client) else { return false };
        if is_done {
            self.acknowledged = self.wanted(at + 1);
            self.pending.drain(..=at);
            return at == 0;
        }
        self.pending.remove(at);
        true
    }

    /// Checks a file command of the server.
    pub(super) fn gives(&mut self, command: &Command) -> Result<(), Violation> {
        match command {
            Command::Read { .. } => Ok(()),
            Command::Write(write) if *write.path == *FILE => {
                let nodes = parsed(Some(&write.content))?;
                let is_asked = (0..=self.pending.len()).any(|n| self.wanted(n) == nodes);
                self.attempts.push((write.id, nodes));
                if is_asked {
                    return Ok(());
                }
                let text = String::from_utf8_lossy(&write.content).into_owned();
                Violation::of("what is written is what was asked for", text)
            }
            Command::Write(write) if *write.path == *BACKUP => {
                if parsed(Some(&write.content))? == self.acknowledged {
                    return Ok(());
                }
                Violation::of("the copy has what there was", write.path.clone())
            }
            Command::Remove { id, path } if **path == *FILE && self.erases => {
                self.attempts.push((*id, Nodes::new()));
                Ok(())
            }
            Command::Write(_) | Command::Remove { .. } => {
                Violation::of("nothing is deleted unasked", format!("{command:?}"))
            }
        }
    }

    /// Observes the content of the file at the server's read.
    pub(super) fn loaded(&mut self, file: Option<&bytes::Bytes>) -> Result<(), Violation> {
        self.acknowledged = parsed(file.map(|file| &**file))?;
        self.attempts.clear();
        self.is_loaded = true;
        Ok(())
    }

    /// Checks the state after all outputs of an input.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        self.has_failed = false;
        let Some(done) = self.done.take() else { return Ok(()) };
        let Some(at) = self.attempts.iter().position(|(id, _)| *id == done) else { return Ok(()) };
        let (_, nodes) = self.attempts.drain(..=at).next_back().unwrap_or_default();
        if nodes.is_empty() && self.erases {
            self.acknowledged = Nodes::new();
        }
        if nodes == self.acknowledged {
            return Ok(());
        }
        let text = format!("{nodes:?}, and clients know of {:?}", self.acknowledged);
        Violation::of("what is written is answered", text)
    }

    /// Checks that the file has the acknowledged nodes, or the content of a pending write.
    pub(super) fn file(&mut self, file: Option<&bytes::Bytes>) -> Result<(), Violation> {
        let content = file.cloned().unwrap_or_default();
        let is_seen = self.seen.as_ref().is_some_and(|(seen, _)| *seen == content);
        if !is_seen {
            self.seen = Some((content, parsed(file.map(|file| &**file))?));
        }
        let Some((_, found)) = &self.seen else { return Ok(()) };
        let attempts = self.attempts.iter().map(|(_, nodes)| nodes);
        if std::iter::once(&self.acknowledged).chain(attempts).any(|nodes| nodes == found) {
            return Ok(());
        }
        let text = format!("{found:?}, and clients know of {:?}", self.acknowledged);
        Violation::of("no acknowledged change is lost", text)
    }

    /// Returns whether the file has the acknowledged nodes and no write is pending.
    pub(super) fn rests(&self) -> bool {
        let found = self.seen.as_ref().map(|(_, nodes)| nodes);
        self.pending.is_empty() && found == Some(&self.acknowledged)
    }
}

/// Returns the same change with its provider filled in.
fn with_provider(ask: &Ask) -> Ask {
    match ask {
        Ask::Create { index, given, .. } => {
            Ask::Create { index: *index, names_provider: true, given: given.clone() }
        }
        other => other.clone(),
    }
}

/// Parses the content of a file. The server must be able to read it as well.
fn parsed(file: Option<&[u8]>) -> Result<Nodes, Violation> {
    let is_read = file.is_none_or(|file| hax_core::route::stored::read(file).is_ok());
    match read(file) {
        Ok(nodes) if is_read => Ok(nodes),
        Ok(_) => Err(Violation { rule: "the file can be read", what: "not by the server".into() }),
        Err(what) => Err(Violation { rule: "the file can be read", what }),
    }
}
