//! A router with a server in a directory of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hax_driver::host::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use crate::hax::HAX;

/// A router with its directory and its server.
pub(crate) struct Router {
    folder: PathBuf,
    server: Option<Child>,
    said: Arc<Mutex<String>>,
}

impl Router {
    /// Creates a router with the scripts and without a server.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hax-route-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let bin = folder.join("bin");
        fs::create_dir(&bin).unwrap();
        let installed = Command::new(HAX).args(["route", "install-scripts"]).arg(&bin).output();
        assert!(installed.unwrap().status.success());
        Self { folder, server: None, said: Arc::default() }
    }

    /// Creates a router with a server.
    pub(crate) fn serving(name: &str) -> Self {
        let mut router = Self::new(name);
        router.serve();
        router
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn serve(&mut self) {
        let command = self.command(HAX, "route serve");
        self.serve_by(command);
    }

    /// Creates a router with a server, started with these arguments.
    pub(crate) fn serving_with(name: &str, args: &str) -> Self {
        let mut router = Self::new(name);
        let command = router.command(HAX, &format!("route serve {args}"));
        router.serve_by(command);
        router
    }

    pub(crate) fn serve_by(&mut self, mut command: Command) {
        let mut server = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let said = Arc::clone(&self.said);
        let hear = move |line: std::io::Result<String>| {
            let line = line.unwrap();
            said.lock().unwrap().push_str(&format!("{line}\n"));
            line
        };
        let serves = lines.any(|line| hear(line).contains("redundancy nodes"));
        assert!(serves, "it says that it serves: {}", self.said());
        std::thread::spawn(move || lines.for_each(|line| drop(hear(line))));
        self.server = Some(server);
    }

    /// Waits until its log has this text. The log is read by a thread, so a line may come after an answer.
    pub(crate) fn logs(&self, text: &str) {
        let clock = Clock::new();
        let end = clock.now().mono.after(Duration::from_secs(10));
        while !self.said().contains(text) {
            assert!(clock.now().mono < end, "it never logs {text:?}: {}", self.said());
            std::thread::yield_now();
        }
    }

    /// Returns the output of all its servers.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the server. Returns its exit code.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut server = self.server.take().unwrap();
        kill_process(Pid::from_child(&server), signal).unwrap();
        server.wait().unwrap().code()
    }

    /// Waits until the server ends by itself. Returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.server.take().unwrap().wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Builds a command line. Spaces separate the words.
    pub(crate) fn command(&self, program: impl AsRef<Path>, words: &str) -> Command {
        let mut command = Command::new(program.as_ref());
        command.args(words.split(' ').filter(|word| !word.is_empty()));
        command.env_clear().env("HAX_ROUTE_DIR", self.dir()).stdin(Stdio::null());
        command
    }

    /// Builds the command line of a script with these words.
    pub(crate) fn script(&self, line: &str) -> Command {
        let (name, words) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = self.command(self.folder.join("bin").join(name), words);
        command.arg0(name);
        command
    }

    /// Runs a script. Returns its exit code and its output.
    pub(crate) fn run(&self, line: &str) -> (i32, String) {
        said(&mut self.script(line))
    }

    /// Runs a script. The script must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let (code, text) = self.run(line);
        assert_eq!(code, 0, "{line}: {text}\n{}", self.said());
        text
    }
}

/// Runs a command. Returns its exit code and its output.
pub(crate) fn said(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap().trim_end().to_owned())
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
