//! The network of a siege.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

/// The variable that tells the test that it runs in its namespace.
const INSIDE: &str = "HAX_SIEGE_INSIDE";
/// The attackers' addresses, from the ranges for documentation (RFC 5737).
const STRANGERS: [[u8; 4]; 4] =
    [[198, 51, 100, 7], [198, 51, 100, 8], [203, 0, 113, 7], [192, 0, 2, 7]];

/// Runs a test in a network namespace where attackers have addresses of their own, if possible.
pub(crate) fn apart(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let add = |ip: [u8; 4]| format!("ip addr add {}/32 dev lo && ", IpAddr::from(ip));
    let adds: String = STRANGERS.into_iter().map(add).collect();
    let setup = format!("ip link set lo up && {adds} ulimit -n $(ulimit -Hn)");
    let flags = ["-n", "-rn"].into_iter().find(|flags| {
        let tried = Command::new("unshare").args([flags, "sh", "-c", &setup]).output();
        tried.is_ok_and(|tried| tried.status.success())
    });
    let Some(flags) = flags else {
        let _ = writeln!(std::io::stderr(), "no namespace: strangers have loopback addresses");
        return test();
    };
    let exe = std::env::current_exe().unwrap();
    let inner = format!("{setup} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", &inner, "sh"]).arg(exe);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success(), "{name}, in a namespace of its own");
}

/// Returns the attackers' addresses that exist here.
pub(crate) fn strangers() -> Vec<IpAddr> {
    let is_here = |ip: &IpAddr| TcpListener::bind(SocketAddr::new(*ip, 0)).is_ok();
    let all: Vec<_> = STRANGERS.map(IpAddr::from).into_iter().filter(is_here).collect();
    if all.is_empty() { vec![IpAddr::from([127, 66, 6, 6])] } else { all }
}
