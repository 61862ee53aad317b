//! The command line of a program that prints rows, and its table.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::row::{self, Row};

/// A measurement of a program. The flag asks for a quick one.
pub(crate) type Measure = fn(&Path, bool) -> anyhow::Result<Vec<Row>>;

/// All measurements, by the names of their rows.
pub(crate) type All<'a> = &'a [(&'static str, Measure)];

const FLAGS: &str = "[--quick] [--json] [--hax PATH] [ROW …]
  --quick     less of everything, and no row that takes long
  --json      one object instead of a table
  --hax PATH  the program to measure, instead of the one of this build
  ROW         only these rows";

/// The options of a run.
#[derive(Default)]
struct Options {
    json: bool,
    quick: bool,
    hax: Option<PathBuf>,
    rows: Vec<String>,
}

/// Measures what the command line asks for, and prints it.
#[expect(clippy::print_stdout, reason = "a program that prints a table")]
pub(crate) fn main(name: &str, all: All<'_>) -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = usage(name, all);
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{usage}");
        return Ok(());
    }
    let options = options(args.into_iter(), all, &usage)?;
    let hax = match &options.hax {
        Some(given) => given.canonicalize().with_context(|| given.display().to_string())?,
        None => build()?,
    };
    let mut object = serde_json::Map::new();
    if !options.json {
        println!("{}", row::HEAD);
    }
    for (name, measure) in all {
        if !options.rows.is_empty() && !options.rows.iter().any(|wanted| wanted == name) {
            continue;
        }
        for row in measure(&hax, options.quick).with_context(|| (*name).to_owned())? {
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

fn usage(name: &str, all: All<'_>) -> String {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    format!("{name} {FLAGS}\nrows: {}", names.join(", "))
}

fn options(
    mut args: impl Iterator<Item = String>,
    all: All<'_>,
    usage: &str,
) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--hax" => options.hax = Some(args.next().context(usage.to_owned())?.into()),
            row if all.iter().any(|(name, _)| *name == row) => options.rows.push(arg),
            unknown => bail!("{unknown}: unknown\n{usage}"),
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

/// Returns a row that says why it is not measured.
pub(crate) fn skipped(name: &'static str, why: impl ToString) -> Row {
    Row {
        name,
        unit: "",
        target: "–",
        ok: true,
        more: format!("not measured: {}", why.to_string()),
        ..Row::default()
    }
}
