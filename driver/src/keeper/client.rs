//! A blocking client of the keeper.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hax_core::keeper::answer::{Answer, Error, Event, KeeperView, Message, View, What};
use hax_core::keeper::frame::{ANSWER_MAX, Frames, encode};
use hax_core::keeper::request::{Ask, Request, VERSION};

use super::clients::SOCKET;

/// A reason why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No keeper replies at this socket.
    #[error("no keeper answers at {0:?}: {1}")]
    System(PathBuf, io::Error),
    /// A message of the keeper cannot be decoded.
    #[error("the keeper says what is not understood: {0}")]
    Malformed(String),
    /// The keeper refuses the request.
    #[error("{}", .0.text)]
    Refused(Error),
}

/// A connection to the keeper; see the module.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    frames: Frames,
    next: u64,
    /// The events received while waiting for a reply.
    events: VecDeque<Event>,
}

impl Client {
    /// Connects to the keeper of this folder. Every later reply is awaited for `within` at most.
    ///
    /// # Errors
    ///
    /// If no keeper replies there.
    pub fn connect(folder: &Path, within: Duration) -> Result<Self, ClientError> {
        let path = folder.join(SOCKET);
        let connected = UnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(within))?;
            stream.set_write_timeout(Some(within))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                let frames = Frames::new(ANSWER_MAX);
                Ok(Self { path, stream, frames, next: 1, events: VecDeque::new() })
            }
            Err(why) => Err(ClientError::System(path, why)),
        }
    }

    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    ///
    /// If the request is refused, or if there is no reply.
    pub fn ask(&mut self, ask: Ask) -> Result<Answer, ClientError> {
        let id = self.send(ask)?;
        self.answer(id)
    }

    /// Returns the state of the keeper and all its instances.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn list(&mut self) -> Result<(KeeperView, Vec<View>), ClientError> {
        let id = self.send(Ask::List)?;
        self.pages(id)
    }

    /// Returns the same as [`list`](Self::list) and subscribes to events. [`next_event`](Self::next_event)
    /// returns them.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn watch(&mut self) -> Result<(KeeperView, Vec<View>), ClientError> {
        let id = self.send(Ask::Watch)?;
        self.pages(id)
    }

    /// Waits for the next event and returns it.
    ///
    /// # Errors
    ///
    /// If no event arrives in time.
    pub fn next_event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let message = self.receive()?;
            if let What::Event(event) = message.what {
                self.events.push_back(event);
            }
        }
    }

    fn pages(&mut self, id: u64) -> Result<(KeeperView, Vec<View>), ClientError> {
        let mut all = Vec::new();
        loop {
            match self.answer(id)? {
                Answer::Instances { keeper, instances, more } => {
                    all.extend(instances);
                    if !more {
                        return Ok((*keeper, all));
                    }
                }
                other @ (Answer::Started { .. } | Answer::Done | Answer::Renewed { .. }) => {
                    return Err(ClientError::Malformed(format!("{other:?}")));
                }
            }
        }
    }

    fn send(&mut self, ask: Ask) -> Result<u64, ClientError> {
        let id = self.next;
        self.next += 1;
        let request = Request { v: VERSION, id, ask };
        let body = serde_json::to_vec(&request);
        let body = body.map_err(|why| ClientError::Malformed(why.to_string()))?;
        self.stream.write_all(&encode(&body)).map_err(|why| self.system(why))?;
        Ok(id)
    }

    fn answer(&mut self, id: u64) -> Result<Answer, ClientError> {
        loop {
            let message = self.receive()?;
            match message.what {
                What::Answer(answer) if message.id == Some(id) => return Ok(answer),
                What::Error(error) if message.id.is_none_or(|of| of == id) => {
                    return Err(ClientError::Refused(error));
                }
                What::Event(event) => self.events.push_back(event),
                // The message replies to a request that is no longer awaited.
                What::Answer(_) | What::Error(_) => {}
            }
        }
    }

    fn receive(&mut self) -> Result<Message, ClientError> {
        let mut piece = [0; 16 << 10];
        loop {
            let body = self.frames.next_body();
            if let Some(body) = body.map_err(|why| ClientError::Malformed(why.to_string()))? {
                let message = serde_json::from_slice(&body);
                return message.map_err(|why| ClientError::Malformed(why.to_string()));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(self.system(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.frames.push(&piece[..n]),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.system(why)),
            }
        }
    }

    fn system(&self, why: io::Error) -> ClientError {
        ClientError::System(self.path.clone(), why)
    }
}
