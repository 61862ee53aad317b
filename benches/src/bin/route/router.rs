//! A router with a server in a folder of its own. It ends with its fixture.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_core::route::request::Request;

use crate::sample::until;

/// A router.
pub(crate) struct Router {
    hax: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    server: Option<Child>,
}

impl Router {
    /// Creates a router, starts its server with these flags, and waits until it answers.
    pub(crate) fn new(hax: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("hax-bench-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut router = Self { hax: hax.into(), folder, flags, server: None };
        router.serve()?;
        Ok(router)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.hax);
        command.env_clear().env("HAX_ROUTE_DIR", &self.folder).stdin(Stdio::null());
        command
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn serve(&mut self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["route", "serve"]).args(&self.flags);
        let log = std::fs::File::create(self.folder.join("log"))?;
        self.server = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        until("the server answers", || self.ask(&Request::Ping).is_ok())?;
        Ok(())
    }

    /// Sends a request to the server, as a program.
    pub(crate) fn ask(&self, request: &Request) -> anyhow::Result<Vec<u8>> {
        let within = Duration::from_secs(10);
        let answer = hax_driver::fifo::ask(&self.folder, request.encode().as_bytes(), within);
        answer.map_err(|why| anyhow::anyhow!("{why}"))
    }

    /// Builds the command line of a script. Spaces separate the words.
    fn script(&self, line: &str) -> Command {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let mut command = self.command();
        command.arg0(words.next().unwrap_or_default()).args(words);
        command
    }

    /// Runs a script, which has to succeed.
    pub(crate) fn ok(&self, line: &str) -> anyhow::Result<()> {
        let output = self.script(line).output().context("a script")?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Returns the groups in the server's status.
    fn groups(&self) -> Vec<serde_json::Value> {
        let answer = self.ask(&Request::Status).unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let status = answer["text"].as_str().unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(status).unwrap_or_default();
        status["groups"].as_array().cloned().unwrap_or_default()
    }

    /// Returns whether the server holds the leases of its groups.
    pub(crate) fn acts(&self) -> bool {
        let groups = self.groups();
        !groups.is_empty() && groups.iter().all(|group| group["held_in_term"].is_u64())
    }

    /// Returns whether the server knows another holder of each of its groups.
    pub(crate) fn follows(&self) -> bool {
        let groups = self.groups();
        !groups.is_empty() && groups.iter().all(|group| group["other"].is_object())
    }

    /// Returns how often a text stands in the log.
    pub(crate) fn logs(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.matches(text).count()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Returns the resident memory of the server, in MiB.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        let server = self.server.as_ref().context("the server runs")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.context("VmRSS")? / 1024.0)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
