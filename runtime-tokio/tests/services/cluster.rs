//! A few nodes: each has an agent of Consul, a keeper, and hax with services.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hax_sim::real::{Options, RealConsul, available, port};
use serde_json::Value;

use crate::common::certs::directory;
use crate::common::program::{Program, command, holds};

/// The directory of the programs of the tests' types. Every machine has it.
pub(crate) const PROGRAMS: &str = "/bin";

/// One node. All its programs are killed when it is dropped.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) http: String,
    consul: String,
    args: Vec<String>,
    pub(crate) hax: Option<Program>,
    pub(crate) keeper: Option<Program>,
}

/// The nodes and their agents.
pub(crate) struct Cluster {
    pub(crate) agents: Vec<RealConsul>,
    pub(crate) nodes: Vec<Node>,
}

/// Returns what a command has printed, on both outputs.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

impl Node {
    pub(crate) fn new(name: &str, consul: &RealConsul, args: &[&str]) -> Self {
        Self {
            name: name.into(),
            dir: directory(),
            http: format!("127.0.0.1:{}", port()),
            consul: format!("http://{}", consul.http_addr),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            hax: None,
            keeper: None,
        }
    }

    /// Gives hax more arguments.
    pub(crate) fn args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Starts the keeper, and then hax.
    pub(crate) fn start(&mut self) {
        self.start_keeper();
        self.start_hax();
    }

    pub(crate) fn start_keeper(&mut self) {
        let (keeper, logs) = (self.path("keeper"), self.path("logs"));
        let mut command = command(&["keeper", "--dir", &keeper, "--log-dir", &logs]);
        command.args(["--allow-exec", PROGRAMS]);
        let keeper = Program::start(command);
        keeper.says(&["hax keeper serves"]);
        self.keeper = Some(keeper);
    }

    pub(crate) fn start_hax(&mut self) {
        let hax = self.run();
        hax.says(&["services: manages"]);
        self.hax = Some(hax);
    }

    /// Starts hax where there is no keeper, and none can be started.
    pub(crate) fn start_hax_without_keeper(&mut self) {
        // A file in the place of the keeper's folder: the keeper that hax starts ends at once.
        fs::write(self.path("keeper"), "").unwrap();
        self.hax = Some(self.run());
        let hax = self.hax.as_ref().unwrap();
        let started = hax.says(&["no keeper runs: one is started"]);
        let pid = started.split("pid=").nth(1).unwrap().split(' ').next().unwrap();
        let pid = pid.parse().unwrap();
        assert!(holds(|| !lives(pid)), "it ends");
        hax.says(&["the keeper cannot be reached"]);
        fs::remove_file(self.path("keeper")).unwrap();
    }

    fn run(&self) -> Program {
        let (keeper, socket) = (self.path("keeper"), self.path("http.sock"));
        let mut command = command(&["run", "--services", "on", "--consul", &self.consul]);
        command.args(["--node", &self.name, "--http", &self.http, "--keeper", &keeper]);
        command.args(["--http-socket", &socket, "--allow-exec", PROGRAMS]);
        command.args(["--instance-socket", &self.path("instance.sock")]);
        command.args(&self.args);
        Program::start(command)
    }

    pub(crate) fn kill_hax(&mut self) {
        drop(self.hax.take());
    }

    /// Runs `hax service` at this node.
    pub(crate) fn service(&self, args: &[&str]) -> Output {
        self.service_command(args).output().unwrap()
    }

    pub(crate) fn service_command(&self, args: &[&str]) -> Command {
        let mut command = command(&["service"]);
        command.args(args).args(["--http-socket", &self.path("http.sock")]);
        command
    }

    /// Runs `hax service` and expects its success.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let output = self.service(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes the file of a type, and defines the type.
    pub(crate) fn define(&self, name: &str, text: &str) {
        let path = self.file(name, text);
        self.done(&["define", path.to_str().unwrap()]);
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Returns the instances by node.
    pub(crate) fn instances(&self, kind: &str) -> BTreeMap<String, Value> {
        let all = self.done(&["list", kind, "--json"]);
        let all: Vec<Value> = serde_json::from_str(&all).unwrap();
        all.into_iter().map(|one| (one["node"].as_str().unwrap().to_owned(), one)).collect()
    }

    /// Returns the processes of the running instances by node.
    pub(crate) fn pids(&self, kind: &str) -> BTreeMap<String, u64> {
        let running = |(node, one): (String, Value)| {
            let is_running = one["state"] == "running";
            is_running.then(|| Some((node, one["pid"].as_u64()?))).flatten()
        };
        self.instances(kind).into_iter().filter_map(running).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.hax.take());
        // The instances outlive both programs.
        let folder = self.path("keeper");
        if let Ok(list) = command(&["keeper", "list", "--json", "--dir", &folder]).output() {
            for line in String::from_utf8_lossy(&list.stdout).lines() {
                let Ok(view) = serde_json::from_str::<Value>(line) else { continue };
                let Some(instance) = view["instance"].as_str() else { continue };
                let _ = command(&["keeper", "kill", instance, "--dir", &folder]).output();
            }
        }
    }
}

impl Cluster {
    /// Starts this number of nodes, each with a server of Consul; none where no Consul is.
    pub(crate) fn start(count: usize) -> Option<Self> {
        if !available() {
            return None;
        }
        let names: Vec<String> = (1..=count).map(|nth| format!("n{nth}")).collect();
        let agents = if count == 1 {
            vec![RealConsul::start(Options::new("n1")).unwrap()]
        } else {
            RealConsul::start_servers(names.iter().map(|name| Options::new(name)).collect())
                .unwrap()
        };
        let node = |(name, agent): (&String, &RealConsul)| {
            let mut node = Node::new(name, agent, &["--motr", "none", "--node-down", "2s"]);
            node.start();
            node
        };
        let nodes: Vec<Node> = names.iter().zip(&agents).map(node).collect();
        let cluster = Self { agents, nodes };
        let coordinates =
            |node: &Node| node.done(&["status", "--json"]).contains("\"coordinates\": true");
        assert!(holds(|| cluster.nodes.iter().any(coordinates)));
        Some(cluster)
    }

    /// Returns the node with the coordinator.
    pub(crate) fn coordinator(&self) -> usize {
        let coordinates = |node: &Node| {
            node.hax.is_some() && node.done(&["status", "--json"]).contains("\"coordinates\": true")
        };
        let mut found = None;
        assert!(holds(|| {
            found = self.nodes.iter().position(coordinates);
            found.is_some()
        }));
        found.unwrap()
    }
}

/// The type of a program that does nothing.
pub(crate) const IDLE: &str = r#"
type = "idle"
command = ["/bin/sleep", "100000"]
"#;

/// Kills a process.
pub(crate) fn kill_9(pid: u64) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

/// Returns whether a process lives.
pub(crate) fn lives(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
