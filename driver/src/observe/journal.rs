//! The journal of a daemon (`--journal`): all inputs of its node, in the format of [`hax_core::journal`], so
//! that events of production can be replayed later.
//!
//! The loop never waits for the disk: it appends to memory, and a thread writes. The file consists of
//! complete records except for the last one, so a journal that was cut off by a crash can be read up to
//! there. If a journal cannot be written any more, it ends; hax continues.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hax_core::base::fact::Metric;
use hax_core::base::time::{Next, Now};
use hax_core::ha::fact::Fact;
use hax_core::journal;
use hax_core::machine::{ExitReason, Input, Machine, Output, Status};
use hax_core::node::Config;

/// The maximum body that is certain to fit in a record, beside the record's other data, in bytes.
pub const BODY_MAX: usize = journal::RECORD_MAX - (1 << 20);

/// The maximum number of bytes that wait for the disk: more than the longest record.
const BEHIND_MAX: usize = journal::RECORD_MAX + (16 << 20);

/// The maximum number of journals of earlier runs beside the first.
const OLD_MAX: u32 = 9;

/// The time that the end of a journal waits for the disk.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// The buffer capacity that is kept for the next records, in bytes.
const KEEP: usize = 1 << 20;

/// The reason why a journal cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are too many journals of that name.
    #[error("{} and its successors up to .{OLD_MAX} exist, and none is overwritten", .0.display())]
    Exist(PathBuf),
    /// The file cannot be created.
    #[error("cannot create {}: {why}", path.display())]
    Create {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        why: io::Error,
    },
}

/// A journal that is being written. When dropped, it waits for a short time until everything is written.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// The path of the journal.
    pub path: PathBuf,
    /// The number of bytes that it may still grow.
    left: u64,
    ended: bool,
}

/// The state shared by the loop and the thread.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Complete records whose write has not begun.
    waiting: Vec<u8>,
    /// The thread is writing.
    busy: bool,
    /// No more records will come.
    closed: bool,
    /// The error after which nothing can be written any more.
    failed: Option<io::Error>,
}

/// A machine with a journal of its inputs, as long as the journal can be written.
pub struct Journaled<M> {
    /// The machine.
    pub machine: M,
    /// The journal, if the settings ask for one.
    pub journal: Option<Journal>,
}

impl<M: Machine<Fact = Fact>> Machine for Journaled<M> {
    type Fact = Fact;

    const GAUGES: &'static [Metric] = M::GAUGES;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) -> Next {
        let ended = self.journal.as_mut().and_then(|journal| journal.record(now, &input));
        out.extend(ended.map(Output::Fact));
        self.machine.handle(now, input, out)
    }

    fn blocking_queries(&self) -> usize {
        self.machine.blocking_queries()
    }

    fn gauges(&self) -> impl Iterator<Item = u64> {
        self.machine.gauges()
    }

    fn status(&self) -> Status {
        self.machine.status()
    }

    fn exit(&self) -> ExitReason {
        self.machine.exit()
    }
}

impl Journal {
    /// Begins the journal of a node with this configuration at `path`. If that file exists, it uses the first
    /// of `path.1` to `path.9` that does not exist. Only the owner can read the file. The journal ends when
    /// it would grow beyond `max` bytes.
    ///
    /// # Errors
    ///
    /// If no file can be created.
    pub fn begin(path: &Path, max: u64, config: &Config) -> Result<Self, Error> {
        let (file, path) = create(path)?;
        Ok(Self::write_to(file, path, max, config))
    }

    fn write_to(to: impl Write + Send + 'static, path: PathBuf, max: u64, config: &Config) -> Self {
        let begin = journal::begin(config);
        let left = max.saturating_sub(begin.len() as u64);
        let shared = Arc::new(Shared::default());
        shared.state().waiting = begin;
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || theirs.write(to));
        Self { shared, path, left, ended: false }
    }

    /// Records the next input of the node. If the journal ends with it, returns that fact, once.
    pub fn record(&mut self, now: Now, input: &Input) -> Option<Fact> {
        if self.ended {
            return None;
        }
        let why = self.append(now, input).err()?;
        self.ended = true;
        self.shared.close();
        let why = format!("{}: {why}", self.path.display()).into();
        Some(Fact::JournalEnded { why })
    }

    fn append(&mut self, now: Now, input: &Input) -> Result<(), String> {
        let mut state = self.shared.state();
        if let Some(why) = &state.failed {
            return Err(why.to_string());
        }
        let whole = state.waiting.len();
        journal::put(&mut state.waiting, now, input);
        let behind = state.waiting.len();
        let length = (behind - whole) as u64;
        if behind > BEHIND_MAX {
            state.waiting.truncate(whole);
            return Err("the disk does not keep up".into());
        }
        if length > self.left {
            state.waiting.truncate(whole);
            return Err("it is as long as --journal-max allows".into());
        }
        self.left -= length;
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Delays a panic until the inputs that led to it are written. A panic that aborts would lose them.
    pub fn outlive_panics(&self) {
        let shared = Arc::downgrade(&self.shared);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Some(shared) = shared.upgrade() {
                shared.settle();
            }
        }));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.close();
        if !self.shared.settle() && !self.ended {
            let path = self.path.display();
            tracing::warn!(target: "hax", "the end of the journal {path} could not be written");
        }
    }
}

/// Creates a file that did not exist.
fn create(path: &Path) -> Result<(File, PathBuf), Error> {
    let names = (0..=OLD_MAX).map(|n| match n {
        0 => path.to_path_buf(),
        n => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            name.into()
        }
    });
    for path in names {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(Error::Create { path, why }),
        }
    }
    Err(Error::Exist(path.into()))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Returns whether all records are written within some time.
    fn settle(&self) -> bool {
        let unsettled = |state: &mut State| state.busy || !state.waiting.is_empty();
        let settled = self.changed.wait_timeout_while(self.state(), SETTLE_WITHIN, unsettled);
        let (state, late) = settled.unwrap_or_else(PoisonError::into_inner);
        !late.timed_out() && state.failed.is_none()
    }

    /// Runs the thread: writes waiting records until no more will come. It blocks the loop only during a
    /// swap.
    fn write(&self, mut to: impl Write) {
        let mut bytes = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            let state = self.changed.wait_while(self.state(), idle);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut state.waiting, &mut bytes);
            state.busy = true;
            drop(state);
            let written = to.write_all(&bytes);
            bytes.clear();
            bytes.shrink_to(KEEP);
            let mut state = self.state();
            state.busy = false;
            if let Err(why) = written {
                state.failed = Some(why);
                state.waiting = Vec::new();
                state.closed = true;
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
