//! `hax route`, the seven scripts, and the event handler.

mod cloud;
mod consul;
mod handler;
mod linux;
mod netlink;
mod scripts;
mod serve;
mod settings;
mod status;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use hax_core::route::provider::Provider;

use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;
use crate::settings::values::{HostPort, LogFormat, LogLevel, Span};
use settings::ConsulArgs;

pub(super) use handler::handle;
pub(super) use scripts::script;

/// The default folder of the server.
const DIR: &str = "/var/lib/hax/route";

/// The environment variable with the server's folder. The scripts have no flag for it.
const DIR_VARIABLE: &str = "HAX_ROUTE_DIR";

/// `hax route`.
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RouteCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Run the server: keep the redundancy nodes and work their events.
    #[command(long_about = SERVE, after_long_help = SERVE_EXITS, args_override_self = true)]
    Serve(Box<ServeArgs>),
    /// Show the redundancy nodes and what became of their last events.
    #[command(after_long_help = STATUS_EXITS, args_override_self = true)]
    Status(StatusArgs),
    /// Put the seven scripts into a folder, as links to this program.
    #[command(after_long_help = INSTALL_EXITS)]
    InstallScripts(InstallArgs),
}

const SERVE: &str = "\
Run the server: keep the redundancy nodes and work their events.

Clients are the scripts create_node, set_params, clear_params, show_node, delete_node,
node_event and ha_api (see hax route install-scripts), over named pipes in the
server's folder. The redundancy nodes lie in the file nodes.json there, and outlive
the server; only `ha_api -c stop` deletes them. Each event is worked by a process of
its own. Log lines go to standard error. SIGTERM or SIGINT finish what was begun and
stop.";

/// What is done where there is no Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WithoutConsul {
    /// Events are worked.
    Act,
    /// Events fail.
    Hold,
}

const SERVE_EXITS: &str = "\
Exit codes:
  0    stopped, all that was begun is settled
  1    the file of the redundancy nodes cannot be used; it stays as it is
  2    wrong flags or environment
  3    the folder is served already or cannot be used, or an address cannot be listened at
  130  another signal came before the first was worked off";

const STATUS_EXITS: &str = "\
Exit codes:
  0  the server answers
  2  wrong flags or environment
  4  no server answers";

const INSTALL_EXITS: &str = "\
Exit codes:
  0  the scripts are there
  1  one of them cannot be put there
  2  wrong flags";

/// `hax route serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The server's folder; it is made if it is not there.
    #[arg(long, env = DIR_VARIABLE, value_name = "DIR", default_value = DIR)]
    pub dir: PathBuf,
    /// Whose a redundancy node is that is created without -p.
    #[arg(long, env = "HAX_ROUTE_PROVIDER", value_name = "NAME", value_parser = provider)]
    pub provider: Option<Provider>,
    /// Serve HTTP here: /v1/route, /metrics, /healthz and /readyz, which change nothing.
    #[arg(long, env = "HAX_ROUTE_HTTP", value_name = "ADDRESS:PORT")]
    pub http: Option<HostPort>,
    /// How often it is seen whether routes still lead where they should, and mended if not; 0s: never.
    #[arg(long, env = "HAX_ROUTE_SWEEP", value_name = "TIME", default_value = "300s")]
    pub sweep: Span,
    /// What nodes without a group do where no Consul is given.
    #[arg(long, env = "HAX_ROUTE_UNGROUPED", value_name = "HOW", default_value = "act")]
    pub ungrouped: WithoutConsul,
    /// What nodes with a group do where no Consul is given or it does not answer.
    #[arg(long, env = "HAX_ROUTE_GROUPED", value_name = "HOW", default_value = "hold")]
    pub grouped: WithoutConsul,
    /// Consul, if there is one.
    #[command(flatten)]
    pub consul: ConsulArgs,
    /// How log lines look.
    #[arg(long, env = "HAX_LOG", value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// Which log lines are written.
    #[arg(long, env = "HAX_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// `hax route status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The server's folder.
    #[arg(long, env = DIR_VARIABLE, value_name = "DIR", default_value = DIR)]
    pub dir: PathBuf,
    /// Print the server's answer as it is.
    #[arg(long)]
    pub json: bool,
}

/// `hax route install-scripts`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The folder; one of the search path.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

fn provider(name: &str) -> Result<Provider, String> {
    let all = || Provider::ALL.map(Provider::name).join(", ");
    Provider::of(name).ok_or_else(|| format!("expected one of {}", all()))
}

pub(super) fn run<P: Platform>(args: RouteArgs) -> Result<Exit, CommandError> {
    match args.command {
        RouteCommand::Serve(args) => serve::serve::<P>(&args),
        RouteCommand::Status(args) => status::status(&args),
        RouteCommand::InstallScripts(args) => scripts::install(&args.folder),
    }
}

/// Returns the folder of the server for a script's request.
fn dir() -> PathBuf {
    let set = std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty());
    set.map_or_else(|| Path::new(DIR).to_owned(), PathBuf::from)
}
