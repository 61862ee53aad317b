//! hax end to end: a real Consul, a real hax, peers over real sockets, and for each figure a ceiling from the
//! same run.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod ceiling;
mod fixture;
mod http;
mod lean;
mod peer;
mod plot;
mod row;
mod rows;
mod storm;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

const USAGE: &str = "\
e2e [--quick] [--json] [--plots DIR] [--hax PATH] [--lean | --servers | --ends | --restarts]
  --quick      less of everything
  --json       one object instead of a table
  --plots DIR  writes the curves there, as SVG
  --hax PATH   the program to measure, instead of those of this build
  --lean       hax-smol as it is shipped beside hax, instead of all else
  --servers    what takes three Consul servers, instead of all else
  --ends       the same when the servers lose their leader, instead of all else
  --restarts   what a restart of hax costs, instead of all else";

#[derive(Default)]
struct Options {
    json: bool,
    quick: bool,
    lean: bool,
    servers: bool,
    ends: bool,
    restarts: bool,
    plots: Option<PathBuf>,
    hax: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    if let [serve, kind, at, confds] = &args[..]
        && serve == "--serve"
    {
        let at = at.parse()?;
        let confds = confds.parse()?;
        return local.block_on(&rt, async {
            match kind.as_str() {
                "constant" => ceiling::constant(at, confds).await,
                _ => ceiling::parsing(at).await,
            }
        });
    }
    let options = options(args.into_iter())?;
    let mut object = serde_json::Map::new();
    if !options.json {
        println!("{}", row::HEAD);
    }
    let programs = if options.lean { vec![("", lean::build()?)] } else { programs(options.hax)? };
    for (prefix, program) in programs {
        let rows = if options.lean {
            local.block_on(&rt, lean::rows(&program, options.quick))?
        } else if options.servers {
            local.block_on(&rt, rows::servers(&program, options.quick))?
        } else if options.ends {
            local.block_on(&rt, rows::ends(&program, options.quick))?
        } else if options.restarts {
            local.block_on(&rt, rows::restarts(&program, options.quick))?
        } else {
            local.block_on(&rt, rows::all(&program, options.quick))?
        };
        for row in &rows {
            if !options.json {
                println!("{}", row.line(prefix));
            }
            object.insert(format!("{prefix}{}", row.name), row.json());
        }
        if let Some(dir) = &options.plots {
            rows::plots(&rows, dir, prefix)?;
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
            "--lean" => options.lean = true,
            "--servers" => options.servers = true,
            "--ends" => options.ends = true,
            "--restarts" => options.restarts = true,
            "--plots" => options.plots = Some(args.next().context(USAGE)?.into()),
            "--hax" => options.hax = Some(args.next().context(USAGE)?.into()),
            unknown => bail!("{unknown}: unknown\n{USAGE}"),
        }
    }
    Ok(options)
}

/// Returns the measured programs, with the prefixes of their rows' names. The production daemon is built
/// first; the one for constrained nodes is measured if it exists beside it.
fn programs(given: Option<PathBuf>) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    if let Some(given) = given {
        return Ok(vec![("", given)]);
    }
    fixture::build()?;
    let own = std::env::current_exe()?;
    let beside = |name: &str| Path::new(&own).with_file_name(name);
    let mut programs = vec![("", beside("hax"))];
    let smol = beside("hax-smol");
    if smol.exists() {
        programs.push(("smol_", smol));
    }
    Ok(programs)
}
