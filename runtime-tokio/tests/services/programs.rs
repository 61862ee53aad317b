//! A real rule program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hax_sim::real::{Options, RealConsul, available};

use crate::cluster::{IDLE, Node};
use crate::common::program::holds;

#[test]
fn h45_a_program_hears_of_a_death_and_has_its_say() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("n1")).unwrap();
    let mut node = Node::new("n1", &consul, &[]);
    let rules = node.dir.join("rules");
    fs::create_dir(&rules).unwrap();
    let heard = node.path("heard");
    let script = format!(
        "#!/bin/sh\ncat >> {heard}\necho done it\necho '{{\"stop\": \"'idle'\"}}'\n[ \"$HARE_RC_EVENT_TYPE\" = instance-failed ]\n"
    );
    let (program, other) = (rules.join("instance-failed.stop"), rules.join("readme"));
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(other, "").unwrap();
    let folder = rules.to_str().unwrap();
    node.args(&["--motr", "none", "--rules", folder, "--allow-exec", folder]);
    node.start();
    node.hax.as_ref().unwrap().says(&["it is no rule program"]);
    node.define("idle", IDLE);
    node.done(&["start", "idle"]);
    let pid = node.pids("idle")["n1"].to_string();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    assert!(holds(|| node.instances("idle")["n1"]["wanted"]["want"] == "stopped"));
    assert!(node.done(&["why", "idle"]).contains("stopped by rule instance-failed.stop"));
    assert!(fs::read_to_string(&heard).unwrap().contains("signal 9"));
}
