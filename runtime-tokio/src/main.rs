//! `hax`: the HA bridge between Motr and Consul.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use hax_driver::cli::{Cli, Command, RunArgs};
use hax_driver::exit::Exit;
use hax_driver::logs;
use hax_driver::settings::Settings;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(*args),
        Command::Ham(_) | Command::Demo(_) => Ok(Exit::Failure),
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

fn run(args: RunArgs) -> Result<Exit, Failed> {
    let check = args.check;
    let settings = Settings::load(args, |name| std::env::var(name).ok())
        .map_err(|why| Failed(Exit::Usage, why.into()))?;
    if check {
        let printed = write!(std::io::stdout(), "{settings}");
        return printed.map(|()| Exit::Clean).map_err(|why| Failed(Exit::Failure, why.into()));
    }
    logs::init(settings.log, settings.log_level);
    Ok(Exit::Clean)
}
