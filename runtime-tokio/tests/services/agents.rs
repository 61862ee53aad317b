//! Debian's agents of resources, unchanged, each through start, monitor, fail, recover and stop.
//!
//! `portblock` is not among them: with Debian 12's iptables, which shows protocols as numbers, it does not find its own
//! rule.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::common::program::holds;

/// One agent and a resource of it. `{dir}` is the folder of the test.
struct Agent {
    name: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    /// A shell command that makes the resource fail.
    fail: &'static str,
    /// A shell command that succeeds while the resource is there.
    there: &'static str,
}

const AGENTS: &[Agent] = &[
    Agent {
        name: "heartbeat:Dummy",
        parameters: &[("state", "{dir}/dummy")],
        fail: "rm {dir}/dummy",
        there: "test -e {dir}/dummy",
    },
    Agent {
        name: "pacemaker:Dummy",
        parameters: &[("state", "{dir}/pcmk-dummy")],
        fail: "rm {dir}/pcmk-dummy",
        there: "test -e {dir}/pcmk-dummy",
    },
    Agent {
        name: "pacemaker:Stateful",
        parameters: &[("state", "{dir}/stateful")],
        fail: "rm {dir}/stateful",
        there: "test -e {dir}/stateful",
    },
    Agent {
        name: "heartbeat:symlink",
        parameters: &[
            ("link", "{dir}/link"),
            ("target", "{dir}/target"),
            ("backup_suffix", ".bak"),
        ],
        fail: "rm {dir}/link",
        there: "test -L {dir}/link",
    },
    Agent {
        name: "heartbeat:Filesystem",
        parameters: &[("device", "tmpfs"), ("directory", "{dir}/mount"), ("fstype", "tmpfs")],
        fail: "umount {dir}/mount",
        there: "mountpoint -q {dir}/mount",
    },
    Agent {
        name: "heartbeat:IPaddr2",
        parameters: &[("ip", "127.0.77.1"), ("nic", "lo"), ("cidr_netmask", "32")],
        fail: "ip addr del 127.0.77.1/32 dev lo",
        there: "ip addr show dev lo | grep -q 127.0.77.1/32",
    },
    Agent {
        name: "heartbeat:Route",
        parameters: &[("destination", "127.0.78.0/24"), ("device", "lo"), ("family", "ip4")],
        fail: "ip route del 127.0.78.0/24 dev lo",
        there: "ip route show | grep -q 127.0.78.0/24",
    },
    Agent {
        name: "heartbeat:anything",
        parameters: &[
            ("binfile", "/bin/sleep"),
            ("cmdline_options", "86399"),
            ("pidfile", "{dir}/anything.pid"),
        ],
        fail: "kill -9 $(cat {dir}/anything.pid)",
        there: "kill -0 $(cat {dir}/anything.pid)",
    },
    Agent {
        name: "heartbeat:nginx",
        parameters: &[("configfile", "{dir}/nginx.conf")],
        fail: "kill $(cat {dir}/nginx.pid)",
        there: "kill -0 $(cat {dir}/nginx.pid)",
    },
    Agent {
        name: "heartbeat:azure-lb",
        parameters: &[("port", "61917"), ("nc", "/usr/bin/nc")],
        fail: "pkill -9 -f '[n]c.* 61917'",
        there: "pgrep -f '[n]c.* 61917'",
    },
];

/// Returns whether the agents are there, and may do their work. If not, it says why; in CI it panics.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn are_usable() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "the agents need root"
    } else if !Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy").exists() {
        "install resource-agents, pacemaker-resource-agents, nginx, iputils-arping, netcat-openbsd and kmod"
    } else {
        return true;
    };
    assert!(env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    false
}

fn run(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).output().unwrap().status.success()
}

/// Returns the name of the type for an agent. Agents keep some state of it for the whole machine.
fn kind(agent: &Agent) -> String {
    format!("{}-{}", agent.name.replace(':', "-").to_lowercase(), std::process::id())
}

fn shown(node: &Node, kind: &str) -> Value {
    node.instances(kind).remove("n1").unwrap()
}

fn define(node: &Node, agent: &Agent, dir: &str, more: &str) {
    let mut text = format!(
        "type = \"{}\"\nrunner = \"ocf\"\nagent = \"{}\"\nmonitor = {{ every = \"200ms\", timeout = \"20s\" }}\n{more}\n[parameters]\n",
        kind(agent),
        agent.name
    );
    for (name, value) in agent.parameters {
        let value = value.replace("{dir}", dir);
        text += &format!("{name} = {{ kind = \"string\", default = \"{value}\" }}\n");
    }
    node.define(&kind(agent), &text);
}

/// Takes an agent through its life.
fn live(node: &Node, agent: &Agent, dir: &str) {
    let kind = kind(agent);
    let of = |script: &str| script.replace("{dir}", dir);
    define(node, agent, dir, "");
    node.done(&["start", &kind]);
    assert!(holds(|| run(&of(agent.there))), "{kind} is there: {}", shown(node, &kind));
    node.done(&["send", &kind, "check"]);
    assert!(run(&of(agent.fail)), "{kind}: {}", agent.fail);
    let is_back = || {
        let one = shown(node, &kind);
        one["state"] == "running" && one["wanted"]["serial"].as_u64() == Some(2)
    };
    assert!(holds(is_back), "{kind} is back: {}", shown(node, &kind));
    assert!(holds(|| run(&of(agent.there))), "{kind} is there again");
    node.done(&["stop", &kind]);
    assert!(!run(&of(agent.there)), "{kind} is gone");
    assert_eq!(shown(node, &kind)["state"], "absent");
}

#[test]
fn h33_debian_s_agents_are_started_watched_recovered_and_stopped() {
    if !are_usable() {
        return;
    }
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let dir = node.dir.to_str().unwrap();
    fs::create_dir(node.dir.join("mount")).unwrap();
    fs::write(node.dir.join("target"), "").unwrap();
    let conf = format!(
        "pid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\nevents {{}}\nhttp {{\n    access_log off;\n    server {{ listen 127.0.0.1:61918; location / {{ return 200; }} }}\n}}\n"
    );
    fs::write(node.dir.join("nginx.conf"), conf).unwrap();
    std::thread::scope(|scope| {
        for agent in AGENTS {
            scope.spawn(move || live(node, agent, dir));
        }
    });
}

#[test]
fn h23_an_agent_that_takes_too_long_or_is_wrong_says_why() {
    if !are_usable() {
        return;
    }
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let dir = node.dir.to_str().unwrap();
    let slow = Agent {
        name: "heartbeat:Delay",
        parameters: &[("startdelay", "30"), ("stopdelay", "0"), ("mondelay", "0")],
        fail: "",
        there: "",
    };
    define(node, &slow, dir, "start_timeout = \"1s\"");
    let out = node.service(&["start", &kind(&slow), "--wait", "20s"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let why = node.done(&["why", &kind(&slow)]);
    assert!(why.contains("no result in time"), "{why}");
    // A wrong parameter is not tried again and again.
    let wrong = Agent {
        name: "heartbeat:symlink",
        parameters: &[("link", "{dir}/link")],
        fail: "",
        there: "",
    };
    define(node, &wrong, dir, "");
    assert_eq!(node.service(&["start", &kind(&wrong)]).status.code(), Some(1));
    let one = shown(node, &kind(&wrong));
    assert_eq!(
        (&one["state"], &one["reason"]["class"]),
        (&"failed".into(), &"config".into()),
        "{one}"
    );
    assert!(holds(|| shown(node, &kind(&wrong))["wanted"]["want"] == "resting"));
}
