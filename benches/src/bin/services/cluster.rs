//! Three nodes with services. All of it ends with its value.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_sim::real::{Options, RealConsul, client, port};
use serde_json::{Value, json};

use crate::child;
use crate::sample::until;

/// The number of nodes.
pub(crate) const NODES: usize = 3;

/// The time limit of a request.
const WITHIN: Duration = Duration::from_secs(60);

/// The token of HTTP.
const TOKEN: &str = "a-token-of-a-benchmark";

/// One node.
struct Node {
    name: String,
    http: SocketAddr,
    consul: String,
    keeper: Option<Child>,
    hax: Option<Child>,
}

/// The nodes with their servers of Consul.
pub(crate) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
    /// The folders of the keepers, in memory as `/run` is.
    state: PathBuf,
    pub(crate) servers: Vec<RealConsul>,
    nodes: Vec<Node>,
    socket: UnixDatagram,
}

impl Cluster {
    pub(crate) fn start(hax: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // The keeper of root runs programs only from folders that nobody else can write to.
        let is_root = fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let place = if is_root { PathBuf::from("/var/lib") } else { std::env::temp_dir() };
        let dir = place.join(format!("hax-bench-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let memory = PathBuf::from("/dev/shm");
        let state = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let state = state.join(format!("hax-bench-{}-{n}", std::process::id()));
        fs::create_dir_all(&state)?;
        fs::copy(std::env::current_exe()?, dir.join("service"))?;
        fs::write(dir.join("token"), TOKEN)?;
        fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o600))?;
        let socket = UnixDatagram::bind(dir.join("socket"))?;
        socket.set_read_timeout(Some(WITHIN))?;
        let names: Vec<String> = (1..=NODES).map(|nth| format!("n{nth}")).collect();
        let options = names.iter().map(|name| Options::new(name)).collect();
        let servers = RealConsul::start_servers(options).context("Consul")?;
        let node = |(name, server): (&String, &RealConsul)| Node {
            name: name.clone(),
            http: SocketAddr::from(([127, 0, 0, 1], port())),
            consul: format!("http://{}", server.http_addr),
            keeper: None,
            hax: None,
        };
        let nodes = names.iter().zip(&servers).map(node).collect();
        let mut cluster = Self { program: hax.into(), dir, state, servers, nodes, socket };
        for nth in 0..NODES {
            cluster.start_keeper(nth)?;
            cluster.start_hax(nth)?;
        }
        cluster.until_ready()?;
        Ok(cluster)
    }

    fn command(&self, nth: usize, log: &str) -> anyhow::Result<Command> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{log}-{nth}.log")))?;
        let mut command = Command::new(&self.program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn keeper_dir(&self, nth: usize) -> PathBuf {
        self.state.join(format!("keeper-{nth}"))
    }

    pub(crate) fn start_keeper(&mut self, nth: usize) -> anyhow::Result<()> {
        let mut command = self.command(nth, "keeper")?;
        command.arg("keeper").arg("--dir").arg(self.keeper_dir(nth));
        command.arg("--log-dir").arg(self.dir.join("logs")).arg("--allow-exec").arg(&self.dir);
        self.nodes[nth].keeper = Some(command.spawn()?);
        // A hax that finds no keeper would start another one.
        let socket = self.keeper_dir(nth).join(hax_driver::keeper::SOCKET);
        until("the keeper serves", || UnixStream::connect(&socket).is_ok())?;
        Ok(())
    }

    pub(crate) fn start_hax(&mut self, nth: usize) -> anyhow::Result<()> {
        let mut command = self.command(nth, "hax")?;
        let node = &self.nodes[nth];
        command.args(["run", "--motr", "none", "--services", "on", "--node", &node.name]);
        command.args(["--consul", &node.consul, "--http", &node.http.to_string()]);
        command.arg("--http-token-file").arg(self.dir.join("token"));
        command.arg("--http-socket").arg(self.dir.join(format!("http-{nth}.sock")));
        command.arg("--keeper").arg(self.keeper_dir(nth));
        self.nodes[nth].hax = Some(command.spawn()?);
        Ok(())
    }

    pub(crate) fn until_ready(&self) -> anyhow::Result<()> {
        let is_ready = |node: &Node| {
            client::request(node.http, WITHIN, "GET", "/readyz", b"")
                .is_ok_and(|reply| reply.status == 200)
        };
        until("all nodes are ready", || self.nodes.iter().all(is_ready))?;
        let has_rc = || self.get("/v1/services/rc").is_ok_and(|all| all[0]["state"] == "running");
        until("there is a coordinator", has_rc)?;
        Ok(())
    }

    pub(crate) fn kill_hax(&mut self, nth: usize) {
        kill(self.nodes[nth].hax.take());
    }

    pub(crate) fn kill_keeper(&mut self, nth: usize) {
        kill(self.nodes[nth].keeper.take());
    }

    /// Forgets what the keeper of a node knows, as a reboot does.
    pub(crate) fn clear_keeper(&self, nth: usize) {
        let _ = fs::remove_dir_all(self.keeper_dir(nth));
    }

    /// Returns the process ids of the daemons of a node.
    pub(crate) fn daemons(&self, nth: usize) -> Vec<u32> {
        let node = &self.nodes[nth];
        [&node.keeper, &node.hax].into_iter().flatten().map(Child::id).collect()
    }

    // ---- requests ---------------------------------------------------------------------------------

    pub(crate) fn get(&self, target: &str) -> anyhow::Result<Value> {
        self.ask("GET", target, &Value::Null)
    }

    pub(crate) fn post(&self, target: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask("POST", target, body)
    }

    fn ask(&self, method: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        let token = format!("Authorization: Bearer {TOKEN}\r\n");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let at = self.nodes[0].http;
        let reply = client::request_with(at, WITHIN, &token, method, target, body.as_bytes())?;
        if reply.status != 200 {
            bail!("{method} {target}: {} {}", reply.status, reply.text());
        }
        Ok(serde_json::from_str(&reply.text())?)
    }

    /// Returns the type of the measured service, with this name.
    pub(crate) fn kind(&self, name: &str) -> Value {
        json!({
            "type": name,
            "command": [self.dir.join("service"), child::FLAG, self.dir.join("socket")],
            "restart": { "stable": "50ms", "give_up": "never" },
        })
    }

    /// Waits until another instance tells that it was started; returns its process id.
    pub(crate) fn started(&self) -> anyhow::Result<u32> {
        let mut pid = [0; 4];
        self.socket.recv(&mut pid).context("no instance was started")?;
        Ok(u32::from_be_bytes(pid))
    }

    /// Returns the running instances: the node and the process id.
    pub(crate) fn running(&self) -> Vec<(String, String, u64)> {
        let all = self.get("/v1/services").unwrap_or_default();
        let all = all.as_array().cloned().unwrap_or_default();
        let one = |one: &Value| {
            let text = |name: &str| one[name].as_str().map(str::to_owned);
            let is_running = one["state"] == "running";
            Some((text("type")?, text("node")?, one["pid"].as_u64()?)).filter(|_| is_running)
        };
        all.iter().filter_map(one).collect()
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pids: Vec<u64> = self.running().into_iter().map(|(.., pid)| pid).collect();
        for nth in 0..NODES {
            self.kill_hax(nth);
            self.kill_keeper(nth);
        }
        for pid in pids {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        for dir in [&self.dir, &self.state] {
            let _ = fs::remove_dir_all(dir);
        }
    }
}
