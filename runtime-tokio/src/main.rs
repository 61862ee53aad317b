//! `hax`: the HA bridge between Motr and Consul.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hax_driver::commands::{self, Failed};
use hax_driver::exit::{self, Exit};
use hax_driver::logs;
use hax_driver::values::LogFormat;
use hax_tokio::Tokio;
use hax_tokio::demo::{self, DemoArgs};

/// The HA bridge between Motr and Consul.
#[derive(Debug, Parser)]
#[command(name = "hax", version, after_long_help = exit::HELP, max_term_width = 100)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Shared(hax_driver::cli::Command),
    /// Show hax at work with three Motr processes and a Consul: nothing to install, no root.
    #[command(after_long_help = exit::HELP)]
    Demo(DemoArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Shared(command) => commands::main::<Tokio>(command),
        Command::Demo(args) => run_demo(&args).unwrap_or_else(Failed::tell).into(),
    }
}

fn run_demo(args: &DemoArgs) -> Result<Exit, Failed> {
    logs::init(LogFormat::Human, args.log_level);
    commands::block_on::<Tokio>(async { Ok(demo::run(args).await?) })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
