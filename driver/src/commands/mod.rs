//! The commands of the program, for any runtime.

#[cfg(any(feature = "route", feature = "services"))]
mod bounded;
mod check;
pub mod cli;
mod ham;
#[cfg(feature = "services")]
pub mod keeper;
mod output;
#[cfg(feature = "services")]
pub mod probe;
mod remote;
#[cfg(feature = "route")]
pub mod route;
#[cfg(feature = "services")]
pub mod service;
mod status;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;
use crate::observe::logs;
use crate::settings::flags::Flags;
use crate::settings::values::{LogFormat, LogLevel};
use crate::settings::{self, Settings};
use cli::{CheckArgs, Command, HamArgs, Program, RunArgs, StatusArgs};
use output::Output;

/// Executes the command line.
#[must_use]
pub fn main<P: Platform>(program: &Program) -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    #[cfg(feature = "route")]
    if let Some(exit) = route::script(&args) {
        return exit;
    }
    let command = match cli::parse(program, &args) {
        Ok(cli) => cli.command,
        Err(refusals) => return refuse(&refusals, &args),
    };
    let runs = logs_its_end(&command);
    let done = match command {
        Command::Run(args) => run::<P>(*args),
        Command::Status(args) => run_status::<P>(*args),
        Command::Check(args) => run_check::<P>(*args),
        Command::Ham(args) => run_ham::<P>(&args),
        #[cfg(feature = "route")]
        Command::Route(args) => route::run::<P>(args),
        #[cfg(feature = "route")]
        Command::EventHandler => route::handle::<P>(),
        #[cfg(feature = "services")]
        Command::Keeper(args) => keeper::run(*args),
        #[cfg(feature = "services")]
        Command::Service(args) => service::run::<P>(&args),
        #[cfg(feature = "services")]
        Command::Probe(args) => probe::run(&args),
        Command::Demo(args) => match program.demo {
            Some(demo) => demo(&args),
            None => Err(CommandError(Exit::Usage, anyhow::anyhow!("{}", no_demo(program)))),
        },
    };
    let exit = done.unwrap_or_else(|CommandError(exit, why)| {
        let why = format!("{why:#}");
        if runs {
            // The text is logged line by line like the daemon's other messages, so that the journal has a
            // priority for each line.
            why.lines().for_each(|line| tracing::error!(target: "hax", "{line}"));
        } else {
            complain(&why);
        }
        exit
    });
    logs::finish();
    exit.into()
}

/// Returns whether a command is a daemon, which logs the reason of its end.
fn logs_its_end(command: &Command) -> bool {
    match command {
        Command::Run(args) => !args.check,
        #[cfg(feature = "route")]
        Command::Route(args) => matches!(args.command, route::RouteCommand::Serve(_)),
        #[cfg(feature = "services")]
        Command::Keeper(args) => args.command.is_none(),
        _ => false,
    }
}

/// Prints the reason of a failed command. A failed write cannot be reported anywhere.
fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "hax: {why}");
}

fn no_demo(program: &Program) -> String {
    format!("{} has no demo: it is played by the program hax (hax demo)", program.name)
}

/// `text` with its colours if somebody sees them at a terminal and `NO_COLOR` is not set.
#[cfg(feature = "colour")]
fn coloured(text: &clap::builder::StyledStr) -> String {
    use std::io::IsTerminal as _;
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !is_unwanted {
        text.ansi().to_string()
    } else {
        text.to_string()
    }
}

/// `text` without colours: the build has none.
#[cfg(not(feature = "colour"))]
fn coloured(text: &clap::builder::StyledStr) -> String {
    text.to_string()
}

/// Prints the help, or all errors of the command line and of the variables for flags.
fn refuse(refusals: &[clap::Error], args: &[OsString]) -> ExitCode {
    let Some((last, before)) = refusals.split_last() else { return Exit::Usage.into() };
    if !last.use_stderr() {
        // This is the help, or the version.
        let text = coloured(&last.render());
        return match Output::new().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                complain(&why.to_string());
                Exit::Failure.into()
            }
        };
    }
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let mut stderr = std::io::stderr();
    // A failed write cannot be reported anywhere, here and below.
    for refusal in before {
        // The usage hints are printed once, with the last error.
        let text = refusal.to_string();
        let text = text.split("\n\nUsage").next().unwrap_or_default();
        let text = text.split("\n\nFor more").next().unwrap_or_default();
        let _ = writeln!(stderr, "{}", text.trim_end());
        if let Some(variable) = cli::variable_behind(refusal, args, is_set) {
            let _ = writeln!(stderr, "  (The value is that of the variable {variable}.)");
        }
        let _ = writeln!(stderr);
    }
    let _ = last.print();
    if let Some(variable) = cli::variable_behind(last, args, is_set) {
        let _ = writeln!(stderr, "\nThe value is that of the variable {variable}.");
    }
    u8::try_from(last.exit_code()).unwrap_or(Exit::Usage.code()).into()
}

fn run<P: Platform>(args: RunArgs) -> Result<Exit, CommandError> {
    let (log, level, check) = (args.flags.log, args.flags.log_level, args.check);
    let settings = load(args.config.as_deref(), args.flags).map_err(|why| {
        if !check {
            // The errors of the settings are logged in the format of all other lines.
            logs::init(log.unwrap_or_default(), level.unwrap_or_default());
        }
        CommandError(Exit::Usage, why.into())
    })?;
    if check {
        for warning in &settings.warnings {
            complain(warning);
        }
        let text = settings.to_string();
        Output::new().write_all(text.as_bytes()).map_err(anyhow::Error::from)?;
        return Ok(Exit::Clean);
    }
    logs::init(settings.log.format, settings.log.level);
    block_on::<P>(async {
        let signals = P::signals(true).context("signals")?;
        let ran = crate::daemon::run::<P>(&settings, &signals).await;
        ran.map_err(|why| CommandError(why.exit(), why.into()))
    })
}

fn load(config: Option<&Path>, flags: Flags) -> Result<Settings, settings::Errors> {
    let mut settings = Settings::load(config, flags, |name| std::env::var(name).ok())?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in cli::unknown_variables(names) {
        settings.warnings.push(format!("{name} has no effect: hax knows no such variable"));
    }
    Ok(settings)
}

fn run_status<P: Platform>(args: StatusArgs) -> Result<Exit, CommandError> {
    logs::init(LogFormat::Human, args.flags.log_level.unwrap_or(LogLevel::Error));
    let settings = load(args.config.as_deref(), args.flags)
        .map_err(|why| CommandError(Exit::Usage, why.into()))?;
    block_on::<P>(async { Ok(status::run::<P>(&settings, args.json, &mut Output::new()).await?) })
}

fn run_check<P: Platform>(args: CheckArgs) -> Result<Exit, CommandError> {
    logs::init(LogFormat::Human, args.flags.log_level.unwrap_or(LogLevel::Error));
    let settings = load(args.config.as_deref(), args.flags);
    block_on::<P>(async { Ok(check::run::<P>(settings, &mut Output::new()).await?) })
}

fn run_ham<P: Platform>(args: &HamArgs) -> Result<Exit, CommandError> {
    logs::init(LogFormat::Human, args.log_level);
    block_on::<P>(async {
        ham::run::<P>(args).await.map_err(|(exit, why)| CommandError(exit, why))
    })
}

/// Runs a command to its end.
pub fn block_on<P: Platform>(
    program: impl Future<Output = Result<Exit, CommandError>>,
) -> Result<Exit, CommandError> {
    P::block_on(program).context("starting the runtime")?
}
