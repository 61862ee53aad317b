//! The keeper of a test, and the requests to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hax_core::exec::Status;
use hax_core::keeper::answer::{Answer, Code, State, View};
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::process::Stat;
use hax_core::keeper::request::{Ask, Start};
use hax_driver::keeper::{Client, ClientError, SOCKET};
use serde_json::{Value, json};

use crate::common::certs::directory;
use crate::common::program::{Program, command, holds};

/// A directory of programs. Every machine has it.
const PROGRAMS: &str = "/bin";

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// A keeper. It is killed with all its instances when it is dropped.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    args: Vec<String>,
    keeper: Option<Program>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        Self::at(directory(), args)
    }

    /// Creates a keeper with a directory in memory like `/run`, if this machine has such a file system.
    pub(crate) fn in_memory(args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/dev/shm/hax-keeper-{}-{n}", std::process::id()));
        let made = fs::create_dir(&dir);
        Self::at(if made.is_ok() { dir } else { directory() }, args)
    }

    fn at(dir: PathBuf, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut world = Self { dir, args, keeper: None };
        world.start();
        world
    }

    pub(crate) fn command(&self) -> Command {
        let (dir, logs) = (self.folder(), self.dir.join("logs"));
        let mut command = command(&["keeper", "--dir", dir.to_str().unwrap()]);
        command.args(["--log-dir", logs.to_str().unwrap(), "--allow-exec", PROGRAMS]);
        command.args(&self.args);
        command
    }

    /// Starts the keeper.
    pub(crate) fn start(&mut self) {
        let keeper = Program::start(self.command());
        keeper.says(&["hax keeper serves"]);
        self.keeper = Some(keeper);
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.join("keeper")
    }

    pub(crate) fn keeper(&mut self) -> &mut Program {
        self.keeper.as_mut().expect("a keeper runs")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.keeper.as_ref().expect("a keeper runs").child.id()
    }

    /// Kills the keeper with a SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.keeper.take());
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.folder(), WITHIN).unwrap()
    }

    pub(crate) fn ask(&self, ask: Ask) -> Result<Answer, Code> {
        answered(self.client().ask(ask))
    }

    /// Starts an instance of the service of the same name.
    pub(crate) fn begin(&self, start: Start) -> View {
        let answer = self.client().ask(Ask::Start(Box::new(start)));
        let Answer::Started { instance, .. } = answer.unwrap() else { panic!("no start") };
        *instance
    }

    /// Returns the reason why a start is refused.
    pub(crate) fn refused(&self, start: Start) -> (Code, String) {
        match self.client().ask(Ask::Start(Box::new(start))) {
            Err(ClientError::Refused(error)) => (error.code, error.text),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn views(&self) -> BTreeMap<String, View> {
        let (_, views) = self.client().list().unwrap();
        views.into_iter().map(|view| (view.instance.to_string(), view)).collect()
    }

    pub(crate) fn view(&self, name: &str) -> View {
        self.views().remove(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Returns the state of an instance, once it has ended.
    pub(crate) fn ended(&self, name: &str) -> View {
        assert!(holds(|| self.view(name).state == State::Ended), "{:?}", self.view(name));
        self.view(name)
    }

    pub(crate) fn stop(&self, name: &str) {
        assert_eq!(self.ask(Ask::Stop { instance: id(name) }), Ok(Answer::Done));
    }

    /// Returns the log of a service, once it contains this part.
    pub(crate) fn log(&self, name: &str, part: &str) -> String {
        let path = self.dir.join("logs").join(format!("{name}.log"));
        let read = || fs::read_to_string(&path).unwrap_or_default();
        assert!(holds(|| read().contains(part)), "no {part:?} in {:?}", read());
        read()
    }

    /// Returns the number of the keeper's open files, and the number of its zombie children.
    pub(crate) fn leaks(&self) -> (usize, usize) {
        let pid = self.pid();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let zombies = all().filter(|stat| stat.parent == pid && stat.is_zombie).count();
        (files, zombies)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let socket = self.folder().join(SOCKET);
        let answers = Client::connect(&self.folder(), Duration::from_secs(2))
            .is_ok_and(|mut client| client.list().is_ok());
        if !answers && socket.exists() && !std::thread::panicking() {
            self.restart();
        }
        let Ok(mut client) = Client::connect(&self.folder(), WITHIN) else { return };
        let Ok((_, views)) = client.list() else { return };
        for view in &views {
            let _ = client.ask(Ask::Kill { instance: view.instance.clone() });
        }
        let is_over = |client: &mut Client| {
            client
                .list()
                .is_ok_and(|(_, views)| views.iter().all(|view| view.state == State::Ended))
        };
        holds(|| is_over(&mut client));
        if let Some(keeper) = &mut self.keeper {
            // The keeper removes its cgroup when it ends.
            keeper.signal("TERM");
            holds(|| keeper.child.try_wait().is_ok_and(|ended| ended.is_some()));
        }
        if self.dir.starts_with("/dev/shm") {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

pub(crate) fn answered(answer: Result<Answer, ClientError>) -> Result<Answer, Code> {
    answer.map_err(|why| match why {
        ClientError::Refused(error) => error.code,
        ClientError::System(..) | ClientError::Malformed(_) => panic!("{why}"),
    })
}

pub(crate) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).unwrap()
}

/// Builds the start of a program, with these additional parameters.
pub(crate) fn start(name: &str, argv: &[&str], more: &Value) -> Start {
    let mut start = json!({ "instance": name, "name": name, "argv": argv });
    for (key, value) in more.as_object().unwrap() {
        start[key] = value.clone();
    }
    serde_json::from_value(start).unwrap()
}

/// Builds the start of a shell script.
pub(crate) fn sh(name: &str, script: &str) -> Start {
    start(name, &["/bin/sh", "-c", script], &json!({}))
}

pub(crate) fn sh_with(name: &str, script: &str, more: &Value) -> Start {
    start(name, &["/bin/sh", "-c", script], more)
}

/// Returns all processes of this machine.
pub(crate) fn all() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok();
    stat.and_then(|line| Stat::parse(&line)).is_some_and(|stat| !stat.is_zombie)
}

/// Waits for a number in a file, written by a script, and returns it.
pub(crate) fn number(path: &Path) -> u32 {
    let mut found = None;
    assert!(holds(|| {
        found = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        found.is_some()
    }));
    found.unwrap()
}

pub(crate) const KILLED: Option<Status> = Some(Status::Signal(9));

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
