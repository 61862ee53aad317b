//! The client side: one request and one reply.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use hax_core::base::time::Instant;
use hax_core::fifo::{BODY_MAX, LENGTH, Progress, REQUESTS, Token, frame, progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkfifoat, openat, unlinkat};
use rustix::io::Errno;

use super::folder::{SAFE, is_pipe, share};
use crate::host::clock::{self, Clock};

/// A reason why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server runs.
    #[error("no server answers: hax route serve does not run, or not in {0}")]
    NobodyServes(String),
    /// The request is too long.
    #[error("the request is longer than {BODY_MAX} bytes")]
    TooLong,
    /// The server ended, or dropped this client, before it replied.
    #[error("the server ended before it answered: whether it was done is not known")]
    Ended,
    /// The time limit has passed.
    #[error("no answer in time: whether it was done is not known")]
    TimedOut,
    /// A system call has failed.
    #[error("{0}: {1}")]
    System(String, io::Error),
}

/// Sends a request to the server of a folder and returns the reply.
///
/// # Errors
///
/// If there is no reply.
pub fn ask(folder: &Path, request: &[u8], within: Duration) -> Result<Vec<u8>, AskError> {
    if request.len() > BODY_MAX {
        return Err(AskError::TooLong);
    }
    let nobody = || AskError::NobodyServes(folder.display().to_string());
    let system = |why: Errno| match why {
        Errno::NOENT | Errno::NXIO => nobody(),
        why => AskError::System(folder.display().to_string(), why.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty()).map_err(system)?;
    let server = openat(&folder, REQUESTS, OFlags::WRONLY | SAFE, Mode::empty()).map_err(system)?;
    if !is_pipe(&fstat(&server).map_err(system)?) {
        return Err(nobody());
    }
    let own = Own::make(&folder).map_err(system)?;
    let clock = Clock::new();
    let until = clock.now().mono.after(within);
    let mut exchange = Exchange {
        clock,
        server,
        unannounced: Some(own.token.announcement()),
        request: frame(request),
        sent: 0,
        answer: Vec::new(),
        until,
    };
    exchange.run(&own)
}

/// The two pipes of a client. Pipes that the server has not taken are removed on drop.
struct Own<'a> {
    folder: &'a OwnedFd,
    token: Token,
    request: OwnedFd,
    answer: OwnedFd,
}

impl<'a> Own<'a> {
    fn make(folder: &'a OwnedFd) -> Result<Self, Errno> {
        for nth in 0_u32.. {
            let name = format!("{}-{}-{nth}", std::process::id(), clock::wall().0);
            // The name consists of letters, digits and hyphens.
            let token = Token::new(&name).ok_or(Errno::INVAL)?;
            match mkfifoat(folder, token.request_pipe(), Mode::RUSR | Mode::WUSR) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            let remove = |name: String| unlinkat(folder, name, AtFlags::empty()).is_ok();
            return Self::open(folder, &token).inspect_err(|_| {
                remove(token.request_pipe());
                remove(token.answer_pipe());
            });
        }
        Err(Errno::EXIST)
    }

    fn open(folder: &'a OwnedFd, token: &Token) -> Result<Self, Errno> {
        let open = |name: String, flags| openat(folder, name, flags | SAFE, Mode::empty());
        mkfifoat(folder, token.answer_pipe(), Mode::RUSR | Mode::WUSR)?;
        // Opening a pipe for both reading and writing does not wait for another end.
        let request = open(token.request_pipe(), OFlags::RDWR)?;
        let answer = open(token.answer_pipe(), OFlags::RDONLY)?;
        share(&request, folder)?;
        share(&answer, folder)?;
        Ok(Self { folder, token: token.clone(), request, answer })
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        for name in [self.token.request_pipe(), self.token.answer_pipe()] {
            let _ = unlinkat(self.folder, name, AtFlags::empty());
        }
    }
}

struct Exchange {
    clock: Clock,
    server: OwnedFd,
    unannounced: Option<String>,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    until: Instant,
}

impl Exchange {
    fn run(&mut self, own: &Own<'_>) -> Result<Vec<u8>, AskError> {
        let system = |why: Errno| AskError::System("a pipe".into(), why.into());
        loop {
            let (announces, answered, sends) = self.wait(own)?;
            if let Some(text) = self.unannounced.as_ref().filter(|_| announces) {
                match rustix::io::write(&self.server, text.as_bytes()) {
                    Ok(_) => self.unannounced = None,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(Errno::PIPE) => return Err(AskError::Ended),
                    Err(why) => return Err(system(why)),
                }
            } else if announces && !answered {
                // The other end is closed: the server is gone.
                return Err(AskError::Ended);
            }
            if sends {
                match rustix::io::write(&own.request, &self.request[self.sent..]) {
                    Ok(written) => self.sent += written,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(why) => return Err(system(why)),
                }
            }
            if answered && self.read(own).map_err(system)? {
                return match progress(&self.answer) {
                    Progress::Complete => Ok(self.answer.split_off(LENGTH)),
                    Progress::Lacks(_) | Progress::Malformed => Err(AskError::Ended),
                };
            }
        }
    }

    /// Waits, and returns whether the server's pipe, the reply pipe and the request pipe are ready.
    fn wait(&self, own: &Own<'_>) -> Result<(bool, bool, bool), AskError> {
        let announces =
            if self.unannounced.is_some() { PollFlags::OUT } else { PollFlags::empty() };
        let sends = self.sent < self.request.len();
        let sends = if sends { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds = [
            PollFd::from_borrowed_fd(self.server.as_fd(), announces),
            PollFd::from_borrowed_fd(own.answer.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(own.request.as_fd(), sends),
        ];
        let left = self.until.since(self.clock.now().mono);
        if left.is_zero() {
            return Err(AskError::TimedOut);
        }
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(AskError::System("poll".into(), why.into())),
        }
        let [server, answer, request] = fds.map(|fd| !fd.revents().is_empty());
        Ok((server, answer, request && self.sent < self.request.len()))
    }

    /// Reads the available part of the reply. Returns whether the reply is complete.
    fn read(&mut self, own: &Own<'_>) -> Result<bool, Errno> {
        let Progress::Lacks(lacks) = progress(&self.answer) else { return Ok(true) };
        let before = self.answer.len();
        self.answer.resize(before + lacks.min(64 << 10), 0);
        let read = rustix::io::read(&own.answer, &mut self.answer[before..]);
        self.answer.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Ok(true),
            Ok(_) => Ok(!matches!(progress(&self.answer), Progress::Lacks(_))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(why) => Err(why),
        }
    }
}
