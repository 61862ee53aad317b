//! `hax service watch`: the open response with all changes.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_core::base::time::Instant;
use serde_json::Value;

use super::WatchArgs;
use super::hax::HaxArgs;
use crate::commands::output::Output;
use crate::exit::Exit;
use crate::host::clock::Clock;
use crate::settings::secret::SecretSource;

/// The maximum length of a line of the answer, in bytes.
const LINE_MAX: u64 = 4 << 20;

/// The time of one read, after which the end of the watch is looked at.
const TURN: Duration = Duration::from_millis(200);

trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

/// Prints changes until the time is over or the response ends.
pub(super) fn run(hax: &HaxArgs, args: &WatchArgs) -> anyhow::Result<Exit> {
    if hax.http_cert.is_some() {
        bail!(
            "hax service watch speaks no HTTPS: use the local socket, or curl -N /v1/events/stream"
        );
    }
    let mut stream: Box<dyn Connection> = match &hax.http {
        Some(http) => {
            let stream =
                TcpStream::connect((&*http.host, http.port)).with_context(|| http.to_string())?;
            stream.set_read_timeout(Some(TURN))?;
            Box::new(stream)
        }
        None => {
            let path = &hax.http_socket;
            let stream = UnixStream::connect(path).with_context(|| {
                format!("no hax answers at {}; does it run with --services on?", path.display())
            })?;
            stream.set_read_timeout(Some(TURN))?;
            Box::new(stream)
        }
    };
    // The response of HTTP/1.0 has no chunks, and ends with the connection.
    let mut head = "GET /v1/events/stream HTTP/1.0\r\nHost: localhost\r\n".to_owned();
    if let Some(file) = hax.http_token_file.clone() {
        let token = SecretSource::File("--http-token-file", file).read()?;
        head += &format!("Authorization: Bearer {}\r\n", token.expose());
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    let clock = Clock::new();
    let until = args.within.map(|within| clock.now().mono.after(within.0));
    let mut lines = Lines { stream: BufReader::new(stream), clock, until, line: Vec::new() };
    let Some(status) = lines.next()? else { bail!("hax has closed the connection") };
    if status.split(' ').nth(1) != Some("200") {
        bail!("hax says: {status}");
    }
    while lines.next()?.is_some_and(|line| !line.is_empty()) {}
    let mut out = Output::new();
    while let Some(line) = lines.next()? {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        let Ok(change) = serde_json::from_str::<Value>(data) else { continue };
        let text = if args.json { change.to_string() } else { sentence(&change) };
        out.write_all(format!("{text}\n").as_bytes())?;
    }
    if lines.is_over() {
        Ok(Exit::Clean)
    } else {
        bail!("hax has closed the connection; it may be stopping")
    }
}

struct Lines {
    stream: BufReader<Box<dyn Connection>>,
    clock: Clock,
    until: Option<Instant>,
    line: Vec<u8>,
}

impl Lines {
    /// Returns whether the time is over.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.clock.now().mono >= until)
    }

    /// Returns the next line; none at the end of the connection or of the time.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let room = LINE_MAX.saturating_sub(self.line.len() as u64);
            match (&mut self.stream).take(room).read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(None),
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line))
                        .trim_end()
                        .to_owned();
                    return Ok(Some(line));
                }
                Ok(_) => {}
                Err(why) if is_late(&why) => {}
                Err(why) => return Err(why.into()),
            }
            if self.is_over() {
                return Ok(None);
            }
        }
    }
}

fn is_late(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn sentence(change: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let seen = &change["observed"];
    let pid = seen["pid"].as_u64().map_or_else(String::new, |pid| format!(" (process {pid})"));
    let why = seen["reason"]["text"].as_str().map_or_else(String::new, |why| format!(": {why}"));
    let (at, kind, node) = (word(&seen["at"]), word(&change["type"]), word(&change["node"]));
    format!("{at} {kind} on {node}: {}{pid}{why}", word(&seen["state"]))
}
