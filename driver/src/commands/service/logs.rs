//! `hax service logs`: the output of an instance of this node.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::hax::Hax;
use super::names::kind_name;
use crate::commands::output::Output;
use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;

/// The time between two looks at a file that is followed.
const PAUSE: Duration = Duration::from_millis(200);

/// The maximum length of the part of a file that is searched for its last lines, in bytes.
const TAIL_MAX: u64 = 4 << 20;

/// `hax service logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: String,
    /// How many of the last lines are shown.
    #[arg(long, short = 'n', value_name = "N", default_value = "20")]
    pub lines: usize,
    /// Go on with what is written from now on.
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// The folder where this node's keeper writes output (--log-dir of hax keeper).
    #[arg(
        long,
        env = "HAX_KEEPER_LOG_DIR",
        value_name = "DIR",
        default_value = "/var/log/hax/services"
    )]
    pub log_dir: PathBuf,
}

/// Where the output of a type is.
pub(super) enum Place {
    File(PathBuf),
    /// In the journal, by these arguments of journalctl(1).
    Journal([String; 2]),
}

/// Returns where the output of the type is.
pub(super) async fn place<P: Platform>(hax: &Hax, args: &LogsArgs) -> anyhow::Result<Place> {
    let kind = hax.get::<P>(&format!("/v1/types/{}", args.kind)).await?;
    let record = &kind["type"];
    let name = record["holds"].as_str().unwrap_or(&args.kind);
    match (record["runner"].as_str(), record["unit"].as_str(), record["output"].as_str()) {
        (_, Some(unit), _) => {
            let status = hax.get::<P>("/status/services").await?;
            let node = status["node"].as_str().unwrap_or_default();
            let unit = unit.replace("{node}", node).replace("{type}", &args.kind);
            if unit.contains('{') {
                bail!(
                    "the unit {unit} depends on a parameter: journalctl -u UNIT shows its output"
                );
            }
            Ok(Place::Journal(["-u".into(), unit]))
        }
        (Some("builtin"), ..) => bail!("{} is part of hax: see hax's own log", args.kind),
        (Some("ocf"), ..) => {
            bail!("what runs {} is the agent's: its log is where the agent writes it", args.kind)
        }
        (_, _, Some("null")) => bail!("{} discards its output (output = \"null\")", args.kind),
        (_, _, Some("journal")) => Ok(Place::Journal(["-t".into(), name.into()])),
        _ => Ok(Place::File(args.log_dir.join(format!("{name}.log")))),
    }
}

/// Prints the output.
pub(super) fn print(args: &LogsArgs, place: Place) -> Result<Exit, CommandError> {
    match place {
        Place::File(path) => tail(&path, args).map_err(CommandError::from),
        Place::Journal(of) => {
            let mut command = Command::new("journalctl");
            command.args(of).arg("-n").arg(args.lines.to_string());
            if args.follow {
                command.arg("-f");
            }
            // It returns only if journalctl could not be run.
            Err(anyhow::Error::from(command.exec()).context("journalctl").into())
        }
    }
}

fn tail(path: &Path, args: &LogsArgs) -> anyhow::Result<Exit> {
    let open = || {
        File::open(path).with_context(|| {
            format!(
                "{}: has the instance run on this node, and is this the keeper's --log-dir?",
                path.display()
            )
        })
    };
    let mut file = open()?;
    let mut out = Output::new();
    out.write_all(&last_lines(&mut file, args.lines)?)?;
    if !args.follow {
        return Ok(Exit::Clean);
    }
    loop {
        thread::park_timeout(PAUSE);
        let mut more = Vec::new();
        file.read_to_end(&mut more)?;
        out.write_all(&more)?;
        // A rotated file has another inode, and its rest was read.
        if std::fs::metadata(path)
            .is_ok_and(|of| file.metadata().is_ok_and(|is| is.ino() != of.ino()))
        {
            file = open()?;
        }
    }
}

/// Reads the last lines of a file up to its end.
fn last_lines(file: &mut File, lines: usize) -> anyhow::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    // The last line ends with the first newline from the end.
    let mut ends = ends.map(|(at, _)| at).filter(|at| at + 1 < bytes.len());
    let start = if lines == 0 { bytes.len() } else { ends.nth(lines - 1).map_or(0, |at| at + 1) };
    Ok(bytes.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown() {
        let path = std::env::temp_dir().join(format!("hax-tail-{}", std::process::id()));
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\n", 5, "a\n"),
            ("", 5, ""),
            ("a\nb\n", 0, ""),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut file = File::open(&path).unwrap();
            let last = last_lines(&mut file, lines).unwrap();
            assert_eq!(String::from_utf8(last).unwrap(), expected, "{text:?} {lines}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
