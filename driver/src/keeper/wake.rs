//! The event sources of the keeper besides its clients and children: signals and a timer.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hax_core::base::time::Instant;
use rustix::process::Signal;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use signal_hook::low_level::pipe;

/// A socket for signals. It becomes readable when a signal arrives.
#[derive(Debug)]
pub(super) struct SignalPipe(UnixStream);

impl SignalPipe {
    /// Handles these signals from now on.
    pub(super) fn new(signals: &[Signal]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for signal in signals {
            pipe::register(signal.as_raw(), write.try_clone()?)?;
        }
        Ok(Self(read))
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Clears the pending signals. Several signals of the same kind count as one.
    pub(super) fn take(&self) {
        let mut bytes = [0; 1024];
        while (&self.0).read(&mut bytes).is_ok_and(|n| n == bytes.len()) {}
    }
}

/// A timer of `CLOCK_BOOTTIME`. It is readable once its time has come. The timeout of poll(2) does not use
/// this clock.
#[derive(Debug)]
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Sets the timer to a time, or disarms it. The timer is not readable before that time.
    pub(super) fn set(&self, at: Option<Instant>) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = at.map_or(zero, |at| {
            // An all-zero value would disarm the timer.
            let us = at.as_micros().max(1);
            Timespec {
                tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(us % 1_000_000 * 1_000).unwrap_or_default(),
            }
        });
        let spec = Itimerspec { it_interval: zero, it_value: value };
        if let Err(why) = timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &spec) {
            tracing::error!(target: "hax", %why, "no alarm");
        }
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
