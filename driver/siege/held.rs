//! The daemon under attack, run as its users run it, with its log in a file.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::daemon::{Ham, Place, double};

pub(crate) struct Held {
    pub(crate) place: Place,
    /// The processes that have booted.
    pub(crate) hams: Vec<Ham>,
    child: Child,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Held {
    /// Starts a daemon and waits until it is ready.
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let mut command = Command::new(crate::hax::HAX);
        command.arg("run").args(place.flags(double::consul()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = File::create(log_path()).unwrap();
        let child = command.stderr(log).spawn().unwrap();
        let held = Self { place, hams: Vec::new(), child };
        held.place.ready();
        held
    }

    /// Returns the daemon's peak memory in KiB (proc(5), `VmHWM`).
    pub(crate) fn memory(&self) -> u64 {
        self.number("VmHWM:")
    }

    pub(crate) fn say_memory(&self) {
        use std::io::Write as _;
        let (most, now) = (self.memory(), self.number("VmRSS:"));
        let _ = writeln!(std::io::stderr(), "memory: {most} KiB at most, {now} KiB now");
    }

    /// Returns the number of lines in its log.
    pub(crate) fn lines(&self) -> usize {
        std::fs::read_to_string(log_path()).unwrap().lines().count()
    }

    fn number(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn log_path() -> std::path::PathBuf {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    dir.join(format!("siege-{}.log", std::process::id()))
}
