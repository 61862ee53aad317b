//! `hax demo services`: three nodes with a supervised service, and the built-in Consul.
//!
//! Each node has a real keeper and a real hax, which are processes of this program. No root is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_driver::exit::Exit;
use hax_driver::host::clock::Clock;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::show::Show;

/// The names of the nodes.
pub(super) const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The type of the service: it sleeps, and what it is told is for how long.
const TYPE: &str = "\
type = \"web\"
command = [\"/bin/sleep\", \"{seconds}\"]
[parameters]
seconds = { kind = \"string\", default = \"1000\" }
[restart]
stable = \"1s\"
attempts = 2
";

/// The timeout of an expectation, and the pause between two looks.
const WITHIN: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(10);

/// Runs the demo.
pub(super) async fn play(consuls: &[String], clock: Clock) -> anyhow::Result<Exit> {
    let (_none, lines) = async_channel::bounded(1);
    let mut show = Show::new(clock, lines, Vec::new());
    let mut stage = Stage::new(consuls)?;
    for nth in 0..NODES.len() {
        stage.start_keeper(nth)?;
        stage.start_hax(nth)?;
    }
    let coordinator = stage.coordinator(None).await?;
    show.check(coordinator.is_some(), "a node coordinates")?;
    let coordinator = coordinator.unwrap_or_default();
    show.tell(NODES[coordinator], "has the recovery coordinator");

    show.act("a service is declared once, and runs on every node").await;
    let file = stage.file("web.toml", TYPE)?;
    stage.done(0, &["define", &file]).await?;
    show.tell("n1", "hax service define web.toml");
    stage.done(0, &["start", "web"]).await?;
    let first = stage.pids(0).await?;
    show.tell("n1", format_args!("hax service start web: it runs as {}", told(&first)));
    show.check(first.len() == NODES.len(), "it runs on all nodes")?;

    show.act("one dies").await;
    let before = clock.now().mono;
    kill(first["n2"])?;
    show.tell("n2", format_args!("process {} is killed (kill -9)", first["n2"]));
    let second = stage.until_other(0, "n2", first["n2"]).await?;
    show.check(second.is_some(), "it is started again")?;
    let took = clock.now().mono.since(before).as_secs_f64() * 1e3;
    let pid = second.unwrap_or_default();
    show.tell("n2", format_args!("it runs again as process {pid}, seen after {took:.0} ms"));

    show.act("a configuration with which it cannot run").await;
    // It is tried on instances that have proved themselves.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stage.done(0, &["reconfigure", "web", "seconds=for-ever"]).await?;
    show.tell("n1", "hax service reconfigure web seconds=for-ever");
    let returns = stage
        .until(0, |all| all.iter().all(|one| one["wanted"]["serial"].as_u64() >= Some(3)))
        .await?;
    show.check(returns, "it is tried twice, and taken back")?;
    let runs = stage.until(0, |all| all.iter().all(|one| one["state"] == "running")).await?;
    show.check(runs, "it runs with the last configuration again")?;
    let why = stage.done(0, &["why", "web", "--node", "n3"]).await?;
    show.tell("n3", why.trim());
    stage.done(0, &["reconfigure", "web", "seconds="]).await?;

    lose_coordinator(&mut show, &mut stage, coordinator).await?;
    show.end();
    Ok(Exit::Clean)
}

/// The coordinator's hax is killed while there is something to decide, and comes back.
async fn lose_coordinator(
    show: &mut Show,
    stage: &mut Stage,
    coordinator: usize,
) -> anyhow::Result<()> {
    show.act("the coordinator dies in the middle of it").await;
    let all_run = stage.until(0, |all| all.iter().all(|one| one["state"] == "running")).await?;
    show.check(all_run, "it runs everywhere")?;
    let node = (coordinator + 1) % NODES.len();
    let third = (coordinator + 2) % NODES.len();
    let pids = stage.pids(node).await?;
    stage.kill_hax(coordinator).await?;
    show.tell(NODES[coordinator], "hax is killed (kill -9); what it runs goes on");
    kill(pids[NODES[node]])?;
    show.tell(
        NODES[node],
        format_args!("process {} is killed, and nobody decides", pids[NODES[node]]),
    );
    let next = stage.coordinator(Some(coordinator)).await?;
    show.check(next.is_some(), "another node coordinates")?;
    show.tell(NODES[next.unwrap_or_default()], "has the recovery coordinator, and finds the event");
    let again = stage.until_other(third, NODES[node], pids[NODES[node]]).await?;
    show.check(again.is_some(), "it is started again")?;
    show.tell(NODES[node], format_args!("it runs again as process {}", again.unwrap_or_default()));

    show.act("hax comes back").await;
    stage.start_hax(coordinator)?;
    // Until its lease is known to be there again, its instances count as inhibited.
    let is_back = stage.until(third, |all| all.iter().all(|one| one["state"] == "running")).await?;
    show.check(is_back, "its node is up again")?;
    let pids_now = stage.pids(third).await?;
    let name = NODES[coordinator];
    show.check(pids_now.get(name) == pids.get(name), "what ran without it still runs")?;
    show.tell(name, format_args!("process {} has noticed nothing", pids_now[name]));
    stage.done(third, &["stop", "web"]).await?;
    show.tell(NODES[third], "hax service stop web: nothing is left");
    show.check(stage.pids(third).await?.is_empty(), "it is stopped")?;
    Ok(())
}

/// Returns processes by node, in words.
fn told(pids: &BTreeMap<String, u64>) -> String {
    let each = pids.iter().map(|(node, pid)| format!("{pid} on {node}"));
    each.collect::<Vec<_>>().join(", ")
}

fn kill(pid: u64) -> anyhow::Result<()> {
    let killed = StdCommand::new("kill").args(["-9", &pid.to_string()]).status()?;
    if killed.success() { Ok(()) } else { bail!("there is no process {pid}") }
}

/// The nodes, in a temporary folder that is removed on drop, with all that runs there.
struct Stage {
    folder: PathBuf,
    program: PathBuf,
    consuls: Vec<String>,
    keepers: Vec<Child>,
    haxes: BTreeMap<usize, Child>,
}

impl Stage {
    fn new(consuls: &[String]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("hax-demo-services-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let program = std::env::current_exe().context("the path of this program")?;
        let (consuls, keepers, haxes) = (consuls.to_vec(), Vec::new(), BTreeMap::new());
        Ok(Self { folder, program, consuls, keepers, haxes })
    }

    fn path(&self, nth: usize, name: &str) -> String {
        self.folder.join(NODES[nth]).join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    fn start_keeper(&mut self, nth: usize) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args([
            "keeper",
            "--dir",
            &self.path(nth, "keeper"),
            "--log-dir",
            &self.path(nth, "log"),
        ]);
        self.keepers.push(command.args(["--allow-exec", "/bin"]).spawn()?);
        Ok(())
    }

    fn start_hax(&mut self, nth: usize) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args([
            "run",
            "--motr",
            "none",
            "--node",
            NODES[nth],
            "--consul",
            &self.consuls[nth],
        ]);
        command.args(["--http", "127.0.0.1:0", "--http-socket", &self.path(nth, "http.socket")]);
        command.args(["--instance-socket", &self.path(nth, "instance.socket"), "--rules", "none"]);
        command.args(["--keeper", &self.path(nth, "keeper"), "--allow-exec", "/bin"]);
        self.haxes.insert(nth, command.spawn()?);
        Ok(())
    }

    async fn kill_hax(&mut self, nth: usize) -> anyhow::Result<()> {
        if let Some(mut hax) = self.haxes.remove(&nth) {
            hax.kill().await?;
        }
        Ok(())
    }

    /// Runs `hax service` at a node.
    async fn service(&self, nth: usize, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.arg("service").args(args).args(["--http-socket", &self.path(nth, "http.socket")]);
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?)
    }

    /// Does the same, and requires its success.
    async fn done(&self, nth: usize, args: &[&str]) -> anyhow::Result<String> {
        let output = self.service(nth, args).await?;
        if !output.status.success() {
            bail!(
                "hax service {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn instances(&self, nth: usize) -> anyhow::Result<Vec<Value>> {
        let all = self.done(nth, &["list", "web", "--json"]).await?;
        serde_json::from_str(&all).context("the list of instances")
    }

    /// Returns the processes of the running instances by node, as a node knows them.
    async fn pids(&self, nth: usize) -> anyhow::Result<BTreeMap<String, u64>> {
        let running = |one: Value| {
            let is_running = one["state"] == "running";
            is_running
                .then(|| Some((one["node"].as_str()?.to_owned(), one["pid"].as_u64()?)))
                .flatten()
        };
        Ok(self.instances(nth).await?.into_iter().filter_map(running).collect())
    }

    /// Waits until the instances are as is wanted; returns whether they are in time.
    async fn until(&self, nth: usize, fits: impl Fn(&[Value]) -> bool) -> anyhow::Result<bool> {
        let waiting = async {
            loop {
                if fits(&self.instances(nth).await?) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::time::timeout(WITHIN, waiting)
            .await
            .map_or(Ok(false), |waited| waited.map(|()| true))
    }

    /// Waits until another process than this one runs on a node; returns it.
    async fn until_other(&self, nth: usize, node: &str, pid: u64) -> anyhow::Result<Option<u64>> {
        let waiting = async {
            loop {
                if let Some(other) = self.pids(nth).await?.get(node).filter(|other| **other != pid)
                {
                    return anyhow::Ok(*other);
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::time::timeout(WITHIN, waiting).await.ok().transpose()
    }

    /// Waits until a node coordinates, other than one; returns it.
    async fn coordinator(&self, other_than: Option<usize>) -> anyhow::Result<Option<usize>> {
        let waiting = async {
            loop {
                for nth in (0..NODES.len()).filter(|nth| Some(*nth) != other_than) {
                    let output = self.service(nth, &["status", "--json"]).await?;
                    let status =
                        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
                    if status["coordinates"] == true {
                        return anyhow::Ok(nth);
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::time::timeout(WITHIN, waiting).await.ok().transpose()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The instances outlive both programs.
        for nth in 0..NODES.len() {
            let dir = self.path(nth, "keeper");
            let list = StdCommand::new(&self.program)
                .args(["keeper", "list", "--json", "--dir", &dir])
                .output();
            let list = list.map(|output| output.stdout).unwrap_or_default();
            for line in String::from_utf8_lossy(&list).lines() {
                let view = serde_json::from_str::<Value>(line).unwrap_or_default();
                if let Some(instance) = view["instance"].as_str() {
                    let kill = ["keeper", "kill", instance, "--dir", &dir];
                    let _ = StdCommand::new(&self.program).args(kill).output();
                }
            }
        }
        // If this fails, the rest stays in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
