//! The three pipes of a helper: its input and its two outputs. No operation on them blocks.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ChildStdin;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hax_core::base::time::Instant;
use hax_core::exec::Stream;

/// The maximum size of one piece of output, in bytes.
pub(super) const PIECE: usize = 16 << 10;

/// The maximum number of pieces of one output in a turn. It prevents a helper with much output from starving
/// the others.
const PIECES: usize = 4;

/// The maximum number of bytes to read and drop in a turn, once the limit of the output is reached. After
/// them nothing is read for a while: a helper with endless output would keep a whole processor busy.
const DROPPED: usize = 1 << 20;

/// The pause after a turn of dropped output; see [`DROPPED`].
const REST: Duration = Duration::from_millis(10);

/// The rest of the input of a helper, not yet written.
pub(super) struct Input {
    pipe: ChildStdin,
    left: Bytes,
}

impl Input {
    pub(super) fn new(pipe: ChildStdin, left: Bytes) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, left })
    }

    /// Writes as much as the pipe has room for. Returns false once nothing is left to do, because everything
    /// is written or because the helper has closed its end.
    pub(super) fn write(&mut self) -> bool {
        while !self.left.is_empty() {
            match self.pipe.write(&self.left) {
                Ok(n) => self.left.advance(n),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return why.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// One output of a helper.
pub(super) struct Output {
    stream: Stream,
    /// The pipe; `None` once it is at its end or no longer read.
    pipe: Option<io::PipeReader>,
    /// The number of bytes left to pass on.
    left: usize,
    /// The number of dropped bytes.
    dropped: u64,
    /// The end of the pause after dropped output.
    rests_until: Instant,
}

impl Output {
    pub(super) fn new(stream: Stream, pipe: OwnedFd, max: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = Some(pipe.into());
        Ok(Self { stream, pipe, left: max, dropped: 0, rests_until: Instant::default() })
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the pipe if it should be polled: not while the inbox is full, and not during a pause.
    pub(super) fn wanted(&self, now: Instant, blocked: bool) -> Option<BorrowedFd<'_>> {
        let waits = if self.left > 0 { blocked } else { now < self.rests_until };
        self.pipe.as_ref().filter(|_| !waits).map(AsFd::as_fd)
    }

    /// Returns when the pause of the pipe is over, if there is one.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let rests = self.is_open() && self.left == 0 && now < self.rests_until;
        rests.then_some(self.rests_until)
    }

    /// Reads the available output, up to the maximum of a turn.
    pub(super) fn read(&mut self, now: Instant, said: &mut impl FnMut(Stream, Bytes)) {
        let mut piece = [0; PIECE];
        for _ in 0..PIECES {
            if self.left == 0 {
                return self.drop_what_comes(now, &mut piece);
            }
            let n = self.take(&mut piece);
            if n == 0 {
                return;
            }
            let passed = n.min(self.left);
            self.left -= passed;
            self.dropped += (n - passed) as u64;
            said(self.stream, Bytes::copy_from_slice(&piece[..passed]));
        }
    }

    fn drop_what_comes(&mut self, now: Instant, piece: &mut [u8; PIECE]) {
        for _ in 0..DROPPED / PIECE {
            let n = self.take(piece);
            self.dropped += n as u64;
            if n == 0 {
                break;
            }
        }
        self.rests_until = now.after(REST);
    }

    /// Reads once. Returns 0 if nothing is available, or if the pipe is at its end; in the latter case it is
    /// closed.
    fn take(&mut self, piece: &mut [u8; PIECE]) -> usize {
        loop {
            let Some(pipe) = &mut self.pipe else { return 0 };
            match pipe.read(piece) {
                Ok(n) if n > 0 => return n,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return 0,
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    /// Reads the available output for the last time and closes the pipe. Returns whether the pipe was at its
    /// end.
    pub(super) fn finish(&mut self, now: Instant, said: &mut impl FnMut(Stream, Bytes)) -> bool {
        // Two turns read more than the default capacity of a Linux pipe (pipe(7)).
        for _ in 0..2 {
            self.read(now, said);
        }
        self.pipe.take().is_none()
    }
}
