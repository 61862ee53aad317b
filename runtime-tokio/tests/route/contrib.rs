//! Tests of the files in `contrib/` for routers: the unit, and the hooks for failure detection programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hax_core::base::fact::{Level, Report as _};
use hax_core::route::fact::Fact;

use crate::hax::HAX;
use crate::router::said;

const GUIDE: &str = include_str!("../../../docs/ROUTE.md");

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name)
}

/// A directory with programs for the hooks. It is removed with the test.
struct Programs(PathBuf);

impl Programs {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hax-hook-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let programs = Self(folder);
        programs.add("node_event", r#"echo "$*" >> "${0%/*}/told""#);
        programs
    }

    fn add(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn hook(&self, name: &str) -> Command {
        let mut hook = Command::new(contrib(name));
        hook.env("PATH", format!("{}:/usr/bin:/bin", self.0.display()));
        hook
    }

    fn told(&self) -> String {
        fs::read_to_string(self.0.join("told")).unwrap_or_default()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_hooks_are_scripts() {
    for (shell, name) in [("sh", "keepalived-notify.sh"), ("bash", "frr-bfd-hook.sh")] {
        let (code, text) = said(Command::new(shell).arg("-n").arg(contrib(name)));
        assert_eq!((code, &*text), (0, ""), "{name}");
        assert!(GUIDE.contains(&format!("contrib/{name}")), "the guide names {name}");
    }
}

#[test]
fn keepalived_s_notify_tells_of_a_peer_s_failure_and_of_nothing_else() {
    let programs = Programs::new("keepalived");
    let notify = |words: &[&str]| said(programs.hook("keepalived-notify.sh").args(words)).0;
    for state in ["BACKUP", "FAULT", "STOP"] {
        assert_eq!(notify(&["INSTANCE", "VI_1", state, "100"]), 0);
    }
    assert_eq!(programs.told(), "");
    assert_eq!(notify(&[]), 2);
    assert_eq!(notify(&["INSTANCE", "VI_1", "MASTER", "100"]), 0);
    assert_eq!(programs.told(), "-i 1 -mi 1023 -e peerFail --no-wait\n");
}

#[test]
fn frr_s_hook_tells_once_that_a_session_went_down() {
    let programs = Programs::new("frr");
    // The answers to the successive queries: down before the first up, then up, down, no answer, down, up,
    // down.
    let said = "down up down none down up down";
    programs.add(
        "vtysh",
        &format!(
            r#"n=$(cat "${{0%/*}}/n" 2>/dev/null || echo 1); echo $((n + 1)) > "${{0%/*}}/n"
set -- {said}; [ "$n" -gt $# ] && exit 1
shift $((n - 1)); echo "{{\"status\":\"$1\"}}""#
        ),
    );
    let mut hook = programs.hook("frr-bfd-hook.sh");
    hook.arg("10.0.0.1").env("HAX_EVERY", "0.01").stdout(Stdio::null());
    let mut hook = hook.spawn().unwrap();
    while !fs::read_to_string(programs.0.join("n")).is_ok_and(|n| n.trim() == "10") {
        std::thread::yield_now();
    }
    hook.kill().unwrap();
    hook.wait().unwrap();
    assert_eq!(programs.told(), "-i 1 -mi 1023 -e peerFail --no-wait\n".repeat(2));
}

#[test]
fn the_unit_is_one_and_its_settings_are_the_server_s() {
    let text = fs::read_to_string(contrib("hax-route.service")).unwrap();
    for setting in ["NoNewPrivileges=yes", "ProtectSystem=strict", "Type=notify"] {
        assert!(text.contains(setting), "{setting}");
    }
    let programs = Programs::new("unit");
    let unit = programs.0.join("hax-route.service");
    fs::write(&unit, text.replace("/usr/bin/hax", HAX)).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let Ok(output) = verify.args(["verify", "--man=no"]).arg(&unit).output() else {
        println!("no systemd-analyze here");
        return;
    };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Lines about other units are not checked.
    let wrong: Vec<_> = text.lines().filter(|line| line.contains("hax-route.service")).collect();
    let of_settings = |line: &&&str| line.contains("Unknown") || line.contains("Failed to parse");
    assert_eq!(wrong.iter().filter(of_settings).count(), 0, "{wrong:#?}");
}

#[test]
fn every_fact_of_warn_and_above_has_a_row_in_the_guide() {
    for kind in Fact::KINDS.iter().filter(|kind| kind.level >= Level::Warn) {
        let level = if kind.level == Level::Warn { "warn" } else { "error" };
        let row = format!("| `{}` | {level} | ", kind.name);
        assert!(GUIDE.contains(&row), "docs/ROUTE.md lacks {row}… |");
    }
}

/// Collects the names of all tests below a directory.
fn tests_below(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn r"));
            names.extend(lines.filter_map(|rest| Some(format!("r{}", rest.split_once('(')?.0))));
        }
    }
}

#[test]
fn every_row_of_the_guide_is_a_test_of_that_name() {
    let mut names = Vec::new();
    for folder in ["core/src", "driver", "sim", "runtime-tokio/tests"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        tests_below(&root.join(folder), &mut names);
    }
    let (_, table) = GUIDE.split_once("## What holds, and which test says so").unwrap();
    for row in 1..=24 {
        let row = format!("r{row:02}");
        let is_its = |name: &&String| name.starts_with(&row) || name.contains(&format!("_{row}_"));
        assert!(names.iter().any(|name| is_its(&name)), "no test of {row}");
        assert!(table.contains(&format!("`{row}_")), "the table of the guide lacks `{row}_…`");
    }
    // Each name in the table leads to a test.
    for part in table.split('`').skip(1).step_by(2).filter(|part| part.starts_with('r')) {
        let name = part.trim_end_matches('…');
        assert!(names.iter().any(|test| test.contains(name)), "no test {part}");
    }
}
