//! `hax-smol`: the HA bridge between Motr and Consul, for nodes with little memory.

use std::process::ExitCode;

use clap::Parser;
use hax_driver::cli::Command;
use hax_driver::{commands, exit};
use hax_smol::Smol;

/// The HA bridge between Motr and Consul, for nodes with little memory.
#[derive(Debug, Parser)]
#[command(name = "hax-smol", version, after_long_help = exit::HELP, max_term_width = 100)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    commands::main::<Smol>(Cli::parse().command)
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
