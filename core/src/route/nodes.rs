//! The node manager: the redundancy nodes, and the file that outlives the server.
//!
//! What was asked for is answered once the file has it. While the file is written further changes gather, and the
//! next write has them all. A write that fails takes back what it was for, and the file is written again until it
//! holds what the server holds.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::context::{Cx, Timer};
use super::fact::Fact;
use super::node::Index;
use super::request::Answer;
use super::stored;
use super::table::{Change, Refusal, Table};
use crate::base::id::{FifoId, FileId};
use crate::base::retry::Backoff;
use crate::file::{Command, Event};

/// See the module.
#[derive(Debug)]
pub(super) struct NodeManager {
    path: Box<str>,
    /// What the file holds, as far as anybody was told.
    held: Table,
    /// The same with what is being written and what waits to be.
    wanted: Table,
    /// What is under way with the file.
    under_way: Option<(FileId, Step)>,
    /// Who waits for the next write.
    waiting: Vec<Waiter>,
    /// The file may hold something else.
    is_dirty: bool,
    /// All state is to be deleted.
    is_erasing: bool,
    next_id: FileId,
    backoff: Backoff,
}

#[derive(Debug)]
enum Step {
    Load,
    Write(Table, Vec<Waiter>),
    BackUp,
    Remove,
}

/// A client whose change is not written yet.
#[derive(Debug)]
struct Waiter {
    client: FifoId,
    index: Index,
    how: &'static str,
    /// With what its client ends if it cannot be.
    failure: u8,
}

/// What the server has to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The redundancy nodes are there.
    Loaded,
    /// They cannot be had.
    Unusable,
    /// All state is deleted.
    Erased,
    /// It could not be, and stays.
    NotErased(Box<str>),
}

impl NodeManager {
    pub(super) fn new(dir: &str) -> Self {
        Self {
            path: format!("{dir}/nodes.json").into(),
            held: Table::default(),
            wanted: Table::default(),
            under_way: None,
            waiting: Vec::new(),
            is_dirty: false,
            is_erasing: false,
            next_id: FileId(1),
            backoff: Backoff::default(),
        }
    }

    /// The redundancy nodes as the file holds them.
    pub(super) fn held(&self) -> &Table {
        &self.held
    }

    /// Whether nothing is under way and nothing waits.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// Reads the file.
    pub(super) fn load(&mut self, cx: &mut Cx<'_>) {
        let id = self.next_id.mint();
        self.under_way = Some((id, Step::Load));
        cx.emit(Command::Read { id, path: self.path.clone(), max: stored::MAX });
    }

    /// Changes the redundancy nodes for a client, who is answered when the file has it.
    pub(super) fn change(
        &mut self,
        cx: &mut Cx<'_>,
        (client, index, failure): (FifoId, Index, u8),
        change: impl FnOnce(&mut Table) -> Result<Change, Refusal>,
    ) {
        let answer = match change(&mut self.wanted) {
            Ok(Change::Unchanged) if self.is_settled() && !self.is_dirty => {
                Answer::ok(format!("node {index}: is so already"))
            }
            // What it finds as it wants it may not be written yet.
            Ok(change) => {
                let how = change.words();
                self.waiting.push(Waiter { client, index, how, failure });
                return self.go_on(cx);
            }
            Err(refusal) => refusal.answer(index, failure),
        };
        cx.answer(client, &answer);
    }

    /// Deletes all state. One copy of the file stays beside it, which nothing reads.
    pub(super) fn erase(&mut self, cx: &mut Cx<'_>) {
        self.is_erasing = true;
        self.go_on(cx);
    }

    /// Begins with the next thing to do with the file.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_>) {
        if self.under_way.is_some() {
            return;
        }
        let id = self.next_id.mint();
        if !self.waiting.is_empty() || self.is_dirty && !self.is_erasing {
            self.is_dirty = true;
            let waiting = core::mem::take(&mut self.waiting);
            let content = stored::write(&self.wanted);
            cx.write(id, self.path.clone(), content);
            self.under_way = Some((id, Step::Write(self.wanted.clone(), waiting)));
        } else if self.is_erasing {
            cx.write(id, format!("{}.bak", self.path).into(), stored::write(&self.held));
            self.under_way = Some((id, Step::BackUp));
        }
    }

    /// Something came of what is under way with the file.
    pub(super) fn on_file(&mut self, cx: &mut Cx<'_>, event: Event) -> Option<Progress> {
        let (id, event) = match event {
            Event::Done { id } => (id, Ok(None)),
            Event::Content { id, content } => (id, Ok(Some(content))),
            Event::Missing { id } => (id, Ok(None)),
            Event::Failed { id, why } => (id, Err(why.to_string())),
        };
        let (_, step) = self.under_way.take_if(|(of, _)| *of == id)?;
        let progress = match (step, event) {
            (Step::Load, event) => {
                let read = event.and_then(|content| match content {
                    Some(content) => stored::read(&content).map_err(|why| why.to_string()),
                    None => Ok(Table::default()),
                });
                match read {
                    Ok(table) => {
                        cx.emit(Fact::Loaded { nodes: table.len() });
                        self.held = table.clone();
                        self.wanted = table;
                        Some(Progress::Loaded)
                    }
                    Err(why) => {
                        cx.emit(Fact::Unusable { path: self.path.clone(), why: why.into() });
                        Some(Progress::Unusable)
                    }
                }
            }
            (Step::Write(table, waiters), Ok(_)) => {
                self.on_written(cx, table, waiters);
                None
            }
            (Step::Write(_, waiters), Err(why)) => {
                self.on_not_written(cx, waiters, &why);
                None
            }
            (Step::BackUp, Ok(_)) => {
                let id = self.next_id.mint();
                cx.emit(Command::Remove { id, path: self.path.clone() });
                self.under_way = Some((id, Step::Remove));
                None
            }
            (Step::Remove, Ok(_)) => {
                cx.emit(Fact::Erased { nodes: self.held.len() });
                self.held = Table::default();
                self.wanted = Table::default();
                self.is_erasing = false;
                return Some(Progress::Erased);
            }
            (Step::BackUp | Step::Remove, Err(why)) => {
                self.is_erasing = false;
                self.is_dirty = true;
                Some(Progress::NotErased(why.into()))
            }
        };
        if !cx.is_armed(Timer::Rewrite) {
            self.go_on(cx);
        }
        progress
    }

    fn on_written(&mut self, cx: &mut Cx<'_>, table: Table, waiters: Vec<Waiter>) {
        self.held = table;
        self.is_dirty = false;
        self.backoff.reset();
        cx.disarm(Timer::Rewrite);
        for Waiter { client, index, how, .. } in waiters {
            cx.emit(Fact::Changed { index, how });
            cx.answer(client, &Answer::ok(format!("node {index}: {how}")));
        }
    }

    /// Whether the file is as it was or as it was to be is not known, so it is written again.
    fn on_not_written(&mut self, cx: &mut Cx<'_>, mut waiters: Vec<Waiter>, why: &str) {
        cx.emit(Fact::NotWritten { path: self.path.clone(), why: why.into() });
        // What came meanwhile stands on what is taken back.
        waiters.append(&mut self.waiting);
        for Waiter { client, index, failure, .. } in waiters {
            let text = format!("node {index}: not done: cannot write {}: {why}", self.path);
            cx.answer(client, &Answer::failed(failure, text));
        }
        self.wanted = self.held.clone();
        cx.retry(Timer::Rewrite, &mut self.backoff);
    }
}

impl Change {
    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "changed",
            Self::Deleted => "deleted",
            Self::Unchanged => "is so already",
        }
    }
}

impl Refusal {
    /// What the client is answered.
    fn answer(self, index: Index, failure: u8) -> Answer {
        use super::request::exit::USAGE;
        match self {
            Self::Unknown => Answer::failed(failure, format!("there is no node {index}")),
            Self::Usage(why) => Answer::failed(USAGE, format!("node {index}: {why}")),
            Self::Contradiction(why) => Answer::failed(failure, format!("node {index}: {why}")),
        }
    }
}
