//! A real Consul with three nodes on libfabric, and a hax on the first.

use hax_core::base::fid::Fid;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available};
use motr_fake::{SOCKET, Script, Sent, Stage, library};
use serde_json::Value;

use crate::daemon::{Place, until};
use crate::program::{Program, command};

pub(crate) fn key(fid: Fid) -> motr_fake::Fid {
    (fid.container, fid.key)
}

pub(crate) struct Fixture {
    pub(crate) consul: RealConsul,
    pub(crate) place: Place,
    pub(crate) stage: Stage,
}

impl Fixture {
    /// Returns `None` and prints the reason if there is no Consul.
    pub(crate) fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let consul = RealConsul::start(Options::new("ssu1")).unwrap();
        let shape = Shape::like_hare(3).with_endpoints(Endpoints::Libfabric);
        consul.load_cluster(&Cluster::generate(&shape)).unwrap();
        Some(Self { consul, place: Place::new(), stage: Stage::new().unwrap() })
    }

    /// Returns the program with a command and all addresses. It finds its endpoint in Consul.
    pub(crate) fn program(&self, name: &str, more: &[&str]) -> std::process::Command {
        let (consul, http) = (format!("http://{}", self.consul.http_addr), self.place.http());
        let (library, http) = (library(), http.to_string());
        let mut args = vec![name, "--consul", &consul, "--node", "ssu1", "--http", &http];
        args.extend(["--libmotr", library.to_str().unwrap()]);
        args.extend(more);
        let mut program = command(&args);
        program.env(SOCKET, self.stage.socket());
        program
    }

    /// Starts a hax and waits until it is ready. Returns it with its processes.
    pub(crate) fn start(&self, more: &[&str]) -> (Program, Motr) {
        let more = [&["--no-elect"], more].concat();
        let hax = Program::start(self.program("run", &more));
        let mut script = self.stage.script();
        let (fids, endpoint) = script.started();
        let services = [Fid::service(0), Fid::service(1)].map(key);
        assert_eq!(fids, [key(Fid::process(0)), services[0], services[1]]);
        assert_eq!(endpoint, "inet:tcp:127.0.1.1@22001");
        self.place.ready();
        (hax, Motr { script })
    }

    /// Waits until an event is being processed that Consul does not hold yet.
    pub(crate) fn is_working(&self) {
        until("it is worked", || {
            let status = self.place.ask("GET", "/status", b"").body;
            let status: Value = serde_json::from_slice(&status).unwrap();
            !status["lanes"].as_array().unwrap().is_empty()
        });
    }

    /// Returns the state in `processes/<fid>`, without its prefix.
    pub(crate) fn state(&self, process: Fid) -> String {
        let target = format!("/v1/kv/processes/{process}?raw");
        let value = self.consul.request("GET", &target, b"").unwrap().body;
        let value: Value = serde_json::from_slice(&value).unwrap();
        value["state"].as_str().unwrap().trim_start_matches("M0_CONF_HA_PROCESS_").to_owned()
    }
}

/// The processes, played by the fake library.
pub(crate) struct Motr {
    pub(crate) script: Script,
}

impl Motr {
    pub(crate) fn prompt(&mut self, prompt: bool) {
        self.script.prompt(prompt);
    }

    /// Starts a new life of a process, which gets the entrypoint from Consul and its link.
    pub(crate) fn linked(&mut self, process: Fid, pid: u64) -> u64 {
        self.entrypoint(process, pid, true)
    }

    /// Sends another request of a running process.
    pub(crate) fn linked_again(&mut self, process: Fid, pid: u64) -> u64 {
        self.entrypoint(process, pid, false)
    }

    fn entrypoint(&mut self, process: Fid, pid: u64, first: bool) -> u64 {
        let mut request = self.script.ask(key(process), pid, first);
        let mut reply = self.script.reply(request);
        while reply.rc == -11 {
            request = self.script.ask(key(process), pid, false);
            reply = self.script.reply(request);
        }
        assert_eq!(reply.rc, 0, "{reply:?}");
        reply.confds.sort();
        let confd = |(n, ip): (u64, &str)| (key(Fid::process(n)), format!("inet:tcp:{ip}@22002"));
        let confds = [(1, "127.0.1.1"), (6, "127.0.1.2"), (11, "127.0.1.3")].map(confd);
        assert_eq!((reply.quorum, reply.confds), (2, confds.into()));
        assert_eq!(reply.rm, key(Fid::service(2)));
        assert_eq!(reply.rm_endpoint, "inet:tcp:127.0.1.1@22002");
        self.script.link(key(process), pid)
    }

    /// Waits until a process gets this state of an object.
    pub(crate) fn is_told(&mut self, link: u64, object: Fid, state: u32) {
        loop {
            if let Sent::States { notes, .. } = self.script.sent(link)
                && notes.contains(&(key(object), state))
            {
                return;
            }
        }
    }

    /// Waits for the response to a request for states.
    pub(crate) fn answer(&mut self, link: u64, question: u64) -> Vec<(motr_fake::Fid, u32)> {
        loop {
            if let Sent::States { id, notes } = self.script.sent(link)
                && id == question
            {
                return notes;
            }
        }
    }
}
