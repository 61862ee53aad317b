//! `hax`: the HA bridge between Motr and Consul.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use hax_driver::cli::{self, CheckArgs, Command, DemoArgs, Flags, HamArgs, RunArgs, StatusArgs};
use hax_driver::exit::Exit;
use hax_driver::logs;
use hax_driver::settings::{self, Settings};
use hax_driver::values::{LogFormat, LogLevel};
use hax_tokio::signals::Signals;
use hax_tokio::{check, daemon, demo, ham, status};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let command = match cli::parse(&args) {
        Ok(cli) => cli.command,
        Err(refusal) => return refuse(&refusal, &args),
    };
    let runs = matches!(&command, Command::Run(args) if !args.check);
    let done = match command {
        Command::Run(args) => run(*args),
        Command::Status(args) => run_status(*args),
        Command::Check(args) => run_check(*args),
        Command::Ham(args) => run_ham(&args),
        Command::Demo(args) => run_demo(&args),
    };
    let exit = done.unwrap_or_else(|Failed(exit, why)| {
        if runs {
            // As the daemon's other lines, so that the journal knows what it is.
            tracing::error!(target: "hax", "{why:#}");
        } else {
            // There is nobody left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "hax: {why:#}");
        }
        exit
    });
    exit.into()
}

/// Help, or what is wrong with the command line and with the variables that stand for flags.
fn refuse(refusal: &clap::Error, args: &[OsString]) -> ExitCode {
    // There is nobody left to tell if this fails.
    let _ = refusal.print();
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if let Some(variable) = cli::variable_behind(refusal, args, is_set) {
        let _ = writeln!(std::io::stderr(), "\nThe value is that of the variable {variable}.");
    }
    u8::try_from(refusal.exit_code()).unwrap_or(Exit::Usage.code()).into()
}

/// Why the program fails, and with which code.
struct Failed(Exit, anyhow::Error);

impl From<anyhow::Error> for Failed {
    fn from(why: anyhow::Error) -> Self {
        Self(Exit::Failure, why)
    }
}

fn run(args: RunArgs) -> Result<Exit, Failed> {
    let (log, level, check) = (args.flags.log, args.flags.log_level, args.check);
    let settings = load(args.config.as_deref(), args.flags).map_err(|why| {
        if !check {
            // What is wrong with the settings is said as all else would be.
            logs::init(log.unwrap_or_default(), level.unwrap_or_default());
        }
        Failed(Exit::Usage, why.into())
    })?;
    if check {
        for warning in &settings.warnings {
            writeln!(std::io::stderr(), "hax: {warning}").context("standard error")?;
        }
        write!(std::io::stdout(), "{settings}").context("standard output")?;
        return Ok(Exit::Clean);
    }
    logs::init(settings.log, settings.log_level);
    block_on(async {
        let signals = Signals::install().and_then(Signals::with_reload).context("signals")?;
        let ran = daemon::run(&settings, &signals).await;
        ran.map_err(|why| Failed(why.exit(), why.into()))
    })
}

fn load(config: Option<&Path>, flags: Flags) -> Result<Settings, settings::Error> {
    let mut settings = Settings::load(config, flags, |name| std::env::var(name).ok())?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in cli::unknown_variables(names) {
        settings.warnings.push(format!("{name} has no effect: hax knows no such variable"));
    }
    Ok(settings)
}

fn run_status(args: StatusArgs) -> Result<Exit, Failed> {
    logs::init(LogFormat::Human, args.flags.log_level.unwrap_or(LogLevel::Error));
    let settings =
        load(args.config.as_deref(), args.flags).map_err(|why| Failed(Exit::Usage, why.into()))?;
    block_on(async { Ok(status::run(&settings, args.json, &mut std::io::stdout()).await?) })
}

fn run_check(args: CheckArgs) -> Result<Exit, Failed> {
    logs::init(LogFormat::Human, args.flags.log_level.unwrap_or(LogLevel::Error));
    let settings = load(args.config.as_deref(), args.flags);
    block_on(async { Ok(check::run(settings, &mut std::io::stdout()).await?) })
}

fn run_ham(args: &HamArgs) -> Result<Exit, Failed> {
    logs::init(LogFormat::Human, args.log_level);
    block_on(async { ham::run(args).await.map_err(|(exit, why)| Failed(exit, why)) })
}

fn run_demo(args: &DemoArgs) -> Result<Exit, Failed> {
    logs::init(LogFormat::Human, args.log_level);
    block_on(async { Ok(demo::run(args).await?) })
}

/// One thread does it all: the machine is one, and its work is small beside its waiting.
fn block_on(program: impl Future<Output = Result<Exit, Failed>>) -> Result<Exit, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let exit = runtime.block_on(program);
    // A name that is still being looked up, or a read of standard input, is not waited for.
    runtime.shutdown_background();
    exit
}
