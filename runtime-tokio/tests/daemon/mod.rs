//! The real daemon with real sockets: `hax run`, its processes, and their addresses.
#![expect(dead_code, reason = "each test program uses its part")]

pub(crate) mod double;
pub(crate) mod front;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hax_sim::real::client::{self, Reply};
use serde_json::Value;

/// The time limit of every wait.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Returns the fid of a process, in the spelling of Consul and `hax ham`.
pub(crate) fn fid(key: u64) -> String {
    format!("0x7200000000000001:{key:#x}")
}

/// Waits until the condition is true.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let pause = Duration::from_millis(20);
    for _ in 0..LIMIT.as_millis() / pause.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("never: {what}");
}

/// The addresses of one test.
///
/// A port that is free on 127.0.0.1 may be taken by any connection before its use. On another loopback
/// address no program takes one by itself.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    ip: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { ip: format!("127.{}.{}.{n}", 64 + (pid >> 8) % 128, pid & 0xff) }
    }

    pub(crate) fn motr(&self) -> SocketAddr {
        format!("{}:22001", self.ip).parse().unwrap()
    }

    pub(crate) fn http(&self) -> SocketAddr {
        format!("{}:8008", self.ip).parse().unwrap()
    }

    /// Returns the name of a port in Motr's spelling.
    pub(crate) fn endpoint(&self, port: u64) -> String {
        format!("inet:stream:{}@{port}", self.ip)
    }

    /// Returns the flags of a hax of the node `ssu1` at these addresses.
    pub(crate) fn flags(&self, consul: SocketAddr) -> Vec<String> {
        let (motr, http) = (self.endpoint(22001), self.http().to_string());
        let consul = format!("http://{consul}");
        let flags = ["--consul", &consul, "--node", "ssu1", "--motr-endpoint", &motr];
        let flags = flags.into_iter().chain(["--http", &http, "--no-elect"]);
        flags.map(str::to_owned).collect()
    }

    /// Sends a request to the daemon's HTTP server.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        client::request(self.http(), LIMIT, method, target, body).unwrap()
    }

    pub(crate) fn ready(&self) {
        until("hax is ready", || {
            client::request(self.http(), LIMIT, "GET", "/readyz", b"")
                .is_ok_and(|reply| reply.status == 200)
        });
    }

    /// Starts a process that has sent nothing yet.
    pub(crate) fn ham(&self, key: u64) -> Ham {
        Ham::start(&self.endpoint(22001), &self.endpoint(23_000 + key), key)
    }
}

/// A running `hax run` and its log.
pub(crate) struct Hax {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    said_all: Arc<AtomicBool>,
}

impl Drop for Hax {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let last = log.iter().skip(log.len().saturating_sub(60));
            let lines: String = last.map(|line| format!("{line}\n")).collect();
            let _ = std::io::stderr().write_all(lines.as_bytes());
        }
    }
}

impl Hax {
    pub(crate) fn start(flags: &[String]) -> Self {
        Self::at_level(flags, "debug")
    }

    pub(crate) fn at_level(flags: &[String], level: &str) -> Self {
        let mut command = Command::new(crate::hax::HAX);
        command.arg("run").args(flags).args(["--log", "json", "--log-level", level]);
        // The default folder is one for all tests.
        command.env("HAX_STATE_DIR", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, said) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let said_all = Arc::new(AtomicBool::new(false));
        let all = Arc::clone(&said_all);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            all.store(true, Ordering::Release);
        });
        Self { child, log, said_all }
    }

    /// Kills it, as kill -9 does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it, as SIGTERM does. Returns the exit code, once the log is complete.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut code = None;
        until("hax has stopped", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        until("its last word is read", || !self.facts("Stopped").is_empty());
        code.unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Returns its exit code, once the log is complete.
    pub(crate) fn code(&mut self) -> i32 {
        let mut code = None;
        until("hax has ended", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        until("its last word is read", || self.said_all.load(Ordering::Acquire));
        code.unwrap().code().expect("an exit, not a signal")
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the log lines of this kind of fact, in order.
    pub(crate) fn facts(&self, fact: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.iter().filter(|line| line["fact"] == fact);
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for a line with this text, after the first `past` lines of its kind.
    pub(crate) fn says(&self, past: usize, fact: &str, text: &str) {
        until(&format!("hax says {fact}: {text}"), || {
            self.facts(fact).iter().skip(past).any(|line| line.contains(text))
        });
    }
}

/// A Motr process, played by `hax ham`.
pub(crate) struct Ham {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
}

impl Drop for Ham {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ham {
    fn start(connect: &str, listen: &str, key: u64) -> Self {
        let mut command = Command::new(crate::hax::HAX);
        command.args(["ham", "--connect", connect, "--listen", listen, "--fid", &fid(key)]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, stdin, lines }
    }

    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    /// Returns the next matching line, and skips the lines before it.
    pub(crate) fn hears(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            let said = match self.lines.recv_timeout(LIMIT) {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout) => panic!("never: {what}, but {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {what}: {seen:#?}"),
            };
            if fits(&said) {
                return said;
            }
            seen.push(said);
        }
    }

    /// Pauses the process, as if it hung. It ends with the test.
    pub(crate) fn freeze(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }

    /// Returns the next reply to an entrypoint request, whatever it is.
    pub(crate) fn answer(&self) -> Value {
        self.hears("an answer", |said| said["event"] == "entrypoint")
    }

    /// Requests the entrypoint until the process has it.
    pub(crate) fn entrypoint(&mut self) -> Value {
        self.ask();
        self.has_entrypoint()
    }

    pub(crate) fn ask(&mut self) {
        self.say("entrypoint");
    }

    pub(crate) fn has_entrypoint(&self) -> Value {
        self.hears("an entrypoint", |said| said["control"] == "consume")
    }

    pub(crate) fn is_told(&self, key: u64, state: &str) {
        self.hears(&format!("{} is {state}", fid(key)), |said| {
            said["nvec"] == "set"
                && said["notes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|note| note["fid"].as_str() == Some(&fid(key)) && note["state"] == state)
        });
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.hears("a delivery", |said| said["event"] == "delivered")["send"].as_u64().unwrap()
    }

    /// Returns the lines that have not been read.
    pub(crate) fn unheard(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }
}
