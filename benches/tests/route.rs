//! The program `route` in its quick form: every row is measured, or says why it is not.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_has_every_row() {
    let own = std::env::current_exe().expect("this test");
    let hax = own.ancestors().nth(2).map(|target| target.join("hax")).filter(|hax| hax.exists());
    // The tests of the whole workspace build it.
    let Some(hax) = hax else {
        println!("skipped: no hax beside this test");
        return;
    };
    let rows = run(&hax);
    for name in [
        "node_event_linux",
        "node_event_stub",
        "handover",
        "daemon_dead",
        "keepalived_hook",
        "false_failover",
        "rss_nodes",
        "smol_route_binary",
    ] {
        let row = &rows[name];
        let more = row["more"].as_str().unwrap_or_default();
        let is_told = more.starts_with("not measured: ") && more.len() > 20;
        let is_measured = row["value"].as_f64().is_some_and(|value| value > 0.0);
        // No failover is zero. What the figures are depends on the other load of the machine.
        assert!(is_told || is_measured || name == "false_failover", "{name}: {row}");
    }
}

fn run(hax: &Path) -> Value {
    let mut route = Command::new(env!("CARGO_BIN_EXE_route"));
    let output = route.args(["--quick", "--json", "--hax"]).arg(hax).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("an object")
}

#[test]
fn what_it_does_not_know_is_told_with_its_usage() {
    let mut route = Command::new(env!("CARGO_BIN_EXE_route"));
    let output = route.arg("--quack").output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--quick"), "{error}");
}
