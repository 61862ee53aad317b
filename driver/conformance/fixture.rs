//! A daemon, a Consul that follows a script before the double, and a way to say bytes to both.

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
    /// A daemon that is ready.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With more flags.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::start(more, "debug")
    }

    /// With another level of the log.
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

    /// All that is answered to these bytes, after which nothing more is said.
    pub(crate) fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client();
        client.say(bytes);
        client.end();
        client.rest()
    }

    /// The daemon goes on as if nothing had happened.
    pub(crate) fn is_well(&self) {
        let reply = self.place.ask("GET", "/readyz", b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// A number of the daemon's, as Linux has it in its status.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.hax.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// A stop, and its exit code.
pub(crate) fn stop(hax: &mut Hax) -> i32 {
    hax.signal("TERM");
    hax.code()
}

/// One connection that says bytes.
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
        // Who is refused before the end need not hear the end.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// All that comes until the end.
    pub(crate) fn rest(mut self) -> String {
        let _ = self.stream.read_to_end(&mut self.heard);
        without_date(&String::from_utf8_lossy(&self.heard))
    }

    /// What comes until there is `text`.
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

    /// Nothing comes for this long.
    pub(crate) fn is_quiet(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let quiet = matches!(self.stream.read(&mut [0]), Err(why) if why.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        quiet
    }

    /// Waits for the peer's end, with nothing before it.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// The date is the only thing in a response that two runs may differ in.
fn without_date(text: &str) -> String {
    let line = |line: &str| !line.starts_with("date: ");
    text.split_inclusive("\r\n").filter(|part| line(part)).collect()
}

/// A request's bytes.
pub(crate) fn request(line: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: hax\r\n{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// The statuses of all responses in an answer.
pub(crate) fn statuses(answer: &str) -> Vec<u16> {
    let status = |part: &str| part.get(..3).and_then(|digits| digits.parse().ok());
    answer.split("HTTP/1.1 ").skip(1).filter_map(status).collect()
}
