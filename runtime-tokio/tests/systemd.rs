//! The interface to systemd: notifications on a real datagram socket, and lines for the journal.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::certs::directory;
use common::cluster::consul;
use common::program::{Program, command, holds};
use common::run;
use hax_sim::real::port;

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 1000];
        let n = self.0.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    /// Reads until a message contains this text.
    fn hears(&self, text: &str) {
        while !self.next().contains(text) {}
    }
}

fn hax(consul: &str) -> Command {
    command(&["run", "--no-elect", "--node", "ssu1", "--consul", consul])
}

#[test]
fn the_manager_is_told_of_its_life() {
    run(async {
        let (consul, _setting) = consul().await;
        let path = directory().join("notify");
        let manager = Manager::new(&path);
        let mut with = hax(consul.base());
        with.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
        let mut hax = Program::start(with);
        manager.hears("STATUS=Looking up");
        manager.hears("READY=1");
        manager.hears("STATUS=Ready");
        // The watchdog is fed even while nothing happens.
        (0..5).for_each(|_| manager.hears("WATCHDOG=1"));
        // A paused process does not feed the watchdog. The earlier messages are read, then the socket is
        // silent.
        hax.signal("STOP");
        manager.0.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        let mut bytes = [0; 100];
        assert!(holds(|| manager.0.recv(&mut bytes).is_err()));
        hax.signal("CONT");
        manager.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        manager.hears("WATCHDOG=1");
        hax.signal("HUP");
        manager.hears("RELOADING=1");
        manager.hears("READY=1");
        hax.signal("TERM");
        manager.hears("STOPPING=1");
        assert_eq!(hax.code(), 0);
    });
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    for (args, begins) in [(&["--log", "human"][..], "<6>hax starts"), (&["--log", "json"], "<6>{")]
    {
        let path = directory().join("log");
        let log = File::create(&path).unwrap();
        let number = log.metadata().unwrap();
        let mut hax = hax(&format!("http://127.0.0.1:{}", port()));
        hax.args(args).stdout(Stdio::null()).stderr(log);
        hax.env("JOURNAL_STREAM", format!("{}:{}", number.dev(), number.ino()));
        let mut hax = hax.spawn().unwrap();
        let lines = || std::fs::read_to_string(&path).unwrap();
        let warned = || lines().lines().any(|line| line.starts_with("<4>"));
        let ended = holds(warned);
        hax.kill().unwrap();
        hax.wait().unwrap();
        assert!(ended && lines().starts_with(begins), "{}", lines());
        assert!(!lines().contains("INFO") || begins.ends_with('{'), "{}", lines());
    }
}

#[test]
fn a_variable_that_was_inherited_changes_nothing() {
    let mut hax = hax(&format!("http://127.0.0.1:{}", port()));
    hax.env("JOURNAL_STREAM", "8:1");
    let hax = Program::start(hax);
    let line = hax.says(&["hax starts"]);
    assert!(line.contains("INFO") && !line.starts_with('<'), "{line}");
}
