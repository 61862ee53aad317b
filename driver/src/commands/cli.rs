//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::exit::{CommandError, Exit};
use crate::settings::flags::Flags;
use crate::settings::url::ConsulUrl;
use crate::settings::values::{FidText, LogLevel, Span};
use crate::{exit, ham};

/// The HA bridge between Motr and Consul.
#[derive(Debug, Parser)]
#[command(name = "hax", version, after_long_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge of this node.
    #[command(long_about = RUN, after_long_help = exit::HELP, args_override_self = true)]
    Run(Box<RunArgs>),
    /// Show the state of this node's hax: ready, leader, links and their pending messages.
    #[command(long_about = STATUS, after_long_help = exit::HELP, args_override_self = true)]
    Status(Box<StatusArgs>),
    /// Check settings, certificates, Consul, hax's entry and ports, a line each.
    #[command(long_about = CHECK, after_long_help = exit::HELP, args_override_self = true)]
    Check(Box<CheckArgs>),
    /// Play a Motr process: speak its part over an HA link.
    #[command(long_about = ham::HELP, after_long_help = ham::EXITS, args_override_self = true)]
    Ham(HamArgs),
    /// Fail over the routes of a pair of routers.
    #[cfg(feature = "route")]
    Route(super::route::RouteArgs),
    /// Keep service instances running across restarts of hax.
    #[cfg(feature = "services")]
    #[command(long_about = super::keeper::ABOUT, after_long_help = super::keeper::EXITS)]
    Keeper(Box<super::keeper::KeeperArgs>),
    /// Define, start, stop and watch the services of the cluster.
    #[cfg(feature = "services")]
    #[command(long_about = super::service::ABOUT, after_long_help = super::service::EXITS)]
    Service(Box<super::service::ServiceArgs>),
    /// Probe a service once: exit with 0 if it is well, and else with 1 and the reason.
    #[cfg(feature = "services")]
    #[command(hide = true)]
    Probe(super::probe::ProbeArgs),
    /// Do the work of one event: the job is on standard input.
    #[cfg(feature = "route")]
    #[command(hide = true)]
    EventHandler,
    /// Show hax at work, with all that surrounds it: nothing to install, no root.
    #[command(after_long_help = exit::HELP)]
    Demo(DemoArgs),
}

const RUN: &str = "\
Run the bridge of this node.

Each setting is taken from the first of these that has it: the flag, its HAX_
variable, the configuration file, the variable of Consul's or hare's own tools
(CONSUL_HTTP_ADDR and its like, HARE_HAX_NODE_NAME), the default. hax asks Consul
for its identity, unless settings give it: the local agent names the node, and the
service `hax` on that node is hax's own entry. hax waits, and logs it, as long as
Consul or the entry is missing. CONSUL_NAMESPACE has no effect: namespaces are of
Consul's Enterprise edition, and hare's keys and services are in the default one.

Log lines go to standard error. SIGTERM or SIGINT finish the work in progress and stop;
another one, more than a second later, stops at once. SIGHUP reads certificates, keys and tokens again.";

const STATUS: &str = "\
Show the state of this node's hax: ready, leader, links and their pending messages.

Its address comes from the same settings as `hax run`'s: give the same flags, variables and
file, of which only the most important are shown here; without --http Consul says
where it is. The exit code is 0 if hax is ready, 5
if it answers and is not, and 1 if it does not answer.";

const CHECK: &str = "\
Check settings, certificates, Consul, hax's entry and ports, a line each: `ok`, or
`FAIL` and what to do. Give the same flags, variables and file as to `hax run`, of
which only the most important are shown here.
Nothing is changed, save that a session and an instance of the service hax-leader are
made and taken away again at once; a hax may run meanwhile. The exit code is 0 if all is well, and 1
if not.";

/// `hax run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// TOML file with settings; keys are the flags' names with `_` for `-`.
    #[arg(long, env = "HAX_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check flags, environment and file, print the settings and exit. Of the files that they name only
    /// those with tokens are read; `hax check` looks at all, and at Consul.
    #[arg(long)]
    pub check: bool,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags,
}

/// `hax status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// TOML file with settings, that of `hax run`.
    #[arg(long, env = "HAX_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print hax's answer as it is.
    #[arg(long)]
    pub json: bool,
    /// The settings of `hax run`.
    #[command(flatten)]
    pub flags: Flags,
}

/// `hax check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// TOML file with settings, that of `hax run`.
    #[arg(long, env = "HAX_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings of `hax run`.
    #[command(flatten)]
    pub flags: Flags,
}

/// `hax ham`.
#[derive(Debug, Args)]
pub struct HamArgs {
    /// The endpoint to speak with, hax's.
    #[arg(long, env = "HAX_HAM_CONNECT", value_name = "NAME")]
    pub connect: String,
    /// The own endpoint; others connect to it.
    #[arg(long, env = "HAX_HAM_LISTEN", value_name = "NAME")]
    pub listen: String,
    /// The fid of the process to play.
    #[arg(long, env = "HAX_HAM_FID", value_name = "FID")]
    pub fid: FidText,
    /// Give up when one command waits longer than this for the peer.
    #[arg(long, env = "HAX_HAM_TIMEOUT", value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
    /// Which log lines are written.
    #[arg(long, env = "HAX_LOG_LEVEL", value_name = "LEVEL", default_value = "warn")]
    pub log_level: LogLevel,
    /// Commands, each one argument; without any they are read from standard input, one a line.
    #[arg(value_name = "COMMAND")]
    pub commands: Vec<String>,
}

/// `hax demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What is shown.
    #[arg(value_enum, value_name = "SHOW", default_value = "bridge")]
    pub show: DemoShow,
    /// Keep all up for this long before they stop, to look at it and to try things with curl.
    #[arg(long = "for", env = "HAX_DEMO_FOR", value_name = "TIME")]
    pub keep: Option<Span>,
    /// Use this Consul instead of the built-in one; the demo's configuration is loaded into it.
    #[arg(long, env = "HAX_DEMO_CONSUL", value_name = "URL")]
    pub consul: Option<ConsulUrl>,
    /// Load the configuration even if that Consul holds one.
    #[arg(long, env = "HAX_DEMO_FORCE", requires = "consul")]
    pub force: bool,
    /// Use the kernel's routes in network namespaces, and real pings. It needs root and `ip`.
    #[cfg(feature = "route")]
    #[arg(long, env = "HAX_DEMO_NETNS")]
    pub netns: bool,
    /// Also show hax's own log lines of this level.
    #[arg(long, env = "HAX_LOG_LEVEL", value_name = "LEVEL", default_value = "error")]
    pub log_level: LogLevel,
}

/// A demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DemoShow {
    /// The bridge with three Motr processes and a Consul.
    Bridge,
    /// Two routers with one route, and a client that counts lost packets.
    #[cfg(feature = "route")]
    Route,
    /// Three nodes with a supervised service.
    #[cfg(feature = "services")]
    Services,
}

/// The settings that the help of `status` and `check` shows; both commands accept all.
const SHOWN: [&str; 11] = [
    "consul",
    "consul_token_file",
    "consul_ca_file",
    "node",
    "fid",
    "http",
    "http_cert",
    "http_key",
    "http_token_file",
    "motr_endpoint",
    "log_level",
];

/// The differences between the runtimes' programs that users see.
pub struct Program {
    /// The name of the program.
    pub name: &'static str,
    /// The demo, if the program has one.
    pub demo: Option<Demo>,
}

/// The function that runs the demo.
pub type Demo = fn(&DemoArgs) -> Result<Exit, CommandError>;

/// Returns the command line for the help.
#[must_use]
pub fn command(program: &Program) -> clap::Command {
    let shorten = |command: clap::Command| {
        command.mut_args(|arg| {
            let is_setting = arg.get_help_heading().is_some();
            let hide = is_setting && !SHOWN.contains(&arg.get_id().as_str());
            arg.hide(hide)
        })
    };
    let all = Cli::command().name(program.name);
    let hide = program.demo.is_none();
    let all = all.mut_subcommand("demo", |demo| demo.hide(hide));
    all.mut_subcommand("status", shorten).mut_subcommand("check", shorten)
}

/// The maximum number of reported errors of a command line.
const REFUSALS_MAX: usize = 20;

/// Parses the command line.
///
/// # Errors
///
/// All errors of the command line, at least one, or the help that it asks for.
pub fn parse(program: &Program, args: &[OsString]) -> Result<Cli, Vec<clap::Error>> {
    let (mut command, mut args) = (command(program), args.to_vec());
    let mut wrong = Vec::new();
    loop {
        let found = command.clone().try_get_matches_from(&args);
        let why = match found.and_then(|found| Cli::from_arg_matches(&found)) {
            Ok(cli) if wrong.is_empty() => return Ok(cli),
            Ok(_) => return Err(wrong),
            // Without the wrong arguments another one is missing, or help is requested.
            Err(why) if !wrong.is_empty() && !is_of_one_flag(&why) => return Err(wrong),
            Err(why) => why,
        };
        // A parser stops at the first error: the wrong flag is removed, and the rest is parsed again.
        let flag = flag(&why).map(str::to_owned).filter(|_| is_of_one_flag(&why));
        wrong.push(why);
        let Some(flag) = flag.filter(|_| wrong.len() < REFUSALS_MAX) else { return Err(wrong) };
        let rest = without(&args, &flag);
        if rest.len() == args.len() {
            command = without_variable(command, &flag);
        }
        args = rest;
    }
}

fn is_of_one_flag(why: &clap::Error) -> bool {
    use clap::error::ErrorKind as K;
    matches!(why.kind(), K::InvalidValue | K::ValueValidation | K::UnknownArgument)
}

/// Returns the flag that an error is about.
fn flag(why: &clap::Error) -> Option<&str> {
    let Some(ContextValue::String(arg)) = why.get(ContextKind::InvalidArg) else { return None };
    arg.split(' ').next().filter(|flag| flag.starts_with("--"))
}

/// Returns the arguments without this flag and its value.
fn without(args: &[OsString], flag: &str) -> Vec<OsString> {
    let mut rest = Vec::new();
    let mut is_value = false;
    for arg in args {
        let text = arg.to_string_lossy();
        let is_it = text.split('=').next() == Some(flag);
        if !(is_it || is_value && !text.starts_with("--")) {
            rest.push(arg.clone());
        }
        is_value = is_it && !text.contains('=');
    }
    rest
}

/// Returns the command line without the variable of this flag.
fn without_variable(command: clap::Command, flag: &str) -> clap::Command {
    command.mut_subcommands(|sub| {
        sub.mut_args(|arg| match arg.get_long() {
            Some(long) if flag.strip_prefix("--") == Some(long) => arg.env(Resettable::Reset),
            _ => arg,
        })
    })
}

/// Returns the variables with hax's prefix that hax does not know.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let known: Vec<_> = variables().map(|(_, variable)| variable).collect();
    let ours = |name: &String| name.starts_with("HAX_") && !name.starts_with("HAX_TEST_");
    names.filter(move |name| ours(name) && !known.contains(name))
}

/// Returns the variable with the value that is refused as the value of a flag.
#[must_use]
pub fn variable_behind(
    error: &clap::Error,
    args: &[OsString],
    is_set: impl Fn(&str) -> bool,
) -> Option<String> {
    let flag = flag(error)?;
    if args.iter().any(|arg| arg.to_string_lossy().split('=').next() == Some(flag)) {
        return None;
    }
    let (_, variable) = variables().find(|(long, variable)| long == flag && is_set(variable))?;
    Some(variable)
}

/// Returns all flags, each with its variable.
fn variables() -> impl Iterator<Item = (String, String)> {
    let mut left = vec![Cli::command()];
    let mut pairs = Vec::new();
    while let Some(command) = left.pop() {
        pairs.extend(command.get_arguments().filter_map(|arg| {
            let variable = arg.get_env()?.to_str()?.to_owned();
            Some((format!("--{}", arg.get_long()?), variable))
        }));
        left.extend(command.get_subcommands().cloned());
    }
    pairs.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_flag_has_a_variable() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let name = arg.get_id().as_str();
                assert!(arg.get_help().is_some(), "{name}");
                assert!(arg.get_env().is_some() || matches!(name, "check" | "json"), "{name}");
            }
        }
    }
}
