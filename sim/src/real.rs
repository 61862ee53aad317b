//! A real Consul for tests: one agent, a server in development mode, with its own ports and its own
//! directory.
//!
//! It ends when its [`RealConsul`] is dropped.
#![expect(
    clippy::disallowed_methods,
    reason = "a harness of real processes waits in real time; nothing of the simulation is in here"
)]

pub mod client;
mod servers;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::consul::Watch;
use client::Reply;
pub use servers::Gossip;

/// The maximum duration of a start on a busy machine.
const READY: Duration = Duration::from_secs(30);
/// The pause between two polls of an awaited condition.
const LOOK: Duration = Duration::from_millis(20);
/// The range of the ports of test programs. The demo has ports of its own above it.
const PORTS: std::ops::Range<u16> = 10_000..21_000;
/// The maximum number of starts. A port that was free when it was chosen may be taken before Consul uses it.
const ATTEMPTS: usize = 5;

/// The options of a Consul.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's node name.
    pub node: String,
    /// The watches of its configuration, and the URLs of their posts.
    pub watches: Vec<(Watch, String)>,
    /// Keep the data over [`RealConsul::restart`].
    ///
    /// The agent is not in development mode then, so JSON is not indented and the start takes some seconds
    /// longer.
    pub durable: bool,
    /// Serve HTTPS too, and require a client certificate by the same authority there.
    pub tls: Option<Tls>,
    /// Deny everything to requests without this token. The token has all rights.
    pub master_token: Option<String>,
    /// Serve HTTP at a unix socket too: [`RealConsul::socket`].
    pub unix: bool,
    /// Additional configuration, as JSON.
    pub config: Value,
}

/// Consul's files for HTTPS, in PEM format.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority of the clients' certificates.
    pub ca: PathBuf,
    /// Consul's certificate.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

impl Options {
    /// Returns the options of an in-memory Consul on this node.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let config = Value::Object(serde_json::Map::new());
        Self {
            node: node.to_owned(),
            watches: Vec::new(),
            durable: false,
            tls: None,
            master_token: None,
            unix: false,
            config,
        }
    }

    /// Adds a watch.
    #[must_use]
    pub fn watch(mut self, watch: Watch, url: &str) -> Self {
        self.watches.push((watch, url.to_owned()));
        self
    }
}

/// A running Consul.
#[derive(Debug)]
pub struct RealConsul {
    /// The address of its HTTP API.
    pub http_addr: SocketAddr,
    options: Options,
    binary: PathBuf,
    ports: [u16; 5],
    dir: PathBuf,
    child: Option<Child>,
}

/// Returns the path of the binary: `HAX_TEST_CONSUL`, or else the location that `scripts/get-consul` installs
/// it in. The error says why there is none.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("HAX_TEST_CONSUL") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("HAX_TEST_CONSUL is {}, which is no file", path.display()))
        };
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    // A relative target directory is relative to the root of the workspace.
    let target = target.map_or_else(|| root.join("target"), |dir| root.join(dir));
    let path = target.join("consul/consul");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("no Consul at {}: run scripts/get-consul, or set HAX_TEST_CONSUL", path.display()))
}

/// Returns whether the tests with a real Consul can run. If not, it prints the reason; in CI it panics.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test has no other way to say so")]
pub fn available() -> bool {
    match binary() {
        Ok(_) => true,
        Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped: {why}");
            false
        }
    }
}

/// Returns the parent directory of an instance's data.
///
/// A durable Consul syncs each write, and on a disk that has just served a build a sync takes 50 ms and more.
/// A directory in memory also survives the end of a killed Consul.
fn place(durable: bool) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if durable && memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl RealConsul {
    /// Starts a Consul and waits until it has a leader and knows its own node.
    pub fn start(options: Options) -> io::Result<Self> {
        let mut consul = Self::prepare(options)?;
        for left in (0..ATTEMPTS).rev() {
            match consul.spawn() {
                Ok(()) => return Ok(consul),
                Err(error) if left == 0 => return Err(error),
                Err(_) => {
                    consul.kill();
                    consul.ports = free_ports()?;
                    consul.http_addr.set_port(consul.ports[0]);
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Prepares a Consul without starting it.
    fn prepare(options: Options) -> io::Result<Self> {
        let binary = binary().map_err(io::Error::other)?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("hax-consul-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = place(options.durable).join(name);
        // An earlier process with the same pid may have left a directory behind.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("config"))?;
        let ports = free_ports()?;
        let http_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
        Ok(Self { http_addr, options, binary, ports, dir, child: None })
    }

    /// Sends one request and waits at most 30 s for its response.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> io::Result<Reply> {
        let token = self.token_header();
        client::request_with(self.http_addr, READY, &token, method, target, body)
    }

    fn token_header(&self) -> String {
        let token = self.options.master_token.as_ref();
        token.map_or_else(String::new, |token| format!("X-Consul-Token: {token}\r\n"))
    }

    /// Returns the port of HTTPS, if [`Options::tls`] is set.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.ports[4]
    }

    /// Returns the path of the unix socket, if [`Options::unix`] is set.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("http.sock")
    }

    /// Returns the agent's own `host:port`, in the format of `CONSUL_HTTP_ADDR`.
    #[must_use]
    pub fn address(&self) -> String {
        self.http_addr.to_string()
    }

    /// Kills Consul at once, as a crash does. Its data remains if it is durable.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts Consul again on the same ports, after killing it if it runs.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let deadline = Instant::now() + READY;
        loop {
            match self.spawn() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                // Connections of the old Consul may occupy a port for a moment.
                Err(_) => {
                    self.kill();
                    thread::sleep(LOOK);
                }
            }
        }
    }

    /// Stops Consul's process: it accepts connections and answers nothing, like a hung machine.
    ///
    /// Returns when every thread has stopped, where the system reports that.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")?;
        let deadline = Instant::now() + READY;
        while self.child.as_ref().is_some_and(|child| runs(child.id())) {
            if Instant::now() >= deadline {
                return Err(io::Error::other("it does not stop"));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Continues a paused Consul.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Adds a watch to the running agent.
    pub fn add_watch(&mut self, watch: Watch, url: &str) -> io::Result<()> {
        self.options.watches.push((watch, url.to_owned()));
        self.write_config()?;
        let reply = self.request("PUT", "/v1/agent/reload", b"")?;
        if reply.status == 200 { Ok(()) } else { Err(io::Error::other(reply.text())) }
    }

    /// Loads a cluster as hare's bootstrap leaves it.
    pub fn load_cluster(&self, cluster: &Cluster) -> io::Result<()> {
        cluster.load(&self.options.node, |step, target| {
            let reply = self.request(step.method, target, step.body.as_bytes())?;
            if reply.status == 200 {
                return Ok(reply.body);
            }
            Err(io::Error::other(format!("{target}: {} {}", reply.status, reply.text())))
        })
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill: {status}"))) }
    }

    fn write_config(&self) -> io::Result<()> {
        let mut watches: Vec<Value> = self.options.watches.iter().map(watch_config).collect();
        if let Some(token) = &self.options.master_token {
            watches.iter_mut().for_each(|watch| watch["token"] = token.as_str().into());
        }
        let [http, server, serf_lan, serf_wan, https] = self.ports;
        let mut config = json!({
            "node_name": self.options.node,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {
                "http": http, "server": server, "serf_lan": serf_lan, "serf_wan": serf_wan,
                "dns": -1, "grpc": -1,
            },
            // This is hare's setting. The default refuses a test that sends many requests at once.
            "limits": { "http_max_conns_per_client": 800 },
            "disable_update_check": true,
            "watches": watches,
        });
        if let Some(Tls { ca, cert, key }) = &self.options.tls {
            config["ports"]["https"] = https.into();
            config["ca_file"] = ca.to_string_lossy().into();
            config["cert_file"] = cert.to_string_lossy().into();
            config["key_file"] = key.to_string_lossy().into();
            config["verify_incoming"] = true.into();
            config["verify_outgoing"] = true.into();
        }
        if let Some(token) = &self.options.master_token {
            let tokens = json!({ "master": token, "agent": token });
            config["acl"] = json!({ "enabled": true, "default_policy": "deny", "tokens": tokens });
        }
        if self.options.unix {
            let addresses = format!("127.0.0.1 unix://{}", self.socket().display());
            config["addresses"] = json!({ "http": addresses });
        }
        if self.options.durable {
            config["server"] = true.into();
            config["bootstrap_expect"] = 1.into();
            config["performance"] = json!({ "raft_multiplier": 1 });
            config["data_dir"] = self.dir.join("data").to_string_lossy().into_owned().into();
        }
        if let (Value::Object(all), Value::Object(more)) = (&mut config, &self.options.config) {
            all.extend(more.clone());
        }
        fs::write(self.dir.join("config/consul.json"), config.to_string())
    }

    fn spawn(&mut self) -> io::Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    fn launch(&mut self) -> io::Result<()> {
        self.write_config()?;
        let log = File::create(self.dir.join("log"))?;
        let mut command = Command::new(&self.binary);
        command.arg("agent").arg("-config-dir").arg(self.dir.join("config"));
        if !self.options.durable {
            command.arg("-dev");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn wait_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let child = self.child.as_mut().expect("just spawned");
            let over = Instant::now() >= deadline;
            if let Some(status) = child.try_wait()? {
                return Err(self.trouble(&format!("ended with {status}")));
            }
            if self.is_ready() {
                return Ok(());
            }
            if over {
                return Err(self.trouble("has no leader"));
            }
            thread::sleep(LOOK);
        }
    }

    /// Returns whether the agent has registered its node at the servers. After that the agent writes nothing
    /// by itself.
    fn is_ready(&self) -> bool {
        let target = format!("/v1/catalog/node/{}", self.options.node);
        let limit = Duration::from_secs(1);
        let token = self.token_header();
        let reply = client::request_with(self.http_addr, limit, &token, "GET", &target, b"");
        let Ok(reply) = reply.filter_status() else { return false };
        let Ok(found) = serde_json::from_slice::<Value>(&reply.body) else { return false };
        found["Node"]["TaggedAddresses"].is_object() && found["Services"]["consul"].is_object()
    }

    fn trouble(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        io::Error::other(format!("Consul at {} {what}; its log ends:\n{tail}", self.http_addr))
    }
}

impl Drop for RealConsul {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Returns whether a thread of this process is not stopped (proc(5), `stat`: the state follows the name,
/// which may contain anything).
fn runs(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.filter_map(Result::ok).any(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T'))
    })
}

trait FilterStatus {
    fn filter_status(self) -> io::Result<Reply>;
}

impl FilterStatus for io::Result<Reply> {
    fn filter_status(self) -> Self {
        let reply = self?;
        if reply.status == 200 { Ok(reply) } else { Err(io::Error::other(reply.text())) }
    }
}

fn watch_config((watch, url): &(Watch, String)) -> Value {
    let mut config = match watch {
        Watch::Service(name) => json!({ "type": "service", "service": name }),
        Watch::Key(key) => json!({ "type": "key", "key": key }),
        Watch::KeyPrefix(prefix) => json!({ "type": "keyprefix", "prefix": prefix }),
    };
    config["handler_type"] = "http".into();
    config["http_handler_config"] = json!({ "path": url, "method": "POST", "timeout": "10s" });
    config
}

/// Returns distinct ports that are free for TCP and UDP now.
///
/// They are below the range that the system assigns to outgoing connections: such a connection could take a
/// port before its use.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Concurrent programs begin at different positions.
    let begin = u64::from(std::process::id()) * 131;
    let mut ports = [0; N];
    let mut found = 0;
    for _ in 0..PORTS.len() {
        let nth = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u64;
        let port = PORTS.start + u16::try_from(nth).map_err(io::Error::other)?;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            ports[found] = port;
            found += 1;
            if found == N {
                return Ok(ports);
            }
        }
    }
    Err(io::Error::other("no port is free"))
}

/// Returns a port for a program of a test.
///
/// # Panics
///
/// If none is free.
#[must_use]
pub fn port() -> u16 {
    let [port] = free_ports().expect("a port is free");
    port
}
