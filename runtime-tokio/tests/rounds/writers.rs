//! The log of all writers: the beginning of each event handler, each write in the kernel, and the versions of
//! the route in Consul.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hax_sim::real::client;
use serde_json::Value;

use crate::router::said;

/// The key of the route.
const KEY: &str = "/v1/kv/routes/edge/192.0.2.0/24?raw&consistent";

/// A router and the term under which it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenure {
    router: usize,
    term: u64,
}

/// One version of the route in Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    term: u64,
    hop: String,
}

/// The handlers and the versions of the route.
pub(crate) struct Writers {
    begun: PathBuf,
    versions: Arc<Mutex<Vec<Version>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writers {
    /// Creates the log. Handlers append a line to the file `begun`. The route is read from these servers.
    pub(crate) fn new(begun: PathBuf, servers: Vec<SocketAddr>) -> Self {
        let versions = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (seen, over) = (Arc::clone(&versions), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || watch(&servers, &seen, &over));
        Self { begun, versions, is_over, thread: Some(thread) }
    }

    pub(crate) fn begun(&self) -> &Path {
        &self.begun
    }

    pub(crate) fn leads_to(&self, hop: &str) -> bool {
        self.versions.lock().unwrap().last().is_some_and(|version| version.hop == hop)
    }

    /// Returns the handlers' routers and terms, in the order of their beginning.
    pub(crate) fn tenures(&self) -> Vec<Tenure> {
        let text = fs::read_to_string(&self.begun).unwrap_or_default();
        let line = |line: &str| {
            let (router, term) = line.split_once(' ').unwrap();
            Tenure { router: router.parse().unwrap(), term: term.parse().unwrap() }
        };
        // A verify of a router without the lease has no term, and writes nothing new.
        text.lines().map(line).filter(|tenure| tenure.term > 0).collect()
    }

    /// Checks that no handler begins after one of a later term, and that no two routers have a term.
    pub(crate) fn check(&self) {
        let tenures = self.tenures();
        for pair in tenures.windows(2) {
            let [before, after] = pair else { continue };
            let is_same = before.router == after.router;
            let holds = after.term > before.term || after.term == before.term && is_same;
            assert!(holds, "{after:?} begins after {before:?}: {tenures:?}");
        }
        let versions = self.versions.lock().unwrap();
        for pair in versions.windows(2) {
            let [before, after] = pair else { continue };
            assert!(after.term > before.term, "{after:?} stands after {before:?}: {versions:?}");
        }
    }

    pub(crate) fn summary(&self) -> String {
        let (handlers, versions) = (self.tenures().len(), self.versions.lock().unwrap().len());
        format!("{handlers} handlers, {versions} versions in Consul")
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads the route again and again, from whichever server answers.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
fn watch(servers: &[SocketAddr], versions: &Mutex<Vec<Version>>, is_over: &AtomicBool) {
    let mut nth = 0;
    while !is_over.load(Ordering::Relaxed) {
        let within = Duration::from_millis(500);
        match client::request(servers[nth], within, "GET", KEY, b"") {
            Ok(reply) if reply.status == 200 => {
                let record: Value = serde_json::from_slice(&reply.body).unwrap();
                let hop = record["nextHop"].as_str().unwrap().to_owned();
                let version = Version { term: record["term"].as_u64().unwrap_or(0), hop };
                let mut versions = versions.lock().unwrap();
                if versions.last() != Some(&version) {
                    versions.push(version);
                }
            }
            Ok(reply) if reply.status == 404 => {}
            Ok(_) | Err(_) => nth = (nth + 1) % servers.len(),
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A namespace with a kernel's route table, and all writes to the route.
pub(crate) struct Kernel {
    name: String,
    monitor: Child,
    hops: Arc<Mutex<Vec<String>>>,
}

impl Kernel {
    pub(crate) fn new() -> Option<Self> {
        let name = format!("hax-rounds-{}", std::process::id());
        let (code, text) = said(Command::new("ip").args(["netns", "add", &name]));
        if code != 0 {
            println!("no network namespaces here, so the kernel's table is left out: {text}");
            return None;
        }
        for line in [
            "link add lan type veth peer name wan",
            "addr add 10.0.0.100/24 dev lan",
            "link set lan up",
            "link set wan up",
        ] {
            let (code, text) = said(Command::new("ip").args(["-n", &name]).args(line.split(' ')));
            if code != 0 {
                println!("no interfaces here, so the kernel's table is left out: {text}");
                let _ = said(Command::new("ip").args(["netns", "del", &name]));
                return None;
            }
        }
        let mut monitor = Command::new("ip");
        monitor.args(["-n", &name, "monitor", "route"]).stdout(Stdio::piped());
        let mut monitor = monitor.spawn().unwrap();
        let lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
        let hops = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&hops);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let hop =
                    line.strip_prefix("192.0.2.0/24 via ").and_then(|rest| rest.split(' ').next());
                seen.lock().unwrap().extend(hop.map(str::to_owned));
            }
        });
        Some(Self { name, monitor, hops })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn writes(&self) -> usize {
        self.hops.lock().unwrap().len()
    }

    /// Returns whether the route leads to this address, according to the kernel itself.
    pub(crate) fn leads_to(&self, hop: &str) -> bool {
        let line = ["-n", &self.name, "route", "show", "table", "1000", "exact", "192.0.2.0/24"];
        said(Command::new("ip").args(line)).1.contains(&format!("via {hop} "))
    }

    /// Checks that each change of the route is that of a router's next term.
    pub(crate) fn check(&self, tenures: &[Tenure]) {
        let hops = self.hops.lock().unwrap();
        let mut changes = hops.clone();
        changes.dedup();
        let mut later = tenures.iter();
        let mut term = 0;
        for hop in &changes {
            let is_its = |of: &&Tenure| format!("10.0.0.{}", of.router + 1) == **hop;
            let found = later.find(|of| is_its(of) && of.term > term);
            let text = format!("{hop} is written without a new term: {hops:?}, {tenures:?}");
            term = found.map(|of| of.term).expect(&text);
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        let _ = said(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
