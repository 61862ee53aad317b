//! The double of the port for named pipes ([`hax_core::fifo`]): a server's directory, and clients with
//! behavior as data.
//!
//! The double keeps the port's promises (one request of a client, handed on when it is complete; an answer
//! that is read, or the end). Clients may die at any byte, be slow, and write anything: [`Behavior::drawn`]
//! draws their behavior.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::FifoId;
use hax_core::base::time::Instant;
use hax_core::fifo::{Announcements, LENGTH, Progress, Request, Response, Token, frame, progress};

use crate::due::DueQueue;

/// The time limit of a client for its request, and for reading its answer.
const WITHIN: Duration = Duration::from_secs(2);
/// The latency from one end to the other.
const LATENCY: Duration = Duration::from_millis(1);
/// The capacity of a pipe (pipe(7)).
const PIPE: usize = 64 << 10;

/// The number of simultaneous clients of a host with large limits.
pub const CLIENTS_MAX: usize = 256;

/// The identifier of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    /// Returns the token of the client's announcement.
    fn token(self) -> Option<Token> {
        Token::new(&format!("client-{}", self.0))
    }
}

/// The behavior of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// The bytes of another process in the pipe for announcements.
    pub before: Bytes,
    /// The number of announcements of the client.
    pub announces: u8,
    /// The size of one write of its request in bytes, at least 1.
    pub part: usize,
    /// The pause between two of these writes.
    pub pause: Duration,
    /// The number of written bytes before the client's death, if any.
    pub dies_at: Option<usize>,
    /// The time after its announcement when the client dies, if ever.
    pub dies_after: Option<Duration>,
    /// The time between the arrival of an answer and its reading.
    pub reads_after: Duration,
}

impl Behavior {
    /// A client without delays. It waits for its answer.
    pub const PROMPT: Self = Self {
        before: Bytes::new(),
        announces: 1,
        part: usize::MAX,
        pause: LATENCY,
        dies_at: None,
        dies_after: None,
        reads_after: LATENCY,
    };

    /// Draws the behavior of a client with a request of `bytes` bytes. `choose` returns a number below its
    /// argument; 0 is the harmless choice.
    #[must_use]
    pub fn drawn(bytes: usize, mut choose: impl FnMut(u64) -> u64) -> Self {
        let mut behavior = Self::PROMPT;
        let fate = choose(8);
        let mut some = |most: usize| usize::try_from(choose(most as u64)).unwrap_or(0);
        let ms = |n: usize| Duration::from_millis(n as u64);
        match fate {
            1 => behavior.dies_at = Some(some(bytes + 1)),
            2 => behavior.dies_after = Some(ms(some(3_000))),
            3 => {
                behavior.part = 1 + bytes / (1 + some(8));
                behavior.pause = ms(1 + some(1_000));
            }
            4 => behavior.reads_after = LATENCY + ms(some(5_000)),
            5 => {
                behavior.before = match some(4) {
                    0 => Bytes::from_static(b"H1 half"),
                    1 => Bytes::from_static(b"\nH1 nobody\nH1 no-body"),
                    2 => Bytes::from(vec![0xff; some(5_000)]),
                    _ => Bytes::from_static(b"\0\n\n\nH2 x\nH1 a/../b"),
                };
            }
            6 => behavior.announces = 2,
            7 => {
                behavior.announces = 0;
                behavior.dies_after = Some(ms(some(100)));
            }
            _ => {}
        }
        behavior
    }

    /// Returns whether the client must receive an answer to its request of `bytes` bytes.
    #[must_use]
    pub fn is_in_time(&self, bytes: usize) -> bool {
        let parts = u32::try_from(bytes.div_ceil(self.part)).unwrap_or(u32::MAX);
        let writes = self.pause.saturating_mul(parts);
        let lives = self.dies_at.is_none() && self.dies_after.is_none();
        lives && self.announces > 0 && writes < WITHIN && self.reads_after < WITHIN
    }
}

/// An event of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// A client's request is complete, and the machine receives it.
    Asked(ClientId, Request),
    /// A client has received its answer.
    Answered(ClientId, Bytes),
    /// A client sees the end without an answer.
    Ended(ClientId),
    /// A client is dead.
    Died(ClientId),
}

/// The outcome of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipeOutcome {
    /// The client has received its answer.
    Answered(Bytes),
    /// The client sees the end without an answer: its server is gone, or has given it up.
    Ended,
    /// The client itself has died.
    Died,
}

#[derive(Debug)]
struct Client {
    behavior: Behavior,
    /// The remaining bytes of the client's request.
    unwritten: Bytes,
    written: usize,
    /// The client's written bytes, unread by the server.
    pipe: Vec<u8>,
    has_announced: bool,
    state: State,
}

/// The server's state of a client.
#[derive(Debug)]
enum State {
    /// The server does not know the client.
    Unknown,
    Reading(FifoId, Vec<u8>),
    /// The machine has to answer.
    Waiting(FifoId),
    /// The answer exceeds the capacity of the pipe, and the client is reading it.
    Writing(Bytes),
    /// The server is done with the client.
    Over,
}

impl State {
    fn is_served(&self) -> bool {
        matches!(self, Self::Reading(..) | Self::Waiting(_) | Self::Writing(_))
    }
}

#[derive(Debug)]
enum Due {
    Announce,
    Write,
    Die,
    /// The server stops waiting for a request.
    Expire,
    /// The server stops waiting for the client to read its answer.
    GiveUp,
    /// The client reads its complete answer.
    Read(Bytes),
    /// The client sees the end.
    End,
    Ask(Request),
}

/// A server's directory.
#[derive(Debug)]
pub struct Pipes {
    /// The maximum number of simultaneous clients. Further clients wait.
    clients_max: usize,
    is_served: bool,
    announcements: Announcements,
    /// The unread announcements.
    unread: Vec<u8>,
    clients: BTreeMap<ClientId, Client>,
    next_id: FifoId,
    due: DueQueue<ClientId, Due>,
}

impl Pipes {
    /// Creates a directory without a server.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self {
            clients_max,
            is_served: false,
            announcements: Announcements::default(),
            unread: Vec::new(),
            clients: BTreeMap::new(),
            next_id: FifoId(1),
            due: DueQueue::default(),
        }
    }

    /// Makes a daemon serve from now on.
    pub fn serve(&mut self) {
        self.is_served = true;
        self.next_id = FifoId(1);
    }

    /// Adds a client. It writes these bytes to its pipe.
    pub fn add_client(&mut self, now: Instant, id: ClientId, writes: Bytes, behavior: Behavior) {
        let announces = u32::from(behavior.announces);
        (1..=announces).for_each(|nth| self.due.push(now.after(nth * LATENCY), id, Due::Announce));
        if let Some(after) = behavior.dies_after {
            self.due.push(now.after(after), id, Due::Die);
        }
        self.due.push(now, id, Due::Write);
        let client = Client {
            behavior,
            unwritten: writes,
            written: 0,
            pipe: Vec::new(),
            has_announced: false,
            state: State::Unknown,
        };
        self.clients.insert(id, client);
    }

    /// Delivers the machine's answer to a request.
    pub fn respond(&mut self, now: Instant, response: &Response) {
        let waits =
            |client: &Client| matches!(client.state, State::Waiting(id) if id == response.id);
        let found = self.clients.iter_mut().find(|(_, client)| waits(client));
        // The client may be dead.
        let Some((id, client)) = found else { return };
        let (id, reads_after) = (*id, client.behavior.reads_after);
        let whole = frame(&response.body);
        if whole.len() <= PIPE || reads_after < WITHIN {
            let is_long = whole.len() > PIPE;
            let body = Bytes::from(whole).slice(LENGTH..);
            client.state = if is_long { State::Writing(body.clone()) } else { State::Over };
            self.due.push(now.after(reads_after), id, Due::Read(body));
        } else {
            client.state = State::Writing(response.body.clone());
            self.due.push(now.after(WITHIN), id, Due::GiveUp);
        }
        self.read_announcements(now);
    }

    /// Returns the time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.due.next_at()
    }

    /// Returns the living clients without an outcome.
    pub fn waiting(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// Takes the next due event, if any.
    pub fn pop(&mut self, now: Instant) -> Option<SimEvent> {
        loop {
            let (at, id, due) = self.due.pop(now)?;
            if let Some(happening) = self.on_due(at, id, due) {
                return Some(happening);
            }
        }
    }

    fn on_due(&mut self, now: Instant, id: ClientId, due: Due) -> Option<SimEvent> {
        if let Due::Ask(request) = due {
            return Some(SimEvent::Asked(id, request));
        }
        let client = self.clients.get_mut(&id)?;
        match due {
            Due::Ask(_) => None,
            Due::Announce if !self.is_served => self.leave(now, id, SimEvent::Ended(id)),
            Due::Announce => {
                client.has_announced = true;
                self.unread.extend_from_slice(&client.behavior.before);
                let announcement = id.token().map(|token| token.announcement());
                self.unread.extend(announcement.unwrap_or_default().bytes());
                self.read_announcements(now);
                None
            }
            Due::Write => self.write(now, id),
            Due::Die => self.leave(now, id, SimEvent::Died(id)),
            Due::Expire if !matches!(client.state, State::Reading(..)) => None,
            Due::Expire | Due::GiveUp | Due::End => self.leave(now, id, SimEvent::Ended(id)),
            Due::Read(body) => self.leave(now, id, SimEvent::Answered(id, body)),
        }
    }

    /// Removes a client after its end of any kind, and makes room for the next one.
    fn leave(&mut self, now: Instant, id: ClientId, how: SimEvent) -> Option<SimEvent> {
        self.clients.remove(&id);
        self.read_announcements(now);
        Some(how)
    }

    fn write(&mut self, now: Instant, id: ClientId) -> Option<SimEvent> {
        let client = self.clients.get_mut(&id)?;
        let Behavior { part, pause, dies_at, .. } = client.behavior;
        let left = dies_at.map_or(usize::MAX, |at| at - client.written);
        let part = part.min(left).min(client.unwritten.len());
        client.pipe.extend_from_slice(&client.unwritten.split_to(part));
        client.written += part;
        if part == left {
            // The server may take the client's bytes before it sees that the client is gone.
            self.due.push(now.after(2 * LATENCY), id, Due::Die);
        } else if !client.unwritten.is_empty() {
            self.due.push(now.after(pause), id, Due::Write);
        }
        self.read(now, id);
        None
    }

    fn read_announcements(&mut self, now: Instant) {
        while self.is_served && !self.unread.is_empty() {
            let serving = self.clients.values().filter(|client| client.state.is_served()).count();
            if serving >= self.clients_max {
                return;
            }
            // A server reads all announcements. It may then exceed the limit by a few clients.
            let bytes = std::mem::take(&mut self.unread);
            for token in self.announcements.push(&bytes) {
                self.take(now, &token);
            }
        }
    }

    fn take(&mut self, now: Instant, token: &Token) {
        let is_it = |id: &ClientId| id.token().as_ref() == Some(token);
        let found = self.clients.iter_mut().find(|(id, _)| is_it(id));
        let Some((id, client)) = found else { return };
        if !matches!(client.state, State::Unknown) {
            return;
        }
        client.state = State::Reading(self.next_id.mint(), Vec::new());
        let id = *id;
        self.due.push(now.after(WITHIN), id, Due::Expire);
        self.read(now, id);
    }

    /// Reads the bytes of a client as far as they make a request.
    fn read(&mut self, now: Instant, id: ClientId) {
        let Some(Client { pipe, state, .. }) = self.clients.get_mut(&id) else { return };
        let State::Reading(name, read) = state else { return };
        while let Progress::Lacks(lacks) = progress(read)
            && !pipe.is_empty()
        {
            read.extend(pipe.drain(..lacks.min(pipe.len())));
        }
        match progress(read) {
            Progress::Lacks(_) => {}
            Progress::Malformed => {
                *state = State::Over;
                self.due.push(now.after(LATENCY), id, Due::End);
            }
            Progress::Complete => {
                let body = Bytes::from(std::mem::take(read)).slice(LENGTH..);
                let request = Request { id: *name, body };
                *state = State::Waiting(request.id);
                self.due.push(now.after(LATENCY), id, Due::Ask(request));
            }
        }
    }

    /// Cancels all deaths and delays of clients. A client without an announcement dies now.
    pub fn end_faults(&mut self, now: Instant) {
        self.due.retain(|_, due| !matches!(due, Due::Die));
        let mut idle = Vec::new();
        for (id, client) in &mut self.clients {
            client.behavior = Behavior { announces: client.behavior.announces, ..Behavior::PROMPT };
            if client.behavior.announces == 0 {
                idle.push(*id);
            }
        }
        idle.into_iter().for_each(|id| self.due.push(now, id, Due::Die));
    }

    /// Handles the death of the daemon. Answers in pipes are still read. A client without an answer sees the
    /// end.
    pub fn daemon_killed(&mut self, now: Instant) {
        self.is_served = false;
        self.unread.clear();
        self.announcements = Announcements::default();
        self.due.retain(|_, due| !matches!(due, Due::Ask(_)));
        let waits = |client: &Client| match client.state {
            State::Unknown => client.has_announced,
            State::Reading(..) | State::Waiting(_) | State::Writing(_) => true,
            State::Over => false,
        };
        let ids: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| waits(client)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.settle(now.after(LATENCY), id, Due::End));
    }

    /// Replaces all future events of a client with this one, except for its death.
    fn settle(&mut self, at: Instant, id: ClientId, due: Due) {
        self.due.retain(|of, due| *of != id || matches!(due, Due::Die));
        self.due.push(at, id, due);
    }

    /// Handles the exit of the machine: first the clients receive the answers in progress.
    pub fn machine_exited(&mut self, now: Instant) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if let State::Writing(body) = &client.state
                && client.behavior.reads_after < WITHIN
            {
                let body = body.clone();
                client.state = State::Over;
                self.settle(now, id, Due::Read(body));
            }
        }
        self.daemon_killed(now);
    }
}

#[cfg(test)]
mod tests;
