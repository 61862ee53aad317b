//! The clients of the socket. No operation blocks on a client, and the memory for each client is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hax_core::base::time::Instant;
use hax_core::keeper::ClientId;
use hax_core::keeper::answer::{Code, Error, Message};
use hax_core::keeper::frame::{BODY_MAX, Frames, encode};
use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

/// The socket's name in the keeper's folder.
pub const SOCKET: &str = "socket";

/// The maximum number of clients. A further client waits, or replaces the client with the longest silence.
const CLIENTS_MAX: usize = 32;

/// The minimum silence of a client before another client can replace it.
const SILENT: Duration = Duration::from_millis(500);

/// The limit of unsent bytes for reading a client's requests. From this number on its requests are not read.
const WAITING: usize = 1 << 20;

/// The limit of unsent bytes for a connection. From this number on the client is disconnected. The events of
/// 8,192 instances at once fit between [`WAITING`] and this limit.
const WAITING_MAX: usize = 8 << 20;

/// The maximum number of bytes to read in a turn.
const PIECE: usize = 64 << 10;

/// The socket and the connected clients.
pub(super) struct Clients {
    listener: UnixListener,
    path: PathBuf,
    shared: bool,
    clients: BTreeMap<ClientId, Client>,
    next: u64,
}

struct Client {
    stream: UnixStream,
    /// The user id of the client, as the kernel reports it.
    user: u32,
    frames: Frames,
    waiting: VecDeque<u8>,
    /// The time of the last transfer from the client or to it.
    heard: Instant,
    /// Whether the connection ends once the unsent messages are sent.
    is_ending: bool,
}

/// The result of looking for a client's next request.
pub(super) enum Heard {
    /// The body of a frame.
    Body { user: u32, body: Vec<u8> },
    /// Nothing is available for now.
    Nothing,
    /// The client is gone.
    Gone,
}

impl Clients {
    /// Listens in this folder. If a group is given, its members may connect.
    pub(super) fn listen(folder: &Path, group: Option<u32>) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        // No other user can reach the socket before its mode is set, since the folder is closed to them.
        let listener = UnixListener::bind(&path)?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        if group.is_some() {
            for path in [folder, &path] {
                std::os::unix::fs::chown(path, None, group)?;
            }
        }
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let shared = group.is_some();
        Ok(Self { listener, path, shared, clients: BTreeMap::new(), next: 1 })
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Returns the descriptors of the clients, with the events to poll.
    pub(super) fn waits(&self) -> impl Iterator<Item = (ClientId, BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|(id, client)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.may_ask());
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            (*id, client.stream.as_fd(), flags)
        })
    }

    /// Returns the time of the next possible accept, if that is not now.
    pub(super) fn full_until(&self, now: Instant) -> Option<Instant> {
        if self.clients.len() < CLIENTS_MAX {
            return None;
        }
        let longest = self.clients.values().map(|client| client.heard).min()?;
        Some(longest.after(SILENT)).filter(|at| *at > now)
    }

    /// Accepts the waiting clients. Returns the clients that were disconnected to make room.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<ClientId> {
        let mut gone = Vec::new();
        // A failed client is gone before it was accepted, or the process has no descriptor left. The next
        // turn tries again.
        while self.full_until(now).is_none() {
            let Ok((stream, _)) = self.listener.accept() else { break };
            let Ok(peer) = socket_peercred(&stream) else { continue };
            let user = peer.uid.as_raw();
            let is_known = user == 0 || user == geteuid().as_raw() || self.shared;
            if !is_known || stream.set_nonblocking(true).is_err() {
                tracing::warn!(target: "hax", user, "a client is refused");
                continue;
            }
            if self.clients.len() >= CLIENTS_MAX {
                let longest = self.clients.iter().min_by_key(|(_, client)| client.heard);
                if let Some((id, _)) = longest {
                    gone.push(*id);
                    self.clients.remove(&gone[gone.len() - 1]);
                }
            }
            let id = ClientId(self.next);
            self.next += 1;
            self.clients.insert(id, Client::new(stream, user, now));
        }
        gone
    }

    /// Reads the available bytes. A client that has hung up gets no more replies.
    pub(super) fn read(&mut self, id: ClientId, has_hung_up: bool, now: Instant) {
        if let Some(client) = self.clients.get_mut(&id) {
            if has_hung_up {
                client.waiting.clear();
            }
            client.read(now);
        }
    }

    /// Returns the next request of a client. The requests of a client that does not read its replies are not
    /// read either.
    pub(super) fn next(&mut self, id: ClientId) -> Heard {
        let Some(client) = self.clients.get_mut(&id) else { return Heard::Nothing };
        let heard = client.next();
        if matches!(heard, Heard::Gone) {
            self.clients.remove(&id);
        }
        heard
    }

    /// Sends a message, or as much of it as the socket has room for. Returns whether the client is gone after
    /// that.
    pub(super) fn send(&mut self, id: ClientId, message: &Message, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        client.heard = now;
        client.waiting.extend(encode(&message.encode()));
        let is_slow = client.waiting.len() > WAITING_MAX;
        if is_slow {
            tracing::warn!(target: "hax", user = client.user, "a client that does not read is cut off");
        }
        let is_gone = is_slow || !client.write();
        if is_gone {
            self.clients.remove(&id);
        }
        is_gone
    }

    /// Sends the unsent messages. Returns whether the client is gone after that.
    pub(super) fn write(&mut self, id: ClientId) -> bool {
        let is_gone = self.clients.get_mut(&id).is_some_and(|client| !client.write());
        if is_gone {
            self.clients.remove(&id);
        }
        is_gone
    }

    /// Removes the socket. No client can connect after that.
    pub(super) fn leave(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    fn new(stream: UnixStream, user: u32, heard: Instant) -> Self {
        let frames = Frames::new(BODY_MAX);
        Self { stream, user, frames, waiting: VecDeque::new(), heard, is_ending: false }
    }

    fn may_ask(&self) -> bool {
        self.waiting.len() < WAITING && !self.is_ending
    }

    fn read(&mut self, now: Instant) {
        let mut piece = [0; PIECE];
        loop {
            match self.stream.read(&mut piece) {
                Ok(n @ 1..) => {
                    self.heard = now;
                    return self.frames.push(&piece[..n]);
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    // The requests that the client has sent are carried out nevertheless.
                    self.is_ending = true;
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Heard {
        if self.waiting.len() >= WAITING {
            return Heard::Nothing;
        }
        match self.frames.next_body() {
            Ok(Some(body)) => Heard::Body { user: self.user, body },
            Ok(None) if self.is_ending && self.waiting.is_empty() => Heard::Gone,
            Ok(None) => Heard::Nothing,
            Err(why) => {
                let error = Error { code: Code::Malformed, text: why.to_string(), holder: None };
                self.waiting.extend(encode(&Message::error(None, error).encode()));
                self.is_ending = true;
                self.frames = Frames::new(0);
                let has_more = self.write() && !self.waiting.is_empty();
                if has_more { Heard::Nothing } else { Heard::Gone }
            }
        }
    }

    /// Sends the unsent messages. Returns whether the connection continues.
    fn write(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match self.stream.write(first) {
                Ok(n @ 1..) => drop(self.waiting.drain(..n)),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return true,
                Ok(0) | Err(_) => return false,
            }
        }
        self.waiting.shrink_to(0);
        true
    }
}
