//! The server thread for all clients.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_core::base::id::FifoId;
use hax_core::base::time::Instant;
use hax_core::fifo::{Announcements, Request, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::conversation::{Conversation, Step};
use super::folder::{ABANDONED, Folder};
use crate::exec::Bell;
use crate::host::clock::Clock;

/// The maximum number of clients at a time. Further clients wait in the pipe. Each client takes two
/// descriptors.
const CLIENTS_MAX: usize = 256;

/// The maximum number of bytes of announcements in one read.
const PART: usize = 4096;

/// A message to the thread.
#[derive(Debug)]
pub(super) enum Word {
    Respond(Response),
    /// Writes the pending replies within this time, and ends the thread.
    Stop(Duration),
}

/// The queue of messages to the thread. There are never more messages than clients.
#[derive(Debug)]
pub(super) struct Queue {
    words: Mutex<VecDeque<Word>>,
    bell: Bell,
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { words: Mutex::default(), bell: Bell::new()? })
    }

    pub(super) fn say(&self, word: Word) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).push_back(word);
        self.bell.ring();
    }

    fn next(&self) -> Option<Word> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The state of the thread; see the module.
pub(super) struct Reactor {
    folder: Folder,
    queue: Arc<Queue>,
    clock: Clock,
    announcements: Announcements,
    clients: BTreeMap<FifoId, Conversation>,
    next_id: FifoId,
    swept: Instant,
    stops_at: Option<Instant>,
}

/// An event source to poll.
#[derive(Clone, Copy, Debug)]
enum Source {
    Bell,
    Requests,
    Client(FifoId),
}

impl Reactor {
    pub(super) fn new(folder: Folder, queue: Arc<Queue>) -> Self {
        let (announcements, clients) = (Announcements::default(), BTreeMap::new());
        let (clock, next_id) = (Clock::new(), FifoId(1));
        let swept = clock.now().mono;
        Self { folder, queue, clock, announcements, clients, next_id, swept, stops_at: None }
    }

    /// Runs until the thread is told to stop. Requests are passed to `ask`.
    pub(super) fn run(mut self, ask: impl Fn(Request)) {
        loop {
            while let Some(word) = self.queue.next() {
                self.obey(word);
            }
            let now = self.clock.now().mono;
            self.clients.retain(|_, client| client.until().is_none_or(|until| until > now));
            if let Some(at) = self.stops_at {
                self.clients.retain(|_, client| client.is_writing());
                if self.clients.is_empty() || at <= now {
                    return self.folder.leave();
                }
            }
            for source in self.wait(now) {
                match source {
                    Source::Bell => self.queue.bell.silence(),
                    Source::Requests => self.on_announcements(),
                    Source::Client(id) => self.on_client(id, &ask),
                }
            }
        }
    }

    fn obey(&mut self, word: Word) {
        match word {
            Word::Respond(Response { id, body }) => {
                let now = self.clock.now().mono;
                let step = self.clients.get_mut(&id).map(|client| client.respond(&body, now));
                if step == Some(Step::Over) {
                    self.clients.remove(&id);
                }
            }
            Word::Stop(within) => self.stops_at = Some(self.clock.now().mono.after(within)),
        }
    }

    /// Waits for ready sources and returns them.
    fn wait(&self, now: Instant) -> Vec<Source> {
        let mut sources = vec![Source::Bell];
        let mut fds = vec![PollFd::from_borrowed_fd(self.queue.bell.as_fd(), PollFlags::IN)];
        if self.clients.len() < CLIENTS_MAX && self.stops_at.is_none() {
            sources.push(Source::Requests);
            fds.push(PollFd::from_borrowed_fd(self.folder.requests(), PollFlags::IN));
        }
        for (id, client) in &self.clients {
            let (fd, flags) = client.waits_for();
            sources.push(Source::Client(*id));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let until = self.clients.values().filter_map(Conversation::until).chain(self.stops_at);
        let time = until.min().map(|at| at.since(now));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        // The call fails if it is interrupted or lacks memory. The next turn polls everything again.
        if poll(&mut fds, time.as_ref()).is_err() {
            return Vec::new();
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        sources.into_iter().zip(&fds).filter(|(_, fd)| is_ready(fd)).map(|(of, _)| of).collect()
    }

    fn on_announcements(&mut self) {
        // The poll may have taken long. The time limit of a client counts from here.
        let now = self.clock.now().mono;
        let mut part = [0; PART];
        let Ok(read) = rustix::io::read(self.folder.requests(), &mut part) else { return };
        for token in self.announcements.push(&part[..read]) {
            if let Some((request, answer)) = self.folder.take(&token) {
                let client = Conversation::new(request, answer, now);
                self.clients.insert(self.next_id.mint(), client);
            }
        }
        if now.since(self.swept) >= ABANDONED {
            self.swept = now;
            self.folder.sweep(ABANDONED);
        }
    }

    fn on_client(&mut self, id: FifoId, ask: &impl Fn(Request)) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.on_ready() {
            Step::GoesOn => {}
            Step::Asked(body) => ask(Request { id, body }),
            Step::Over => drop(self.clients.remove(&id)),
        }
    }
}
