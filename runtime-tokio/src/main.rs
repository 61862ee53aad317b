//! `hax`: the HA bridge between Motr and Consul.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use hax_driver::cli::{Cli, Command, DemoArgs, HamArgs, RunArgs};
use hax_driver::exit::Exit;
use hax_driver::logs;
use hax_driver::settings::Settings;
use hax_driver::values::LogFormat;
use hax_tokio::signals::Signals;
use hax_tokio::{daemon, demo, ham};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(*args),
        Command::Ham(args) => run_ham(&args),
        Command::Demo(args) => run_demo(&args),
    };
    let exit = done.unwrap_or_else(|Failed(exit, why)| {
        // There is nobody left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "hax: {why:#}");
        exit
    });
    exit.into()
}

/// Why the program fails, and with which code.
struct Failed(Exit, anyhow::Error);

impl From<anyhow::Error> for Failed {
    fn from(why: anyhow::Error) -> Self {
        Self(Exit::Failure, why)
    }
}

fn run(args: RunArgs) -> Result<Exit, Failed> {
    let check = args.check;
    let settings = Settings::load(args, |name| std::env::var(name).ok())
        .map_err(|why| Failed(Exit::Usage, why.into()))?;
    if check {
        write!(std::io::stdout(), "{settings}").context("standard output")?;
        return Ok(Exit::Clean);
    }
    logs::init(settings.log, settings.log_level);
    block_on(async {
        let signals = Signals::install().context("signals")?;
        let ran = daemon::run(&settings, &signals).await;
        ran.map_err(|why| Failed(why.exit(), why.into()))
    })
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
