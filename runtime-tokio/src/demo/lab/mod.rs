//! A network in namespaces of the kernel: a client, two routers, and a server behind them. The client and the
//! server each have a real route table that leads to one of the routers.
//!
//! It needs root and `ip`. It is removed when it is dropped. What a killed program has left behind is removed
//! by the next one.

mod pings;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

pub use pings::Pings;

/// The beginning of the names of all namespaces.
const NAME: &str = "hax-lab-";

/// The folder with the names of network namespaces, as `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";

/// The parts of the network.
const PARTS: [&str; 4] = ["client", "a", "b", "server"];

/// The names of the routers' namespaces.
const ROUTERS: [&str; 2] = ["a", "b"];

/// The server's address.
pub const SERVER: [u8; 4] = [192, 0, 2, 1];

/// The client's route to the server, and the routers' addresses as its next hops.
pub const THERE: (&str, [&str; 2]) = ("192.0.2.0/24", ["10.0.0.1", "10.0.0.2"]);

/// The server's route to the client, and the routers' addresses as its next hops.
pub const BACK: (&str, [&str; 2]) = ("10.0.0.0/24", ["192.0.2.11", "192.0.2.12"]);

/// The network. See the module.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
}

impl Lab {
    /// Creates the network. Both routes lead to the first router.
    ///
    /// # Errors
    ///
    /// This program may not create namespaces, or `ip` is missing. The error says what to do.
    pub fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces need root: run this as root");
        }
        sweep();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("{NAME}{}-{n}", std::process::id()) };
        for of in PARTS {
            run(Command::new("ip").args(["netns", "add", &lab.namespace(of)]))
                .context("a network namespace, which a container may not permit")?;
            lab.ip(of, "link set lo up")?;
        }
        for (of, address) in [("client", "10.0.0.100/24"), ("server", "192.0.2.1/24")] {
            lab.ip(of, "link add lan type bridge")?;
            lab.ip(of, &format!("addr add {address} dev lan"))?;
            lab.ip(of, "link set lan up")?;
        }
        for nth in 0..ROUTERS.len() {
            lab.connect(nth)?;
        }
        for (of, (route, [hop, _])) in [("client", THERE), ("server", BACK)] {
            // The network of the client's and the server's own bridge is another one.
            lab.ip(of, &format!("route add {route} via {hop}"))?;
        }
        Ok(lab)
    }

    /// Connects a router to the client and to the server.
    fn connect(&self, nth: usize) -> anyhow::Result<()> {
        let router = ROUTERS[nth];
        let namespace = self.namespace(router);
        for (of, (_, hops), device) in [("client", THERE, "lan"), ("server", BACK, "net")] {
            let add =
                format!("link add to-{router} type veth peer name {device} netns {namespace}");
            self.ip(of, &add)?;
            self.ip(of, &format!("link set to-{router} master lan"))?;
            self.ip(of, &format!("link set to-{router} up"))?;
            self.ip(router, &format!("addr add {}/24 dev {device}", hops[nth]))?;
            self.ip(router, &format!("link set {device} up"))?;
        }
        let settings = "for f in ip_forward conf/all/rp_filter conf/lan/rp_filter conf/net/rp_filter; do \
             case $f in ip_forward) v=1;; *) v=0;; esac; echo $v > /proc/sys/net/ipv4/$f; done";
        run(Command::new("ip").args(["netns", "exec", &namespace, "sh", "-ec", settings]))?;
        Ok(())
    }

    /// Returns the name of the namespace of a part: `client`, `a`, `b` or `server`.
    #[must_use]
    pub fn namespace(&self, of: &str) -> String {
        format!("{}-{of}", self.prefix)
    }

    /// Runs `ip` in the namespace of a part. Spaces separate the words. Returns its output.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn ip(&self, of: &str, line: &str) -> anyhow::Result<String> {
        let output =
            run(Command::new("ip").args(["-n", &self.namespace(of)]).args(line.split(' ')))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes the links of a router down, or up again. It keeps its addresses.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn set_links(&self, router: usize, state: &str) -> anyhow::Result<()> {
        for of in ["client", "server"] {
            self.ip(of, &format!("link set to-{} {state}", ROUTERS[router]))?;
        }
        Ok(())
    }

    /// Returns whether both routes lead to a router.
    #[must_use]
    pub fn leads_to(&self, router: usize) -> bool {
        [("client", THERE), ("server", BACK)].into_iter().all(|(of, (route, hops))| {
            let shown = self.ip(of, &format!("route show exact {route}"));
            shown.is_ok_and(|text| text.contains(&format!("via {} ", hops[router])))
        })
    }

    /// Returns the command lines that create a router's redundancy nodes, for the routes of the client and
    /// of the server. `more` has further parameters.
    #[must_use]
    pub fn nodes(&self, router: usize, more: &str) -> [String; 2] {
        [(1, "client", THERE), (2, "server", BACK)].map(|(index, of, (route, hops))| {
            let (hop, namespace) = (hops[router], self.namespace(of));
            format!(
                "create_node -i {index} -p linux -t main -r {route} -n {hop} -ns {namespace} {more}"
            )
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        PARTS.into_iter().for_each(|of| remove(&self.namespace(of)));
    }
}

fn remove(namespace: &str) {
    // If this fails, the next program tries it again.
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

/// Removes the namespaces of programs that run no more.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let pid = name.strip_prefix(NAME).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
}

/// Runs a program. Its error has the program's own words.
fn run(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("the program {program}, of the package iproute2"))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", words.join(" "), said.trim());
    }
    Ok(output)
}
