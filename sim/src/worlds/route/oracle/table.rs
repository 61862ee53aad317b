//! Rules for the redundancy nodes and their file.

use hax_core::base::id::{FifoId, FileId};
use hax_core::file::{Command, Event};

use super::super::ask::Ask;
use super::super::model::{Nodes, apply, read};
use super::super::provider::Kind;
use crate::engine::Violation;

/// The file.
pub(in super::super) const FILE: &str = "/var/lib/hax/route/nodes.json";
/// What is left of it after the end of all state.
const BACKUP: &str = "/var/lib/hax/route/nodes.json.bak";

/// What one router holds.
#[derive(Debug, Default)]
pub(in super::super) struct Held {
    /// What clients were told that there is.
    acknowledged: Nodes,
    /// What may be in the file as well: what was to be written since.
    attempts: Vec<(FileId, Nodes)>,
    /// What the server has read the file, this far.
    pub(super) is_loaded: bool,
    /// Changes that were asked for and can be made, with no answer yet.
    pending: Vec<(FifoId, Ask)>,
    /// A command about the file that is done, and whether one has failed.
    done: Option<FileId>,
    pub(super) has_failed: bool,
    /// A client has asked to delete all state.
    pub(super) erases: bool,
    /// What the file was found to have last.
    seen: Option<(bytes::Bytes, Nodes)>,
}

impl Held {
    /// What clients were told that there is.
    pub(super) fn nodes(&self) -> &Nodes {
        &self.acknowledged
    }

    /// The server is dead: what was not answered may be done or not.
    pub(super) fn died(&mut self) {
        self.is_loaded = false;
        self.pending.clear();
        self.done = None;
        self.erases = false;
    }

    /// Something came of a command about the file.
    pub(super) fn takes(&mut self, event: &Event) {
        match event {
            Event::Done { id } => self.done = Some(*id),
            Event::Failed { .. } => self.has_failed = true,
            Event::Content { .. } | Event::Missing { .. } => {}
        }
    }

    /// A change is asked for; whether it can be made.
    pub(super) fn asked(&mut self, client: FifoId, ask: &Ask, default: Option<Kind>) -> bool {
        let mut nodes = self.wanted(self.pending.len());
        let may = apply(&mut nodes, ask, default);
        if may {
            self.pending.push((client, ask.clone()));
        }
        may
    }

    /// What there is with the first so many changes.
    fn wanted(&self, changes: usize) -> Nodes {
        let mut nodes = self.acknowledged.clone();
        for (_, ask) in &self.pending[..changes] {
            // A default is not needed where it has been looked at.
            apply(&mut nodes, &with_provider(ask), None);
        }
        nodes
    }

    /// A change that can be made is answered: it is, or is not. The first of them is answered first.
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

    /// The server has something done with a file.
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

    /// What the server has read.
    pub(super) fn loaded(&mut self, file: Option<&bytes::Bytes>) -> Result<(), Violation> {
        self.acknowledged = parsed(file.map(|file| &**file))?;
        self.attempts.clear();
        self.is_loaded = true;
        Ok(())
    }

    /// All that came of an input is known.
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

    /// The file has what clients know of, or what is on its way to it.
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

    /// Whether the file has what clients know of, and nothing else is on its way.
    pub(super) fn rests(&self) -> bool {
        let found = self.seen.as_ref().map(|(_, nodes)| nodes);
        self.pending.is_empty() && found == Some(&self.acknowledged)
    }
}

/// The same, with its provider named.
fn with_provider(ask: &Ask) -> Ask {
    match ask {
        Ask::Create { index, given, .. } => {
            Ask::Create { index: *index, names_provider: true, given: given.clone() }
        }
        other => other.clone(),
    }
}

/// What is in a file, which has to be one that the server can read as well.
fn parsed(file: Option<&[u8]>) -> Result<Nodes, Violation> {
    let is_read = file.is_none_or(|file| hax_core::route::stored::read(file).is_ok());
    match read(file) {
        Ok(nodes) if is_read => Ok(nodes),
        Ok(_) => Err(Violation { rule: "the file can be read", what: "not by the server".into() }),
        Err(what) => Err(Violation { rule: "the file can be read", what }),
    }
}
