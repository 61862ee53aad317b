//! `hax-smol`: the HA bridge between Motr and Consul, for nodes with little memory.

use std::process::ExitCode;

use hax_driver::commands;
use hax_driver::commands::cli::Program;
use hax_smol::Smol;

fn main() -> ExitCode {
    commands::main::<Smol>(&Program { name: "hax-smol", demo: None })
}
