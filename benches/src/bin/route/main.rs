//! `hax route` end to end: real servers, scripts and event handlers, real routes and pings in network
//! namespaces, a real Consul, and for each figure a ceiling or a rival from the same run.
//!
//! It needs root, `ip` and a Consul. The rows of what is missing say so.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod router;
#[path = "../e2e/row.rs"]
mod row;
mod rows;
mod sample;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

const USAGE: &str = "\
route [--quick] [--json] [--hax PATH] [ROW …]
  --quick     less of everything, and no row that takes three Consul servers or half a minute
  --json      one object instead of a table
  --hax PATH  the program to measure, instead of the one of this build
  ROW         only these rows";

/// The options of a run.
#[derive(Default)]
pub(crate) struct Options {
    json: bool,
    pub(crate) quick: bool,
    hax: Option<PathBuf>,
    rows: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}\nrows: {}", rows::names());
        return Ok(());
    }
    let options = options(args.into_iter())?;
    let hax = match &options.hax {
        Some(given) => given.canonicalize().with_context(|| given.display().to_string())?,
        None => build()?,
    };
    let mut object = serde_json::Map::new();
    if !options.json {
        println!("{}", row::HEAD);
    }
    for (name, measure) in rows::ALL {
        if !options.rows.is_empty() && !options.rows.iter().any(|wanted| wanted == name) {
            continue;
        }
        for row in measure(&hax, options.quick).with_context(|| name.to_owned())? {
            if !options.json {
                println!("{}", row.line(""));
            }
            object.insert(row.name.to_owned(), row.json());
        }
    }
    if options.json {
        println!("{:#}", Value::Object(object));
    }
    Ok(())
}

fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--hax" => options.hax = Some(args.next().context(USAGE)?.into()),
            row if rows::ALL.iter().any(|(name, _)| *name == row) => options.rows.push(arg),
            unknown => bail!("{unknown}: unknown\n{USAGE}\nrows: {}", rows::names()),
        }
    }
    Ok(options)
}

/// Builds hax if cargo runs this program, and returns its path.
fn build() -> anyhow::Result<PathBuf> {
    let release: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    cargo(&[release, &["-p", "hax-tokio", "--bin", "hax"]].concat())?;
    Ok(Path::new(&std::env::current_exe()?).with_file_name("hax"))
}

/// Builds a part of this workspace, if cargo runs this program.
pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "-q"]);
    if !command.args(args).status()?.success() {
        bail!("cargo build {} fails", args.join(" "));
    }
    Ok(())
}
