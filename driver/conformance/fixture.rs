//! A daemon, a scripted Consul in front of the double, and a client that sends bytes to both.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::daemon::{Hax, LIMIT, Place, double};
use crate::script::Script;

pub(crate) struct Fixture {
    pub(crate) place: Place,
    pub(crate) script: Script,
    pub(crate) hax: Hax,
}

impl Fixture {
    /// Starts a daemon and waits until it is ready.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Starts a daemon with more flags.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::start(more, "debug")
    }

    /// Starts a daemon with another level of the log.
    pub(crate) fn at_level(level: &str) -> Self {
        Self::start(&[], level)
    }

    fn start(more: &[&str], level: &str) -> Self {
        let (place, script) = (Place::new(), Script::new(double::consul()));
        let flags = place.flags(script.address);
        let more = more.iter().map(|flag| (*flag).to_owned());
        let hax = Hax::at_level(&flags.into_iter().chain(more).collect::<Vec<_>>(), level);
        place.ready();
        Self { place, script, hax }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.place.http())
    }

    /// Sends these bytes and the end; returns the whole response.
    pub(crate) fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client();
        client.say(bytes);
        client.end();
        client.rest()
    }

    /// Checks that the daemon still works normally.
    pub(crate) fn is_well(&self) {
        let reply = self.place.ask("GET", "/readyz", b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// Returns a number from the daemon's `/proc` status.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.hax.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Stops a daemon; returns its exit code.
pub(crate) fn stop(hax: &mut Hax) -> i32 {
    hax.signal("TERM");
    hax.code()
}

/// A connection for raw bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    pub(crate) fn new(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream, heard: Vec::new() }
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // If the request is refused early, the write may fail.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads to the end of the connection.
    pub(crate) fn rest(mut self) -> String {
        let _ = self.stream.read_to_end(&mut self.heard);
        without_date(&String::from_utf8_lossy(&self.heard))
    }

    /// Reads until `text` has arrived.
    pub(crate) fn hears(&mut self, text: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            if let Some((before, _)) = heard.split_once(text) {
                let all = format!("{before}{text}");
                self.heard.drain(..all.len());
                return without_date(&all);
            }
            match self.stream.read(&mut bytes) {
                Ok(n) if n > 0 => self.heard.extend_from_slice(&bytes[..n]),
                end => panic!("{end:?} without {text:?}: {heard}"),
            }
        }
    }

    /// Returns whether nothing arrives for this time.
    pub(crate) fn is_quiet(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let quiet = matches!(self.stream.read(&mut [0]), Err(why) if why.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        quiet
    }

    /// Waits for the peer's end; returns whether nothing came before it.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// Removes the date, which is the only difference between the responses of two runs.
fn without_date(text: &str) -> String {
    let line = |line: &str| !line.starts_with("date: ");
    text.split_inclusive("\r\n").filter(|part| line(part)).collect()
}

/// Returns the bytes of a request.
pub(crate) fn request(line: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: hax\r\n{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// Returns the statuses of all responses.
pub(crate) fn statuses(answer: &str) -> Vec<u16> {
    let status = |part: &str| part.get(..3).and_then(|digits| digits.parse().ok());
    answer.split("HTTP/1.1 ").skip(1).filter_map(status).collect()
}
