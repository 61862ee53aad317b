//! A real Consul with a configuration, hax, and programs for comparison; all end with the fixture.

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

/// The timeout of a start.
const START: Duration = Duration::from_secs(30);

/// Consul and its configuration.
pub(crate) struct Fixture {
    pub(crate) consul: RealConsul,
    pub(crate) cluster: Cluster,
}

/// A running program; it is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    /// The time of the start, by the clock of its log lines, and the path of the log.
    began: WallClock,
    log: PathBuf,
    /// The folder of its links' state, which is its own.
    state: PathBuf,
    pub(crate) motr: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A ceiling has none.
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], real::port()))
}

impl Fixture {
    /// Creates a fixture of this shape; confds run only on the first `confds` nodes.
    pub(crate) fn new(shape: Shape, confds: usize) -> anyhow::Result<Self> {
        let mut cluster = Cluster::generate(&shape.with_endpoints(Endpoints::Sock));
        for node in cluster.catalog.iter_mut().skip(confds) {
            node.services.retain(|service| service.name != "confd");
        }
        let consul = RealConsul::start(Options::new("ssu1"))?;
        consul.load_cluster(&cluster)?;
        Ok(Self { consul, cluster })
    }

    /// Starts hax on the first node and waits until it is ready; returns the time that this took.
    pub(crate) async fn hax(
        &self,
        program: &Path,
        flags: &[&str],
    ) -> anyhow::Result<(Program, Duration)> {
        start(program, "ssu1", &self.consul.address(), flags).await
    }

    /// Does the same at these addresses for Motr and HTTP.
    pub(crate) async fn hax_at(
        &self,
        program: &Path,
        flags: &[&str],
        at: (SocketAddr, SocketAddr),
    ) -> anyhow::Result<(Program, Duration)> {
        start_at(program, "ssu1", &self.consul.address(), flags, at).await
    }
}

/// Starts hax on a node with this Consul and waits until it is ready; returns the time that this took.
pub(crate) async fn start(
    program: &Path,
    node: &str,
    consul: &str,
    flags: &[&str],
) -> anyhow::Result<(Program, Duration)> {
    start_at(program, node, consul, flags, addresses()).await
}

/// Returns free addresses for Motr and HTTP.
pub(crate) fn addresses() -> (SocketAddr, SocketAddr) {
    (local(), local())
}

async fn start_at(
    program: &Path,
    node: &str,
    consul: &str,
    flags: &[&str],
    (motr, http): (SocketAddr, SocketAddr),
) -> anyhow::Result<(Program, Duration)> {
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
    // A variable, since an older hax that is measured does not know the flag.
    let state = std::env::temp_dir().join(format!("hax-e2e-links-{}", motr.port()));
    command.env("HAX_STATE_DIR", &state);
    // Writing its log lines is part of the measured cost.
    let log = std::env::temp_dir().join("hax-e2e.log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let since = clock();
    let began = wall();
    let child = command.spawn().with_context(|| program.display().to_string())?;
    let program = Program { child, began, log, state, motr, http };
    program.wait(since, "/readyz").await?;
    Ok((program, since.elapsed()))
}

/// Starts this program as a server for comparison.
pub(crate) async fn ceiling(kind: &str, confds: usize) -> anyhow::Result<Program> {
    let at = local();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", kind, &at.to_string(), &confds.to_string()]);
    let child = command.stdin(Stdio::null()).spawn()?;
    let program = Program {
        child,
        began: wall(),
        log: PathBuf::new(),
        state: PathBuf::new(),
        motr: at,
        http: at,
    };
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

    /// Sends SIGTERM, and returns the time until the end. The peers of this thread close their connections
    /// meanwhile.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<Duration> {
        let began = clock();
        let kill = Command::new("kill").arg(self.child.id().to_string()).status()?;
        anyhow::ensure!(kill.success(), "hax runs");
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "hax stops with {status}");
                return Ok(began.elapsed());
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn get(&self, path: &str) -> std::io::Result<Reply> {
        client::request(self.http, Duration::from_secs(5), "GET", path, b"")
    }

    /// Returns the values of all samples of a metric.
    fn samples<T: std::str::FromStr>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let text = self.get("/metrics")?.text();
        let own = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(own.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect())
    }

    /// Returns the durations of the start: until the first log line, then until the identity is known, then
    /// until everything is read.
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

    /// Returns the number of bytes that Consul has sent so far.
    pub(crate) fn consul_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.samples::<u64>("hax_consul_received_bytes_total")?.iter().sum())
    }

    /// Returns the number of answered requests to Consul of this kind, without blocking queries.
    pub(crate) fn consul_requests_of(&self, kind: &str) -> anyhow::Result<u64> {
        let kind = format!("kind=\"{kind}\",blocking=\"false\"");
        let name = format!("hax_consul_request_duration_seconds_count{{{kind}}}");
        let text = self.get("/metrics")?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(Ok(0), |count| Ok(count.trim().parse()?))
    }

    /// Returns the number of answered requests to Consul.
    pub(crate) fn consul_requests(&self) -> anyhow::Result<u64> {
        Ok(self.samples::<u64>("hax_consul_request_duration_seconds_count")?.iter().sum())
    }

    /// Returns the resident memory in MiB.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        Ok(self.status("VmRSS:")? / 1024.0)
    }

    /// Returns the peak of the resident memory in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        Ok(self.status("VmHWM:")? / 1024.0)
    }

    /// Returns the number of threads.
    pub(crate) fn threads(&self) -> anyhow::Result<f64> {
        self.status("Threads:")
    }

    /// Returns a number from the process's `/proc` status.
    fn status(&self, name: &'static str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.context(name)
    }
}

/// The length of a day in nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// Returns the time of a log line since midnight: `2026-01-01T12:34:56.123456Z …`.
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

/// Builds hax if cargo runs this program, so that the measured program matches the source tree.
pub(crate) fn build() -> anyhow::Result<()> {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    cargo(&[release, &["-p", "hax-tokio", "--bin", "hax"]].concat())
}

/// Builds a part of this workspace, if cargo runs this program.
pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "-q"]);
    if !command.args(args).status()?.success() {
        bail!("cargo build {} fails", args.join(" "));
    }
    Ok(())
}
