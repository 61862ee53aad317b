//! The commands of the guide run unchanged: a node of a cluster that hare has set up is switched over to hax,
//! and back.
//!
//! Small scripts replace the system's own tools. hax, Consul and the processes are real.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::certs::directory;
use common::program::{command, holds};
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available, port};

const GUIDE: &str = include_str!("../../docs/OPERATE.md");

/// Returns the shell commands under a heading of the guide.
fn commands(heading: &str) -> Vec<&'static str> {
    let (_, rest) = GUIDE.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

/// A machine in a directory, with `/etc`, `/usr/bin` and replacements for the tools that need root.
struct Machine {
    root: PathBuf,
}

/// Starts and stops the unit, as far as `ExecStart` and the environment are concerned.
const SYSTEMCTL: &str = r#"
unit="$ROOT/etc/systemd/system/hax.service"
pid="$ROOT/hax.pid"
case "$*" in
    "daemon-reload") test -f "$unit" ;;
    "enable --now hax")
        test -e "$pid" && exit 0
        start=$(sed -n 's/^ExecStart=//p' "$unit" | sed "s|/usr/bin/|$ROOT/usr/bin/|")
        config=$(sed -n 's/^Environment=HAX_CONFIG=//p' "$unit")
        HAX_CONFIG="$ROOT$config" setsid $start >>"$ROOT/log" 2>&1 &
        echo $! >"$pid" ;;
    "disable --now hax") kill -TERM "$(cat "$pid")"; mv "$pid" "$ROOT/stopped.pid" ;;
    "stop hare-hax" | "disable hare-hax" | "enable --now hare-hax") echo "$*" >>"$ROOT/hare" ;;
    *) echo "systemctl does not know: $*" >&2; exit 1 ;;
esac
"#;

/// `install` without owners, below the machine's root.
const INSTALL: &str = r#"
args=()
while [ $# -gt 0 ]; do
    case "$1" in -o | -g) shift 2 ;; *) args+=("$1"); shift ;; esac
done
exec /usr/bin/install "${args[@]}"
"#;

impl Machine {
    fn new() -> Self {
        let root = directory();
        for dir in ["bin", "usr/bin", "etc/systemd/system", "target/release", "contrib"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_hax"), root.join("target/release/hax")).unwrap();
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/hax.service");
        fs::copy(unit, root.join("contrib/hax.service")).unwrap();
        let machine = Self { root };
        for (tool, script) in [
            ("systemctl", SYSTEMCTL),
            ("install", INSTALL),
            ("useradd", "exit 0"),
            // The program is already built.
            ("cargo", "exit 0"),
            ("sudo", "shift 2; exec \"$@\""),
        ] {
            let path = machine.root.join("bin").join(tool);
            fs::write(&path, format!("#!/usr/bin/env bash\nset -u\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    /// Runs one block of the guide. Each command must succeed.
    fn run(&self, block: &str) -> Output {
        let root = self.root.to_str().unwrap();
        let here = ["/usr/bin/hax", "/etc/"];
        let block = here.iter().fold(block.to_owned(), |block, path| {
            block.replace(&format!(" {path}"), &format!(" {root}{path}"))
        });
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &block]).current_dir(root).env("ROOT", root);
        for (name, _) in std::env::vars() {
            if ["HAX_", "CONSUL_", "HARE_"].iter().any(|prefix| name.starts_with(prefix)) {
                shell.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{root}/bin:{root}/usr/bin:{path}"));
        let output = shell.output().unwrap();
        assert!(
            output.status.success(),
            "{block}{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for file in ["hax.pid", "stopped.pid"] {
            if let Ok(pid) = fs::read_to_string(self.root.join(file)) {
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).output();
            }
        }
    }
}

#[test]
fn a_node_is_switched_over_and_back_by_the_guides_own_commands() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("ssu1")).unwrap();
    let shape =
        Shape::like_hare(3).with_endpoints(Endpoints::Sock).at_one_address("127.0.0.1", port);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let machine = Machine::new();
    let hax = shape_of(&shape);

    // hax is installed: `check` succeeds before anything runs. The last line starts hax. Here the old daemon
    // still serves, so that line comes with the switch.
    let install = commands("Install")[0];
    let (install, start) = install.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(start, "systemctl enable --now hax");
    let (install, check) = install.rsplit_once('\n').unwrap();
    machine.run(install);
    let settings = format!("consul = \"http://{}\"\nnode = \"ssu1\"\n", consul.address());
    fs::write(machine.root.join("etc/hax/hax.toml"), settings).unwrap();
    let said = String::from_utf8(machine.run(check).stdout).unwrap();
    assert!(said.contains("ok    hax's entry"), "{said}");

    let blocks = commands("Beside hare: over and back");
    let (over, status) = blocks[0].trim_end().rsplit_once('\n').unwrap();
    machine.run(over);
    // `hax status` succeeds when hax is ready, a moment after systemd has started it.
    assert!(holds(|| machine.log().contains("ready")), "{}", machine.log());
    let said = String::from_utf8(machine.run(status).stdout).unwrap();
    assert!(said.contains("0x7200000000000001:0x0"), "{said}");

    // A process of the node connects to the new daemon.
    let (listen, fid) = (format!("inet:stream:127.0.0.1@{}", port()), "0x7200000000000001:0x2");
    let args = ["ham", "--connect", &hax, "--listen", &listen, "--fid", fid, "entrypoint"];
    let ham = command(&args).arg("process started").arg("wait-delivered").output().unwrap();
    let said = String::from_utf8(ham.stdout).unwrap();
    assert!(ham.status.success() && said.contains("\"control\":\"consume\""), "{said}");

    machine.run(blocks[1]);
    assert!(holds(|| machine.log().contains("stopped")), "{}", machine.log());
    let hare = fs::read_to_string(machine.root.join("hare")).unwrap();
    assert_eq!(hare, "stop hare-hax\ndisable hare-hax\nenable --now hare-hax\n");
}

/// Returns the Motr endpoint of the first node's hax.
fn shape_of(shape: &Shape) -> String {
    let node = &shape.nodes[0];
    format!("inet:stream:{}@{}", node.ip, node.hax)
}
