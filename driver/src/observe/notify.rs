//! Notifications to systemd (`Type=notify`, sd_notify(3)): that the daemon is ready, its status, that it
//! stops, and that it is alive.
//!
//! The protocol is one datagram to the socket in `NOTIFY_SOCKET`; without that variable nothing is sent.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use hax_core::base::time::{Instant, Next, Now};

/// Reports that the daemon is ready.
pub fn ready() {
    tell("READY=1");
}

/// Reports the status of the daemon, for a line of `systemctl status`.
pub fn status(how: &str) {
    tell(&format!("STATUS={how}"));
}

/// Reports that the daemon reads its files again; [`ready`] follows at the end.
pub fn reloading() {
    tell("RELOADING=1");
}

/// Reports that the daemon has begun to stop.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=Stopping: the work in progress is finished first");
}

fn tell(what: &str) {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Err(why) = send(&socket, what) {
        tracing::warn!(target: "hax", %why, "cannot notify {socket}");
    }
}

/// Sends one datagram. A name that begins with `@` is an abstract one. A receiver that does not read is not
/// waited for.
fn send(socket: &str, what: &str) -> io::Result<()> {
    let to = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(socket))?,
    };
    let from = UnixDatagram::unbound()?;
    from.set_nonblocking(true)?;
    from.send_to_addr(what.as_bytes(), &to)?;
    Ok(())
}

/// systemd's watchdog (`WatchdogSec=`), which restarts a daemon without notifications for too long. Only the
/// loop sends them, between two inputs, so a stuck loop sends none.
#[derive(Debug)]
pub struct Watchdog {
    /// Half of systemd's timeout; `None` if systemd does not watch.
    every: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    /// Creates the watchdog that the environment asks for; `env` looks up a variable.
    #[must_use]
    pub fn new(env: impl Fn(&str) -> Option<String>) -> Self {
        let ours = |pid: String| pid.parse() == Ok(std::process::id());
        let us = env("WATCHDOG_USEC").filter(|_| env("WATCHDOG_PID").is_none_or(ours));
        let us = us.and_then(|us| us.parse().ok()).filter(|us: &u64| *us > 0);
        Self { every: us.map(|us| Duration::from_micros(us / 2)), due: Instant::default() }
    }

    /// Sends a notification if it is due, after the machine has handled an input and returned `next`. Returns
    /// a deadline by which the loop comes back in time for the next notification.
    pub fn pass(&mut self, now: Now, next: Next) -> Next {
        let Some(every) = self.every else { return next };
        if now.mono >= self.due {
            tell("WATCHDOG=1");
            self.due = now.mono.after(every);
        }
        next.earlier(Next::WaitUntil { at: self.due, why: "watchdog" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let name = format!("hax-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let sockets =
            [UnixDatagram::bind_addr(&address).unwrap(), UnixDatagram::bind(&path).unwrap()];
        let names = [format!("@{name}"), path.to_str().unwrap().to_owned()];
        for (socket, name) in sockets.iter().zip(&names) {
            send(name, "READY=1").unwrap();
            let mut bytes = [0; 16];
            let n = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..n], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send("/nonexistent/socket", "READY=1").is_err());
    }

    #[test]
    fn the_loop_comes_back_at_half_the_time_and_feeds_no_sooner() {
        let env = |pid: u32| {
            move |name: &str| match name {
                "WATCHDOG_USEC" => Some("2000000".to_owned()),
                "WATCHDOG_PID" => Some(pid.to_string()),
                _ => None,
            }
        };
        let at = |us| Now { mono: Instant::from_micros(us), ..Now::default() };
        let until = |us, why| Next::WaitUntil { at: Instant::from_micros(us), why };
        let mut ours = Watchdog::new(env(std::process::id()));
        assert_eq!(ours.pass(at(500), Next::Wait), until(1_000_500, "watchdog"));
        assert_eq!(ours.pass(at(900), until(700_000, "round")), until(700_000, "round"));
        assert_eq!(ours.pass(at(999_999), Next::Wait), until(1_000_500, "watchdog"));
        assert_eq!(ours.pass(at(1_000_600), Next::Wait), until(2_000_600, "watchdog"));
        assert_eq!(ours.pass(at(1_000_700), Next::Exit), Next::Exit);
        assert_eq!(Watchdog::new(env(0)).pass(at(0), Next::Wait), Next::Wait);
        assert_eq!(Watchdog::new(|_| None).pass(at(0), Next::Wait), Next::Wait);
    }
}
