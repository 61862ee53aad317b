//! The node manager: the redundancy nodes, and the file that outlives the server.
//!
//! The reply to a change is sent once the file contains the change. Changes that arrive during a write are
//! collected, and the next write includes all of them. A failed write revokes its changes. Then the file is
//! written again until it agrees with the server's state.

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

/// The node manager's state. See the module.
#[derive(Debug)]
pub(super) struct NodeManager {
    path: Box<str>,
    /// The table of the last successful write. Every change in it has been acknowledged.
    held: Table,
    /// The same table with the changes that are being written or wait for the next write.
    wanted: Table,
    /// The file operation in progress.
    under_way: Option<(FileId, Step)>,
    /// The clients whose changes wait for the next write.
    waiting: Vec<Waiter>,
    /// Whether the file may differ from the table.
    is_dirty: bool,
    /// Whether all state is to be deleted.
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

/// A client's request for a change of one redundancy node.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeRequest {
    pub(super) client: FifoId,
    pub(super) index: Index,
    /// The exit code of the client if the change fails.
    pub(super) failure: u8,
}

/// A client whose change has not been written yet.
#[derive(Debug)]
struct Waiter {
    request: ChangeRequest,
    how: &'static str,
}

/// A result of the node manager that the server handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The redundancy nodes have been loaded.
    Loaded,
    /// The redundancy nodes could not be loaded.
    Unusable,
    /// All state has been deleted.
    Erased,
    /// The state could not be deleted, and stays.
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

    /// Returns the redundancy nodes of the last successful write.
    pub(super) fn held(&self) -> &Table {
        &self.held
    }

    /// Returns whether no file operation is in progress and no change waits.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// Reads the file.
    pub(super) fn load(&mut self, cx: &mut Cx<'_>) {
        let id = self.next_id.mint();
        self.under_way = Some((id, Step::Load));
        cx.emit(Command::Read { id, path: self.path.clone(), max: stored::MAX });
    }

    /// Changes the redundancy nodes for a client. The reply is sent once the file contains the change.
    pub(super) fn change(
        &mut self,
        cx: &mut Cx<'_>,
        request: ChangeRequest,
        change: impl FnOnce(&mut Table) -> Result<Change, Refusal>,
    ) {
        let ChangeRequest { client, index, failure } = request;
        let answer = match change(&mut self.wanted) {
            Ok(Change::Unchanged) if self.is_settled() && !self.is_dirty => {
                Answer::ok(format!("node {index}: is so already"))
            }
            // A change without effect may depend on another change that has not been written yet. So it
            // waits, too.
            Ok(change) => {
                let how = change.words();
                self.waiting.push(Waiter { request, how });
                return self.go_on(cx);
            }
            Err(refusal) => refusal.answer(index, failure),
        };
        cx.answer(client, &answer);
    }

    /// Deletes all state. One backup of the file remains beside it and is never read.
    pub(super) fn erase(&mut self, cx: &mut Cx<'_>) {
        self.is_erasing = true;
        self.go_on(cx);
    }

    /// Begins the next file operation.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_>) {
        if self.under_way.is_some() {
            return;
        }
        let id = self.next_id.mint();
        if !self.waiting.is_empty() || self.is_dirty && !self.is_erasing {
            self.is_dirty = true;
            let waiting = core::mem::take(&mut self.waiting);
            let content = stored::write(&self.wanted);
            if content.len() > stored::MAX {
                // The next server could not read it.
                return self.on_not_written(cx, waiting, "it would be larger than 64 MiB");
            }
            cx.write(id, self.path.clone(), content);
            self.under_way = Some((id, Step::Write(self.wanted.clone(), waiting)));
        } else if self.is_erasing {
            cx.write(id, format!("{}.bak", self.path).into(), stored::write(&self.held));
            self.under_way = Some((id, Step::BackUp));
        }
    }

    /// Handles the result of the file operation in progress.
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
        for Waiter { request, how } in waiters {
            let ChangeRequest { client, index, .. } = request;
            cx.emit(Fact::Changed { index, how });
            cx.answer(client, &Answer::ok(format!("node {index}: {how}")));
        }
    }

    /// Handles a failed write. It is unknown whether the file has the old or the new content, so it is
    /// written again.
    fn on_not_written(&mut self, cx: &mut Cx<'_>, mut waiters: Vec<Waiter>, why: &str) {
        cx.emit(Fact::NotWritten { path: self.path.clone(), why: why.into() });
        // Changes that arrived during the write are based on the revoked changes.
        waiters.append(&mut self.waiting);
        for Waiter { request, .. } in waiters {
            let ChangeRequest { client, index, failure } = request;
            let text = format!("node {index}: not done: cannot write {}: {why}", self.path);
            cx.answer(client, &Answer::failed(failure, text));
        }
        self.wanted = self.held.clone();
        cx.retry(Timer::Rewrite, &mut self.backoff);
    }
}

impl Change {
    /// Returns the change as text.
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
    /// Returns the reply to the client.
    fn answer(self, index: Index, failure: u8) -> Answer {
        use super::request::exit::USAGE;
        match self {
            Self::Unknown => Answer::failed(failure, format!("there is no node {index}")),
            Self::Usage(why) => Answer::failed(USAGE, format!("node {index}: {why}")),
            Self::Contradiction(why) => Answer::failed(failure, format!("node {index}: {why}")),
        }
    }
}
