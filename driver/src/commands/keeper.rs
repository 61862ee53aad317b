//! `hax keeper`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use hax_core::keeper::answer::{State, View};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::request::Ask;

use super::output::Output;
use crate::exit::{CommandError, Exit};
use crate::keeper::{self, Client, ClientError, Settings};
use crate::observe::logs;
use crate::settings::values::{LogFormat, LogLevel, Size, Switch};

/// The default folder of the keeper.
const DIR: &str = "/run/hax/keeper";

/// The time limit for a reply of the keeper.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) const ABOUT: &str = "\
Keep service instances running across restarts of hax.

The keeper runs instances as its children, for whoever asks over the socket in its
folder: root, its own user, and the members of --group. It writes down what it is about
to start, so that a keeper that was killed comes back and knows what lives and what has
ended. Each instance has a cgroup of version 2 where that can be made, and else a
process group. Log lines go to standard error. SIGTERM or SIGINT end the keeper and
leave all instances running.";

pub(super) const EXITS: &str = "\
Exit codes:
  0  ended by a signal, or done; the instances go on
  1  the system refuses what a keeper needs, or the keeper refuses what was asked for
  2  wrong flags or environment
  3  the folder is served already or cannot be used
  4  no keeper answers (list, stop, kill, forget)";

/// `hax keeper`.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// What to ask a keeper that runs; without it, run one.
    #[command(subcommand)]
    pub command: Option<KeeperCommand>,
    /// How it runs.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to ask a keeper that runs.
#[derive(Debug, Subcommand)]
pub enum KeeperCommand {
    /// Show the instances of the keeper of this node.
    #[command(after_long_help = EXITS)]
    List(ListArgs),
    /// Stop an instance in its own way.
    #[command(after_long_help = EXITS)]
    Stop(InstanceArgs),
    /// Kill all of an instance at once.
    #[command(after_long_help = EXITS)]
    Kill(InstanceArgs),
    /// Keep an instance that has ended no longer.
    #[command(after_long_help = EXITS)]
    Forget(InstanceArgs),
}

/// `hax keeper`, to run one.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The keeper's folder; a keeper makes it if it is not there.
    #[arg(long, env = "HAX_KEEPER_DIR", value_name = "DIR", default_value = DIR, global = true)]
    pub dir: PathBuf,
    /// The group whose members may use the keeper. They can start programs as any user.
    #[arg(long, env = "HAX_KEEPER_GROUP", value_name = "NAME")]
    pub group: Option<String>,
    /// Where the output of instances is written, a file for each service name.
    #[arg(
        long,
        env = "HAX_KEEPER_LOG_DIR",
        value_name = "DIR",
        default_value = "/var/log/hax/services"
    )]
    pub log_dir: PathBuf,
    /// How long such a file may get before it is rotated.
    #[arg(long, env = "HAX_KEEPER_LOG_MAX", value_name = "SIZE", default_value = "10MiB")]
    pub log_max: Size,
    /// How many older files of each are kept.
    #[arg(long, env = "HAX_KEEPER_LOG_KEEP", value_name = "N", default_value = "3",
        value_parser = clap::value_parser!(u32).range(0..=100))]
    pub log_keep: u32,
    /// A folder of programs, or one program, that a keeper of root's may run besides those below
    /// /usr/lib/hax and /etc/hax; may be given several times. Whatever is run belongs to root, and nobody
    /// else can write to it or to a folder on the way to it.
    #[arg(long, env = "HAX_KEEPER_ALLOW_EXEC", value_name = "PATH", value_delimiter = ':')]
    pub allow_exec: Vec<PathBuf>,
    /// How many instances are kept, those included that have ended and are not forgotten.
    #[arg(long, env = "HAX_KEEPER_INSTANCES_MAX", value_name = "N", default_value = "4096",
        value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub instances_max: u32,
    /// Whether instances get cgroups where they can be made.
    #[arg(long, env = "HAX_KEEPER_CGROUPS", value_name = "on|off", default_value = "on")]
    pub cgroups: Switch,
    /// The file with the name of this boot.
    #[arg(
        long,
        env = "HAX_KEEPER_BOOT_ID",
        hide = true,
        default_value = "/proc/sys/kernel/random/boot_id"
    )]
    pub boot_id: PathBuf,
    /// Where journald listens for output.
    #[arg(
        long,
        env = "HAX_KEEPER_JOURNAL",
        hide = true,
        default_value = "/run/systemd/journal/stdout"
    )]
    pub journal: PathBuf,
    /// How log lines look.
    #[arg(long, env = "HAX_LOG", value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// Which log lines are written.
    #[arg(long, env = "HAX_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// `hax keeper list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print an object a line, as the keeper shows it.
    #[arg(long)]
    pub json: bool,
}

/// `hax keeper stop`, `kill` and `forget`.
#[derive(Debug, Args)]
pub struct InstanceArgs {
    /// The instance.
    #[arg(value_name = "INSTANCE", value_parser = instance)]
    pub instance: InstanceId,
}

fn instance(text: &str) -> Result<InstanceId, String> {
    InstanceId::try_from(text.to_owned())
}

pub(super) fn run(args: KeeperArgs) -> Result<Exit, CommandError> {
    let dir = args.serve.dir.clone();
    let ask = |args: InstanceArgs, ask: fn(InstanceId) -> Ask| {
        let mut client = connect(&dir)?;
        client.ask(ask(args.instance)).map_err(failed)?;
        Ok(Exit::Clean)
    };
    match args.command {
        None => serve(args.serve),
        Some(KeeperCommand::List(args)) => list(&dir, &args),
        Some(KeeperCommand::Stop(args)) => ask(args, |instance| Ask::Stop { instance }),
        Some(KeeperCommand::Kill(args)) => ask(args, |instance| Ask::Kill { instance }),
        Some(KeeperCommand::Forget(args)) => ask(args, |instance| Ask::Forget { instance }),
    }
}

fn serve(args: ServeArgs) -> Result<Exit, CommandError> {
    logs::init(args.log.unwrap_or_default(), args.log_level.unwrap_or_default());
    keeper::run(&Settings {
        dir: args.dir,
        group: args.group,
        log_dir: args.log_dir,
        log_max: args.log_max.0 as u64,
        log_keep: args.log_keep,
        allow_exec: args.allow_exec,
        instances_max: usize::try_from(args.instances_max).unwrap_or(usize::MAX),
        cgroups: args.cgroups == Switch::On,
        boot_id: args.boot_id,
        journal: args.journal,
    })
}

fn connect(dir: &Path) -> Result<Client, CommandError> {
    Client::connect(dir, WITHIN).map_err(failed)
}

fn failed(why: ClientError) -> CommandError {
    let exit = match why {
        ClientError::System(..) => Exit::Unexpected,
        ClientError::Malformed(_) | ClientError::Refused(_) => Exit::Failure,
    };
    CommandError(exit, why.into())
}

fn list(dir: &Path, args: &ListArgs) -> Result<Exit, CommandError> {
    let (keeper, instances) = connect(dir)?.list().map_err(failed)?;
    let mut text = String::new();
    if args.json {
        for view in &instances {
            // A list is shown to others. The secret of an instance is not for them.
            let view = &View { capability: None, ..view.clone() };
            text.push_str(&serde_json::to_string(view).map_err(anyhow::Error::from)?);
            text.push('\n');
        }
    } else {
        let (pid, generation, held) = (keeper.pid, keeper.generation, keeper.held);
        text = format!("keeper: process {pid}, generation {generation}, held by {held:?}\n");
        instances.iter().for_each(|view| text.push_str(&line(view)));
    }
    Output::new().write_all(text.as_bytes()).map_err(anyhow::Error::from)?;
    Ok(Exit::Clean)
}

fn line(view: &View) -> String {
    let View { instance, name, pid, status, cause, adopted, .. } = view;
    let state = match view.state {
        State::Starting => "starting".to_owned(),
        State::Running => format!("running, process {}", pid.unwrap_or_default()),
        State::Stopping => format!("stopping, process {}", pid.unwrap_or_default()),
        State::Ended => {
            let status = status.map_or_else(String::new, |status| format!(": {status}"));
            let cause = cause.map_or_else(String::new, |cause| format!(" ({cause:?})"));
            format!("ended{status}{cause}")
        }
    };
    let adopted = if *adopted { ", adopted" } else { "" };
    format!("{name}  {instance}  {state}{adopted}\n")
}
