//! `hax`: the HA bridge between Motr and Consul.

use std::process::ExitCode;

use hax_driver::commands;
use hax_driver::commands::cli::{DemoArgs, Program};
use hax_driver::exit::{CommandError, Exit};
use hax_driver::observe::logs;
use hax_driver::settings::values::LogFormat;
use hax_tokio::{Tokio, demo};

fn main() -> ExitCode {
    commands::main::<Tokio>(&Program { name: "hax", demo: Some(run_demo) })
}

fn run_demo(args: &DemoArgs) -> Result<Exit, CommandError> {
    logs::init(LogFormat::Human, args.log_level);
    commands::block_on::<Tokio>(async { Ok(demo::run(args).await?) })
}
