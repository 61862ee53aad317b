//! The files in `contrib/` for other programs: the alerts, the units.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/hax.rs"]
mod hax;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hax_core::node::Node;
use hax_driver::host::clock::Clock;
use hax_driver::observe::metrics::Metrics;

const GUIDE: &str = include_str!("../../docs/OPERATE.md");
const ALERTS: &str = include_str!("../../contrib/hax-alerts.yml");

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name)
}

/// Runs a tool, if this machine has it. CI has every tool.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn tool(name: &str, args: &[&str]) -> Option<Output> {
    match Command::new(name).args(args).output() {
        Ok(output) => Some(output),
        Err(why) if std::env::var_os("CI").is_some() => {
            panic!("{name}: {why} (.ci/run installs it)")
        }
        Err(why) => {
            eprintln!("skipped: {name}: {why}");
            None
        }
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn f42_the_alerts_are_rules_and_each_fires_when_it_should() {
    let (rules, tests) = (contrib("hax-alerts.yml"), contrib("hax-alerts-test.yml"));
    for args in
        [["check", "rules", rules.to_str().unwrap()], ["test", "rules", tests.to_str().unwrap()]]
    {
        let Some(output) = tool("promtool", &args) else { return };
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }
    let tests = std::fs::read_to_string(tests).unwrap();
    for name in alerts() {
        let fires = |case: &&str| {
            case.contains(&format!("alertname: {name}\n")) && case.contains("exp_labels")
        };
        assert!(tests.split("- eval_time").any(|case| fires(&case)), "no test has {name} fire");
    }
}

fn alerts() -> Vec<&'static str> {
    let names = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

#[test]
fn f42_each_alert_says_how_bad_it_is_and_where_to_read_on() {
    for name in alerts() {
        let (_, rule) = ALERTS.split_once(&format!("- alert: {name}\n")).unwrap();
        let rule = rule.split("- alert:").next().unwrap();
        let anchor = name.to_lowercase();
        for part in ["severity: ", "summary: ", &format!("runbook: docs/OPERATE.md#{anchor}\n")] {
            assert!(rule.contains(part), "{name} lacks {part}");
        }
        assert!(GUIDE.contains(&format!("\n### {name}\n\n")), "docs/OPERATE.md lacks {name}");
    }
}

/// A series that begins with its first count has no increase, so all metrics in the rules exist from the
/// start.
#[test]
fn f42_what_the_alerts_look_at_is_in_the_first_scrape() {
    let fresh = Metrics::of::<Node>(Clock::new()).render(0);
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut seen = 0;
    for line in ALERTS.lines().filter(|line| !line.contains("summary:")) {
        for (at, _) in line.match_indices('{') {
            let name = line[..at].rsplit(|c| !is_name(c)).next().unwrap();
            if !name.starts_with("hax_") && !name.starts_with("process_") {
                continue;
            }
            let labels = line[at + 1..].split('}').next().unwrap();
            let labels = labels.split(',').filter(|label| !label.starts_with("job="));
            let labels: Vec<_> = labels.collect();
            let is_it = |sample: &str| {
                sample.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| sample.contains(label))
            };
            assert!(fresh.lines().any(is_it), "{name} with {labels:?} is not there at first");
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// Returns a unit with this build's program, verified by systemd. None without systemd.
fn verified(name: &str) -> Option<(PathBuf, String)> {
    // The unit is valid only if a program of this name exists.
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("unit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let unit = dir.join(name);
    let text = std::fs::read_to_string(contrib(name)).unwrap();
    std::fs::write(&unit, text.replace("/usr/bin/hax", hax::HAX)).unwrap();
    let output = tool("systemd-analyze", &["verify", "--man=no", unit.to_str().unwrap()])?;
    let lines = said(&output);
    // Messages about other units and about services that this machine does not have are ignored.
    let ours: Vec<_> = lines.lines().filter(|line| line.contains(name)).collect();
    let of_settings = |line: &&&str| line.contains("Unknown") || line.contains("Failed to parse");
    assert_eq!(ours.iter().filter(of_settings).count(), 0, "{ours:#?}");
    Some((unit, text))
}

/// The keeper's unit ends the keeper alone, keeps its folder over restarts, and lets it make cgroups.
#[test]
fn the_unit_of_the_keeper_ends_no_instance() {
    let Some((_, text)) = verified("hax-keeper.service") else { return };
    for setting in [
        "KillMode=process",
        "Delegate=yes",
        "RuntimeDirectory=hax/keeper",
        "RuntimeDirectoryPreserve=yes",
        "Restart=always",
        "WatchdogSignal=SIGKILL",
        "Type=notify",
    ] {
        assert!(text.lines().any(|line| line == setting), "{setting}");
    }
}

/// The unit's settings are known to systemd, and leave little that a hax taken over could do.
#[test]
fn f46_the_unit_is_one_and_gives_little_away() {
    let Some((unit, text)) = verified("hax.service") else { return };
    let unit = unit.to_str().unwrap();
    let args = ["security", "--offline=true", "--threshold=20", unit];
    let output = tool("systemd-analyze", &args).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for setting in [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
        // Links outlive hax in a folder that is not the keeper's.
        "RuntimeDirectory=hax/links hax/http hax/instance\n",
        "RuntimeDirectoryPreserve=yes\n",
    ] {
        assert!(text.contains(setting), "{setting}");
    }
}
