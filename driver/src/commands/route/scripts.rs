//! The seven scripts. Each script is this program under another name.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hax_core::route::request::{Answer, Request, exit};
use hax_core::route::scripts::{Action, Script, named};
use rustix::event::{Timespec, poll};

use crate::commands::output::Output;
use crate::exit::{CommandError, Exit};
use crate::fifo::{self, AskError, Folder};
use crate::host::clock::Clock;

/// The time limit for a request without an event, to which the server replies at once.
const SOON: Duration = Duration::from_secs(5);

/// The time limit for an event: an update of a cloud's route table may take minutes, and several events may
/// wait.
const EVENT: Duration = Duration::from_secs(600);

/// The time limit for the start of a server.
const START: Duration = Duration::from_secs(10);

/// The interval between two checks of the server's start.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The systemd unit of the server.
const UNIT: &str = "hax-route.service";

/// Runs a script, if this program was called by the name of one.
pub(in crate::commands) fn script(args: &[OsString]) -> Option<ExitCode> {
    let (program, args) = args.split_first()?;
    let script = named(program.to_str()?)?;
    let words = args.iter().map(|arg| arg.to_str().map(str::to_owned));
    let action = match words.collect::<Option<Vec<_>>>() {
        Some(words) => script.parse(&words),
        None => Err("an argument is no text".into()),
    };
    let answer = match action {
        Ok(Action::Help(text)) => Answer::ok(text.trim_end()),
        Ok(Action::Ask(request)) => ask(&request),
        Ok(Action::Start) => start(),
        Err(why) => {
            let name = script.name();
            Answer::failed(exit::USAGE, format!("{why} (see {name} -h)"))
        }
    };
    Some(tell(script, &answer))
}

fn tell(script: Script, answer: &Answer) -> ExitCode {
    let text = &answer.text;
    if answer.exit == exit::OK {
        let told = if text.is_empty() { Ok(()) } else { writeln!(Output::new(), "{text}") };
        if let Err(why) = told {
            return tell(script, &Answer::failed(exit::SERVER, why.to_string()));
        }
    } else {
        // There is no other place to report a failure of this write.
        let _ = writeln!(io::stderr(), "{}: {text}", script.name());
    }
    answer.exit.into()
}

/// Sends a request to the server and returns its reply.
fn ask(request: &Request) -> Answer {
    let within = if matches!(request, Request::NodeEvent { .. }) { EVENT } else { SOON };
    let asked = fifo::ask(&super::dir(), request.encode().as_bytes(), within);
    match asked {
        Ok(answer) => serde_json::from_slice(&answer).unwrap_or_else(|why| {
            Answer::failed(request.failure(), format!("the server's answer is none: {why}"))
        }),
        Err(why) => {
            let code = match why {
                AskError::NobodyServes(_) | AskError::System(..) => exit::SERVER,
                AskError::TooLong => exit::USAGE,
                AskError::Ended | AskError::TimedOut => request.failure(),
            };
            Answer::failed(code, why.to_string())
        }
    }
}

// ---- ha_api -c start ----------------------------------------------------------------------------------

/// Starts a server unless one replies already. If the unit exists, systemd starts it; otherwise it is started
/// as a process of its own.
fn start() -> Answer {
    if serves() {
        return Answer::ok("the server answers already");
    }
    match start_server() {
        Ok(how) => Answer::ok(format!("the server answers; it was started {how}")),
        Err(why) => Answer::failed(exit::SERVER, format!("the server does not start: {why:#}")),
    }
}

fn serves() -> bool {
    ask(&Request::Ping).exit == exit::OK
}

fn start_server() -> anyhow::Result<&'static str> {
    let systemctl = |verb: &str| {
        let mut command = Command::new("systemctl");
        command.args([verb, UNIT]).stdout(Stdio::null());
        command
    };
    let has_unit = Path::new("/run/systemd/system").is_dir()
        && systemctl("cat").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if has_unit {
        if !systemctl("start").status().context("systemctl")?.success() {
            bail!("systemctl start {UNIT} failed");
        }
        wait(|| Ok(None))?;
        return Ok("by systemd");
    }
    let mut child = spawn()?;
    wait(|| child.try_wait().map(|ended| ended.map(|status| status.to_string())))?;
    Ok("beside this script")
}

/// Starts a server as a process of its own, which outlives this script. Its standard error goes to a file in
/// its folder, and the file of the last server is kept.
fn spawn() -> anyhow::Result<Child> {
    let dir = super::dir();
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = Command::new(program);
    command.args(["route", "serve", "--dir"]).arg(&dir);
    let log = dir.join("log");
    Folder::make(&dir).with_context(|| dir.display().to_string())?;
    // The rename fails if there is no file yet. A server that has ended does not write to the old file any
    // more.
    let _ = fs::rename(&log, dir.join("log.old"));
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    let said = options.open(&log).with_context(|| log.display().to_string())?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).process_group(0);
    command.spawn().context("this program")
}

/// Waits until the server replies. Fails if `ended` returns the server's exit status.
fn wait(mut ended: impl FnMut() -> io::Result<Option<String>>) -> anyhow::Result<()> {
    let clock = Clock::new();
    let until = clock.now().mono.after(START);
    while !serves() {
        if let Some(status) = ended()? {
            bail!("it ended with {status}; see {}", super::dir().join("log").display());
        }
        if clock.now().mono >= until {
            bail!("it does not answer within {START:?}");
        }
        let pause = Timespec::try_from(LOOK_EVERY).context("a pause")?;
        // The call has no descriptors; it only sleeps.
        let _ = poll(&mut [], Some(&pause));
    }
    Ok(())
}

// ---- hax route install-scripts ------------------------------------------------------------------------

/// Creates the scripts in a folder, as links to this program.
pub(super) fn install(folder: &Path) -> Result<Exit, CommandError> {
    let program = std::env::current_exe().context("the path of this program")?;
    for script in Script::ALL {
        let path = folder.join(script.name());
        link(&program, &path).with_context(|| path.display().to_string())?;
        writeln!(Output::new(), "{}", path.display()).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Clean)
}

/// Creates a link, and replaces an existing one.
fn link(program: &Path, path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_symlink() => bail!("something else has this name; remove it"),
        Ok(_) => fs::remove_file(path)?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why.into()),
    }
    symlink(program, path)?;
    Ok(())
}
