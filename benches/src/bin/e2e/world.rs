//! A real Consul with a configuration, hax beside it, and programs to compare with; all end with it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::client::{self, Reply};
use hax_sim::real::{self, Options, RealConsul};
use tokio::time::sleep;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// Consul and what is in it.
pub(crate) struct World {
    pub(crate) consul: RealConsul,
    pub(crate) cluster: Cluster,
}

/// A program that runs; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
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

impl World {
    pub(crate) fn new(shape: Shape) -> anyhow::Result<Self> {
        let cluster = Cluster::generate(&shape.with_endpoints(Endpoints::Sock));
        let consul = RealConsul::start(Options::new("ssu1"))?;
        consul.load_cluster(&cluster)?;
        Ok(Self { consul, cluster })
    }

    /// hax on the first node, ready, and how long that took.
    pub(crate) async fn hax(&self, flags: &[&str]) -> anyhow::Result<(Program, Duration)> {
        self.start(&hax()?, flags).await
    }

    /// The same with this program.
    pub(crate) async fn start(
        &self,
        program: &Path,
        flags: &[&str],
    ) -> anyhow::Result<(Program, Duration)> {
        let (motr, http) = (local(), local());
        let mut command = Command::new(program);
        command.args(["run", "--no-elect", "--node", "ssu1"]);
        command.args(["--consul", &format!("http://{}", self.consul.address())]);
        command.args(["--motr-endpoint", &format!("inet:stream:127.0.0.1@{}", motr.port())]);
        command.args(["--http", &http.to_string()]).args(flags);
        for (name, _) in std::env::vars() {
            if ["HAX_", "CONSUL_", "HARE_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        // Its log lines are part of what it costs.
        let name = program.file_name().unwrap_or_default().display();
        let log = std::env::temp_dir().join(format!("{name}-e2e.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        let began = clock();
        let program = Program { child: command.spawn().context("starting hax")?, motr, http };
        program.wait(began, "/readyz").await?;
        Ok((program, began.elapsed()))
    }
}

/// This program as a server to compare with.
pub(crate) async fn ceiling(kind: &str, confds: usize) -> anyhow::Result<Program> {
    let at = local();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--serve", kind, &at.to_string(), &confds.to_string()]);
    let child = command.stdin(Stdio::null()).spawn()?;
    let program = Program { child, motr: at, http: at };
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

    /// The sum over all samples of a metric.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.samples::<f64>(name)?.iter().sum())
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

/// The program itself, beside this one. It is built if this one was built by cargo.
fn hax() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("hax"))
}

/// Builds it, so that what is measured is what is in the tree.
pub(crate) fn build() -> anyhow::Result<()> {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    cargo(&[release, &["-p", "hax-tokio", "--bin", "hax"]].concat())
}

/// Builds something of this workspace.
pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "-q"]);
    if !command.args(args).status()?.success() {
        bail!("cargo build {} fails", args.join(" "));
    }
    Ok(())
}
