//! The thread that starts all helpers and waits for all of them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::Sender;
use hax_core::base::id::ExecId;
use hax_core::base::time::Instant;
use hax_core::exec::{Command, Event, Refusal, Spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::Settings;
use super::bell::Bell;
use super::helper::{Helper, Source};
use super::outbox::Outbox;
use super::programs::refusal;
use crate::host::clock::Clock;

/// The wait after the last SIGKILL for processes that hang in a system call. The kernel does not end such a
/// process.
const UNKILLABLE: Duration = Duration::from_millis(500);

/// A message to the thread.
#[derive(Debug)]
pub(super) enum Word {
    Do(Command),
    /// Ends all helpers, each within its grace and this time, and then the thread.
    Stop(Duration),
}

/// The queue of messages to the thread. They are at most the machine's commands without an event, and
/// machines bound the number of those.
#[derive(Debug)]
pub(super) struct Queue {
    words: Mutex<VecDeque<Word>>,
    pub(super) bell: Arc<Bell>,
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { words: Mutex::default(), bell: Arc::new(Bell::new()?) })
    }

    pub(super) fn say(&self, word: Word) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).push_back(word);
        self.bell.ring();
    }

    fn next(&self) -> Option<Word> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn is_empty(&self) -> bool {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The state of the thread; see the module.
pub(super) struct Reactor {
    pub(super) settings: Settings,
    /// The function that watches for the end of a child.
    pub(super) watch: fn(Pid) -> io::Result<OwnedFd>,
    pub(super) queue: Arc<Queue>,
    pub(super) outbox: Outbox,
    /// A channel that closes when the thread ends.
    pub(super) ended: Sender<Infallible>,
    pub(super) clock: Clock,
    pub(super) helpers: BTreeMap<ExecId, Helper>,
    /// The time of the thread's end, even if helpers still run; set once the thread has been told to stop.
    pub(super) stops_at: Option<Instant>,
}

impl Reactor {
    /// Runs until the thread is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.outbox.flush();
            let now = self.clock.now().mono;
            // One message is handled per turn: the creation of a process takes a while, and the other helpers
            // go on meanwhile.
            if let Some(word) = self.queue.next() {
                self.obey(word, now, &mut events);
            }
            self.helpers.retain(|_, helper| !helper.tend(now, &mut events));
            events.drain(..).for_each(|event| self.outbox.push(event));
            let is_over = self.helpers.is_empty() || self.stops_at.is_some_and(|at| at <= now);
            if self.stops_at.is_some() && is_over && self.queue.is_empty() {
                self.ended.close();
                return;
            }
            for (id, source) in self.wait() {
                let now = self.clock.now().mono;
                if let Some(helper) = self.helpers.get_mut(&id) {
                    helper.on_ready(source, now, &mut events);
                }
            }
            events.drain(..).for_each(|event| self.outbox.push(event));
        }
    }

    fn obey(&mut self, word: Word, now: Instant, events: &mut Vec<Event>) {
        match word {
            Word::Do(Command::Spawn(spawn)) => {
                let id = spawn.id;
                events.push(match self.spawn(*spawn) {
                    Ok(()) => Event::Started { id },
                    Err(why) => Event::Refused { id, why },
                });
            }
            Word::Do(Command::Kill { id }) => {
                if let Some(helper) = self.helpers.get_mut(&id) {
                    helper.kill(now);
                }
            }
            Word::Stop(within) => {
                self.stops_at = Some(now.after(within).after(UNKILLABLE));
                self.helpers.values_mut().for_each(|helper| helper.hurry(within, now));
            }
        }
    }

    fn spawn(&mut self, spawn: Spawn) -> Result<(), Refusal> {
        if self.stops_at.is_some() {
            return Err(Refusal::Stopping);
        }
        if self.helpers.len() >= self.settings.running_max {
            return Err(Refusal::TooMany);
        }
        let id = spawn.id;
        assert!(!self.helpers.contains_key(&id), "{id} is started twice");
        let name = spawn.argv.first().ok_or(Refusal::Malformed)?;
        if !is_well_formed(&spawn) {
            return Err(Refusal::Malformed);
        }
        let program = self.settings.programs.find(spawn.origin, Path::new(&**name));
        let program = program.map_err(|why| {
            tracing::warn!(target: "hax", %id, %why, "a program is not run");
            why.refusal()
        })?;
        let started = Helper::spawn(&program, spawn, self.watch, self.clock.now().mono);
        self.helpers.insert(id, started.map_err(|why| refusal(&why))?);
        Ok(())
    }

    /// Waits until there is something to do. Returns the sources that have become ready, with their helpers.
    fn wait(&self) -> Vec<(ExecId, Source)> {
        let now = self.clock.now().mono;
        let blocked = self.outbox.is_blocked();
        let mut sources = Vec::new();
        let mut files = vec![PollFd::new(&*self.queue.bell, PollFlags::IN)];
        for (id, helper) in &self.helpers {
            for (source, file) in helper.sources(now, blocked) {
                let wanted = match source {
                    Source::Stdin => PollFlags::OUT,
                    Source::Ended | Source::Output(_) => PollFlags::IN,
                };
                sources.push((*id, source));
                files.push(PollFd::from_borrowed_fd(file, wanted));
            }
        }
        let next = self.helpers.values().filter_map(|helper| helper.next_at(now));
        let next = if self.queue.is_empty() { next.chain(self.stops_at).min() } else { Some(now) };
        let timeout = next.map(|at| timespec(at.since(now)));
        // The call fails if it is interrupted or lacks memory. The next turn tries again.
        if poll(&mut files, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        if !files[0].revents().is_empty() {
            self.queue.bell.silence();
        }
        let ready = files.iter().skip(1).map(|file| !file.revents().is_empty());
        sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect()
    }
}

/// Returns whether all strings can be passed to a program.
fn is_well_formed(spawn: &Spawn) -> bool {
    let is_text = |text: &str| !text.contains('\0');
    let is_name = |name: &str| !name.is_empty() && is_text(name) && !name.contains('=');
    spawn.argv.iter().all(|word| is_text(word))
        && spawn.env.iter().all(|(name, value)| is_name(name) && is_text(value))
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
