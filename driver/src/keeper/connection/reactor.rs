//! The thread of the connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_core::base::time::Instant;
use hax_core::keeper::port::{Command, Event, Unanswered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::session::Session;
use crate::exec::Bell;
use crate::host::clock::Clock;
use crate::keeper::SOCKET;

/// The pause between two attempts to connect. systemd starts a killed keeper again after 100 ms.
const PAUSE: Duration = Duration::from_millis(50);

/// A message to the thread.
#[derive(Debug)]
pub(super) enum Word {
    Ask(Box<Command>),
    Stop,
}

/// The queue of messages to the thread.
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

/// The state of the connection.
#[derive(Debug)]
enum State {
    /// There is no connection. The next attempt is due at this time.
    Closed {
        next: Instant,
    },
    Open(Box<Session>),
}

/// The state of the thread; see the module.
pub(super) struct Reactor {
    socket: PathBuf,
    queue: Arc<Queue>,
    clock: Clock,
    /// The maximum time for an answer.
    within: Duration,
    state: State,
    /// The reason that was reported last, until the connection is up again.
    reported: Option<Box<str>>,
    events: Vec<Event>,
}

impl Reactor {
    pub(super) fn new(folder: &Path, queue: Arc<Queue>, within: Duration) -> Self {
        let clock = Clock::new();
        let state = State::Closed { next: clock.now().mono };
        let socket = folder.join(SOCKET);
        Self { socket, queue, clock, within, state, reported: None, events: Vec::new() }
    }

    /// Runs until the thread is told to stop, or until `deliver` returns false: nobody takes events any more.
    pub(super) fn run(mut self, deliver: impl Fn(Event) -> bool) {
        loop {
            while let Some(word) = self.queue.next() {
                match word {
                    Word::Ask(command) => self.ask(*command),
                    Word::Stop => return self.leave(),
                }
            }
            self.connect();
            for event in self.events.drain(..) {
                if !deliver(event) {
                    return;
                }
            }
            self.wait();
        }
    }

    fn ask(&mut self, Command { id, ask }: Command) {
        match &mut self.state {
            State::Open(session) if session.is_up() => {
                let sent = session.ask(id, ask, self.clock.now().mono);
                self.check(sent);
            }
            State::Open(_) | State::Closed { .. } => {
                let result = Err(Unanswered::NotSent);
                self.events.push(Event::Answered { id, result });
            }
        }
    }

    fn connect(&mut self) {
        let now = self.clock.now().mono;
        match &self.state {
            State::Closed { next } if *next <= now => match Session::open(&self.socket, now) {
                Ok(session) => self.state = State::Open(Box::new(session)),
                Err(why) => self.close(&why),
            },
            State::Open(session)
                if session.waits_since().is_some_and(|since| since.after(self.within) <= now) =>
            {
                self.close(&io::Error::new(io::ErrorKind::TimedOut, "the keeper does not answer"));
            }
            State::Open(_) | State::Closed { .. } => {}
        }
    }

    /// Waits for the socket, for a message to the thread, or for the time of the next attempt.
    fn wait(&mut self) {
        let now = self.clock.now().mono;
        let mut fds = vec![PollFd::from_borrowed_fd(self.queue.bell.as_fd(), PollFlags::IN)];
        let until = match &self.state {
            State::Closed { next } => Some(*next),
            State::Open(session) => {
                let write = if session.wants_to_write() { PollFlags::OUT } else { PollFlags::IN };
                fds.push(PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN | write));
                session.waits_since().map(|since| since.after(self.within))
            }
        };
        let time = until.and_then(|at| Timespec::try_from(at.since(now)).ok());
        // The call fails if it is interrupted or lacks memory. The next turn polls everything again.
        if poll(&mut fds, time.as_ref()).is_err() {
            return;
        }
        let ready = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        self.queue.bell.silence();
        if ready.is_empty() {
            return;
        }
        let State::Open(session) = &mut self.state else { return };
        let was_up = session.is_up();
        let done = session.flush().and_then(|()| session.on_readable(&mut self.events));
        if session.is_up() && !was_up {
            self.reported = None;
        }
        self.check(done);
    }

    fn check(&mut self, done: io::Result<()>) {
        if let Err(why) = done {
            self.close(&why);
        }
    }

    /// Ends the connection. Its requests are lost, and the next attempt follows after a pause.
    fn close(&mut self, why: &io::Error) {
        let next = self.clock.now().mono.after(PAUSE);
        if let State::Open(session) = std::mem::replace(&mut self.state, State::Closed { next }) {
            let lost = |id| Event::Answered { id, result: Err(Unanswered::Lost) };
            self.events.extend(session.into_lost().map(lost));
        }
        let why: Box<str> = format!("{}: {why}", self.socket.display()).into();
        if self.reported.as_ref() != Some(&why) {
            self.events.push(Event::Down { why: why.clone() });
            self.reported = Some(why);
        }
    }

    /// Sends the requests that wait, as far as the socket takes them.
    fn leave(mut self) {
        if let State::Open(session) = &mut self.state {
            // An error means that the connection is lost, and with it the requests.
            let _ = session.flush();
        }
    }
}
