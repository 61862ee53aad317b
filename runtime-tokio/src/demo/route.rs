//! `hax demo route`: two routers, a route table in the built-in Consul, and a client that counts lost
//! packets.
//!
//! The routers' servers are real processes of this program. Their packet forwarding is simulated: each router
//! has an echo socket, and the client sends to the socket of the router that the route names.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_driver::exit::Exit;
use hax_driver::host::clock::Clock;
use hyper::Method;
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::api::Api;
use super::double::READER;
use super::show::Show;

/// The names of the routers, and their addresses as next hops of the route.
pub(super) const NAMES: [&str; 2] = ["router-a", "router-b"];
const HOPS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

/// The key of the route.
const ROUTE: &str = "/v1/kv/routes/demo/192.0.2.0/24";

/// The index for a route without a next hop.
const NOBODY: usize = usize::MAX;

/// The length of a packet in bytes: its number and the index of its router.
const PACKET: usize = 16;

/// The interval between two packets of the client.
const EVERY: Duration = Duration::from_millis(10);

/// The maximum round-trip time of a packet.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// The timeout of an expectation.
const WITHIN: Duration = Duration::from_secs(15);

/// Runs the demo.
pub(super) async fn play(consul: &Api, clock: Clock) -> anyhow::Result<Exit> {
    let (_none, lines) = async_channel::bounded(1);
    let mut show = Show::new(clock, lines, Vec::new());
    let stage = Stage::new(consul)?;
    let mut routers = Vec::new();
    for (nth, mode) in [(0, "primary"), (1, "secondary")] {
        let router = stage.router(NAMES[nth], None).await?;
        let node = format!(
            "create_node -i 1 -p consul -t demo -r 192.0.2.0/24 -n {} -m {mode} -group demo",
            HOPS[nth]
        );
        stage.run(NAMES[nth], &node).await?;
        show.tell(NAMES[nth], format_args!("serves; {node}"));
        routers.push((router, Echo::new().await?));
        if nth == 0 {
            until_kv(consul, HOPS[0]).await?;
        }
    }
    let client = Client::new(consul, [routers[0].1.port, routers[1].1.port]).await?;
    show.check(client.reaches(0).await, "the client reaches the network by router-a")?;

    show.act("the primary dies").await;
    let before = client.lost().await;
    let (mut dead, echo) = routers.remove(0);
    dead.kill().await?;
    drop(echo);
    show.tell(NAMES[0], "is killed (kill -9), and forwards no more");
    show.check(client.reaches(1).await, "the client reaches it by router-b")?;
    let lost = client.lost().await - before;
    show.tell("client", format_args!("goes by router-b: {lost} packets lost, one each {EVERY:?}"));

    show.act("it comes back, and is well for 3 s").await;
    let before = client.lost().await;
    let echo = Echo::new().await?;
    client.ports[0].store(echo.port, Ordering::Relaxed);
    let _again = (stage.router(NAMES[0], None).await?, echo);
    show.tell(NAMES[0], "serves again, with the nodes that it had");
    show.check(client.reaches(0).await, "the route returns to router-a")?;
    let lost = client.lost().await - before;
    show.tell("client", format_args!("goes by router-a again: {lost} packets lost"));
    show.check(lost == 0, "a handover that is asked for loses nothing")?;

    show.act("a router that may not write").await;
    let _third = stage.router("router-c", Some(READER)).await?;
    let node = "create_node -i 1 -p consul -t demo -r 192.0.2.0/24 -n 10.0.0.3";
    stage.run("router-c", node).await?;
    let output = stage.script("router-c", "node_event -i 1 -e verify").await?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    show.tell("router-c", format_args!("{} (exit code {:?})", said, output.status.code()));
    show.check(output.status.code() == Some(7), "its verify says so")?;
    show.check(output.status.signal().is_none() && client.reaches(0).await, "nothing has moved")?;
    show.end();
    Ok(Exit::Clean)
}

/// The servers' temporary folder and the command to start them. The folder is removed on drop.
pub(super) struct Stage {
    folder: PathBuf,
    program: PathBuf,
    consul: String,
}

impl Stage {
    pub(super) fn new(consul: &Api) -> anyhow::Result<Self> {
        let name = format!("hax-demo-route-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let program = std::env::current_exe().context("the path of this program")?;
        Ok(Self { folder, program, consul: consul.base().into() })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a server and waits until it replies.
    pub(super) async fn router(&self, name: &str, token: Option<&str>) -> anyhow::Result<Child> {
        let mut command = self.command(&self.program, name);
        command.args(["route", "serve", "--consul", &self.consul, "--name", name]);
        command.args(["--hold", "1s", "--revert-after", "3s"]);
        if let Some(token) = token {
            command.env("CONSUL_HTTP_TOKEN", token);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let serves = async {
            while !self.script(name, "ha_api -c ping").await?.status.success() {
                tokio::time::sleep(EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(WITHIN, serves).await.with_context(|| format!("{name} serves"))??;
        Ok(child)
    }

    fn command(&self, program: &Path, name: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HAX_ROUTE_DIR", self.dir(name)).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// Runs a script of a router.
    pub(super) async fn script(&self, name: &str, line: &str) -> anyhow::Result<Output> {
        let mut words = line.split(' ');
        let mut command = self.command(&self.program, name);
        command.arg0(words.next().unwrap_or_default()).args(words);
        Ok(command.output().await?)
    }

    /// Runs a script and requires its success.
    pub(super) async fn run(&self, name: &str, line: &str) -> anyhow::Result<()> {
        let output = self.script(name, line).await?;
        if !output.status.success() {
            anyhow::bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // If this fails, the rest stays in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The simulated forwarding of a router: an echo socket stands for the network behind it.
struct Echo {
    port: usize,
    task: JoinHandle<()>,
}

impl Echo {
    async fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let port = usize::from(socket.local_addr()?.port());
        let task = tokio::spawn(async move {
            let mut room = [0; PACKET];
            while let Ok((read, from)) = socket.recv_from(&mut room).await {
                let _ = socket.send_to(&room[..read], from).await;
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The numbers of the packets without a reply.
#[derive(Default)]
struct Missing {
    sent: u64,
    numbers: BTreeSet<u64>,
}

/// The client. It follows the route, sends packets, and counts the replies.
struct Client {
    hop: Arc<AtomicUsize>,
    ports: [Arc<AtomicUsize>; 2],
    missing: Arc<Mutex<Missing>>,
    heard: [Arc<AtomicUsize>; 2],
    tasks: [JoinHandle<()>; 3],
}

impl Client {
    async fn new(consul: &Api, ports: [usize; 2]) -> anyhow::Result<Self> {
        let hop = Arc::new(AtomicUsize::new(NOBODY));
        let ports = ports.map(|port| Arc::new(AtomicUsize::new(port)));
        let missing = Arc::new(Mutex::new(Missing::default()));
        let heard = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let tasks = [
            tokio::spawn(follow(consul.clone(), Arc::clone(&hop))),
            tokio::spawn(send(
                Arc::clone(&socket),
                Arc::clone(&hop),
                ports.clone(),
                Arc::clone(&missing),
            )),
            tokio::spawn(hear(socket, heard.clone(), Arc::clone(&missing))),
        ];
        Ok(Self { hop, ports, missing, heard, tasks })
    }

    /// Returns how many of the packets sent so far are lost.
    async fn lost(&self) -> usize {
        let sent = lock(&self.missing).sent;
        tokio::time::sleep(ROUND_TRIP).await;
        lock(&self.missing).numbers.range(..sent).count()
    }

    /// Returns whether packets return through this router in time.
    async fn reaches(&self, nth: usize) -> bool {
        let before = self.heard[nth].load(Ordering::Relaxed);
        let reaches = async {
            while self.hop.load(Ordering::Relaxed) != nth
                || self.heard[nth].load(Ordering::Relaxed) == before
            {
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::time::timeout(WITHIN, reaches).await.is_ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps `hop` equal to the next hop in the route table.
async fn follow(consul: Api, hop: Arc<AtomicUsize>) {
    let mut index = 0;
    loop {
        let target = format!("{ROUTE}?raw&index={index}&wait=60s");
        match consul.send(Method::GET, &target, Bytes::new()).await {
            Ok(answer) => {
                hop.store(nth_of(&answer.body).unwrap_or(NOBODY), Ordering::Relaxed);
                index = answer.index;
            }
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}

fn nth_of(record: &[u8]) -> Option<usize> {
    let record: Value = serde_json::from_slice(record).ok()?;
    HOPS.iter().position(|hop| record["nextHop"] == *hop)
}

async fn send(
    socket: Arc<UdpSocket>,
    hop: Arc<AtomicUsize>,
    ports: [Arc<AtomicUsize>; 2],
    missing: Arc<Mutex<Missing>>,
) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let nth = hop.load(Ordering::Relaxed);
        let Some(port) = ports.get(nth).map(|port| port.load(Ordering::Relaxed)) else { continue };
        let to = format!("127.0.0.1:{port}");
        let number = {
            let missing = &mut *lock(&missing);
            let number = missing.sent;
            missing.numbers.insert(number);
            missing.sent += 1;
            number
        };
        let packet = [number, nth as u64].map(u64::to_be_bytes).concat();
        // A packet that cannot be sent counts as lost.
        let _ = socket.send_to(&packet, to).await;
    }
}

async fn hear(socket: Arc<UdpSocket>, heard: [Arc<AtomicUsize>; 2], missing: Arc<Mutex<Missing>>) {
    let mut room = [0; PACKET];
    loop {
        // An unreachable port is reported as an error of the next call.
        let Ok((PACKET, _)) = socket.recv_from(&mut room).await else { continue };
        let [number, nth] =
            [0, 8].map(|at| room[at..].first_chunk().copied().map_or(0, u64::from_be_bytes));
        lock(&missing).numbers.remove(&number);
        if let Some(heard) = usize::try_from(nth).ok().and_then(|nth| heard.get(nth)) {
            heard.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock(missing: &Mutex<Missing>) -> MutexGuard<'_, Missing> {
    missing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the route has this next hop.
async fn until_kv(consul: &Api, hop: &str) -> anyhow::Result<()> {
    let leads = async {
        loop {
            let answer = consul.send(Method::GET, &format!("{ROUTE}?raw"), Bytes::new()).await?;
            if String::from_utf8_lossy(&answer.body).contains(hop) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(WITHIN, leads)
        .await
        .with_context(|| format!("the route leads to {hop}"))?
}
