//! The daemon with services: those of the node beside its bridge, or alone where there is no Motr.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use hax_core::consul::port::Method;
use hax_core::services::model::name::NodeName;
use hax_core::services::{
    CapabilityKey, Config, EVENT_KINDS, InstanceSocket, Programs as RulePrograms, Services,
};
use serde::Deserialize;

use super::{Daemon, Error};
use crate::exec::Programs;
use crate::exit::Exit;
use crate::host::drive::{HostContext, Sockets};
use crate::host::http::LocalClients;
use crate::host::platform::{Client as _, Platform};
use crate::host::workers;
use crate::http::{CertFiles, HttpAccess};
use crate::keeper;
use crate::net::listen;
use crate::net::local::{self, Door};
use crate::observe::notify;
use crate::settings::services::SOCKET;

/// The folder of the agents of resources, which hax may run besides its own folders.
const AGENTS: &str = "/usr/lib/ocf";

/// The maximum number of probes and actions that run at a time.
const HELPERS_MAX: usize = 256;

/// The time between two questions for the node's name.
const PAUSE: Duration = Duration::from_secs(1);

/// The number of attempts to reach a keeper that may be restarting, and the pause between two.
const CONNECTS: u32 = 30;
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The size of the stack of the thread that waits for the keeper.
const STACK: usize = 128 << 10;

/// The maximum length of the agent's description of itself.
const SELF_MAX: usize = 4 << 20;

/// The address of HTTP without Motr, unless the settings give one. Consul has no entry of such a hax.
pub(crate) const HTTP: (&str, u16) = ("127.0.0.1", 8008);

impl<P: Platform> Daemon<'_, P> {
    /// Returns the configuration of the services of the node with this name.
    pub(super) fn services(&self, node: &str) -> Result<Config, Error> {
        let settings = &self.settings.services;
        let program = std::env::current_exe().map_err(Error::Program)?;
        Ok(Config {
            node: NodeName::new(node).ok_or_else(|| Error::NodeName(node.into()))?,
            labels: settings.labels.clone(),
            program: program.to_string_lossy().into(),
            generation: self.generation,
            ttl: settings.node_down,
            hold: settings.node_down,
            instances: self.instance_socket()?,
            programs: settings.rules.as_deref().map(programs).unwrap_or_default(),
            machine: hax_core::with_services::FIRST_MACHINE,
            seed: self.seed(),
        })
    }

    /// Returns the context of a machine with services. Starts a keeper if none runs.
    pub(super) fn services_context(&self) -> Result<HostContext<P::Client>, Error> {
        let settings = &self.settings.services;
        let operators = self.local_socket()?.map(|listener| (listener, LocalClients::Operators));
        let instances = self.settings.services.instance_socket.as_deref();
        let instances = instances.map(|path| local::listen(path, Door::Everyone)).transpose();
        let instances = instances.unwrap_or_else(|why| {
            tracing::warn!(target: "hax", "instances cannot tell anything: {why}");
            None
        });
        let instances = instances.map(|listener| (listener, LocalClients::Instances));
        let local = operators.into_iter().chain(instances).collect();
        start_keeper(&settings.keeper, &settings.allow_exec);
        let allowed = settings.allow_exec.iter().cloned().chain([AGENTS.into()]);
        let exec = workers::Settings { programs: Programs::new(allowed), running_max: HELPERS_MAX };
        let keeper = Some(settings.keeper.clone());
        Ok(HostContext { exec, keeper, local, ..self.context() })
    }

    /// Returns the socket for instances, with a new key of capabilities.
    fn instance_socket(&self) -> Result<Option<InstanceSocket>, Error> {
        let Some(path) = &self.settings.services.instance_socket else { return Ok(None) };
        let mut key = [0; 16];
        let mut random = || File::open("/dev/urandom")?.read_exact(&mut key);
        random().map_err(Error::Random)?;
        let path = path.to_string_lossy().into();
        Ok(Some(InstanceSocket { path, key: CapabilityKey(key) }))
    }

    /// Listens at the local socket. Who runs hax by hand may have no folder for the default one, which is said
    /// and ends nothing: the bridge works without it.
    fn local_socket(&self) -> Result<Option<UnixListener>, Error> {
        let Some(path) = self.settings.services.socket.as_deref() else { return Ok(None) };
        match local::listen(path, Door::Operators) {
            Ok(listener) => {
                tracing::info!(target: "hax", path = %path.display(), "hax listens at its local socket");
                Ok(Some(listener))
            }
            Err(why) if path == Path::new(SOCKET) => {
                tracing::warn!(target: "hax", "services can be changed with the token only: {why}");
                Ok(None)
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Runs the services of a node without Motr.
    pub(super) async fn without_motr(&self) -> Result<Exit, Error> {
        let node = match &self.settings.node {
            Some(node) => node.clone(),
            None => {
                let reload = async { self.signals.on_reload(|| self.reload(None)).await };
                match or(self.ask_node(), reload).await {
                    Some(node) => node,
                    None => return Ok(Exit::Clean),
                }
            }
        };
        let mut services = Services::new(self.services(&node)?);
        let context = self.services_context()?;
        let http = &self.settings.http;
        let files = http.cert.clone().zip(http.key.clone());
        let files = files.map(|(cert, key)| CertFiles { cert, key });
        let access = Arc::new(HttpAccess::new(files, http.token.clone())?);
        let (host, port) = http.at.as_ref().map_or(HTTP, |at| (&*at.host, at.port));
        let found = P::lookup(host, port).await;
        let listener = listen::http(host, port, found)?;
        let (listeners, later) = async_channel::unbounded();
        // The send cannot fail: the channel has room and a receiver.
        let _ = listeners.try_send(P::listener(listener).map_err(Error::Socket)?);
        let scheme = if access.is_tls() { "https" } else { "http" };
        let at = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(host)) => format!("[{host}]"),
            _ => host.to_owned(),
        };
        tracing::info!(target: "hax", %node, http = %format!("{scheme}://{at}:{port}"), "hax serves without Motr");
        notify::ready();
        Ok(self.drive(context, Sockets::of_http(later, access), &mut services).await)
    }

    /// Asks the agent for the node's name until it is known; returns none if hax was stopped before.
    async fn ask_node(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Agent {
            config: AgentConfig,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct AgentConfig {
            node_name: String,
        }
        let mut is_told = false;
        let ask = async {
            loop {
                let sent = self.consul.send(Method::Get, "/v1/agent/self", Bytes::new(), SELF_MAX);
                let why = match sent.await {
                    Ok(answer) if answer.status == 200 => {
                        match serde_json::from_slice::<Agent>(&answer.body) {
                            Ok(agent) => return Some(agent.config.node_name),
                            Err(why) => why.to_string(),
                        }
                    }
                    Ok(answer) => format!("status {}", answer.status),
                    Err(why) => format!("{why:?}"),
                };
                if !std::mem::replace(&mut is_told, true) {
                    let why = self.consul.problem().unwrap_or(why);
                    tracing::warn!(target: "hax", "waiting for the Consul agent, which names this node (--node names it, too): {why}");
                }
                P::sleep(PAUSE).await;
            }
        };
        let stopped = async {
            self.signals.stop().await;
            None
        };
        or(stopped, ask).await
    }
}

/// Returns the rule programs of a folder, which are named by the kinds of events. Files that are none are told of.
fn programs(folder: &Path) -> RulePrograms {
    let mut programs: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Most nodes have none.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return RulePrograms::new(),
        Err(why) => {
            tracing::warn!(target: "hax", folder = %folder.display(), "no rule program is run: {why}");
            return RulePrograms::new();
        }
    };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let kind = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
        if EVENT_KINDS.contains(&kind) {
            let path = path.to_string_lossy().into();
            programs.entry(kind.into()).or_default().push(path);
        } else {
            let kinds = EVENT_KINDS.join(", ");
            tracing::warn!(
                target: "hax", file = %path.display(),
                "it is no rule program: its name does not begin with one of {kinds}"
            );
        }
    }
    let sorted = programs.into_iter().map(|(kind, mut paths)| {
        paths.sort();
        (kind, paths.into())
    });
    sorted.collect()
}

/// Returns whether a keeper serves this folder. One that has served it before may be restarting just now.
fn has_keeper(folder: &Path) -> bool {
    let tries = if folder.join(keeper::GENERATION).exists() { CONNECTS } else { 1 };
    (0..tries).any(|nth| {
        if nth > 0 {
            thread::park_timeout(CONNECT_PAUSE);
        }
        UnixStream::connect(folder.join(keeper::SOCKET)).is_ok()
    })
}

/// Starts a keeper in this folder unless one runs there, and again whenever it ends. A keeper with a unit of its
/// own is better: the one that hax starts is in hax's control group, and systemd ends it with hax.
fn start_keeper(folder: &Path, allow_exec: &[PathBuf]) {
    if has_keeper(folder) {
        return;
    }
    let command = {
        let (folder, allow_exec) = (folder.to_owned(), allow_exec.to_owned());
        move || keeper_command(&folder, &allow_exec)
    };
    let dir = folder.display();
    match command().and_then(|mut command| command.spawn()) {
        Ok(keeper) => {
            tracing::warn!(
                target: "hax", %dir, pid = keeper.id(),
                "no keeper runs: one is started; with systemd, enable hax-keeper.service instead"
            );
            let watch = move || watch_keeper(keeper, command);
            let _ = thread::Builder::new().name("keeper".into()).stack_size(STACK).spawn(watch);
        }
        Err(why) => {
            tracing::error!(target: "hax", %dir, %why, "no keeper runs, and none can be started");
        }
    }
}

/// Starts the keeper again when it has ended. One that cannot serve its folder is left alone: another one does.
fn watch_keeper(mut keeper: Child, command: impl Fn() -> io::Result<Command>) {
    loop {
        let ended = keeper.wait();
        if ended.is_ok_and(|status| status.code() == Some(Exit::Listen.code().into())) {
            return;
        }
        thread::park_timeout(PAUSE);
        match command().and_then(|mut command| command.spawn()) {
            Ok(again) => {
                tracing::warn!(target: "hax", pid = again.id(), "the keeper has ended: it is started again");
                keeper = again;
            }
            Err(why) => return tracing::error!(target: "hax", %why, "the keeper has ended"),
        }
    }
}

fn keeper_command(folder: &Path, allow_exec: &[PathBuf]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("keeper").arg("--dir").arg(folder).stdin(Stdio::null());
    for path in allow_exec {
        command.arg("--allow-exec").arg(path);
    }
    if !rustix::process::geteuid().is_root() {
        command.arg("--log-dir").arg(folder.join("log"));
    }
    // Its state is not that of hax's unit.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    // A terminal's ^C is for hax alone.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}
