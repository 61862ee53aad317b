//! The program `hax` as its users start it, and its log.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Returns the program without the settings of this process's environment.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(super::hax::HAX);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if ["HAX_", "CONSUL_", "HARE_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // The default folder is one for all tests.
    command.env("HAX_STATE_DIR", "none");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
        command.env_remove(name);
    }
    command
}

/// A running program. It is killed when it is dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, said) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for the first line with all of these parts, and returns it.
    pub(crate) fn says(&self, parts: &[&str]) -> String {
        let mut found = None;
        let fits = |line: &&String| parts.iter().all(|part| line.contains(part));
        let said = holds(|| {
            found = self.log().iter().find(fits).cloned();
            found.is_some()
        });
        assert!(said, "no {parts:?} in {:#?}", self.log());
        found.unwrap()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) fn code(&mut self) -> i32 {
        let mut code = None;
        assert!(holds(|| {
            code = self.child.try_wait().unwrap();
            code.is_some()
        }));
        code.unwrap().code().expect("an exit, not a signal")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether the condition becomes true within half a minute.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
pub(crate) fn holds(mut condition: impl FnMut() -> bool) -> bool {
    for _ in 0..1500 {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
