//! What a helper is told and what it says: its three pipes, none of which is ever waited for.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ChildStdin;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hax_core::base::time::Instant;
use hax_core::exec::Stream;

/// The largest piece of output, in bytes.
pub(super) const PIECE: usize = 16 << 10;

/// Pieces of one output in a turn, so that a helper that says much leaves the others their turn.
const PIECES: usize = 4;

/// Beyond what is passed on, as much is read in a turn, in bytes, and then nothing for a while: a helper that
/// says things without end would keep a whole processor busy.
const DROPPED: usize = 1 << 20;

/// See [`DROPPED`].
const REST: Duration = Duration::from_millis(10);

/// What is still to be written to a helper.
pub(super) struct Input {
    pipe: ChildStdin,
    left: Bytes,
}

impl Input {
    pub(super) fn new(pipe: ChildStdin, left: Bytes) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, left })
    }

    /// Writes what there is room for; false once there is nothing left to do, because all is written or
    /// because the helper has closed its end.
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
    /// None once it is at its end or no longer listened to.
    pipe: Option<io::PipeReader>,
    /// How much more is passed on, in bytes.
    left: usize,
    /// How much was not.
    dropped: u64,
    /// When there may be more to drop.
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

    /// The pipe, if it is to be looked at: not while the inbox is full or while it rests.
    pub(super) fn wanted(&self, now: Instant, blocked: bool) -> Option<BorrowedFd<'_>> {
        let waits = if self.left > 0 { blocked } else { now < self.rests_until };
        self.pipe.as_ref().filter(|_| !waits).map(AsFd::as_fd)
    }

    /// When a pipe that rests is to be looked at again.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        let rests = self.is_open() && self.left == 0 && now < self.rests_until;
        rests.then_some(self.rests_until)
    }

    /// Reads what is there, as far as a turn goes.
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

    /// Reads once. 0: nothing is there, or nothing will come any more, and the pipe is closed then.
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

    /// Reads what is there for the last time and closes the pipe. Whether it was at its end.
    pub(super) fn finish(&mut self, now: Instant, said: &mut impl FnMut(Stream, Bytes)) -> bool {
        // More than Linux lets a pipe hold without being asked for it (pipe(7)).
        for _ in 0..2 {
            self.read(now, said);
        }
        self.pipe.take().is_none()
    }
}
