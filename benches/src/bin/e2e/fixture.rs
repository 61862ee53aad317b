//! A real Consul with a configuration, hax beside it, and programs to compare with; all end with it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use hax_core::base::time::WallClock;
use hax_driver::host::clock::wall;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::client::{self, Reply};
use hax_sim::real::{self, Options, RealConsul};
use tokio::time::sleep;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// Consul and what is in it.
pub(crate) struct Fixture {
    pub(crate) consul: RealConsul,
    pub(crate) cluster: Cluster,
}

/// A program that runs; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    /// When it was started, by the clock of its log lines, and where these are.
    began: WallClock,
    log: PathBuf,
    pub(crate) motr: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], real::port()))
}

impl Fixture {
    /// Of this shape; confds run on its first nodes only.
    pub(crate) fn new(shape: Shape, confds: usize) -> anyhow::Result<Self> {
        let mut cluster = Cluster::generate(&shape.with_endpoints(Endpoints::Sock));
        for node in cluster.catalog.iter_mut().skip(confds) {
            node.services.retain(|service| service.name != "confd");
        }
        let consul = RealConsul::start(Options::new("ssu1"))?;
        consul.load_cluster(&cluster)?;
        Ok(Self { consul, cluster })
    }

    /// hax on the first node, ready, and how long that took.
    pub(crate) async fn hax(
        &self,
        program: &Path,
        flags: &[&str],
    ) -> anyhow::Result<(Program, Duration)> {
        start(program, "ssu1", &self.consul.address(), flags).await
    }
}

/// hax on a node with this Consul, ready, and how long that took.
pub(crate) async fn start(
    program: &Path,
    node: &str,
    consul: &str,
    flags: &[&str],
) -> anyhow::Result<(Program, Duration)> {
    let (motr, http) = (local(), local());
    let mut command = Command::new(program);
    command.args(["run", "--no-elect", "--node", node]);
    command.args(["--consul", &format!("http://{consul}")]);
    command.args(["--motr-endpoint", &format!("inet:stream:127.0.0.1@{}", motr.port())]);
    command.args(["--http", &http.to_string()]).args(flags);
    for (name, _) in std::env::vars() {
        if ["HAX_", "CONSUL_", "HARE_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // Its log lines are part of what it costs.
    let log = std::env::temp_dir().join("hax-e2e.log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let since = clock();
    let began = wall();
    let child = command.spawn().with_context(|| program.display().to_string())?;
    let program = Program { child, began, log, motr, http };
    program.wait(since, "/readyz").await?;
    Ok((program, since.elapsed()))
}

/// This program as a server to compare with.
pub(crate) async fn ceiling(kind: &str, confds: usize) -> anyhow::Result<Program> {
    let at = local();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", kind, &at.to_string(), &confds.to_string()]);
    let child = command.stdin(Stdio::null()).spawn()?;
    let program = Program { child, began: wall(), log: PathBuf::new(), motr: at, http: at };
    let began = clock();
    while tokio::net::TcpStream::connect(at).await.is_err() {
        if began.elapsed() > START {
            bail!("{kind} does not start");
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(program)
}

impl Program {
    async fn wait(&self, began: Instant, path: &str) -> anyhow::Result<()> {
        loop {
            if self.get(path).is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            if began.elapsed() > START {
                bail!("hax does not become ready; see hax-e2e.log");
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn get(&self, path: &str) -> std::io::Result<Reply> {
        client::request(self.http, Duration::from_secs(5), "GET", path, b"")
    }

    /// The values of all samples of a metric.
    fn samples<T: std::str::FromStr>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let text = self.get("/metrics")?.text();
        let own = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(own.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect())
    }

    /// How long it took until it said a word, from there until it knew who it is, and until it had read
    /// everything.
    pub(crate) fn stages(&self) -> anyhow::Result<[Duration; 3]> {
        let log = std::fs::read_to_string(&self.log)?;
        let at = |what: &str| {
            let line =
                log.lines().find(|line| line.contains(what)).with_context(|| what.to_owned());
            time_of_day(line?).with_context(|| format!("the time of {what}"))
        };
        let began = Duration::from_nanos(self.began.0 % DAY);
        let stages = [began, at("hax starts")?, at("hax listens")?, at("ready: ")?];
        Ok([0, 1, 2].map(|n| stages[n + 1].saturating_sub(stages[n])))
    }

    /// Bytes that Consul has answered so far.
    pub(crate) fn consul_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.samples::<u64>("hax_consul_received_bytes_total")?.iter().sum())
    }

    /// Requests to Consul of this kind, blocking queries apart, that have been answered so far.
    pub(crate) fn consul_requests_of(&self, kind: &str) -> anyhow::Result<u64> {
        let kind = format!("kind=\"{kind}\",blocking=\"false\"");
        let name = format!("hax_consul_request_duration_seconds_count{{{kind}}}");
        let text = self.get("/metrics")?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(Ok(0), |count| Ok(count.trim().parse()?))
    }

    /// Requests to Consul that have been answered so far.
    pub(crate) fn consul_requests(&self) -> anyhow::Result<u64> {
        Ok(self.samples::<u64>("hax_consul_request_duration_seconds_count")?.iter().sum())
    }

    /// Resident memory in MiB.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        Ok(self.status("VmRSS:")? / 1024.0)
    }

    /// The most that it ever was.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        Ok(self.status("VmHWM:")? / 1024.0)
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> anyhow::Result<f64> {
        self.status("Threads:")
    }

    /// A number of Linux's status of the process.
    fn status(&self, name: &'static str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.context(name)
    }
}

/// Nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// The time of a log line since midnight: `2026-01-01T12:34:56.123456Z …`.
fn time_of_day(line: &str) -> Option<Duration> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':');
    let hours: u32 = parts.next()?.parse().ok()?;
    let minutes: u32 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(
        Duration::from_secs((hours * 3600 + minutes * 60).into())
            + Duration::from_secs_f64(seconds),
    )
}

/// Builds hax if cargo runs this program, so that what is measured is what is in the tree.
pub(crate) fn build() -> anyhow::Result<()> {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    cargo(&[release, &["-p", "hax-tokio", "--bin", "hax"]].concat())
}

/// Builds something of this workspace, if cargo runs this program.
pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "-q"]);
    if !command.args(args).status()?.success() {
        bail!("cargo build {} fails", args.join(" "));
    }
    Ok(())
}
