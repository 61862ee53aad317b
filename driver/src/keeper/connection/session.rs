//! One connection to the keeper: frames in both directions, and the requests without an answer.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hax_core::base::id::AskId;
use hax_core::base::time::Instant;
use hax_core::keeper::answer::{Answer, KeeperView, Message, View, What};
use hax_core::keeper::frame::{ANSWER_MAX, Frames, encode};
use hax_core::keeper::port::{Event, Unanswered};
use hax_core::keeper::request::{Ask, Request, VERSION};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// The id of the request for the list of instances and their events. The machine's requests have the
/// following ones.
const WATCH: u64 = 0;

/// The size of one read, in bytes.
const PIECE: usize = 64 << 10;

/// The maximum number of instances that a keeper may list. It bounds the memory for a keeper that does not
/// end its list.
const INSTANCES_MAX: usize = 64 << 10;

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: AskId,
    since: Instant,
}

/// One connection; see the module.
#[derive(Debug)]
pub(super) struct Session {
    stream: UnixStream,
    frames: Frames,
    /// The bytes that the socket has not taken yet.
    unsent: Vec<u8>,
    /// The instances of the pages so far. `None` once the list is complete.
    listed: Option<Vec<View>>,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    opened: Instant,
}

impl Session {
    /// Connects to a socket and asks for all instances and events.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the listener has too many waiting clients.
    pub(super) fn open(path: &Path, now: Instant) -> io::Result<Self> {
        // The socket does not block, because the queue of a frozen keeper may be full.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let mut session = Self {
            stream: UnixStream::from(socket),
            frames: Frames::new(ANSWER_MAX),
            unsent: Vec::new(),
            listed: Some(Vec::new()),
            pending: BTreeMap::new(),
            next: WATCH + 1,
            opened: now,
        };
        session.queue(WATCH, Ask::Watch);
        session.flush()?;
        Ok(session)
    }

    /// Returns whether the list of instances is complete.
    pub(super) fn is_up(&self) -> bool {
        self.listed.is_none()
    }

    /// Returns whether the socket takes bytes that wait.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Returns the time of the oldest request without an answer.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let asked = self.pending.first_key_value().map(|(_, pending)| pending.since);
        asked.or_else(|| (!self.is_up()).then_some(self.opened))
    }

    /// Sends a request of the machine.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub(super) fn ask(&mut self, id: AskId, ask: Ask, now: Instant) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        self.pending.insert(number, Pending { id, since: now });
        self.queue(number, ask);
        self.flush()
    }

    fn queue(&mut self, id: u64, ask: Ask) {
        let body = serde_json::to_vec(&Request { v: VERSION, id, ask }).expect("plain data");
        self.unsent.extend(encode(&body));
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Reads what has arrived and appends the resulting events.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the keeper sends an invalid message.
    pub(super) fn on_readable(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let n = match self.stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(why)
                if matches!(why.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                return Ok(());
            }
            Err(why) => return Err(why),
        };
        self.frames.push(&piece[..n]);
        while let Some(body) = self.frames.next_body().map_err(|why| invalid(why.to_string()))? {
            let message = serde_json::from_slice(&body).map_err(invalid)?;
            events.extend(self.on_message(message)?);
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> io::Result<Option<Event>> {
        match (message.what, message.id) {
            (What::Event(event), _) => Ok(self.is_up().then_some(Event::Changed(event))),
            (What::Answer(Answer::Instances { keeper, instances, more }), Some(WATCH)) => {
                self.on_page(keeper, instances, more)
            }
            (What::Answer(answer), Some(id)) => Ok(self.answered(id, Ok(answer))),
            (What::Error(error), Some(id)) if id != WATCH => {
                Ok(self.answered(id, Err(Unanswered::Refused(error))))
            }
            (What::Error(error), Some(_) | None) => Err(invalid(error.text)),
            (What::Answer(_), None) => Err(invalid("an answer without the id of its request")),
        }
    }

    fn on_page(
        &mut self,
        keeper: Box<KeeperView>,
        instances: Vec<View>,
        more: bool,
    ) -> io::Result<Option<Event>> {
        let Some(listed) = &mut self.listed else {
            return Err(invalid("a second list of instances"));
        };
        if listed.len() + instances.len() > INSTANCES_MAX {
            return Err(invalid("more instances than a keeper can have"));
        }
        listed.extend(instances);
        if more {
            return Ok(None);
        }
        let instances = self.listed.take().unwrap_or_default();
        Ok(Some(Event::Up { keeper, instances }))
    }

    /// Returns the event of an answer; `None` if no request with this id waits.
    fn answered(&mut self, id: u64, result: Result<Answer, Unanswered>) -> Option<Event> {
        let Pending { id, .. } = self.pending.remove(&id)?;
        Some(Event::Answered { id, result })
    }

    /// Returns the ids of the requests without an answer.
    pub(super) fn into_lost(self) -> impl Iterator<Item = AskId> {
        self.pending.into_values().map(|pending| pending.id)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
