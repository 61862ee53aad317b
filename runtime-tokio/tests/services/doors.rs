//! Who may change something: the local socket's users, and who has the token.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hax_sim::real::{Options, RealConsul, available};

use crate::cluster::{IDLE, Node, said};
use crate::common::program::{Program, command, holds};

#[test]
fn a_change_needs_the_local_socket_or_the_token() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("n1")).unwrap();
    let mut open = Node::new("n1", &consul, &["--motr", "none"]);
    open.start();
    open.define("idle", IDLE);
    let mode = fs::metadata(open.path("http.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let over = |node: &Node, args: &[&str]| {
        let mut service = command(&["service"]);
        service.args(args).args(["--http", &node.http]).output().unwrap()
    };
    let refused = over(&open, &["start", "idle"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("--http-token-file"), "{}", said(&refused));
    assert!(said(&over(&open, &["types"])).contains("idle"), "reading is free");
    let status = command(&["status", "--http", &open.http]).output().unwrap();
    assert_eq!(status.status.code(), Some(0), "{}", said(&status));
    assert!(said(&status).contains("keeper       process "), "{}", said(&status));
    open.kill_hax();

    let token = open.path("token");
    fs::write(&token, "secret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let mut locked = Node::new("n1", &consul, &["--motr", "none", "--http-token-file", &token]);
    locked.start();
    let refused = over(&locked, &["types"]);
    assert!(said(&refused).contains("demands its token"), "{}", said(&refused));
    // The node counts as down until Consul gives the lease of the hax that was killed away.
    let started = || over(&locked, &["start", "idle", "--http-token-file", &token]);
    assert!(holds(|| started().status.success()), "{}", said(&started()));
    assert!(locked.done(&["stop", "idle"]).contains("absent"), "the socket needs no token");
    // A second hax does not take the socket of the first.
    let socket = locked.path("http.sock");
    let url = format!("http://{}", consul.http_addr);
    let mut second = command(&["run", "--motr", "none", "--services", "on", "--node", "n1"]);
    second.args(["--consul", &url, "--http-socket", &socket, "--keeper", &locked.path("keeper")]);
    let mut second = Program::start(second);
    second.says(&["another program serves it", "--http-socket"]);
    assert_eq!(second.code(), 3);
}

#[test]
fn where_no_keeper_runs_hax_starts_one_that_outlives_it() {
    if !available() {
        return;
    }
    let consul = RealConsul::start(Options::new("n1")).unwrap();
    let mut node = Node::new("n1", &consul, &["--motr", "none"]);
    node.start_hax();
    let log = node.hax.as_ref().unwrap().says(&["no keeper runs: one is started"]);
    let pid = log.split("pid=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    node.hax.as_ref().unwrap().signal("TERM");
    assert_eq!(node.hax.as_mut().unwrap().code(), 0);
    let lives = || Command::new("kill").args(["-0", &pid]).status().unwrap().success();
    assert!(lives());
    node.start_hax();
    assert!(holds(|| node.service(&["status"]).status.success()));
    node.kill_hax();
    Command::new("kill").arg(&pid).status().unwrap();
    assert!(holds(|| !lives()));
}
