//! Three Consul servers, two routers with an agent each, and their two route tables.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hax_driver::host::clock::Clock;
use hax_sim::real::{Options, RealConsul, available};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::hax::HAX;
use crate::proxy::Proxy;
use crate::router::{Router, said};
use crate::writers::{Kernel, Writers};

/// The time limit of every wait on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
#[expect(clippy::disallowed_methods, reason = "a test of real programs waits in real time")]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Clock::new();
    let end = clock.now().mono.after(WITHIN);
    while !is_so() {
        assert!(clock.now().mono < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) struct Stage {
    pub(crate) routers: [Router; 2],
    pub(crate) proxies: [Proxy; 2],
    pub(crate) agents: [RealConsul; 2],
    servers: Vec<RealConsul>,
    frozen: Option<usize>,
    writers: Writers,
    kernel: Option<Kernel>,
}

impl Stage {
    pub(crate) fn new() -> Option<Self> {
        if !available() {
            return None;
        }
        let options = ["server-1", "server-2", "server-3"].map(Options::new);
        let servers = RealConsul::start_servers(options.into()).unwrap();
        let agent = |nth: usize| {
            RealConsul::start_client(&servers, &format!("agent-{nth}"), 4 + nth).unwrap()
        };
        let agents = [agent(0), agent(1)];
        let proxies = [0, 1].map(|nth| Proxy::to(agents[nth].http_addr));
        let kernel = Kernel::new();
        let routers = [0, 1].map(|nth| Router::new(&format!("rounds-{nth}")));
        let addresses = servers.iter().map(|server| server.http_addr).collect();
        let writers = Writers::new(routers[0].folder().join("begun"), addresses);
        let mut stage = Self { routers, proxies, agents, servers, frozen: None, writers, kernel };
        for (nth, mode) in [(0, "primary"), (1, "secondary")] {
            stage.serve(nth);
            let hop = format!("-n 10.0.0.{} -m {mode} -group edge", nth + 1);
            let router = &stage.routers[nth];
            router.ok(&format!("create_node -i 1 -p consul -t edge -r 192.0.2.0/24 {hop}"));
            if let Some(kernel) = &stage.kernel {
                let route = format!("-t 1000 -r 192.0.2.0/24 -ns {}", kernel.name());
                router.ok(&format!("create_node -i 2 -p linux {route} {hop}"));
            }
            until("the first one acts", || stage.leads_to(0));
        }
        stage.waits_for_routers();
        Some(stage)
    }

    // ---- routers ----------------------------------------------------------------------------------

    /// Starts a router's server. Its event handlers write down that they begin.
    pub(crate) fn serve(&mut self, nth: usize) {
        let log = self.writers.begun().to_owned();
        let router = &mut self.routers[nth];
        let program = router.folder().join("hax");
        let _ = fs::remove_file(&program);
        // A copy by another process, in case a link is not possible.
        if fs::hard_link(HAX, &program).is_err() {
            assert!(Command::new("cp").args([HAX.as_ref(), &*program]).status().unwrap().success());
        }
        let at = self.proxies[nth].address;
        // The routes move by faults only.
        let words = format!(
            "route serve --consul http://{at} --name router-{nth} --hold 1s --preempt off --sweep 5s"
        );
        let command = router.command(&program, &words);
        router.serve_by(command);
        // From now on a handler is this script: it notes the router and the term, and becomes the handler.
        let script = format!(
            "#!/bin/sh\nIFS= read -r job\nterm=${{job##*\\\"term\\\":}}\nterm=${{term%%[!0-9]*}}\n\
             echo \"{nth} ${{term:-0}}\" >> {}\nexec {HAX} event-handler <<END\n$job\nEND\n",
            log.display()
        );
        install(router.folder(), &program, &script);
    }

    pub(crate) fn end(&mut self, nth: usize, signal: Signal) {
        // What holds is told by the log of the writers, not by the exit code.
        let _ = self.routers[nth].end(signal);
    }

    pub(crate) fn signal(&self, nth: usize, signal: Signal) {
        let pid = Pid::from_raw(self.routers[nth].pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Returns the router that holds the lease according to its own status, once one of them does.
    pub(crate) fn holder(&self) -> usize {
        let mut found = None;
        until("somebody holds the lease", || {
            found = (0..2).find(|nth| {
                let group = &self.status(*nth)["groups"][0];
                group["held_in_term"].is_u64() && self.leads_to(*nth)
            });
            found.is_some()
        });
        found.unwrap()
    }

    fn status(&self, nth: usize) -> Value {
        let (_, text) = said(&mut self.routers[nth].command(HAX, "route status --json"));
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Returns whether both route tables lead to a router.
    pub(crate) fn leads_to(&self, nth: usize) -> bool {
        let hop = format!("10.0.0.{}", nth + 1);
        let kernel = self.kernel.as_ref();
        self.writers.leads_to(&hop) && kernel.is_none_or(|kernel| kernel.leads_to(&hop))
    }

    /// Waits until one router holds the lease and the other one knows it.
    pub(crate) fn waits_for_routers(&self) {
        until("both routers are well", || {
            let groups = [0, 1].map(|nth| self.status(nth)["groups"][0].clone());
            let holds = |nth: usize| groups[nth]["held_in_term"].is_u64();
            let knows = |nth: usize| groups[nth]["other"]["name"] == format!("router-{}", 1 - nth);
            holds(0) && knows(1) || holds(1) && knows(0)
        });
    }

    // ---- servers ----------------------------------------------------------------------------------

    fn leader(&self) -> usize {
        let leads = || self.servers.iter().position(RealConsul::leads_servers);
        until("the servers have a leader", || leads().is_some());
        leads().unwrap()
    }

    pub(crate) fn kill_leader(&mut self) {
        let leader = self.leader();
        self.servers[leader].kill();
        self.frozen = Some(leader);
    }

    pub(crate) fn freeze_leader(&mut self) {
        let leader = self.leader();
        self.servers[leader].pause().unwrap();
        self.frozen = Some(leader);
    }

    /// Waits until the other servers have a leader, and a router has proved its lease there.
    pub(crate) fn waits_for_servers(&self) {
        let others = self.servers.iter().enumerate().filter(|(nth, _)| self.frozen != Some(*nth));
        let others: Vec<&RealConsul> = others.map(|(_, server)| server).collect();
        let leads = || others.iter().any(|server| server.leads_servers());
        until("another server leads", leads);
        until("a router acts", || {
            (0..2).any(|nth| self.routers[nth].run("node_event -i 1 -e verify").0 == 0)
        });
    }

    pub(crate) fn heal_servers(&mut self) {
        let Some(nth) = self.frozen.take() else { return };
        if self.servers[nth].resume().is_err() {
            self.servers[nth].rejoin().unwrap();
        }
        until("all nodes are in the cluster", || self.servers.iter().all(|one| one.sees(5)));
    }

    // ---- the log of the writers -------------------------------------------------------------------

    /// Checks that no two routers have written at once so far.
    pub(crate) fn check(&self) {
        let tenures = self.writers.tenures();
        if let Some(kernel) = &self.kernel {
            kernel.check(&tenures);
        }
        self.writers.check();
    }

    pub(crate) fn summary(&self) -> String {
        let kernel = self.kernel.as_ref().map_or(0, Kernel::writes);
        format!("{}, {kernel} writes to the kernel: never two writers", self.writers.summary())
    }
}

/// Installs a script in the place of a running program.
fn install(folder: &Path, program: &Path, script: &str) {
    let (text, other) = (folder.join("text"), folder.join("other"));
    fs::write(&text, script).unwrap();
    // A copy by another process: a program that is open for writing cannot be executed.
    assert!(Command::new("cp").args([&text, &other]).status().unwrap().success());
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(other, program).unwrap();
}
