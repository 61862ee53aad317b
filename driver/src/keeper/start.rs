//! The start of an instance: the attributes of its processes, and what they inherit from the keeper.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hax_core::exec::Origin;
use hax_core::keeper::process::Process;
use hax_core::keeper::request::{OutputTarget, Resource, Start};
use rustix::fs::Mode;
use rustix::process::{Rlimit, geteuid};

use super::folder::Folder;
use super::group::Group;
use super::output::{self, Logs, Output};
use super::processes::{self, INSTANCE, KEEPER};
use super::users::{User, Users};
use crate::exec::Programs;
use crate::exec::child::{Before, ENVIRONMENT};

/// The common settings of all starts.
pub(super) struct Starter {
    programs: Programs,
    /// The keeper's folder.
    keeper: PathBuf,
    /// The path of journald's socket.
    pub(super) journal: PathBuf,
}

impl Starter {
    /// Permits the programs of hax's own folders and of `allowed`. A keeper that is not root runs any
    /// program, since nobody gains rights by that.
    pub(super) fn new(allowed: &[PathBuf], keeper: PathBuf, journal: PathBuf) -> Self {
        Self { programs: Programs::new(allowed.iter().cloned()), keeper, journal }
    }

    /// Starts an instance. The error is the reason as text.
    pub(super) fn start(
        &self,
        start: &Start,
        group: &Group,
        folder: &Folder,
        logs: &Logs,
    ) -> Result<(Process, Option<Output>), String> {
        let program = self.find(&start.argv)?;
        let user = user(start)?;
        let record = folder.process_file(&start.instance);
        let mut before = before(start, group, user.as_ref()).map_err(said("its limits"))?;
        before.record = Some(record.map_err(said("the keeper's folder"))?.into());
        let pipe = self.output(start, user.as_ref(), folder)?;
        // The pipe is opened for reading before the program can end: its content is lost when the last
        // process closes it.
        let output = match start.output {
            OutputTarget::File => {
                let output = Output::open(&folder.of(&start.instance), &start.name, logs);
                Some(output.map_err(said("the pipe of its output"))?)
            }
            OutputTarget::Journal | OutputTarget::Null => None,
        };
        let command = self.command(&program, &start.argv, start, user.as_ref());
        let started = spawn(command, before, pipe);
        let process = started.map_err(|why| format!("{}: {why}", program.display()))?;
        Ok((process, output))
    }

    /// Starts the stop command of an instance. `main` is the instance's main process.
    pub(super) fn stop(
        &self,
        start: &Start,
        group: &Group,
        folder: &Folder,
        main: Option<Process>,
    ) -> Result<Process, String> {
        let argv = &start.stop.command;
        let program = self.find(argv)?;
        let user = user(start)?;
        let before = before(start, group, user.as_ref()).map_err(said("its limits"))?;
        let mut command = self.command(&program, argv, start, user.as_ref());
        if let Some(main) = main {
            command.env("MAINPID", main.pid.to_string());
        }
        let pipe = match start.output {
            OutputTarget::File => output::open_pipe(&folder.of(&start.instance)).ok(),
            OutputTarget::Journal => output::journal(&self.journal, &start.name).ok(),
            OutputTarget::Null => None,
        };
        spawn(command, before, pipe).map_err(|why| format!("{}: {why}", program.display()))
    }

    /// Creates the command for a program, with the environment of its instance.
    fn command(
        &self,
        program: &Path,
        argv: &[Box<str>],
        start: &Start,
        user: Option<&User>,
    ) -> Command {
        let mut command = Command::new(program);
        let [name, arguments @ ..] = argv else { return command };
        command.arg0(&**name).args(arguments.iter().map(|word| &**word));
        command.env_clear().envs(ENVIRONMENT);
        if let Some(User { name, home, .. }) = user {
            let of_user = [("USER", name), ("LOGNAME", name), ("HOME", home)];
            command
                .envs(of_user.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))));
        }
        command.envs(start.env.iter().map(|(name, value)| (&**name, &**value)));
        let (id, capability) = (&start.instance, &start.capability);
        let named = capability.as_ref().map(|capability| format!("{id}:{capability}"));
        command.env(INSTANCE, named.unwrap_or_else(|| id.to_string()));
        command.env(KEEPER, &self.keeper);
        if let Some(socket) = &start.socket {
            command.env("HAX_SOCKET", &**socket);
        }
        if let Some(counted) = start.counted {
            command.env("HAX_FENCE", counted.fence.to_string());
        }
        command
    }

    fn find(&self, argv: &[Box<str>]) -> Result<PathBuf, String> {
        let name = argv.first().map_or("", |name| name);
        let origin = if geteuid().is_root() { Origin::Configured } else { Origin::Own };
        self.programs.find(origin, Path::new(name)).map_err(|why| why.to_string())
    }

    fn output(
        &self,
        start: &Start,
        user: Option<&User>,
        folder: &Folder,
    ) -> Result<Option<OwnedFd>, String> {
        let owner = user.map(|user| &user.credentials);
        match start.output {
            OutputTarget::File => output::make_pipe(&folder.of(&start.instance), owner)
                .map(Some)
                .map_err(said("the pipe of its output")),
            OutputTarget::Journal => {
                output::journal(&self.journal, &start.name).map(Some).map_err(said("journald"))
            }
            OutputTarget::Null => Ok(None),
        }
    }
}

fn said(what: &'static str) -> impl Fn(io::Error) -> String {
    move |why| format!("{what}: {why}")
}

/// Looks up the user of an instance, if it differs from the keeper's user.
fn user(start: &Start) -> Result<Option<User>, String> {
    let own = geteuid();
    let name = match (&start.user, &start.group) {
        (None, None) => return Ok(None),
        (Some(user), _) => user.to_string(),
        (None, Some(_)) => own.as_raw().to_string(),
    };
    let user = Users::read(Path::new("/etc")).find(&name, start.group.as_deref())?;
    if own.is_root() {
        return Ok(Some(user));
    }
    if user.credentials.uid == own && start.group.is_none() {
        return Ok(None);
    }
    Err(format!("only a keeper that root runs can run programs as user {name}"))
}

fn before(start: &Start, group: &Group, user: Option<&User>) -> io::Result<Before> {
    let mut before = Before::new();
    before.dies_with_daemon = false;
    before.leads_session = true;
    before.cgroup = group.join()?;
    before.oom_score_adj = oom_score_adj(start.oom_score_adj);
    for (resource, limit) in &start.limits {
        let limit = Rlimit { current: *limit, maximum: *limit };
        before.limits.push((resource_of(*resource), limit));
    }
    before.umask = Some(Mode::from_raw_mode(start.umask));
    before.credentials = user.map(|user| user.credentials.clone());
    before.dir = CString::new(&*start.dir)?;
    Ok(before)
}

/// Returns the bytes to write to `oom_score_adj`, if the value differs from the current one. An unneeded
/// write is avoided because only privileged processes may lower the value.
fn oom_score_adj(wanted: i16) -> Option<Vec<u8>> {
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    (own.trim().parse() != Ok(wanted)).then(|| wanted.to_string().into_bytes())
}

const fn resource_of(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as R;
    match resource {
        Resource::As => R::As,
        Resource::Core => R::Core,
        Resource::Cpu => R::Cpu,
        Resource::Data => R::Data,
        Resource::Fsize => R::Fsize,
        Resource::Memlock => R::Memlock,
        Resource::Nofile => R::Nofile,
        Resource::Nproc => R::Nproc,
        Resource::Stack => R::Stack,
    }
}

fn spawn(mut command: Command, before: Before, output: Option<OwnedFd>) -> io::Result<Process> {
    let [stdout, stderr] = match output {
        Some(output) => [output.try_clone()?.into(), output.into()],
        None => [Stdio::null(), Stdio::null()],
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    before.apply(&mut command);
    let pid = command.spawn()?.id();
    // The process exists, dead or alive, until its exit status is collected.
    let stat = processes::stat(pid).ok_or_else(|| io::Error::from(rustix::io::Errno::SRCH))?;
    Ok(stat.process)
}
