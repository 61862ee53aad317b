//! `hax keeper`: runs service instances as its children. So a restart of hax restarts no instance.
//!
//! The keeper is kept as small as possible so that it can be trusted: one thread, one poll(2), no runtime, no
//! Consul. Its decisions are made in [`hax_core::keeper`]; this module makes its system calls. [`Client`] is
//! the client side of its socket.

mod client;
mod clients;
mod connection;
mod folder;
mod group;
mod held;
mod host;
mod life;
mod output;
mod processes;
mod start;
mod users;
mod wake;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hax_core::base::time::Next;
use hax_core::keeper::{Config, Keeper};
use rustix::process::{Signal, getpid, set_child_subreaper};

pub use client::{Client, ClientError};
pub use clients::SOCKET;
pub use connection::Connection;
pub use folder::GENERATION;

use crate::daemon::files;
use crate::exit::{CommandError, Exit};
use crate::observe::notify::{self, Watchdog};
use clients::Clients;
use folder::Folder;
use group::Groups;
use host::Host;
use output::Logs;
use start::Starter;
use users::Users;
use wake::{Alarm, SignalPipe};

/// The settings of a keeper.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keeper's folder.
    pub dir: PathBuf,
    /// The group of the permitted users, besides root and the keeper's own user.
    pub group: Option<String>,
    /// The folder for the output of instances.
    pub log_dir: PathBuf,
    /// The maximum length of an output file, in bytes.
    pub log_max: u64,
    /// The number of older files to keep of each output file.
    pub log_keep: u32,
    /// The permitted folders and programs, besides those of hax.
    pub allow_exec: Vec<PathBuf>,
    /// The maximum number of instances.
    pub instances_max: usize,
    /// Whether the keeper creates cgroups if it can.
    pub cgroups: bool,
    /// The path of the file with the boot id.
    pub boot_id: PathBuf,
    /// The path of journald's socket for output.
    pub journal: PathBuf,
}

/// Runs a keeper until a signal ends it. The instances continue to run.
///
/// # Errors
///
/// If the folder is already served or cannot be used, or if the system refuses a resource that a keeper
/// needs.
pub fn run(settings: &Settings) -> Result<Exit, CommandError> {
    let listen = |why: anyhow::Error| CommandError(Exit::Listen, why);
    let folder =
        Folder::take(&settings.dir, settings.group.is_some()).map_err(|why| listen(why.into()))?;
    // Signals that arrive from here on are handled once the loop runs.
    let children = SignalPipe::new(&[Signal::CHILD]).context("SIGCHLD")?;
    let end = SignalPipe::new(&[Signal::TERM, Signal::INT]).context("SIGTERM")?;
    set_child_subreaper(Some(getpid())).context("PR_SET_CHILD_SUBREAPER")?;
    let files_max = files::raise();
    let groups = groups(settings, folder.path());
    let config = config(settings, &folder, &groups)?;
    let (generation, held) = (config.generation, config.held);
    let group = settings.group.as_ref().map(|name| Users::read(Path::new("/etc")).group(name));
    let group = group
        .transpose()
        .map_err(|why| CommandError(Exit::Usage, anyhow::anyhow!("--group: {why}")))?;
    let clients = Clients::listen(folder.path(), group);
    let clients = clients.with_context(|| format!("{}/{SOCKET}", folder.path().display()));
    let left = folder.left().with_context(|| folder.path().display().to_string())?;
    let mut host = Host {
        keeper: Keeper::new(config),
        starter: Starter::new(
            &settings.allow_exec,
            folder.path().to_owned(),
            settings.journal.clone(),
        ),
        logs: logs(settings),
        clients: clients.map_err(listen)?,
        folder,
        groups,
        children,
        end,
        alarm: Alarm::new().context("timerfd")?,
        watchdog: Watchdog::new(|name| std::env::var(name).ok()),
        held: BTreeMap::new(),
        found: BTreeMap::new(),
        inputs: VecDeque::new(),
        next: Next::Wait,
    };
    host.find_left(left);
    let (dir, instances) = (host.folder.path().display().to_string(), host.keeper.living());
    let files = files_max.unwrap_or(u64::MAX);
    tracing::info!(target: "hax", dir, generation, instances, ?held, files, "hax keeper serves");
    notify::ready();
    host.run();
    notify::stopping();
    host.clients.leave();
    host.groups.leave();
    let instances = host.keeper.living();
    tracing::info!(target: "hax", instances, "hax keeper ends; its instances go on");
    Ok(Exit::Clean)
}

fn groups(settings: &Settings, folder: &Path) -> Groups {
    if !settings.cgroups {
        return Groups::none(folder);
    }
    Groups::find(folder).unwrap_or_else(|why| {
        tracing::warn!(
            target: "hax", %why,
            "no cgroups can be made: instances are held by their process groups and HAX_INSTANCE"
        );
        Groups::none(folder)
    })
}

fn config(settings: &Settings, folder: &Folder, groups: &Groups) -> anyhow::Result<Config> {
    let boot = processes::boot(&settings.boot_id);
    Ok(Config {
        pid: processes::own(),
        boot: boot.with_context(|| settings.boot_id.display().to_string())?,
        generation: folder.next_generation()?,
        held: groups.held(),
        instances_max: settings.instances_max,
    })
}

fn logs(settings: &Settings) -> Logs {
    let folder = settings.log_dir.clone();
    if let Err(why) = make(&folder) {
        let folder = folder.display();
        tracing::warn!(target: "hax", %folder, %why, "output of instances cannot be written");
    }
    Logs { folder, max: settings.log_max, keep: settings.log_keep }
}

fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}
