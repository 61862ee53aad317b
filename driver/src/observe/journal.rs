//! The journal of a daemon (`--journal`): all that goes into its node, in the form of
//! [`hax_core::journal`], so that what was seen once in production can be seen again on a desk.
//!
//! The loop never waits for the disk: it appends to memory, and a thread writes. What is written is
//! whole records but for the last, so a journal that a crash has cut off is read up to there. A journal
//! that cannot be kept ends; hax goes on.

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

/// The longest body that a record is sure to hold, beside what else is in it.
pub const BODY_MAX: usize = journal::RECORD_MAX - (1 << 20);

/// How many bytes may wait for the disk: more than the longest record.
const BEHIND_MAX: usize = journal::RECORD_MAX + (16 << 20);

/// How many journals of earlier lives there may be beside the first.
const OLD_MAX: u32 = 9;

/// How long the end of a journal waits for the disk.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// What keeps its place in memory for the next records.
const KEEP: usize = 1 << 20;

/// Why a journal cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are too many journals of that name.
    #[error("{} and its successors up to .{OLD_MAX} exist, and none is overwritten", .0.display())]
    Exist(PathBuf),
    /// The file cannot be created.
    #[error("cannot create {}: {why}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
}

/// A journal that is being written. Dropped, it waits until all is written, though not for long.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes it may still take.
    left: u64,
    ended: bool,
}

/// What the loop and the thread share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole records that nobody has begun to write.
    waiting: Vec<u8>,
    /// The thread writes.
    busy: bool,
    /// Nothing more will come.
    closed: bool,
    /// Why no more can be written.
    failed: Option<io::Error>,
}

/// A machine of which a journal is kept, as long as it can be.
pub struct Journaled<M> {
    /// The machine.
    pub machine: M,
    /// Its journal, if one is wanted.
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
    /// Begins the journal of a node with this configuration at `path`, or, where that exists already,
    /// at the first of `path.1` to `path.9` that does not; only the owner can read it. It ends when
    /// it would grow beyond `max` bytes.
    ///
    /// # Errors
    ///
    /// If there is no file to be had.
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

    /// Takes down what is about to go into the node. If the journal ends with that, says so, once.
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

    /// Lets a panic wait until what led to it is written: where panics abort, nothing else would.
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

/// A file that was not there before.
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

    /// Whether all that was taken down is written, within some time.
    fn settle(&self) -> bool {
        let unsettled = |state: &mut State| state.busy || !state.waiting.is_empty();
        let settled = self.changed.wait_timeout_while(self.state(), SETTLE_WITHIN, unsettled);
        let (state, late) = settled.unwrap_or_else(PoisonError::into_inner);
        !late.timed_out() && state.failed.is_none()
    }

    /// The thread: writes what waits, until nothing more will come. Only a swap holds up the loop.
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
